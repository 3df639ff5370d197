#pragma once

// The gamma function's family: lgamma, digamma, zeta, polygamma and the incomplete functions.
//
// Shadows runtime/gamma.hpp, which computes in double. In float the relative error is about 1e-6,
// and about 1e-5 where a result far from 1 comes out of an exponential; logarithms of the gamma
// function and digamma are accurate to 1e-6 of max(1, |result|). (Zeta below 1e-30 loses the terms
// that a GPU flushes to zero.) Outside the domain, and on poles, the results are those of jax.lax.

namespace anvil_rt {

template <class T>
inline T lgamma(T x) {
  return std::lgamma(x);
}

// Recurrence up to 6, then the asymptotic series (Abramowitz and Stegun 6.3.18); reflection for
// negative arguments (6.3.7).
template <class T>
inline T digamma(T x) {
  T sum = T(0);
  if (x == T(0)) return -std::numeric_limits<T>::infinity();
  if (x < T(0)) {
    const T fraction = x - std::nearbyint(x);
    if (!(std::fabs(fraction) > T(0))) return std::numeric_limits<T>::quiet_NaN();
    sum = T(-3.14159265f) / std::tan(T(3.14159265f) * fraction);
    x = T(1) - x;
  }
  T steps = T(0);
  for (; x < T(6); x += T(1)) steps += T(1) / x;
  const T z = T(1) / (x * x);
  T p = std::fma(z, T(-7.57575758e-3f), T(4.16666667e-3f));
  p = std::fma(p, z, T(-3.96825397e-3f));
  p = std::fma(p, z, T(8.33333333e-3f));
  p = std::fma(p, z, T(-8.33333333e-2f));
  return sum - steps + (std::log(x) + (p * z - T(0.5f) / x));
}

// scale^x times Hurwitz's zeta function, the sum of (q + k)^-x over k >= 0, by Euler's and
// Maclaurin's formula as in Cephes (Moshier). The caller has checked the domain.
template <class T>
inline T scaled_zeta(T x, T q, T scale) {
  const T epsilon = std::numeric_limits<T>::epsilon() / T(4);
  T base = q;
  T power = std::pow(base / scale, -x);
  T sum = power;
  for (int i = 0; (i < 7 || base <= T(7)) && i < 100000; ++i) {
    base += T(1);
    power = std::pow(base / scale, -x);
    sum += power;
    if (std::fabs(power) <= epsilon * std::fabs(sum) && base > T(0)) return sum;
  }
  sum += power * base / (x - T(1)) - T(0.5f) * power;
  // The terms B_(2 k) / (2 k)! x (x + 1) ... (x + 2 k - 2) base^(1 - x - 2 k); base is 7 or more,
  // so that few are needed.
  const T square = T(1) / (base * base);
  T term = power * x / base;
  sum += term * T(8.33333333e-2f);
  term *= (x + T(1)) * (x + T(2)) * square;
  sum += term * T(-1.38888889e-3f);
  term *= (x + T(3)) * (x + T(4)) * square;
  sum += term * T(3.30687831e-5f);
  term *= (x + T(5)) * (x + T(6)) * square;
  sum += term * T(-8.26719577e-7f);
  term *= (x + T(7)) * (x + T(8)) * square;
  sum += term * T(2.08767570e-8f);
  term *= (x + T(9)) * (x + T(10)) * square;
  return sum + term * T(-5.28419014e-10f);
}

// NaN for x < 1, and for a power of a negative number.
template <class T>
inline T zeta(T x, T q) {
  const T infinity = std::numeric_limits<T>::infinity();
  if (x == T(1)) return infinity;
  const bool inside = x > T(1) && x < infinity && std::fabs(q) < infinity;
  if (!inside) return std::numeric_limits<T>::quiet_NaN();
  if (q <= T(0)) {
    if (x != std::floor(x)) return std::numeric_limits<T>::quiet_NaN();
    if (q == std::floor(q)) return infinity;
  }
  return scaled_zeta(x, q, T(1));
}

// The n-th derivative of digamma for n = 0, 1, 2, ...; NaN for other n, and on the poles where the
// two sides differ in sign.
template <class T>
inline T polygamma(T n, T x) {
  if (n == T(0)) return digamma(x);
  if (!(n > T(0)) || n != std::floor(n)) return std::numeric_limits<T>::quiet_NaN();
  const bool even = std::fmod(n, T(2)) == T(0);
  if (even && x <= T(0) && x == std::floor(x)) return std::numeric_limits<T>::quiet_NaN();
  const T sign = even ? T(-1) : T(1);
  const T order = n + T(1);
  const T factorial = std::tgamma(order);
  const T sum = zeta(order, x);
  const T infinity = std::numeric_limits<T>::infinity();
  const bool in_range = factorial < infinity && sum > T(1e-30f);
  if (in_range || !(x > T(0)) || !(x < infinity) || !(n < infinity)) return sign * factorial * sum;
  // One factor left the range, or the terms of its sum did; the product may not.
  const T exponent = std::lgamma(order) - order * std::log(x);
  return sign * std::exp(exponent) * scaled_zeta(order, x, x);
}

// log(gamma(a)) - (a - 1/2) log(a) + a - log(2 pi) / 2 for a >= 10 (Abramowitz and Stegun 6.1.41).
template <class T>
inline T stirling_correction(T a) {
  const T z = T(1) / (a * a);
  return std::fma(std::fma(z, T(7.93650794e-4f), T(-2.77777778e-3f)), z, T(8.33333333e-2f)) / a;
}

// log(1 + x) - x without cancellation: with s = x / (2 + x), log(1 + x) is the series
// 2 (s + s^3/3 + ...), and 2 s - x is -s x.
template <class T>
inline T log1p_minus(T x) {
  if (std::fabs(x) > T(0.4f)) return std::log1p(x) - x;
  const T s = x / (T(2) + x);
  const T z = s * s;
  T p = std::fma(z, T(1.81818182e-1f), T(2.22222222e-1f));
  p = std::fma(p, z, T(2.85714286e-1f));
  p = std::fma(p, z, T(0.4f));
  p = std::fma(p, z, T(6.66666667e-1f));
  return s * (z * p - x);
}

// a log(x / a) - distance for distance = x - a: relative to a where the two are close, directly
// where 1 + distance / a would have lost x.
template <class T>
inline T log_deviation(T a, T x, T distance) {
  if (x < T(0.6f) * a) return a * std::log(x / a) - distance;
  return a * log1p_minus(distance / a);
}

// x^a exp(-x) / gamma(a + 1). For large a the logarithms would cancel, so that the exponent is
// written by the relative distance of x from a (Loader, "Fast and accurate computation of binomial
// probabilities", 2000).
template <class T>
inline T gamma_density(T a, T x) {
  if (a < T(10)) return std::exp(a * std::log(x) - x) / std::tgamma(a + T(1));
  const T exponent = log_deviation(a, x, x - a) - stirling_correction(a);
  return std::exp(exponent) / std::sqrt(T(6.28318531f) * a);
}

// Both regularised incomplete gamma functions, P + Q = 1. The smaller one is computed: P by its
// power series left of a, Q by Legendre's continued fraction right of it (Lentz's algorithm as in
// Press et al., "Numerical recipes", section 6.2).
template <class T>
inline void incomplete_gamma(T a, T x, thread T& lower, thread T& upper) {
  const T infinity = std::numeric_limits<T>::infinity();
  const T epsilon = std::numeric_limits<T>::epsilon() / T(2);
  lower = std::numeric_limits<T>::quiet_NaN();
  upper = lower;
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
    // Bounded, because for a beyond 2^24 a + 1 is a.
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
  T lower = T(0);
  T upper = T(0);
  incomplete_gamma(a, x, lower, upper);
  return lower;
}
template <class T>
inline T igammac(T a, T x) {
  T lower = T(0);
  T upper = T(0);
  incomplete_gamma(a, x, lower, upper);
  return upper;
}

// x^a y^b / (a B(a, b)) with y = 1 - x. Where a gamma function has a large argument, Stirling's
// formula is put in, so that no large logarithms cancel.
template <class T>
inline T beta_density(T a, T b, T x, T y) {
  const T sum = a + b;
  const T log_x = x < T(0.5f) ? std::log(x) : std::log1p(-y);
  const T log_y = y < T(0.5f) ? std::log(y) : std::log1p(-x);
  if (a < T(10) && b < T(10)) {
    const T gammas = std::tgamma(sum) / (std::tgamma(a + T(1)) * std::tgamma(b));
    return std::exp(a * log_x + b * log_y) * gammas;
  }
  if (a < T(10)) {
    const T ratio = b * log1p_minus(a / b) - T(0.5f) * std::log1p(a / b);
    const T correction = stirling_correction(sum) - stirling_correction(b);
    const T exponent = a * (log_x + std::log(sum)) + (b * log_y + ratio);
    return std::exp(exponent + correction) / std::tgamma(a + T(1));
  }
  if (b < T(10)) {
    const T ratio = a * log1p_minus(b / a) - T(0.5f) * std::log1p(b / a);
    const T correction = stirling_correction(sum) - stirling_correction(a);
    const T exponent = b * (log_y + std::log(sum)) + (a * log_x + ratio);
    return std::exp(exponent + correction) / (a * std::tgamma(b));
  }
  // The first orders of the two logarithms are opposite and left out.
  const T distance = std::fma(x, b, -(y * a));
  const T exponent = log_deviation(a, x * sum, distance) + log_deviation(b, y * sum, -distance);
  const T correction = stirling_correction(sum) - stirling_correction(a) - stirling_correction(b);
  return std::exp(exponent + correction) * std::sqrt(b / (T(6.28318531f) * a * sum));
}

template <class T>
inline T away_from_zero(T value) {
  const T tiny = std::numeric_limits<T>::min();
  return std::fabs(value) < tiny ? tiny : value;
}

// Continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's
// algorithm; it converges fast for x < (a + 1) / (a + b + 2).
template <class T>
inline T beta_fraction(T a, T b, T x) {
  const T epsilon = std::numeric_limits<T>::epsilon();
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
inline T regularized_incomplete_beta(T a, T b, T x) {
  const T infinity = std::numeric_limits<T>::infinity();
  const bool inside = a >= T(0) && b >= T(0) && x >= T(0) && x <= T(1);
  if (!inside || (a == b && (a == T(0) || a == infinity))) {
    return std::numeric_limits<T>::quiet_NaN();
  }
  if (x == T(0) || x == T(1)) return x;
  if (a == T(0) || b == infinity) return T(1);
  if (b == T(0) || a == infinity) return T(0);
  const T y = T(1) - x;
  if (x < (a + T(1)) / (a + b + T(2))) return beta_density(a, b, x, y) * beta_fraction(a, b, x);
  return T(1) - beta_density(b, a, y, x) * beta_fraction(b, a, y);
}

}  // namespace anvil_rt
