#pragma once

#include <cmath>
#include <cstring>
#include <new>

#include "sqp_globalization.hpp"
#include "sqp_iterate.hpp"

// Sequential quadratic programming with a line search (Nocedal and Wright, "Numerical
// optimization", chapter 18): exact Hessians of the Lagrangian made convex, a filter or an l1
// penalty function, second-order corrections (Maratos), and an elastic mode with steering of the
// penalty (Byrd, Nocedal and Waltz, "Steering exact penalty methods for nonlinear programming",
// Optim. Methods Softw. 23, 2008) for quadratic programs without a feasible point.
//
// `Model` is described in sqp_program.hpp. A `Subproblem` solves the quadratic programs:
//   soft_bounds                          whether elastic mode lets bounds of variables go, too
//   setup(model), teardown()             setup answers false if there is no memory
//   prepare(model, program, curvature)   take over the matrices; may overwrite the Hessian
//   solve(model, program, options, step) for the program's present vectors
// `Api` names the types of the generated module's interface (templates/sqp/interface.hpp).

namespace anvil_rt {

template <class Model, class Subproblem, class Api>
struct sqp_solver : sqp_iterate<Model, Api> {
  using Base = sqp_iterate<Model, Api>;
  using T = typename Base::T;
  using Status = typename Api::Status;
  using Globalization = typename Api::Globalization;
  using Base::n;
  using Base::equalities;
  using Base::inequalities;
  using Base::infinity;
  using Base::model;
  using Base::program;
  using Base::now;
  using Base::trial;
  using Base::best;
  using Base::residual;
  using Base::multipliers;
  using Base::best_multipliers;
  using Base::lagrangian;
  using Base::exact_hessian;
  using Base::statistics;
  using Base::line;
  using Base::clock;
  using Base::settings;
  using Base::parameters;
  using Base::equality_target;
  using Base::lower;
  using Base::upper;
  using Base::x_lower;
  using Base::x_upper;
  using Base::has_update;
  using Base::monitor;
  using Base::monitor_context;
  using Base::begin;
  using Base::check_data;
  using Base::clear_multipliers;
  using Base::evaluate;
  using Base::finish;
  using Base::is_finite;
  using Base::is_solved;
  using Base::is_unbounded;
  using Base::linearize;
  using Base::link_weight;
  using Base::violation_of_links;
  using Base::weigh;
  using Base::measure;
  using Base::remember;
  using Base::report;
  using Base::set_lagrangian;

  Subproblem subproblem;
  sqp_step<Model> step, correction;
  T penalty;  // of elastic steps; 0 before the first
  T scratch_equality[at_least_one(equalities)];
  T scratch_inequality[at_least_one(inequalities)];
  line_search_filter<T> filter;
  penalty_weight<T> weight;
  int failures, stagnations;
  bool is_prepared;
  bool uses_merit;  // instead of the filter, from the first line search that this one has ended

  // False if there is no memory.
  bool setup() {
    model.setup();
    monitor = nullptr;
    monitor_context = nullptr;
    is_prepared = false;
    for (int j = 0; j < n; ++j) now.x[j] = T(0);
    for (int i = 0; i < Model::parameters; ++i) parameters[i] = T(0);
    clear_multipliers();
    return subproblem.setup(model);
  }

  void teardown() { subproblem.teardown(); }

  // ---- the method ----

  // From now.x, and with warm_start from the multipliers. The result is in `best`.
  Status solve() {
    begin();
    if (const int wrong = check_data()) {
      return wrong == 1 ? Status::INFEASIBLE : Status::EVALUATION_FAILED;
    }
    for (int j = 0; j < n; ++j) now.x[j] = smaller(larger(now.x[j], x_lower[j]), x_upper[j]);
    evaluate(now);
    filter.reset(now.violation);
    weight.reset();
    failures = stagnations = 0;
    penalty = T(0);
    uses_merit = settings.globalization == Globalization::MERIT;
    for (;; ++statistics.iterations) {
      if (!linearize()) return finish(Status::EVALUATION_FAILED);
      measure();
      line.penalty = static_cast<double>(weight.weight);
      report();
      remember();
      if (statistics.iterations > 0 && is_solved()) return finish(Status::SOLVED);
      if (statistics.iterations >= settings.max_iterations) return finish(Status::MAX_ITER);
      if (clock.seconds() > settings.time_limit) return finish(Status::TIME_LIMIT);
      if (is_unbounded()) return finish(Status::UNBOUNDED);
      const Status found = find_step();
      if (found != Status::SOLVED) return finish(found);
      const Status moved = move();
      if (moved != Status::SOLVED) return finish(moved);
    }
  }

  // ---- real-time iteration ----

  // Everything of an iteration that does not depend on the measured state.
  Status prepare() {
    begin();
    if (check_data() != 0) return Status::EVALUATION_FAILED;
    evaluate(now);
    is_prepared = linearize();
    if (!is_prepared) return Status::EVALUATION_FAILED;
    predict_active();
    const stopwatch watch;
    subproblem.prepare(model, program, curvature::exact);
    statistics.time_qp += watch.seconds();
    return Status::SOLVED;
  }

  // One full step for the measured state, the right-hand side of the initial equalities.
  Status feedback(const T* measured) {
    const stopwatch total;
    if (!is_prepared) return Status::EVALUATION_FAILED;
    is_prepared = false;
    for (int i = 0; i < Model::initial_equalities; ++i) {
      now.equality[i] += equality_target[i] - measured[i];
      equality_target[i] = measured[i];
    }
    set_vectors(now.equality, now.inequality);
    start_step(step);
    subproblem_options<T> options = hard_options();
    options.tolerance = larger(T(settings.qp_tolerance), T(1e-6));
    options.warm = true;
    qp_status status = solve_subproblem(options, step);
    bool elastic = false;
    if (!is_usable(status, step) && settings.elastic != 0) {
      options.penalty = larger(T(1e4), 10 * largest_multiplier(multipliers));
      options.warm = false;
      status = solve_subproblem(options, step);
      elastic = true;
    }
    if (status != qp_status::solved && !(elastic && is_finite_step(step)) &&
        !is_usable(status, step)) {
      return Status::QP_FAILED;
    }
    for (int j = 0; j < n; ++j) now.x[j] += step.d[j];
    multipliers = step.multipliers;
    statistics.iterations = 1;
    statistics.elastic_steps += elastic ? 1 : 0;
    best = now;
    best_multipliers = multipliers;
    statistics.time += total.seconds();
    return Status::SOLVED;
  }

  // Move the iterate and its multipliers on by one stage.
  void shift() {
    model.shift(now.x, multipliers.x, multipliers.equality, multipliers.inequality);
    best = now;
    best_multipliers = multipliers;
  }

 private:
  // ---- steps ----

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
    const T loose = smaller(T(1e-6), T(1e-4) * residual.worst());
    return {infinity, larger(T(settings.qp_tolerance), loose), settings.qp_max_iterations,
            false};
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
    total += link_weight * violation_of_links(scratch_equality);
    for (int i = 0; i < equalities; ++i) {
      if (!Model::is_link(i)) total += std::fabs(scratch_equality[i]);
    }
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
    line.elastic = 0;
    line.qp_iterations = 0;
    predict_active();
    prepare_subproblem(curvature::exact);
    set_vectors(now.equality, now.inequality);
    start_step(step);
    const subproblem_options<T> options = hard_options();
    qp_status status = solve_subproblem(options, step);
    if (is_usable(status, step)) return Status::SOLVED;
    if (status != qp_status::infeasible) {
      restore_hessian();
      prepare_subproblem(curvature::modified);
      start_step(step);
      status = solve_subproblem(options, step);
      if (is_usable(status, step)) return Status::SOLVED;
    }
    if (status == qp_status::unbounded) return Status::UNBOUNDED;
    if (settings.elastic == 0 || equalities + inequalities == 0) {
      return status == qp_status::infeasible ? Status::INFEASIBLE : Status::QP_FAILED;
    }
    return find_elastic_step();
  }

  void prepare_subproblem(curvature kind) {
    const stopwatch watch;
    subproblem.prepare(model, program, kind);
    statistics.time_qp += watch.seconds();
  }

  void restore_hessian() {
    for (int e = 0; e < Model::hessian_entries; ++e) program.hessian[e] = exact_hessian[e];
  }

  // The rows made soft, with a penalty that leads towards what feasibility there is.
  Status find_elastic_step() {
    line.elastic = 1;
    ++statistics.elastic_steps;
    subproblem_options<T> options = hard_options();
    options.warm = false;
    const T before = now.violation;
    T gradient[at_least_one(n)];
    for (int j = 0; j < n; ++j) {
      gradient[j] = program.gradient[j];
      program.gradient[j] = T(0);
    }
    set_diagonal(model, program.hessian, T(1e-6) * larger(T(1), before));
    prepare_subproblem(curvature::none);
    options.penalty = T(1);
    const qp_status feasibility = solve_subproblem(options, step);
    for (int j = 0; j < n; ++j) program.gradient[j] = gradient[j];
    restore_hessian();
    prepare_subproblem(curvature::modified);
    T possible = T(0);
    if (is_finite_step(step) && feasibility != qp_status::numerics) {
      possible = before - linear_violation(step.d);
      const bool linked = Subproblem::soft_bounds && violation_of_links(now.equality) >
                                                         T(settings.tolerance_feasibility);
      const bool stuck = residual.infeasibility > T(settings.tolerance_feasibility) && !linked &&
                         possible <= T(1e-3) * before;
      stagnations = stuck ? stagnations + 1 : 0;
      if (stuck && (stagnations >= 3 || possible <= T(1e-6) * before)) return Status::INFEASIBLE;
    }
    options.penalty = larger(T(1), T(1.5) * largest_multiplier(multipliers));
    if (penalty > T(0)) options.penalty = smaller(options.penalty, 3 * penalty);
    options.penalty = smaller(options.penalty, T(settings.largest_penalty));
    for (;; options.penalty *= 10) {
      start_step(step);
      const qp_status status = solve_subproblem(options, step);
      if (status == qp_status::numerics || !is_finite_step(step)) return Status::QP_FAILED;
      if (status == qp_status::unbounded) return Status::UNBOUNDED;
      const T reduction = before - linear_violation(step.d);
      if (reduction >= T(0.1) * possible - T(1e-12) ||
          options.penalty * 10 > T(settings.largest_penalty)) {
        break;
      }
    }
    penalty = options.penalty;
    if (Subproblem::soft_bounds) raise_link_weight(before - linear_violation(step.d));
    return Status::SOLVED;
  }

  // Where links between stages cannot be soft, a step that fulfils them may violate other rows
  // more than before. Links then weigh so much that it still reduces the violation.
  void raise_link_weight(T reduction) {
    const T links = violation_of_links(now.equality);
    const T others = link_weight * links - reduction;  // by what the others' violation grows
    if (!(others > T(0.5) * link_weight * links) || link_weight > T(1e6)) return;
    link_weight = T(2.5) * others / larger(links, T(1e-6) * others);
    weigh(now);
    filter.reset(now.violation);
  }

  // ---- line search ----

  // Move along the step; SOLVED if there is a next iterate.
  Status move() {
    const stopwatch watch;
    const double evaluation = statistics.time_evaluation, qp = statistics.time_qp;
    const bool elastic = line.elastic != 0;
    T slope = T(0);
    for (int j = 0; j < n; ++j) slope += program.gradient[j] * step.d[j];
    const T reduction = elastic ? now.violation - linear_violation(step.d) : now.violation;
    weight.update(slope, quadratic_form(model.hessian, exact_hessian, step.d), reduction,
                  largest_multiplier(step.multipliers), elastic, penalty);
    line.line_search_steps = 0;
    T alpha = T(1);
    bool found = false, any_finite = false;
    for (; line.line_search_steps < settings.max_line_search_steps; alpha /= 2) {
      ++line.line_search_steps;
      try_step(alpha, step);
      if (is_finite(trial)) {
        any_finite = true;
        found = is_acceptable(alpha, slope, reduction);
        if (!found && alpha == T(1) && trial.violation >= now.violation / 2) {
          found = correct(slope, reduction);
        }
      }
      if (found) break;
    }
    line.step_length = found ? static_cast<double>(alpha) : 0.0;
    line.step = static_cast<double>(largest_magnitude(step.d, n));
    statistics.time_line_search += watch.seconds() - (statistics.time_evaluation - evaluation) -
                                   (statistics.time_qp - qp);
    if (!found) return recover(any_finite);
    accept(alpha);
    return Status::SOLVED;
  }

  void try_step(T alpha, const sqp_step<Model>& along) {
    const bool clips = !Subproblem::soft_bounds || line.elastic == 0;
    for (int j = 0; j < n; ++j) {
      T moved = now.x[j] + alpha * along.d[j];
      if (clips) {
        moved = larger(smaller(x_lower[j], now.x[j]), smaller(moved, larger(x_upper[j], now.x[j])));
      }
      trial.x[j] = moved;
    }
    evaluate(trial);
  }

  static T rounding(T value) {
    return 1000 * std::numeric_limits<T>::epsilon() * larger(T(1), std::fabs(value));
  }

  bool is_acceptable(T alpha, T slope, T reduction) {
    if (settings.globalization == Globalization::NONE) return true;
    if (uses_merit) {
      const T merit = now.objective + weight.weight * now.violation;
      const T descent = slope - weight.weight * reduction;
      return trial.objective + weight.weight * trial.violation <=
             merit + T(1e-4) * alpha * descent + rounding(merit);
    }
    if (!filter.accepts(trial.objective, trial.violation)) return false;
    const T slack = rounding(now.objective);
    if (filter.favours_objective(slope, now.violation, alpha)) {
      return trial.objective <= now.objective + T(1e-4) * alpha * slope + slack;
    }
    const T margin = filter.margin * now.violation;
    if (trial.violation > now.violation - margin && trial.objective > now.objective - margin + slack) {
      return false;
    }
    filter.add(now.objective, now.violation);
    return true;
  }

  // A step that also accounts for the constraints' curvature on the way to the trial point.
  bool correct(T slope, T reduction) {
    if (settings.second_order_correction == 0 || equalities + inequalities == 0) return false;
    for (int i = 0; i < equalities; ++i) scratch_equality[i] = T(0);
    for (int i = 0; i < inequalities; ++i) scratch_inequality[i] = T(0);
    add_product(model.equality, program.equality, step.d, scratch_equality);
    add_product(model.inequality, program.inequality, step.d, scratch_inequality);
    for (int i = 0; i < equalities; ++i) {
      scratch_equality[i] = trial.equality[i] - scratch_equality[i];
    }
    for (int i = 0; i < inequalities; ++i) {
      scratch_inequality[i] = trial.inequality[i] - scratch_inequality[i];
    }
    set_vectors(scratch_equality, scratch_inequality);
    subproblem_options<T> options = hard_options();
    if (line.elastic != 0) options.penalty = penalty;
    correction.multipliers = step.multipliers;
    const qp_status status = solve_subproblem(options, correction);
    set_vectors(now.equality, now.inequality);
    if (status != qp_status::solved || !is_finite_step(correction)) return false;
    try_step(T(1), correction);
    if (!is_finite(trial) || !is_acceptable(T(1), slope, reduction)) return false;
    ++statistics.corrections;
    step = correction;
    return true;
  }

  void accept(T alpha) {
    failures = 0;
    if constexpr (Model::quasi_newton) {
      // Change of the Lagrangian's gradient at fixed multipliers.
      T moved[at_least_one(n)], change[at_least_one(n)];
      set_lagrangian(step.multipliers);
      for (int j = 0; j < n; ++j) {
        moved[j] = trial.x[j] - now.x[j];
        change[j] = -lagrangian[j];
      }
      model.differentiate(trial.x, parameters, multipliers.equality, multipliers.inequality,
                          program.gradient, program.equality, program.inequality, program.hessian);
      set_lagrangian(step.multipliers);
      for (int j = 0; j < n; ++j) change[j] += lagrangian[j];
      const T size = largest_magnitude(change, n);
      if (std::isfinite(size)) {
        if (!has_update) set_diagonal(model, exact_hessian, T(1));
        update_bfgs(model, moved, change, !has_update, exact_hessian);
        has_update = true;
      }
    }
    now = trial;
    const T share = settings.globalization == Globalization::NONE ? T(1) : alpha;
    const auto blend = [share](T* old, const T* found, int count) {
      for (int i = 0; i < count; ++i) old[i] += share * (found[i] - old[i]);
    };
    blend(multipliers.equality, step.multipliers.equality, equalities);
    blend(multipliers.inequality, step.multipliers.inequality, inequalities);
    blend(multipliers.x, step.multipliers.x, n);
  }

  // After a line search without success: new multipliers, and the penalty function decides.
  Status recover(bool any_finite) {
    ++failures;
    if (!any_finite) return Status::EVALUATION_FAILED;
    if (failures > 3) return Status::LINE_SEARCH_FAILED;
    multipliers = step.multipliers;
    if (uses_merit) {
      weight.weight *= residual.infeasibility > T(settings.tolerance_feasibility) ? T(10) : T(0.1);
    }
    uses_merit = true;
    has_update = false;
    return Status::SOLVED;
  }
};

}  // namespace anvil_rt
