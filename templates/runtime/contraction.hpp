#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// Batched matrix products of fixed size, in registers.
//
// Everything about the shapes is known at compile time, so each product picks its loops by
// `if constexpr`: vectors along the columns of C, along its rows, along the summed index, or a
// plain loop. There are no masks: the last vector of a row overlaps the one before it and writes
// the same values again. Blocking follows Goto and van de Geijn, "Anatomy of high-performance
// matrix multiplication" (2008), reduced to one level.

namespace anvil_rt {

// Integers are multiplied as unsigned, where overflow wraps around as in JAX.
template <class T>
struct lane_of {
  using type = typename std::make_unsigned<T>::type;
  // For single numbers: wide enough not to be promoted to int.
  using sum = typename std::conditional<sizeof(T) == 8, std::uint64_t, std::uint32_t>::type;
};
template <>
struct lane_of<float> {
  using type = float;
  using sum = float;
};
template <>
struct lane_of<double> {
  using type = double;
  using sum = double;
};

template <class T, int W>
struct lanes {
  typedef typename lane_of<T>::type type __attribute__((vector_size(W * sizeof(T))));
};

// Vector registers: how many numbers they hold, and how many of them may hold sums (some must be
// left for the operands).
template <class T>
constexpr int register_lanes() {
#if defined(__AVX512F__)
  return static_cast<int>(64 / sizeof(T));
#elif defined(__AVX__)
  return static_cast<int>(32 / sizeof(T));
#else
  return static_cast<int>(16 / sizeof(T));
#endif
}

template <class T>
constexpr int register_sums() {
#if defined(__AVX512F__) || defined(__aarch64__)
  return 24;
#else
  return 12;
#endif
}

// Largest power of two up to both arguments.
template <class Int>
constexpr Int lanes_within(Int count, Int most) {
  Int width = 1;
  while (2 * width <= count && 2 * width <= most) width *= 2;
  return width;
}

// f(0), f(1), ... with constants, which unrolls at every level of optimisation.
template <class F, int... I>
__attribute__((always_inline)) inline void repeat(F f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>()), ...);
}
template <int N, class F>
__attribute__((always_inline)) inline void repeat(F f) {
  repeat(f, std::make_integer_sequence<int, N>());
}

// Sum over the lanes by halves.
template <class T, int W, class Vector>
__attribute__((always_inline)) inline typename lane_of<T>::sum sum_lanes(const Vector& v) {
  if constexpr (W == 1) {
    return v[0];
  } else {
    typename lanes<T, W / 2>::type low, high;
    std::memcpy(&low, &v, sizeof(low));
    std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(low), sizeof(high));
    low += high;
    return sum_lanes<T, W / 2>(low);
  }
}

// Strides of the two operands and of the result as one type. X is the operand of which single
// numbers are broadcast, Y the one that is read in vectors along its second index:
// C[r, c] = sum_k X[r, k] Y[k, c].
template <long XR, long XK, long YK, long CR, long CC>
struct strides {
  static constexpr long x_row = XR, x_k = XK, y_k = YK, row = CR, column = CC;
};

// R rows and V vectors of C, held in registers while k runs. Vector v covers the columns from
// v * W on, the last one those from `Last` on. Few sums would wait for each other, so k is then
// split over several sets of them.
template <class T, int W, int R, int V, int Last, class S>
inline void contract_block(const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ c,
                           int count, bool add) {
  using Vector = typename lanes<T, W>::type;
  using Lane = typename lane_of<T>::type;
  constexpr int sets = R * V >= 8 ? 1 : (R * V >= 4 ? 2 : (R * V >= 2 ? 4 : 8));
  Vector sums[sets * R * V] = {};
  const auto step = [&](auto set, int k) __attribute__((always_inline)) {
    Vector ys[V];
    repeat<V>([&](auto v) __attribute__((always_inline)) {
      constexpr int offset = v == V - 1 ? Last : v * W;
      std::memcpy(&ys[v], y + k * S::y_k + offset, sizeof(Vector));
    });
    repeat<R>([&](auto r) __attribute__((always_inline)) {
      const Lane factor = static_cast<Lane>(x[r * S::x_row + k * S::x_k]);
      repeat<V>([&](auto v) __attribute__((always_inline)) {
        sums[(set * R + r) * V + v] += factor * ys[v];
      });
    });
  };
  const int whole = count - count % sets;
  for (int k = 0; k < whole; k += sets) {
    repeat<sets>([&](auto set) __attribute__((always_inline)) { step(set, k + set); });
  }
  if constexpr (sets > 1) {
    for (int k = whole; k < count; ++k) step(std::integral_constant<int, 0>(), k);
    repeat<(sets - 1) * R * V>([&](auto i) __attribute__((always_inline)) {
      sums[i % (R * V)] += sums[i + R * V];
    });
  }
  repeat<R>([&](auto r) __attribute__((always_inline)) {
    T* row = c + r * S::row;
    if constexpr (S::column == 1) {
      // All of the row is read before any of it is written: the last two vectors may overlap.
      if (add) {
        repeat<V>([&](auto v) __attribute__((always_inline)) {
          Vector old;
          std::memcpy(&old, row + (v == V - 1 ? Last : v * W), sizeof(Vector));
          sums[r * V + v] += old;
        });
      }
      repeat<V>([&](auto v) __attribute__((always_inline)) {
        std::memcpy(row + (v == V - 1 ? Last : v * W), &sums[r * V + v], sizeof(Vector));
      });
    } else {
      repeat<V>([&](auto v) __attribute__((always_inline)) {
        for (int lane = 0; lane < W; ++lane) {
          row[((v == V - 1 ? Last : v * W) + lane) * S::column] =
              static_cast<T>(sums[r * V + v][lane]);
        }
      });
    }
  });
}

// All rows of one panel of columns.
template <class T, int W, int Rows, int V, int Last, class S>
inline void contract_rows(const T* x, const T* y, T* c, int count, bool add) {
  constexpr int most = register_sums<T>() / V;
  constexpr int R = Rows < most ? Rows : (most < 8 ? most : 8);
  for (int r = 0; r + R <= Rows; r += R) {
    contract_block<T, W, R, V, Last, S>(x + r * S::x_row, y, c + r * S::row, count, add);
  }
  if constexpr (Rows % R != 0) {
    constexpr int r = Rows - Rows % R;
    contract_block<T, W, Rows % R, V, Last, S>(x + r * S::x_row, y, c + r * S::row, count, add);
  }
}

// How many vectors wide a panel is, for all columns to fall into panels of nearly equal width.
template <class T>
constexpr int panel_vectors(int rows, int vectors) {
  const int wide = register_sums<T>() / (rows < 6 ? rows : 6);
  const int most = wide < 8 ? wide : 8;
  const int panels = (vectors + most - 1) / most;
  return (vectors + panels - 1) / panels;
}

// Vectors along the columns, Y read in place.
template <class T, int Rows, int Columns, int K, class S>
inline void contract_columns(const T* x, const T* y, T* c) {
  constexpr int W = lanes_within(Columns, register_lanes<T>());
  constexpr int vectors = (Columns + W - 1) / W;
  constexpr int V = panel_vectors<T>(Rows, vectors);
  constexpr int panels = (vectors - 1) / V;  // before the last one
  for (int p = 0; p < panels; ++p) {
    const long first = p * V * W;
    contract_rows<T, W, Rows, V, (V - 1) * W, S>(x, y + first, c + first * S::column, K, false);
  }
  // A last panel of one vector has nothing to overlap with but the panel before it.
  constexpr int rest = vectors - panels * V;
  constexpr int first = rest == 1 ? Columns - W : panels * V * W;
  contract_rows<T, W, Rows, rest, Columns - first - W, S>(x, y + first, c + first * S::column, K,
                                                          false);
}

// Vectors along the columns, Y copied panel by panel to where it is contiguous: for a Y with any
// strides, or one whose rows are too far apart to stay in the cache.
template <class T, int W, int Rows, int V, int Last, int K, long YK, long YC, class S>
inline void contract_packed_panel(const T* x, const T* y, T* c) {
  constexpr int width = Last + W;
  constexpr int depth = K < 128 ? K : 128;
  using Packed = strides<S::x_row, S::x_k, width, S::row, S::column>;
  alignas(64) T buffer[depth * width];
  for (int start = 0; start < K; start += depth) {
    const int count = K - start < depth ? K - start : depth;
    for (int k = 0; k < count; ++k) {
      for (int j = 0; j < width; ++j) buffer[k * width + j] = y[(start + k) * YK + j * YC];
    }
    contract_rows<T, W, Rows, V, Last, Packed>(x + start * S::x_k, buffer, c, count, start > 0);
  }
}

template <class T, int Rows, int Columns, int K, long YK, long YC, class S>
inline void contract_packed(const T* x, const T* y, T* c) {
  constexpr int W = lanes_within(Columns, register_lanes<T>());
  constexpr int vectors = (Columns + W - 1) / W;
  constexpr int V = panel_vectors<T>(Rows, vectors);
  constexpr int panels = (vectors - 1) / V;
  for (int p = 0; p < panels; ++p) {
    const long first = p * V * W;
    contract_packed_panel<T, W, Rows, V, (V - 1) * W, K, YK, YC, S>(x, y + first * YC, c + first);
  }
  constexpr int rest = vectors - panels * V;
  constexpr int first = rest == 1 ? Columns - W : panels * V * W;
  contract_packed_panel<T, W, Rows, rest, Columns - first - W, K, YK, YC, S>(x, y + first * YC,
                                                                             c + first);
}

// Vectors along k: both operands are contiguous there. R rows at a time share the loads of y.
template <class T, int R, int K, long XR, long CR>
inline void dot_rows(const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ c) {
  using Sum = typename lane_of<T>::sum;
  constexpr int W = lanes_within(K, register_lanes<T>());
  constexpr int sets = R >= 4 ? 2 : (R >= 2 ? 4 : 8);
  using Vector = typename lanes<T, W>::type;
  Vector sums[sets * R] = {};
  const auto step = [&](auto set, int k) __attribute__((always_inline)) {
    Vector right;
    std::memcpy(&right, y + k, sizeof(Vector));
    repeat<R>([&](auto r) __attribute__((always_inline)) {
      Vector left;
      std::memcpy(&left, x + r * XR + k, sizeof(Vector));
      sums[set * R + r] += left * right;
    });
  };
  constexpr int whole = K - K % (sets * W);
  for (int k = 0; k < whole; k += sets * W) {
    repeat<sets>([&](auto set) __attribute__((always_inline)) { step(set, k + set * W); });
  }
  for (int k = whole; k + W <= K; k += W) step(std::integral_constant<int, 0>(), k);
  repeat<(sets - 1) * R>([&](auto i) __attribute__((always_inline)) {
    sums[i % R] += sums[i + R];
  });
  repeat<R>([&](auto r) __attribute__((always_inline)) {
    Sum sum = sum_lanes<T, W>(sums[r]);
    for (int i = K - K % W; i < K; ++i) {
      sum += static_cast<Sum>(x[r * XR + i]) * static_cast<Sum>(y[i]);
    }
    c[r * CR] = static_cast<T>(sum);
  });
}

template <class T, int Rows, int Columns, int K, long XR, long YC, long CR, long CC>
inline void contract_dots(const T* x, const T* y, T* c) {
  constexpr int R = Rows < 4 ? Rows : 4;
  for (int j = 0; j < Columns; ++j) {
    for (int i = 0; i + R <= Rows; i += R) {
      dot_rows<T, R, K, XR, CR>(x + i * XR, y + j * YC, c + i * CR + j * CC);
    }
    if constexpr (Rows % R != 0) {
      constexpr int i = Rows - Rows % R;
      dot_rows<T, Rows % R, K, XR, CR>(x + i * XR, y + j * YC, c + i * CR + j * CC);
    }
  }
}

// C[b, m, n] = sum over k of A[b, m, k] B[b, k, n]. C is dense and row-major; A and B have the
// strides given, in elements: of the batch, the row and the column. An empty sum is 0; a sum of
// products of bool is true if any product is. The order of the summands is not specified.
template <class T, int B, int M, int N, int K, long ABS, long ARS, long ACS, long BBS, long BRS,
          long BCS>
inline void contract(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ c) {
  constexpr int width = register_lanes<T>();
  // A stride counts only where there is a second element.
  constexpr bool rows_adjacent = ARS == 1 && M > 1;
  constexpr bool columns_adjacent = BCS == 1 && N > 1;
  constexpr bool sum_adjacent = ACS == 1 && BRS == 1 && K >= width;
  // Half the first-level cache; a larger Y is worth copying if it is used often enough.
  constexpr bool large = static_cast<long>(K) * N * static_cast<long>(sizeof(T)) > 49152 && M >= 16;
  for (int batch = 0; batch < B; ++batch, a += ABS, b += BBS, c += static_cast<long>(M) * N) {
    if constexpr (std::is_same<T, bool>::value) {
      for (int m = 0; m < M; ++m) {
        for (int n = 0; n < N; ++n) {
          bool any = false;
          for (int k = 0; k < K; ++k) any = any || (a[m * ARS + k * ACS] && b[k * BRS + n * BCS]);
          c[m * N + n] = any;
        }
      }
    } else if constexpr (M == 0 || N == 0) {
      return;
    } else if constexpr (K == 0) {
      for (int i = 0; i < M * N; ++i) c[i] = T(0);
    } else if constexpr (columns_adjacent && !large && (N >= M || N >= width || !rows_adjacent)) {
      contract_columns<T, M, N, K, strides<ARS, ACS, BRS, N, 1>>(a, b, c);
    } else if constexpr (rows_adjacent && (N < width || M < 8)) {
      contract_columns<T, N, M, K, strides<BCS, BRS, ACS, 1, N>>(b, a, c);
    } else if constexpr (sum_adjacent && M >= N && N < 4) {
      contract_dots<T, M, N, K, ARS, BCS, N, 1>(a, b, c);
    } else if constexpr (sum_adjacent && M < 4) {
      contract_dots<T, N, M, K, BCS, ARS, 1, N>(b, a, c);
    } else if constexpr (M >= 4 && N > 1) {
      contract_packed<T, M, N, K, BRS, BCS, strides<ARS, ACS, 0, N, 1>>(a, b, c);
    } else {
      using Sum = typename lane_of<T>::sum;
      for (int m = 0; m < M; ++m) {
        for (int n = 0; n < N; ++n) {
          Sum sum = 0;
          for (int k = 0; k < K; ++k) {
            sum += static_cast<Sum>(a[m * ARS + k * ACS]) * static_cast<Sum>(b[k * BRS + n * BCS]);
          }
          c[m * N + n] = static_cast<T>(sum);
        }
      }
    }
  }
}

}  // namespace anvil_rt
