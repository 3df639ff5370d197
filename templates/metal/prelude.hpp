#include <metal_stdlib>

// What generated code takes from the C++ standard library, for Metal: namespace anvil_std stands
// for std. Metal has no double, so everything here is float or integer.
//
// What Metal has is taken from namespace metal::precise (1 to 6 units in the last place, 16 for
// pow). What it lacks (expm1, log1p, cbrt, hypot, erf, erfc, lgamma, tgamma, nextafter) is computed
// here in float, to a few units in the last place. Text that relies on NaN and infinity needs a
// library compiled without fast mathematics; numbers below 2^-126 may count as zero on a GPU
// whatever the options.

// An array that all threads of a threadgroup share: ANVIL_THREADGROUP float tiles[64]. (A name of
// its own, because an emulation on a host must make it static.)
#ifndef ANVIL_THREADGROUP
#define ANVIL_THREADGROUP threadgroup
#endif

namespace anvil_std {

// Metal's own types; char has a sign there, and long 64 bits.
using int8_t = char;
using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long;

template <class T>
using numeric_limits = metal::numeric_limits<T>;

// -- types ----------------------------------------------------------------------------------------

template <class T, class U>
struct is_same {
  static constexpr constant bool value = false;
};
template <class T>
struct is_same<T, T> {
  static constexpr constant bool value = true;
};
template <class T>
struct is_floating_point {
  static constexpr constant bool value = is_same<T, float>::value;
};
template <class T>
struct is_integral {
  static constexpr constant bool value = !is_same<T, float>::value;
};
template <class T>
struct is_signed {
  static constexpr constant bool value = T(-1) < T(0);
};

template <bool Condition, class Yes, class No>
struct conditional {
  using type = Yes;
};
template <class Yes, class No>
struct conditional<false, Yes, No> {
  using type = No;
};

// By width, so that any name of a type will do.
template <int Bytes>
struct integer_of_width;
template <>
struct integer_of_width<1> {
  using with_sign = int8_t;
  using without_sign = uint8_t;
};
template <>
struct integer_of_width<2> {
  using with_sign = int16_t;
  using without_sign = uint16_t;
};
template <>
struct integer_of_width<4> {
  using with_sign = int32_t;
  using without_sign = uint32_t;
};
template <>
struct integer_of_width<8> {
  using with_sign = int64_t;
  using without_sign = uint64_t;
};
template <class T>
struct make_signed {
  using type = typename integer_of_width<sizeof(T)>::with_sign;
};
template <class T>
struct make_unsigned {
  using type = typename integer_of_width<sizeof(T)>::without_sign;
};

template <class T>
inline void swap(thread T& x, thread T& y) {
  const T old = x;
  x = y;
  y = old;
}

// -- bits -----------------------------------------------------------------------------------------

// Bits set in an unsigned word of any width, and zeros above the highest of them as if the word had
// 64 bits.
template <class Bits>
inline int popcountll(Bits bits) {
  return static_cast<int>(metal::popcount(bits));
}
template <class Bits>
inline int clzll(Bits bits) {
  return static_cast<int>(metal::clz(bits)) + static_cast<int>(64 - 8 * sizeof(Bits));
}

// -- functions that Metal has ---------------------------------------------------------------------

inline float sqrt(float x) { return metal::precise::sqrt(x); }
inline float exp(float x) { return metal::precise::exp(x); }
inline float exp2(float x) { return metal::precise::exp2(x); }
inline float log(float x) { return metal::precise::log(x); }
inline float log2(float x) { return metal::precise::log2(x); }
inline float sin(float x) { return metal::precise::sin(x); }
inline float cos(float x) { return metal::precise::cos(x); }
inline float tan(float x) { return metal::precise::tan(x); }
inline float asin(float x) { return metal::precise::asin(x); }
inline float acos(float x) { return metal::precise::acos(x); }
inline float atan(float x) { return metal::precise::atan(x); }
inline float atan2(float y, float x) { return metal::precise::atan2(y, x); }
inline float sinh(float x) { return metal::precise::sinh(x); }
inline float cosh(float x) { return metal::precise::cosh(x); }
inline float tanh(float x) { return metal::precise::tanh(x); }
inline float asinh(float x) { return metal::precise::asinh(x); }
inline float acosh(float x) { return metal::precise::acosh(x); }
inline float atanh(float x) { return metal::precise::atanh(x); }
inline float pow(float x, float y) { return metal::precise::pow(x, y); }
inline float fmod(float x, float y) { return metal::precise::fmod(x, y); }
inline float fabs(float x) { return metal::fabs(x); }
inline float floor(float x) { return metal::floor(x); }
inline float ceil(float x) { return metal::ceil(x); }
inline float trunc(float x) { return metal::trunc(x); }
inline float nearbyint(float x) { return metal::rint(x); }
inline float copysign(float x, float y) { return metal::copysign(x, y); }
inline float fma(float x, float y, float z) { return metal::fma(x, y, z); }

// -- functions that Metal lacks -------------------------------------------------------------------

inline bool signbit(float x) { return (as_type<uint32_t>(x) >> 31) != 0; }

// The neighbour of x in the direction of y: neighbours have neighbouring bits.
inline float nextafter(float x, float y) {
  if (x != x || y != y) return x + y;
  if (x == y) return y;
  const uint32_t bits = as_type<uint32_t>(x);
  if (x == 0.0f) return as_type<float>((as_type<uint32_t>(y) & 0x80000000u) | 1u);
  return as_type<float>((y > x) == (x > 0.0f) ? bits + 1u : bits - 1u);
}

// exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1) with |r| <= log(2)/2, the two pieces of log(2) those of
// fdlibm's e_expf.c; exp(r) by Taylor's series (remainder below 1e-9).
inline float expm1(float x) {
  if (!(x <= 17.5f)) return exp(x);
  const float y = x < -17.5f ? -17.5f : x;
  const float n = nearbyint(y * 1.44269504f);
  const float r = fma(n, -1.42860677e-6f, fma(n, -0.693145752f, y));
  float p = fma(r, 2.48015873e-5f, 1.98412698e-4f);
  p = fma(p, r, 1.38888889e-3f);
  p = fma(p, r, 8.33333333e-3f);
  p = fma(p, r, 4.16666667e-2f);
  p = fma(p, r, 1.66666667e-1f);
  p = fma(p, r, 0.5f);
  const float e = fma(r * r, p, r);
  const float scale = as_type<float>(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
  // copysign, because the sum has lost the sign of a zero.
  return copysign(fma(scale, e, scale - 1.0f), x);
}

// After fdlibm's s_log1p.c (Sun Microsystems, 1993) with the series of FreeBSD's e_logf.c:
// 1 + x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); what 1 + x lost is added at the end.
inline float log1p(float x) {
  if (!(x > -1.0f)) {
    return x == -1.0f ? -numeric_limits<float>::infinity() : numeric_limits<float>::quiet_NaN();
  }
  if (x > numeric_limits<float>::max() || fabs(x) < 2.98023224e-8f) return x;
  const float u = 1.0f + x;
  const float lost = (x >= 1.0f ? 1.0f - (u - x) : x - (u - 1.0f)) / u;
  const uint32_t bits = as_type<uint32_t>(u) + (0x3f800000u - 0x3f3504f3u);
  const float k = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
  const float f = as_type<float>((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float s = f / (2.0f + f);
  const float z = s * s;
  const float w = z * z;
  const float even = w * fma(w, 0.24279078841f, 0.40000972152f);
  const float odd = z * fma(w, 0.28498786688f, 0.66666662693f);
  const float half_square = 0.5f * f * f;
  const float low = fma(k, 9.0580006145e-6f, lost);
  return fma(k, 0.69313812256f, f - (half_square - (s * (half_square + even + odd) + low)));
}

// From a guess by a third of the bits, two of Halley's steps and one of Newton's, whose residual is
// exact to second order. Scaled by 2^36, whose root is 2^12, away from overflow and underflow.
inline float cbrt(float x) {
  const float size = fabs(x);
  if (!(size > 0.0f) || !(size <= numeric_limits<float>::max())) return x;
  const float a = size * (size < 1.0f ? 6.8719476736e+10f : 1.4551915228e-11f);
  float y = as_type<float>(as_type<uint32_t>(a) / 3u + 0x2a5137a0u);
  for (int step = 0; step < 2; ++step) {
    const float cube = y * y * y;
    y *= (cube + 2.0f * a) / (2.0f * cube + a);
  }
  const float square = y * y;
  const float residual = fma(square, y, -a) + fma(y, y, -square) * y;
  const float root = y - residual / (3.0f * square);
  return copysign(root * (size < 1.0f ? 2.44140625e-4f : 4096.0f), x);
}

inline float hypot(float x, float y) {
  const float a = fabs(x);
  const float b = fabs(y);
  const float infinity = numeric_limits<float>::infinity();
  if (a == infinity || b == infinity) return infinity;
  const float larger = a > b ? a : b;
  const float smaller = a > b ? b : a;
  if (!(smaller > 0.0f)) return smaller == 0.0f ? larger : a + b;
  const float ratio = smaller / larger;
  return larger * sqrt(fma(ratio, ratio, 1.0f));
}

// erfc(x) for x >= 0.5 in the form of Shepherd and Laframboise (Mathematics of computation 36,
// 1981): (1 + 2 x) exp(x^2) erfc(x) as a polynomial in (x - 2) / (x + 2), here of degree 10 and
// fitted on [0.49, 10.3] (relative error 1e-8). The square of x is taken with its rounding error.
inline float erfc_tail(float x) {
  if (x > 10.3f) return 0.0f;
  const float q = (x - 2.0f) / (x + 2.0f);
  float p = fma(q, 2.3007592e-4f, -3.1835597e-4f);
  p = fma(p, q, -1.481983e-3f);
  p = fma(p, q, 1.2213725e-3f);
  p = fma(p, q, 8.731036e-3f);
  p = fma(p, q, -8.025664e-3f);
  p = fma(p, q, -5.422109e-2f);
  p = fma(p, q, 1.640507e-1f);
  p = fma(p, q, -1.6603035e-1f);
  p = fma(p, q, -9.276381e-2f);
  p = fma(p, q, 1.2769784f);
  const float square = x * x;
  const float e = exp(-square);
  return fma(-fma(x, x, -square), e, e) * (p / fma(2.0f, x, 1.0f));
}

// On [-1, 1] x + x p(x^2), p fitted to 2e-9 of the result.
inline float erf(float x) {
  const float size = fabs(x);
  if (x != x) return x;
  if (size < 1.0f) {
    const float z = x * x;
    float p = fma(z, 7.853858e-5f, -8.0101925e-4f);
    p = fma(p, z, 5.1883277e-3f);
    p = fma(p, z, -2.6853811e-2f);
    p = fma(p, z, 1.12835854e-1f);
    p = fma(p, z, -3.7612626e-1f);
    p = fma(p, z, 1.28379166e-1f);
    return fma(p, x, x);
  }
  return copysign(1.0f - erfc_tail(size), x);
}

inline float erfc(float x) {
  if (x != x) return x;
  if (x < -1.0f) return 2.0f - erfc_tail(-x);
  return x < 0.5f ? 1.0f - erf(x) : erfc_tail(x);
}

// log(gamma(2 + t)) for |t| <= 1/2: t times a fitted polynomial, relative error 2e-8.
inline float lgamma_near_two(float t) {
  float p = fma(t, 1.223636e-4f, -2.5361872e-4f);
  p = fma(p, t, 5.01517e-4f);
  p = fma(p, t, -1.1859593e-3f);
  p = fma(p, t, 2.8917326e-3f);
  p = fma(p, t, -7.3861587e-3f);
  p = fma(p, t, 2.0580735e-2f);
  p = fma(p, t, -6.735228e-2f);
  p = fma(p, t, 3.2246703e-1f);
  p = fma(p, t, 4.2278433e-1f);
  return p * t;
}

// For x > 0: by the recurrence to the interval around 2, from 8 on by Stirling's series.
inline float lgamma_positive(float x) {
  if (x < 0.5f) return lgamma_near_two(x) - log1p(x) - log(x);
  if (x < 1.5f) return lgamma_near_two(x - 1.0f) - log1p(x - 1.0f);
  if (x < 8.0f) {
    float product = 1.0f;
    while (x > 2.5f) {
      x -= 1.0f;
      product *= x;
    }
    return lgamma_near_two(x - 2.0f) + log(product);
  }
  if (x > numeric_limits<float>::max()) return x;
  const float inverse = 1.0f / x;
  const float z = inverse * inverse;
  const float series = fma(fma(z, 7.93650794e-4f, -2.77777778e-3f), z, 8.33333333e-2f);
  return fma(x - 0.5f, log(x) - 1.0f, fma(series, inverse, 0.418938533f));
}

// The logarithm of |gamma(x)|; left of 0 by reflection. Its zeros left of 0 are hit to an absolute
// error only.
inline float lgamma(float x) {
  if (x != x) return x;
  if (x > 0.0f) return lgamma_positive(x);
  const float size = -x;
  if (x == 0.0f || size > numeric_limits<float>::max()) return numeric_limits<float>::infinity();
  const float sine = fabs(sin(3.14159265f * (x - nearbyint(x))));
  if (sine == 0.0f) return numeric_limits<float>::infinity();
  return 1.14472989f - log(sine) - (log(size) + lgamma_positive(size));
}

// By the recurrence to [1.5, 2.5], where a fitted polynomial has relative error 1e-8. Each step
// rounds once: at the end of the range, 35, about 20 units in the last place.
inline float tgamma(float x) {
  if (x != x) return x;
  if (x > 36.0f) return numeric_limits<float>::infinity();
  if (x < 0.0f && x == floor(x)) return numeric_limits<float>::quiet_NaN();
  if (x < -44.0f) return 0.0f;
  float product = 1.0f;
  float divisor = 1.0f;
  while (x > 2.5f) {
    x -= 1.0f;
    product *= x;
  }
  while (x < 1.5f) {
    divisor *= x;
    x += 1.0f;
  }
  const float t = x - 2.0f;
  float p = fma(t, -1.1549729e-3f, 2.4414293e-3f);
  p = fma(p, t, -2.77673e-3f);
  p = fma(p, t, 1.1078527e-2f);
  p = fma(p, t, -2.775082e-4f);
  p = fma(p, t, 7.4255764e-2f);
  p = fma(p, t, 8.157752e-2f);
  p = fma(p, t, 4.118401e-1f);
  p = fma(p, t, 4.2278433e-1f);
  p = fma(p, t, 1.0f);
  return p * product / divisor;
}

}  // namespace anvil_std
