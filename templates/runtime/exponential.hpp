#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// Exponential family without branches, so that a loop over an array is turned into vector code.
//
// Everything is computed in double, float arguments included: the result of a float function is
// then the rounded exact value but for rare ties. Selections are spelled `a > b ? b : a`, which
// keeps a NaN in `a`; a NaN makes the integer part meaningless, but it also survives in the
// polynomial that this integer scales.

namespace anvil_rt {

// x = turns * log(2) + (high + low) with |high| <= log(2) / 2. The pieces of log(2) are those of
// fdlibm's e_exp.c: the first has 32 bits, so that its product with a small integer is exact.
struct reduced_exponent {
  double high;
  double low;
  std::uint64_t turns;  // modulo 2^64
};

template <class T>
__attribute__((always_inline)) inline reduced_exponent reduce_exponent(T x) {
  // Adding 1.5 * 2^52 leaves the rounded integer in the low bits of the significand.
  const double magic = 6755399441055744.0;
  const double shifted = x * 1.44269504088896338700e+00 + magic;
  const double turns = shifted - magic;
  const double first = x - turns * 6.93147180369123816490e-01;
  const double piece = turns * 1.90821492927058770002e-10;
  reduced_exponent result{first - piece, 0.0, 0};
  result.low = (first - result.high) - piece;
  std::memcpy(&result.turns, &shifted, sizeof(shifted));
  result.turns -= 0x4338000000000000U;  // the bits of 1.5 * 2^52
  return result;
}

// 2^n for n in [-1022, 1023].
template <class Bits>
__attribute__((always_inline)) inline double power_of_two(Bits n) {
  const Bits bits = (n + 1023U) << 52;
  double result = 0.0;
  std::memcpy(&result, &bits, sizeof(bits));
  return result;
}

// exp(r) - 1 - r on [-log(2)/2, log(2)/2]: Taylor's series to degree 13 (remainder below 2e-18),
// summed in Estrin's order to keep the chain of dependent operations short.
template <class T>
__attribute__((always_inline)) inline T exp_tail(T r) {
  const T z = r * r;
  const T w = z * z;
  const T a = (0.5 + r * 1.66666666666666657415e-01) +
              z * (4.16666666666666643537e-02 + r * 8.33333333333333321769e-03);
  const T b = (1.38888888888888894189e-03 + r * 1.98412698412698412526e-04) +
              z * (2.48015873015873015658e-05 + r * 2.75573192239858925110e-06);
  const T c = (2.75573192239858906526e-07 + r * 2.50521083854417187751e-08) +
              z * (2.08767569878680989792e-09 + r * 1.60590438368216145994e-10);
  return z * (a + w * (b + w * c));
}

template <class T>
__attribute__((always_inline)) inline T fast_exp(T x) {
  // Clamped where the result has long become 0 or infinity.
  double y = x;
  y = y > 710.0 ? 710.0 : y;
  y = y < -746.0 ? -746.0 : y;
  const reduced_exponent r = reduce_exponent(y);
  // 1 + r.high with its rounding error, so that only the last sum rounds.
  const double sum = 1.0 + r.high;
  const double value = sum + (((1.0 - sum) + r.high) + (r.low + exp_tail(r.high)));
  // 2^turns in two steps, because neither 2^1024 nor 2^-1075 is a normal number. Only the second
  // product can round. The shift works on a positive number, as SSE2 and AVX2 lack the signed one.
  const std::uint64_t half = ((r.turns + 2048U) >> 1) - 1024U;
  return static_cast<T>(value * power_of_two(half) * power_of_two(r.turns - half));
}

// The sum of two numbers, the first the larger, as the rounded sum and what it lost (Dekker 1971).
struct exact_sum {
  double value;
  double lost;
};

template <class T>
__attribute__((always_inline)) inline exact_sum add_exactly(T large, T small) {
  const double value = large + small;
  return {value, small - (value - large)};
}

// exp(x) - 1 as 2^n (exp(r) - 1) + (2^n - 1) for x in [-50, 709.5].
template <class T>
__attribute__((always_inline)) inline exact_sum expm1_in_range(T x) {
  const reduced_exponent r = reduce_exponent(x);
  const double scale = power_of_two(r.turns);
  const exact_sum main = add_exactly(scale - 1.0, scale * r.high);
  return add_exactly(main.value, main.lost + scale * (r.low + exp_tail(r.high)));
}

template <class T>
__attribute__((always_inline)) inline T fast_expm1(T x) {
  double y = x;
  y = y < -50.0 ? -50.0 : y;
  // Beyond 60 the 1 is far below the last bit, and the power may exceed the range of `scale`.
  const double below = expm1_in_range(y > 60.0 ? 60.0 : y).value;
  const double value = y > 60.0 ? fast_exp(y) : below;
  // copysign, because the sum has lost the sign of a zero.
  return static_cast<T>(std::copysign(value, static_cast<double>(x)));
}

// tanh(a) = e / (e + 2) with e = exp(2 a) - 1, for a = |x|; beyond 20 it rounds to 1. The rounding
// errors of numerator and denominator are made up for to first order, 1 / (e + 2) being
// (1 - quotient) / 2; without, the error would exceed 2 units in the last place.
template <class T>
__attribute__((always_inline)) inline T fast_tanh(T x) {
  const double y = std::fabs(static_cast<double>(x));
  const exact_sum e = expm1_in_range(2.0 * (y > 20.0 ? 20.0 : y));
  const double denominator = e.value + 2.0;
  // Knuth's form, right whichever of the two is larger.
  const double added = denominator - e.value;
  const double lost = (e.value - (denominator - added)) + (2.0 - added);
  const double quotient = e.value / denominator;
  const double correction = (e.lost - quotient * (e.lost + lost)) * (0.5 - 0.5 * quotient);
  return static_cast<T>(std::copysign(quotient + correction, static_cast<double>(x)));
}

// 1 / (1 + exp(-x)), which is also how XLA expands jax.lax.logistic.
template <class T>
__attribute__((always_inline)) inline T fast_logistic(T x) {
  return static_cast<T>(1.0 / (1.0 + fast_exp(-static_cast<double>(x))));
}

// Natural logarithm after fdlibm's e_log.c (Sun Microsystems, 1993), without its branches:
// x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), log(1 + f) from a series in f / (2 + f).
template <class T>
__attribute__((always_inline)) inline T fast_log(T argument) {
  const double x = argument;
  const bool subnormal = x < std::numeric_limits<double>::min();
  const double normal = subnormal ? x * 18014398509481984.0 : x;
  std::uint64_t bits = 0;
  std::memcpy(&bits, &normal, sizeof(bits));
  // Moving the significand so that a carry marks the upper half [sqrt(2), 2).
  bits += 0x3ff0000000000000U - 0x3fe6a09e00000000U;
  const std::uint64_t biased = bits >> 52;
  bits = (bits & 0x000fffffffffffffU) + 0x3fe6a09e00000000U;
  double m = 0.0;
  std::memcpy(&m, &bits, sizeof(bits));
  // The small integer `biased` to double through the significand of 2^52: AVX2 has no conversion.
  std::uint64_t exponent_bits = biased | 0x4330000000000000U;
  double k = 0.0;
  std::memcpy(&k, &exponent_bits, sizeof(k));
  k -= 4503599627370496.0 + 1023.0;
  k -= subnormal ? 54.0 : 0.0;

  const double f = m - 1.0;
  const double s = f / (2.0 + f);
  const double z = s * s;
  const double w = z * z;
  const double even = w * (3.999999999940941908e-01 +
                           w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const double odd =
      z * (6.666666666666735130e-01 +
           w * (2.857142874366239149e-01 +
                w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  const double half = 0.5 * f * f;
  double result = k * 6.93147180369123816490e-01 -
                  ((half - (s * (half + even + odd) + k * 1.90821492927058770002e-10)) - f);
  const double infinity = std::numeric_limits<double>::infinity();
  result = x < infinity ? result : x;
  result = x == 0.0 ? -infinity : result;
  result = x < 0.0 ? std::numeric_limits<double>::quiet_NaN() : result;
  return static_cast<T>(result);
}

}  // namespace anvil_rt
