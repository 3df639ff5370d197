"""How the Hessian of a problem without stages is stored, so that it can be made convex.

Small blocks of connected variables are stored in full and get positive eigenvalues. Where more
variables are connected, the Hessian stays sparse and its diagonal grows as far as a Cholesky
factor needs, which fits into an envelope: all entries of a row from its first one on, in an order
of the variables that keeps these close to the diagonal.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee

from anvil_jax.emit.views import TableView
from anvil_jax.errors import SolverError
from anvil_jax.opti.derivatives import Entries
from anvil_jax.opti.tables import named

LARGEST_BLOCK = 16
"""Variables of a connected block whose eigenvalues are cheap (measured: beyond, the factor of an
envelope makes solves two and more times as fast, in as many iterations)."""

LARGEST_QUASI_NEWTON_BLOCK = 200
"""Variables of a connected block that damped updates fill."""

LARGEST_ENVELOPE = 4_000_000
"""Entries of an envelope, which workspaces have room for: 32 MB."""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """The member of a C++ model that convexification works with.

    Attributes:
        type: in the namespace anvil_rt.
        name: of the member.
        bound, size: a constant of the model.
        count: the member's first field; its tables follow.
        tables: these.
    """

    type: str
    name: str
    bound: str
    size: int
    count: int
    tables: tuple[TableView, ...]


class Blocks:
    """Blocks that are stored in full.

    Attributes:
        entries: places of the upper triangle's entries.
        blocks: their variables, ascending.
        convexification: C++ template.
        runtime: headers that define it.
    """

    def __init__(self, blocks: list[NDArray[np.int64]], dense: bool) -> None:
        """All entries of these blocks."""
        rows = [block[: j + 1] for block in blocks for j in range(len(block))]
        columns = [np.full(j + 1, block[j]) for block in blocks for j in range(len(block))]
        self.entries = _sorted(np.concatenate(rows), np.concatenate(columns))
        self.blocks = blocks
        self.convexification = "dense_convexification" if dense else "block_convexification"
        self.runtime = ("sqp_dense.hpp",) if dense else ()

    @property
    def view(self) -> PartitionView:
        """Sizes and variables of the blocks."""
        tables = (
            named("block_starts", np.cumsum([0, *(len(b) for b in self.blocks)])),
            named("block_variables", np.concatenate(self.blocks)),
        )
        largest = max(len(b) for b in self.blocks)
        count = len(self.blocks)
        return PartitionView("block_partition", "blocks", "largest_block", largest, count, tables)


class Envelope:
    """A sparse Hessian, with the order of Cuthill and McKee, reversed, for its factor.

    Attributes:
        entries: places of the upper triangle's entries.
        convexification: C++ template.
        runtime: headers that define it.
    """

    convexification = "envelope_convexification"
    runtime = ("sqp_envelope.hpp",)

    def __init__(self, n: int, given: Entries) -> None:
        """The given entries and the diagonal.

        Raises:
            SolverError: a factor needs too much memory.
        """
        diagonal = np.arange(n)
        off = given.where(given.rows != given.columns)
        self.entries = _sorted(
            np.concatenate([off.rows, diagonal]), np.concatenate([off.columns, diagonal])
        )
        order = reverse_cuthill_mckee(_graph(n, self.entries).tocsr(), symmetric_mode=True)
        self._position = np.argsort(order)
        ends = self._position[self.entries.rows], self._position[self.entries.columns]
        first = diagonal.copy()
        np.minimum.at(first, np.maximum(*ends), np.minimum(*ends))
        self._starts = np.concatenate([[0], np.cumsum(diagonal - first + 1)])
        if self._starts[-1] > LARGEST_ENVELOPE:
            raise SolverError(
                f"the Hessian of {n} variables connects so many of them that a factor would have "
                f"{self._starts[-1]} entries, more than {LARGEST_ENVELOPE}: write the problem with "
                "variables per stage and constraints between them (MultistageProblem), or with "
                "more variables and constraints, each of few variables"
            )

    @property
    def view(self) -> PartitionView:
        """Positions of variables, and where rows of the factor start."""
        tables = (
            named("envelope_position", self._position),
            named("envelope_starts", self._starts),
        )
        size = int(self._starts[-1])
        return PartitionView(
            "envelope_pattern", "envelope", "envelope_entries", size, len(self._position), tables
        )


type Curvature = Blocks | Envelope


def curvature_of(n: int, entries: Entries, dense: bool, quasi_newton: bool) -> Curvature:
    """How to store the Hessian of `n` variables with these entries.

    Raises:
        SolverError: a factor or a quasi-Newton block would be too large.
    """
    if dense:
        return Blocks([np.arange(n)], dense)
    count, label = connected_components(_graph(n, entries), directed=False)
    blocks = [np.flatnonzero(label == b) for b in range(count)]
    largest = max((len(b) for b in blocks), default=0)
    if quasi_newton and largest > LARGEST_QUASI_NEWTON_BLOCK:
        raise SolverError(
            f"{largest} variables are connected by second derivatives; BFGS Hessians hold such "
            f"blocks in full, of up to {LARGEST_QUASI_NEWTON_BLOCK} variables. Use "
            "HessianApproximation.EXACT"
        )
    if quasi_newton or largest <= LARGEST_BLOCK:
        return Blocks(blocks, dense)
    return Envelope(n, entries)


def _graph(n: int, entries: Entries) -> sp.coo_array:
    return sp.coo_array((np.ones(entries.count), (entries.rows, entries.columns)), shape=(n, n))


def _sorted(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Entries:
    order = np.lexsort((rows, columns))
    return Entries(rows[order], columns[order])
