#pragma once

#include <algorithm>
#include <cmath>

#include "contraction.hpp"
#include "inverse.hpp"
#include "multistage.hpp"
#include "sqp_blocks.hpp"

// Quadratic programs of multistage problems in the form of optimal control: next states are affine
// functions of a stage's variables, and rows of one variable are bounds. Hessians are made convex by
// moving curvature along the dynamics.
//
// Besides what multistage.hpp asks for, `Stages` says how its rows map to that form:
//   states, rows            NX and NG of riccati_ipm
//   place[size]             of each variable of z in (x, u)
//   explicit_links          whether links are state - F(z), up to a sign, for each state
//   link_state[states]      the state that a link is solved for (explicit links)
//   link_sign[states]       its coefficient in the link, 1 or -1
//   fixes_initial_state     whether the first equalities determine x_0
//   equality_map, inequality_map   for rows first, own, last: see stage_row in multistage.hpp

namespace anvil_rt {

// `Data` has the data and the solution of riccati_ipm: hessian, gradient, jacobian, offset,
// lower_bound, upper_bound, row_penalty, value, row_multiplier, costate.
template <class Stages, class Data>
struct stage_form {
  using Model = multistage_model<Stages>;
  using T = typename Stages::Real;
  using Equalities = typename Stages::equality;
  using Inequalities = typename Stages::inequality;

  static constexpr int N = Stages::horizon;
  static constexpr int NZ = Stages::size;
  static constexpr int NX = Stages::states;
  static constexpr int NU = NZ - NX;
  static constexpr int NG = Stages::rows;
  static constexpr int NR = NX + NG;
  static constexpr int own_equalities = Equalities::own_rows - NX;  // without links
  static constexpr int stride = NZ + NG;
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr bool crosses = Stages::hessian_cross.count > 0;

  Data qp;
  bool is_shifted;  // curvature has been moved
  bool singular;    // links cannot be solved for the next state
  T original[N + 1][NZ * NZ];
  T moved[N + 1][at_least_one(NX * NX)];         // curvature moved from a stage to the one before
  // Of rows whose activity is predicted: added curvature, the side and its distance.
  T weight[N + 1][stride], target[N + 1][stride];
  bool at_upper[N + 1][stride];
  int lower_owner[N + 1][NZ], upper_owner[N + 1][NZ];
  T link_inverse[Stages::explicit_links ? 1 : N][at_least_one(NX * NX)];
  T crossing[crosses ? N : 1][at_least_one(NZ * NX)];

  // Take over the matrices; the program itself stays as it is.
  void prepare(const Model& model, const sqp_program<Model>& program, curvature kind) {
    singular = is_shifted = false;
    for (int k = 0; k <= N; ++k) {
      load_hessian(model, program, k);
      for (int i = 0; i < NR * NZ; ++i) qp.jacobian[k][i] = T(0);
      if (k < N) load_links(model, program, k);
      load_rows<Inequalities>(model.inequality_place, program.inequality,
                              Stages::inequality_map, Inequalities::own_rows, k);
      load_rows<Equalities>(model.equality_place, program.equality, Stages::equality_map,
                            own_equalities, k);
      if (Stages::hessian_cross.count > 0 && k < N) fold_crossing(model, program, k);
    }
    if (kind == curvature::exact) {
      for (int k = 0; k <= N; ++k) copy(qp.hessian[k], original[k], NZ * NZ);
      if (!make_convex(program)) {
        is_shifted = false;
        for (int k = 0; k <= N; ++k) copy(original[k], qp.hessian[k], NZ * NZ);
        kind = curvature::modified;
      }
    }
    if (kind == curvature::modified) modify_stages();
  }

  // Without general rows the comparison is known.
  static bool is_general(const stage_row& row) { return NG > 0 && row.slot >= 0; }

  static void copy(const T* from, T* to, int count) { std::copy(from, from + count, to); }

  // ---- matrices ----

  void load_hessian(const Model& model, const sqp_program<Model>& program, int k) {
    T* h = qp.hessian[k];
    const T* values = program.hessian + model.hessian_place.start(k);
    for (int j = 0; j < NZ; ++j) {
      const T* column = values + model.hessian_place.block_slot(k, 0, j);
      for (int i = 0; i <= j; ++i) {
        const int a = Stages::place[i], b = Stages::place[j];
        h[a * NZ + b] = h[b * NZ + a] = column[i];
      }
    }
    for (int j = NX; j < NZ && k == N; ++j) {  // inputs of the last stage that nothing depends on
      if (!(largest_magnitude(h + j * NZ, NZ) > T(0))) h[j * NZ + j] = T(1);
    }
  }

  void load_links(const Model& model, const sqp_program<Model>& program, int k) {
    const auto& place = model.equality_place;
    const T* own = program.equality + place.start(k);
    const T* next = program.equality + place.start(k + 1);
    const int* own_slot = place.own_slots(k);
    T* jacobian = qp.jacobian[k];
    if constexpr (Stages::explicit_links) {
      for (int e = 0; e < Equalities::own.count; ++e) {
        const int link = Equalities::own.rows[e] - own_equalities;
        if (link < 0) continue;
        jacobian[Stages::link_state[link] * NZ + Stages::place[Equalities::own.columns[e]]] =
            -T(Stages::link_sign[link]) * own[own_slot[e]];
      }
    } else {
      T links[NX * NZ] = {}, square[NX * NX] = {};
      for (int e = 0; e < Equalities::own.count; ++e) {
        const int link = Equalities::own.rows[e] - own_equalities;
        if (link < 0) continue;
        links[link * NZ + Stages::place[Equalities::own.columns[e]]] = -own[own_slot[e]];
      }
      const int* next_slot = place.next_slots(k + 1);
      for (int e = 0; e < Equalities::next.count; ++e) {
        const int link = Equalities::next.rows[e] - own_equalities;
        square[link * NX + Stages::place[Equalities::next.columns[e]]] = next[next_slot[e]];
      }
      if (!invert_matrix<T, NX>(square, link_inverse[k])) singular = true;
      contract<T, 1, NX, NZ, NX, 0, NX, 1, 0, NZ, 1>(link_inverse[k], links, jacobian);
    }
  }

  template <class Rows, class Layout>
  void load_rows(const Layout& place, const T* values, const stage_row_map& map, int own_rows,
                 int k) {
    T* general = qp.jacobian[k] + NX * NZ;
    const auto take = [&](const stage_entries& part, const int* slot, const stage_row* row,
                          int count) {
      for (int e = 0; e < part.count; ++e) {
        const int i = part.rows[e];
        if (i < 0 || i >= count || !is_general(row[i])) continue;  // never negative: g++ warns
        general[row[i].slot * NZ + Stages::place[part.columns[e]]] =
            values[place.start(k) + slot[e]];
      }
    };
    if (k == 0) take(Rows::first, place.first_slot, map.first, Rows::first_rows);
    if (k < N) take(Rows::own, place.own_slots(k), map.own, own_rows);
    if (k == N) take(Rows::last, place.last_slot, map.last, Rows::last_rows);
  }

  // z'S x_next with the next state x_next = [A B] z + b is S [A B] in the Hessian of z.
  void fold_crossing(const Model& model, const sqp_program<Model>& program, int k) {
    if constexpr (crosses) {
      T* s = crossing[k];
      for (int i = 0; i < NZ * NX; ++i) s[i] = T(0);
      const T* values = program.hessian + model.hessian_place.start(k + 1);
      for (int e = 0; e < Stages::hessian_cross.count; ++e) {
        s[Stages::place[Stages::hessian_cross.rows[e]] * NX +
          Stages::place[Stages::hessian_cross.columns[e]]] =
            values[model.hessian_place.cross_slot[e]];
      }
      T product[at_least_one(NZ * NZ)];
      contract<T, 1, NZ, NZ, NX, 0, NX, 1, 0, NZ, 1>(s, qp.jacobian[k], product);
      for (int i = 0; i < NZ; ++i) {
        for (int j = 0; j < NZ; ++j) {
          qp.hessian[k][i * NZ + j] += product[i * NZ + j] + product[j * NZ + i];
        }
      }
    }
  }

  void modify_stages() {
    for (int k = 0; k <= N; ++k) {
      T factor[NZ * NZ];
      copy(qp.hessian[k], factor, NZ * NZ);
      const T scale = larger(largest_magnitude(factor, NZ * NZ), T(1));
      if (is_positive(factor, NZ, NZ, least_curvature<T>() / 2 * scale)) continue;
      mirror_eigenvalues<T, NZ>(qp.hessian[k], least_curvature<T>());
    }
  }

  // Structure-preserving convexification (Verschueren, Zanon, Quirynen and Diehl, "A sparsity
  // preserving convexification procedure for indefinite quadratic programs arising in direct optimal
  // control", SIAM J. Optim. 27, 2017): a Riccati sweep moves the curvature of each state to the
  // stage before, along the dynamics, so that positive semidefinite blocks with the same solution
  // remain. Equalities and rows predicted to be active add curvature that is zero at the solution.
  // False if that is not enough.
  bool make_convex(const sqp_program<Model>& program) {
    constexpr T small = sizeof(T) >= 8 ? T(1e-6) : T(1e-3);
    T scale = T(1);
    for (int k = 0; k <= N; ++k) scale = larger(scale, largest_magnitude(original[k], NZ * NZ));
    for (int k = N; k >= 0; --k) {
      weigh(program, T(1e3) * larger(T(1), largest_magnitude(original[k], NZ * NZ)), k);
      T* m = qp.hessian[k];
      for (int i = 0; i < NZ; ++i) m[i * NZ + i] += weight[k][i];
      T images[at_least_one(NR * NZ)] = {}, added[NZ * NZ];
      if (k < N) {
        contract<T, 1, NX, NZ, NX, 0, NX, 1, 0, NZ, 1>(moved[k + 1], qp.jacobian[k], images);
      }
      for (int g = 0; g < NG; ++g) {
        const T* row = qp.jacobian[k] + (NX + g) * NZ;
        for (int j = 0; j < NZ; ++j) images[(NX + g) * NZ + j] = weight[k][NZ + g] * row[j];
      }
      contract<T, 1, NZ, NZ, NR, 0, 1, NZ, 0, NZ, 1>(qp.jacobian[k], images, added);
      for (int i = 0; i < NZ * NZ; ++i) m[i] += added[i];
      if (!separate(m, moved[k], small, k)) return false;
      // Unstable dynamics without curvature to stop them: the numbers would be useless.
      if (!(largest_magnitude(moved[k], NX * NX) <= T(1e4) * scale)) return false;
    }
    is_shifted = true;
    return true;
  }

  // Of m = [Q S'; S R] leave [S'R^-1 S + small I, S'; S, R] and move the rest of Q.
  bool separate(T* m, T* rest, T small, int k) const {
    T input[at_least_one(NU * NU)], solved[at_least_one(NU * NX)];
    for (int i = 0; i < NU; ++i) {
      for (int j = 0; j < NU; ++j) input[i * NU + j] = m[(NX + i) * NZ + NX + j];
    }
    const T least = least_curvature<T>() * larger(largest_magnitude(input, NU * NU), T(1));
    if (!is_positive(input, NU, NU, least)) {
      for (int i = 0; i < NU; ++i) {
        for (int j = 0; j < NU; ++j) input[i * NU + j] = m[(NX + i) * NZ + NX + j];
      }
      mirror_eigenvalues<T, NU>(input, T(1e-2));
      for (int i = 0; i < NU; ++i) {
        for (int j = 0; j < NU; ++j) m[(NX + i) * NZ + NX + j] = input[i * NU + j];
      }
      if (!is_positive(input, NU, NU, T(0))) return false;
    }
    for (int i = 0; i < NU; ++i) {  // L^-1 S
      for (int j = 0; j < NX; ++j) solved[i * NX + j] = m[(NX + i) * NZ + j];
      for (int l = 0; l < i; ++l) {
        const T factor = input[i * NU + l];
        for (int j = 0; j < NX; ++j) solved[i * NX + j] -= factor * solved[l * NX + j];
      }
      for (int j = 0; j < NX; ++j) solved[i * NX + j] /= input[i * NU + i];
    }
    T kept[at_least_one(NX * NX)];
    contract<T, 1, NX, NX, NU, 0, 1, NX, 0, NX, 1>(solved, solved, kept);
    for (int i = 0; i < NX; ++i) kept[i * NX + i] += small;
    for (int i = 0; i < NX; ++i) {
      for (int j = 0; j < NX; ++j) rest[i * NX + j] = m[i * NZ + j] - kept[i * NX + j];
    }
    if (k > 0 || Stages::fixes_initial_state) {
      for (int i = 0; i < NX; ++i) {
        for (int j = 0; j < NX; ++j) m[i * NZ + j] = kept[i * NX + j];
      }
      return true;
    }
    // Nobody takes over what a free initial state leaves.
    T factor[at_least_one(NX * NX)];
    copy(rest, factor, NX * NX);
    for (int i = 0; i < NX * NX; ++i) rest[i] = T(0);
    return is_positive(factor, NX, NX, -2 * small);
  }

  void weigh(const sqp_program<Model>& program, T amount, int k) {
    for (int i = 0; i < stride; ++i) weight[k][i] = T(0);
    for (int j = 0; j < NZ; ++j) {
      const int side = program.x_side[k * NZ + j];
      if (side == 0) continue;
      weight[k][Stages::place[j]] = amount;
      at_upper[k][Stages::place[j]] = side > 0;
    }
    for_rows(k, [&](const stage_row& row, bool equality, int index) {
      const int side = equality ? 1 : program.row_side[index];
      if (side == 0) return;
      if (!is_general(row)) {
        weight[k][-1 - row.slot] = amount;
        at_upper[k][-1 - row.slot] = (side > 0) == (row.scale > 0);
        return;
      }
      const T* a = qp.jacobian[k] + (NX + row.slot) * NZ;
      T square = T(1e-8);
      for (int j = 0; j < NZ; ++j) square += a[j] * a[j];
      weight[k][NZ + row.slot] = amount / square;
      at_upper[k][NZ + row.slot] = side > 0;
    });
    for (int i = 0; i < NX && k == 0 && Stages::fixes_initial_state; ++i) weight[k][i] = T(0);
  }

  // Every row of a stage but the links: what becomes of it, whether it is an equality, its index.
  template <class F>
  static void for_rows(int k, F f) {
    const int equality = Model::equality_layout::row(k);
    const int inequality = Model::inequality_layout::row(k);
    if (k == 0) {
      for (int i = 0; i < Equalities::first_rows; ++i) f(Stages::equality_map.first[i], true, i);
      for (int i = 0; i < Inequalities::first_rows; ++i) {
        f(Stages::inequality_map.first[i], false, i);
      }
    }
    for (int i = 0; i < own_equalities && k < N; ++i) {
      f(Stages::equality_map.own[i], true, equality + i);
    }
    for (int i = 0; i < Inequalities::own_rows && k < N; ++i) {
      f(Stages::inequality_map.own[i], false, inequality + i);
    }
    for (int i = 0; i < Equalities::last_rows && k == N; ++i) {
      f(Stages::equality_map.last[i], true, equality + i);
    }
    for (int i = 0; i < Inequalities::last_rows && k == N; ++i) {
      f(Stages::inequality_map.last[i], false, inequality + i);
    }
  }

  // ---- vectors ----

  void load_vectors(const sqp_program<Model>& program, T penalty, const sqp_step<Model>& start,
                    int k) {
    const bool fixed = k == 0 && Stages::fixes_initial_state;
    T* lower = qp.lower_bound[k];
    T* upper = qp.upper_bound[k];
    for (int i = 0; i < stride; ++i) {
      qp.value[k][i] = qp.row_multiplier[k][i] = T(0);
      const bool hard = i < NZ && (i >= NX || fixed);
      qp.row_penalty[k][i] = hard ? infinity : penalty;
    }
    for (int j = 0; j < NZ; ++j) {
      const int i = Stages::place[j];
      qp.gradient[k][i] = program.gradient[k * NZ + j];
      lower[i] = program.x_lower[k * NZ + j];
      upper[i] = program.x_upper[k * NZ + j];
      lower_owner[k][i] = upper_owner[k][i] = -1;
      qp.row_multiplier[k][i] = start.multipliers.x[k * NZ + j];
    }
    for (int i = NZ; i < stride; ++i) {
      lower[i] = -infinity;
      upper[i] = infinity;
    }
    for_rows(k, [&](const stage_row& row, bool equality, int index) {
      const T low = equality ? program.equality_value[index] : program.lower[index];
      const T high = equality ? program.equality_value[index] : program.upper[index];
      const T multiplier =
          equality ? start.multipliers.equality[index] : start.multipliers.inequality[index];
      if (is_general(row)) {
        lower[NZ + row.slot] = low;
        upper[NZ + row.slot] = high;
        qp.row_multiplier[k][NZ + row.slot] = multiplier;
        return;
      }
      const int i = -1 - row.slot;
      const T scale = T(row.scale);
      const int owner = equality ? index : Model::equalities + index;
      qp.row_multiplier[k][i] += scale * multiplier;
      tighten(k, i, scale > T(0) ? low / scale : high / scale,
              scale > T(0) ? high / scale : low / scale, owner, penalty);
      if (penalty < infinity && !fixed) qp.row_penalty[k][i] = penalty * std::fabs(scale);
    });
    if (k == N) return;
    // Links: next state = [A B] z + offset.
    const T* value = program.equality_value + Model::equality_layout::row(k) + own_equalities;
    const T* multiplier =
        start.multipliers.equality + Model::equality_layout::row(k) + own_equalities;
    if constexpr (Stages::explicit_links) {
      for (int l = 0; l < NX; ++l) {
        const T sign = T(Stages::link_sign[l]);
        qp.offset[k][Stages::link_state[l]] = sign * value[l];
        qp.costate[k][Stages::link_state[l]] = -sign * multiplier[l];
      }
    } else {
      apply_matrix<T, NX, NX>(link_inverse[k], value, qp.offset[k]);
      for (int i = 0; i < NX; ++i) qp.costate[k][i] = T(0);
    }
  }

  // Meet the bounds [low, high] of a row; a soft row gives way to what holds already.
  void tighten(int k, int i, T low, T high, int owner, T penalty) {
    T& lower = qp.lower_bound[k][i];
    T& upper = qp.upper_bound[k][i];
    if (penalty < infinity) {
      low = smaller(low, upper);
      high = larger(high, lower);
    }
    const bool equal = low == high;
    if (low > lower || equal) {
      lower = larger(low, lower);
      lower_owner[k][i] = owner;
    }
    if (high < upper || equal) {
      upper = smaller(high, upper);
      upper_owner[k][i] = owner;
    }
  }

  // Linear terms of the moved and added curvature.
  void shift() {
    if constexpr (crosses) {
      for (int k = 0; k < N; ++k) {
        for (int i = 0; i < NZ; ++i) {
          for (int j = 0; j < NX; ++j) {
            qp.gradient[k][i] += crossing[k][i * NX + j] * qp.offset[k][j];
          }
        }
      }
    }
    if (!is_shifted) return;
    for (int k = 0; k <= N; ++k) {
      for (int i = 0; i < stride; ++i) {
        target[k][i] = T(0);
        if (!(weight[k][i] > T(0))) continue;
        target[k][i] = at_upper[k][i] ? qp.upper_bound[k][i] : qp.lower_bound[k][i];
      }
      T slopes[at_least_one(NR)] = {}, total[NZ];
      if (k < N) apply_matrix<T, NX, NX>(moved[k + 1], qp.offset[k], slopes);
      for (int g = 0; g < NG; ++g) slopes[NX + g] = -weight[k][NZ + g] * target[k][NZ + g];
      apply_transposed<T, NR, NZ>(qp.jacobian[k], slopes, total);
      for (int i = 0; i < NZ; ++i) {
        qp.gradient[k][i] += total[i] - weight[k][i] * target[k][i];
      }
    }
  }

  // Multipliers of the program as it was before.
  void unshift() {
    for (int k = 0; k <= N && is_shifted; ++k) {
      T* duals = k == 0 ? qp.row_multiplier[0] : qp.costate[k - 1];
      T change[at_least_one(NX)];
      apply_matrix<T, NX, NX>(moved[k], qp.value[k], change);
      for (int i = 0; i < NX; ++i) duals[i] += k == 0 ? -change[i] : change[i];
      for (int i = 0; i < stride; ++i) {
        if (weight[k][i] > T(0)) {
          qp.row_multiplier[k][i] += weight[k][i] * (qp.value[k][i] - target[k][i]);
        }
      }
    }
    if constexpr (crosses) {
      for (int k = 0; k < N; ++k) {
        for (int i = 0; i < NZ; ++i) {
          for (int j = 0; j < NX; ++j) {
            qp.costate[k][j] += crossing[k][i * NX + j] * qp.value[k][i];
          }
        }
      }
    }
  }

  // Values of the general rows at value.
  void set_row_values(int k) {
    apply_matrix<T, NG, NZ>(qp.jacobian[k] + NX * NZ, qp.value[k], qp.value[k] + NZ);
  }

  void store(int k, sqp_step<Model>& step) const {
    set_multipliers<false>(k, step);
    for (int j = 0; j < NZ; ++j) step.d[k * NZ + j] = qp.value[k][Stages::place[j]];
  }

  // Add the multipliers to those of the step.
  void add(int k, sqp_step<Model>& step) const { set_multipliers<true>(k, step); }

  template <bool Adds>
  static void put(T& to, T value) { to = Adds ? to + value : value; }

  // The row that the multiplier of a variable belongs to: that of its active side.
  int owner(int k, int i) const {
    const bool upper = weight[k][i] > T(0) && is_shifted ? at_upper[k][i]
                                                         : qp.row_multiplier[k][i] > T(0);
    return upper ? upper_owner[k][i] : lower_owner[k][i];
  }

  template <bool Adds>
  void set_multipliers(int k, sqp_step<Model>& step) const {
    for_rows(k, [&](const stage_row& row, bool equality, int index) {
      T& to = equality ? step.multipliers.equality[index] : step.multipliers.inequality[index];
      if (is_general(row)) {
        put<Adds>(to, qp.row_multiplier[k][NZ + row.slot]);
        return;
      }
      const int i = -1 - row.slot;
      const bool owns = owner(k, i) == (equality ? index : Model::equalities + index);
      put<Adds>(to, owns ? qp.row_multiplier[k][i] / T(row.scale) : T(0));
    });
    for (int j = 0; j < NZ; ++j) {
      const int i = Stages::place[j];
      put<Adds>(step.multipliers.x[k * NZ + j],
                owner(k, i) < 0 ? qp.row_multiplier[k][i] : T(0));
    }
    if (k == N) return;
    T* links = step.multipliers.equality + Model::equality_layout::row(k) + own_equalities;
    if constexpr (Stages::explicit_links) {
      for (int l = 0; l < NX; ++l) {
        put<Adds>(links[l], -T(Stages::link_sign[l]) * qp.costate[k][Stages::link_state[l]]);
      }
    } else {
      T multiplier[at_least_one(NX)];
      apply_transposed<T, NX, NX>(link_inverse[k], qp.costate[k], multiplier);
      for (int l = 0; l < NX; ++l) put<Adds>(links[l], -multiplier[l]);
    }
  }
};

}  // namespace anvil_rt
