#pragma once

// What two pointers point at: on a GPU they may name an address space, which std::swap cannot.

namespace anvil_rt {

template <class Pointer>
inline void exchange(Pointer x, Pointer y) {
  const auto old = *x;
  *x = *y;
  *y = old;
}

}  // namespace anvil_rt
