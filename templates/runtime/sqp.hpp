#pragma once

#include <cmath>
#include <cstring>
#include <new>

#include "sqp_direction.hpp"

// Sequential quadratic programming with a line search (Nocedal and Wright, "Numerical
// optimization", chapter 18): exact Hessians of the Lagrangian made convex, a filter or an l1
// penalty function, second-order corrections (Maratos), and an elastic mode with steering of the
// penalty (Byrd, Nocedal and Waltz, "Steering exact penalty methods for nonlinear programming",
// Optim. Methods Softw. 23, 2008) for quadratic programs without a feasible point.
//
// `Model` is described in sqp_program.hpp, `Subproblem` in sqp_direction.hpp; `Api` names the types
// of the generated module's interface (templates/sqp/interface.hpp).

namespace anvil_rt {

template <class Model, class Subproblem, class Api>
struct sqp_solver : sqp_direction<Model, Subproblem, Api> {
  using Base = sqp_direction<Model, Subproblem, Api>;
  using T = typename Base::T;
  using Status = typename Api::Status;
  using Globalization = typename Api::Globalization;
  using Base::n, Base::equalities, Base::inequalities, Base::model, Base::program, Base::now,
      Base::trial, Base::best, Base::residual, Base::multipliers, Base::best_multipliers,
      Base::lagrangian, Base::exact_hessian, Base::statistics, Base::line, Base::clock,
      Base::settings, Base::start_objective, Base::start_size, Base::parameters, Base::equality_target, Base::x_lower, Base::x_upper,
      Base::has_update, Base::monitor, Base::monitor_context, Base::begin, Base::check_data, Base::describe,
      Base::clear_multipliers, Base::evaluate, Base::finish, Base::is_finite, Base::is_solved,
      Base::is_unbounded, Base::linearize, Base::measure, Base::remember, Base::report,
      Base::set_lagrangian, Base::subproblem, Base::step, Base::correction, Base::penalty,
      Base::scratch_equality, Base::scratch_inequality, Base::filter, Base::weight,
      Base::stagnations, Base::find_step, Base::predict_active, Base::set_vectors,
      Base::start_step, Base::hard_options, Base::solve_subproblem, Base::is_finite_step,
      Base::largest_multiplier, Base::linear_violation, Base::is_usable;

  int failures;     // line searches in a row without success
  bool is_prepared;
  bool uses_merit;  // instead of the filter, from the first line search that this one has ended

  // The watchdog technique (Chamberlain, Powell, Lemarechal and Pedersen, Math. Program. Study 16,
  // 1982): after short steps some full ones are taken on trial, and undone unless they lead to
  // progress over the point where they began.
  static constexpr int trial_steps = 4;
  typename Base::point reference;
  sqp_multipliers<Model> reference_multipliers;
  int trials;       // full steps on trial so far; 0: none
  int short_steps;  // in a row
  int patience;     // short steps before the next trial


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
    start_objective = now.objective;
    start_size = largest_magnitude(now.x, n);
    filter.reset(now.violation);
    weight.reset();
    failures = stagnations = trials = short_steps = 0;
    patience = 1;
    penalty = T(0);
    uses_merit = settings.globalization == Globalization::MERIT;
    for (;; ++statistics.iterations) {
      if (!linearize()) {
        if (trials > 0 && undo_trials()) continue;
        return finish(Status::EVALUATION_FAILED);
      }
      measure();
      line.penalty = static_cast<double>(weight.weight);
      report();
      remember();
      if (statistics.iterations > 0 && is_solved()) return finish(Status::SOLVED);
      if (statistics.iterations >= settings.max_iterations) return finish(Status::MAX_ITER);
      if (clock.seconds() > settings.time_limit) return finish(Status::TIME_LIMIT);
      if (is_unbounded()) return finish(Status::UNBOUNDED);
      const Status found = find_step();
      if (trials > 0 && (found != Status::SOLVED || line.elastic != 0)) {
        undo_trials();
        continue;
      }
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
    for (int i = 0; i < Model::initial_equalities; ++i) {  // nothing is measured yet
      equality_target[i] += now.equality[i];
      now.equality[i] = T(0);
    }
    is_prepared = linearize();
    if (!is_prepared) return Status::EVALUATION_FAILED;
    measure();
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
      residual.infeasibility = larger(residual.infeasibility, std::fabs(now.equality[i]));
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
    describe(now, residual);
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
    const T longest = longest_fraction();
    T alpha = longest;
    bool found = false, any_finite = false;
    if (trials > 0) return move_on_trial();
    for (; line.line_search_steps < settings.max_line_search_steps; alpha /= 2) {
      ++line.line_search_steps;
      try_step(alpha, step);
      if (is_finite(trial)) {
        any_finite = true;
        found = is_acceptable(alpha, slope, reduction);
        if (!found && alpha == T(1) && !elastic && trial.violation >= now.violation / 2) {
          found = correct(slope, reduction);
        }
        if (!found && alpha == T(1) && !elastic && short_steps >= patience) {
          reference = now;
          reference_multipliers = multipliers;
          return move_on_trial();
        }
      }
      if (found) break;
    }
    short_steps = found && alpha == longest ? 0 : short_steps + 1;
    line.step_length = found ? static_cast<double>(alpha) : 0.0;
    line.step = static_cast<double>(largest_magnitude(step.d, n));
    statistics.time_line_search += watch.seconds() - (statistics.time_evaluation - evaluation) -
                                   (statistics.time_qp - qp);
    if (!found) return recover(any_finite);
    accept(alpha);
    return Status::SOLVED;
  }

  // A full step without a test, unless there have been enough.
  Status move_on_trial() {
    try_step(T(1), step);
    line.line_search_steps = 1;
    line.step_length = 1.0;
    line.step = static_cast<double>(largest_magnitude(step.d, n));
    if (is_finite(trial)) {
      ++trials;
      const bool progress = trials > 1 && improves_on(reference);
      if (progress) {
        filter.add(reference.objective, reference.violation);
        trials = short_steps = 0;
      }
      if (progress || trials <= trial_steps) {
        accept(T(1));
        return Status::SOLVED;
      }
    }
    undo_trials();
    return Status::SOLVED;
  }

  // Whether the trial point makes up for what was risked.
  bool improves_on(const typename Base::point& from) const {
    if (uses_merit) {
      const T merit = from.objective + weight.weight * from.violation;
      return trial.objective + weight.weight * trial.violation <
             merit - T(1e-4) * weight.weight * from.violation;
    }
    if (!filter.accepts(trial.objective, trial.violation)) return false;
    return trial.violation <= T(0.5) * from.violation;
  }

  bool undo_trials() {
    now = reference;
    multipliers = reference_multipliers;
    trials = short_steps = 0;
    patience = 3 * patience + 2;
    return true;
  }

  // What is tried first: no entry changes by more than twice the largest one's magnitude, because
  // quadratic programs with next to no curvature have minima far away.
  T longest_fraction() const {
    const T room = 2 * larger(T(1), largest_magnitude(now.x, n));
    const T size = largest_magnitude(step.d, n);
    return size > room ? room / size : T(1);
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
    const subproblem_options<T> options = hard_options();
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
      weight.weight *= residual.infeasibility > Base::tolerance(settings.tolerance_feasibility) ? T(10) : T(0.1);
    }
    uses_merit = true;
    has_update = false;
    return Status::SOLVED;
  }
};

}  // namespace anvil_rt
