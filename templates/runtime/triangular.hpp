#pragma once

#include <limits>
#include <utility>

// Triangular and tridiagonal systems of a fixed size.

namespace anvil_rt {

// op(A) x = b in place, op being the transpose or nothing; A is N by N, row-major. Rows of A are
// contiguous either way: as they are they meet x in dot products, transposed they update it.
template <class T, int N, bool Lower, bool Transposed, bool UnitDiagonal>
inline void triangular_solve_vector(const T* __restrict__ a, T* __restrict__ x) {
  constexpr bool forward = Lower != Transposed;
  for (int step = 0; step < N; ++step) {
    const int i = forward ? step : N - 1 - step;
    const T* row = a + i * N;
    // The other indices of this row's triangle.
    const int first = Lower ? 0 : i + 1;
    const int last = Lower ? i : N;
    if constexpr (Transposed) {
      const T value = UnitDiagonal ? x[i] : x[i] / row[i];
      x[i] = value;
      for (int k = first; k < last; ++k) x[k] -= row[k] * value;
    } else {
      // Four sums: one would make every product wait for the one before it.
      T sums[4] = {T(0), T(0), T(0), T(0)};
      int k = first;
      for (; k + 4 <= last; k += 4) {
        for (int lane = 0; lane < 4; ++lane) sums[lane] += row[k + lane] * x[k + lane];
      }
      for (; k < last; ++k) sums[0] += row[k] * x[k];
      const T value = x[i] - ((sums[0] + sums[1]) + (sums[2] + sums[3]));
      x[i] = UnitDiagonal ? value : value / row[i];
    }
  }
}

// jax.lax.linalg.triangular_solve. On the left op(A) x = b with b and x of shape (N, NRHS), on the
// right x op(A) = b with (NRHS, N). Only the triangle named is read.
template <class T, int N, int NRHS, bool LeftSide, bool Lower, bool TransposeA, bool UnitDiagonal>
inline void triangular_solve(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ x) {
  for (int i = 0; i < N * NRHS; ++i) x[i] = b[i];
  if constexpr (!LeftSide || NRHS == 1) {
    // A row of x on the right is a column on the left of the transposed matrix.
    for (int r = 0; r < NRHS; ++r) {
      triangular_solve_vector<T, N, Lower, TransposeA == LeftSide, UnitDiagonal>(a, x + r * N);
    }
  } else {
    constexpr bool forward = Lower != TransposeA;
    for (int step = 0; step < N; ++step) {
      const int i = forward ? step : N - 1 - step;
      T* row = x + i * NRHS;
      for (int k = forward ? 0 : i + 1; k < (forward ? i : N); ++k) {
        const T factor = TransposeA ? a[k * N + i] : a[i * N + k];
        for (int r = 0; r < NRHS; ++r) row[r] -= factor * x[k * NRHS + r];
      }
      if constexpr (!UnitDiagonal) {
        const T diagonal = a[i * N + i];
        for (int r = 0; r < NRHS; ++r) row[r] /= diagonal;
      }
    }
  }
}

// Tridiagonal system with partial pivoting, as LAPACK's gtsv: jax.lax.linalg.tridiagonal_solve.
// lower[0] and upper[N - 1] are not read. b and x have shape (N, NRHS). A zero pivot, that is an
// exactly singular matrix, gives NaN everywhere.
template <class T, int N, int NRHS>
inline void tridiagonal_solve(const T* __restrict__ lower, const T* __restrict__ main,
                              const T* __restrict__ upper, const T* __restrict__ b,
                              T* __restrict__ x) {
  // Three diagonals of the triangular factor; exchanges fill the third.
  constexpr int size = N > 0 ? N : 1;
  T first[size], second[size], third[size];
  for (int i = 0; i < N; ++i) {
    first[i] = main[i];
    second[i] = i + 1 < N ? upper[i] : T(0);
    third[i] = T(0);
  }
  for (int i = 0; i < N * NRHS; ++i) x[i] = b[i];
  for (int i = 0; i + 1 < N; ++i) {
    T* row = x + i * NRHS;
    T* next = row + NRHS;
    T below = lower[i + 1];
    const T magnitude = first[i] < T(0) ? -first[i] : first[i];
    if (magnitude < (below < T(0) ? -below : below)) {
      std::swap(first[i], below);
      std::swap(second[i], first[i + 1]);
      std::swap(third[i], second[i + 1]);
      for (int r = 0; r < NRHS; ++r) std::swap(row[r], next[r]);
    }
    const T factor = below / first[i];
    first[i + 1] -= factor * second[i];
    second[i + 1] -= factor * third[i];
    for (int r = 0; r < NRHS; ++r) next[r] -= factor * row[r];
  }
  bool singular = false;
  for (int i = 0; i < N; ++i) singular = singular || first[i] == T(0);
  for (int i = N - 1; i >= 0; --i) {
    T* row = x + i * NRHS;
    for (int r = 0; r < NRHS; ++r) {
      T value = row[r];
      if (i + 1 < N) value -= second[i] * row[r + NRHS];
      if (i + 2 < N) value -= third[i] * row[r + 2 * NRHS];
      row[r] = singular ? std::numeric_limits<T>::quiet_NaN() : value / first[i];
    }
  }
}

}  // namespace anvil_rt
