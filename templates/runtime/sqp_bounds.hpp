#pragma once

#include "sqp_program.hpp"

// Bounds that lend curvature to the Hessian.

namespace anvil_rt {

// With weights w > 0, the sum of w/2 (d_j - t_j)^2 over variables whose bound t_j is predicted to be
// active is zero at the solution and leaves it as it is (see sqp_dense.hpp).
template <class Model>
struct bound_curvature {
  using T = typename Model::Real;
  static constexpr int n = Model::variables;

  T weight[at_least_one(n)], target[at_least_one(n)];  // no weight: no part in it

  // All bounds that are predicted to be active, with the same weight; whether there are any.
  bool lend(const sqp_program<Model>& program, T amount) {
    bool any = false;
    for (int j = 0; j < n; ++j) {
      weight[j] = program.x_side[j] != 0 ? amount : T(0);
      any = any || program.x_side[j] != 0;
    }
    return any;
  }

  // Its linear terms, for the program's present bounds.
  void shift(const sqp_program<Model>& program, T* gradient) {
    for (int j = 0; j < n; ++j) {
      target[j] = program.x_side[j] > 0 ? program.x_upper[j] : program.x_lower[j];
      if (weight[j] > T(0)) gradient[j] -= weight[j] * target[j];
    }
  }

  // The part of the multipliers that it has taken over.
  void recover(sqp_step<Model>& step) const {
    for (int j = 0; j < n; ++j) {
      if (weight[j] > T(0)) step.multipliers.x[j] += weight[j] * (step.d[j] - target[j]);
    }
  }
};

}  // namespace anvil_rt
