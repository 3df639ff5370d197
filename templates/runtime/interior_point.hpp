#pragma once

#include <cmath>
#include <limits>

#include "ipm_rows.hpp"

// Primal-dual interior-point method for convex quadratic programs
//
//   min 1/2 z'Hz + g'z   subject to   lower <= rows(z) <= upper,
//
// where `rows` are the variables themselves and linear functions of them, and to equalities that a
// program may have of its own. A program (riccati_ipm, dense_ipm) knows how to evaluate itself and
// to solve its Newton systems; everything about rows is in ipm_rows.hpp. The method is Mehrotra's
// predictor-corrector ("On the implementation of a primal-dual interior point method", SIAM J.
// Optim. 2, 1992) from an infeasible start, with proximal terms in the primal and the dual as in
// PIQP (Schwan, Jiang, Kuhn and Jones, "PIQP: A proximal interior-point quadratic programming
// solver", CDC 2023): they keep every Newton system solvable for dependent rows and singular
// Hessians, and vanish at the solution.

namespace anvil_rt {

// Whether multipliers prove that no point fulfils all hard rows and equalities: for a feasible z,
// with |z| up to `radius` in the variables that need it, the sum of all rows weighted with them
// would be positive and not positive at once (Farkas' lemma).
//
// adjoint[i] is the coefficient of variable i in sum_k multiplier_k (row_k or equality_k) without
// bounds of variables, and `offset` the constant of that sum. Variables are the first `variables`
// of each `stride` rows.
template <class T>
inline bool proves_infeasible(const T* adjoint, T offset, const T* lower, const T* upper,
                              const T* penalty, const T* multiplier, int rows, int variables,
                              int stride, T radius) {
  constexpr T infinite = T(1e20);
  T total = offset, sum = std::fabs(offset);
  for (int base = 0; base < rows; base += stride) {
    for (int i = base; i < base + stride; ++i) {
      const bool hard = penalty[i] >= infinite;
      T term = T(0);
      if (i < base + variables) {
        const T limit = adjoint[i] > T(0) ? lower[i] : upper[i];
        const bool bounded = hard && std::fabs(limit) < infinite;
        term = bounded ? adjoint[i] * limit : -std::fabs(adjoint[i]) * radius;
      } else if (hard && multiplier[i] != T(0)) {
        // One that points to an infinite side makes the sum -infinity.
        term = -multiplier[i] * (multiplier[i] > T(0) ? upper[i] : lower[i]);
      }
      total += term;
      sum += std::fabs(term);
    }
  }
  return total > 100 * std::numeric_limits<T>::epsilon() * sum;
}

// Where no point is feasible, the multipliers grow without end, and they as well as the direction
// they grow in tend to a proof of that. It must hold `reach` times as far out as the iterates are.
// The step must be complete.
template <class T, class Program>
inline bool shows_infeasible(Program& program, T reach) {
  constexpr int count = Program::row_count;
  T* candidate = program.rows.pull;
  T* adjoint = program.rows.weight;
  const T radius = reach * (1 + largest_magnitude(program.primal(), count) +
                            largest_magnitude(program.step(), count));
  for (const bool growth : {true, false}) {
    const T largest = growth ? program.rows.collect_growth(candidate)
                             : program.rows.collect_hard(candidate);
    if (!(largest > 10)) return false;
    const T offset = program.adjoint(candidate, adjoint);
    if (proves_infeasible(adjoint, offset, program.lower(), program.upper(), program.penalty(),
                          candidate, count, Program::variables, Program::stride, radius)) {
      return true;
    }
  }
  return false;
}

// Where the objective falls without end, the iterates run away, with steps that get longer and
// longer until the proximal term holds them back. A long step from a feasible point that keeps all
// hard rows, and along which the objective falls at least half as fast even `reach` times as far
// out, counts as a ray: a minimum that far out (more than 1e10 in double, 1e6 in float) is out of
// reach of this arithmetic.
template <class T, class Program>
inline bool shows_unbounded(Program& program, const ipm_options<T>& options, T violation) {
  constexpr T rounding = sizeof(T) >= 8 ? T(2e-11) : T(2e-5);
  constexpr T reach = sizeof(T) >= 8 ? T(1e4) : T(100);
  auto& rows = program.rows;
  constexpr T far = sizeof(T) >= 8 ? T(1e6) : T(1e5);
  if (!(largest_magnitude(program.step(), Program::row_count) > far)) return false;
  const T length = rows.largest_relative(program.step());
  if (!(length > far)) return false;
  if (!(violation <= options.tolerance + options.relative_tolerance * length)) return false;
  if (!rows.recedes(program.step(), rounding * length)) return false;
  const ipm_ray<T> ray = program.ray();
  const T slope = ray.slope + rows.penalty_growth(program.step());
  return slope < -T(1e-6) * ray.magnitude && reach * ray.curvature < -slope / 2;
}

// What one iteration leaves to the next.
template <class T>
struct ipm_state {
  T primal_proximal, dual_proximal;
  T start;         // products at the start
  T outside;       // largest violation at the start
  T stationarity;  // before the last step
  T length;        // of the last step, as a fraction of the complete one
  bool refining;   // Newton systems need iterative refinement
  bool joint;      // primal and dual steps are to have the same length
};

// Set the start: the point itself is the program's.
template <class T, class Program>
inline ipm_state<T> start_interior_point(Program& program, const ipm_options<T>& options) {
  auto& rows = program.rows;
  program.row_norms(rows.norm);
  for (int i = 0; i < Program::row_count; ++i) {
    if (!(rows.norm[i] > T(0))) rows.norm[i] = T(1);
  }
  program.begin(options.warm_start);
  qp_result<T> result = {};
  program.evaluate(result);
  const T violation = larger(rows.largest_violation(program.primal()), result.infeasibility);
  const T floor = options.warm_start ? options.warm_start_floor : T(1e-3);
  ipm_state<T> state = {};
  state.primal_proximal = options.primal_proximal;
  state.dual_proximal = options.dual_proximal;
  state.start = options.start * result.stationarity * violation;
  state.start = smaller(larger(state.start, floor), T(1e4));
  state.outside = larger(violation, options.tolerance);
  state.stationarity = std::numeric_limits<T>::infinity();
  rows.start(program.primal(), program.multiplier(), state.start);
  return state;
}

// Residuals of the iterate, and whether it is good enough. Sets status solved or numerics if the
// method ends here.
template <class T, class Program>
inline bool finish_interior_point(Program& program, const ipm_options<T>& options,
                                  qp_result<T>& result) {
  auto& rows = program.rows;
  rows.collect(program.multiplier());
  program.evaluate(result);
  const T violation = rows.evaluate(program.primal());
  if (!(violation <= result.infeasibility)) result.infeasibility = violation;
  result.complementarity = rows.largest_product();
  result.gap = rows.product_sum();
  result.penalty = rows.total_penalty();
  const T size = largest_magnitude(program.primal(), Program::row_count);
  const T check = result.stationarity + result.infeasibility + result.gap + size;
  if (!(check < std::numeric_limits<T>::infinity())) {
    result.status = qp_status::numerics;
    return true;
  }
  const T relative = options.relative_tolerance;
  // No gradient gets smaller than the rounding errors of its own terms.
  const T rounding =
      4 * std::numeric_limits<T>::epsilon() * rows.largest_term(program.multiplier());
  const T scale = program.stationarity_scale();
  if (result.stationarity <= options.tolerance + relative * scale + rounding &&
      result.infeasibility <= options.tolerance + relative * size &&
      result.complementarity <= options.tolerance + relative * std::fabs(result.objective)) {
    result.status = qp_status::solved;
    return true;
  }
  return false;
}

// Heavier proximal terms, because rounding errors beside the largest weights of rows outweigh the
// smallest curvature. False if they cannot get any heavier.
template <class T>
inline bool strengthen(ipm_state<T>& state) {
  constexpr T least = sizeof(T) >= 8 ? T(1e-8) : T(1e-4);
  state.primal_proximal = larger(10 * state.primal_proximal, least);
  state.dual_proximal = larger(smaller(10 * state.dual_proximal, T(1e-3)), state.dual_proximal);
  return state.primal_proximal < T(1e8);
}

// One step; false if the Newton system cannot be solved.
template <class T, class Program>
inline bool find_step(Program& program, const ipm_options<T>& options, ipm_state<T>& state,
                      const qp_result<T>& result, T& primal, T& duality) {
  auto& rows = program.rows;
  rows.weigh(state.dual_proximal);
  while (!program.factor(state.primal_proximal)) {
    if (!strengthen(state)) return false;
    rows.weigh(state.dual_proximal);
  }
  primal = duality = T(1);
  const int products = rows.products();
  rows.aim(T(0), false);
  if (products > 0) {
    program.direction(false);
    rows.respond(program.step());
    rows.step_lengths(primal, duality);
    const T ratio = rows.product_sum_after(primal, duality) / result.gap;
    const T mean = result.gap / static_cast<T>(products);
    // No further down than needed, nor much faster than the rows get feasible.
    const T enough = options.tolerance + options.relative_tolerance * std::fabs(result.objective);
    const T lag = T(1e-3) * state.start * (result.infeasibility / state.outside);
    const T target = larger(ratio * ratio * ratio * mean, smaller(lag, mean));
    // Little correction for what is far beyond the reach of this step (Colombo and Gondzio,
    // "Further development of multiple centrality correctors for interior point methods",
    // Comput. Optim. Appl. 41, 2008): with singular Hessians, the predictor's steps and their
    // products can be enormous.
    const T reach = primal * duality;
    for (int j = 0; j < rows.sides && reach < T(0.1); ++j) rows.dual_step[j] *= reach;
    rows.aim(larger(target, T(0.1) * enough), true);
  }
  program.direction(true);
  rows.respond(program.step());
  T error = std::numeric_limits<T>::infinity();
  for (int refinement = 0; state.refining && refinement < 2; ++refinement) {
    rows.collect_steps(rows.pull);
    const T last = error;
    error = program.remainder(rows.pull, state.primal_proximal);
    if (!(error > T(0.1) * options.tolerance)) break;
    if (!(error < last / 2)) {
      const T before = state.primal_proximal;
      strengthen(state);
      state.primal_proximal = before;
      break;
    }
    program.refine();
    rows.respond(program.step());
  }
  if (products > 0) {
    rows.step_lengths(primal, duality);
    primal *= T(0.995);
    duality *= T(0.995);
    if (state.joint) primal = duality = smaller(primal, duality);
  }
  return true;
}

// The method itself. A Program has
//   rows, lower(), upper(), penalty()   see ipm_rows; flat, one entry for each row
//   primal(), step(), multiplier()      flat: values of all rows, the variables among them
//   first_row()                         rows before it are none of this function's business
//   finite()                            whether the data is
//   row_norms(out)                      squares of the norms of all rows
//   begin(warm)                         set the start and its row values
//   evaluate(result)                    row values and the Lagrangian's gradient;
//                                       result.stationarity, .objective, and .infeasibility of its
//                                       own equalities
//   stationarity_scale()                size of what that gradient is made of
//   factor(proximal)                    for rows.weight; false if the matrix is not positive
//   direction(final)                    fill step() for rows.pull, its own multipliers too if final
//   remainder(multipliers, proximal)    largest error of the step as a solution
//   refine()                            reduce it
//   ray()                               the objective along the step
//   advance(primal, dual)               move by the step
//   adjoint(multipliers, out)           of the rows and its own equalities, see proves_infeasible;
//                                       returns the offset
template <class T, class Program>
inline qp_result<T> interior_point(Program& program, const ipm_options<T>& options) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  qp_result<T> result = {qp_status::numerics, 0,        T(0),     T(0),
                         infinity,            infinity, infinity, infinity};
  if (!program.finite()) return result;
  result.status = program.rows.classify(program.lower(), program.upper(), program.penalty(),
                                        program.first_row(), options.tolerance);
  if (result.status != qp_status::solved) return result;
  ipm_state<T> state = start_interior_point<T>(program, options);
  for (;; ++result.iterations) {
    if (finish_interior_point(program, options, result)) return result;
    const bool outside = result.infeasibility > options.tolerance;
    if (result.iterations >= options.max_iterations) {
      const bool shown = outside && result.iterations > 0 && shows_infeasible(program, T(100));
      result.status = shown ? qp_status::infeasible : qp_status::max_iterations;
      return result;
    }
    // A full step leaves no more of the gradient than its error; unequal steps may add to it.
    const bool open = result.stationarity > options.tolerance;
    const T before = state.stationarity;
    state.refining = state.refining ||
                     (open && state.length > T(0.9) && result.stationarity > before / 2);
    state.joint = state.joint || (open && result.stationarity > 4 * before);
    state.stationarity = result.stationarity;
    T primal, duality;
    if (!find_step(program, options, state, result, primal, duality)) {
      result.status = qp_status::numerics;
      return result;
    }
    if (outside && shows_infeasible(program, options.wide ? T(1e4) : T(1e3))) {
      result.status = qp_status::infeasible;
      return result;
    }
    if (shows_unbounded(program, options, result.infeasibility)) {
      result.status = qp_status::unbounded;
      return result;
    }
    state.length = smaller(primal, duality);
    state.primal_proximal = larger(state.primal_proximal / 10, options.primal_proximal);
    program.rows.advance(primal, duality);
    program.advance(primal, duality);
  }
}

}  // namespace anvil_rt
