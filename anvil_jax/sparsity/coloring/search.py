"""The search for few colours of the columns: several orders, lattices, iterated greedy."""

from collections.abc import Sequence

import numpy as np

from anvil_jax.sparsity.coloring import bounds
from anvil_jax.sparsity.coloring.effort import Effort
from anvil_jax.sparsity.coloring.greedy import first_fit, iterated_greedy
from anvil_jax.sparsity.coloring.incidence import Incidence
from anvil_jax.sparsity.coloring.lattice import (
    Stencil,
    nearly_valid_orders,
    stencils,
    valid_lattice,
)
from anvil_jax.sparsity.coloring.ordering import DYNAMIC_ORDERS, dynamic_order, largest_first


class ColumnSearch:
    """The best colouring of the columns so far.

    Attributes:
        colors: (n_columns,) of the best colouring, -1 for empty columns.
        count: its number of colours.
        order: what found it.
        lower_bound: no colouring has fewer colours.
    """

    def __init__(self, incidence: Incidence) -> None:
        self.incidence = incidence
        self.lower_bound = bounds.one_direction(incidence)
        self.colors = np.where(
            incidence.column_lengths > 0, np.arange(incidence.n_columns), np.int64(-1)
        )
        self.count = incidence.n_columns + 1
        self.order = "natural"

    @property
    def is_done(self) -> bool:
        """Whether fewer colours are impossible."""
        return self.count <= self.lower_bound

    def quick(self) -> None:
        """Two greedy colourings, whatever the effort: natural order and largest first."""
        self._try("natural", range(self.incidence.n_columns))
        if not self.is_done:
            self._try("largest first", largest_first(self._degrees()))

    def refine(self, shapes: Sequence[tuple[int, ...]], effort: Effort, seed: int) -> None:
        """Search on while there is effort; `shapes` are those of the inputs."""
        if self.is_done:
            return
        grids = stencils(self.incidence, shapes, effort)
        self._valid_lattices(grids, effort)
        self._static_orders(effort, seed)
        self._dynamic_orders(effort)
        self._nearly_valid_lattices(grids, effort)
        if not self.is_done:
            again = iterated_greedy(self.incidence, self.colors, self.lower_bound, effort, seed)
            self._offer("iterated greedy", again)

    def _degrees(self) -> np.ndarray:
        """Bound of every column's number of neighbours."""
        incidence = self.incidence
        others = incidence.row_lengths[incidence.indices] - 1
        return np.bincount(incidence.columns, weights=others, minlength=incidence.n_columns)

    def _offer(self, order: str, colors: np.ndarray | None) -> None:
        if colors is None:
            return
        count = int(colors.max(initial=-1)) + 1
        if count < self.count:
            self.colors, self.count, self.order = colors, count, order

    def _try(self, name: str, order: Sequence[int]) -> None:
        self._offer(name, first_fit(self.incidence, order, self.count - 1))

    def _static_orders(self, effort: Effort, seed: int) -> None:
        n = self.incidence.n_columns
        orders = {
            "reverse": range(n - 1, -1, -1),
            "random": np.random.default_rng(seed).permutation(n).tolist(),
        }
        for name, order in orders.items():
            if self.is_done or not effort.afford(self.incidence.greedy_cost):
                return
            self._try(name, order)

    def _dynamic_orders(self, effort: Effort) -> None:
        pairs = self.incidence.intersections
        if self.is_done or not effort.afford(pairs // 2):
            return
        graph = self.incidence.intersection_graph()
        cost = len(graph.indices) + self.incidence.greedy_cost
        for name in DYNAMIC_ORDERS:
            if self.is_done or not effort.afford(cost):
                return
            self._try(name, dynamic_order(graph, name))

    def _valid_lattices(self, grids: Sequence[Stencil], effort: Effort) -> None:
        for grid in grids:
            found = None
            if not self.is_done:
                found = valid_lattice(grid, self.lower_bound, self.count, effort)
            if found is not None:
                used = self.incidence.column_lengths > 0
                self._offer("lattice", np.where(used, found[0], -1))

    def _nearly_valid_lattices(self, grids: Sequence[Stencil], effort: Effort) -> None:
        for grid in grids:
            for order in nearly_valid_orders(grid, self.lower_bound, self.count + 1, effort):
                if self.is_done or not effort.afford(self.incidence.greedy_cost):
                    return
                self._try("repaired lattice", order)
