#pragma once

#include <cmath>
#include <limits>

#include "cholesky.hpp"
#include "contraction.hpp"
#include "interior_point.hpp"
#include "triangular.hpp"

// Quadratic programs over N + 1 stages, as in optimal control:
//
//   min sum_k 1/2 z_k'H_k z_k + g_k'z_k,  z_k = (x_k, u_k) with NX + NU entries, k = 0, ..., N
//   x_{k+1} = A_k x_k + B_k u_k + b_k,    k = 0, ..., N - 1
//   lower_k <= (z_k, C_k z_k) <= upper_k, with NG rows C_k
//
// by the interior-point method of interior_point.hpp. The Newton systems are linear-quadratic
// control problems, solved by the Riccati recursion (Rao, Wright and Rawlings, "Application of
// interior-point methods to model predictive control", J. Optim. Theory Appl. 99, 1998) in
// O(N (NX + NU)^3).

namespace anvil_rt {

// Inverse of a symmetric positive definite N by N matrix in place, by Gauss-Jordan elimination.
// False if a pivot is not positive, or no more than the rounding errors of its own elimination.
template <class T, int N>
inline bool invert_positive(T* a) {
  constexpr T rounding = 4 * std::numeric_limits<T>::epsilon();
  constexpr int size = at_least_one(N);
  T before[size], row[size], column[size];
  for (int i = 0; i < N; ++i) before[i] = a[i * N + i];
  for (int j = 0; j < N; ++j) {
    const T pivot = a[j * N + j];
    if (!(pivot > rounding * before[j])) return false;
    const T inverse = T(1) / pivot;
    for (int i = 0; i < N; ++i) column[i] = a[i * N + j];
    for (int k = 0; k < N; ++k) row[k] = a[j * N + k] * inverse;
    for (int i = 0; i < N; ++i) {
      for (int k = 0; k < N; ++k) a[i * N + k] -= column[i] * row[k];
    }
    for (int i = 0; i < N; ++i) a[i * N + j] = -column[i] * inverse;
    for (int k = 0; k < N; ++k) a[j * N + k] = row[k];
    a[j * N + j] = inverse;
  }
  return true;
}

// Data, solution and working memory in one: no pointers, so it can be copied bit by bit and put
// anywhere. Call reset() once, fill in the data, call solve() as often as needed; solve() does not
// touch the data.
//
// Stages with fewer variables or rows than others leave the surplus entries as reset() sets them;
// so does the last stage, which usually has no u. Equal bounds on all of x_0 fix the initial state
// exactly, at no cost. `Sides` is the number of finite sides (lower and upper ones counted apart)
// that there is room for; solve() answers `numerics` if there are more.
template <class T, int N, int NX, int NU, int NG, int Sides = 2 * (N + 1) * (NX + NU + NG)>
struct riccati_ipm {
  static constexpr int NZ = NX + NU;  // variables of a stage
  static constexpr int NR = NX + NG;  // rows of a stage's Jacobian
  static constexpr int variables = NZ;
  static constexpr int stride = NZ + NG;
  static constexpr int row_count = (N + 1) * stride;

  // Data. Matrices are row-major, Hessians with both triangles.
  T hessian[N + 1][at_least_one(NZ * NZ)];
  T gradient[N + 1][at_least_one(NZ)];
  T jacobian[N + 1][at_least_one(NR * NZ)];  // [A_k B_k] (zero for k = N) over C_k
  T offset[N + 1][at_least_one(NX)];         // b_k (zero for k = N)
  T lower_bound[N + 1][at_least_one(stride)], upper_bound[N + 1][at_least_one(stride)];
  T row_penalty[N + 1][at_least_one(stride)];  // infinite: hard

  // Solution, and the start if options.warm_start.
  T value[N + 1][at_least_one(stride)];           // x_k, u_k, C_k z_k
  T row_multiplier[N + 1][at_least_one(stride)];  // see interior_point.hpp for the sign
  T costate[N + 1][at_least_one(NX)];             // multiplier of A z + b - x_{k+1}; last: zero

  // Working memory.
  ipm_rows<T, row_count, Sides> rows;
  T value_step[N + 1][at_least_one(stride)];
  T costate_step[N + 1][at_least_one(NX)];
  T slope[N + 1][at_least_one(NZ)];              // H z + g
  T lagrangian[N + 1][at_least_one(NZ)];         // its gradient
  T error[N + 1][at_least_one(NZ)];              // of the step in that
  T defect[N + 1][at_least_one(NX)];             // A z + b - x_{k+1}
  T cost[N + 1][at_least_one(NX * NX)];          // Hessian of the cost to go
  T cost_slope[N + 1][at_least_one(NX)];         // its linear term
  T cost_defect[N + 1][at_least_one(NX)];        // next cost times defect
  T gain[N + 1][at_least_one(NU * NX)];          // u = -gain x - input_step
  T input_inverse[N + 1][at_least_one(NU * NU)];
  T input_step[N + 1][at_least_one(NU)];
  T initial_factor[at_least_one(NX * NX)];
  bool initial_fixed;
  bool has_rows[N + 1];  // C_k is not all zero

  // Set everything to what has no effect: no cost, no rows, no bounds, all rows hard.
  void reset() {
    *this = riccati_ipm();
    constexpr T infinity = std::numeric_limits<T>::infinity();
    for (int k = 0; k <= N; ++k) {
      for (int i = 0; i < stride; ++i) {
        lower_bound[k][i] = -infinity;
        upper_bound[k][i] = infinity;
        row_penalty[k][i] = infinity;
      }
    }
  }

  qp_result<T> solve(const ipm_options<T>& options) {
    initial_fixed = true;
    for (int i = 0; i < NX; ++i) {
      const bool fixed = lower_bound[0][i] == upper_bound[0][i] &&
                         std::fabs(lower_bound[0][i]) < rows.infinite &&
                         row_penalty[0][i] >= rows.infinite;
      initial_fixed = initial_fixed && fixed;
    }
    return interior_point<T>(*this, options);
  }

  // The rest is what interior_point() asks for.

  const T* lower() const { return lower_bound[0]; }
  const T* upper() const { return upper_bound[0]; }
  const T* penalty() const { return row_penalty[0]; }
  T* primal() { return value[0]; }
  T* step() { return value_step[0]; }
  T* multiplier() { return row_multiplier[0]; }
  int first_row() const { return initial_fixed ? NX : 0; }
  T stationarity_scale() const { return largest_magnitude(slope[0], (N + 1) * NZ); }

  bool finite() const {
    const T sum = largest_magnitude(hessian[0], (N + 1) * NZ * NZ) +
                  largest_magnitude(gradient[0], (N + 1) * NZ) +
                  largest_magnitude(jacobian[0], (N + 1) * NR * NZ) +
                  largest_magnitude(offset[0], (N + 1) * NX);
    return sum - sum == T(0);
  }

  void row_norms(T* out) {
    for (int k = 0; k <= N; ++k, out += stride) {
      has_rows[k] = false;
      for (int i = 0; i < NZ; ++i) out[i] = T(1);
      for (int i = 0; i < NG; ++i) {
        const T* row = jacobian[k] + (NX + i) * NZ;
        out[NZ + i] = sum_of<T>(NZ, [row](int j) { return row[j] * row[j]; });
        has_rows[k] = has_rows[k] || out[NZ + i] > T(0);
      }
    }
  }

  // Stages without general rows (often all but the last one) are spared the work for them, unless
  // it is hardly any.
  bool uses_rows(int k) const { return NG < 4 || has_rows[k]; }

  // [A B; C] z and its transpose.
  void apply_jacobian(int k, const T* z, T* images) const {
    if (uses_rows(k)) {
      apply_matrix<T, NR, NZ>(jacobian[k], z, images);
    } else {
      apply_matrix<T, NX, NZ>(jacobian[k], z, images);
      for (int i = NX; i < NR; ++i) images[i] = T(0);
    }
  }

  void apply_jacobian_transposed(int k, const T* duals, T* product) const {
    if (uses_rows(k)) {
      apply_transposed<T, NR, NZ>(jacobian[k], duals, product);
    } else {
      apply_transposed<T, NX, NZ>(jacobian[k], duals, product);
    }
  }

  void begin(bool warm) {
    for (int k = 0; k <= N; ++k) {
      if (!warm) {
        for (int i = 0; i < stride; ++i) value[k][i] = row_multiplier[k][i] = T(0);
        for (int i = 0; i < NX; ++i) costate[k][i] = T(0);
      }
      for (int i = 0; i < NX && k == 0 && initial_fixed; ++i) value[0][i] = lower_bound[0][i];
      apply_matrix<T, NG, NZ>(jacobian[k] + NX * NZ, value[k], value[k] + NZ);
    }
    for (int i = 0; i < NX; ++i) costate[N][i] = costate_step[N][i] = T(0);
  }

  // Multipliers in the order of the Jacobian's rows.
  static void join_multipliers(const T* costates, const T* multipliers, T* out) {
    for (int i = 0; i < NX; ++i) out[i] = costates[i];
    for (int i = 0; i < NG; ++i) out[NX + i] = multipliers[NZ + i];
  }

  void evaluate(qp_result<T>& result) {
    T objective = T(0);
    for (int k = 0; k <= N; ++k) {
      T* z = value[k];
      T product[at_least_one(NZ)], duals[at_least_one(NR)], images[at_least_one(NR)];
      apply_transposed<T, NZ, NZ>(hessian[k], z, product);
      for (int i = 0; i < NZ; ++i) slope[k][i] = gradient[k][i] + product[i];
      for (int i = 0; i < NZ; ++i) objective += z[i] * (gradient[k][i] + slope[k][i]);
      join_multipliers(costate[k], row_multiplier[k], duals);
      apply_jacobian_transposed(k, duals, product);
      for (int i = 0; i < NZ; ++i) {
        lagrangian[k][i] = slope[k][i] + product[i] + row_multiplier[k][i];
      }
      for (int i = 0; i < NX && k > 0; ++i) lagrangian[k][i] -= costate[k - 1][i];
      apply_jacobian(k, z, images);
      for (int i = 0; i < NG; ++i) z[NZ + i] = images[NX + i];
      const T* next = value[k < N ? k + 1 : N];
      for (int i = 0; i < NX; ++i) defect[k][i] = k < N ? images[i] + offset[k][i] - next[i] : T(0);
    }
    for (int i = 0; i < NX && initial_fixed; ++i) {
      row_multiplier[0][i] = row_multiplier[0][i] - lagrangian[0][i];
      lagrangian[0][i] = T(0);
    }
    result.objective = objective / 2;
    result.stationarity = largest_magnitude(lagrangian[0], (N + 1) * NZ);
    result.infeasibility = largest_magnitude(defect[0], (N + 1) * NX);
  }

  bool factor(T proximal) {
    for (int k = N; k >= 0; --k) {
      // Hessian of the cost from here on in z_k: H + C'WC + [A B]'P[A B] and the proximal term.
      T images[at_least_one(NR * NZ)] = {}, total[at_least_one(NZ * NZ)];
      if (k < N) {
        contract<T, 1, NX, NZ, NX, 0, NX, 1, 0, NZ, 1>(cost[k + 1], jacobian[k], images);
        apply_transposed<T, NX, NX>(cost[k + 1], defect[k], cost_defect[k]);
      }
      const T* weight = rows.weight + k * stride;
      if (uses_rows(k)) {
        for (int i = 0; i < NG; ++i) {
          const T* row = jacobian[k] + (NX + i) * NZ;
          for (int j = 0; j < NZ; ++j) images[(NX + i) * NZ + j] = weight[NZ + i] * row[j];
        }
        contract<T, 1, NZ, NZ, NR, 0, 1, NZ, 0, NZ, 1>(jacobian[k], images, total);
      } else {
        contract<T, 1, NZ, NZ, NX, 0, 1, NZ, 0, NZ, 1>(jacobian[k], images, total);
      }
      for (int i = 0; i < NZ * NZ; ++i) total[i] += hessian[k][i];
      for (int i = 0; i < NZ; ++i) total[i * NZ + i] += weight[i] + proximal;
      if (!condense(k, total)) return false;
    }
    if (initial_fixed) return true;
    cholesky<T, NX>(cost[0], initial_factor);
    return initial_factor[0] == initial_factor[0];
  }

  // Minimise over u_k: of total = [Q S'; S R] remains Q - S'R^-1 S. Its upper triangle is copied
  // from the lower one, as an asymmetry could grow with unstable dynamics.
  bool condense(int k, const T* total) {
    T* inverse = input_inverse[k];
    for (int i = 0; i < NU; ++i) {
      for (int j = 0; j < NU; ++j) inverse[i * NU + j] = total[(NX + i) * NZ + NX + j];
    }
    if (!invert_positive<T, NU>(inverse)) return false;
    const T* s = total + NX * NZ;
    contract<T, 1, NU, NX, NU, 0, NU, 1, 0, NZ, 1>(inverse, s, gain[k]);
    if (k == 0 && initial_fixed) return true;
    T reduction[at_least_one(NX * NX)];
    contract<T, 1, NX, NX, NU, 0, 1, NZ, 0, NX, 1>(s, gain[k], reduction);
    for (int i = 0; i < NX; ++i) {
      for (int j = 0; j <= i; ++j) {
        const T entry = total[i * NZ + j] - reduction[i * NX + j];
        cost[k][i * NX + j] = cost[k][j * NX + i] = entry;
      }
    }
    return true;
  }

  // The same for the linear term.
  void condense_slope(int k, const T* total) {
    apply_transposed<T, NU, NU>(input_inverse[k], total + NX, input_step[k]);
    apply_transposed<T, NU, NX>(gain[k], total + NX, cost_slope[k]);
    for (int i = 0; i < NX; ++i) cost_slope[k][i] = total[i] - cost_slope[k][i];
  }

  void direction(bool with_costates) {
    for (int k = N; k >= 0; --k) {
      const T* pull = rows.pull + k * stride;
      T ahead[at_least_one(NR)] = {}, total[at_least_one(NZ)];
      for (int i = 0; i < NX && k < N; ++i) ahead[i] = cost_slope[k + 1][i] + cost_defect[k][i];
      for (int i = 0; i < NG; ++i) ahead[NX + i] = pull[NZ + i];
      apply_jacobian_transposed(k, ahead, total);
      for (int i = 0; i < NZ; ++i) total[i] += lagrangian[k][i] + pull[i];
      condense_slope(k, total);
    }
    T x[at_least_one(NX)], images[at_least_one(NR)];
    initial_step(x);
    for (int k = 0; k <= N; ++k) {
      T* z = value_step[k];
      stage_step(k, x, z, images);
      for (int i = 0; i < NG; ++i) z[NZ + i] = images[NX + i];
      if (k == N) break;
      for (int i = 0; i < NX; ++i) x[i] = images[i] + defect[k][i];
      if (with_costates) {
        apply_transposed<T, NX, NX>(cost[k + 1], x, costate_step[k]);
        for (int i = 0; i < NX; ++i) costate_step[k][i] += cost_slope[k + 1][i];
      }
    }
  }

  // Forward in time: z_k and [A B; C] z_k from x_k.
  void stage_step(int k, const T* x, T* z, T* images) const {
    T feedback[at_least_one(NU)];
    apply_matrix<T, NU, NX>(gain[k], x, feedback);
    for (int i = 0; i < NX; ++i) z[i] = x[i];
    for (int i = 0; i < NU; ++i) z[NX + i] = -input_step[k][i] - feedback[i];
    apply_jacobian(k, z, images);
  }

  void initial_step(T* x) const {
    for (int i = 0; i < NX; ++i) x[i] = initial_fixed ? T(0) : -cost_slope[0][i];
    if (initial_fixed) return;
    triangular_solve_vector<T, NX, true, false, false>(initial_factor, x);
    triangular_solve_vector<T, NX, true, true, false>(initial_factor, x);
  }

  T remainder(const T* multipliers, T proximal) {
    for (int k = 0; k <= N; ++k, multipliers += stride) {
      const T* z = value_step[k];
      T product[at_least_one(NZ)], duals[at_least_one(NR)];
      apply_transposed<T, NZ, NZ>(hessian[k], z, product);
      for (int i = 0; i < NZ; ++i) {
        error[k][i] = lagrangian[k][i] + product[i] + proximal * z[i] + multipliers[i];
      }
      join_multipliers(costate_step[k], multipliers, duals);
      apply_jacobian_transposed(k, duals, product);
      for (int i = 0; i < NZ; ++i) error[k][i] += product[i];
      for (int i = 0; i < NX && k > 0; ++i) error[k][i] -= costate_step[k - 1][i];
    }
    for (int i = 0; i < NX && initial_fixed; ++i) error[0][i] = T(0);
    return largest_magnitude(error[0], (N + 1) * NZ);
  }

  ipm_ray<T> ray() const {
    ipm_ray<T> found = {};
    for (int k = 0; k <= N; ++k) found.template add<NZ>(hessian[k], slope[k], value_step[k]);
    return found;
  }

  void refine() {
    for (int k = N; k >= 0; --k) {
      T ahead[at_least_one(NR)] = {}, total[at_least_one(NZ)];
      for (int i = 0; i < NX && k < N; ++i) ahead[i] = cost_slope[k + 1][i];
      apply_jacobian_transposed(k, ahead, total);
      for (int i = 0; i < NZ; ++i) total[i] += error[k][i];
      condense_slope(k, total);
    }
    T x[at_least_one(NX)], z[at_least_one(NZ)], images[at_least_one(NR)];
    initial_step(x);
    for (int k = 0; k <= N; ++k) {
      stage_step(k, x, z, images);
      for (int i = 0; i < NZ; ++i) value_step[k][i] += z[i];
      for (int i = 0; i < NG; ++i) value_step[k][NZ + i] += images[NX + i];
      if (k == N) break;
      T product[at_least_one(NX)];
      apply_transposed<T, NX, NX>(cost[k + 1], images, product);
      for (int i = 0; i < NX; ++i) x[i] = images[i];
      for (int i = 0; i < NX; ++i) costate_step[k][i] += cost_slope[k + 1][i] + product[i];
    }
  }

  void advance(T primal, T duality) {
    for (int k = 0; k <= N; ++k) {
      for (int i = 0; i < NZ; ++i) value[k][i] += primal * value_step[k][i];
      for (int i = 0; i < NX && k < N; ++i) costate[k][i] += duality * costate_step[k][i];
    }
  }

  // With costates that leave to a state after the first one no coefficient but that of its bounds:
  // only inputs, which usually have bounds, and the initial state need the radius.
  T adjoint(const T* multipliers, T* out) const {
    T constant = T(0);
    T duals[at_least_one(NR)] = {};
    for (int k = N; k >= 0; --k) {
      const T* own = multipliers + k * stride;
      T* coefficient = out + k * stride;
      T product[at_least_one(NZ)];
      for (int i = 0; i < NG; ++i) duals[NX + i] = own[NZ + i];
      for (int i = 0; i < NX; ++i) constant += duals[i] * offset[k][i];
      apply_jacobian_transposed(k, duals, product);
      for (int i = 0; i < NZ; ++i) coefficient[i] = product[i];
      for (int i = 0; i < NX && k > 0; ++i) {
        duals[i] = product[i] + own[i];
        coefficient[i] = -own[i];
      }
    }
    return constant;
  }
};

}  // namespace anvil_rt
