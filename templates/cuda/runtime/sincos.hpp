#pragma once

#include <cmath>
#include <type_traits>

// Sine and cosine on a device: CUDA's own functions, within 2 units in the last place.
//
// Those of the host compute in double throughout, which most devices do slowly.

namespace anvil_rt {

template <class T>
__attribute__((always_inline)) inline void sincos(T x, T& sine, T& cosine) {
  if constexpr (std::is_same<T, float>::value) {
    ::sincosf(x, &sine, &cosine);
  } else {
    ::sincos(x, &sine, &cosine);
  }
}

template <class T>
__attribute__((always_inline)) inline T sin(T x) {
  return std::sin(x);
}

template <class T>
__attribute__((always_inline)) inline T cos(T x) {
  return std::cos(x);
}

}  // namespace anvil_rt
