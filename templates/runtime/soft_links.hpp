#pragma once

#include "riccati_ipm.hpp"

// Quadratic programs over stages whose dynamics may be violated at a price.

namespace anvil_rt {

// riccati_ipm for x_{k+1} = A_k x_k + B_k u_k + b_k + s_k, where each entry of s_k costs its
// magnitude times the penalty: s_k are further inputs, held at zero by soft bounds.
template <class T, int N, int NX, int NU, int NG>
struct soft_link_ipm {
  using Hard = riccati_ipm<T, N, NX, NU, NG>;
  static constexpr int NZ = NX + NU;
  static constexpr int wide = NZ + NX;  // x, u, s

  riccati_ipm<T, N, NX, NU + NX, NG> qp;

  void reset() { qp.reset(); }

  // Solve the program with this price; its values and multipliers are filled in as if it had solved
  // itself.
  qp_result<T> solve(Hard& program, const ipm_options<T>& options, T penalty) {
    for (int k = 0; k <= N; ++k) load(program, penalty, k);
    const qp_result<T> result = qp.solve(options);
    for (int k = 0; k <= N; ++k) store(program, k);
    return result;
  }

 private:
  // Place of a stage's row.
  static int row(int i) { return i < NZ ? i : i + NX; }

  void load(const Hard& program, T penalty, int k) {
    for (int i = 0; i < NZ; ++i) {
      qp.gradient[k][i] = program.gradient[k][i];
      for (int j = 0; j < NZ; ++j) {
        qp.hessian[k][i * wide + j] = program.hessian[k][i * NZ + j];
      }
    }
    for (int i = 0; i < NX + NG; ++i) {
      for (int j = 0; j < NZ; ++j) {
        qp.jacobian[k][i * wide + j] = program.jacobian[k][i * NZ + j];
      }
    }
    for (int i = 0; i < NX; ++i) {
      qp.jacobian[k][i * wide + NZ + i] = k < N ? T(1) : T(0);
      qp.offset[k][i] = program.offset[k][i];
      qp.lower_bound[k][NZ + i] = qp.upper_bound[k][NZ + i] = T(0);
      qp.row_penalty[k][NZ + i] = penalty;
    }
    for (int i = 0; i < Hard::stride; ++i) {
      qp.lower_bound[k][row(i)] = program.lower_bound[k][i];
      qp.upper_bound[k][row(i)] = program.upper_bound[k][i];
      qp.row_penalty[k][row(i)] = program.row_penalty[k][i];
    }
  }

  void store(Hard& program, int k) const {
    for (int i = 0; i < Hard::stride; ++i) {
      program.value[k][i] = qp.value[k][row(i)];
      program.row_multiplier[k][i] = qp.row_multiplier[k][row(i)];
    }
    for (int i = 0; i < NX; ++i) program.costate[k][i] = qp.costate[k][i];
  }
};

}  // namespace anvil_rt
