#pragma once

#include <cmath>
#include <limits>

namespace anvil_rt {

// Euclidean norm that neither overflows nor underflows on the way.
template <class T, class X>
inline T scaled_norm(X x, int count) {
  T largest = T(0);
  for (int i = 0; i < count; ++i) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
  if (largest == T(0) || largest > std::numeric_limits<T>::max()) return largest;
  int exponent = 0;
  std::frexp(largest, &exponent);
  T sum = T(0);
  for (int i = 0; i < count; ++i) {
    const T scaled = std::ldexp(x[i], -exponent);
    sum += scaled * scaled;
  }
  return std::ldexp(std::sqrt(sum), exponent);
}

}  // namespace anvil_rt
