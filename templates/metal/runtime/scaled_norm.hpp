#pragma once

// Shadows runtime/scaled_norm.hpp, which scales by a power of two.

namespace anvil_rt {

// Euclidean norm that neither overflows nor underflows on the way.
template <class T, class X>
inline T scaled_norm(X x, int count) {
  T largest = T(0);
  for (int i = 0; i < count; ++i) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
  if (largest == T(0) || largest > std::numeric_limits<T>::max()) return largest;
  T sum = T(0);
  for (int i = 0; i < count; ++i) {
    const T scaled = x[i] / largest;
    sum += scaled * scaled;
  }
  return largest * std::sqrt(sum);
}

}  // namespace anvil_rt
