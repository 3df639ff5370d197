#pragma once

#include "exchange.hpp"

// Triangular and tridiagonal systems of a fixed size. Shadows runtime/triangular.hpp: pointers to
// any address space are deduced.

namespace anvil_rt {

// op(A) x = b in place, op being the transpose or nothing; A is N by N, row-major. Rows of A are
// contiguous either way: as they are they meet x in dot products, transposed they update it.
template <class T, int N, bool Lower, bool Transposed, bool UnitDiagonal, class A, class X>
inline void triangular_solve_vector(A a, X x) {
  constexpr bool forward = Lower != Transposed;
  for (int step = 0; step < N; ++step) {
    const int i = forward ? step : N - 1 - step;
    // The other indices of this row's triangle.
    const int first = Lower ? 0 : i + 1;
    const int last = Lower ? i : N;
    if constexpr (Transposed) {
      const T value = UnitDiagonal ? x[i] : x[i] / a[i * N + i];
      x[i] = value;
      for (int k = first; k < last; ++k) x[k] -= a[i * N + k] * value;
    } else {
      T sum = T(0);
      for (int k = first; k < last; ++k) sum += a[i * N + k] * x[k];
      const T value = x[i] - sum;
      x[i] = UnitDiagonal ? value : value / a[i * N + i];
    }
  }
}

// jax.lax.linalg.triangular_solve. On the left op(A) x = b with b and x of shape (N, NRHS), on the
// right x op(A) = b with (NRHS, N). Only the triangle named is read.
template <class T, int N, int NRHS, bool LeftSide, bool Lower, bool TransposeA, bool UnitDiagonal,
          class A, class B, class X>
inline void triangular_solve(A a, B b, X x) {
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
      for (int k = forward ? 0 : i + 1; k < (forward ? i : N); ++k) {
        const T factor = TransposeA ? a[k * N + i] : a[i * N + k];
        for (int r = 0; r < NRHS; ++r) x[i * NRHS + r] -= factor * x[k * NRHS + r];
      }
      if constexpr (!UnitDiagonal) {
        const T diagonal = a[i * N + i];
        for (int r = 0; r < NRHS; ++r) x[i * NRHS + r] /= diagonal;
      }
    }
  }
}

// Tridiagonal system with partial pivoting, as LAPACK's gtsv: jax.lax.linalg.tridiagonal_solve.
// lower[0] and upper[N - 1] are not read. b and x have shape (N, NRHS). A zero pivot, that is an
// exactly singular matrix, gives NaN everywhere.
template <class T, int N, int NRHS, class Lower, class Main, class Upper, class B, class X>
inline void tridiagonal_solve(Lower lower, Main main, Upper upper, B b, X x) {
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
    T below = lower[i + 1];
    if (std::fabs(first[i]) < std::fabs(below)) {
      std::swap(first[i], below);
      std::swap(second[i], first[i + 1]);
      std::swap(third[i], second[i + 1]);
      for (int r = 0; r < NRHS; ++r) exchange(x, i * NRHS + r, (i + 1) * NRHS + r);
    }
    const T factor = below / first[i];
    first[i + 1] -= factor * second[i];
    second[i + 1] -= factor * third[i];
    for (int r = 0; r < NRHS; ++r) x[(i + 1) * NRHS + r] -= factor * x[i * NRHS + r];
  }
  bool singular = false;
  for (int i = 0; i < N; ++i) singular = singular || first[i] == T(0);
  for (int i = N - 1; i >= 0; --i) {
    for (int r = 0; r < NRHS; ++r) {
      T value = x[i * NRHS + r];
      if (i + 1 < N) value -= second[i] * x[(i + 1) * NRHS + r];
      if (i + 2 < N) value -= third[i] * x[(i + 2) * NRHS + r];
      x[i * NRHS + r] = singular ? std::numeric_limits<T>::quiet_NaN() : value / first[i];
    }
  }
}

}  // namespace anvil_rt
