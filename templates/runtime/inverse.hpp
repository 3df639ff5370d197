#pragma once

#include <cmath>
#include <utility>

// Inverses of small matrices.

namespace anvil_rt {

// Inverse of an N by N matrix by Gauss-Jordan elimination with partial pivoting; false if it is
// singular. `a` is overwritten.
template <class T, int N>
inline bool invert_matrix(T* a, T* inverse) {
  for (int i = 0; i < N * N; ++i) inverse[i] = i % (N + 1) == 0 ? T(1) : T(0);
  for (int j = 0; j < N; ++j) {
    int pivot = j;
    for (int i = j + 1; i < N; ++i) {
      if (std::fabs(a[i * N + j]) > std::fabs(a[pivot * N + j])) pivot = i;
    }
    if (!(std::fabs(a[pivot * N + j]) > T(0))) return false;
    for (int k = 0; k < N; ++k) {
      std::swap(a[j * N + k], a[pivot * N + k]);
      std::swap(inverse[j * N + k], inverse[pivot * N + k]);
    }
    const T factor = T(1) / a[j * N + j];
    for (int k = 0; k < N; ++k) {
      a[j * N + k] *= factor;
      inverse[j * N + k] *= factor;
    }
    for (int i = 0; i < N; ++i) {
      const T multiple = a[i * N + j];
      if (i == j || multiple == T(0)) continue;
      for (int k = 0; k < N; ++k) {
        a[i * N + k] -= multiple * a[j * N + k];
        inverse[i * N + k] -= multiple * inverse[j * N + k];
      }
    }
  }
  return true;
}

}  // namespace anvil_rt
