#pragma once

// Exponential family. Shadows runtime/exponential.hpp, which computes in double.

namespace anvil_rt {

template <class T>
inline T fast_exp(T x) {
  return std::exp(x);
}
template <class T>
inline T fast_expm1(T x) {
  return std::expm1(x);
}
template <class T>
inline T fast_log(T x) {
  return std::log(x);
}
template <class T>
inline T fast_tanh(T x) {
  return std::tanh(x);
}
// 1 / (1 + exp(-x)), which is also how XLA expands jax.lax.logistic.
template <class T>
inline T fast_logistic(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

}  // namespace anvil_rt
