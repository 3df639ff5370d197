#pragma once

// Batched matrix products of fixed size: by one thread, by several threads element by element, and
// by the threads of a threadgroup in tiles. Shadows runtime/contraction.hpp.
//
// C[b, m, n] = sum over k of A[b, m, k] B[b, k, n]. C is dense and row-major; A and B have the
// strides given, in elements: of the batch, the row and the column. An empty sum is 0; a sum of
// products of bool is true if any product is. All forms sum in the order of k, so that they agree
// to the last bit.

namespace anvil_rt {

// Integers are summed as unsigned of at least 32 bits, where overflow wraps around as in JAX.
template <class T>
struct sum_of {
  using type = typename std::conditional<sizeof(T) == 8, std::uint64_t, std::uint32_t>::type;
};
template <>
struct sum_of<float> {
  using type = float;
};
template <>
struct sum_of<bool> {
  using type = bool;
};

template <class T>
inline typename sum_of<T>::type add_product(typename sum_of<T>::type sum, T x, T y) {
  using Sum = typename sum_of<T>::type;
  if constexpr (std::is_same<T, bool>::value) {
    return sum || (x && y);
  } else if constexpr (std::is_floating_point<T>::value) {
    return std::fma(x, y, sum);
  } else {
    return sum + static_cast<Sum>(x) * static_cast<Sum>(y);
  }
}

// One element of C, `a` and `b` being at its row and its column.
template <class T, int K, long ACS, long BRS, class X, class Y>
inline T contract_element(X a, Y b) {
  typename sum_of<T>::type sum = 0;
  for (int k = 0; k < K; ++k) sum = add_product<T>(sum, a[k * ACS], b[k * BRS]);
  return static_cast<T>(sum);
}

template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS, class X, class Y, class Z>
inline void contract(X a, Y b, Z c) {
  for (int batch = 0; batch < B; ++batch, a += ABS, b += BBS, c += static_cast<long>(M) * N) {
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) {
        c[static_cast<long>(m) * N + n] =
            contract_element<T, K, ACS, BRS>(a + m * ARS, b + n * BCS);
      }
    }
  }
}

// Elements lane, lane + lanes, ... of C, so that `lanes` threads share the work. No barrier.
template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS, class X, class Y, class Z>
inline void contract_by_threads(X a, Y b, Z c, int lane, int lanes) {
  constexpr long count = static_cast<long>(B) * M * N;
  constexpr int rows = M > 0 ? M : 1;
  constexpr int columns = N > 0 ? N : 1;
  for (long i = lane; i < count; i += lanes) {
    const long n = i % columns;
    const long m = i / columns % rows;
    const long batch = i / columns / rows;
    c[i] = contract_element<T, K, ACS, BRS>(a + batch * ABS + m * ARS, b + batch * BBS + n * BCS);
  }
}

// The sizes of contract_tiles: the edge of a tile of C, how much of k is staged at a time, and the
// row of a staged block, 4 longer than the edge so that a column falls into different banks.
struct contract_tile {
  static constexpr constant int edge = 64;
  static constexpr constant int depth = 16;
  static constexpr constant int row = 68;
  static constexpr constant int threads = 256;
};

// 16 by 64 numbers of one operand into threadgroup memory, four by each thread, zeros beyond the
// edges: to[k * row + i] = from[k * KS + i * IS] for k < ks and i < is. Neighbouring threads read
// along the axis that is contiguous.
template <class T, long KS, long IS, class X>
inline void stage_block(X from, int ks, int is, int lane, threadgroup T* to) {
  for (int part = 0; part < 4; ++part) {
    const int k = KS == 1 ? lane % 16 : lane / 64 + 4 * part;
    const int i = KS == 1 ? lane / 16 + 16 * part : lane % 64;
    to[k * contract_tile::row + i] = k < ks && i < is ? from[k * KS + i * IS] : T(0);
  }
}

// One tile of C, 64 by 64, by all 256 threads of a threadgroup: blocks of A and B that are 16 deep
// pass through `tiles` (2 * 16 * 68 elements, declared by the kernel), and each thread sums 4 by 4
// elements, 16 apart. `group` counts the tiles, in [0, B * ceil(M / 64) * ceil(N / 64)), and must
// be the same in all threads: every one of them reaches every barrier.
template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS, class X, class Y, class Z>
inline void contract_tiles(X a, Y b, Z c, int group, int lane, threadgroup T* tiles) {
  using Sum = typename sum_of<T>::type;
  constexpr int edge = contract_tile::edge;
  constexpr int depth = contract_tile::depth;
  constexpr int row = contract_tile::row;
  constexpr int down = M > edge ? (M + edge - 1) / edge : 1;
  constexpr int across = N > edge ? (N + edge - 1) / edge : 1;
  const long batch = group / (down * across);
  const int first_row = group / across % down * edge;
  const int first_column = group % across * edge;
  const int rows = M - first_row < edge ? M - first_row : edge;
  const int columns = N - first_column < edge ? N - first_column : edge;
  const auto left = a + (batch * ABS + first_row * ARS);
  const auto right = b + (batch * BBS + first_column * BCS);
  threadgroup T* left_tile = tiles;
  threadgroup T* right_tile = tiles + depth * row;
  const int y = lane / 16;
  const int x = lane % 16;

  Sum sums[4][4];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) sums[i][j] = Sum(0);
  }
  for (int k = 0; k < K; k += depth) {
    const int count = K - k < depth ? K - k : depth;
    stage_block<T, ACS, ARS>(left + k * ACS, count, rows, lane, left_tile);
    stage_block<T, BRS, BCS>(right + k * BRS, count, columns, lane, right_tile);
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (int d = 0; d < count; ++d) {
      T ls[4];
      T rs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        ls[i] = left_tile[d * row + y + 16 * i];
        rs[i] = right_tile[d * row + x + 16 * i];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = add_product<T>(sums[i][j], ls[i], rs[j]);
      }
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  }
  const auto corner = c + ((batch * M + first_row) * N + first_column);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int m = y + 16 * i;
      const int n = x + 16 * j;
      const long place = m * static_cast<long>(N) + n;
      if (m < rows && n < columns) corner[place] = static_cast<T>(sums[i][j]);
    }
  }
}

}  // namespace anvil_rt
