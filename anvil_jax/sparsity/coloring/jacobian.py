"""`color_jacobian`: the cheapest of colourings of columns, of rows, and of both."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.coloring import bounds
from anvil_jax.sparsity.coloring.effort import DEFAULT_EFFORT, Effort
from anvil_jax.sparsity.coloring.incidence import Incidence, canonical
from anvil_jax.sparsity.coloring.result import Coloring, Kind
from anvil_jax.sparsity.coloring.search import ColumnSearch
from anvil_jax.sparsity.coloring.split import Split, split_rows

type Mode = Literal["auto", "fwd", "rev", "both"]

_MODES = ("auto", "fwd", "rev", "both")


def color_jacobian(
    pattern: Any,
    *,
    mode: Mode = "auto",
    input_shapes: Sequence[tuple[int, ...]] = (),
    reverse_cost: float = 2.0,
    effort: int = DEFAULT_EFFORT,
    seed: int = 0,
) -> Coloring:
    """Choose the passes from which all entries of a sparse matrix can be read directly.

    The same arguments give the same colouring on every machine.

    Args:
        pattern: (m, n) SciPy sparse matrix; only the positions of its stored entries count.
        mode: ``fwd`` colours the columns, ``rev`` the rows, ``auto`` does what is cheapest: one of
            them, or passes of both directions. ``both`` makes the same choice, but the result is
            of kind ``both`` also when one direction is enough. Ties go to forward passes.
        input_shapes: shapes of the arrays whose elements are the columns, in order; for stencils.
        reverse_cost: cost of a reverse pass where a forward pass costs 1.
        effort: work the refinements may do, in visited non-zeros; two greedy colourings of each
            direction are always made. 10**7 takes a few seconds.
        seed: of the random orders.

    Raises:
        SparsityError: the pattern is no sparse matrix, the mode is unknown, or the cost is not
            positive.
    """
    if mode not in _MODES:
        raise SparsityError(f"unknown mode {mode!r} of a Jacobian; use one of {', '.join(_MODES)}")
    if not reverse_cost > 0:
        raise SparsityError(f"the cost of a reverse pass must be positive, not {reverse_cost}")
    incidence = Incidence.of(canonical(pattern))
    stock = Effort(effort)
    if mode in ("fwd", "rev"):
        search = ColumnSearch(incidence if mode == "fwd" else incidence.transposed)
        search.quick()
        search.refine(input_shapes if mode == "fwd" else (), stock, seed)
        return _columns(search) if mode == "fwd" else _rows(search)
    chosen = _cheapest(incidence, input_shapes, reverse_cost, stock, seed)
    if mode == "both" and chosen.kind != "both":
        return _coloring("both", chosen.columns, chosen.rows, incidence, chosen.order)
    return chosen


def _cheapest(
    incidence: Incidence,
    shapes: Sequence[tuple[int, ...]],
    reverse_cost: float,
    effort: Effort,
    seed: int,
) -> Coloring:
    """The cheapest of columns, rows and splits; what cannot win is not searched further."""
    columns, rows = ColumnSearch(incidence), ColumnSearch(incidence.transposed)
    bound = min(columns.lower_bound, reverse_cost * rows.lower_bound)
    split = _cheapest_split(incidence, reverse_cost, bound, effort)
    if split is not None:  # Neither direction alone can be as cheap, and each might be very dear.
        return _coloring("both", split.columns, split.rows, incidence, "split")
    columns.quick()
    cost = float(columns.count)
    if reverse_cost * rows.lower_bound < cost:
        rows.quick()
        cost = min(cost, reverse_cost * rows.count)
    if cost > bound:
        split = _cheapest_split(incidence, reverse_cost, cost, effort)
        cost = split.cost if split is not None else cost
    if columns.lower_bound <= cost:
        columns.refine(shapes, effort, seed)
        cost = min(cost, columns.count)
    if reverse_cost * rows.lower_bound < cost:
        rows.refine((), effort, seed)
        cost = min(cost, reverse_cost * rows.count)
    if columns.count <= cost:
        return _columns(columns)
    if reverse_cost * rows.count <= cost:
        return _rows(rows)
    assert split is not None
    return _coloring("both", split.columns, split.rows, incidence, "split")


def _cheapest_split(
    incidence: Incidence, reverse_cost: float, below: float, effort: Effort
) -> Split | None:
    """Long rows by reverse passes, or long columns by forward passes."""
    if below <= 1 + reverse_cost:
        return None
    best = split_rows(incidence, 1.0, reverse_cost, below, effort)
    below = below if best is None else best.cost
    other = split_rows(incidence.transposed, reverse_cost, 1.0, below, effort)
    return best if other is None else Split(other.rows, other.columns, other.cost)


def _columns(search: ColumnSearch) -> Coloring:
    none = np.full(search.incidence.n_rows, -1, np.int64)
    return _coloring("columns", search.colors, none, search.incidence, search.order)


def _rows(search: ColumnSearch) -> Coloring:
    none = np.full(search.incidence.n_rows, -1, np.int64)
    return _coloring("rows", none, search.colors, search.incidence.transposed, search.order)


def _coloring(
    kind: Kind, columns: np.ndarray, rows: np.ndarray, incidence: Incidence, order: str
) -> Coloring:
    if kind == "both":
        bound = bounds.both_directions(incidence)
    else:
        bound = bounds.one_direction(incidence if kind == "columns" else incidence.transposed)
    n_forward, n_reverse = (int(colors.max(initial=-1)) + 1 for colors in (columns, rows))
    return Coloring(kind, columns, rows, n_forward, n_reverse, bound, order)
