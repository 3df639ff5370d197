#pragma once

#include <cmath>

#include "sqp_bounds.hpp"
#include "sqp_program.hpp"

// Large sparse Hessians made convex by growing their diagonal.

namespace anvil_rt {

// An order of the variables and the envelope of a symmetric matrix in it: row r of the lower
// triangle has the entries starts[r], ..., starts[r + 1] - 1, the last of them on the diagonal.
struct envelope_pattern {
  int count;            // variables
  const int* position;  // of each variable in that order
  const int* starts;
};

// H + E with a diagonal E >= 0 that is zero where H is well positive definite, by the modified
// Cholesky factorisation of Gill, Murray and Wright ("Practical optimization", section 4.4.2.2):
// pivots are at least what keeps the factor's entries bounded. Without interchanges, which would
// leave the envelope.
//
// Before that, bounds that are predicted to be active lend their curvature.
template <class Model>
struct envelope_convexification {
  using T = typename Model::Real;
  static constexpr int n = Model::variables;
  static constexpr int kind = 1;

  T factor[at_least_one(Model::envelope_entries)];
  T column[at_least_one(n)], added[at_least_one(n)];
  int last[at_least_one(n)];  // row whose envelope reaches a column
  bound_curvature<Model> bounds;

  void apply(const Model& model, sqp_program<Model>& program, curvature wanted) {
    bounds.lend(program, T(0));
    if (wanted == curvature::none) return;
    find_last_rows(model.envelope);
    const T largest = load(model, program.hessian);
    bool convex = modify(model.envelope, largest);
    if (!convex && wanted == curvature::exact &&
        bounds.lend(program, T(1e3) * larger(largest, T(1e-8)))) {
      for (int j = 0; j < n; ++j) diagonal(model, program, j) += bounds.weight[j];
      load(model, program.hessian);
      convex = modify(model.envelope, largest);
    }
    for (int j = 0; j < n && !convex; ++j) {
      diagonal(model, program, j) += added[model.envelope.position[j]];
    }
  }

  void shift(const Model&, const sqp_program<Model>& program, T* gradient) {
    bounds.shift(program, gradient);
  }
  void recover(const Model&, sqp_step<Model>& step) const { bounds.recover(step); }

 private:
  static T& diagonal(const Model& model, sqp_program<Model>& program, int j) {
    return program.hessian[model.hessian.starts[j + 1] - 1];
  }

  static int first_of(const envelope_pattern& envelope, int r) {
    return r + 1 - (envelope.starts[r + 1] - envelope.starts[r]);
  }

  // Entry (r, 0) of a row, were it there.
  T* row_of(const envelope_pattern& envelope, int r) {
    return factor + (envelope.starts[r + 1] - 1 - r);
  }

  // Returns the largest magnitude.
  T load(const Model& model, const T* hessian) {
    for (int e = 0; e < Model::envelope_entries; ++e) factor[e] = T(0);
    for (int j = 0; j < n; ++j) {
      for (int e = model.hessian.starts[j]; e < model.hessian.starts[j + 1]; ++e) {
        const int a = model.envelope.position[model.hessian.rows[e]];
        const int b = model.envelope.position[j];
        row_of(model.envelope, a < b ? b : a)[a < b ? a : b] = hessian[e];
      }
    }
    return largest_magnitude(factor, Model::envelope_entries);
  }

  void find_last_rows(const envelope_pattern& envelope) {
    for (int r = 0; r < n; ++r) last[r] = r;
    for (int r = 0; r < n; ++r) {
      const int first = first_of(envelope, r);
      last[first] = last[first] < r ? r : last[first];
    }
    for (int r = 1; r < n; ++r) last[r] = last[r] < last[r - 1] ? last[r - 1] : last[r];
  }

  // Factor, and tell whether nothing had to be added.
  bool modify(const envelope_pattern& envelope, T largest) {
    bool convex = true;
    T outer = T(0);
    for (int r = 0; r < n; ++r) outer = larger(outer, std::fabs(row_of(envelope, r)[r]));
    const T order = std::sqrt(larger(T(n) * T(n) - 1, T(1)));
    const T bound = larger(larger(outer, largest / order), T(1e-12));
    const T least = (sizeof(T) >= 8 ? T(1e-8) : T(1e-4)) * larger(largest, T(1));
    for (int j = 0; j < n; ++j) {
      T below = T(0);
      for (int r = j + 1; r <= last[j]; ++r) {
        column[r] = first_of(envelope, r) <= j ? row_of(envelope, r)[j] : T(0);
        below = larger(below, std::fabs(column[r]));
      }
      const T pivot = row_of(envelope, j)[j];
      const T positive = larger(larger(std::fabs(pivot), below * below / bound), least);
      added[j] = positive - pivot;
      convex = convex && added[j] == T(0);
      for (int r = j + 1; r <= last[j]; ++r) {
        if (column[r] == T(0)) continue;
        const T share = column[r] / positive;
        T* row = row_of(envelope, r);
        const int first = first_of(envelope, r);
        for (int k = first > j + 1 ? first : j + 1; k <= r; ++k) row[k] -= share * column[k];
      }
    }
    return convex;
  }
};

}  // namespace anvil_rt
