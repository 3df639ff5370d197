#pragma once

// Modified Bessel functions of the first kind, scaled by exp(-|x|). Shadows runtime/bessel.hpp,
// which computes in double; relative error here about 1e-6.

namespace anvil_rt {

// exp(-x) I_n(x) for x >= 0. Up to 20 the power series in x^2 / 4: all its terms are positive, so
// nothing cancels. Beyond, Hankel's asymptotic series (Abramowitz and Stegun 9.7.1).
template <class T>
inline T scaled_bessel_i(int order, T x) {
  if (x <= T(20)) {
    const T square = T(0.25f) * x * x;
    T term = order == 0 ? T(1) : T(0.5f) * x;
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
  // Two roots, because the product would overflow where x is near the end of the range.
  return sum / (std::sqrt(T(6.28318531f)) * std::sqrt(x));
}

template <class T>
inline T bessel_i0e(T x) {
  return scaled_bessel_i(0, std::fabs(x));
}
template <class T>
inline T bessel_i1e(T x) {
  return std::copysign(scaled_bessel_i(1, std::fabs(x)), x);
}

}  // namespace anvil_rt
