#pragma once

#include <cmath>
#include <limits>

// Householder QR factorisation of a fixed size, in LAPACK's packed form. Types of pointers are
// deduced: on a GPU they may name an address space.

namespace anvil_rt {

// Euclidean norm that neither overflows nor underflows on the way.
template <class T, class X>
inline T scaled_norm(X x, int count) {
  T largest = T(0);
  for (int i = 0; i < count; ++i) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
  if (largest == T(0) || largest > std::numeric_limits<T>::max()) return largest;
  T sum = T(0);
  for (int i = 0; i < count; ++i) {
    const T scaled = x[i] / largest;
    sum += scaled * scaled;
  }
  return largest * std::sqrt(sum);
}

template <class T, class X>
inline T column_norm(X x, int count) {
  T sum = T(0);
  for (int i = 0; i < count; ++i) sum += x[i] * x[i];
  const T tiny = std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon();
  const bool safe = sum > tiny && sum <= std::numeric_limits<T>::max();
  return safe || sum != sum ? std::sqrt(sum) : scaled_norm<T>(x, count);
}

// (I - tau v v^T) applied to `rows` rows of `columns` numbers, `stride` apart.
template <class T, class V, class Block, class Work>
inline void apply_reflector(V __restrict__ v, T tau, Block __restrict__ block, int rows,
                            int columns, int stride, Work __restrict__ work) {
  for (int k = 0; k < columns; ++k) work[k] = T(0);
  for (int i = 0; i < rows; ++i) {
    for (int k = 0; k < columns; ++k) work[k] += v[i] * block[i * stride + k];
  }
  for (int i = 0; i < rows; ++i) {
    const T factor = tau * v[i];
    for (int k = 0; k < columns; ++k) block[i * stride + k] -= factor * work[k];
  }
}

// R in the upper triangle; below it the reflectors H_j = I - tau_j v v^T with v_j = 1 left out.
// The signs are those of LAPACK's larfg.
template <class T, int M, int N, class In, class Out, class Taus>
inline void geqrf(In __restrict__ a, Out __restrict__ qr, Taus __restrict__ taus) {
  constexpr int K = M < N ? M : N;
  T v[M > 0 ? M : 1];
  T work[N > 0 ? N : 1];
  for (int i = 0; i < M * N; ++i) qr[i] = a[i];
  for (int j = 0; j < K; ++j) {
    const T alpha = qr[j * N + j];
    for (int i = j + 1; i < M; ++i) v[i] = qr[i * N + j];
    const T below = column_norm<T>(v + j + 1, M - j - 1);
    taus[j] = T(0);
    if (below == T(0)) continue;
    const T beta = -std::copysign(std::hypot(alpha, below), alpha);
    taus[j] = (beta - alpha) / beta;
    v[j] = T(1);
    for (int i = j + 1; i < M; ++i) {
      v[i] /= alpha - beta;
      qr[i * N + j] = v[i];
    }
    qr[j * N + j] = beta;
    apply_reflector<T>(v + j, taus[j], qr + j * N + j + 1, M - j, N - j - 1, N, work);
  }
}

// First N columns of H_0 H_1 ... H_(K-1), the reflectors being those of `a` (M by N): LAPACK's
// orgqr, jax.lax.linalg.householder_product.
template <class T, int M, int N, int K, class In, class Taus, class Out>
inline void householder_product(In __restrict__ a, Taus __restrict__ taus, Out __restrict__ q) {
  T v[M > 0 ? M : 1];
  T work[N > 0 ? N : 1];
  for (int i = 0; i < M; ++i) {
    for (int k = 0; k < N; ++k) q[i * N + k] = i == k ? T(1) : T(0);
  }
  for (int j = K - 1; j >= 0; --j) {
    v[j] = T(1);
    for (int i = j + 1; i < M; ++i) v[i] = a[i * N + j];
    apply_reflector<T>(v + j, taus[j], q + j * N + j, M - j, N - j, N, work);
  }
}

}  // namespace anvil_rt
