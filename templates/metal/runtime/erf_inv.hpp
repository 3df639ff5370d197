#pragma once

// Inverse of the error function. Shadows runtime/erf_inv.hpp, which computes in double.

namespace anvil_rt {

// Giles, "Approximating the erfinv function" (GPU computing gems, 2011), the single-precision
// form, which is also XLA's: x times a polynomial in w = -log(1 - x^2), from 5 on in sqrt(w).
// 1 - x^2 is taken as a product, which rounds once and cancels nothing. Relative error about 4e-7.
template <class T>
inline T erf_inv(T x) {
  const T size = std::fabs(x);
  if (!(size < T(1))) {
    return size == T(1) ? x * std::numeric_limits<T>::infinity()
                        : std::numeric_limits<T>::quiet_NaN();
  }
  const T w = size < T(0.5f) ? -std::log1p(-x * x) : -std::log((T(1) - x) * (T(1) + x));
  T p = T(0);
  if (w < T(5)) {
    const T r = w - T(2.5f);
    p = std::fma(r, 2.81022636e-08f, 3.43273939e-07f);
    p = std::fma(p, r, -3.5233877e-06f);
    p = std::fma(p, r, -4.39150654e-06f);
    p = std::fma(p, r, 2.1858087e-04f);
    p = std::fma(p, r, -1.25372503e-03f);
    p = std::fma(p, r, -4.17768164e-03f);
    p = std::fma(p, r, 2.46640727e-01f);
    p = std::fma(p, r, 1.50140941f);
  } else {
    const T r = std::sqrt(w) - T(3);
    p = std::fma(r, -2.00214257e-04f, 1.00950558e-04f);
    p = std::fma(p, r, 1.34934322e-03f);
    p = std::fma(p, r, -3.67342844e-03f);
    p = std::fma(p, r, 5.73950773e-03f);
    p = std::fma(p, r, -7.6224613e-03f);
    p = std::fma(p, r, 9.43887047e-03f);
    p = std::fma(p, r, 1.00167406f);
    p = std::fma(p, r, 2.83297682f);
  }
  return p * x;
}

}  // namespace anvil_rt
