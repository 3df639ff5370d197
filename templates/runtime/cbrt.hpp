#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

// The cube root.

namespace anvil_rt {

// glibc's cbrt is off by up to 4 units in the last place; one Newton step whose residual is exact
// to second order leaves less than 1. A float needs none: its root is rounded from double.
template <class T>
inline T cbrt(T x) {
  if constexpr (std::is_same<T, double>::value) {
    const double size = std::fabs(x);
    if (!(size > 0.0) || !(size <= std::numeric_limits<double>::max())) return x;
    // Scaled by 2^90, whose root is 2^30, away from overflow and underflow of the products.
    const double a = x * (size < 1.0 ? 1.2379400392853803e+27 : 8.077935669463161e-28);
    const double y = std::cbrt(a);
    const double square = y * y;
    const double rounding = std::fma(y, y, -square);
    const double residual = std::fma(square, y, -a) + rounding * y;
    return (y - residual / (3.0 * square)) * (size < 1.0 ? 9.313225746154785e-10 : 1073741824.0);
  } else {
    return static_cast<T>(std::cbrt(static_cast<double>(x)));
  }
}

}  // namespace anvil_rt
