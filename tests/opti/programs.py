"""Random quadratic programs with a known feasible point."""

import math
from typing import Any

import numpy as np
import scipy.sparse

from anvil_jax.opti.external_qp import QPKind
from tests.opti.quadratic import Record


def random_program(seed: int, kind: QPKind, **options: Any) -> Record:
    """A program of the kind; Hessians are singular for every third seed."""
    make = {
        QPKind.DENSE: _dense,
        QPKind.SPARSE: _sparse,
        QPKind.MULTISTAGE: _multistage,
    }[kind]
    return make(np.random.default_rng(seed), seed, **options)


def _hessian(rng: np.random.Generator, size: int, rank: int) -> np.ndarray:
    factor = rng.normal(size=(size, rank))
    return factor @ factor.T


def _sides(rng: np.random.Generator, values: Any, width: float = 1.0) -> tuple[Any, Any]:
    """Sides around values: some equal, some infinite, all or only one of the two."""
    lower = values - width * rng.uniform(size=np.shape(values))
    upper = values + width * rng.uniform(size=np.shape(values))
    case = rng.integers(6, size=np.shape(values))
    lower[np.isin(case, (0, 1))] = -math.inf
    upper[np.isin(case, (0, 2))] = math.inf
    lower[case == 3] = upper[case == 3] = values[case == 3]
    return lower, upper


def _dense(rng: np.random.Generator, seed: int, **options: Any) -> Record:
    n = int(rng.integers(2, 12))
    m_eq, m_ineq = int(rng.integers(n // 2 + 1)), int(rng.integers(10))
    x, a, g = rng.normal(size=n), rng.normal(size=(m_eq, n)), rng.normal(size=(m_ineq, n))
    h_l, h_u = _sides(rng, g @ x)
    singular = seed % 3 == 0
    p = _hessian(rng, n, n // 2 if singular else n)
    x_l, x_u = (x - 2, x + 1) if singular else _sides(rng, x)
    return Record(p, rng.normal(size=n), a, a @ x, g, h_l, h_u, x_l, x_u, **options)


def _sparse(rng: np.random.Generator, seed: int, **options: Any) -> Record:
    n, m_eq, m_ineq = 40, 12, 20
    x = rng.normal(size=n)
    a = scipy.sparse.random_array((m_eq, n), density=0.15, rng=rng, format="csc")
    a += scipy.sparse.eye_array(m_eq, n)
    g = scipy.sparse.random_array((m_ineq, n), density=0.1, rng=rng, format="csc")
    half = scipy.sparse.random_array((n, n), density=0.05, rng=rng)
    p = half @ half.T + (1e-3 if seed % 3 else 0.0) * scipy.sparse.eye_array(n)
    p = scipy.sparse.csc_matrix(p + 0.0 * scipy.sparse.eye_array(n))
    p = _with_diagonal(p)
    h_l, h_u = _sides(rng, g @ x)
    c = rng.normal(size=n)
    kind = QPKind.SPARSE
    return Record(p, c, a, a @ x, g, h_l, h_u, x - 2, x + 1, kind=kind, **options)


def _with_diagonal(p: Any) -> Any:
    """The same matrix with all diagonal entries stored."""
    p = scipy.sparse.csc_matrix(p)
    marked = p.astype(bool).astype(float) + scipy.sparse.eye_array(p.shape[0])
    marked = scipy.sparse.csc_matrix(marked)
    marked.sort_indices()
    marked.data[:] = p.toarray()[
        marked.indices, np.repeat(np.arange(p.shape[1]), np.diff(marked.indptr))
    ]
    return marked


def _multistage(
    rng: np.random.Generator, seed: int, *, intervals: int = 8, **options: Any
) -> Record:
    """Linear dynamics from a given state, a bounded input, one row per stage."""
    nx, nu = 3, 1
    nz, stages = nx + nu, intervals + 1
    n = nz * stages
    x = rng.normal(size=n)
    dynamics = 0.9 * np.linalg.qr(rng.normal(size=(nx, nx)))[0]
    inputs = rng.normal(size=(nx, nu))
    for k in range(intervals):
        z = x[k * nz : (k + 1) * nz]
        x[(k + 1) * nz : (k + 1) * nz + nx] = dynamics @ z[:nx] + inputs @ z[nx:]
    blocks: list[list[Any]] = [[None] * stages for _ in range(stages)]
    for k in range(intervals):
        blocks[k + 1][k] = scipy.sparse.csc_matrix(-np.hstack([dynamics, inputs]))
        blocks[k + 1][k + 1] = scipy.sparse.csc_matrix(np.eye(nx, nz))
    blocks[0][0] = scipy.sparse.csc_matrix(np.eye(nx, nz))
    a = scipy.sparse.block_array(blocks, format="csc")
    g = _block_diagonal([rng.normal(size=(1, nz)) for _ in range(stages)])
    weights = [_hessian(rng, nz, nz - 1 if seed % 3 == 0 else nz) for _ in range(stages)]
    p = _block_diagonal(weights)
    h_l, h_u = _sides(rng, g @ x)
    kind = QPKind.MULTISTAGE
    c = rng.normal(size=n)
    return Record(p, c, a, a @ x, g, h_l, h_u, x - 2, x + 2, kind=kind, **options)


def _block_diagonal(blocks: list[np.ndarray]) -> Any:
    return scipy.sparse.block_diag([scipy.sparse.coo_array(b) for b in blocks], format="csc")
