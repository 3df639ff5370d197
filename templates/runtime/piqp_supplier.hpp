#pragma once

#include <piqp.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "interior_point.hpp"

// Quadratic programs solved by PIQP (Schwan, Jiang, Kuhn, Jones, "PIQP: A proximal interior-point
// quadratic programming solver", CDC 2023) through its C interface, libpiqpc.
//
// Memory is allocated when a piqp_supplier is made; PIQP's sparse solver then updates and solves
// without allocating. (Its dense C interface copies matrices in each update and is not used; its
// multistage solver, which needs a PIQP built with BLASFEO, is set up again after it failed.)
//
// `Record` is the record that describes a program (templates/sqp/qp_interface.hpp.j2). PIQP has to
// be protected from some data; anvil_jax/opti/piqp_supplier.py says from which.

namespace anvil_rt {

static_assert(sizeof(piqp_float) == sizeof(double) && sizeof(piqp_int) == sizeof(int),
              "PIQP was built for other numbers than double and int");

// One PIQP solver. Either all rows hold, or each has two slack variables that cost the penalty:
// A d + up - down = b, and so on.
template <class Record>
class piqp_problem {
 public:
  piqp_problem(const Record& qp, bool elastic, bool multistage)
      : elastic_(elastic), multistage_(multistage && !elastic), free_(size(qp.m_ineq), 0) {
    const int slacks = elastic ? 2 * (qp.m_eq + qp.m_ineq) : 0;
    columns_ = qp.n + slacks;
    copy_pattern(qp.n, qp.n, qp.p_starts, qp.p_rows, p_);
    copy_pattern(qp.m_eq, qp.n, qp.a_starts, qp.a_rows, a_);
    copy_pattern(qp.m_ineq, qp.n, qp.g_starts, qp.g_rows, g_);
    if (elastic) {
      for (int k = 0; k < slacks; ++k) {
        const int row = k / 2;
        const double sign = k % 2 == 0 ? 1.0 : -1.0;
        matrix& owner = row < qp.m_eq ? a_ : g_;
        owner.rows.push_back(row < qp.m_eq ? row : row - qp.m_eq);
        owner.values.push_back(sign);
        for (matrix* m : {&p_, &a_, &g_}) m->starts.push_back(static_cast<int>(m->rows.size()));
      }
    }
    c_.assign(size(columns_), 0.0);
    b_.assign(size(qp.m_eq), 0.0);
    h_l_.assign(size(qp.m_ineq), -1.0);
    h_u_.assign(size(qp.m_ineq), 1.0);
    x_l_.assign(size(columns_), 0.0);
    x_u_.assign(size(columns_), std::numeric_limits<double>::infinity());
    p_.finish(columns_, columns_);
    a_.finish(qp.m_eq, columns_);
    g_.finish(qp.m_ineq, columns_);
    piqp_set_default_settings_sparse(&settings_);
    set_up();
  }

  ~piqp_problem() { piqp_cleanup(workspace_); }

  piqp_problem(const piqp_problem&) = delete;
  piqp_problem& operator=(const piqp_problem&) = delete;

  void matrices_changed() { changed_ = true; }

  qp_status solve(Record& qp) {
    take(qp);
    set_limits(qp);
    // Either all matrices or none: an update with some of them changes the scaling of all, but
    // not inside the linear solver. Without any, a rounding error remains each time.
    if (changed_ || updates_ >= refresh) {
      update(&p_.csc, qp.m_eq > 0 ? &a_.csc : nullptr, qp.m_ineq > 0 ? &g_.csc : nullptr);
      updates_ = 0;
    } else {
      update(nullptr, nullptr, nullptr);
      ++updates_;
    }
    changed_ = false;
    const piqp_status status = piqp_solve(workspace_);
    const qp_status verdict = judge(status, qp);
    if (verdict == qp_status::solved || verdict == qp_status::max_iterations) {
      give(qp);
    }
    if (verdict != qp_status::solved && multistage_) set_up();  // it would fail ever after
    return verdict;
  }

 private:
  static constexpr int refresh = 50;
  static constexpr int infeasible_iterations = 25;
  static constexpr double infeasible_residual = 1e-6;

  struct matrix {
    std::vector<int> starts, rows;
    std::vector<double> values;
    piqp_csc csc;

    void finish(int m, int n) {
      const int entries = static_cast<int>(rows.size());
      csc = piqp_csc{m, n, entries, starts.data(), rows.data(), values.data()};
    }
  };

  static std::size_t size(int n) { return static_cast<std::size_t>(n); }

  // The pattern of a matrix; the values that PIQP is set up with are those of an identity.
  static void copy_pattern(int m, int n, const int* starts, const int* rows, matrix& to) {
    const int entries = m > 0 ? starts[n] : 0;
    to.starts.assign(size(n) + 1, 0);
    if (m > 0) to.starts.assign(starts, starts + n + 1);
    to.rows.assign(rows, rows + entries);
    to.values.assign(size(entries), 0.0);
    for (int j = 0; j < n; ++j) {
      for (int e = to.starts[size(j)]; e < to.starts[size(j) + 1]; ++e) {
        to.values[size(e)] = to.rows[size(e)] == j ? 1.0 : 0.0;
      }
    }
  }

  void set_up() {
    if (multistage_) {
      settings_.kkt_solver = PIQP_SPARSE_MULTISTAGE;
      set_up_solver();
      if (piqp_solve(workspace_) != PIQP_UNSOLVED) return;
      multistage_ = false;  // this PIQP has no BLASFEO
    }
    settings_.kkt_solver = PIQP_SPARSE_LDLT;
    set_up_solver();
  }

  void set_up_solver() {
    piqp_cleanup(workspace_);
    workspace_ = nullptr;
    piqp_data_sparse data;
    data.n = p_.csc.n;
    data.p = a_.csc.m;
    data.m = g_.csc.m;
    data.P = &p_.csc;
    data.c = c_.data();
    data.A = data.p > 0 ? &a_.csc : nullptr;
    data.b = data.p > 0 ? b_.data() : nullptr;
    data.G = data.m > 0 ? &g_.csc : nullptr;
    data.h_l = data.m > 0 ? h_l_.data() : nullptr;
    data.h_u = data.m > 0 ? h_u_.data() : nullptr;
    data.x_l = x_l_.data();
    data.x_u = x_u_.data();
    piqp_setup_sparse(&workspace_, &data, &settings_);
    changed_ = true;
  }

  void set_limits(const Record& qp) {
    if (settings_.eps_abs == qp.tolerance && settings_.max_iter == qp.max_iterations) return;
    settings_.eps_abs = settings_.eps_duality_gap_abs = qp.tolerance;
    settings_.eps_rel = settings_.eps_duality_gap_rel = 0.1 * qp.tolerance;
    settings_.max_iter = qp.max_iterations > 0 ? qp.max_iterations : 0;
    piqp_update_settings(workspace_, &settings_);
  }

  void update(piqp_csc* p, piqp_csc* a, piqp_csc* g) {
    const bool rows = a_.csc.m > 0, sides = g_.csc.m > 0;
    piqp_update_sparse(workspace_, p, c_.data(), a, rows ? b_.data() : nullptr, g,
                       sides ? h_l_.data() : nullptr, sides ? h_u_.data() : nullptr, x_l_.data(),
                       x_u_.data());
  }

  // Copies the problem. Rows of G without a finite side are zero, between -1 and 1: PIQP would
  // erase them for good.
  void take(const Record& qp) {
    for (int j = 0; j < qp.n; ++j) {
      c_[size(j)] = qp.c[j];
      x_l_[size(j)] = qp.x_l[j];
      x_u_[size(j)] = qp.x_u[j];
    }
    for (int j = qp.n; j < columns_; ++j) c_[size(j)] = qp.penalty;
    for (int i = 0; i < qp.m_eq; ++i) b_[size(i)] = qp.b[i];
    for (int i = 0; i < qp.m_ineq; ++i) {
      const bool is_free = std::isinf(qp.h_l[i]) && std::isinf(qp.h_u[i]);
      h_l_[size(i)] = is_free ? -1.0 : qp.h_l[i];
      h_u_[size(i)] = is_free ? 1.0 : qp.h_u[i];
      if ((free_[size(i)] != 0) != is_free) changed_ = true;
      free_[size(i)] = is_free ? 1 : 0;
    }
    if (!changed_) return;
    for (int e = 0; e < qp.p_starts[qp.n]; ++e) p_.values[size(e)] = qp.p[e];
    for (int e = 0; qp.m_eq > 0 && e < qp.a_starts[qp.n]; ++e) a_.values[size(e)] = qp.a[e];
    for (int e = 0; qp.m_ineq > 0 && e < qp.g_starts[qp.n]; ++e) {
      g_.values[size(e)] = free_[size(qp.g_rows[e])] != 0 ? 0.0 : qp.g[e];
    }
  }

  void give(Record& qp) const {
    const piqp_result& found = *workspace_->result;
    for (int j = 0; j < qp.n; ++j) {
      qp.d[j] = found.x[j];
      qp.w[j] = found.z_bu[j] - found.z_bl[j];
    }
    for (int i = 0; i < qp.m_eq; ++i) qp.y[i] = found.y[i];
    for (int i = 0; i < qp.m_ineq; ++i) {
      qp.z[i] = free_[size(i)] != 0 ? 0.0 : found.z_u[i] - found.z_l[i];
    }
  }

  // Infeasible problems often run into the iteration limit.
  qp_status judge(piqp_status status, Record& qp) const {
    const piqp_result& found = *workspace_->result;
    const qp_status infeasible =
        elastic_ ? qp_status::numerics : qp_status::infeasible;
    qp.iterations = found.info.iter;
    switch (status) {
      case PIQP_SOLVED:
      case PIQP_MAX_ITER_REACHED: {
        for (int j = 0; j < qp.n; ++j) {
          if (!std::isfinite(found.x[j])) return qp_status::numerics;
        }
        for (int i = 0; i < qp.m_eq; ++i) {
          if (!std::isfinite(found.y[i])) return qp_status::numerics;
        }
        if (status == PIQP_SOLVED) return qp_status::solved;
        const double residual = found.info.primal_res;
        const bool large = residual > infeasible_residual && residual > qp.tolerance;
        return large && qp.iterations >= infeasible_iterations
                   ? infeasible
                   : qp_status::max_iterations;
      }
      case PIQP_PRIMAL_INFEASIBLE:
        return infeasible;
      case PIQP_DUAL_INFEASIBLE:
        return qp_status::unbounded;
      default:
        return qp_status::numerics;
    }
  }

  bool elastic_, multistage_;
  bool changed_ = true;
  int columns_ = 0, updates_ = 0;
  matrix p_, a_, g_;
  std::vector<double> c_, b_, h_l_, h_u_, x_l_, x_u_;
  std::vector<char> free_;
  piqp_settings settings_;
  piqp_workspace* workspace_ = nullptr;
};

// What solves the programs of one solver; not for several threads at a time.
template <class Record>
class piqp_supplier {
 public:
  // Reads sizes and patterns of the program. `elastic`: a finite penalty may occur; `multistage`:
  // use PIQP's multistage solver if it has one (PIQP says on stderr if it has not).
  piqp_supplier(const Record& qp, bool elastic, bool multistage)
      : hard_(new piqp_problem<Record>(qp, false, multistage && qp.kind == 2)),
        elastic_(elastic ? new piqp_problem<Record>(qp, true, false) : nullptr) {}

  // A QPSolver with a piqp_supplier as context.
  static int solve(void* context, Record* qp) {
    return static_cast<int>(static_cast<piqp_supplier*>(context)->solve(*qp));
  }

  qp_status solve(Record& qp) {
    qp.iterations = 0;
    if (qp.changed != 0) {
      hard_->matrices_changed();
      if (elastic_) elastic_->matrices_changed();
    }
    const qp_status looks = examine(qp);
    if (looks != qp_status::solved) return looks;
    if (std::isinf(qp.penalty)) return hard_->solve(qp);
    return elastic_ ? elastic_->solve(qp) : qp_status::numerics;
  }

 private:
  static bool are_finite(const double* values, int count) {
    for (int k = 0; k < count; ++k) {
      if (!std::isfinite(values[k])) return false;
    }
    return true;
  }

  static qp_status compare(const double* lower, const double* upper, int count) {
    qp_status found = qp_status::solved;
    for (int k = 0; k < count; ++k) {
      if (std::isnan(lower[k]) || std::isnan(upper[k])) return qp_status::numerics;
      const bool crossing = lower[k] > upper[k] || (std::isinf(lower[k]) && lower[k] > 0) ||
                            (std::isinf(upper[k]) && upper[k] < 0);
      if (crossing) found = qp_status::infeasible;
    }
    return found;
  }

  // What the data alone shows.
  static qp_status examine(const Record& qp) {
    const bool finite = are_finite(qp.p, qp.p_starts[qp.n]) && are_finite(qp.c, qp.n) &&
                        are_finite(qp.a, qp.m_eq > 0 ? qp.a_starts[qp.n] : 0) &&
                        are_finite(qp.b, qp.m_eq) &&
                        are_finite(qp.g, qp.m_ineq > 0 ? qp.g_starts[qp.n] : 0);
    if (!finite || !(qp.penalty >= 0.0) || !(qp.tolerance > 0.0)) {
      return qp_status::numerics;
    }
    const qp_status rows = compare(qp.h_l, qp.h_u, qp.m_ineq);
    const qp_status bounds = compare(qp.x_l, qp.x_u, qp.n);
    if (rows == qp_status::numerics || bounds == qp_status::numerics) {
      return qp_status::numerics;
    }
    return rows == qp_status::solved ? bounds : rows;
  }

  std::unique_ptr<piqp_problem<Record>> hard_, elastic_;
};

}  // namespace anvil_rt
