#pragma once

#include <cmath>
#include <limits>

#include "exchange.hpp"

// Eigenvalues and eigenvectors of a symmetric matrix of a fixed size. Types of pointers are
// deduced: on a GPU they may name an address space.

namespace anvil_rt {

// Elements i and j of x turned by an angle.
template <class T, class X>
inline void rotate_pair(X x, int i, int j, T cosine, T sine) {
  const T old = x[i];
  x[i] = cosine * old - sine * x[j];
  x[j] = sine * old + cosine * x[j];
}

// A = V diag(values) V^T, values ascending, column i of the row-major `vectors` belonging to
// value i. Only the lower triangle of `a` is read. Cyclic Jacobi rotations (Golub and Van Loan,
// "Matrix computations", section 8.5): short, no special cases, and small eigenvalues come out
// more accurately than from a tridiagonal form. The signs of the vectors are arbitrary.
template <class T, int N, class In, class Vectors, class Values>
inline void symmetric_eigen(In __restrict__ a, Vectors __restrict__ vectors,
                            Values __restrict__ values) {
  constexpr int size = N > 0 ? N * N : 1;
  T work[size];
  T rows[size];  // eigenvectors as rows, so that a rotation runs along memory
  T total = T(0);
  for (int i = 0; i < N; ++i) {
    for (int j = 0; j < N; ++j) {
      work[i * N + j] = j <= i ? a[i * N + j] : a[j * N + i];
      rows[i * N + j] = i == j ? T(1) : T(0);
      total += std::fabs(work[i * N + j]);
    }
  }
  // Rotations by less than this change nothing. NaN and infinity end in the sweep count.
  const T negligible = total * std::numeric_limits<T>::epsilon() / T(16 * size);
  bool rotated = true;
  for (int sweep = 0; sweep < 40 && rotated; ++sweep) {
    rotated = false;
    for (int p = 0; p < N - 1; ++p) {
      for (int q = p + 1; q < N; ++q) {
        const T off = work[p * N + q];
        if (std::fabs(off) <= negligible) continue;
        rotated = true;
        // The smaller of the two angles that zero the element.
        const T theta = (work[q * N + q] - work[p * N + p]) / (T(2) * off);
        const T t = std::copysign(T(1), theta) / (std::fabs(theta) + std::hypot(theta, T(1)));
        const T cosine = T(1) / std::sqrt(t * t + T(1));
        const T sine = t * cosine;
        for (int k = 0; k < N; ++k) rotate_pair(work, p * N + k, q * N + k, cosine, sine);
        for (int k = 0; k < N; ++k) rotate_pair(work, k * N + p, k * N + q, cosine, sine);
        for (int k = 0; k < N; ++k) rotate_pair(rows, p * N + k, q * N + k, cosine, sine);
        work[p * N + q] = T(0);
        work[q * N + p] = T(0);
      }
    }
  }
  // Selection sort: N exchanges of rows at the most.
  for (int i = 0; i < N; ++i) values[i] = work[i * N + i];
  for (int i = 0; i < N; ++i) {
    int least = i;
    for (int j = i + 1; j < N; ++j) least = values[j] < values[least] ? j : least;
    exchange(values + i, values + least);
    for (int k = 0; k < N; ++k) {
      const T value = rows[least * N + k];
      rows[least * N + k] = rows[i * N + k];
      vectors[k * N + i] = value;
    }
  }
}

}  // namespace anvil_rt
