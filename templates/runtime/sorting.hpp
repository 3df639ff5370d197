#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

// Stable sorting without a heap, in the order of jax.lax.sort.
//
// Several arrays are sorted together by sorting their positions first (`sort_order`) and then
// moving each array into that order (`reorder`). `stride` is the distance between neighbours along
// the sorted axis; the caller loops over the other axes.

namespace anvil_rt {

// Numbers ascend, both zeros are equal, and NaN, whatever its sign, comes last.
template <class T>
constexpr bool sort_less(T a, T b) {
  return a < b || (b != b && a == a);
}

// Lexicographic order of positions i and j over several keys.
template <class Key, class... Keys>
constexpr bool position_less(long i, long j, const Key* key, const Keys*... keys) {
  if constexpr (sizeof...(Keys) == 0) {
    return sort_less(key[i], key[j]);
  } else {
    if (sort_less(key[i], key[j])) return true;
    return !sort_less(key[j], key[i]) && position_less(i, j, keys...);
  }
}

// Sorts the positions in `order` by `less`: insertion within runs of 16, then merging of
// neighbouring runs from one buffer into the other. Equal elements keep their order.
template <int N, class Less>
inline void stable_sort_positions(std::int32_t* order, std::int32_t* scratch, Less less) {
  constexpr int shortest = 16;
  for (int start = 0; start < N; start += shortest) {
    const int stop = N - start < shortest ? N : start + shortest;
    for (int i = start + 1; i < stop; ++i) {
      const std::int32_t moved = order[i];
      int hole = i;
      for (; hole > start && less(moved, order[hole - 1]); --hole) order[hole] = order[hole - 1];
      order[hole] = moved;
    }
  }
  std::int32_t* from = order;
  std::int32_t* to = scratch;
  for (long run = shortest; run < N; run *= 2) {
    for (long start = 0; start < N; start += 2 * run) {
      const long middle = N - start < run ? N : start + run;
      const long stop = N - start < 2 * run ? N : start + 2 * run;
      long left = start;
      long right = middle;
      for (long i = start; i < stop; ++i) {
        const bool take_right =
            right < stop && (left >= middle || less(from[right], from[left]));
        to[i] = take_right ? from[right++] : from[left++];
      }
    }
    std::int32_t* swapped = from;
    from = to;
    to = swapped;
  }
  if (from != order) {
    for (int i = 0; i < N; ++i) order[i] = from[i];
  }
}

// Positions 0 .. N-1 in ascending order of the keys, the first key deciding first. `order` and
// `scratch` hold N numbers each.
template <int N, class... Keys>
inline void sort_order(long stride, std::int32_t* order, std::int32_t* scratch,
                       const Keys*... keys) {
  for (int i = 0; i < N; ++i) order[i] = i;
  stable_sort_positions<N>(order, scratch, [=](std::int32_t i, std::int32_t j) {
    return position_less(i * stride, j * stride, keys...);
  });
}

// The order of jax.lax.top_k, which is stricter: -0 below +0, NaN above infinity, and a NaN with
// the sign bit set below everything.
template <class T>
inline bool total_less(T a, T b) {
  if (a < b || b < a) return a < b;
  if constexpr (std::is_floating_point<T>::value) {
    const int a_rank = a == a ? 0 : (std::signbit(a) ? -1 : 1);
    const int b_rank = b == b ? 0 : (std::signbit(b) ? -1 : 1);
    return a_rank < b_rank || (a_rank == b_rank && std::signbit(a) && !std::signbit(b));
  }
  return false;
}

// Positions in descending order of one key, equal elements still by ascending position.
template <int N, class T>
inline void top_k_order(long stride, std::int32_t* order, std::int32_t* scratch, const T* key) {
  for (int i = 0; i < N; ++i) order[i] = i;
  stable_sort_positions<N>(order, scratch, [=](std::int32_t i, std::int32_t j) {
    return total_less(key[j * stride], key[i * stride]);
  });
}

// out[i] = in[order[i]] for the first N positions of `order`; the arrays do not overlap.
template <int N, class T>
inline void reorder(long stride, const std::int32_t* order, const T* __restrict__ in,
                    T* __restrict__ out) {
  for (int i = 0; i < N; ++i) out[i * stride] = in[order[i] * stride];
}

}  // namespace anvil_rt
