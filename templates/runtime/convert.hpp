#pragma once

#include <limits>
#include <type_traits>

// Conversions with the meaning of jax.lax.convert_element_type on a CPU.

namespace anvil_rt {

// Floating point to integer drops the fraction, saturates at the ends of the range and maps NaN
// to 0 (a C++ cast is undefined there). Integer to integer keeps the low bits. To bool is x != 0,
// so that NaN and 0.5 are true.
template <class To, class From>
constexpr To convert(From x) {
  if constexpr (std::is_same<To, bool>::value) {
    return x != From(0);
  } else if constexpr (std::is_floating_point<From>::value && std::is_integral<To>::value) {
    using Range = std::numeric_limits<To>;
    // max() itself may not be representable in From; the power of two above it always is.
    constexpr From above = From(2) * static_cast<From>(Range::max() / 2 + 1);
    constexpr From lowest = static_cast<From>(Range::min());
    if (x >= above) return Range::max();
    if (x <= lowest) return Range::min();
    return x == x ? static_cast<To>(x) : To(0);
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace anvil_rt
