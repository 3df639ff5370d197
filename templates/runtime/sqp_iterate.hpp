#pragma once

#include <chrono>
#include <cmath>
#include <limits>

#include "sqp_blocks.hpp"
#include "sqp_program.hpp"

// What the SQP method (sqp.hpp) knows about its iterates: values, derivatives, residuals of the
// optimality conditions, and the best iterate so far.

namespace anvil_rt {

class stopwatch {
 public:
  stopwatch() : start_(std::chrono::steady_clock::now()) {}
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_;
};

template <class Model, class Api>
struct sqp_iterate {
  using T = typename Model::Real;
  using Status = typename Api::Status;
  using Settings = typename Api::Settings;
  using Statistics = typename Api::Statistics;
  using Iteration = typename Api::Iteration;
  using Monitor = typename Api::Monitor;

  static constexpr int n = Model::variables;
  static constexpr int equalities = Model::equalities;
  static constexpr int inequalities = Model::inequalities;
  static constexpr T infinity = std::numeric_limits<T>::infinity();

  struct point {
    T x[at_least_one(n)];
    T objective;
    T equality[at_least_one(equalities)];      // c(x) - right-hand side
    T inequality[at_least_one(inequalities)];  // g(x)
    T violation;                               // of the constraints, l1; NaN where values are
  };

  struct residuals {
    T stationarity, infeasibility, complementarity;
    T worst() const { return larger(stationarity, larger(infeasibility, complementarity)); }
  };

  // The problem's data.
  T parameters[at_least_one(Model::parameters)];
  T x_lower[at_least_one(n)], x_upper[at_least_one(n)];
  T equality_target[at_least_one(equalities)];
  T lower[at_least_one(inequalities)], upper[at_least_one(inequalities)];
  Settings settings;
  Monitor monitor;
  void* monitor_context;

  // The iterate, the point under trial, the best iterate so far.
  Model model;
  sqp_program<Model> program;
  point now, trial, best;
  residuals residual, best_residual;
  sqp_multipliers<Model> multipliers, best_multipliers;
  T lagrangian[at_least_one(n)];  // gradient
  T exact_hessian[at_least_one(Model::hessian_entries)];
  Statistics statistics;
  Iteration line;
  stopwatch clock;
  bool has_best;
  bool has_update;  // of a quasi-Newton Hessian
  T start_objective, start_size;  // of the first iterate

  void clear_multipliers() {
    for (int i = 0; i < equalities; ++i) multipliers.equality[i] = T(0);
    for (int i = 0; i < inequalities; ++i) multipliers.inequality[i] = T(0);
    for (int j = 0; j < n; ++j) multipliers.x[j] = T(0);
  }

  // Start counting.
  void begin() {
    statistics = Statistics();
    line = Iteration();
    clock = stopwatch();
    has_best = has_update = false;
    if (settings.warm_start == 0) clear_multipliers();
  }

  // 0: fine, 1: bounds cross, 2: NaN.
  int check_data() {
    int wrong = 0;
    for (int j = 0; j < n; ++j) {
      if (!std::isfinite(now.x[j])) {
        now.x[j] = T(0);
        wrong = 2;
      }
      wrong = larger(wrong, check_sides(x_lower[j], x_upper[j]));
    }
    for (int i = 0; i < inequalities; ++i) wrong = larger(wrong, check_sides(lower[i], upper[i]));
    for (int i = 0; i < equalities; ++i) {
      if (!std::isfinite(equality_target[i])) wrong = 2;
    }
    if (wrong != 0) {
      best = now;
      best.objective = T(0);
      best_multipliers = multipliers;
    }
    return wrong;
  }

  static int check_sides(T low, T high) {
    if (low <= high && low < infinity && high > -infinity) return 0;
    return low > high || low == infinity || high == -infinity ? 1 : 2;
  }

  void evaluate(point& at) {
    const stopwatch watch;
    model.evaluate(at.x, parameters, &at.objective, at.equality, at.inequality);
    for (int i = 0; i < equalities; ++i) at.equality[i] -= equality_target[i];
    measure_violation(at);
    ++statistics.evaluations;
    statistics.time_evaluation += watch.seconds();
  }

  void measure_violation(point& at) const {
    T sum = at.objective - at.objective;  // 0, or NaN if anything is not finite
    T total = T(0);
    for (int i = 0; i < equalities; ++i) total += std::fabs(at.equality[i]);
    for (int i = 0; i < inequalities; ++i) {
      sum += at.inequality[i] - at.inequality[i];
      total += violation_of(at.inequality[i], lower[i], upper[i]);
    }
    for (int j = 0; j < n; ++j) total += violation_of(at.x[j], x_lower[j], x_upper[j]);
    at.violation = total + sum;
  }

  static bool is_finite(const point& at) {
    return std::isfinite(at.objective) && std::isfinite(at.violation);
  }

  // Derivatives at the iterate; false if one is not finite.
  bool linearize() {
    if (!is_finite(now)) return false;
    const stopwatch watch;
    T* hessian = Model::quasi_newton ? exact_hessian : program.hessian;
    model.differentiate(now.x, parameters, multipliers.equality, multipliers.inequality,
                        program.gradient, program.equality, program.inequality, hessian);
    if constexpr (Model::quasi_newton) {
      if (!has_update) set_diagonal(model, exact_hessian, T(1));
      for (int e = 0; e < Model::hessian_entries; ++e) program.hessian[e] = exact_hessian[e];
    } else {
      const T added = T(settings.regularization);
      for (int j = 0; j < n; ++j) program.hessian[model.hessian.starts[j + 1] - 1] += added;
      for (int e = 0; e < Model::hessian_entries; ++e) exact_hessian[e] = program.hessian[e];
    }
    const T size = largest_magnitude(program.gradient, n) +
                   largest_magnitude(program.equality, Model::equality_entries) +
                   largest_magnitude(program.inequality, Model::inequality_entries) +
                   largest_magnitude(program.hessian, Model::hessian_entries);
    statistics.time_evaluation += watch.seconds();
    return std::isfinite(size);
  }

  void set_lagrangian(const sqp_multipliers<Model>& at) {
    for (int j = 0; j < n; ++j) lagrangian[j] = program.gradient[j] + at.x[j];
    add_transposed_product(model.equality, program.equality, at.equality, lagrangian);
    add_transposed_product(model.inequality, program.inequality, at.inequality, lagrangian);
  }

  void measure() {
    set_lagrangian(multipliers);
    T infeasibility = T(0), complementarity = T(0), sum = T(0);
    for (int i = 0; i < equalities; ++i) {
      infeasibility = larger(infeasibility, std::fabs(now.equality[i]));
      sum += std::fabs(multipliers.equality[i]);
    }
    const auto side = [&](T multiplier, T value, T low, T high) {
      sum += std::fabs(multiplier);
      infeasibility = larger(infeasibility, violation_of(value, low, high));
      const T distance = multiplier > T(0) ? high - value : value - low;
      // A multiplier of a side that is not there counts itself.
      const T product = std::isfinite(distance) ? multiplier * distance : multiplier;
      complementarity = larger(complementarity, std::fabs(product));
    };
    for (int i = 0; i < inequalities; ++i) {
      side(multipliers.inequality[i], now.inequality[i], lower[i], upper[i]);
    }
    for (int j = 0; j < n; ++j) side(multipliers.x[j], now.x[j], x_lower[j], x_upper[j]);
    const T count = T(at_least_one(n + equalities + inequalities));
    const T scale = larger(T(1), sum / count / T(100));
    residual.stationarity = largest_magnitude(lagrangian, n) / scale;
    residual.infeasibility = infeasibility;
    residual.complementarity = complementarity / scale;
  }

  // Residuals do not get smaller than rounding errors allow.
  static T tolerance(double asked) {
    return larger(T(asked), 1000 * std::numeric_limits<T>::epsilon());
  }

  bool is_solved() const {
    const T rounding =
        16 * std::numeric_limits<T>::epsilon() * largest_magnitude(program.gradient, n);
    return residual.stationarity <= tolerance(settings.tolerance_stationarity) + rounding &&
           residual.infeasibility <= tolerance(settings.tolerance_feasibility) &&
           residual.complementarity <= tolerance(settings.tolerance_complementarity);
  }

  // An objective that has fallen beyond all scales, or far out nearly so.
  bool is_unbounded() const {
    const T scale = larger(T(1), std::fabs(start_objective));
    const bool is_far = largest_magnitude(now.x, n) > T(1e9) * larger(T(1), start_size);
    return now.objective < start_objective - (is_far ? T(1e9) : T(1e15)) * scale;
  }

  void report() {
    if (monitor == nullptr) return;
    line.iteration = statistics.iterations;
    line.objective = static_cast<double>(now.objective);
    line.stationarity = static_cast<double>(residual.stationarity);
    line.infeasibility = static_cast<double>(residual.infeasibility);
    line.complementarity = static_cast<double>(residual.complementarity);
    line.time = clock.seconds();
    monitor(monitor_context, &line);
  }

  // Keep the iterate if it is the best: feasible ones by their objective, others by violation.
  void remember() {
    const T enough = tolerance(settings.tolerance_feasibility);
    const bool feasible = residual.infeasibility <= enough;
    const bool better = !has_best || is_solved() ||
                        (feasible ? best_residual.infeasibility > enough ||
                                        now.objective <= best.objective
                                  : residual.infeasibility < best_residual.infeasibility);
    if (!better) return;
    has_best = true;
    best = now;
    best_residual = residual;
    best_multipliers = multipliers;
  }

  void describe(const point& at, const residuals& of) {
    statistics.objective = static_cast<double>(at.objective);
    statistics.stationarity = static_cast<double>(of.stationarity);
    statistics.infeasibility = static_cast<double>(of.infeasibility);
    statistics.complementarity = static_cast<double>(of.complementarity);
  }

  Status finish(Status status) {
    if (!has_best) {
      best = now;
      best_multipliers = multipliers;
      best_residual = {infinity, infinity, infinity};
      if (!std::isfinite(best.objective)) best.objective = T(0);
    }
    describe(best, best_residual);
    statistics.time = clock.seconds();
    now = best;
    multipliers = best_multipliers;
    return status;
  }
};

}  // namespace anvil_rt
