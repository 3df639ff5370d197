"""Quadratic programs for the interior-point headers: drivers in C++, random data, and the truth.

Whatever the form, a program is judged in the dense one,

    min 1/2 x'Hx + g'x   subject to   lower <= (x, C x) <= upper,

with a penalty for each row: infinite if it is hard. Stages become it by `StageProgram.dense`.
"""

import os
import shutil
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.runtime.harness import BUILDS, Builder, Library

# Sanitizers, under which these templates take minutes to compile, have a test of their own.
COMPILERS = ["g++", "clang++"]
HEADERS = ["riccati_ipm.hpp", "soft_links.hpp", "dense_ipm.hpp"]
STATUSES = ["solved", "max_iterations", "infeasible", "numerics", "unbounded"]
RESULTS = "status iterations objective penalty stationarity infeasibility complementarity gap"

# Arrays are loaded and stored without the entry that arrays of no entries are padded with.
DRIVER = """
#include <cstddef>
namespace {
template <class T, std::size_t K, std::size_t C>
void load(T (&to)[K][C], const T* from, int count) {
  for (std::size_t k = 0; k < K; ++k) for (int i = 0; i < count; ++i) to[k][i] = *from++;
}
template <class T, std::size_t K, std::size_t C>
void store(const T (&from)[K][C], T* to, int count) {
  for (std::size_t k = 0; k < K; ++k) for (int i = 0; i < count; ++i) *to++ = from[k][i];
}
template <class T, std::size_t C>
void load(T (&to)[C], const T* from, int count) {
  for (int i = 0; i < count; ++i) to[i] = from[i];
}
template <class T, std::size_t C>
void store(const T (&from)[C], T* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = from[i];
}
template <class T, class Program>
void solve(Program& qp, const double* settings, double* out) {
  anvil_rt::ipm_options<T> options;
  if (settings[0] >= 0) options.tolerance = static_cast<T>(settings[0]);
  if (settings[1] >= 0) options.relative_tolerance = static_cast<T>(settings[1]);
  if (settings[2] >= 0) options.max_iterations = static_cast<int>(settings[2]);
  options.warm_start = settings[3] > 0;
  const auto found = qp.solve(options);
  const double results[] = {double(found.status), double(found.iterations),
                            double(found.objective), double(found.penalty),
                            double(found.stationarity), double(found.infeasibility),
                            double(found.complementarity), double(found.gap)};
  for (int i = 0; i < 8; ++i) out[i] = results[i];
}
template <class T, class Program>
void load_rows(Program& qp, void* const* data, int count) {
  load(qp.lower_bound, static_cast<T*>(data[0]), count);
  load(qp.upper_bound, static_cast<T*>(data[1]), count);
  load(qp.row_penalty, static_cast<T*>(data[2]), count);
  load(qp.value, static_cast<T*>(data[3]), count);
  load(qp.row_multiplier, static_cast<T*>(data[4]), count);
}
template <class T, int N, int NX, int NU, int NG>
struct soft_links {
  anvil_rt::riccati_ipm<T, N, NX, NU, NG>& qp;
  anvil_rt::soft_link_ipm<T, N, NX, NU, NG>& soft;
  T price;
  anvil_rt::qp_result<T> solve(const anvil_rt::ipm_options<T>& options) {
    return soft.solve(qp, options, price);
  }
};
template <class T, int N, int NX, int NU, int NG, bool Soft = false>
void stages(void* const* data, const double* settings, double* out) {
  constexpr int NZ = NX + NU;
  static anvil_rt::riccati_ipm<T, N, NX, NU, NG> qp;
  qp.reset();
  load(qp.hessian, static_cast<T*>(data[0]), NZ * NZ);
  load(qp.gradient, static_cast<T*>(data[1]), NZ);
  load(qp.jacobian, static_cast<T*>(data[2]), (NX + NG) * NZ);
  load(qp.offset, static_cast<T*>(data[3]), NX);
  load_rows<T>(qp, data + 4, NZ + NG);
  load(qp.costate, static_cast<T*>(data[9]), NX);
  if constexpr (Soft) {
    static anvil_rt::soft_link_ipm<T, N, NX, NU, NG> soft;
    soft.reset();
    soft_links<T, N, NX, NU, NG> program = {qp, soft, static_cast<T>(settings[4])};
    solve<T>(program, settings, out);
  } else {
    solve<T>(qp, settings, out);
  }
  store(qp.value, static_cast<T*>(data[7]), NZ + NG);
  store(qp.row_multiplier, static_cast<T*>(data[8]), NZ + NG);
  store(qp.costate, static_cast<T*>(data[9]), NX);
}
template <class T, int N, int NX, int NU, int NG>
void soft_stages(void* const* data, const double* settings, double* out) {
  stages<T, N, NX, NU, NG, true>(data, settings, out);
}
template <class T, int NV, int E, int I>
void dense(void* const* data, const double* settings, double* out) {
  static anvil_rt::dense_ipm<T, NV, E, I> qp;
  qp.reset();
  load(qp.hessian, static_cast<T*>(data[0]), NV * NV);
  load(qp.gradient, static_cast<T*>(data[1]), NV);
  load(qp.jacobian, static_cast<T*>(data[2]), (E + I) * NV);
  load_rows<T>(qp, data + 3, NV + E + I);
  solve<T>(qp, settings, out);
  store(qp.value, static_cast<T*>(data[6]), NV + E + I);
  store(qp.row_multiplier, static_cast<T*>(data[7]), NV + E + I);
}
}
"""


def builder(compiler: str, factory: pytest.TempPathFactory) -> Builder:
    """`Builder` with one of COMPILERS."""
    if shutil.which(compiler) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {compiler}", pytrace=False)
        pytest.skip(f"needs {compiler}")
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "quadratic_programs"
    folder.mkdir(exist_ok=True)
    return Builder(BUILDS[compiler], folder)


def entry(kind: str, real: str, sizes: tuple[int, ...]) -> str:
    """C++ of an entry point for programs of one kind (stages, soft_stages, dense) and size."""
    head = f"void {_name(kind, real, sizes)}(void* const* data, const double* in, double* out)"
    arguments = ", ".join(map(str, sizes))
    call = f"{kind}<{real}, {arguments}>(data, in, out)"
    return f'extern "C" {head};\n{head} {{ {call}; }}\n'


def _name(kind: str, real: str, sizes: tuple[int, ...]) -> str:
    return "_".join([kind, real, *map(str, sizes)])


@dataclass
class Result:
    """What a solver returns; `value` and `multiplier` are of the rows in the dense form."""

    status: str
    iterations: int
    objective: float
    penalty: float
    stationarity: float
    infeasibility: float
    complementarity: float
    gap: float
    arrays: list[np.ndarray]


def _run(
    library: Library,
    name: str,
    arrays: list[np.ndarray],
    tolerance: float | None,
    limit: int | None,
    warm: bool,
    price: float = np.inf,
) -> Result:
    settings = np.array([-1.0, -1.0, -1.0, float(warm), price])
    if tolerance is not None:
        settings[:2] = tolerance, tolerance / 10
    if limit is not None:
        settings[2] = limit
    pointers = np.array([array.ctypes.data for array in arrays], np.uintp)
    out = np.zeros(8)
    library(name, pointers, settings, out)
    fields: dict[str, Any] = dict(zip(RESULTS.split(), out.tolist(), strict=True))
    fields["status"] = STATUSES[int(fields["status"])]
    fields["iterations"] = int(fields["iterations"])
    return Result(**fields, arrays=arrays)


@dataclass
class DenseProgram:
    """Data of dense_ipm with shapes (n, n), (n,), (m, n) and three times (n + m,)."""

    hessian: np.ndarray
    gradient: np.ndarray
    matrix: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    penalty: np.ndarray

    def solve(
        self,
        library: Library,
        equalities: int,
        real: str = "double",
        *,
        start: Result | None = None,
        tolerance: float | None = None,
        limit: int | None = None,
    ) -> Result:
        """Solved by dense_ipm; the last two arrays are values and multipliers."""
        count, n = self.matrix.shape
        data = [self.hessian, self.gradient, self.matrix, self.lower, self.upper, self.penalty]
        ends = [np.zeros(n + count)] * 2 if start is None else start.arrays[-2:]
        arrays = [np.array(a, "f" if real == "float" else "d") for a in [*data, *ends]]
        name = _name("dense", real, (n, equalities, count - equalities))
        return _run(library, name, arrays, tolerance, limit, start is not None)

    def residual(self, x: np.ndarray, multiplier: np.ndarray) -> float:
        """Largest error in the conditions of optimality, beside the size of the multipliers."""
        x, multiplier = x.astype(float), multiplier.astype(float)
        n = len(x)
        gradient = self.hessian @ x + self.gradient + multiplier[:n] + multiplier[n:] @ self.matrix
        rows = np.concatenate([x, self.matrix @ x])
        outside = np.maximum(0, np.maximum(self.lower - rows, rows - self.upper))
        hard = np.isinf(self.penalty)
        # A multiplier pulls towards one side. Beyond that of a soft row it is the penalty.
        slack = np.where(multiplier > 0, self.upper - rows, rows - self.lower)
        product = np.abs(multiplier) * np.maximum(np.where(multiplier == 0, 0, slack), 0)
        with np.errstate(invalid="ignore"):
            excess = np.where(hard, 0, np.maximum(np.abs(multiplier) - self.penalty, 0))
            share = np.abs(multiplier) / np.where(self.penalty > 0, self.penalty, 1)
            short = np.where(hard | (outside == 0), 0, 1 - share)
        parts = gradient, outside[hard], product, excess, outside * short
        size = max(1.0, np.abs(multiplier).max(initial=0))
        return float(max(np.abs(part).max(initial=0) for part in parts) / size)

    def cost(self, x: np.ndarray) -> float:
        """The objective and the penalties."""
        x = x.astype(float)
        rows = np.concatenate([x, self.matrix @ x])
        outside = np.maximum(0, np.maximum(self.lower - rows, rows - self.upper))
        soft = np.isfinite(self.penalty)
        return float(
            (self.hessian @ x / 2 + self.gradient) @ x + outside[soft] @ self.penalty[soft]
        )

    def reference(self, tolerance: float = 1e-10) -> tuple[str, float]:
        """PIQP's status and objective; soft rows get slack variables."""
        piqp = pytest.importorskip("piqp")
        count, n = self.matrix.shape
        soft = np.flatnonzero(np.isfinite(self.penalty))
        both = np.vstack([np.eye(n), self.matrix])
        slacks = np.zeros((n + count, len(soft)))
        slacks[soft, np.arange(len(soft))] = 1
        rows = np.hstack([both, slacks, -slacks])
        equal = self.lower == self.upper
        free = np.isinf(self.lower) & np.isinf(self.upper)
        unequal = ~equal & ~free
        size = rows.shape[1]
        hessian = np.zeros((size, size))
        hessian[:n, :n] = self.hessian
        cost = np.concatenate([self.gradient, np.tile(self.penalty[soft], 2)])
        least = np.concatenate([np.full(n, -np.inf), np.zeros(2 * len(soft))])
        solver = piqp.DenseSolver()
        for name in ("eps_abs", "eps_duality_gap_abs", "eps_rel", "eps_duality_gap_rel"):
            setattr(solver.settings, name, tolerance)
        given = [rows[equal], self.lower[equal]] if equal.any() else [None, None]
        sides = (
            [rows[unequal], self.lower[unequal], self.upper[unequal]]
            if unequal.any()
            else [None] * 3
        )
        solver.setup(hessian, cost, *given, *sides, least, np.full(size, np.inf))
        status = solver.solve()
        solved = int(status.value) == 1
        return "solved" if solved else "failed", float(solver.result.info.primal_obj)


@dataclass
class StageProgram:
    """Data of riccati_ipm for N + 1 stages with shapes (N + 1, ...): hessian (nz, nz), gradient
    (nz,), jacobian (nx + ng, nz), offset (nx,) and three times (nz + ng,) for variables and rows.
    """

    hessian: np.ndarray
    gradient: np.ndarray
    jacobian: np.ndarray
    offset: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    penalty: np.ndarray

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """N, NX, NU and NG."""
        stages, rows, nz = self.jacobian.shape
        nx = self.offset.shape[1]
        return stages - 1, nx, nz - nx, rows - nx

    def solve(
        self,
        library: Library,
        real: str = "double",
        *,
        start: Result | None = None,
        tolerance: float | None = None,
        limit: int | None = None,
        price: float = np.inf,
    ) -> Result:
        """Solved by riccati_ipm; the last three arrays are values, multipliers and costates.

        With a finite `price`, by soft_link_ipm.
        """
        data = [self.hessian, self.gradient, self.jacobian, self.offset]
        data += [self.lower, self.upper, self.penalty]
        ends = [np.zeros_like(self.lower)] * 2 + [np.zeros_like(self.offset)]
        ends = ends if start is None else start.arrays[-3:]
        arrays = [np.array(a, "f" if real == "float" else "d") for a in [*data, *ends]]
        name = _name("stages" if np.isinf(price) else "soft_stages", real, self.sizes)
        return _run(library, name, arrays, tolerance, limit, start is not None, price)

    def dense(self, price: float = np.inf) -> DenseProgram:
        """The same in the dense form: rows of all stages, then the dynamics at this price."""
        horizon, nx, nu, ng = self.sizes
        nz = nx + nu
        n = (horizon + 1) * nz
        hessian = np.zeros((n, n))
        general = np.zeros(((horizon + 1) * ng, n))
        dynamics = np.zeros((horizon * nx, n))
        for k in range(horizon + 1):
            own = slice(k * nz, (k + 1) * nz)
            hessian[own, own] = self.hessian[k]
            general[k * ng : (k + 1) * ng, own] = self.jacobian[k, nx:]
            if k < horizon:
                links = dynamics[k * nx : (k + 1) * nx]
                links[:, own] = self.jacobian[k, :nx]
                links[:, (k + 1) * nz : (k + 1) * nz + nx] = -np.eye(nx)

        def rows(of: np.ndarray, ends: np.ndarray) -> np.ndarray:
            return np.concatenate([of[:, :nz].ravel(), of[:, nz:].ravel(), ends])

        ends = -self.offset[:horizon].ravel()
        prices = np.full(horizon * nx, price)
        matrix = np.vstack([general, dynamics])
        sides = rows(self.lower, ends), rows(self.upper, ends), rows(self.penalty, prices)
        return DenseProgram(hessian, self.gradient.ravel(), matrix, *sides)

    def flat(self, result: Result) -> tuple[np.ndarray, np.ndarray]:
        """Variables and multipliers of a result in the dense form."""
        horizon, nx, nu, _ = self.sizes
        value, multiplier, costate = result.arrays[-3:]
        nz = nx + nu
        parts = multiplier[:, :nz], multiplier[:, nz:], costate[:horizon]
        return value[:, :nz].ravel(), np.concatenate([part.ravel() for part in parts])


def _sides(rng, value, size, density, equal):
    """Sides around values of rows, some of them close."""
    wide = rng.exponential(size=(2, *value.shape)) * size
    wide *= rng.choice([0.01, 0.3, 2.0], size=wide.shape)
    lower = np.where(rng.random(value.shape) < density, value - wide[0], -np.inf)
    upper = np.where(rng.random(value.shape) < density, value + wide[1], np.inf)
    same = rng.random(value.shape) < equal
    return np.where(same, value, lower), np.where(same, value, upper)


def _penalties(rng, shape, share):
    return np.where(rng.random(shape) < share, 10.0 ** rng.uniform(-1, 3, shape), np.inf)


@cache
def random_stages(seed: int, sizes: tuple[int, int, int, int], soft: float = 0.0) -> StageProgram:
    """A program with a feasible point: stable dynamics, often singular Hessians in x."""
    rng = np.random.default_rng(seed)
    horizon, nx, nu, ng = sizes
    nz = nx + nu
    shape = (horizon + 1, nz)
    factor = rng.normal(size=(horizon + 1, rng.choice([1, max(nz, 1)]), nz))
    hessian = np.swapaxes(factor, 1, 2) @ factor / max(nz, 1)
    hessian[:, range(nx, nz), range(nx, nz)] += 0.01
    gradient = 10.0 ** rng.uniform(-1, 1) * rng.normal(size=shape)
    jacobian = rng.normal(size=(horizon + 1, nx + ng, nz))
    offset = 0.3 * rng.normal(size=(horizon + 1, nx))
    if nx:
        radius = np.abs(np.linalg.eigvals(jacobian[:, :nx, :nx])).max(axis=1)
        jacobian[:, :nx, :nx] *= (0.98 / radius)[:, None, None]
    z = rng.normal(size=shape)
    for k in range(horizon):
        z[k + 1, :nx] = jacobian[k, :nx] @ z[k] + offset[k]
    # The last stage has no inputs and no successor; the first often has no rows.
    jacobian[horizon, :nx] = offset[horizon] = 0
    z[horizon, nx:] = gradient[horizon, nx:] = 0
    hessian[horizon, nx:] = hessian[horizon, :, nx:] = jacobian[horizon, :, nx:] = 0
    jacobian[0, nx:] *= rng.integers(2)
    value = np.concatenate([z, np.einsum("kij,kj->ki", jacobian[:, nx:], z)], axis=1)
    density = rng.choice([0.3, 1.0])
    lower, upper = _sides(rng, value, 1.0, density, 0.0)
    same = _sides(rng, value, 1.0, density, 0.1)
    lower[:, nz:], upper[:, nz:] = same[0][:, nz:], same[1][:, nz:]
    lower[horizon, nx:nz], upper[horizon, nx:nz] = -np.inf, np.inf
    penalty = _penalties(rng, value.shape, soft)
    if rng.random() < 0.7:
        lower[0, :nx] = upper[0, :nx] = z[0, :nx]
        penalty[0, :nx] = np.inf
    if rng.random() < 0.2:
        lower[horizon, :nx] = upper[horizon, :nx] = z[horizon, :nx]
    return StageProgram(hessian, gradient, jacobian, offset, lower, upper, penalty)


def infeasible_stages(seed: int, sizes: tuple[int, int, int, int]) -> StageProgram:
    """Inputs within bounds that do not suffice to reach what a later state must be."""
    rng = np.random.default_rng(seed)
    program = random_stages(seed, sizes)
    horizon, nx, nu, _ = sizes
    copy = StageProgram(*(np.array(a) for a in vars(program).values()))
    end = rng.integers(1, horizon + 1)
    state = rng.normal(size=nx)
    reach = np.zeros(nx)
    copy.lower[0, :nx] = copy.upper[0, :nx] = state
    copy.lower[:end, nx : nx + nu], copy.upper[:end, nx : nx + nu] = -0.1, 0.1
    for k in range(end):
        a, b = copy.jacobian[k, :nx, :nx], copy.jacobian[k, :nx, nx:]
        state = a @ state + copy.offset[k]
        reach = np.abs(a) @ reach + 0.1 * np.abs(b).sum(axis=1)
    i = rng.integers(nx)
    copy.lower[end, i] = state[i] + reach[i] + 0.05 + rng.exponential()
    copy.upper[end, i] = np.inf
    return copy


@cache
def random_dense(seed: int, sizes: tuple[int, int, int], soft: float = 0.0) -> DenseProgram:
    """A program with a feasible point; often with singular Hessian, dependent or scaled rows."""
    rng = np.random.default_rng(seed)
    n, equalities, inequalities = sizes
    count = equalities + inequalities
    singular = rng.random() < 0.5
    factor = rng.normal(size=(rng.integers(n + 1) if singular else n, n))
    hessian = factor.T @ factor / max(n, 1) + (0 if singular else 0.01) * np.eye(n)
    matrix = rng.normal(size=(count, n))
    if equalities > 2 and rng.random() < 0.5:
        matrix[equalities - 1] = rng.normal(size=equalities - 1) @ matrix[: equalities - 1]
    if rng.random() < 0.3:
        matrix *= 10.0 ** rng.uniform(-2, 2, size=(count, 1))
    x = rng.normal(size=n)
    value = np.concatenate([x, matrix @ x])
    size = np.concatenate([np.ones(n), np.linalg.norm(matrix, axis=1)])
    lower, upper = _sides(rng, value, size, 1.0 if singular else 0.6, 0.05)
    fixed = slice(n, n + equalities)
    lower[fixed] = upper[fixed] = value[fixed]
    penalty = _penalties(rng, n + count, soft)
    penalty[: n if singular else 0] = np.inf  # or the objective could fall without end
    gradient = 10.0 ** rng.uniform(-1, 1) * rng.normal(size=n)
    return DenseProgram(hessian, gradient, matrix, lower, upper, penalty)


def infeasible_dense(seed: int, sizes: tuple[int, int, int]) -> DenseProgram:
    """One row out of reach of the bounds of variables."""
    rng = np.random.default_rng(seed)
    n = sizes[0]
    copy = DenseProgram(*(np.array(a) for a in vars(random_dense(seed, sizes)).values()))
    copy.lower[:n] = np.maximum(copy.lower[:n], -5)
    copy.upper[:n] = np.minimum(copy.upper[:n], 5)
    row = rng.integers(len(copy.matrix))
    ends = copy.matrix[row] * np.stack([copy.lower[:n], copy.upper[:n]])
    copy.lower[n + row] = ends.max(axis=0).sum() + np.linalg.norm(copy.matrix[row]) * 0.05
    copy.upper[n + row] = copy.lower[n + row] if row < sizes[1] else np.inf
    return copy
