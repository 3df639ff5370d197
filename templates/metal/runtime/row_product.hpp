#pragma once

// Shadows runtime/row_product.hpp: other threads fill the time in which a sum waits for a product.

namespace anvil_rt {

// Sum of row[k] x[k] for first <= k < last.
template <class T, class Row, class X>
inline T row_product(Row row, X x, int first, int last) {
  T sum = T(0);
  for (int k = first; k < last; ++k) sum += row[k] * x[k];
  return sum;
}

}  // namespace anvil_rt
