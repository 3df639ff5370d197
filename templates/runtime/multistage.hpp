#pragma once

#include "sqp_program.hpp"

// Nonlinear programs over stages z_0, ..., z_N of equal size, as in optimal control: a Model
// (sqp_program.hpp) made from functions of one stage and the next. One loop over the stages
// evaluates them and puts their derivatives into the places of the large matrices, so that the code
// does not grow with N.
//
// `Stages` describes them: Real, horizon N, size of a stage, global_parameters and
// stage_parameters, and the functions
//   first(z, pg, p, f, c, g, scratch)       additional terms of stage 0; only if has_first
//   stage(z, next, pg, p, f, c, g, scratch) stages 0, ..., N - 1; rows that link z to the next
//                                           stage come last
//   last(z, pg, p, f, c, g, scratch)        stage N
//   derive_first, derive_stage, derive_last (..., y, w, df, dc, dg, h, scratch)
// For both kinds of rows there are sizes first_rows, own_rows (links included), last_rows, and the
// entries of the Jacobians: first, own, next, last, each by ascending columns. Entries `next` have
// rows of a stage and columns of the next one. The Hessian's are in upper triangles: first, own,
// cross (rows of a stage, columns of the next), next, last.

namespace anvil_rt {

struct stage_entries {
  int count;
  const int* rows;
  const int* columns;
};

// What becomes of a row: row `slot` of a stage's general rows, or if slot < 0 a bound of the
// variable at place -1 - slot, whose coefficient in the row is `scale`.
struct stage_row {
  int slot;
  double scale;
};

struct stage_row_map {
  const stage_row* first;
  const stage_row* own;
  const stage_row* last;
};

// Where the entries of a Jacobian of rows `Rows` are stored: positions within the columns of one
// stage. Columns of stage k hold entries of the links of stage k - 1, then of its own rows.
template <class Rows, int N, int Size>
struct stage_jacobian {
  static constexpr int head = Rows::first.count + Rows::own.count;  // entries of stage 0,
  static constexpr int body = Rows::next.count + Rows::own.count;   // of 1, ..., N - 1,
  static constexpr int tail = Rows::next.count + Rows::last.count;  // and of N
  static constexpr int entries = head + (N - 1) * body + tail;
  static constexpr int rows = Rows::first_rows + N * Rows::own_rows + Rows::last_rows;

  int first_slot[at_least_one(Rows::first.count)];
  int own_head_slot[at_least_one(Rows::own.count)], own_slot[at_least_one(Rows::own.count)];
  int next_slot[at_least_one(Rows::next.count)], next_tail_slot[at_least_one(Rows::next.count)];
  int last_slot[at_least_one(Rows::last.count)];

  static constexpr int start(int k) { return k == 0 ? 0 : head + (k - 1) * body; }
  static constexpr int row(int k) { return Rows::first_rows + k * Rows::own_rows; }
  const int* own_slots(int k) const { return k == 0 ? own_head_slot : own_slot; }
  const int* next_slots(int k) const { return k == N ? next_tail_slot : next_slot; }

  void setup(int* starts, int* row_of) {
    int position = 0;
    for (int k = 0; k <= N; ++k) {
      int next = 0, first = 0, own = 0, last = 0;
      for (int j = 0; j < Size; ++j) {
        starts[k * Size + j] = position;
        const auto take = [&](const stage_entries& part, int& e, int base, int* slot) {
          for (; e < part.count && part.columns[e] == j; ++e) {
            row_of[position] = base + part.rows[e];
            slot[e] = position++ - start(k);
          }
        };
        if (k > 0) take(Rows::next, next, row(k - 1), k == N ? next_tail_slot : next_slot);
        if (k == 0) take(Rows::first, first, 0, first_slot);
        if (k < N) take(Rows::own, own, row(k), k == 0 ? own_head_slot : own_slot);
        if (k == N) take(Rows::last, last, row(N), last_slot);
      }
    }
    starts[(N + 1) * Size] = position;
  }

  template <class T>
  static void scatter(int count, const T* values, const int* slot, T* to) {
    for (int e = 0; e < count; ++e) to[slot[e]] = values[e];
  }
};

// The same for the Hessian: columns of stage k hold the entries that cross from stage k - 1, then
// the full upper triangle of their block.
template <class Stages>
struct stage_hessian {
  static constexpr int N = Stages::horizon;
  static constexpr int size = Stages::size;
  static constexpr int triangle = size * (size + 1) / 2;
  static constexpr int body = triangle + Stages::hessian_cross.count;
  static constexpr int entries = triangle + N * body;

  int first_slot[at_least_one(Stages::hessian_first.count)];
  int own_head_slot[at_least_one(Stages::hessian_own.count)];
  int own_slot[at_least_one(Stages::hessian_own.count)];
  int cross_slot[at_least_one(Stages::hessian_cross.count)];
  int next_slot[at_least_one(Stages::hessian_next.count)];
  int last_slot[at_least_one(Stages::hessian_last.count)];
  int crossing[size + 1];  // entries that cross into columns before this one

  static constexpr int start(int k) { return k == 0 ? 0 : triangle + (k - 1) * body; }
  // Of entry (i, j), i <= j, in the block of stage k.
  int block_slot(int k, int i, int j) const {
    return j * (j + 1) / 2 + i + (k == 0 ? 0 : crossing[j + 1]);
  }

  void setup(int* starts, int* row_of) {
    int e = 0;
    for (int j = 0; j < size; ++j) {
      crossing[j] = e;
      for (; e < Stages::hessian_cross.count && Stages::hessian_cross.columns[e] == j; ++e) {
        cross_slot[e] = j * (j + 1) / 2 + e;
      }
    }
    crossing[size] = e;
    place(Stages::hessian_first, 0, first_slot);
    place(Stages::hessian_own, 0, own_head_slot);
    place(Stages::hessian_own, 1, own_slot);
    place(Stages::hessian_next, 1, next_slot);
    place(Stages::hessian_last, 1, last_slot);
    int position = 0;
    for (int k = 0; k <= N; ++k) {
      for (int j = 0; j < size; ++j) {
        starts[k * size + j] = position;
        for (int c = crossing[j]; k > 0 && c < crossing[j + 1]; ++c) {
          row_of[position++] = (k - 1) * size + Stages::hessian_cross.rows[c];
        }
        for (int i = 0; i <= j; ++i) row_of[position++] = k * size + i;
      }
    }
    starts[(N + 1) * size] = position;
  }

  void place(const stage_entries& part, int k, int* slot) const {
    for (int e = 0; e < part.count; ++e) slot[e] = block_slot(k, part.rows[e], part.columns[e]);
  }

  template <class T>
  static void add(int count, const T* values, const int* slot, T* to) {
    for (int e = 0; e < count; ++e) to[slot[e]] += values[e];
  }
};

template <class Stages>
struct multistage_model {
  using Real = typename Stages::Real;
  using T = Real;
  static constexpr int N = Stages::horizon;
  static constexpr int size = Stages::size;
  using Equalities = typename Stages::equality;
  using Inequalities = typename Stages::inequality;
  using equality_layout = stage_jacobian<Equalities, N, size>;
  using inequality_layout = stage_jacobian<Inequalities, N, size>;
  using hessian_layout = stage_hessian<Stages>;

  static constexpr int variables = (N + 1) * size;
  static constexpr int equalities = equality_layout::rows;
  static constexpr int inequalities = inequality_layout::rows;
  static constexpr int initial_equalities = Equalities::first_rows;
  static constexpr int parameters =
      Stages::global_parameters + (N + 1) * Stages::stage_parameters;
  static constexpr int hessian_entries = hessian_layout::entries;
  static constexpr int equality_entries = equality_layout::entries;
  static constexpr int inequality_entries = inequality_layout::entries;
  static constexpr int largest_block = size;
  static constexpr bool quasi_newton = Stages::quasi_newton;

  csc_pattern hessian, equality, inequality;
  block_partition blocks;
  equality_layout equality_place;
  inequality_layout inequality_place;
  hessian_layout hessian_place;

  void setup() {
    equality_place.setup(equality_starts, equality_rows);
    inequality_place.setup(inequality_starts, inequality_rows);
    hessian_place.setup(hessian_starts, hessian_rows);
    for (int j = 0; j < variables; ++j) block_variables[j] = j;
    for (int k = 0; k <= N + 1; ++k) block_starts[k] = k * size;
    hessian = {variables, hessian_starts, hessian_rows};
    equality = {variables, equality_starts, equality_rows};
    inequality = {variables, inequality_starts, inequality_rows};
    blocks = {N + 1, block_starts, block_variables};
  }

  void evaluate(const T* x, const T* p, T* objective, T* c, T* g) {
    const T* own = p + Stages::global_parameters;
    T total = T(0), term = T(0);
    if constexpr (Stages::has_first) {
      Stages::first(x, p, own, &term, c, g, scratch);
      total += term;
    }
    for (int k = 0; k < N; ++k) {
      const T* z = x + k * size;
      Stages::stage(z, z + size, p, own + k * Stages::stage_parameters, &term,
                    c + equality_layout::row(k), g + inequality_layout::row(k), scratch);
      total += term;
    }
    Stages::last(x + N * size, p, own + N * Stages::stage_parameters, &term,
                 c + equality_layout::row(N), g + inequality_layout::row(N), scratch);
    *objective = total + term;
  }

  void differentiate(const T* x, const T* p, const T* y, const T* w, T* gradient, T* dc, T* dg,
                     T* h) {
    const T* own = p + Stages::global_parameters;
    if constexpr (!quasi_newton) {
      for (int e = 0; e < hessian_entries; ++e) h[e] = T(0);
    }
    for (int k = 0; k < N; ++k) {
      const T* z = x + k * size;
      T c[at_least_one(Equalities::own.count + Equalities::next.count)];
      T g[at_least_one(Inequalities::own.count + Inequalities::next.count)];
      T curved[at_least_one(Stages::hessian_own.count + Stages::hessian_cross.count +
                            Stages::hessian_next.count)];
      Stages::derive_stage(z, z + size, p, own + k * Stages::stage_parameters,
                           y + equality_layout::row(k), w + inequality_layout::row(k),
                           gradient + k * size, c, g, curved, scratch);
      put(equality_place, k, c, dc);
      put(inequality_place, k, g, dg);
      if constexpr (!quasi_newton) {
        const hessian_layout& place = hessian_place;
        const T* crossing = curved + Stages::hessian_own.count;
        const T* next = crossing + Stages::hessian_cross.count;
        place.add(Stages::hessian_own.count, curved,
                  k == 0 ? place.own_head_slot : place.own_slot, h + place.start(k));
        place.add(Stages::hessian_cross.count, crossing, place.cross_slot, h + place.start(k + 1));
        place.add(Stages::hessian_next.count, next, place.next_slot, h + place.start(k + 1));
      }
    }
    if constexpr (Stages::has_first) derive_first(x, p, own, y, w, gradient, dc, dg, h);
    derive_last(x + N * size, p, own + N * Stages::stage_parameters, y, w, gradient + N * size, dc,
                dg, h);
  }

  // Move variables and multipliers on by one stage; those of the last stage stay.
  static void shift(T* x, T* bounds, T* y, T* w) {
    const auto move = [](T* first, int stride, int count) {
      for (int i = 0; i < (count - 1) * stride; ++i) first[i] = first[i + stride];
    };
    move(x, size, N + 1);
    move(bounds, size, N + 1);
    move(y + Equalities::first_rows, Equalities::own_rows, N);
    move(w + Inequalities::first_rows, Inequalities::own_rows, N);
    // The new last inputs are those before them: what was at N had none.
    for (int j = 0; j < size; ++j) {
      if (!Stages::is_state(j)) x[(N - 1) * size + j] = x[(N > 1 ? N - 2 : 0) * size + j];
    }
  }

 private:
  template <class Layout>
  static void put(const Layout& place, int k, const T* values, T* to) {
    using Rows = std::conditional_t<std::is_same_v<Layout, equality_layout>, Equalities,
                                    Inequalities>;
    place.scatter(Rows::own.count, values, place.own_slots(k), to + place.start(k));
    place.scatter(Rows::next.count, values + Rows::own.count, place.next_slots(k + 1),
                  to + place.start(k + 1));
  }

  void derive_first(const T* z, const T* p, const T* own, const T* y, const T* w, T* gradient,
                    T* dc, T* dg, T* h) {
    T slope[at_least_one(size)], c[at_least_one(Equalities::first.count)];
    T g[at_least_one(Inequalities::first.count)];
    T curved[at_least_one(Stages::hessian_first.count)];
    Stages::derive_first(z, p, own, y, w, slope, c, g, curved, scratch);
    for (int j = 0; j < size; ++j) gradient[j] += slope[j];
    equality_place.scatter(Equalities::first.count, c, equality_place.first_slot, dc);
    inequality_place.scatter(Inequalities::first.count, g, inequality_place.first_slot, dg);
    if constexpr (!quasi_newton) {
      hessian_place.add(Stages::hessian_first.count, curved, hessian_place.first_slot, h);
    }
  }

  void derive_last(const T* z, const T* p, const T* own, const T* y, const T* w, T* gradient,
                   T* dc, T* dg, T* h) {
    T c[at_least_one(Equalities::last.count)], g[at_least_one(Inequalities::last.count)];
    T curved[at_least_one(Stages::hessian_last.count)];
    Stages::derive_last(z, p, own, y + equality_layout::row(N), w + inequality_layout::row(N),
                        gradient, c, g, curved, scratch);
    equality_place.scatter(Equalities::last.count, c, equality_place.last_slot,
                           dc + equality_place.start(N));
    inequality_place.scatter(Inequalities::last.count, g, inequality_place.last_slot,
                             dg + inequality_place.start(N));
    if constexpr (!quasi_newton) {
      hessian_place.add(Stages::hessian_last.count, curved, hessian_place.last_slot,
                        h + hessian_place.start(N));
    }
  }

  alignas(64) unsigned char scratch[at_least_one(Stages::scratch_size)];
  int equality_starts[variables + 1], equality_rows[at_least_one(equality_entries)];
  int inequality_starts[variables + 1], inequality_rows[at_least_one(inequality_entries)];
  int hessian_starts[variables + 1], hessian_rows[hessian_entries];
  int block_starts[N + 2], block_variables[variables];
};

}  // namespace anvil_rt
