#pragma once

#include <cmath>

#include "interior_point.hpp"

// Which trial points of a line search are acceptable, judged by the objective f and the l1 norm
// theta of the constraints' violation.

namespace anvil_rt {

// Pairs (theta, f) of which one must improve on each (Fletcher and Leyffer, "Nonlinear programming
// without a penalty function", Math. Program. 91, 2002; line search and
// switching condition as in Waechter and Biegler, "On the implementation of an interior-point filter
// line-search algorithm for large-scale nonlinear programming", Math. Program. 106, 2006; margins
// and the largest violation are stricter: full steps of the SQP method are longer).
template <class T>
struct line_search_filter {
  static constexpr int room = 64;
  static constexpr T margin = T(1e-2);
  int count;
  T theta[room], objective[room];
  T largest_theta, smallest_theta;

  void reset(T start) {
    count = 0;
    largest_theta = T(3) * larger(start, T(1));
    smallest_theta = T(1e-4) * larger(start, T(1));
  }

  bool accepts(T f, T violation) const {
    if (!(violation <= largest_theta)) return false;
    for (int i = 0; i < count; ++i) {
      if (violation >= theta[i] && f >= objective[i]) return false;
    }
    return true;
  }

  void add(T f, T violation) {
    const T entry_theta = (1 - margin) * violation, entry_f = f - margin * violation;
    int kept = 0;
    for (int i = 0; i < count; ++i) {
      if (theta[i] >= entry_theta && objective[i] >= entry_f) continue;
      theta[kept] = theta[i];
      objective[kept++] = objective[i];
    }
    if (kept == room) --kept;
    theta[kept] = entry_theta;
    objective[kept] = entry_f;
    count = kept + 1;
  }

  // Whether a step is to be judged by the objective alone: a good model decrease at a point that
  // is nearly feasible.
  bool favours_objective(T slope, T violation, T alpha) const {
    return slope < T(0) && violation <= smallest_theta &&
           alpha * std::pow(-slope, T(2.3)) > std::pow(violation, T(1.1));
  }
};

// Weight of theta in the exact penalty function f + weight * theta. It grows when a step would not
// descend, and may shrink again when it is far larger than the multipliers.
template <class T>
struct penalty_weight {
  T weight;
  int decreases;

  void reset() {
    weight = T(1);
    decreases = 0;
  }

  // For a step with directional derivative `slope`, curvature d'Hd, and a linear model that reduces
  // theta by `reduction`.
  void update(T slope, T curved, T reduction, T largest_multiplier, bool elastic, T penalty) {
    T need = T(0);
    if (reduction > T(1e-14)) need = (slope + larger(curved, T(0)) / 2) / (T(0.9) * reduction);
    const T wanted = larger(larger(T(1.5) * largest_multiplier, T(1.5) * need), T(1e-3));
    if (weight < need) {
      weight = T(1.5) * need + T(1e-3);
    } else if (!elastic && weight > 5 * wanted && decreases < 30) {
      weight = larger(T(1.5) * wanted, T(0.1) * weight);
      ++decreases;
    }
    if (elastic) weight = larger(weight, penalty);
  }
};

}  // namespace anvil_rt
