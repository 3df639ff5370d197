#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

// Batched matrix products of fixed size on a device: by one thread, by threads that share the
// elements of the result among themselves, and by blocks of 256 threads tile by tile.
//
// C[b, m, n] = sum over k of A[b, m, k] B[b, k, n]. C is dense and row-major; A and B have the
// strides given, in elements: of the batch, the row and the column. An empty sum is 0; a sum of
// products of bool is true if any product is. Integers wrap around. The operands are pointers or
// anything else with an operator[].

namespace anvil_rt {

// Integers are summed as unsigned, where overflow wraps around as in JAX, and in a type wide
// enough not to be promoted to int.
template <class T>
struct product_sum {
  using word = typename std::conditional<sizeof(T) == 8, std::uint64_t, std::uint32_t>::type;
  using type = typename std::conditional<std::is_floating_point<T>::value, T, word>::type;
};
template <>
struct product_sum<bool> {
  using type = bool;
};

template <class T, class Sum>
__attribute__((always_inline)) inline Sum add_product(Sum sum, T x, T y) {
  if constexpr (std::is_same<T, bool>::value) {
    return sum || (x && y);
  } else if constexpr (std::is_floating_point<T>::value) {
    return std::fma(x, y, sum);
  } else {
    return sum + static_cast<Sum>(x) * static_cast<Sum>(y);
  }
}

// The largest distance that `count` elements with a stride reach from the first, in elements.
template <class Int>
constexpr Int reach(Int count, Int stride) {
  return count < 2 ? 0 : (count - 1) * (stride < 0 ? -stride : stride);
}

// Everything known about a product as one type. Elements are counted in int where that is enough,
// since a device calculates with 64 bits at half the speed or less.
template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS>
struct product {
  using element = T;
  using sum = typename product_sum<T>::type;
  static constexpr int count = K;
  static constexpr long long a_reach =
      reach<long long>(B, ABS) + reach<long long>(M, ARS) + reach<long long>(K, ACS);
  static constexpr long long b_reach =
      reach<long long>(B, BBS) + reach<long long>(K, BRS) + reach<long long>(N, BCS);
  static constexpr long long c_size = static_cast<long long>(B) * M * N;
  static constexpr long long limit = 2000000000;
  static constexpr bool is_small = a_reach < limit && b_reach < limit && c_size < limit;
  using index = typename std::conditional<is_small, int, long long>::type;
  static constexpr index a_batch = ABS, a_row = ARS, a_k = ACS;
  static constexpr index b_batch = BBS, b_k = BRS, b_column = BCS;
};

// One element of C.
template <class P, class X, class Y, class Index>
__attribute__((always_inline)) inline typename P::element product_element(X a, Y b, Index batch,
                                                                          Index m, Index n) {
  const Index left = batch * P::a_batch + m * P::a_row;
  const Index right = batch * P::b_batch + n * P::b_column;
  typename P::sum sum = 0;
  for (Index k = 0; k < P::count; ++k) {
    const typename P::element x = a[left + k * P::a_k];
    const typename P::element y = b[right + k * P::b_k];
    sum = add_product(sum, x, y);
  }
  return static_cast<typename P::element>(sum);
}

// The whole product by the thread that calls.
template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS, class X, class Y, class Z>
inline void contract(X a, Y b, Z c) {
  using P = product<T, B, M, N, K, ABS, ARS, ACS, BBS, BRS, BCS>;
  using Index = typename P::index;
  for (Index batch = 0; batch < B; ++batch) {
    for (Index m = 0; m < M; ++m) {
      for (Index n = 0; n < N; ++n) {
        c[(batch * M + m) * N + n] = product_element<P>(a, b, batch, m, n);
      }
    }
  }
}

// The elements lane, lane + lanes, ... of C by each of `lanes` threads; there is no barrier.
template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS, class X, class Y, class Z>
inline void contract_by_threads(X a, Y b, Z c, int lane, int lanes) {
  using P = product<T, B, M, N, K, ABS, ARS, ACS, BBS, BRS, BCS>;
  using Index = typename P::index;
  if constexpr (P::c_size > 0) {
    constexpr Index size = static_cast<Index>(P::c_size);
    for (Index i = lane; i < size; i += lanes) {
      const Index row = i / N;
      c[i] = product_element<P>(a, b, row / M, row % M, i % N);
    }
  }
}

// A block of 256 threads holds a tile of 64 by 64 elements of C, each thread 4 by 4 of them in
// registers. The sum runs in steps of 16: the block copies 64 by 16 of A and 16 by 64 of B to
// shared memory, where a row has 4 elements more than the tile, so that neighbours along k fall
// into different banks.
struct tile {
  static constexpr int edge = 64;
  static constexpr int depth = 16;
  static constexpr int pitch = edge + 4;
  static constexpr int storage = 2 * depth * pitch;
};

// Tiles of C, which is how many groups of threads `contract_tiles` is for.
template <class Int>
constexpr Int tile_groups(Int batches, Int rows, Int columns) {
  const Int down = (rows + tile::edge - 1) / tile::edge;
  const Int across = (columns + tile::edge - 1) / tile::edge;
  return batches * down * across;
}

// Which 4 elements of a panel of 64 by 16 a thread copies. Threads next to each other take
// elements that are next to each other in memory: along the edge of the tile or along k.
template <bool AlongEdge>
struct panel_place {
  int edge, k;  // of the first element
  static constexpr int edge_step = AlongEdge ? 0 : 16;
  static constexpr int k_step = AlongEdge ? 4 : 0;
};
template <bool AlongEdge>
constexpr panel_place<AlongEdge> panel_place_of(int lane) {
  return AlongEdge ? panel_place<AlongEdge>{lane % 64, lane / 64}
                   : panel_place<AlongEdge>{lane / 16, lane % 16};
}

// Reads the 4 elements of a panel that begins at `edge` and `k`; 0 outside of the operand.
template <int Edge, int K, class T, class Place, class X, class Index>
__attribute__((always_inline)) inline void read_panel(T (&values)[4], Place place, X operand,
                                                      Index start, Index edge_stride,
                                                      Index k_stride, int edge, int k) {
  for (int i = 0; i < 4; ++i) {
    const int e = edge + place.edge + i * Place::edge_step;
    const int d = k + place.k + i * Place::k_step;
    values[i] = T(0);
    if (e < Edge && d < K) values[i] = operand[start + e * edge_stride + d * k_stride];
  }
}
template <class T, class Place>
__attribute__((always_inline)) inline void write_panel(const T (&values)[4], Place place,
                                                       T* panel) {
  for (int i = 0; i < 4; ++i) {
    panel[(place.k + i * Place::k_step) * tile::pitch + place.edge + i * Place::edge_step] =
        values[i];
  }
}

// Four neighbours that are read or written at once, 16 bytes at a time.
template <class T>
struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) four {
  T at[4];
};

// Adds the products of one step to the 4 by 4 sums at `row` and `column` of the tile.
template <class T, class Sum>
__attribute__((always_inline)) inline void multiply_panels(Sum (&sums)[4][4], const T* left,
                                                           const T* right, int row, int column) {
  for (int k = 0; k < tile::depth; ++k) {
    const four<T> x = *reinterpret_cast<const four<T>*>(left + k * tile::pitch + row);
    const four<T> y = *reinterpret_cast<const four<T>*>(right + k * tile::pitch + column);
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) sums[i][j] = add_product(sums[i][j], x.at[i], y.at[j]);
    }
  }
}

// Tile number `group`, of tile_groups(B, M, N), by the 256 threads of a block; `lane` is the
// number of the thread. `tiles` is shared memory for tile::storage elements, aligned to 16 bytes.
// All threads of a block pass the same group, and all reach every barrier.
template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS, class X, class Y, class Z>
inline void contract_tiles(X a, Y b, Z c, int group, int lane, T* tiles) {
  using P = product<T, B, M, N, K, ABS, ARS, ACS, BBS, BRS, BCS>;
  using Index = typename P::index;
  if constexpr (P::c_size > 0) {
    constexpr int across = (N + tile::edge - 1) / tile::edge;
    constexpr int per_batch = tile_groups(1, M, N);
    const Index batch = group / per_batch;
    const int first_row = group % per_batch / across * tile::edge;
    const int first_column = group % across * tile::edge;
    const int row = lane / 16 * 4;
    const int column = lane % 16 * 4;
    T* left_panel = tiles;
    T* right_panel = tiles + tile::depth * tile::pitch;
    const auto left_place = panel_place_of<ARS == 1 && ACS != 1>(lane);
    const auto right_place = panel_place_of<BCS == 1>(lane);
    T left[4], right[4];
    const auto read = [&](int k) {
      read_panel<M, K>(left, left_place, a, batch * P::a_batch, P::a_row, P::a_k, first_row, k);
      read_panel<N, K>(right, right_place, b, batch * P::b_batch, P::b_column, P::b_k,
                       first_column, k);
    };
    typename P::sum sums[4][4] = {};
    read(0);
    for (int k = 0; k < K; k += tile::depth) {
      __syncthreads();  // until nobody reads the step before, or the tile before
      write_panel(left, left_place, left_panel);
      write_panel(right, right_place, right_panel);
      __syncthreads();
      // The next step is on its way while this one is multiplied.
      if (k + tile::depth < K) read(k + tile::depth);
      multiply_panels(sums, left_panel, right_panel, row, column);
    }
    const int n = first_column + column;
    Z const corner = c + ((batch * M + first_row + row) * N + n);
    // Four doubles fill a sector of memory whichever way they are stored, and registers are few.
    constexpr bool is_narrow = sizeof(T) < 8 && N % 4 == 0;
    if (is_narrow && reinterpret_cast<std::size_t>(c) % alignof(four<T>) == 0) {
      for (int i = 0; i < 4; ++i) {
        four<T> part;
        for (int j = 0; j < 4; ++j) part.at[j] = static_cast<T>(sums[i][j]);
        if (first_row + row + i < M && n < N) *reinterpret_cast<four<T>*>(corner + i * N) = part;
      }
    } else {
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) {
          if (first_row + row + i < M && n + j < N) {
            corner[i * N + j] = static_cast<T>(sums[i][j]);
          }
        }
      }
    }
  }
}

}  // namespace anvil_rt
