#pragma once

#include <limits>
#include <type_traits>

#include "sqp_blocks.hpp"
#include "sqp_program.hpp"

// Quadratic programs of the SQP method, solved behind a C function pointer. `Convexification` makes
// their Hessians convex:
//   apply(model, program, curvature)   in place
//   shift(program, gradient)           linear terms that go with it, for the present vectors
//   recover(step)                      multipliers of the program as it was
// and `Record` is the record that goes through the pointer (templates/sqp/qp_interface.hpp).

namespace anvil_rt {

// Blocks of the Hessian, one by one.
template <class Model>
struct block_convexification {
  using T = typename Model::Real;
  static constexpr int kind = 1;

  void apply(const Model& model, sqp_program<Model>& program, curvature wanted) {
    if (wanted != curvature::none) modify_blocks(model, program.hessian);
  }
  void shift(const Model&, const sqp_program<Model>&, T*) {}
  void recover(const Model&, sqp_step<Model>&) {}
};

template <class Model, class Convexification, class Record>
struct external_subproblem {
  using T = typename Model::Real;
  static_assert(std::is_same_v<T, double>, "solvers behind a function pointer take double");
  using Solver = int (*)(void* context, Record* qp);
  static constexpr bool soft_bounds = false;
  static constexpr bool starts_warm = false;
  static constexpr double far_tolerance = 0;

  Convexification convexification;

  bool setup(const Model& model) {
    solver_ = nullptr;
    context_ = nullptr;
    qp_ = Record();
    qp_.n = Model::variables;
    qp_.m_eq = Model::equalities;
    qp_.m_ineq = Model::inequalities;
    qp_.kind = Convexification::kind;
    qp_.p_starts = model.hessian.starts;
    qp_.p_rows = model.hessian.rows;
    qp_.a_starts = model.equality.starts;
    qp_.a_rows = model.equality.rows;
    qp_.g_starts = model.inequality.starts;
    qp_.g_rows = model.inequality.rows;
    qp_.c = gradient_;
    changed_ = 7;
    return true;
  }

  void teardown() {}

  void use(Solver solver, void* context) {
    solver_ = solver;
    context_ = context;
    changed_ = 7;
  }

  // Sizes and patterns are there from setup on.
  const Record& record() const { return qp_; }

  void prepare(const Model& model, sqp_program<Model>& program, curvature wanted) {
    convexification.apply(model, program, wanted);
    changed_ = 7;
  }

  qp_status solve(const Model& model, const sqp_program<Model>& program,
                  const subproblem_options<T>& options, sqp_step<Model>& step) {
    step.iterations = 0;
    if (solver_ == nullptr) return qp_status::numerics;
    for (int j = 0; j < Model::variables; ++j) gradient_[j] = program.gradient[j];
    convexification.shift(model, program, gradient_);
    qp_.p = program.hessian;
    qp_.a = program.equality;
    qp_.b = program.equality_value;
    qp_.g = program.inequality;
    qp_.h_l = program.lower;
    qp_.h_u = program.upper;
    qp_.x_l = program.x_lower;
    qp_.x_u = program.x_upper;
    qp_.penalty = options.penalty;
    qp_.tolerance = options.tolerance;
    qp_.max_iterations = options.max_iterations;
    qp_.changed = changed_;
    qp_.d = result_.d;
    qp_.y = result_.multipliers.equality;
    qp_.z = result_.multipliers.inequality;
    qp_.w = result_.multipliers.x;
    qp_.iterations = 0;
    const int status = solver_(context_, &qp_);
    changed_ = 0;
    step = result_;
    step.iterations = qp_.iterations;
    convexification.recover(model, step);
    return status >= 0 && status <= 4 ? static_cast<qp_status>(status) : qp_status::numerics;
  }

 private:
  Solver solver_;
  void* context_;
  Record qp_;
  int changed_;
  T gradient_[at_least_one(Model::variables)];
  sqp_step<Model> result_;
};

}  // namespace anvil_rt
