#pragma once

#include <cmath>

#include "sqp_globalization.hpp"
#include "sqp_iterate.hpp"

// Steps of the SQP method (sqp.hpp): quadratic programs and what to do if they have no solution.
//
// A `Subproblem` solves them:
//   soft_bounds                          whether elastic mode lets bounds of variables go, too
//   starts_warm                          whether to start from the multipliers near the solution
//   far_tolerance                        what is enough far from the solution; 0: the final one
//   setup(model), teardown()             setup answers false if there is no memory
//   prepare(model, program, curvature)   take over the matrices; may overwrite the Hessian
//   solve(model, program, options, step) for the program's present vectors

namespace anvil_rt {

template <class Model, class Subproblem, class Api>
struct sqp_direction : sqp_iterate<Model, Api> {
  using Base = sqp_iterate<Model, Api>;
  using T = typename Base::T;
  using Status = typename Api::Status;
  using Base::n, Base::equalities, Base::inequalities, Base::infinity, Base::model,
      Base::program, Base::now, Base::residual, Base::multipliers, Base::exact_hessian,
      Base::statistics, Base::line, Base::settings, Base::lower, Base::upper, Base::x_lower,
      Base::x_upper;

  Subproblem subproblem;
  sqp_step<Model> step, correction;
  T penalty;  // of elastic steps; 0 before the first
  T scratch_equality[at_least_one(equalities)];
  T scratch_inequality[at_least_one(inequalities)];
  line_search_filter<T> filter;
  penalty_weight<T> weight;
  int stagnations;  // elastic steps in a row without a way to less violation

  // Rows whose multipliers outweigh their slack, which must be small.
  void predict_active() {
    const auto side = [](T multiplier, T value, T low, T high) {
      const T distance = multiplier > T(0) ? high - value : value - low;
      const T limit = smaller(std::fabs(multiplier), T(1e-2));
      const bool active = std::fabs(multiplier) > T(1e-8) && distance < limit;
      return static_cast<signed char>(!active ? 0 : multiplier > T(0) ? 1 : -1);
    };
    for (int i = 0; i < inequalities; ++i) {
      program.row_side[i] = side(multipliers.inequality[i], now.inequality[i], lower[i], upper[i]);
    }
    for (int j = 0; j < n; ++j) {
      program.x_side[j] = side(multipliers.x[j], now.x[j], x_lower[j], x_upper[j]);
    }
  }

  // Vectors of the quadratic program for these values of the constraints.
  void set_vectors(const T* equality, const T* inequality) {
    for (int i = 0; i < equalities; ++i) program.equality_value[i] = -equality[i];
    for (int i = 0; i < inequalities; ++i) {
      program.lower[i] = lower[i] - inequality[i];
      program.upper[i] = upper[i] - inequality[i];
    }
    for (int j = 0; j < n; ++j) {
      program.x_lower[j] = x_lower[j] - now.x[j];
      program.x_upper[j] = x_upper[j] - now.x[j];
    }
  }

  void start_step(sqp_step<Model>& at) const { at.multipliers = multipliers; }

  subproblem_options<T> hard_options() const {
    const T loose = smaller(T(Subproblem::far_tolerance), T(1e-4) * residual.worst());
    const T least = larger(T(settings.qp_tolerance), 100 * std::numeric_limits<T>::epsilon());
    return {infinity, larger(least, loose), settings.qp_max_iterations, false};
  }

  qp_status solve_subproblem(const subproblem_options<T>& options, sqp_step<Model>& found) {
    const stopwatch watch;
    const qp_status status = subproblem.solve(model, program, options, found);
    statistics.time_qp += watch.seconds();
    statistics.qp_iterations += found.iterations;
    line.qp_iterations += found.iterations;
    ++statistics.qps;
    return status;
  }

  static bool is_finite_step(const sqp_step<Model>& at) {
    return std::isfinite(largest_magnitude(at.d, n) +
                         largest_magnitude(at.multipliers.equality, equalities) +
                         largest_magnitude(at.multipliers.inequality, inequalities) +
                         largest_magnitude(at.multipliers.x, n));
  }

  static T largest_multiplier(const sqp_multipliers<Model>& at) {
    return larger(largest_magnitude(at.equality, equalities),
                  largest_magnitude(at.inequality, inequalities));
  }

  // Violation of the quadratic program's rows by a step, l1.
  T linear_violation(const T* d) {
    T total = T(0);
    for (int i = 0; i < equalities; ++i) scratch_equality[i] = -program.equality_value[i];
    for (int i = 0; i < inequalities; ++i) scratch_inequality[i] = T(0);
    add_product(model.equality, program.equality, d, scratch_equality);
    add_product(model.inequality, program.inequality, d, scratch_inequality);
    for (int i = 0; i < equalities; ++i) total += std::fabs(scratch_equality[i]);
    for (int i = 0; i < inequalities; ++i) {
      total += violation_of(scratch_inequality[i], program.lower[i], program.upper[i]);
    }
    for (int j = 0; j < n; ++j) total += violation_of(d[j], program.x_lower[j], program.x_upper[j]);
    return total;
  }

  bool is_usable(qp_status status, const sqp_step<Model>& at) {
    if (status == qp_status::infeasible || status == qp_status::unbounded) return false;
    if (!is_finite_step(at) || largest_multiplier(at.multipliers) > T(1e9)) return false;
    if (status == qp_status::solved) return true;
    return status == qp_status::max_iterations &&
           linear_violation(at.d) <= T(1e-6) * larger(T(1), now.violation);
  }

  // SOLVED if there is a step.
  Status find_step() {
    const bool was_elastic = line.elastic != 0;  // then little is tried before the next one
    line.elastic = 0;
    line.qp_iterations = 0;
    predict_active();
    prepare_subproblem(curvature::exact);
    set_vectors(now.equality, now.inequality);
    subproblem_options<T> options = hard_options();
    if (was_elastic) options.max_iterations = (options.max_iterations + 1) / 2;
    if (solve_from_multipliers(options)) return Status::SOLVED;
    start_step(step);
    qp_status status = solve_subproblem(options, step);
    if (is_usable(status, step)) return Status::SOLVED;
    if (status != qp_status::infeasible && !was_elastic) {
      restore_hessian();
      prepare_subproblem(curvature::modified);
      start_step(step);
      status = solve_subproblem(options, step);
      if (is_usable(status, step)) return Status::SOLVED;
    }
    if (status == qp_status::unbounded) {
      // The model has a ray, the problem perhaps not: a step of bounded length tells.
      const T added = T(1e-4) * larger(T(1), largest_magnitude(program.gradient, n));
      restore_hessian();
      for (int j = 0; j < n; ++j) program.hessian[model.hessian.starts[j + 1] - 1] += added;
      prepare_subproblem(curvature::modified);
      start_step(step);
      status = solve_subproblem(options, step);
      if (is_usable(status, step)) return Status::SOLVED;
      if (status == qp_status::unbounded) return Status::UNBOUNDED;
    }
    if (settings.elastic == 0 || equalities + inequalities == 0) {
      return status == qp_status::infeasible ? Status::INFEASIBLE : Status::QP_FAILED;
    }
    return find_elastic_step();
  }

  // Start near the solution from the multipliers so far. That keeps them bounded where active rows
  // depend on each other: what linearization leaves between such rows would ask for enormous ones.
  bool solve_from_multipliers(subproblem_options<T> options) {
    if (!Subproblem::starts_warm || !(residual.worst() < T(1e-2))) return false;
    options.warm = true;
    start_step(step);
    return is_usable(solve_subproblem(options, step), step);
  }

  void prepare_subproblem(curvature kind) {
    const stopwatch watch;
    subproblem.prepare(model, program, kind);
    statistics.time_qp += watch.seconds();
  }

  void restore_hessian() {
    for (int e = 0; e < Model::hessian_entries; ++e) program.hessian[e] = exact_hessian[e];
  }

  // The rows made soft, with a penalty that leads towards what feasibility there is: a tenth of what
  // could be gained. Only if there is little gain it is found out how much that is.
  Status find_elastic_step() {
    line.elastic = 1;
    ++statistics.elastic_steps;
    const T before = now.violation;
    const T largest = T(settings.largest_penalty);
    T start = larger(T(1), T(1.5) * largest_multiplier(multipliers));
    if (penalty > T(0)) start = smaller(start, 3 * penalty);
    penalty = smaller(start, largest);
    restore_hessian();
    prepare_subproblem(curvature::modified);
    Status status = solve_elastic(penalty);
    if (status != Status::SOLVED) return status;
    T gain = before - linear_violation(step.d);
    if (gain < T(0.1) * before) {
      T possible = T(0);
      correction = step;
      if (!measure_possible_gain(possible)) return Status::INFEASIBLE;
      step = correction;
      restore_hessian();
      prepare_subproblem(curvature::modified);
      while (gain < T(0.1) * possible - T(1e-12) && penalty < largest) {
        penalty *= 10;
        status = solve_elastic(penalty);
        if (status != Status::SOLVED) return status;
        gain = before - linear_violation(step.d);
      }
      penalty = smaller(penalty, largest);
    } else {
      stagnations = 0;
    }
    return Status::SOLVED;
  }

  Status solve_elastic(T cost) {
    subproblem_options<T> options = hard_options();
    options.warm = false;
    options.penalty = cost;
    options.tolerance = larger(options.tolerance, smaller(T(1e-3), T(1e-3) * now.violation));
    start_step(step);
    const qp_status status = solve_subproblem(options, step);
    if (status == qp_status::unbounded) return Status::UNBOUNDED;
    const bool failed = status == qp_status::numerics || !is_finite_step(step);
    return failed ? Status::QP_FAILED : Status::SOLVED;
  }

  // How much less violation a linear model has than the iterate. False if that is nothing, or next
  // to nothing several times: the iterate is a stationary point of the violation.
  bool measure_possible_gain(T& possible) {
    T gradient[at_least_one(n)];
    for (int j = 0; j < n; ++j) {
      gradient[j] = program.gradient[j];
      program.gradient[j] = T(0);
    }
    set_diagonal(model, program.hessian, T(1e-6) * larger(T(1), now.violation));
    prepare_subproblem(curvature::none);
    const Status status = solve_elastic(T(1));
    for (int j = 0; j < n; ++j) program.gradient[j] = gradient[j];
    if (status != Status::SOLVED) return true;
    possible = now.violation - linear_violation(step.d);
    const T enough = Base::tolerance(settings.tolerance_feasibility);
    const bool stuck = residual.infeasibility > enough && possible <= T(1e-3) * now.violation;
    stagnations = stuck ? stagnations + 1 : 0;
    return !(stuck && (stagnations >= 3 || possible <= T(1e-6) * now.violation));
  }
};

}  // namespace anvil_rt
