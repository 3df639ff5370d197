"""Colourings of stencils: the colour of a grid point x is ``(a . x) mod k``.

Two columns that share a row differ by an offset, and a stencil has few different offsets. The
colouring is valid exactly when ``a . offset`` is no multiple of k for any of them, which is
tested for thousands of vectors a at once; the 5-point stencil needs 5 colours this way, the
7-point one 7, where greedy orders end at 7 and 12. (Perfect codes of grids; for stencils see
Goldfarb and Toint, "Optimal estimation of Jacobian and Hessian matrices that arise in finite
difference calculations", Mathematics of Computation 43 (1984).)

On a periodic grid few offsets wrap around; the columns ordered by the colours of the lattice with
the fewest conflicts are then coloured greedily.

Flat inputs are tried as one-dimensional grids and as the grids whose strides are among the offsets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from anvil_jax.sparsity.coloring.effort import Effort
from anvil_jax.sparsity.coloring.incidence import Incidence

_MAX_OFFSETS = 1000
_MAX_STRIDES = 4
_MAX_PRODUCTS = 1_000_000
_PAIRS_PER_UNIT = 8
_PRODUCTS_PER_UNIT = 40


@dataclass(frozen=True)
class Stencil:
    """A grid and the offsets between its points that share a row.

    Attributes:
        points: (n, d) coordinates of every column.
        offsets: (q, d) different offsets.
        counts: (q,) number of pairs that have the offset.
    """

    points: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray


def stencils(
    incidence: Incidence, shapes: Sequence[tuple[int, ...]], effort: Effort
) -> list[Stencil]:
    """The columns as points of grids, for every reading of the shapes that has few offsets.

    Args:
        incidence: columns and rows.
        shapes: of the inputs whose elements are the columns; another total size means unknown.
        effort: what may be spent.
    """
    n = incidence.n_columns
    if sum(int(np.prod(shape)) for shape in shapes) != n:
        shapes = [(n,)]
    pairs = incidence.intersections // 2
    found = []
    for points in _readings(incidence, shapes):
        if not effort.afford(pairs // _PAIRS_PER_UNIT):
            break
        stencil = _stencil(incidence, points)
        if stencil is not None:
            found.append(stencil)
    return found


def valid_lattice(
    stencil: Stencil, low: int, high: int, effort: Effort
) -> tuple[np.ndarray, int] | None:
    """The lattice colouring with fewest colours k, ``low <= k < high``: colours (n,) and k."""
    for k in range(max(low, 1), high):
        if not effort.afford(_lattice_cost(stencil, k)):
            return None
        for vectors, conflicts in _conflicts(stencil, k):
            valid = np.flatnonzero(conflicts == 0)
            if len(valid):
                return (stencil.points @ vectors[valid[0]]) % k, k
    return None


def nearly_valid_orders(
    stencil: Stencil, low: int, high: int, effort: Effort, per_k: int = 3
) -> Iterator[list[int]]:
    """Columns sorted by the colours of the lattices with the fewest conflicts, low <= k < high."""
    for k in range(max(low, 2), high):
        if not effort.afford(_lattice_cost(stencil, k)):
            return
        found = list(_conflicts(stencil, k))
        vectors = np.concatenate([vectors for vectors, _ in found])
        conflicts = np.concatenate([conflicts for _, conflicts in found])
        for best in np.argsort(conflicts, kind="stable")[:per_k]:
            colors = (stencil.points @ vectors[best]) % k
            yield np.argsort(colors, kind="stable").tolist()


def _readings(incidence: Incidence, shapes: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Coordinates (n, d) of the columns: as the shapes say, then with strides found in the pattern.

    Several inputs are told apart by a leading coordinate.
    """
    yield _points(shapes)
    if len(shapes) > 1 or len(shapes[0]) > 1:
        return
    n = incidence.n_columns
    flat = _stencil(incidence, _points([(n,)]))
    if flat is None:
        return
    strides = [int(s) for s in np.abs(flat.offsets[:, 0]) if s > 1 and n % s == 0 and s < n]
    strides = sorted(set(strides))[-_MAX_STRIDES:]
    for outer in strides:
        yield _points([(n // outer, outer)])
    for inner, outer in ((a, b) for b in strides for a in strides if a < b and b % a == 0):
        yield _points([(n // outer, outer // inner, inner)])


def _points(shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    axes = max((len(shape) for shape in shapes), default=0)
    grids = []
    for number, shape in enumerate(shapes):
        grid = np.zeros((int(np.prod(shape)), axes + 1), np.int64)
        grid[:, 0] = number
        for axis, index in enumerate(np.indices(shape).reshape(len(shape), len(grid))):
            grid[:, 1 + axis] = index
        grids.append(grid)
    points = np.concatenate(grids)
    varies = points.max(axis=0, initial=0) > 0
    return points[:, varies] if varies.any() else points[:, :1]


def _stencil(incidence: Incidence, points: np.ndarray) -> Stencil | None:
    """The offsets of all pairs of columns that share a row; None if they are too many."""
    spans = points.max(axis=0, initial=0) + 1
    digits = tuple(2 * int(span) - 1 for span in spans)
    strides = np.cumprod([1, *digits[:0:-1]])[::-1]
    keys = (points @ strides)[incidence.transposed.indices]
    lengths = incidence.row_lengths
    begins = np.cumsum(lengths) - lengths
    after = np.repeat(begins + lengths, lengths) - np.arange(len(keys)) - 1
    found, counted = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    live = np.arange(len(keys))
    for shift in range(1, int(lengths.max(initial=0))):
        live = live[after[live] >= shift]
        differences, counts = np.unique(keys[live + shift] - keys[live], return_counts=True)
        found.append(differences)
        counted.append(counts)
        if len(differences) > _MAX_OFFSETS or len(found) > _MAX_OFFSETS:
            return None
    different, inverse = np.unique(np.concatenate(found), return_inverse=True)
    if len(different) > _MAX_OFFSETS:
        return None
    counts = np.bincount(inverse, weights=np.concatenate(counted), minlength=len(different))
    shifted = different + int(np.sum((spans - 1) * strides))
    offsets = np.stack(np.unravel_index(shifted, digits), axis=1) - (spans - 1)
    return Stencil(points, offsets, counts)


def _number_of_vectors(stencil: Stencil, k: int) -> int:
    return min(k ** stencil.points.shape[1], _MAX_PRODUCTS // max(len(stencil.offsets), 1))


def _lattice_cost(stencil: Stencil, k: int) -> int:
    return _number_of_vectors(stencil, k) * len(stencil.offsets) // _PRODUCTS_PER_UNIT + 50


def _conflicts(stencil: Stencil, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of vectors a (all modulo k, or a random choice) and their numbers of conflicts."""
    axes = stencil.points.shape[1]
    number = _number_of_vectors(stencil, k)
    if number == k**axes:
        vectors = np.stack(np.unravel_index(np.arange(number), (k,) * axes), axis=1)
    else:
        vectors = np.random.default_rng(k).integers(0, k, (number, axes))
    step = max(1, 200_000 // max(len(stencil.offsets), 1))
    for begin, end in pairwise([*range(0, number, step), number]):
        part = vectors[begin:end]
        yield part, (((part @ stencil.offsets.T) % k) == 0) @ stencil.counts
