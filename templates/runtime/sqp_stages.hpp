#pragma once

#include "riccati_ipm.hpp"
#include "soft_links.hpp"
#include "stage_form.hpp"

// Quadratic programs of multistage problems for the SQP method: solved by riccati_ipm, or made
// convex for a solver elsewhere.

namespace anvil_rt {

template <class Stages>
struct stage_subproblem {
  using Model = multistage_model<Stages>;
  using T = typename Stages::Real;
  using Riccati = riccati_ipm<T, Stages::horizon, Stages::states, Stages::size - Stages::states,
                              Stages::rows>;
  static constexpr bool soft_bounds = true;
  static constexpr bool starts_warm = true;
  static constexpr double far_tolerance = 1e-6;  // exact ones would cost more than they gain

  stage_form<Stages, Riccati> form;
  soft_link_ipm<T, Stages::horizon, Stages::states, Stages::size - Stages::states, Stages::rows>
      soft;

  bool setup(const Model&) {
    form.qp.reset();
    soft.reset();
    form.is_shifted = false;
    return true;
  }

  void teardown() {}

  // Take over the matrices; the program itself stays as it is.
  void prepare(const Model& model, const sqp_program<Model>& program, curvature kind) {
    form.prepare(model, program, kind);
  }

  // Solve for the program's present vectors.
  qp_status solve(const Model&, const sqp_program<Model>& program,
                  const subproblem_options<T>& options, sqp_step<Model>& step) {
    step.iterations = 0;
    if (form.singular) return qp_status::numerics;
    for (int k = 0; k <= form.N; ++k) form.load_vectors(program, options.penalty, step, k);
    form.shift();
    ipm_options<T> ipm;
    ipm.tolerance = options.tolerance;
    ipm.relative_tolerance = options.tolerance / 10;
    ipm.max_iterations = options.max_iterations;
    ipm.warm_start = options.warm;
    const bool elastic = options.penalty < form.infinity;
    const qp_result<T> result =
        elastic ? soft.solve(form.qp, ipm, options.penalty) : form.qp.solve(ipm);
    step.iterations = result.iterations;
    form.unshift();
    for (int k = 0; k <= form.N; ++k) form.store(k, step);
    return result.status;
  }
};

// The data of stage_form alone.
template <class T, int N, int NX, int NU, int NG>
struct stage_data {
  static constexpr int NZ = NX + NU;
  static constexpr int stride = NZ + NG;
  T hessian[N + 1][NZ * NZ], gradient[N + 1][NZ];
  T jacobian[N + 1][at_least_one((NX + NG) * NZ)], offset[N + 1][at_least_one(NX)];
  T lower_bound[N + 1][stride], upper_bound[N + 1][stride], row_penalty[N + 1][stride];
  T value[N + 1][stride], row_multiplier[N + 1][stride], costate[N + 1][at_least_one(NX)];
};

// For external_subproblem (sqp_external.hpp).
template <class Stages>
struct stage_convexification {
  using Model = multistage_model<Stages>;
  using T = typename Stages::Real;
  using Data =
      stage_data<T, Stages::horizon, Stages::states, Stages::size - Stages::states, Stages::rows>;
  static constexpr int kind = 2;
  static constexpr int N = Stages::horizon;
  static constexpr int NZ = Stages::size;

  stage_form<Stages, Data> form;

  void apply(const Model& model, sqp_program<Model>& program, curvature wanted) {
    form.prepare(model, program, wanted);
    for (int e = 0; e < Model::hessian_entries; ++e) program.hessian[e] = T(0);
    for (int k = 0; k <= N; ++k) {
      T* values = program.hessian + model.hessian_place.start(k);
      for (int j = 0; j < NZ; ++j) {
        for (int i = 0; i <= j; ++i) {
          values[model.hessian_place.block_slot(k, i, j)] =
              form.qp.hessian[k][Stages::place[i] * NZ + Stages::place[j]];
        }
      }
    }
  }

  void shift(const Model&, const sqp_program<Model>& program, T* gradient) {
    sqp_step<Model> none = {};
    for (int k = 0; k <= N; ++k) form.load_vectors(program, form.infinity, none, k);
    form.shift();
    for (int k = 0; k <= N; ++k) {
      for (int j = 0; j < NZ; ++j) {
        gradient[k * NZ + j] = form.qp.gradient[k][Stages::place[j]];
      }
    }
  }

  // Only the changes of multipliers go through the form: it maps them linearly.
  void recover(const Model&, sqp_step<Model>& step) {
    for (int k = 0; k <= N; ++k) {
      for (int j = 0; j < NZ; ++j) form.qp.value[k][Stages::place[j]] = step.d[k * NZ + j];
      form.set_row_values(k);
      for (int i = 0; i < form.stride; ++i) form.qp.row_multiplier[k][i] = T(0);
      for (int i = 0; i < form.NX; ++i) form.qp.costate[k][i] = T(0);
    }
    form.unshift();
    for (int k = 0; k <= N; ++k) form.add(k, step);
  }
};

// Where the form of optimal control does not apply: stages one by one.
template <class Model>
struct stage_block_convexification {
  using T = typename Model::Real;
  static constexpr int kind = 2;

  void apply(const Model& model, sqp_program<Model>& program, curvature wanted) {
    if (wanted != curvature::none) modify_blocks(model, program.hessian);
  }
  void shift(const Model&, const sqp_program<Model>&, T*) {}
  void recover(const Model&, sqp_step<Model>&) {}
};

}  // namespace anvil_rt
