#pragma once

// The cube root, by the prelude. Shadows runtime/cbrt.hpp, which computes in double.

namespace anvil_rt {

template <class T>
inline T cbrt(T x) {
  return std::cbrt(x);
}

}  // namespace anvil_rt
