#pragma once

// Two elements of an array in any address space (a reference would have to name one).

namespace anvil_rt {

template <class Array>
inline void exchange(Array x, int i, int j) {
  const auto old = x[i];
  x[i] = x[j];
  x[j] = old;
}

}  // namespace anvil_rt
