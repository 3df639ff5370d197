#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

// LU factorisation with partial pivoting, of a fixed size.

namespace anvil_rt {

// Rows in the order in which K successive exchanges, of row i with row pivots[i], leave them.
template <int K, int P>
inline void lu_pivots_to_permutation(const std::int32_t* pivots, std::int32_t* permutation) {
  for (int i = 0; i < P; ++i) permutation[i] = i;
  for (int i = 0; i < K; ++i) std::swap(permutation[i], permutation[pivots[i]]);
}

// P A = L U in one array, the unit diagonal of L left out; pivots and permutation count from 0.
// A column without a non-zero pivot is left as it is and the factorisation goes on, as in LAPACK's
// getrf: the singularity shows as a zero on the diagonal of U.
template <class T, int M, int N>
inline void lu(const T* __restrict__ a, T* __restrict__ factors, std::int32_t* pivots,
               std::int32_t* permutation) {
  constexpr int K = M < N ? M : N;
  for (int i = 0; i < M * N; ++i) factors[i] = a[i];
  for (int j = 0; j < K; ++j) {
    int pivot = j;
    for (int i = j + 1; i < M; ++i) {
      if (std::fabs(factors[i * N + j]) > std::fabs(factors[pivot * N + j])) pivot = i;
    }
    pivots[j] = pivot;
    T* top = factors + j * N;
    if (pivot != j) {
      T* other = factors + pivot * N;
      for (int k = 0; k < N; ++k) std::swap(top[k], other[k]);
    }
    if (top[j] == T(0)) continue;
    for (int i = j + 1; i < M; ++i) {
      T* row = factors + i * N;
      const T factor = row[j] / top[j];
      row[j] = factor;
      for (int k = j + 1; k < N; ++k) row[k] -= factor * top[k];
    }
  }
  lu_pivots_to_permutation<K, M>(pivots, permutation);
}

}  // namespace anvil_rt
