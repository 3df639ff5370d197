"""Both directions at once: the longest rows by reverse passes, the other rows by forward passes.

One long row makes all columns neighbours. Without it the rest is often cheap: an arrow head needs
three passes instead of n. The rows that are taken out are those longer than some length; every
length that can still pay is tried. (Coleman and Verma, "The efficient computation of sparse
Jacobian matrices using automatic differentiation", SIAM J. Sci. Comput. 19 (1998), is the general
problem.)
"""

import math
from dataclasses import dataclass

import numpy as np

from anvil_jax.sparsity.coloring.effort import Effort
from anvil_jax.sparsity.coloring.greedy import first_fit
from anvil_jax.sparsity.coloring.incidence import Incidence
from anvil_jax.sparsity.coloring.ordering import largest_first

_MAX_CUTS = 24


@dataclass(frozen=True)
class Split:
    """Colours of the columns and rows, -1 where no pass is needed, and the cost of the passes."""

    columns: np.ndarray
    rows: np.ndarray
    cost: float


def split_rows(
    incidence: Incidence, column_cost: float, row_cost: float, below: float, effort: Effort
) -> Split | None:
    """Take the longest rows out of a colouring of the columns.

    Args:
        incidence: columns and rows.
        column_cost: cost of a colour of columns.
        row_cost: cost of a colour of rows.
        below: only a colouring cheaper than this is of interest.
        effort: what may be spent.

    Returns:
        The cheapest one found that uses both directions, or None.
    """
    lengths = incidence.row_lengths
    present = np.flatnonzero(np.bincount(lengths))
    below_cut = dict(zip(present[1:].tolist(), present.tolist(), strict=False))
    cuts = present[present > 0][:0:-1]
    if len(cuts) > _MAX_CUTS:
        cuts = cuts[np.unique(np.linspace(0, len(cuts) - 1, _MAX_CUTS).astype(int))]
    best = None
    for cut in cuts:
        long = lengths >= cut
        at_least = column_cost * below_cut[int(cut)]
        if at_least + row_cost >= below:
            continue
        out = incidence.of_rows(long)
        if at_least + row_cost * int(out.column_lengths.max()) >= below:
            break
        if not effort.afford(2 * incidence.greedy_cost):
            break
        rest = incidence.of_rows(~long)
        rows = _shorter(out.transposed, incidence.n_rows)
        assert rows is not None
        left = below - row_cost * (int(rows.max()) + 1)
        columns = _shorter(rest, math.ceil(left / column_cost) - 1)
        if columns is not None:
            below = below - left + column_cost * (int(columns.max()) + 1)
            best = Split(columns, rows, below)
    return best


def _shorter(incidence: Incidence, limit: int) -> np.ndarray | None:
    """The better one of two greedy colourings, None if both need more than `limit` colours."""
    if limit < 1:
        return None
    colors = first_fit(incidence, range(incidence.n_columns), limit)
    lengths = incidence.row_lengths
    if colors is not None:
        limit = int(colors.max(initial=-1))
        if limit < lengths.max(initial=0):
            return colors
    degrees = np.bincount(
        incidence.columns, weights=lengths[incidence.indices], minlength=incidence.n_columns
    )
    again = first_fit(incidence, largest_first(degrees), limit)
    return colors if again is None else again
