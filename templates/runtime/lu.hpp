#pragma once

#include <cmath>

#include "exchange.hpp"

// LU factorisation with partial pivoting, of a fixed size. Types of pointers are deduced: on a GPU
// they may name an address space.

namespace anvil_rt {

// Rows in the order in which K successive exchanges, of row i with row pivots[i], leave them.
template <int K, int P, class Pivots, class Permutation>
inline void lu_pivots_to_permutation(Pivots pivots, Permutation permutation) {
  for (int i = 0; i < P; ++i) permutation[i] = i;
  for (int i = 0; i < K; ++i) exchange(permutation + i, permutation + pivots[i]);
}

// P A = L U in one array, the unit diagonal of L left out; pivots and permutation count from 0.
// A column without a non-zero pivot is left as it is and the factorisation goes on, as in LAPACK's
// getrf: the singularity shows as a zero on the diagonal of U.
template <class T, int M, int N, class In, class Out, class Pivots, class Permutation>
inline void lu(In __restrict__ a, Out __restrict__ factors, Pivots pivots,
               Permutation permutation) {
  constexpr int K = M < N ? M : N;
  for (int i = 0; i < M * N; ++i) factors[i] = a[i];
  for (int j = 0; j < K; ++j) {
    int pivot = j;
    for (int i = j + 1; i < M; ++i) {
      if (std::fabs(factors[i * N + j]) > std::fabs(factors[pivot * N + j])) pivot = i;
    }
    pivots[j] = pivot;
    const auto top = factors + j * N;
    if (pivot != j) {
      const auto other = factors + pivot * N;
      for (int k = 0; k < N; ++k) exchange(top + k, other + k);
    }
    if (top[j] == T(0)) continue;
    for (int i = j + 1; i < M; ++i) {
      const auto row = factors + i * N;
      const T factor = row[j] / top[j];
      row[j] = factor;
      for (int k = j + 1; k < N; ++k) row[k] -= factor * top[k];
    }
  }
  lu_pivots_to_permutation<K, M>(pivots, permutation);
}

}  // namespace anvil_rt
