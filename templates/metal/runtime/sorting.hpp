#pragma once

// Stable sorting without a heap, in the order of jax.lax.sort. Shadows runtime/sorting.hpp:
// pointers to any address space are deduced, and the orders are structures instead of lambdas.
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

// Lexicographic order of positions over several keys.
template <class Key, class... Keys>
struct key_order {
  long stride;
  Key key;
  key_order<Keys...> later;

  bool operator()(int i, int j) const {
    const auto x = key[i * stride];
    const auto y = key[j * stride];
    if (sort_less(x, y)) return true;
    return !sort_less(y, x) && later(i, j);
  }
};
template <class Key>
struct key_order<Key> {
  long stride;
  Key key;

  bool operator()(int i, int j) const { return sort_less(key[i * stride], key[j * stride]); }
};

template <class Key>
inline key_order<Key> order_by(long stride, Key key) {
  return {stride, key};
}
template <class Key, class Next, class... Keys>
inline key_order<Key, Next, Keys...> order_by(long stride, Key key, Next next, Keys... keys) {
  return {stride, key, order_by(stride, next, keys...)};
}

// Neighbouring sorted runs of length `run` in `from` merged into `to`. Equal elements keep their
// order.
template <int N, class From, class To, class Less>
inline void merge_runs(From from, To to, int run, Less less) {
  for (int start = 0; start < N; start += 2 * run) {
    const int middle = N - start < run ? N : start + run;
    const int stop = N - start < 2 * run ? N : start + 2 * run;
    int left = start;
    int right = middle;
    for (int i = start; i < stop; ++i) {
      const bool take_right = right < stop && (left >= middle || less(from[right], from[left]));
      to[i] = take_right ? from[right++] : from[left++];
    }
  }
}

// Sorts the positions in `order` by `less`: insertion within runs of 16, then merging from one
// buffer into the other and back, since the two may lie in different address spaces.
template <int N, class Order, class Scratch, class Less>
inline void stable_sort_positions(Order order, Scratch scratch, Less less) {
  constexpr int shortest = 16;
  for (int start = 0; start < N; start += shortest) {
    const int stop = N - start < shortest ? N : start + shortest;
    for (int i = start + 1; i < stop; ++i) {
      const int moved = order[i];
      int hole = i;
      for (; hole > start && less(moved, order[hole - 1]); --hole) order[hole] = order[hole - 1];
      order[hole] = moved;
    }
  }
  // 4 run neither overflows nor is needed beyond N.
  for (int run = shortest; run < N;) {
    merge_runs<N>(order, scratch, run, less);
    if (run > N / 2) {
      for (int i = 0; i < N; ++i) order[i] = scratch[i];
      return;
    }
    merge_runs<N>(scratch, order, 2 * run, less);
    if (run > N / 4) return;
    run *= 4;
  }
}

// Positions 0 .. N-1 in ascending order of the keys, the first key deciding first. `order` and
// `scratch` hold N numbers each.
template <int N, class Order, class Scratch, class... Keys>
inline void sort_order(long stride, Order order, Scratch scratch, Keys... keys) {
  for (int i = 0; i < N; ++i) order[i] = i;
  stable_sort_positions<N>(order, scratch, order_by(stride, keys...));
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

// Descending order of one key.
template <class Key>
struct top_order {
  long stride;
  Key key;

  bool operator()(int i, int j) const {
    const auto x = key[i * stride];
    const auto y = key[j * stride];
    return total_less(y, x);
  }
};

// Positions in descending order of one key, equal elements still by ascending position.
template <int N, class Order, class Scratch, class Key>
inline void top_k_order(long stride, Order order, Scratch scratch, Key key) {
  for (int i = 0; i < N; ++i) order[i] = i;
  const top_order<Key> less = {stride, key};
  stable_sort_positions<N>(order, scratch, less);
}

// out[i] = in[order[i]] for the first N positions of `order`; the arrays do not overlap.
template <int N, class Order, class In, class Out>
inline void reorder(long stride, Order order, In in, Out out) {
  for (int i = 0; i < N; ++i) out[i * stride] = in[order[i] * stride];
}

}  // namespace anvil_rt
