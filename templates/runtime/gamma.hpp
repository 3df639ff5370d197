#pragma once

#include <cmath>
#include <limits>

// The gamma function's family: lgamma, digamma, zeta, polygamma and the incomplete functions.
//
// All of it is computed in double, float arguments included. Outside the domain, and on poles, the
// results are those of jax.lax.

namespace anvil_rt {

template <class T>
inline T lgamma(T x) {
  return std::lgamma(x);
}

// a[0] + a[1] x + ...
template <class T, int N>
inline T power_series(const T (&a)[N], T x) {
  T sum = a[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = sum * x + a[i];
  return sum;
}

// Recurrence up to 10, then the asymptotic series (Abramowitz and Stegun 6.3.18); reflection for
// negative arguments (6.3.7).
template <class T>
inline T digamma(T argument) {
  double x = static_cast<double>(argument);
  double sum = 0.0;
  if (x == 0.0) return -std::numeric_limits<T>::infinity();
  if (x < 0.0) {
    const double fraction = x - std::nearbyint(x);
    if (!(std::fabs(fraction) > 0.0)) return std::numeric_limits<T>::quiet_NaN();
    sum = -3.14159265358979323846 / std::tan(3.14159265358979323846 * fraction);
    x = 1.0 - x;
  }
  for (; x < 10.0; x += 1.0) sum -= 1.0 / x;
  constexpr double bernoulli[] = {1.0 / 12,   -1.0 / 120,     1.0 / 252, -1.0 / 240,
                                  1.0 / 132, -691.0 / 32760, 1.0 / 12};
  const double z = 1.0 / (x * x);
  return static_cast<T>(sum + std::log(x) - 0.5 / x - z * power_series(bernoulli, z));
}

// Hurwitz's zeta function, the sum of (q + k)^-x over k >= 0, by Euler's and Maclaurin's formula
// as in Cephes (Moshier). NaN for x < 1, and for a power of a negative number.
template <class T>
inline T zeta(T exponent, T start) {
  const double x = static_cast<double>(exponent);
  const double q = static_cast<double>(start);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double epsilon = std::numeric_limits<double>::epsilon() / 2;
  if (x == 1.0) return std::numeric_limits<T>::infinity();
  const bool inside = x > 1.0 && x < infinity && std::fabs(q) < infinity;
  if (!inside) return std::numeric_limits<T>::quiet_NaN();
  if (q <= 0.0) {
    if (x != std::floor(x)) return std::numeric_limits<T>::quiet_NaN();
    if (q == std::floor(q)) return std::numeric_limits<T>::infinity();
  }
  double base = q;
  double power = std::pow(base, -x);
  double sum = power;
  for (int i = 0; (i < 9 || base <= 9.0) && i < 100000; ++i) {
    base += 1.0;
    power = std::pow(base, -x);
    sum += power;
    if (std::fabs(power) < epsilon * std::fabs(sum) && base > 0.0) return static_cast<T>(sum);
  }
  sum += power * base / (x - 1.0) - 0.5 * power;
  // (2 k)! / B_(2 k)
  constexpr double factors[12] = {12.0,
                                  -720.0,
                                  30240.0,
                                  -1209600.0,
                                  47900160.0,
                                  -1.8924375803183791606e9,
                                  7.47242496e10,
                                  -2.950130727918164224e12,
                                  1.1646782814350067249e14,
                                  -4.5979787224074726105e15,
                                  1.8152105401943546773e17,
                                  -7.1661652561756670113e18};
  double rising = 1.0;
  for (int i = 0; i < 12; ++i) {
    rising *= x + 2 * i;
    power /= base;
    const double term = rising * power / factors[i];
    sum += term;
    if (std::fabs(term) < epsilon * std::fabs(sum)) break;
    rising *= x + 2 * i + 1;
    power /= base;
  }
  return static_cast<T>(sum);
}

// The n-th derivative of digamma for n = 0, 1, 2, ...; NaN for other n, and on the poles where the
// two sides differ in sign.
template <class T>
inline T polygamma(T n, T x) {
  if (n == T(0)) return digamma(x);
  const double order = static_cast<double>(n);
  if (!(order > 0.0) || order != std::floor(order)) return std::numeric_limits<T>::quiet_NaN();
  const bool even = std::fmod(order, 2.0) == 0.0;
  if (even && x <= T(0) && x == std::floor(x)) return std::numeric_limits<T>::quiet_NaN();
  const double sign = even ? -1.0 : 1.0;
  return static_cast<T>(sign * std::tgamma(order + 1.0) *
                        zeta(order + 1.0, static_cast<double>(x)));
}

// log(gamma(a)) - (a - 1/2) log(a) + a - log(2 pi) / 2 for a >= 10 (Abramowitz and Stegun 6.1.41).
template <class T>
inline T stirling_correction(T a) {
  constexpr T terms[] = {1.0 / 12,   -1.0 / 360,        1.0 / 1260, -1.0 / 1680,
                         1.0 / 1188, -691.0 / 360360.0, 1.0 / 156};
  return power_series(terms, T(1) / (a * a)) / a;
}

// x^a exp(-x) / gamma(a + 1). For large a the logarithms would cancel, so that the exponent is
// written by the relative distance of x from a (Loader, "Fast and accurate computation of binomial
// probabilities", 2000).
template <class T>
inline T gamma_density(T a, T x) {
  if (a < T(10)) return std::exp(a * std::log(x) - x) / std::tgamma(a + T(1));
  const T distance = (x - a) / a;
  const T exponent = a * (std::log1p(distance) - distance) - stirling_correction(a);
  return std::exp(exponent) / std::sqrt(T(6.28318530717958647693) * a);
}

// Both regularised incomplete gamma functions, P + Q = 1. The smaller one is computed: P by its
// power series left of a, Q by Legendre's continued fraction right of it (Lentz's algorithm as in
// Press et al., "Numerical recipes", section 6.2).
template <class T>
inline void incomplete_gamma(T a, T x, T& lower, T& upper) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  constexpr T epsilon = std::numeric_limits<T>::epsilon() / 2;
  lower = upper = std::numeric_limits<T>::quiet_NaN();
  if (!(a >= T(0)) || !(x >= T(0)) || (a == x && (x == T(0) || x == infinity))) return;
  if (x == T(0) || a == infinity) {
    lower = T(0);
    upper = T(1);
  } else if (a == T(0) || x == infinity) {
    lower = T(1);
    upper = T(0);
  } else if (x < T(1) || x <= a) {
    T term = T(1);
    T sum = T(1);
    // Bounded, because for a beyond 2^53 a + 1 is a.
    for (int n = 1; n < 100000 && term > epsilon * sum; ++n) {
      term *= x / (a + static_cast<T>(n));
      sum += term;
    }
    lower = gamma_density(a, x) * sum;
    upper = T(1) - lower;
  } else {
    T b = x + T(1) - a;
    T c = infinity;
    T d = T(1) / b;
    T fraction = d;
    for (T i = T(1); i < T(100000); i += T(1)) {
      const T an = -i * (i - a);
      b += T(2);
      d = T(1) / (an * d + b);
      c = b + an / c;
      fraction *= c * d;
      if (std::fabs(c * d - T(1)) <= T(2) * epsilon) break;
    }
    upper = gamma_density(a, x) * a * fraction;
    lower = T(1) - upper;
  }
}

template <class T>
inline T igamma(T a, T x) {
  double lower, upper;
  incomplete_gamma(static_cast<double>(a), static_cast<double>(x), lower, upper);
  return static_cast<T>(lower);
}
template <class T>
inline T igammac(T a, T x) {
  double lower, upper;
  incomplete_gamma(static_cast<double>(a), static_cast<double>(x), lower, upper);
  return static_cast<T>(upper);
}

// x^a y^b / (a B(a, b)) with y = 1 - x. Where a gamma function has a large argument, Stirling's
// formula is put in, so that no large logarithms cancel: log1p takes the relative distances.
template <class T>
inline T beta_density(T a, T b, T x, T y) {
  const T sum = a + b;
  const T log_x = x < T(0.5) ? std::log(x) : std::log1p(-y);
  const T log_y = y < T(0.5) ? std::log(y) : std::log1p(-x);
  if (a < T(10) && b < T(10)) {
    const T gammas = std::tgamma(sum) / (std::tgamma(a + T(1)) * std::tgamma(b));
    return std::exp(a * log_x + b * log_y) * gammas;
  }
  if (a < T(10)) {
    const T ratio = (b - T(0.5)) * std::log1p(a / b) - a;
    const T correction = stirling_correction(sum) - stirling_correction(b);
    const T exponent = a * (log_x + std::log(sum)) + (b * log_y + ratio);
    return std::exp(exponent + correction) / std::tgamma(a + T(1));
  }
  if (b < T(10)) {
    const T ratio = (a - T(0.5)) * std::log1p(b / a) - b;
    const T correction = stirling_correction(sum) - stirling_correction(a);
    const T exponent = b * (log_y + std::log(sum)) + (a * log_x + ratio);
    return std::exp(exponent + correction) / (a * std::tgamma(b));
  }
  const T exponent = a * std::log1p((x * b - y * a) / a) + b * std::log1p((y * a - x * b) / b);
  const T correction = stirling_correction(sum) - stirling_correction(a) - stirling_correction(b);
  return std::exp(exponent + correction) * std::sqrt(b / (T(6.28318530717958647693) * a * sum));
}

// Continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's
// algorithm; it converges fast for x < (a + 1) / (a + b + 2).
template <class T>
inline T beta_fraction(T a, T b, T x) {
  constexpr T epsilon = std::numeric_limits<T>::epsilon();
  constexpr T tiny = std::numeric_limits<T>::min();
  const auto away_from_zero = [](T value) { return std::fabs(value) < tiny ? tiny : value; };
  T c = T(1);
  T d = T(1) / away_from_zero(T(1) - (a + b) * x / (a + T(1)));
  T fraction = d;
  for (T m = T(1); m < T(100000); m += T(1)) {
    const T even = m * (b - m) * x / ((a + T(2) * m - T(1)) * (a + T(2) * m));
    d = T(1) / away_from_zero(T(1) + even * d);
    c = away_from_zero(T(1) + even / c);
    fraction *= c * d;
    const T odd = -(a + m) * (a + b + m) * x / ((a + T(2) * m) * (a + T(2) * m + T(1)));
    d = T(1) / away_from_zero(T(1) + odd * d);
    c = away_from_zero(T(1) + odd / c);
    fraction *= c * d;
    if (std::fabs(c * d - T(1)) <= epsilon) break;
  }
  return fraction;
}

template <class T>
inline T regularized_incomplete_beta(T first, T second, T argument) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const double a = static_cast<double>(first);
  const double b = static_cast<double>(second);
  const double x = static_cast<double>(argument);
  const bool inside = a >= 0.0 && b >= 0.0 && x >= 0.0 && x <= 1.0;
  if (!inside || (a == b && (a == 0.0 || a == infinity))) {
    return std::numeric_limits<T>::quiet_NaN();
  }
  if (x == 0.0 || x == 1.0) return static_cast<T>(x);
  if (a == 0.0 || b == infinity) return T(1);
  if (b == 0.0 || a == infinity) return T(0);
  const double y = 1.0 - x;
  if (x < (a + 1.0) / (a + b + 2.0)) {
    return static_cast<T>(beta_density(a, b, x, y) * beta_fraction(a, b, x));
  }
  return static_cast<T>(1.0 - beta_density(b, a, y, x) * beta_fraction(b, a, y));
}

}  // namespace anvil_rt
