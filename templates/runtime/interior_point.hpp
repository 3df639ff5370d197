#pragma once

#include <cmath>
#include <limits>

#include "contraction.hpp"

// Primal-dual interior-point method for convex quadratic programs
//
//   min 1/2 z'Hz + g'z   subject to   lower <= rows(z) <= upper,
//
// where `rows` are the variables themselves and linear functions of them, and to equalities that a
// program may have of its own. A program (riccati_ipm, dense_ipm) knows how to evaluate itself and
// to solve its Newton systems; everything about rows is here. The method is Mehrotra's predictor-corrector ("On the implementation of a primal-dual
// interior point method", SIAM J. Optim. 2, 1992) from an infeasible start, with proximal terms in
// the primal and the dual as in PIQP (Schwan, Jiang, Kuhn and Jones, "PIQP: A proximal
// interior-point quadratic programming solver", CDC 2023): they keep every Newton system solvable
// for dependent rows and singular Hessians, and vanish at the solution.
//
// Signs: the Lagrangian is f(z) + multiplier'rows(z) with one signed multiplier for each row,
// positive where the upper side holds the solution back, negative where the lower side does.
//
// A row whose sides coincide is an equality. A side that is infinite (beyond 1e20) takes no part. A
// row with a finite penalty is soft: leaving [lower, upper] by t costs penalty * t. That is the
// exact l1 penalty and adds no variables: the multiplier stays within +-penalty. A row with penalty
// 0 takes no part.

namespace anvil_rt {

enum class qp_status : int {
  solved = 0,
  max_iterations = 1,  // the residuals tell how far it came
  infeasible = 2,      // shown by multipliers (Farkas), or two sides cross
  numerics = 3,        // NaN or infinity in the data or on the way
  unbounded = 4        // the objective falls along a ray of feasible points
};

template <class T>
struct ipm_options {
  static constexpr bool wide = sizeof(T) >= 8;
  // Each residual must fall to tolerance + relative_tolerance * (size of what it is made of).
  T tolerance = wide ? T(1e-8) : T(1e-4);
  T relative_tolerance = wide ? T(1e-9) : T(1e-5);
  // Least weights of the proximal terms; they grow where a Newton system is too ill-conditioned.
  T primal_proximal = wide ? T(1e-8) : T(1e-6);
  T dual_proximal = wide ? T(1e-9) : T(1e-7);
  // Products of slacks and multipliers at the start: as a multiple of (largest entry of the
  // Lagrangian's gradient) * (largest violation), and at least for a warm start.
  T start = T(0.5);
  T warm_start_floor = wide ? T(1e-5) : T(1e-3);
  int max_iterations = 60;
  // Start from the primal and the multipliers in the program instead of from zero.
  bool warm_start = false;
};

template <class T>
struct qp_result {
  qp_status status;
  int iterations;
  T objective;        // without the penalties
  T penalty;          // of all soft rows
  T stationarity;     // largest entry of the Lagrangian's gradient
  T infeasibility;    // largest violation of a hard row or an equality
  T complementarity;  // largest product of a slack and its multiplier
  T gap;              // sum of these products
};

constexpr int at_least_one(int count) { return count > 0 ? count : 1; }

// Sum and maximum of 0 and f(0), ..., f(count - 1) in eight lanes. The maximum passes over NaN.
template <class T, class F>
inline T sum_of(int count, F f) {
  T lane[8] = {};
  int i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int j = 0; j < 8; ++j) lane[j] += f(i + j);
  }
  for (; i < count; ++i) lane[0] += f(i);
  return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

template <class T, class F>
inline T largest_of(int count, F f) {
  T lane[8] = {};
  int i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int j = 0; j < 8; ++j) {
      const T value = f(i + j);
      lane[j] = lane[j] < value ? value : lane[j];
    }
  }
  for (; i < count; ++i) {
    const T value = f(i);
    lane[0] = lane[0] < value ? value : lane[0];
  }
  T largest = lane[0];
  for (int j = 1; j < 8; ++j) largest = largest < lane[j] ? lane[j] : largest;
  return largest;
}

template <class T>
inline T larger(T a, T b) {
  return a < b ? b : a;
}

template <class T>
inline T smaller(T a, T b) {
  return b < a ? b : a;
}

// Largest magnitude, NaN if any entry is NaN or infinite.
template <class T>
inline T largest_magnitude(const T* __restrict__ v, int count) {
  const T poison = sum_of<T>(count, [v](int i) { return v[i] - v[i]; });
  return poison + largest_of<T>(count, [v](int i) { return std::fabs(v[i]); });
}

// y = A x and y = A'x for a row-major A of shape (M, N).
template <class T, int M, int N>
inline void apply_matrix(const T* a, const T* x, T* y) {
  contract<T, 1, M, 1, N, 0, N, 1, 0, 1, 1>(a, x, y);
}

template <class T, int M, int N>
inline void apply_transposed(const T* a, const T* x, T* y) {
  contract<T, 1, 1, N, M, 0, M, 1, 0, N, 1>(x, a, y);
}

// Slope and curvature of a quadratic function along a step.
template <class T>
struct ipm_ray {
  T slope, magnitude;  // gradient'step, and the sum of the magnitudes of its terms
  T curvature;         // step'hessian step

  template <int N>
  void add(const T* hessian, const T* gradient, const T* step) {
    T product[at_least_one(N)];
    apply_transposed<T, N, N>(hessian, step, product);
    for (int i = 0; i < N; ++i) {
      slope += step[i] * gradient[i];
      magnitude += std::fabs(step[i] * gradient[i]);
      curvature += step[i] * product[i];
    }
  }
};

// Rows of a program as the method sees them: a list of equalities and one of sides
// e v + s - t = e bound, with e = 1 for an upper and -1 for a lower side, a slack s >= 0 with its
// dual z >= 0 and, for soft sides only, an excess t >= 0 whose dual is penalty - z. Hard sides come
// first. `Sides` is the number of finite sides there is room for.
template <class T, int Rows, int Sides>
struct ipm_rows {
  // Whole groups of eight: g++ warns of accesses beyond shorter arrays that cannot happen.
  static constexpr int room = 8 * at_least_one((Sides + 7) / 8);
  static constexpr int room_rows = 8 * at_least_one((Rows + 7) / 8);
  static constexpr T infinite = T(1e20);

  int equalities, hard, sides;
  int equality_row[room_rows];
  T target[room_rows], equality_dual[room_rows], equality_step[room_rows];
  T equality_residual[room_rows], equality_proximal[room_rows];
  int row[room];
  T sign[room], bound[room], penalty[room];
  T slack[room], dual[room], excess[room], rest[room];  // rest = penalty - dual
  T slack_step[room], dual_step[room], excess_step[room];
  T residual[room], side_proximal[room], side_weight[room], shift[room], excess_shift[room];
  // Of all rows: squared norms, and the weights and linear terms that the rows contribute to the
  // condensed Newton system. Between Newton systems the last two are free for other use.
  T norm[room_rows], weight[room_rows], pull[room_rows];

  // Make the lists from rows `first`, ... Sides may cross by `tolerance`. A range that is hardly
  // wider than rounding errors is an equality: there is no way through between its sides.
  qp_status classify(const T* lower, const T* upper, const T* cost, int first, T tolerance) {
    const T narrow = smaller(tolerance, sizeof(T) >= 8 ? T(1e-8) : T(1e-5));
    equalities = hard = sides = 0;
    for (const bool soft : {false, true}) {
      for (int i = first; i < Rows; ++i) {
        const T l = lower[i], u = upper[i];
        if (l > u + tolerance || l >= infinite || u <= -infinite) return qp_status::infeasible;
        // Of these, NaN makes one false.
        if (!(l <= infinite && u >= -infinite && cost[i] >= T(0))) return qp_status::numerics;
        if (cost[i] == T(0) || soft != (cost[i] < infinite)) continue;
        if (!soft && u - l <= narrow) {
          equality_row[equalities] = i;
          target[equalities++] = l + (u - l) / 2;
          continue;
        }
        if (u < infinite && !append(i, T(1), u, cost[i])) return qp_status::numerics;
        if (l > -infinite && !append(i, T(-1), l, cost[i])) return qp_status::numerics;
      }
      if (!soft) hard = sides;
    }
    return qp_status::solved;
  }

  bool append(int i, T e, T limit, T cost) {
    if (sides == Sides) return false;
    row[sides] = i;
    sign[sides] = e;
    bound[sides] = e * limit;
    penalty[sides++] = cost;
    return true;
  }

  // Slacks and duals near those of `value` and `multiplier` with products `mu`: the positive
  // solution of s z = mu, s - z = (distance to the bound) - (multiplier).
  void start(const T* value, const T* multiplier, T mu) {
    for (int j = 0; j < equalities; ++j) equality_dual[j] = multiplier[equality_row[j]];
    for (int j = 0; j < sides; ++j) {
      const bool soft = j >= hard;
      const T distance = bound[j] - sign[j] * value[row[j]];
      const T given = larger(sign[j] * multiplier[row[j]], T(0));
      const T difference = (soft ? larger(distance, T(0)) : distance) - given;
      // A sum of two numbers of the same sign; the other root follows from the product.
      const T root = (std::fabs(difference) + std::sqrt(difference * difference + 4 * mu)) / 2;
      slack[j] = difference > T(0) ? root : mu / root;
      dual[j] = difference > T(0) ? mu / root : root;
      excess[j] = T(0);
      if (soft) {
        dual[j] = smaller(dual[j], penalty[j] * larger(T(1) - mu, T(0.5)));
        slack[j] = mu / dual[j];
        rest[j] = penalty[j] - dual[j];
        excess[j] = larger(mu / rest[j], -distance);
      }
    }
  }

  T largest_violation(const T* value) const {
    const T first = largest_of<T>(equalities, [this, value](int j) {
      return std::fabs(value[equality_row[j]] - target[j]);
    });
    return larger(first, largest_of<T>(sides, [this, value](int j) {
                    return sign[j] * value[row[j]] - bound[j];
                  }));
  }

  // Signed multipliers of all rows.
  void collect(T* __restrict__ multiplier) const {
    for (int i = 0; i < Rows; ++i) multiplier[i] = T(0);
    for (int j = 0; j < equalities; ++j) multiplier[equality_row[j]] = equality_dual[j];
    for (int j = 0; j < sides; ++j) multiplier[row[j]] += sign[j] * dual[j];
  }

  void collect_steps(T* __restrict__ multiplier) const {
    for (int i = 0; i < Rows; ++i) multiplier[i] = T(0);
    for (int j = 0; j < equalities; ++j) multiplier[equality_row[j]] = equality_step[j];
    for (int j = 0; j < sides; ++j) multiplier[row[j]] += sign[j] * dual_step[j];
  }

  // Candidates for a proof that there is no feasible point: multipliers of hard rows, and how they
  // grow in this step. Return the largest.
  T collect_hard(T* __restrict__ multiplier) const {
    for (int i = 0; i < Rows; ++i) multiplier[i] = T(0);
    for (int j = 0; j < equalities; ++j) multiplier[equality_row[j]] = equality_dual[j];
    for (int j = 0; j < hard; ++j) multiplier[row[j]] += sign[j] * dual[j];
    return largest_magnitude(multiplier, Rows);
  }

  T collect_growth(T* __restrict__ multiplier) const {
    for (int i = 0; i < Rows; ++i) multiplier[i] = T(0);
    for (int j = 0; j < equalities; ++j) multiplier[equality_row[j]] = equality_step[j];
    for (int j = 0; j < hard; ++j) {
      if (dual_step[j] > T(0)) multiplier[row[j]] += sign[j] * dual_step[j];
    }
    return largest_magnitude(multiplier, Rows);
  }

  // Whether a step keeps the hard rows however far it goes on; `rate` bounds what a row may grow by
  // because of rounding errors, for a row of norm 1.
  bool recedes(const T* step, T rate) const {
    const T equal = largest_of<T>(equalities, [this, step](int j) {
      return std::fabs(step[equality_row[j]]) / std::sqrt(norm[equality_row[j]]);
    });
    const T unequal = largest_of<T>(
        hard, [this, step](int j) { return sign[j] * step[row[j]] / std::sqrt(norm[row[j]]); });
    return larger(equal, unequal) <= rate;
  }

  // What a step that goes on for ever adds to the penalty at each repetition.
  T penalty_growth(const T* step) const {
    return sum_of<T>(sides - hard, [this, step](int i) {
      const int j = hard + i;
      return penalty[j] * larger(sign[j] * step[row[j]], T(0));
    });
  }

  // Largest magnitude, beside the norms of the rows.
  T largest_relative(const T* value) const {
    return std::sqrt(
        largest_of<T>(Rows, [this, value](int i) { return value[i] * value[i] / norm[i]; }));
  }

  // Residuals at the row values; returns the largest, NaN if one is not finite.
  T evaluate(const T* __restrict__ value) {
    for (int j = 0; j < equalities; ++j) equality_residual[j] = value[equality_row[j]] - target[j];
    for (int j = 0; j < sides; ++j) {
      residual[j] = sign[j] * value[row[j]] + slack[j] - excess[j] - bound[j];
    }
    const T first = largest_magnitude(equality_residual, equalities);
    const T second = largest_magnitude(residual, sides);
    return first + second - smaller(first, second);
  }

  // Largest contribution of a row to the Lagrangian's gradient.
  T largest_term(const T* multiplier) const {
    return std::sqrt(largest_of<T>(
        Rows, [this, multiplier](int i) { return multiplier[i] * multiplier[i] * norm[i]; }));
  }

  int products() const { return sides + (sides - hard); }

  T product_sum() const {
    return sum_of<T>(sides, [this](int j) { return slack[j] * dual[j]; }) +
           sum_of<T>(sides - hard, [this](int i) { return excess[hard + i] * rest[hard + i]; });
  }

  T product_sum_after(T primal, T duality) const {
    return sum_of<T>(sides,
                     [this, primal, duality](int j) {
                       return (slack[j] + primal * slack_step[j]) *
                              (dual[j] + duality * dual_step[j]);
                     }) +
           sum_of<T>(sides - hard, [this, primal, duality](int i) {
             const int j = hard + i;
             return (excess[j] + primal * excess_step[j]) * (rest[j] - duality * dual_step[j]);
           });
  }

  T largest_product() const {
    const T first = largest_of<T>(sides, [this](int j) { return slack[j] * dual[j]; });
    return larger(first, largest_of<T>(sides - hard, [this](int i) {
                    return excess[hard + i] * rest[hard + i];
                  }));
  }

  T total_penalty() const {
    return sum_of<T>(sides - hard,
                     [this](int i) { return penalty[hard + i] * excess[hard + i]; });
  }

  // Weights for proximal terms that do not depend on how rows are scaled.
  void weigh(T proximal) {
    for (int i = 0; i < Rows; ++i) weight[i] = T(0);
    for (int j = 0; j < equalities; ++j) {
      equality_proximal[j] = proximal * norm[equality_row[j]];
      weight[equality_row[j]] = T(1) / equality_proximal[j];
    }
    for (int j = 0; j < sides; ++j) side_proximal[j] = proximal * norm[row[j]];
    for (int j = 0; j < hard; ++j) {
      side_weight[j] = dual[j] / (slack[j] + side_proximal[j] * dual[j]);
    }
    for (int j = hard; j < sides; ++j) {
      side_weight[j] = T(1) / (slack[j] / dual[j] + excess[j] / rest[j] + side_proximal[j]);
    }
    for (int j = 0; j < sides; ++j) weight[row[j]] += side_weight[j];
  }

  // Right-hand side for products of `mu`; `corrected` accounts for the products of the last step.
  void aim(T mu, bool corrected) {
    if (corrected) {
      for (int j = 0; j < sides; ++j) {
        shift[j] = residual[j] - slack[j] + (mu - slack_step[j] * dual_step[j]) / dual[j];
      }
    } else {
      for (int j = 0; j < sides; ++j) shift[j] = residual[j] - slack[j] + mu / dual[j];
    }
    for (int j = hard; j < sides; ++j) {
      const T second = corrected ? excess_step[j] * dual_step[j] : T(0);
      excess_shift[j] = (mu + second) / rest[j] - excess[j];
      shift[j] -= excess_shift[j];
    }
    for (int i = 0; i < Rows; ++i) pull[i] = T(0);
    for (int j = 0; j < equalities; ++j) {
      pull[equality_row[j]] = equality_residual[j] / equality_proximal[j];
    }
    for (int j = 0; j < sides; ++j) pull[row[j]] += sign[j] * side_weight[j] * shift[j];
  }

  // Steps of slacks, duals and excesses that go with a step of the row values.
  void respond(const T* __restrict__ step) {
    for (int j = 0; j < equalities; ++j) {
      equality_step[j] = (step[equality_row[j]] + equality_residual[j]) / equality_proximal[j];
    }
    for (int j = 0; j < sides; ++j) {
      const T moved = sign[j] * step[row[j]];
      dual_step[j] = side_weight[j] * (moved + shift[j]);
      slack_step[j] = side_proximal[j] * dual_step[j] - moved - residual[j];
    }
    for (int j = hard; j < sides; ++j) {
      excess_step[j] = excess_shift[j] + excess[j] * dual_step[j] / rest[j];
      slack_step[j] += excess_step[j];
    }
  }

  // Longest steps up to 1 that keep slacks, excesses and their duals from being negative.
  void step_lengths(T& primal, T& duality) const {
    T toward = largest_of<T>(sides, [this](int j) { return -slack_step[j] / slack[j]; });
    T outward = largest_of<T>(sides, [this](int j) { return -dual_step[j] / dual[j]; });
    for (int j = hard; j < sides; ++j) {
      toward = larger(toward, -excess_step[j] / excess[j]);
      outward = larger(outward, dual_step[j] / rest[j]);
    }
    primal = T(1) / larger(toward, T(1));
    duality = T(1) / larger(outward, T(1));
  }

  void advance(T primal, T duality) {
    for (int j = 0; j < equalities; ++j) equality_dual[j] += duality * equality_step[j];
    for (int j = 0; j < sides; ++j) {
      slack[j] += primal * slack_step[j];
      dual[j] += duality * dual_step[j];
    }
    for (int j = hard; j < sides; ++j) {
      excess[j] += primal * excess_step[j];
      rest[j] -= duality * dual_step[j];
    }
  }
};

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
