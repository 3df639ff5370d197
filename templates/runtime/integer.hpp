#pragma once

#include <cstdint>
#include <type_traits>

// Integer arithmetic with the meaning XLA gives it on a CPU.
//
// JAX defines every case that C++ leaves undefined: overflow wraps around, division by zero gives
// all bits set, a shift by the width or more empties the word. Each function computes in an
// unsigned type at least as wide as `int`, because two std::uint16_t are promoted to int before
// they are multiplied, and 65535 * 65535 overflows it.

namespace anvil_rt {

template <class T>
struct same_type {
  using type = T;
};

// Unsigned type of the same width, and the one the arithmetic is done in.
template <class T>
using unsigned_of = typename std::make_unsigned<T>::type;
template <class T>
using wrapping = typename std::conditional<(sizeof(T) < sizeof(unsigned)), same_type<unsigned>,
                                           std::make_unsigned<T>>::type::type;

template <class T>
constexpr int bit_width_of() {
  return static_cast<int>(8 * sizeof(T));
}

template <class T>
constexpr T wrap_add(T x, T y) {
  return static_cast<T>(static_cast<wrapping<T>>(x) + static_cast<wrapping<T>>(y));
}

template <class T>
constexpr T wrap_sub(T x, T y) {
  return static_cast<T>(static_cast<wrapping<T>>(x) - static_cast<wrapping<T>>(y));
}

template <class T>
constexpr T wrap_mul(T x, T y) {
  return static_cast<T>(static_cast<wrapping<T>>(x) * static_cast<wrapping<T>>(y));
}

template <class T>
constexpr T wrap_neg(T x) {
  return wrap_sub(T(0), x);
}

template <class T>
constexpr T wrap_abs(T x) {
  return x < T(0) ? wrap_neg(x) : x;
}

// Truncating division. x / 0 is -1 (all bits set), min / -1 wraps to min.
template <class T>
constexpr T int_div(T x, T y) {
  if (y == T(0)) return static_cast<T>(~wrapping<T>(0));
  if constexpr (std::is_signed<T>::value) {
    if (y == T(-1)) return wrap_neg(x);
  }
  return static_cast<T>(x / y);
}

// Remainder with the sign of x. x % 0 is x, min % -1 is 0.
template <class T>
constexpr T int_rem(T x, T y) {
  if (y == T(0)) return x;
  if constexpr (std::is_signed<T>::value) {
    if (y == T(-1)) return T(0);
  }
  return static_cast<T>(x % y);
}

// The amount is read as unsigned, so that a negative one counts as "too far".
template <class T>
constexpr bool shift_is_inside(T amount) {
  return static_cast<unsigned_of<T>>(amount) < static_cast<unsigned_of<T>>(bit_width_of<T>());
}

template <class T>
constexpr T shift_left(T x, T amount) {
  return shift_is_inside(amount) ? static_cast<T>(static_cast<wrapping<T>>(x) << amount) : T(0);
}

template <class T>
constexpr T shift_right_logical(T x, T amount) {
  return shift_is_inside(amount) ? static_cast<T>(static_cast<unsigned_of<T>>(x) >> amount) : T(0);
}

// XLA copies the top bit for unsigned words as well. Signed >> is arithmetic on every compiler
// supported here (the language only promises it from C++20 on).
template <class T>
constexpr T shift_right_arithmetic(T x, T amount) {
  using Signed = typename std::make_signed<T>::type;
  const T inside = shift_is_inside(amount) ? amount : static_cast<T>(bit_width_of<T>() - 1);
  return static_cast<T>(static_cast<Signed>(x) >> inside);
}

// Counting bits is a call to a library on some targets, and no constant expression there.
template <class T>
inline T popcount(T x) {
  return static_cast<T>(__builtin_popcountll(static_cast<unsigned_of<T>>(x)));
}

// Leading zero bits; the width of the word for zero.
template <class T>
inline T clz(T x) {
  const unsigned_of<T> bits = static_cast<unsigned_of<T>>(x);
  if (bits == 0) return static_cast<T>(bit_width_of<T>());
  return static_cast<T>(__builtin_clzll(bits) - (64 - bit_width_of<T>()));
}

template <class T>
constexpr T int_sign(T x) {
  return static_cast<T>((x > T(0)) - (x < T(0)));
}

// x^n by repeated squaring, multiplying in the order of jax.lax.integer_pow so that floating-point
// results agree to the last bit. A negative n is allowed for floating-point x only.
template <class T>
constexpr T int_pow(T x, std::int64_t n) {
  const bool inverse = n < 0;
  std::uint64_t left = static_cast<std::uint64_t>(n);
  if (inverse) left = 0U - left;
  T result = T(1);
  T square = x;
  while (left != 0) {
    if constexpr (std::is_floating_point<T>::value) {
      if (left & 1U) result *= square;
      square *= square;
    } else {
      if (left & 1U) result = wrap_mul(result, square);
      square = wrap_mul(square, square);
    }
    left >>= 1;
  }
  if constexpr (std::is_floating_point<T>::value) {
    if (inverse) return T(1) / result;
  }
  return result;
}

}  // namespace anvil_rt
