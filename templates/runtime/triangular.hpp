#pragma once

#include <limits>
#include <utility>

#include "exchange.hpp"
#include "row_product.hpp"

// Triangular and tridiagonal systems of a fixed size. Types of pointers are deduced: on a GPU they
// may name an address space.

namespace anvil_rt {

// op(A) x = b in place, op being the transpose or nothing; A is N by N, row-major. Rows of A are
// contiguous either way: as they are they meet x in dot products, transposed they update it.
template <class T, int N, bool Lower, bool Transposed, bool UnitDiagonal, class A, class X>
inline void triangular_solve_vector(A __restrict__ a, X __restrict__ x) {
  constexpr bool forward = Lower != Transposed;
  for (int step = 0; step < N; ++step) {
    const int i = forward ? step : N - 1 - step;
    const auto row = a + i * N;
    // The other indices of this row's triangle.
    const int first = Lower ? 0 : i + 1;
    const int last = Lower ? i : N;
    if constexpr (Transposed) {
      const T value = UnitDiagonal ? x[i] : x[i] / row[i];
      x[i] = value;
      for (int k = first; k < last; ++k) x[k] -= row[k] * value;
    } else {
      const T value = x[i] - row_product<T>(row, x, first, last);
      x[i] = UnitDiagonal ? value : value / row[i];
    }
  }
}

// jax.lax.linalg.triangular_solve. On the left op(A) x = b with b and x of shape (N, NRHS), on the
// right x op(A) = b with (NRHS, N). Only the triangle named is read.
template <class T, int N, int NRHS, bool LeftSide, bool Lower, bool TransposeA, bool UnitDiagonal,
          class A, class B, class X>
inline void triangular_solve(A __restrict__ a, B __restrict__ b, X __restrict__ x) {
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
      const auto row = x + i * NRHS;
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
template <class T, int N, int NRHS, class Lower, class Main, class Upper, class B, class X>
inline void tridiagonal_solve(Lower __restrict__ lower, Main __restrict__ main,
                              Upper __restrict__ upper, B __restrict__ b, X __restrict__ x) {
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
    const auto row = x + i * NRHS;
    const auto next = row + NRHS;
    T below = lower[i + 1];
    const T magnitude = first[i] < T(0) ? -first[i] : first[i];
    if (magnitude < (below < T(0) ? -below : below)) {
      std::swap(first[i], below);
      std::swap(second[i], first[i + 1]);
      std::swap(third[i], second[i + 1]);
      for (int r = 0; r < NRHS; ++r) exchange(row + r, next + r);
    }
    const T factor = below / first[i];
    first[i + 1] -= factor * second[i];
    second[i + 1] -= factor * third[i];
    for (int r = 0; r < NRHS; ++r) next[r] -= factor * row[r];
  }
  bool singular = false;
  for (int i = 0; i < N; ++i) singular = singular || first[i] == T(0);
  for (int i = N - 1; i >= 0; --i) {
    const auto row = x + i * NRHS;
    for (int r = 0; r < NRHS; ++r) {
      T value = row[r];
      if (i + 1 < N) value -= second[i] * row[r + NRHS];
      if (i + 2 < N) value -= third[i] * row[r + 2 * NRHS];
      row[r] = singular ? std::numeric_limits<T>::quiet_NaN() : value / first[i];
    }
  }
}

}  // namespace anvil_rt
