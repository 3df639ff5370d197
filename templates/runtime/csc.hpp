#pragma once

// Products with matrices in compressed sparse columns: column j holds the entries
// starts[j], ..., starts[j + 1] - 1, whose rows ascend.

namespace anvil_rt {

struct csc_pattern {
  int columns;
  const int* starts;
  const int* rows;
};

// y += A x
template <class T>
inline void add_product(const csc_pattern& pattern, const T* a, const T* x, T* y) {
  for (int j = 0; j < pattern.columns; ++j) {
    for (int e = pattern.starts[j]; e < pattern.starts[j + 1]; ++e) {
      y[pattern.rows[e]] += a[e] * x[j];
    }
  }
}

// x += A'y
template <class T>
inline void add_transposed_product(const csc_pattern& pattern, const T* a, const T* y, T* x) {
  for (int j = 0; j < pattern.columns; ++j) {
    for (int e = pattern.starts[j]; e < pattern.starts[j + 1]; ++e) {
      x[j] += a[e] * y[pattern.rows[e]];
    }
  }
}

// x'Hx for the symmetric H of which the upper triangle is stored.
template <class T>
inline T quadratic_form(const csc_pattern& pattern, const T* h, const T* x) {
  T total = T(0);
  for (int j = 0; j < pattern.columns; ++j) {
    for (int e = pattern.starts[j]; e < pattern.starts[j + 1]; ++e) {
      const int i = pattern.rows[e];
      total += (i == j ? T(1) : T(2)) * h[e] * x[i] * x[j];
    }
  }
  return total;
}

}  // namespace anvil_rt
