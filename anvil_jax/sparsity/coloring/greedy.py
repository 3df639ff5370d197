"""Partial distance-2 colouring: columns of one colour share no row.

A set of colours is one Python integer, so that the colours forbidden for a column are the
bitwise or of its rows' sets and a colouring visits every non-zero twice, instead of every pair of
non-zeros in a row.
"""

from collections.abc import Sequence

import numpy as np

from anvil_jax.sparsity.coloring.effort import Effort, patience
from anvil_jax.sparsity.coloring.incidence import Incidence
from anvil_jax.sparsity.coloring.ordering import by_class, class_rank


def first_fit(
    incidence: Incidence, order: Sequence[int], limit: int | None = None
) -> np.ndarray | None:
    """Give every column the first colour none of its rows has, in the given order.

    Algorithm 3.2 of Gebremedhin, Manne, Pothen, SIAM Review 47 (2005).

    Args:
        incidence: columns and rows.
        order: all columns.
        limit: stop when more colours than this are needed.

    Returns:
        (n_columns,) colours, -1 for empty columns; None if `limit` was not enough.
    """
    used = [0] * incidence.n_rows
    colors = [-1] * incidence.n_columns
    begins, all_rows = incidence.as_lists
    too_large = 1 << (incidence.n_columns if limit is None else limit)
    for column in order:
        rows = all_rows[begins[column] : begins[column + 1]]
        if not rows:
            continue
        taken = 0
        for row in rows:
            taken |= used[row]
        color = ~taken & (taken + 1)
        if color >= too_large:
            return None
        colors[column] = color.bit_length() - 1
        for row in rows:
            used[row] |= color
    return np.array(colors, np.int64)


def iterated_greedy(
    incidence: Incidence, colors: np.ndarray, lower_bound: int, effort: Effort, seed: int
) -> np.ndarray:
    """Colour again class after class; the number of colours never grows (Culberson 1992).

    Args:
        incidence: columns and rows.
        colors: (n_columns,) a valid colouring.
        lower_bound: stop there.
        effort: what may be spent. Without progress the search ends earlier.
        seed: of the random orders.
    """
    rng = np.random.default_rng(seed)
    count = int(colors.max(initial=-1)) + 1
    cost, turn, waited = incidence.greedy_cost, 0, 0
    while count > lower_bound and waited < patience(cost) and effort.afford(cost):
        order = by_class(colors, class_rank(turn, colors, rng), rng)
        again = first_fit(incidence, order)
        assert again is not None
        colors, before = again, count
        count = int(colors.max(initial=-1)) + 1
        waited = 0 if count < before else waited + 1
        turn += 1
    return colors
