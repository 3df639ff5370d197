#pragma once

#include <cmath>
#include <type_traits>

// Stable sorting without a heap, in the order of jax.lax.sort.
//
// Several arrays are sorted together by sorting their positions first (`sort_order`) and then
// moving each array into that order (`reorder`). `stride` is the distance between neighbours along
// the sorted axis; the caller loops over the other axes. Types of pointers are deduced: on a GPU
// they may name an address space.

namespace anvil_rt {

// Numbers ascend, both zeros are equal, and NaN, whatever its sign, comes last.
template <class T>
constexpr bool sort_less(T a, T b) {
  return a < b || (b != b && a == a);
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

// How positions are ordered: lexicographically over several keys, or from the largest of one key
// on. These name an overload of `is_before`, where a lambda would not do on every target.
struct ascending_keys {};
struct descending_key {};

template <class Key, class... Keys>
constexpr bool is_before(ascending_keys order, long i, long j, Key key, Keys... keys) {
  if constexpr (sizeof...(Keys) == 0) {
    return sort_less(key[i], key[j]);
  } else {
    if (sort_less(key[i], key[j])) return true;
    return !sort_less(key[j], key[i]) && is_before(order, i, j, keys...);
  }
}

template <class Key>
inline bool is_before(descending_key, long i, long j, Key key) {
  return total_less(key[j], key[i]);
}

// Neighbouring sorted runs of length `run` in `from` merged into `to`.
template <int N, class Rule, class From, class To, class... Keys>
inline void merge_runs(int run, From from, To to, long stride, Keys... keys) {
  for (int start = 0; start < N;) {
    const int middle = N - start < run ? N : start + run;
    const int stop = N - middle < run ? N : middle + run;
    // As wide as an address, so that nothing is widened in the loop.
    long left = start;
    long right = middle;
    for (long i = start; i < stop; ++i) {
      const bool take_right =
          right < stop &&
          (left >= middle || is_before(Rule(), from[right] * stride, from[left] * stride, keys...));
      to[i] = take_right ? from[right++] : from[left++];
    }
    start = stop;
  }
}

// Sorts the positions in `order`: insertion within runs of 16, then merging of neighbouring runs
// from one buffer into the other and back. Equal elements keep their order.
template <int N, class Rule, class Order, class Scratch, class... Keys>
inline void stable_sort_positions(Order order, Scratch scratch, long stride, Keys... keys) {
  constexpr int shortest = 16;
  for (int start = 0; start < N; start += shortest) {
    const int stop = N - start < shortest ? N : start + shortest;
    for (int i = start + 1; i < stop; ++i) {
      const int moved = order[i];
      int hole = i;
      for (; hole > start; --hole) {
        if (!is_before(Rule(), moved * stride, order[hole - 1] * stride, keys...)) break;
        order[hole] = order[hole - 1];
      }
      order[hole] = moved;
    }
  }
  for (int run = shortest; run < N; run *= 4) {
    merge_runs<N, Rule>(run, order, scratch, stride, keys...);
    if (run >= N - run) {
      for (int i = 0; i < N; ++i) order[i] = scratch[i];
      return;
    }
    merge_runs<N, Rule>(2 * run, scratch, order, stride, keys...);
    if (2 * run >= N - 2 * run) return;
  }
}

// Positions 0 .. N-1 in ascending order of the keys, the first key deciding first. `order` and
// `scratch` hold N numbers each.
template <int N, class Order, class Scratch, class... Keys>
inline void sort_order(long stride, Order order, Scratch scratch, Keys... keys) {
  for (int i = 0; i < N; ++i) order[i] = i;
  stable_sort_positions<N, ascending_keys>(order, scratch, stride, keys...);
}

// Positions in descending order of one key, equal elements still by ascending position.
template <int N, class Order, class Scratch, class Key>
inline void top_k_order(long stride, Order order, Scratch scratch, Key key) {
  for (int i = 0; i < N; ++i) order[i] = i;
  stable_sort_positions<N, descending_key>(order, scratch, stride, key);
}

// out[i] = in[order[i]] for the first N positions of `order`; the arrays do not overlap.
template <int N, class Order, class In, class Out>
inline void reorder(long stride, Order order, In __restrict__ in, Out __restrict__ out) {
  for (int i = 0; i < N; ++i) out[i * stride] = in[order[i] * stride];
}

}  // namespace anvil_rt
