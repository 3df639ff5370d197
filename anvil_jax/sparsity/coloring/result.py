"""`Coloring`: which columns and rows share a pass."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

type Kind = Literal["columns", "rows", "both", "star", "acyclic"]


@dataclass(frozen=True, slots=True, eq=False)
class Coloring:
    """A partition of columns and rows into passes.

    A forward pass multiplies the matrix by the sum of the unit vectors of one column colour, a
    reverse pass multiplies the sum of the unit vectors of one row colour by the matrix.

    Attributes:
        kind: ``columns`` (forward passes only), ``rows`` (reverse passes only) and ``both`` are
            for a Jacobian; ``star`` and ``acyclic`` for a symmetric matrix. Every entry can be
            read from one product directly, except with ``acyclic``, where it can be found by
            substitution.
        columns: (n,) colour of every column, -1 for a column no forward pass needs.
        rows: (m,) colour of every row, -1 for a row no reverse pass needs.
        n_forward: number of column colours; they are numbered from zero without gaps.
        n_reverse: number of row colours.
        lower_bound: proved: no colouring of this kind has fewer passes. It is the largest number
            of entries in a row (``columns``) or column (``rows``), and for the other kinds what
            `bounds` says.
        order: name of the order or method that found the colouring.
    """

    kind: Kind
    columns: np.ndarray
    rows: np.ndarray
    n_forward: int
    n_reverse: int
    lower_bound: int
    order: str

    @property
    def passes(self) -> int:
        """Number of passes of both directions."""
        return self.n_forward + self.n_reverse
