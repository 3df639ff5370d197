#pragma once

#include <cmath>

// The exponential family on a device: CUDA's own functions, within 2 units in the last place.
//
// Those of the host are written for its vector units and compute in double throughout, which most
// devices do slowly. Signed zeros, infinities and NaN give the same results.

namespace anvil_rt {

template <class T>
__attribute__((always_inline)) inline T fast_exp(T x) {
  return std::exp(x);
}

template <class T>
__attribute__((always_inline)) inline T fast_expm1(T x) {
  return std::expm1(x);
}

template <class T>
__attribute__((always_inline)) inline T fast_tanh(T x) {
  return std::tanh(x);
}

// 1 / (1 + exp(-x)), which is also how XLA expands jax.lax.logistic.
template <class T>
__attribute__((always_inline)) inline T fast_logistic(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

template <class T>
__attribute__((always_inline)) inline T fast_log(T x) {
  return std::log(x);
}

}  // namespace anvil_rt
