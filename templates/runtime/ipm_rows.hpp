#pragma once

#include <cmath>
#include <limits>

#include "contraction.hpp"

// What interior_point.hpp works on: options and results, and the rows of a quadratic program as the
// method sees them.
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

}  // namespace anvil_rt
