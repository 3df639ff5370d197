#pragma once

#include <cmath>
#include <limits>

#include "contraction.hpp"
#include "interior_point.hpp"
#include "triangular.hpp"

// Small dense quadratic programs
//
//   min 1/2 x'Hx + g'x   subject to   lower <= (x, C x) <= upper,
//
// where the first E of the rows C are equalities (lower = upper) and I more follow, by the
// interior-point method of interior_point.hpp. Each Newton system is reduced to the variables and
// solved by Cholesky's method.

namespace anvil_rt {

// Lower triangle of the N by N result = A'WA from the (K, N) matrices A and WA, by blocks. Entries
// above the diagonal are left undefined.
template <class T, int N, int K, int First = 0, int Count = N>
inline void weighted_gram(const T* a, const T* wa, T* result) {
  constexpr int half = Count <= 16 ? 0 : (Count / 2 + 7) / 8 * 8;
  using Layout = strides<1, N, N, N, 1>;
  T* corner = result + First * N + First;
  if constexpr (half > 0) {
    weighted_gram<T, N, K, First, half>(a, wa, result);
    weighted_gram<T, N, K, First + half, Count - half>(a, wa, result);
    contract_columns<T, Count - half, half, K, Layout>(a + First + half, wa + First,
                                                       corner + half * N);
  } else if constexpr (Count > 0) {
    contract_columns<T, Count, Count, K, Layout>(a + First, wa + First, corner);
  }
}

// Cholesky factor in the lower triangle of a, in place; what is above the diagonal may change. Four
// columns at a time, so that the rows below are read and written a quarter as often. False if a
// pivot is not positive.
template <class T, int N>
inline bool factor_positive(T* __restrict__ a) {
  constexpr int width = 4;
  T column[width][at_least_one(N)] = {}, inverse[width];
  for (int first = 0; first < N; first += width) {
    const int end = first + width < N ? first + width : N;
    for (int i = first; i < N; ++i) {
      T* row = a + i * N;
      for (int j = first; j < end && j <= i; ++j) {
        T entry = row[j];
        for (int k = first; k < j; ++k) entry -= row[k] * column[k - first][j];
        if (j < i) {
          entry *= inverse[j - first];
        } else {
          if (!(entry > T(0))) return false;
          entry = std::sqrt(entry);
          inverse[j - first] = T(1) / entry;
        }
        row[j] = column[j - first][i] = entry;
      }
    }
    for (int i = end; i < N; ++i) {
      T* __restrict__ row = a + i * N;
      const T f0 = row[first], f1 = row[first + 1], f2 = row[first + 2], f3 = row[first + 3];
      const auto update = [&](int k) {
        row[k] -= (f0 * column[0][k] + f1 * column[1][k]) +
                  (f2 * column[2][k] + f3 * column[3][k]);
      };
      int k = end;
      for (; k <= i && k + 8 <= N; k += 8) {
        for (int lane = 0; lane < 8; ++lane) update(k + lane);
      }
      for (; k <= i; ++k) update(k);
    }
  }
  return true;
}

// Data, solution and working memory in one: no pointers, so it can be copied bit by bit and put
// anywhere. Call reset() once, fill in the data, call solve() as often as needed; solve() does not
// touch the data.
//
// An equality is nothing but a row with equal sides, hard or, with a penalty, soft; rows after the
// first E may be equalities too. Equalities may depend on each other.
template <class T, int NV, int E, int I>
struct dense_ipm {
  static constexpr int M = E + I;
  static constexpr int variables = NV;
  static constexpr int stride = NV + M;
  static constexpr int row_count = NV + M;

  // Data. Matrices are row-major, the Hessian with both triangles.
  T hessian[at_least_one(NV * NV)];
  T gradient[at_least_one(NV)];
  T jacobian[at_least_one(M * NV)];  // C, equalities first
  T lower_bound[at_least_one(stride)], upper_bound[at_least_one(stride)];
  T row_penalty[at_least_one(stride)];  // infinite: hard

  // Solution, and the start if options.warm_start.
  T value[at_least_one(stride)];  // x, C x
  T row_multiplier[at_least_one(stride)];

  // Working memory.
  ipm_rows<T, row_count, 2 * row_count> rows;
  T value_step[at_least_one(stride)];
  T slope[at_least_one(NV)];       // H x + g
  T lagrangian[at_least_one(NV)];  // its gradient
  T error[at_least_one(NV)];
  T weighted[at_least_one(M * NV)];
  T matrix[at_least_one(NV * NV)];  // of the Newton system, then its Cholesky factor

  // Set everything to what has no effect: no cost, no rows, no bounds, all rows hard.
  void reset() {
    *this = dense_ipm();
    constexpr T infinity = std::numeric_limits<T>::infinity();
    for (int i = 0; i < stride; ++i) {
      lower_bound[i] = -infinity;
      upper_bound[i] = infinity;
      row_penalty[i] = infinity;
    }
  }

  qp_result<T> solve(const ipm_options<T>& options) { return interior_point<T>(*this, options); }

  // The rest is what interior_point() asks for.

  const T* lower() const { return lower_bound; }
  const T* upper() const { return upper_bound; }
  const T* penalty() const { return row_penalty; }
  T* primal() { return value; }
  T* step() { return value_step; }
  T* multiplier() { return row_multiplier; }
  int first_row() const { return 0; }
  T stationarity_scale() const { return largest_magnitude(slope, NV); }

  bool finite() const {
    const T sum = largest_magnitude(hessian, NV * NV) + largest_magnitude(gradient, NV) +
                  largest_magnitude(jacobian, M * NV);
    return sum - sum == T(0);
  }

  void begin(bool warm) {
    for (int i = 0; i < stride && !warm; ++i) value[i] = row_multiplier[i] = T(0);
    apply_matrix<T, M, NV>(jacobian, value, value + NV);
  }

  void row_norms(T* out) const {
    for (int i = 0; i < NV; ++i) out[i] = T(1);
    for (int i = 0; i < M; ++i) {
      const T* row = jacobian + i * NV;
      out[NV + i] = sum_of<T>(NV, [row](int j) { return row[j] * row[j]; });
    }
  }

  void evaluate(qp_result<T>& result) {
    T objective = T(0);
    T product[at_least_one(NV)];
    apply_transposed<T, NV, NV>(hessian, value, product);
    for (int i = 0; i < NV; ++i) slope[i] = gradient[i] + product[i];
    for (int i = 0; i < NV; ++i) objective += value[i] * (gradient[i] + slope[i]);
    apply_transposed<T, M, NV>(jacobian, row_multiplier + NV, product);
    for (int i = 0; i < NV; ++i) lagrangian[i] = slope[i] + product[i] + row_multiplier[i];
    apply_matrix<T, M, NV>(jacobian, value, value + NV);
    result.objective = objective / 2;
    result.stationarity = largest_magnitude(lagrangian, NV);
    result.infeasibility = T(0);
  }

  bool factor(T proximal) {
    for (int i = 0; i < M; ++i) {
      const T weight = rows.weight[NV + i];
      for (int j = 0; j < NV; ++j) weighted[i * NV + j] = weight * jacobian[i * NV + j];
    }
    if constexpr (M > 0) {
      weighted_gram<T, NV, M>(jacobian, weighted, matrix);
    } else {
      for (int i = 0; i < NV * NV; ++i) matrix[i] = T(0);
    }
    for (int i = 0; i < NV; ++i) {
      for (int j = 0; j <= i; ++j) matrix[i * NV + j] += hessian[i * NV + j];
      matrix[i * NV + i] += rows.weight[i] + proximal;
    }
    return factor_positive<T, NV>(matrix);
  }

  void backsolve(T* x) const {
    triangular_solve_vector<T, NV, true, false, false>(matrix, x);
    triangular_solve_vector<T, NV, true, true, false>(matrix, x);
  }

  void direction(bool /* with_multipliers */) {
    const T* pull = rows.pull;
    T product[at_least_one(NV)];
    apply_transposed<T, M, NV>(jacobian, pull + NV, product);
    for (int i = 0; i < NV; ++i) value_step[i] = -lagrangian[i] - pull[i] - product[i];
    backsolve(value_step);
    apply_matrix<T, M, NV>(jacobian, value_step, value_step + NV);
  }

  T remainder(const T* multipliers, T proximal) {
    T product[at_least_one(NV)];
    apply_transposed<T, NV, NV>(hessian, value_step, product);
    for (int i = 0; i < NV; ++i) {
      error[i] = lagrangian[i] + product[i] + proximal * value_step[i] + multipliers[i];
    }
    apply_transposed<T, M, NV>(jacobian, multipliers + NV, product);
    for (int i = 0; i < NV; ++i) error[i] += product[i];
    return largest_magnitude(error, NV);
  }

  ipm_ray<T> ray() const {
    ipm_ray<T> found = {};
    found.template add<NV>(hessian, slope, value_step);
    return found;
  }

  void refine() {
    backsolve(error);
    for (int i = 0; i < NV; ++i) value_step[i] -= error[i];
    apply_matrix<T, M, NV>(jacobian, value_step, value_step + NV);
  }

  void advance(T primal, T /* duality */) {
    for (int i = 0; i < NV; ++i) value[i] += primal * value_step[i];
  }

  T adjoint(const T* multipliers, T* out) const {
    apply_transposed<T, M, NV>(jacobian, multipliers + NV, out);
    return T(0);
  }
};

}  // namespace anvil_rt
