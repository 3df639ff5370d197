#pragma once

namespace anvil_rt {

// Sum of row[k] x[k] for first <= k < last. Four sums: one would make every product wait for the
// one before it.
template <class T, class Row, class X>
inline T row_product(Row row, X x, int first, int last) {
  T sums[4] = {T(0), T(0), T(0), T(0)};
  int k = first;
  for (; k + 4 <= last; k += 4) {
    for (int lane = 0; lane < 4; ++lane) sums[lane] += row[k + lane] * x[k + lane];
  }
  for (; k < last; ++k) sums[0] += row[k] * x[k];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace anvil_rt
