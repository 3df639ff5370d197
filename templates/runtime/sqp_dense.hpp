#pragma once

#include <cmath>

#include "dense_ipm.hpp"
#include "sqp_blocks.hpp"
#include "sqp_bounds.hpp"
#include "sqp_program.hpp"

// Quadratic programs of the SQP method without structure: their Hessians made convex, and their
// solution by dense_ipm.

namespace anvil_rt {

// Curvature that is negative only where rows hold the solution anyway is made up for by these rows:
// with weights w > 0, sum w/2 (a'd - t)^2 over equalities a'd = t and rows predicted to be active
// is zero at the solution and leaves it as it is, while its Hessian makes up for negative
// eigenvalues across these rows. Superlinear convergence remains, which changed eigenvalues lose.
// (The augmented Lagrangian view of Han, "Dual variable metric algorithms for constrained
// optimization", SIAM J. Control Optim. 15, 1977.)
template <class Model>
struct dense_convexification {
  using T = typename Model::Real;
  static constexpr int n = Model::variables;
  static constexpr int rows = Model::equalities + Model::inequalities;
  static constexpr int kind = 0;

  bool augmented;
  T row[at_least_one(rows * n)];  // both Jacobians, row-major
  T weight[at_least_one(rows)], target[at_least_one(rows)];
  bound_curvature<Model> bounds;
  T matrix[at_least_one(n * n)], factor[at_least_one(n * n)];

  // Make the program's Hessian convex, in place.
  void apply(const Model& model, sqp_program<Model>& program, curvature wanted) {
    augmented = false;
    if (wanted == curvature::exact) make_convex(model, program);
    if (wanted == curvature::modified) modify_blocks(model, program.hessian);
  }

  // The linear terms that belong to the added curvature, for the program's present sides.
  void shift(const Model&, const sqp_program<Model>& program, T* gradient) {
    if (!augmented) return;
    for (int i = 0; i < rows; ++i) {
      const int r = i - Model::equalities;
      target[i] = r < 0 ? program.equality_value[i]
                        : program.row_side[r] > 0 ? program.upper[r] : program.lower[r];
      if (!(weight[i] > T(0))) continue;
      for (int j = 0; j < n; ++j) gradient[j] -= weight[i] * target[i] * row[i * n + j];
    }
    bounds.shift(program, gradient);
  }

  // The part of the multipliers that the added curvature has taken over.
  void recover(const Model&, sqp_step<Model>& step) const {
    if (!augmented) return;
    for (int i = 0; i < rows; ++i) {
      if (!(weight[i] > T(0))) continue;
      T value = -target[i];
      for (int j = 0; j < n; ++j) value += row[i * n + j] * step.d[j];
      const int r = i - Model::equalities;
      T& multiplier = r < 0 ? step.multipliers.equality[i] : step.multipliers.inequality[r];
      multiplier += weight[i] * value;
    }
    bounds.recover(step);
  }

 private:
  void make_convex(const Model& model, sqp_program<Model>& program) {
    const T scale = expand(model, program);
    if (is_convex(-T(1e-2) * least_curvature<T>() * larger(scale, T(1)))) return;
    expand_rows(model, program);
    for (const T factor_of_scale : {T(1e1), T(1e3), T(1e5)}) {
      weigh(program, factor_of_scale * larger(scale, least_curvature<T>()));
      expand(model, program);
      augment();
      if (!is_convex(T(10) * least_curvature<T>() * scale)) continue;
      augmented = true;
      for (int j = 0; j < n; ++j) {
        for (int i = 0; i <= j; ++i) {
          program.hessian[block_entry(model, 0, i, j)] = matrix[j * n + i];
        }
      }
      return;
    }
    modify_blocks(model, program.hessian);
  }

  // Row-major copy of the Hessian, both triangles; returns its largest entry.
  T expand(const Model& model, const sqp_program<Model>& program) {
    T scale = T(0);
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i <= j; ++i) {
        const T value = program.hessian[block_entry(model, 0, i, j)];
        matrix[i * n + j] = matrix[j * n + i] = value;
        scale = larger(scale, std::fabs(value));
      }
    }
    return scale;
  }

  void expand_rows(const Model& model, const sqp_program<Model>& program) {
    for (int i = 0; i < rows * n; ++i) row[i] = T(0);
    for (int j = 0; j < n; ++j) {
      for (int e = model.equality.starts[j]; e < model.equality.starts[j + 1]; ++e) {
        row[model.equality.rows[e] * n + j] = program.equality[e];
      }
      for (int e = model.inequality.starts[j]; e < model.inequality.starts[j + 1]; ++e) {
        row[(Model::equalities + model.inequality.rows[e]) * n + j] = program.inequality[e];
      }
    }
  }

  void weigh(const sqp_program<Model>& program, T amount) {
    for (int i = 0; i < rows; ++i) {
      const int r = i - Model::equalities;
      const T size = largest_magnitude(row + i * n, n);
      const bool active = r < 0 || program.row_side[r] != 0;
      weight[i] = active && size > T(1e-12) ? amount / (size * size) : T(0);
    }
    bounds.lend(program, amount);
  }

  void augment() {
    for (int i = 0; i < rows; ++i) {
      if (!(weight[i] > T(0))) continue;
      const T* a = row + i * n;
      for (int j = 0; j < n; ++j) {
        const T scaled = weight[i] * a[j];
        for (int k = 0; k < n; ++k) matrix[j * n + k] += scaled * a[k];
      }
    }
    for (int j = 0; j < n; ++j) matrix[j * n + j] += bounds.weight[j];
  }

  bool is_convex(T least) {
    for (int i = 0; i < n * n; ++i) factor[i] = matrix[i];
    return is_positive(factor, n, n, least);
  }
};

// Factors for variables d = column * d', rows and the cost that make the largest entry of each row
// and column of the optimality conditions' matrix about one (Ruiz, "A scaling algorithm to
// equilibrate both rows and columns norms in matrices", RAL-TR-2001-034), and then that of the
// gradient. Programs in units of very different size need it.
template <class T, int N, int Rows>
struct dense_scaling {
  static constexpr int turns = 4;
  T column[at_least_one(N)], row[at_least_one(Rows)], cost;

  // Scale the matrices in place, for this gradient.
  void apply(T* hessian, T* jacobian, const T* gradient) {
    for (int j = 0; j < N; ++j) column[j] = T(1);
    for (int i = 0; i < Rows; ++i) row[i] = T(1);
    for (int turn = 0; turn < turns; ++turn) equilibrate(hessian, jacobian);
    T slope = T(0);
    for (int j = 0; j < N; ++j) slope = larger(slope, std::fabs(gradient[j]) * column[j]);
    cost = slope > T(1e-12) ? T(1) / slope : T(1);
    for (int i = 0; i < N * N; ++i) hessian[i] *= cost;
  }

  // Least factor by which any residual of the scaled program is smaller than it was.
  T finest() const {
    T least = smaller(T(1), cost);
    for (int j = 0; j < N; ++j) {
      least = smaller(least, smaller(cost * column[j], T(1) / column[j]));
    }
    for (int i = 0; i < Rows; ++i) least = smaller(least, row[i]);
    return least;
  }

 private:
  void equilibrate(T* hessian, T* jacobian) {
    T by_column[at_least_one(N)] = {}, by_row[at_least_one(Rows)] = {};
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < N; ++j) {
        by_column[j] = larger(by_column[j], std::fabs(hessian[i * N + j]));
      }
    }
    for (int i = 0; i < Rows; ++i) {
      for (int j = 0; j < N; ++j) {
        const T size = std::fabs(jacobian[i * N + j]);
        by_column[j] = larger(by_column[j], size);
        by_row[i] = larger(by_row[i], size);
      }
    }
    for (int j = 0; j < N; ++j) column[j] *= by_column[j] = inverse_root(by_column[j]);
    for (int i = 0; i < Rows; ++i) row[i] *= by_row[i] = inverse_root(by_row[i]);
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < N; ++j) hessian[i * N + j] *= by_column[i] * by_column[j];
    }
    for (int i = 0; i < Rows; ++i) {
      for (int j = 0; j < N; ++j) jacobian[i * N + j] *= by_row[i] * by_column[j];
    }
  }
};

template <class Model>
struct dense_subproblem {
  using T = typename Model::Real;
  static constexpr int n = Model::variables;
  static constexpr int equalities = Model::equalities;
  static constexpr int rows = Model::equalities + Model::inequalities;
  static constexpr bool soft_bounds = false;
  static constexpr bool starts_warm = true;
  static constexpr double far_tolerance = 0;  // small programs

  dense_convexification<Model> convexification;
  dense_scaling<T, n, rows> scaling;
  dense_ipm<T, n, Model::equalities, Model::inequalities> qp;

  bool setup(const Model&) {
    qp.reset();
    return true;
  }

  void teardown() {}

  // Take over the matrices; the program's Hessian is overwritten.
  void prepare(const Model& model, sqp_program<Model>& program, curvature kind) {
    convexification.apply(model, program, kind);
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i <= j; ++i) {
        qp.hessian[i * n + j] = qp.hessian[j * n + i] =
            program.hessian[block_entry(model, 0, i, j)];
      }
    }
    for (int i = 0; i < rows * n; ++i) qp.jacobian[i] = T(0);
    for (int j = 0; j < n; ++j) {
      for (int e = model.equality.starts[j]; e < model.equality.starts[j + 1]; ++e) {
        qp.jacobian[model.equality.rows[e] * n + j] = program.equality[e];
      }
      for (int e = model.inequality.starts[j]; e < model.inequality.starts[j + 1]; ++e) {
        qp.jacobian[(equalities + model.inequality.rows[e]) * n + j] = program.inequality[e];
      }
    }
    scaling.apply(qp.hessian, qp.jacobian, program.gradient);
  }

  // Solve for the program's present vectors.
  qp_status solve(const Model& model, const sqp_program<Model>& program,
                  const subproblem_options<T>& options, sqp_step<Model>& step) {
    for (int j = 0; j < n; ++j) qp.gradient[j] = program.gradient[j];
    convexification.shift(model, program, qp.gradient);
    for (int j = 0; j < n; ++j) {
      const T unit = scaling.column[j], dual = scaling.cost * unit;
      qp.gradient[j] *= dual;
      qp.lower_bound[j] = program.x_lower[j] / unit;
      qp.upper_bound[j] = program.x_upper[j] / unit;
      qp.value[j] = T(0);
      qp.row_multiplier[j] = dual * step.multipliers.x[j];
    }
    for (int i = 0; i < rows; ++i) {
      const int r = i - equalities;
      const T unit = scaling.row[i], dual = scaling.cost / unit;
      qp.lower_bound[n + i] = unit * (r < 0 ? program.equality_value[i] : program.lower[r]);
      qp.upper_bound[n + i] = unit * (r < 0 ? program.equality_value[i] : program.upper[r]);
      qp.row_penalty[n + i] = dual * options.penalty;
      qp.value[n + i] = T(0);
      qp.row_multiplier[n + i] =
          dual * (r < 0 ? step.multipliers.equality[i] : step.multipliers.inequality[r]);
    }
    const qp_result<T> result = qp.solve(scaled_options(options));
    step.iterations = result.iterations;
    for (int j = 0; j < n; ++j) {
      step.d[j] = scaling.column[j] * qp.value[j];
      step.multipliers.x[j] = qp.row_multiplier[j] / (scaling.cost * scaling.column[j]);
    }
    for (int i = 0; i < rows; ++i) {
      const int r = i - equalities;
      T& multiplier = r < 0 ? step.multipliers.equality[i] : step.multipliers.inequality[r];
      multiplier = qp.row_multiplier[n + i] * scaling.row[i] / scaling.cost;
    }
    convexification.recover(model, step);
    return result.status;
  }

 private:
  // Tolerances that count in the program's own units, as far as the arithmetic allows.
  ipm_options<T> scaled_options(const subproblem_options<T>& options) const {
    ipm_options<T> ipm;
    ipm.tolerance = options.tolerance * larger(scaling.finest(), ipm.wide ? T(1e-4) : T(1));
    ipm.relative_tolerance = ipm.tolerance / 10;
    ipm.primal_proximal /= 100;  // beside entries near one
    ipm.max_iterations = options.max_iterations;
    ipm.warm_start = options.warm;
    return ipm;
  }
};

}  // namespace anvil_rt
