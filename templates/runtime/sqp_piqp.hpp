#pragma once

#include <new>

#include "piqp_supplier.hpp"
#include "sqp_external.hpp"

// Quadratic programs of the SQP method, solved by PIQP's C library.

namespace anvil_rt {

template <class Model, class Convexification, class Record>
struct piqp_subproblem : external_subproblem<Model, Convexification, Record> {
  using Base = external_subproblem<Model, Convexification, Record>;

  bool setup(const Model& model) {
    Base::setup(model);
    try {
      supplier_ = new piqp_supplier<Record>(this->record(), true, Convexification::kind == 2);
    } catch (const std::bad_alloc&) {
      supplier_ = nullptr;
      return false;
    }
    this->use(&piqp_supplier<Record>::solve, supplier_);
    return true;
  }

  void teardown() {
    delete supplier_;
    supplier_ = nullptr;
  }

 private:
  piqp_supplier<Record>* supplier_;
};

}  // namespace anvil_rt
