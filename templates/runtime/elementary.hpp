#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

// Elementary functions of one or two numbers, through the C++ standard library.
//
// These are the reference forms: right for every argument, and as accurate as the library (on a CPU
// about one unit in the last place). sincos.hpp and exponential.hpp hold the faster forms.

namespace anvil_rt {

template <class T>
inline T exp(T x) {
  return std::exp(x);
}
template <class T>
inline T exp2(T x) {
  return std::exp2(x);
}
template <class T>
inline T expm1(T x) {
  return std::expm1(x);
}
template <class T>
inline T log(T x) {
  return std::log(x);
}
template <class T>
inline T log2(T x) {
  return std::log2(x);
}
template <class T>
inline T log1p(T x) {
  return std::log1p(x);
}
template <class T>
inline T tan(T x) {
  return std::tan(x);
}
template <class T>
inline T asin(T x) {
  return std::asin(x);
}
template <class T>
inline T acos(T x) {
  return std::acos(x);
}
template <class T>
inline T atan(T x) {
  return std::atan(x);
}
template <class T>
inline T atan2(T y, T x) {
  return std::atan2(y, x);
}
template <class T>
inline T sinh(T x) {
  return std::sinh(x);
}
template <class T>
inline T cosh(T x) {
  return std::cosh(x);
}
template <class T>
inline T tanh(T x) {
  return std::tanh(x);
}
template <class T>
inline T asinh(T x) {
  return std::asinh(x);
}
template <class T>
inline T acosh(T x) {
  return std::acosh(x);
}
template <class T>
inline T atanh(T x) {
  return std::atanh(x);
}
template <class T>
inline T erf(T x) {
  return std::erf(x);
}
template <class T>
inline T erfc(T x) {
  return std::erfc(x);
}
template <class T>
inline T sqrt(T x) {
  return std::sqrt(x);
}
template <class T>
inline T rsqrt(T x) {
  return T(1) / std::sqrt(x);
}
template <class T>
inline T logistic(T x) {
  return T(1) / (T(1) + std::exp(-x));
}
template <class T>
inline T pow(T x, T y) {
  return std::pow(x, y);
}

// Remainder with the sign of x: jax.lax.rem.
template <class T>
inline T fmod(T x, T y) {
  return std::fmod(x, y);
}
template <class T>
inline T nextafter(T x, T y) {
  return std::nextafter(x, y);
}
template <class T>
inline T copysign(T x, T y) {
  return std::copysign(x, y);
}
template <class T>
inline T abs(T x) {
  return std::fabs(x);
}

template <class T>
inline T floor(T x) {
  return std::floor(x);
}
template <class T>
inline T ceil(T x) {
  return std::ceil(x);
}
template <class T>
inline T trunc(T x) {
  return std::trunc(x);
}
// Half to even, which is what the default rounding direction means.
template <class T>
inline T round_even(T x) {
  return std::nearbyint(x);
}
// Half away from zero without a call. The addend is the number just below one half: with one half
// itself, 0.49999999999999994 would be rounded up.
template <class T>
inline T round_away(T x) {
  const T below_half = T(0.5f) - std::numeric_limits<T>::epsilon() / 4;
  return std::trunc(x + std::copysign(below_half, x));
}

template <class T>
inline bool is_finite(T x) {
  return std::fabs(x) <= std::numeric_limits<T>::max();
}

// -1, 0 or 1; zeros keep their sign and NaN stays NaN.
template <class T>
inline T sign(T x) {
  return x > T(0) ? T(1) : (x < T(0) ? T(-1) : x);
}

// Whether the sign bit is set. g++ 12 vectorises this form, unlike std::signbit.
template <class T>
inline bool is_negative(T x) {
  return std::copysign(T(1), x) < T(0);
}

// IEEE 754-2019 maximum: NaN wins over everything and +0 over -0. The operands are ordered by the
// sign of x first, so that the one comparison left decides the zeros rightly in a tie.
template <class T>
inline T maximum(T x, T y) {
  if constexpr (std::is_floating_point<T>::value) {
    const bool negative = is_negative(x);
    const T low = negative ? x : y;
    const T high = negative ? y : x;
    const T larger = low > high ? low : high;
    return low != low ? low : larger;
  } else {
    return x > y ? x : y;
  }
}

template <class T>
inline T minimum(T x, T y) {
  if constexpr (std::is_floating_point<T>::value) {
    const bool negative = is_negative(x);
    const T low = negative ? x : y;
    const T high = negative ? y : x;
    const T smaller = high < low ? high : low;
    return high != high ? high : smaller;
  } else {
    return x < y ? x : y;
  }
}

}  // namespace anvil_rt
