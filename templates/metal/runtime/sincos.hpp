#pragma once

// Sine and cosine. Shadows runtime/sincos.hpp, whose reduction needs double: Metal's own are right
// for every argument, to 4 units in the last place.

namespace anvil_rt {

template <class T>
inline T sin(T x) {
  return std::sin(x);
}
template <class T>
inline T cos(T x) {
  return std::cos(x);
}
template <class T>
inline void sincos(T x, thread T& sine, thread T& cosine) {
  sine = std::sin(x);
  cosine = std::cos(x);
}

}  // namespace anvil_rt
