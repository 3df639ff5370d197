#pragma once

#include <cmath>
#include <limits>

// Cholesky factorisation of a fixed size. Types of pointers are deduced: on a GPU they may name an
// address space.

namespace anvil_rt {

// L with L L^T = A from the lower triangle of the row-major a. As LAPACK's potrf and JAX's
// primitive do, the strict upper triangle of `l` repeats that of `a`, and a pivot that is
// not positive gives NaN everywhere (a NaN pivot spreads by itself, below it and to its right).
// Right-looking, so that the innermost loop runs along rows and has no sum to wait for.
template <class T, int N, class In, class Out>
inline void cholesky(In __restrict__ a, Out __restrict__ l) {
  for (int i = 0; i < N * N; ++i) l[i] = a[i];
  T column[N > 0 ? N : 1];
  for (int j = 0; j < N; ++j) {
    const T pivot = l[j * N + j];
    if (pivot <= T(0)) {
      for (int i = 0; i < N * N; ++i) l[i] = std::numeric_limits<T>::quiet_NaN();
      return;
    }
    const T diagonal = std::sqrt(pivot);
    const T inverse = T(1) / diagonal;
    l[j * N + j] = diagonal;
    for (int i = j + 1; i < N; ++i) {
      const T factor = l[i * N + j] * inverse;
      l[i * N + j] = factor;
      column[i] = factor;
      const auto row = l + i * N;
      for (int k = j + 1; k <= i; ++k) row[k] -= factor * column[k];
    }
  }
}

}  // namespace anvil_rt
