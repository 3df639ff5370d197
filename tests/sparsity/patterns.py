"""Sparsity patterns of well-known problems, built without the code under test.

Patterns are `scipy.sparse.csc_array` of ones. `stage_block` takes the structure of an integration
step from JAX: what is different from zero at random points.
"""

import functools
import itertools
import runpy
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def pattern(matrix) -> sp.csc_array:
    """Ones where a matrix has entries; dense or sparse."""
    found = sp.csc_array(matrix)
    found.sum_duplicates()
    found.sort_indices()
    found.data = np.ones(found.nnz)
    return found


def of_entries(rows, columns, shape) -> sp.csc_array:
    """Ones at the given entries; duplicates count once."""
    return pattern(sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape))


def banded(n: int, below: int, above: int) -> sp.csc_array:
    """Square, with `below` and `above` off-diagonals."""
    rows = np.repeat(np.arange(n), below + above + 1)
    columns = rows + np.tile(np.arange(-below, above + 1), n)
    inside = (columns >= 0) & (columns < n)
    return of_entries(rows[inside], columns[inside], (n, n))


def cyclic_banded(n: int, below: int, above: int) -> sp.csc_array:
    """Banded, with indices modulo n."""
    rows = np.repeat(np.arange(n), below + above + 1)
    return of_entries(rows, (rows + np.tile(np.arange(-below, above + 1), n)) % n, (n, n))


def arrow_head(n: int) -> sp.csc_array:
    """Diagonal, first row and first column."""
    k, zero = np.arange(n), np.zeros(n, int)
    return of_entries(np.concatenate([k, k, zero]), np.concatenate([k, zero, k]), (n, n))


def stencil(shape: tuple[int, ...], offsets, periodic: bool = False) -> sp.csc_array:
    """A grid function whose value at x depends on the points ``x + offset``."""
    size = int(np.prod(shape))
    points = np.stack(np.unravel_index(np.arange(size), shape), axis=1)
    rows, columns = [], []
    for offset in offsets:
        others = points + np.array(offset)
        if periodic:
            others %= shape
        inside = np.all((others >= 0) & (others < shape), axis=1)
        rows.append(np.flatnonzero(inside))
        columns.append(np.ravel_multi_index(tuple(others[inside].T), shape))
    return of_entries(np.concatenate(rows), np.concatenate(columns), (size, size))


def cross(dimensions: int) -> list[tuple[int, ...]]:
    """The point itself and its nearest neighbours along the axes."""
    steps = np.eye(dimensions, dtype=int)
    return [(0,) * dimensions, *map(tuple, steps), *map(tuple, -steps)]


def cube(dimensions: int) -> list[tuple[int, ...]]:
    """The point itself and all neighbours."""
    return list(itertools.product((-1, 0, 1), repeat=dimensions))


def heat(*shape: int) -> sp.csc_array:
    """Finite differences of the Laplace operator."""
    return stencil(shape, cross(len(shape)))


def brusselator(n: int) -> sp.csc_array:
    """Two reacting and diffusing species on a periodic n x n grid, state (2, n, n)."""
    diffusion, reaction = stencil((n, n), cross(2), periodic=True), sp.eye_array(n * n)
    return pattern(sp.block_array([[diffusion, reaction], [reaction, diffusion]]))


@functools.cache
def stage_block() -> tuple[np.ndarray, np.ndarray]:
    """Structure (13, 13) and (13, 4) of the derivative of examples/quadrotor.py's step."""
    step = runpy.run_path(str(EXAMPLES / "quadrotor.py"))["step"]
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        jacobian = jax.jit(jax.jacfwd(step, (0, 1)))
        x, u = np.zeros((13, 13), bool), np.zeros((13, 4), bool)
        for _ in range(3):
            dx, du = jacobian(random.normal(size=13), random.normal(size=4))
            x |= np.asarray(dx) != 0
            u |= np.asarray(du) != 0
    return x, u


def quadrotor_shooting(stages: int) -> sp.csc_array:
    """Multiple shooting, z = (x0, u0, ..., xN): x0 is fixed, x_{k+1} = F(x_k, u_k)."""
    dx, du = stage_block()
    blocks: list[list[Any]] = [[sp.eye_array(13)] + [None] * (2 * stages)]
    for k in range(stages):
        row: list[Any] = [None] * (2 * stages + 1)
        row[2 * k : 2 * k + 3] = [sp.coo_array(dx), sp.coo_array(du), sp.eye_array(13)]
        blocks.append(row)
    return pattern(sp.block_array(blocks))


def random(m: int, n: int, per_row: float, seed: int = 0) -> sp.csc_array:
    """About `per_row` entries in every row."""
    rng = np.random.default_rng(seed)
    count = round(m * per_row)
    if m * n == 0:
        return sp.csc_array((m, n))
    return of_entries(rng.integers(0, m, count), rng.integers(0, n, count), (m, n))


def random_rows(n: int, per_row: int, seed: int = 0) -> sp.csc_array:
    """n x n with exactly `per_row` entries in every row, n a prime."""
    rng = np.random.default_rng(seed)
    first, step = rng.integers(0, n, (n, 1)), rng.integers(1, n, (n, 1))
    columns = (first + np.arange(per_row) * step) % n
    return of_entries(np.repeat(np.arange(n), per_row), columns.ravel(), (n, n))


def random_graph(n: int, degree: float, seed: int = 0, diagonal: float = 1.0) -> sp.csc_array:
    """Symmetric, about `degree` neighbours, each diagonal entry with the given probability."""
    rng = np.random.default_rng(seed)
    half = random(n, n, degree / 2, seed)
    rows, columns = half.tocoo().coords
    apart = rows != columns
    rows, columns = rows[apart], columns[apart]
    kept = np.flatnonzero(rng.random(n) < diagonal)
    return of_entries(
        np.concatenate([rows, columns, kept]), np.concatenate([columns, rows, kept]), (n, n)
    )


def star_graph(n: int) -> sp.csc_array:
    """Symmetric: one vertex is the neighbour of all others; full diagonal."""
    return arrow_head(n)


def elements(shape: tuple[int, int]) -> sp.csc_array:
    """Hessian of a sum over the cells of a grid of functions of their corners (minimal surface)."""
    return stencil(shape, cube(2))


def mesh(side: int, dimensions: int, seed: int = 0) -> sp.csc_array:
    """A grid with all neighbours, its points numbered at random."""
    matrix = stencil((side,) * dimensions, cube(dimensions))
    order = np.random.default_rng(seed).permutation(side**dimensions)
    return pattern(matrix[order][:, order])
