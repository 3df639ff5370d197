#pragma once

#include <cmath>

// Modified Bessel functions of the first kind, scaled by exp(-|x|).

namespace anvil_rt {

// exp(-x) I_n(x) for x >= 0. Up to 20 the power series in x^2 / 4: all its terms are positive, so
// nothing cancels. Beyond, Hankel's asymptotic series (Abramowitz and Stegun 9.7.1), whose least
// term is then below 1e-17.
template <class T>
inline T scaled_bessel_i(int order, T x) {
  if (x <= T(20)) {
    const T square = T(0.25) * x * x;
    T term = order == 0 ? T(1) : T(0.5) * x;
    T sum = T(0);
    for (int k = 1; k < 100 && sum + term != sum; ++k) {
      sum += term;
      term *= square / static_cast<T>(k * (k + order));
    }
    return sum * std::exp(-x);
  }
  T term = T(1);
  T sum = T(0);
  const T order_squared = static_cast<T>(4 * order * order);
  for (int k = 1; k < 40 && sum + term != sum; ++k) {
    sum += term;
    const T odd = static_cast<T>(2 * k - 1);
    term *= (odd * odd - order_squared) / (static_cast<T>(8 * k) * x);
  }
  return sum / std::sqrt(T(6.28318530717958647693) * x);
}

// Computed in double, so that a float result is correctly rounded but for ties.
template <class T>
inline T bessel_i0e(T x) {
  return static_cast<T>(scaled_bessel_i(0, std::fabs(static_cast<double>(x))));
}
template <class T>
inline T bessel_i1e(T x) {
  const double value = scaled_bessel_i(1, std::fabs(static_cast<double>(x)));
  return static_cast<T>(std::copysign(value, static_cast<double>(x)));
}

}  // namespace anvil_rt
