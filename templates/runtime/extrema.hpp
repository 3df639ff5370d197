#pragma once

// Larger and smaller of two integers.

namespace anvil_rt {

template <class T>
constexpr T int_max(T x, T y) {
  return x < y ? y : x;
}

template <class T>
constexpr T int_min(T x, T y) {
  return y < x ? y : x;
}

}  // namespace anvil_rt
