#pragma once

// Cholesky factorisation of a fixed size. Shadows runtime/cholesky.hpp: pointers to any address
// space are deduced.

namespace anvil_rt {

// L with L L^T = A from the lower triangle of the row-major a. As LAPACK's potrf and JAX's
// primitive do, the strict upper triangle of `l` repeats that of `a`, and a pivot that is
// not positive gives NaN everywhere (a NaN pivot spreads by itself, below it and to its right).
template <class T, int N, class In, class Out>
inline void cholesky(In a, Out l) {
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
      for (int k = j + 1; k <= i; ++k) l[i * N + k] -= factor * column[k];
    }
  }
}

}  // namespace anvil_rt
