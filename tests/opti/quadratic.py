"""Quadratic programs as records that suppliers take, and how far a result is from optimal."""

import ctypes
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse

from anvil_jax.opti.external_qp import ExternalQP, QPKind, QPStatus

_DOUBLES = ctypes.POINTER(ctypes.c_double)


def full(matrix: Any) -> Any:
    """A matrix all entries of which are stored."""
    rows, columns = np.shape(matrix)
    pattern = np.tile(np.arange(rows), columns), np.arange(columns + 1) * rows
    return scipy.sparse.csc_matrix((np.ravel(matrix, order="F"), *pattern), (rows, columns))


def upper(matrix: Any) -> Any:
    """The stored upper triangle of a matrix."""
    matrix = scipy.sparse.csc_matrix(matrix)
    keep = matrix.indices <= np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    ends = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return scipy.sparse.csc_matrix((matrix.data[keep], matrix.indices[keep], ends), matrix.shape)


@dataclass
class Record:
    """A quadratic program, its arrays, and the record that shows them."""

    p: Any
    c: Any
    a: Any = None
    b: Any = None
    g: Any = None
    h_l: Any = None
    h_u: Any = None
    x_l: Any = None
    x_u: Any = None
    kind: QPKind = QPKind.DENSE
    tolerance: float = 1e-9
    max_iterations: int = 60
    penalty: float = math.inf
    qp: ExternalQP = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.c)
        spelled = full if self.kind is QPKind.DENSE else scipy.sparse.csc_matrix
        self.p = upper(spelled(self.p))
        self.a = spelled(np.zeros((0, n)) if self.a is None else self.a)
        self.g = spelled(np.zeros((0, n)) if self.g is None else self.g)
        for name, size, default in (
            ("c", n, 0.0),
            ("b", self.a.shape[0], 0.0),
            ("h_l", self.g.shape[0], -math.inf),
            ("h_u", self.g.shape[0], math.inf),
            ("x_l", n, -math.inf),
            ("x_u", n, math.inf),
        ):
            given = getattr(self, name)
            array = np.full(size, default)
            array[:] = default if given is None else given
            setattr(self, name, array)
        self.d, self.w = np.full(n, math.nan), np.full(n, math.nan)
        self.y, self.z = np.full(len(self.b), math.nan), np.full(len(self.h_l), math.nan)
        self.qp = ExternalQP(
            n=n,
            m_eq=len(self.b),
            m_ineq=len(self.h_l),
            kind=self.kind,
            penalty=self.penalty,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            changed=7,
        )
        self._patterns = []
        for name in "pag":
            matrix = getattr(self, name)
            self._show(name, matrix.data)
            for part, indices in (("starts", matrix.indptr), ("rows", matrix.indices)):
                self._patterns.append(np.ascontiguousarray(indices, dtype=np.int32))
                pointer = self._patterns[-1].ctypes.data_as(ctypes.POINTER(ctypes.c_int))
                setattr(self.qp, f"{name}_{part}", pointer)
        for name in ("c", "b", "h_l", "h_u", "x_l", "x_u", "d", "y", "z", "w"):
            self._show(name, getattr(self, name))

    def _show(self, name: str, array: np.ndarray) -> None:
        setattr(self.qp, name, array.ctypes.data_as(_DOUBLES))

    def solve(self, solve: Any, changed: int = 7, context: Any = None) -> QPStatus:
        """Calls a supplier's function."""
        self.qp.changed = changed
        return QPStatus(solve(context, ctypes.addressof(self.qp)))

    @property
    def hessian(self) -> np.ndarray:
        """All of P."""
        p = self.p.toarray()
        return p + np.triu(p, 1).T

    def residual(self) -> float:
        """Largest violation of the optimality conditions; of soft rows those of the l1 penalty."""
        a, g = self.a.toarray(), self.g.toarray()
        stationarity = self.hessian @ self.d + self.c + a.T @ self.y + g.T @ self.z + self.w
        rows = [(a @ self.d, self.b, self.b, self.y), (g @ self.d, self.h_l, self.h_u, self.z)]
        found = [float(np.max(np.abs(stationarity)))]
        found += [_distance(*row, self.qp.penalty) for row in rows]
        found.append(_distance(self.d, self.x_l, self.x_u, self.w, math.inf))
        return max(found)

    def objective(self) -> float:
        """Value at the step found, without penalties."""
        return float(self.d @ self.hessian @ self.d / 2 + self.c @ self.d)


def _distance(value: Any, lower: Any, upper: Any, multiplier: Any, penalty: float) -> float:
    """Violation of sides and of signs, and products that have to vanish.

    Beyond a side, which only a finite penalty allows, the multiplier is the penalty.
    """
    up, down = np.maximum(multiplier, 0.0), np.maximum(-multiplier, 0.0)
    above, below = np.maximum(value - upper, 0.0), np.maximum(lower - value, 0.0)
    with np.errstate(invalid="ignore"):  # zero times infinity
        found = [
            np.where(up > 0, up * np.maximum(upper - value, 0.0), 0.0),
            np.where(down > 0, down * np.maximum(value - lower, 0.0), 0.0),
        ]
    if math.isfinite(penalty):
        found += [np.abs(multiplier) - penalty, above * (penalty - up), below * (penalty - down)]
    else:
        found += [above, below]
    return float(np.max([np.max(f, initial=0.0) for f in found]))
