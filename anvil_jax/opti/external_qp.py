"""The C interface through which a generated solver has its quadratic programs solved elsewhere.

A quadratic program is one `ExternalQP` record that stays at the same address with all its arrays;
whoever solves it is one function pointer, `SOLVE_FUNCTION`. The C++ side of the same record is
templates/runtime/external_qp.hpp. `QPData` shows a record as NumPy arrays.
"""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import scipy.sparse


class QPKind(IntEnum):
    """What the patterns of a quadratic program look like."""

    DENSE = 0
    """All columns are full, those of P down to the diagonal."""
    SPARSE = 1
    MULTISTAGE = 2
    """Block-tridiagonal: stages that are coupled with their neighbours only."""


class QPStatus(IntEnum):
    """How a quadratic program ended."""

    SOLVED = 0
    MAX_ITERATIONS = 1
    INFEASIBLE = 2
    NUMERICS = 3
    UNBOUNDED = 4


HESSIAN_CHANGED, EQUALITIES_CHANGED, INEQUALITIES_CHANGED = 1, 2, 4
"""Bits of `ExternalQP.changed`."""

_INTS = ctypes.POINTER(ctypes.c_int)
_DOUBLES = ctypes.POINTER(ctypes.c_double)


class ExternalQP(ctypes.Structure):
    """``min d'P d / 2 + c'd`` with ``A d = b``, ``h_l <= G d <= h_u``, ``x_l <= d <= x_u``.

    Matrices are in compressed sparse columns with ascending rows; of P the upper triangle with all
    diagonal entries. An infinite side is plus or minus infinity. Multipliers are signed, positive
    at the upper side.

    Attributes:
        n, m_eq, m_ineq: columns, rows of A, rows of G.
        kind: a `QPKind`.
        penalty: infinite, or the weight of the l1 norm of what rows of A and G are violated by;
            bounds of variables hold in any case.
        tolerance: absolute, of residuals and of the duality gap.
        max_iterations: of the interior point method.
        changed: which matrices differ from those of the previous call; vectors always may.
        d, y, z, w: results: the step, multipliers of A, G and the bounds.
        iterations: a result.
    """

    _fields_ = (
        ("n", ctypes.c_int),
        ("m_eq", ctypes.c_int),
        ("m_ineq", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("p_starts", _INTS),
        ("p_rows", _INTS),
        ("a_starts", _INTS),
        ("a_rows", _INTS),
        ("g_starts", _INTS),
        ("g_rows", _INTS),
        ("p", _DOUBLES),
        ("c", _DOUBLES),
        ("a", _DOUBLES),
        ("b", _DOUBLES),
        ("g", _DOUBLES),
        ("h_l", _DOUBLES),
        ("h_u", _DOUBLES),
        ("x_l", _DOUBLES),
        ("x_u", _DOUBLES),
        ("penalty", ctypes.c_double),
        ("tolerance", ctypes.c_double),
        ("max_iterations", ctypes.c_int),
        ("changed", ctypes.c_int),
        ("d", _DOUBLES),
        ("y", _DOUBLES),
        ("z", _DOUBLES),
        ("w", _DOUBLES),
        ("iterations", ctypes.c_int),
    )


SOLVE_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
"""``int solve(void* context, anvil_qp* qp)``; returns a `QPStatus`."""


def layout_of(address: int) -> bytes:
    """All sizes and addresses in the record at `address`; equal bytes mean the same arrays."""
    inputs = ctypes.string_at(address, ExternalQP.penalty.offset)
    results = ExternalQP.d.offset
    return inputs + ctypes.string_at(address + results, ExternalQP.iterations.offset - results)


@dataclass(frozen=True, slots=True)
class QPData:
    """A record's arrays, without copies; the patterns are copies.

    Attributes:
        kind: what the patterns look like.
        hessian, equality, inequality: P (upper triangle), A and G, float64 with int32 indices;
            their ``data`` is the record's own memory.
        c, b, h_l, h_u, x_l, x_u: the record's vectors.
        d, y, z, w: the record's results.
    """

    kind: QPKind
    hessian: scipy.sparse.csc_matrix
    equality: scipy.sparse.csc_matrix
    inequality: scipy.sparse.csc_matrix
    c: np.ndarray
    b: np.ndarray
    h_l: np.ndarray
    h_u: np.ndarray
    x_l: np.ndarray
    x_u: np.ndarray
    d: np.ndarray
    y: np.ndarray
    z: np.ndarray
    w: np.ndarray

    @classmethod
    def of(cls, qp: ExternalQP) -> "QPData":
        """The arrays of a record, which has to outlive them."""
        n, m_eq, m_ineq = qp.n, qp.m_eq, qp.m_ineq
        vectors = {
            name: _view(getattr(qp, name), size)
            for size, names in ((n, "c x_l x_u d w"), (m_eq, "b y"), (m_ineq, "h_l h_u z"))
            for name in names.split()
        }
        return cls(
            kind=QPKind(qp.kind),
            hessian=_matrix(n, n, qp.p_starts, qp.p_rows, qp.p),
            equality=_matrix(m_eq, n, qp.a_starts, qp.a_rows, qp.a),
            inequality=_matrix(m_ineq, n, qp.g_starts, qp.g_rows, qp.g),
            **vectors,
        )


def _view(pointer: Any, size: int) -> np.ndarray:
    """`size` numbers in memory that is not ours; there need be none for size 0."""
    return np.ctypeslib.as_array(pointer, (size,)) if size else np.empty(0)


def _matrix(rows: int, columns: int, starts: Any, indices: Any, values: Any) -> Any:
    if rows == 0:
        return scipy.sparse.csc_matrix((rows, columns))
    ends = _view(starts, columns + 1).astype(np.int32)
    pattern = _view(indices, int(ends[-1])).astype(np.int32)
    matrix = scipy.sparse.csc_matrix((np.zeros(len(pattern)), pattern, ends), (rows, columns))
    matrix.data = _view(values, len(pattern))
    return matrix
