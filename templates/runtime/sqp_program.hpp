#pragma once

#include <cmath>
#include <limits>

#include "csc.hpp"
#include "interior_point.hpp"

// The data of the SQP method (sqp.hpp), shared by the methods that solve its quadratic programs.
//
// A Model is a nonlinear program
//
//   min f(x)  subject to  c(x) = equality,  lower <= g(x) <= upper,  x_lower <= x <= x_upper
//
// that can evaluate itself:
//   Real                                      double or float
//   variables, equalities, inequalities       sizes
//   initial_equalities                        rows of c whose right-hand side is a measured state
//   hessian_entries, equality_entries, inequality_entries   of the matrices' patterns
//   hessian, equality, inequality             these patterns (csc_pattern); the Hessian's is an
//                                             upper triangle in which every block is full
//   blocks                                    partition of the variables, see block_partition
//   largest_block                             size of the largest block
//   setup()                                   makes the patterns
//   evaluate(x, p, f, c, g)                   values
//   differentiate(x, p, y, z, df, dc, dg, h)  gradient, Jacobians, Hessian of the Lagrangian

namespace anvil_rt {

// Sets of variables with no entry of the Hessian between different ones, apart from entries
// between neighbouring stages: block b has the variables variable[starts[b]], ..., ascending.
struct block_partition {
  int count;
  const int* starts;
  const int* variable;
};

// One quadratic program in the step d from an iterate:
//
//   min 1/2 d'Hd + gradient'd  subject to  A d = equality_value,  lower <= G d <= upper,
//   x_lower <= d <= x_upper
template <class Model>
struct sqp_program {
  using T = typename Model::Real;
  T hessian[at_least_one(Model::hessian_entries)];
  T gradient[at_least_one(Model::variables)];
  T equality[at_least_one(Model::equality_entries)];
  T equality_value[at_least_one(Model::equalities)];
  T inequality[at_least_one(Model::inequality_entries)];
  T lower[at_least_one(Model::inequalities)], upper[at_least_one(Model::inequalities)];
  T x_lower[at_least_one(Model::variables)], x_upper[at_least_one(Model::variables)];

  // Rows that are predicted to hold the solution back at their upper (1) or lower (-1) side.
  signed char row_side[at_least_one(Model::inequalities)];
  signed char x_side[at_least_one(Model::variables)];
};

// A step or an iterate's multipliers: signed, positive where the upper side is active.
template <class Model>
struct sqp_multipliers {
  using T = typename Model::Real;
  T equality[at_least_one(Model::equalities)];
  T inequality[at_least_one(Model::inequalities)];
  T x[at_least_one(Model::variables)];
};

template <class Model>
struct sqp_step {
  using T = typename Model::Real;
  T d[at_least_one(Model::variables)];
  sqp_multipliers<Model> multipliers;
  int iterations;
};

// How a quadratic program is to be solved.
template <class T>
struct subproblem_options {
  T penalty;  // of rows that are not fulfilled; infinite: they have to be
  T tolerance;
  int max_iterations;
  bool warm;  // start from the multipliers in the step
};

// What the Hessian of a subproblem is made of.
enum class curvature {
  exact,     // the given one, made convex in a way that keeps the solution where possible
  modified,  // the given one with positive eigenvalues
  none       // nearly zero, with a gradient of zero: what remains is the violation of the rows
};

template <class T>
inline T violation_of(T value, T lower, T upper) {
  return larger(T(0), larger(lower - value, value - upper));
}

}  // namespace anvil_rt
