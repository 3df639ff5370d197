#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

// Sine and cosine in line: within 1.5 units in the last place, both for little more than one.
//
// The argument is reduced to [-pi/4, pi/4] and two polynomials are evaluated. No table, and no
// branch but the one that hands arguments beyond half a million quarter turns, infinities and NaN
// to the C library.

namespace anvil_rt {

// The remainder of an argument as an unevaluated sum; of the quadrant only two bits count.
struct quarter_turns {
  double high;
  double low;
  std::uint64_t quadrant;
};

// 2^19 quarter turns: beyond, the products in the reduction are no longer exact.
template <class T>
__attribute__((always_inline)) inline bool is_reducible(T x) {
  return std::fabs(x) < T(823549.0);
}

// Cody and Waite's reduction with the pieces of pi/2 of fdlibm's e_rem_pio2.c (Sun Microsystems,
// 1993). The first two have 33 bits, so that their product with a 20-bit integer is exact and the
// result is the same whether or not the compiler contracts to fused multiply-adds.
template <class T>
__attribute__((always_inline)) inline quarter_turns reduce_quarter_turns(T x) {
  // Adding 1.5 * 2^52 leaves the rounded integer in the low bits of the significand.
  const double magic = 6755399441055744.0;
  const double shifted = x * 6.36619772367581382433e-01 + magic;
  const double turns = shifted - magic;
  const double first = x - turns * 1.57079632673412561417e+00;
  const double piece = turns * 6.07710050630396597660e-11;
  const double second = first - piece;
  const double lost = (first - second) - piece;
  const double third = turns * 2.02226624879595063154e-21 - lost;
  quarter_turns result{second - third, 0.0, 0};
  result.low = (second - result.high) - third;
  std::memcpy(&result.quadrant, &shifted, sizeof(shifted));
  return result;
}

// Polynomials of fdlibm's k_sin.c and k_cos.c on [-pi/4, pi/4]; for float those of FreeBSD's
// k_sinf.c and k_cosf.c, evaluated in double.
template <class T>
__attribute__((always_inline)) inline double sin_polynomial(double x, double low) {
  const double z = x * x;
  if constexpr (std::is_same<T, float>::value) {
    // As a product, because x + x * ... would lose the sign of a zero.
    return x * (1.0 + z * ((-1.66666666416265235595e-01 + z * 8.3333293858894631756e-03) +
                           z * z * (-1.98393348360966317347e-04 + z * 2.7183114939898219064e-06)));
  } else {
    const double r =
        8.33333333332248946124e-03 +
        z * (-1.98412698298579493134e-04 +
             z * (2.75573137070700676789e-06 +
                  z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)));
    const double v = z * x;
    return x - ((z * (0.5 * low - v * r) - low) - v * -1.66666666666666324348e-01);
  }
}

template <class T>
__attribute__((always_inline)) inline double cos_polynomial(double x, double low) {
  const double z = x * x;
  if constexpr (std::is_same<T, float>::value) {
    const double w = z * z;
    return (1.0 + z * -4.99999997251031003120e-01) + w * 4.16666233237390631894e-02 +
           w * z * (-1.38867637746099294692e-03 + z * 2.43904487962774090654e-05);
  } else {
    const double r =
        4.16666666666666019037e-02 +
        z * (-1.38888888888741095749e-03 +
             z * (2.48015872894767294178e-05 +
                  z * (-2.75573143513906633035e-07 +
                       z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11))));
    const double half = 0.5 * z;
    const double w = 1.0 - half;
    return w + (((1.0 - w) - half) + (z * (z * r) - x * low));
  }
}

// Flips the sign of `value` where bit 1 of `quadrant` is set. (Templates throughout, although some
// have one instance: an unused one is not warned about.)
template <class Bits>
__attribute__((always_inline)) inline double flip_sign(double value, Bits quadrant) {
  Bits bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  bits ^= (quadrant & 2U) << 62;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

template <class T>
__attribute__((always_inline)) inline void sincos(T x, T& sine, T& cosine) {
  if (__builtin_expect(!is_reducible(x), 0)) {
    sine = std::sin(x);
    cosine = std::cos(x);
    return;
  }
  const quarter_turns r = reduce_quarter_turns(x);
  const double s = sin_polynomial<T>(r.high, r.low);
  const double c = cos_polynomial<T>(r.high, r.low);
  const bool odd = (r.quadrant & 1U) != 0;
  sine = static_cast<T>(flip_sign(odd ? c : s, r.quadrant));
  cosine = static_cast<T>(flip_sign(odd ? s : c, r.quadrant + 1));
}

template <class T>
__attribute__((always_inline)) inline T sin(T x) {
  if (__builtin_expect(!is_reducible(x), 0)) return std::sin(x);
  const quarter_turns r = reduce_quarter_turns(x);
  const double s = sin_polynomial<T>(r.high, r.low);
  const double c = cos_polynomial<T>(r.high, r.low);
  return static_cast<T>(flip_sign((r.quadrant & 1U) != 0 ? c : s, r.quadrant));
}

template <class T>
__attribute__((always_inline)) inline T cos(T x) {
  if (__builtin_expect(!is_reducible(x), 0)) return std::cos(x);
  const quarter_turns r = reduce_quarter_turns(x);
  const double s = sin_polynomial<T>(r.high, r.low);
  const double c = cos_polynomial<T>(r.high, r.low);
  return static_cast<T>(flip_sign((r.quadrant & 1U) != 0 ? s : c, r.quadrant + 1));
}

}  // namespace anvil_rt
