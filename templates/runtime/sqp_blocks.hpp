#pragma once

#include <cmath>

#include "eigen.hpp"
#include "sqp_program.hpp"

// Hessians block by block: positive eigenvalues, and damped BFGS updates.

namespace anvil_rt {

// Where the entry (i, j), i <= j, of a full block is stored: the diagonal ends its column.
template <class Model>
inline int block_entry(const Model& model, int block, int i, int j) {
  const int column = model.blocks.variable[model.blocks.starts[block] + j];
  return model.hessian.starts[column + 1] - 1 - (j - i);
}

// Whether the leading rows of a symmetric row-major matrix with `stride`, minus `shift` times the
// identity, have a Cholesky factor. Overwrites the lower triangle.
template <class T>
inline bool is_positive(T* a, int size, int stride, T shift) {
  for (int j = 0; j < size; ++j) {
    T* row = a + j * stride;
    T pivot = row[j] - shift;
    for (int k = 0; k < j; ++k) pivot -= row[k] * row[k];
    if (!(pivot > T(0))) return false;
    pivot = std::sqrt(pivot);
    row[j] = pivot;
    for (int i = j + 1; i < size; ++i) {
      T* below = a + i * stride;
      T value = below[j];
      for (int k = 0; k < j; ++k) value -= below[k] * row[k];
      below[j] = value / pivot;
    }
  }
  return true;
}

// Replace the eigenvalues of a symmetric N by N matrix by their magnitudes, at least `floor` times
// the largest one. Modified directions of negative curvature keep their scale (Nocedal and Wright,
// "Numerical optimization", section 3.4).
template <class T, int N>
inline void mirror_eigenvalues(T* a, T floor) {
  T vectors[at_least_one(N * N)], values[at_least_one(N)];
  symmetric_eigen<T, N>(a, vectors, values);
  T largest = T(0);
  for (int i = 0; i < N; ++i) largest = larger(largest, std::fabs(values[i]));
  if (!(largest > T(0))) largest = T(1);
  for (int i = 0; i < N * N; ++i) a[i] = T(0);
  for (int k = 0; k < N; ++k) {
    const T value = larger(std::fabs(values[k]), floor * largest);
    for (int i = 0; i < N; ++i) {
      const T scaled = value * vectors[i * N + k];
      for (int j = 0; j < N; ++j) a[i * N + j] += scaled * vectors[j * N + k];
    }
  }
}

// 1 / sqrt(size), within limits.
template <class T>
inline T inverse_root(T size) {
  return size > T(1e-30) ? T(1) / std::sqrt(smaller(larger(size, T(1e-8)), T(1e8))) : T(1);
}

// The same in units in which the largest entry of each column is about one (Ruiz), so that units
// of the variables do not matter.
template <class T, int N>
inline void mirror_balanced(T* a, T floor) {
  T unit[at_least_one(N)];
  for (int j = 0; j < N; ++j) unit[j] = T(1);
  for (int turn = 0; turn < 4; ++turn) {
    T by[at_least_one(N)];
    for (int j = 0; j < N; ++j) {
      by[j] = inverse_root(largest_magnitude(a + j * N, N));
      unit[j] *= by[j];
    }
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < N; ++j) a[i * N + j] *= by[i] * by[j];
    }
  }
  mirror_eigenvalues<T, N>(a, floor);
  for (int i = 0; i < N; ++i) {
    for (int j = 0; j < N; ++j) a[i * N + j] /= unit[i] * unit[j];
  }
}

template <class T>
constexpr T least_curvature() {
  return sizeof(T) >= 8 ? T(1e-8) : T(1e-4);
}

// Make every block of the Hessian positive definite. Entries between blocks are dropped.
template <class Model>
inline void modify_blocks(const Model& model, typename Model::Real* hessian) {
  using T = typename Model::Real;
  constexpr int room = Model::largest_block;
  for (int b = 0; b < model.blocks.count; ++b) {
    const int size = model.blocks.starts[b + 1] - model.blocks.starts[b];
    T block[at_least_one(room * room)] = {}, factor[at_least_one(room * room)];
    T scale = T(0);
    for (int j = 0; j < room; ++j) {
      for (int i = 0; i < j && j < size; ++i) {
        const T value = hessian[block_entry(model, b, i, j)];
        block[i * room + j] = block[j * room + i] = value;
        scale = larger(scale, std::fabs(value));
      }
      block[j * room + j] = j < size ? hessian[block_entry(model, b, j, j)] : T(0);
      scale = larger(scale, std::fabs(block[j * room + j]));
    }
    for (int i = 0; i < room * room; ++i) factor[i] = block[i];
    const T least = least_curvature<T>() * larger(scale, T(1));
    if (is_positive(factor, size, room, least / 2)) continue;
    for (int j = size; j < room; ++j) block[j * room + j] = scale;
    mirror_balanced<T, room>(block, least_curvature<T>());
    for (int j = 0; j < size; ++j) {
      for (int i = 0; i <= j; ++i) hessian[block_entry(model, b, i, j)] = block[i * room + j];
    }
  }
  // What lies outside the blocks.
  for (int b = 0; b < model.blocks.count; ++b) {
    const int size = model.blocks.starts[b + 1] - model.blocks.starts[b];
    for (int j = 0; j < size; ++j) {
      const int column = model.blocks.variable[model.blocks.starts[b] + j];
      const int first = block_entry(model, b, 0, j);
      for (int e = model.hessian.starts[column]; e < first; ++e) hessian[e] = T(0);
    }
  }
}

// A Hessian near zero: all the diagonal.
template <class Model>
inline void set_diagonal(const Model& model, typename Model::Real* hessian,
                         typename Model::Real value) {
  for (int e = 0; e < Model::hessian_entries; ++e) hessian[e] = 0;
  for (int j = 0; j < Model::variables; ++j) hessian[model.hessian.starts[j + 1] - 1] = value;
}

// Damped BFGS update of every block for the step s and the change y of the Lagrangian's gradient
// (Powell, "A fast algorithm for nonlinearly constrained optimization calculations", 1978; block
// by block: Bock and Plitt, IFAC World Congress 1984). The first one scales the identity.
template <class Model>
inline void update_bfgs(const Model& model, const typename Model::Real* s,
                        const typename Model::Real* y, bool first,
                        typename Model::Real* hessian) {
  using T = typename Model::Real;
  constexpr int room = at_least_one(Model::largest_block);
  for (int b = 0; b < model.blocks.count; ++b) {
    const int* variable = model.blocks.variable + model.blocks.starts[b];
    const int size = model.blocks.starts[b + 1] - model.blocks.starts[b];
    T product[room] = {}, sy = T(0), yy = T(0), ss = T(0), shs = T(0);
    for (int i = 0; i < size; ++i) {
      sy += s[variable[i]] * y[variable[i]];
      yy += y[variable[i]] * y[variable[i]];
      ss += s[variable[i]] * s[variable[i]];
    }
    if (!(ss > T(0))) continue;
    if (first && sy > T(1e-8) * ss) {
      const T scale = smaller(larger(yy / sy, T(1e-3)), T(1e6));
      for (int j = 0; j < size; ++j) hessian[block_entry(model, b, j, j)] = scale;
    }
    for (int j = 0; j < size; ++j) {
      for (int i = 0; i <= j; ++i) {
        const T value = hessian[block_entry(model, b, i, j)];
        product[i] += value * s[variable[j]];
        if (i < j) product[j] += value * s[variable[i]];
      }
    }
    for (int i = 0; i < size; ++i) shs += s[variable[i]] * product[i];
    if (!(shs > T(0))) continue;
    const T theta = sy >= T(0.2) * shs ? T(1) : T(0.8) * shs / (shs - sy);
    T change[room] = {}, along = T(0);
    for (int i = 0; i < size; ++i) {
      change[i] = theta * y[variable[i]] + (T(1) - theta) * product[i];
      along += s[variable[i]] * change[i];
    }
    for (int j = 0; j < size; ++j) {
      for (int i = 0; i <= j; ++i) {
        hessian[block_entry(model, b, i, j)] +=
            change[i] * change[j] / along - product[i] * product[j] / shs;
      }
    }
  }
}

}  // namespace anvil_rt
