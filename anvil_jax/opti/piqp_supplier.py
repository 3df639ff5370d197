"""Quadratic programs for generated solvers, solved by PIQP's Python package.

A generated solver calls whoever solves its quadratic programs through a function pointer
(`external_qp`). `PiqpSupplier` makes such a pointer; behind it are the solvers of the `piqp`
package: a dense one, a sparse one, and one for multistage problems. So PIQP can be used without its
C++ headers; a call costs 10 to 100 microseconds more than the same call from C++.

PIQP says on stderr what is wrong with its data, returns nothing, and may go on with half of it.
That is why everything is examined before it is handed over:

- A number that is not finite makes PIQP run to its iteration limit, and its multistage solver fail
  ever after. Such data is refused, and a multistage solver that failed is set up again.
- A row without a finite side is erased by PIQP and stays so when it gets one later. It is switched
  off here, and passed again when that changes.
- Infeasible problems often run into the iteration limit: a large residual there counts as
  infeasible.
- An update with only some of the matrices changes the scaling of all, but not inside the linear
  solver: wrong results that PIQP calls solved. So either all matrices are passed or none.
- Updates without matrices scale them back and forth, with a rounding error each time. They are
  passed now and then.

Source of the algorithm: Schwan, Jiang, Kuhn, Jones, "PIQP: A proximal interior-point quadratic
programming solver", IEEE Conference on Decision and Control, 2023.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import piqp
import scipy.sparse

from anvil_jax.errors import ArgumentError, SolverError
from anvil_jax.opti.external_qp import (
    SOLVE_FUNCTION,
    ExternalQP,
    QPData,
    QPKind,
    QPStatus,
    layout_of,
)

type Method = Literal[
    "auto",
    "dense_cholesky",
    "sparse_ldlt",
    "sparse_ldlt_eq_cond",
    "sparse_ldlt_ineq_cond",
    "sparse_ldlt_cond",
    "sparse_multistage",
]

_METHODS = {
    QPKind.DENSE: "dense_cholesky",
    QPKind.SPARSE: "sparse_ldlt",
    QPKind.MULTISTAGE: "sparse_multistage",
}
_OURS = {"eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel", "max_iter"} | {
    "check_duality_gap",
    "kkt_solver",
}

_RELATIVE = 0.1
"""Relative tolerances as a part of the absolute one, as in PIQP's defaults."""

_REFRESH = 50
"""Updates without matrices after which they are passed again."""

_INFEASIBLE_RESIDUAL = 1e-6
_INFEASIBLE_ITERATIONS = 25
"""A limit this high that is reached with a residual this large means infeasible."""


class PiqpSupplier:
    """Solves `ExternalQP` records with PIQP; one supplier serves one generated solver.

    It must live as long as the solver that calls it and serves one thread at a time.

    Rows that may be violated (a finite `ExternalQP.penalty`) are given two slack variables each, in
    a second, sparse solver that is set up when it is first needed.

    Attributes:
        callback: the ctypes function, to be passed as `external_qp.SOLVE_FUNCTION`.
        error: what a call raised, None if none did. Nothing is raised through the callback; such a
            call returns `QPStatus.NUMERICS`.
    """

    def __init__(
        self, method: Method = "auto", settings: Mapping[str, float | int | bool] | None = None
    ) -> None:
        """Nothing is set up before the first call.

        Args:
            method: PIQP's ``kkt_solver``; ``"auto"`` chooses by the kind of the problem.
            settings: of PIQP, by name. Tolerances and the iteration limit come from the record.

        Raises:
            ArgumentError: an unknown method, or a setting that PIQP lacks or that is not free.
        """
        if method not in get_args(Method.__value__):
            names = ", ".join(get_args(Method.__value__))
            raise ArgumentError(f"method={method!r} is not one of {names}.")
        self._method = method
        self._settings = dict(settings or {})
        for name in self._settings:
            if name in _OURS or not hasattr(piqp.SparseSolver().settings, name):
                raise ArgumentError(f"settings: PIQP's {name!r} does not exist or is not free.")
        self._layout = b""
        self._qp = ExternalQP()
        self._hard: _HardProblem | None = None
        self._elastic: _ElasticProblem | None = None
        self.error: BaseException | None = None
        self.callback = SOLVE_FUNCTION(self._call)

    def reraise(self) -> None:
        """Raises and forgets what a call raised."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _call(self, context: int | None, address: int | None) -> int:
        del context
        try:
            return int(self._solve(address or 0))
        except BaseException as error:  # ctypes would print it and return anything
            self.error = error
            self._layout = b""
            return int(QPStatus.NUMERICS)

    def _solve(self, address: int) -> QPStatus:
        if not address:
            raise SolverError("The quadratic program is a null pointer.")
        layout = layout_of(address)
        if layout != self._layout:
            self._attach(address)
            self._layout = layout
        qp, hard = self._qp, self._hard
        assert hard is not None
        qp.iterations = 0
        for problem in (hard, self._elastic):
            if problem is not None and qp.changed:
                problem.changed = True
        refused = _refused(hard.data, qp)
        if refused is not None:
            return refused
        if math.isinf(qp.penalty):
            return hard.solve(qp)
        if self._elastic is None:
            self._elastic = _ElasticProblem(hard.data, self._settings)
        return self._elastic.solve(qp)

    def _attach(self, address: int) -> None:
        """Reads sizes, patterns and addresses; what was set up before is dropped."""
        self._qp = ExternalQP.from_address(address)
        if self._qp.n <= 0 or self._qp.m_eq < 0 or self._qp.m_ineq < 0:
            raise SolverError("A quadratic program needs variables, and no negative sizes.")
        data = QPData.of(self._qp)
        method = _METHODS[data.kind] if self._method == "auto" else self._method
        self._hard = _HardProblem(data, method, self._settings)
        self._elastic = None


def _refused(data: QPData, qp: ExternalQP) -> QPStatus | None:
    """What the data alone shows, else None."""
    values = (data.hessian.data, data.c, data.equality.data, data.b, data.inequality.data)
    if not all(np.isfinite(v).all() for v in values):
        return QPStatus.NUMERICS
    if not (qp.penalty >= 0 and qp.tolerance > 0):
        return QPStatus.NUMERICS
    for lower, upper in ((data.h_l, data.h_u), (data.x_l, data.x_u)):
        if np.isnan(lower).any() or np.isnan(upper).any():
            return QPStatus.NUMERICS
        crossing = (lower > upper) | (lower == math.inf) | (upper == -math.inf)
        if crossing.any():
            return QPStatus.INFEASIBLE
    return None


class _Problem:
    """One PIQP solver and the arrays it is given.

    A subclass says what `matrices` and `vectors` are.

    Attributes:
        data: the record's arrays.
        changed: whether PIQP has not seen the matrices in their present state.
        matrices: P, A, G as PIQP takes them, None without rows.
        vectors: c, b, h_l, h_u, x_l, x_u likewise.
        infeasible: what it means if PIQP finds no feasible point.
    """

    infeasible = QPStatus.INFEASIBLE

    matrices: tuple[Any, Any, Any]
    vectors: tuple[Any, ...]
    _piqp: Any

    def __init__(self, data: QPData, method: str, settings: Mapping[str, Any]) -> None:
        self.data = data
        self.changed = True
        self._is_dense = method == "dense_cholesky"
        self._fails_forever = method == "sparse_multistage"
        self._settings = {**settings, "kkt_solver": getattr(piqp.KKTSolver, method)}
        self._is_set_up = False
        self._tolerance, self._limit = 0.0, -1
        self._updates = 0
        self._free = np.zeros(len(data.h_l), dtype=bool)

    def take_vectors(self, qp: ExternalQP) -> None:
        """Copies from the record what PIQP cannot read in place."""
        raise NotImplementedError

    def take_matrices(self) -> None:
        """The same for the matrices."""
        raise NotImplementedError

    def give(self, result: Any) -> None:
        """Writes a result into the record's arrays."""
        raise NotImplementedError

    def solve(self, qp: ExternalQP) -> QPStatus:
        """Solves the record's present problem; results are written if there are any."""
        self._switch_rows()
        self.take_vectors(qp)
        if self.changed:
            self.take_matrices()
        if self._is_set_up:
            self._set_limits(qp)
            self._update()
        else:
            self._set_up(qp)
        self.changed = False
        status = self._piqp.solve()
        if status == piqp.PIQP_UNSOLVED and self._fails_forever:
            self._without_multistage(qp)
            status = self._piqp.solve()
        result: Any = self._piqp.result
        qp.iterations = result.info.iter
        verdict = self._verdict(status, result, qp)
        if verdict in (QPStatus.SOLVED, QPStatus.MAX_ITERATIONS):
            self.give(result)
        if verdict is not QPStatus.SOLVED and self._fails_forever:
            self._is_set_up = False
            self.changed = True
        return verdict

    def _switch_rows(self) -> None:
        """Finds the rows of G that have no finite side."""
        free = np.isinf(self.data.h_l) & np.isinf(self.data.h_u)
        if not np.array_equal(free, self._free):
            self._free = free
            self.changed = True

    def sides(self, h_l: np.ndarray, h_u: np.ndarray) -> None:
        """Copies the sides of G's rows; an erased row is between -1 and 1."""
        np.copyto(h_l, self.data.h_l)
        np.copyto(h_u, self.data.h_u)
        h_l[self._free] = -1.0
        h_u[self._free] = 1.0

    def inequality_values(self) -> np.ndarray:
        """Entries of G, zero in rows that have no finite side."""
        matrix = self.data.inequality
        if not self._free.any():
            return matrix.data
        return np.where(self._free[matrix.indices], 0.0, matrix.data)

    def row_multipliers(self, result: Any) -> np.ndarray:
        """Signed multipliers of G's rows."""
        return np.where(self._free, 0.0, result.z_u - result.z_l)

    def _set_up(self, qp: ExternalQP) -> None:
        self._piqp = piqp.DenseSolver() if self._is_dense else piqp.SparseSolver()
        for name, value in self._settings.items():
            setattr(self._piqp.settings, name, value)
        self._tolerance, self._limit = 0.0, -1
        self._set_limits(qp)
        (p, a, g), (c, b, h_l, h_u, x_l, x_u) = self.matrices, self.vectors
        self._piqp.setup(p, c, a, b, g, h_l, h_u, x_l, x_u)
        self._is_set_up = True
        self._updates = 0

    def _without_multistage(self, qp: ExternalQP) -> None:
        """What to do where PIQP was built without BLASFEO."""
        self._settings["kkt_solver"] = piqp.KKTSolver.sparse_ldlt
        self._fails_forever = False
        self._set_up(qp)

    def _set_limits(self, qp: ExternalQP) -> None:
        settings = self._piqp.settings
        if self._tolerance != qp.tolerance:
            self._tolerance = qp.tolerance
            settings.eps_abs = settings.eps_duality_gap_abs = qp.tolerance
            settings.eps_rel = settings.eps_duality_gap_rel = _RELATIVE * qp.tolerance
        if self._limit != qp.max_iterations:
            self._limit = qp.max_iterations
            settings.max_iter = max(qp.max_iterations, 0)

    def _update(self) -> None:
        """Passes all vectors, and all matrices or none."""
        with_matrices = self.changed or self._updates >= _REFRESH
        p, a, g = self.matrices if with_matrices else (None, None, None)
        c, b, h_l, h_u, x_l, x_u = self.vectors
        self._piqp.update(p, c, a, b, g, h_l, h_u, x_l, x_u)
        self._updates = 0 if with_matrices else self._updates + 1

    def _verdict(self, status: Any, result: Any, qp: ExternalQP) -> QPStatus:
        finite = bool(np.isfinite(result.x).all() and np.isfinite(result.y).all())
        if status == piqp.PIQP_SOLVED and finite:
            return QPStatus.SOLVED
        if status == piqp.PIQP_MAX_ITER_REACHED and finite:
            residual = result.info.primal_res
            large = residual > max(_INFEASIBLE_RESIDUAL, qp.tolerance)
            if large and result.info.iter >= _INFEASIBLE_ITERATIONS:
                return self.infeasible
            return QPStatus.MAX_ITERATIONS
        if status == piqp.PIQP_PRIMAL_INFEASIBLE:
            return self.infeasible
        if status == piqp.PIQP_DUAL_INFEASIBLE:
            return QPStatus.UNBOUNDED
        return QPStatus.NUMERICS


class _HardProblem(_Problem):
    """The problem as it is."""

    def __init__(self, data: QPData, method: str, settings: Mapping[str, Any]) -> None:
        super().__init__(data, method, settings)
        self._h_l, self._h_u = np.empty_like(data.h_l), np.empty_like(data.h_u)
        own = scipy.sparse.csc_matrix(data.inequality, copy=True)
        self._inequality = own
        matrices: list[Any] = [data.hessian, data.equality, own]
        self._dense: list[tuple[np.ndarray, np.ndarray, Any]] = []
        if self._is_dense:
            self._dense = [(np.zeros(m.shape), _places(m), m) for m in matrices]
            matrices = [dense for dense, _, _ in self._dense]
        rows, sides = len(data.b) > 0, len(data.h_l) > 0
        self.matrices = (
            matrices[0],
            matrices[1] if rows else None,
            matrices[2] if sides else None,
        )
        self.vectors = (
            data.c,
            data.b if rows else None,
            self._h_l if sides else None,
            self._h_u if sides else None,
            data.x_l,
            data.x_u,
        )

    def take_vectors(self, qp: ExternalQP) -> None:
        del qp
        self.sides(self._h_l, self._h_u)

    def take_matrices(self) -> None:
        np.copyto(self._inequality.data, self.inequality_values())
        for dense, places, matrix in self._dense:
            dense.reshape(-1)[places] = matrix.data

    def give(self, result: Any) -> None:
        data = self.data
        data.d[:] = result.x
        data.y[:] = result.y
        data.z[:] = self.row_multipliers(result)
        data.w[:] = result.z_bu - result.z_bl


def _places(matrix: Any) -> np.ndarray:
    """Where the entries of a sparse matrix are in the dense one, row by row."""
    columns = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    return matrix.indices.astype(np.int64) * matrix.shape[1] + columns


class _ElasticProblem(_Problem):
    """The problem with rows that may be violated at a price.

    Variables are ``(d, up, down)`` with slack variables of all rows of A, then of G:

        min d'P d / 2 + c'd + penalty * sum(up + down)
        A d + up - down = b,  h_l <= G d + up - down <= h_u,  x_l <= d <= x_u,  up, down >= 0
    """

    infeasible = QPStatus.NUMERICS

    def __init__(self, data: QPData, settings: Mapping[str, Any]) -> None:
        super().__init__(data, "sparse_ldlt", settings)
        n, m_eq, m_ineq = len(data.c), len(data.b), len(data.h_l)
        rows = m_eq + m_ineq
        identity: Any = scipy.sparse.eye_array(rows, format="csr")
        self._p = _extended(data.hessian, scipy.sparse.csc_matrix((n, 2 * rows)), n + 2 * rows)
        self._a = _extended(data.equality, _slacks(identity[:m_eq]), m_eq)
        self._g = _extended(data.inequality, _slacks(identity[m_eq:]), m_ineq)
        self._c = np.zeros(n + 2 * rows)
        self._h_l, self._h_u = np.empty(m_ineq), np.empty(m_ineq)
        self._x_l = np.concatenate([data.x_l, np.zeros(2 * rows)])
        self._x_u = np.concatenate([data.x_u, np.full(2 * rows, math.inf)])
        self.matrices = (self._p, self._a if m_eq else None, self._g if m_ineq else None)
        self.vectors = (
            self._c,
            data.b if m_eq else None,
            self._h_l if m_ineq else None,
            self._h_u if m_ineq else None,
            self._x_l,
            self._x_u,
        )

    def take_vectors(self, qp: ExternalQP) -> None:
        data, n = self.data, len(self.data.c)
        self.sides(self._h_l, self._h_u)
        self._c[:n] = data.c
        self._c[n:] = qp.penalty
        self._x_l[:n] = data.x_l
        self._x_u[:n] = data.x_u

    def take_matrices(self) -> None:
        data = self.data
        self._p.data[: data.hessian.nnz] = data.hessian.data
        self._a.data[: data.equality.nnz] = data.equality.data
        self._g.data[: data.inequality.nnz] = self.inequality_values()

    def give(self, result: Any) -> None:
        data, n = self.data, len(self.data.c)
        data.d[:] = result.x[:n]
        data.y[:] = result.y
        data.z[:] = self.row_multipliers(result)
        data.w[:] = (result.z_bu - result.z_bl)[:n]


def _slacks(part: Any) -> scipy.sparse.csc_matrix:
    return scipy.sparse.csc_matrix(scipy.sparse.hstack([part, -part]))


def _extended(matrix: Any, right: Any, rows: int) -> scipy.sparse.csc_matrix:
    """``[matrix right]`` with zeros below, explicit zeros kept, as a copy."""
    values = np.concatenate([matrix.data, right.data])
    indices = np.concatenate([matrix.indices, right.indices]).astype(np.int32)
    ends = np.concatenate([matrix.indptr, matrix.indptr[-1] + right.indptr[1:]]).astype(np.int32)
    return scipy.sparse.csc_matrix((values, indices, ends), (rows, len(ends) - 1))
