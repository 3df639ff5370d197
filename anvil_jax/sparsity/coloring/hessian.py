"""`color_hessian`: star and acyclic colourings of a symmetric matrix."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.coloring import bounds
from anvil_jax.sparsity.coloring.effort import DEFAULT_EFFORT, Effort, patience
from anvil_jax.sparsity.coloring.incidence import Graph, Incidence, canonical, shape_of
from anvil_jax.sparsity.coloring.lattice import stencils, valid_lattice
from anvil_jax.sparsity.coloring.ordering import (
    DYNAMIC_ORDERS,
    by_class,
    class_rank,
    dynamic_order,
    largest_first,
)
from anvil_jax.sparsity.coloring.reading import find_reading, symmetric_slots
from anvil_jax.sparsity.coloring.result import Coloring
from anvil_jax.sparsity.coloring.symmetric import (
    acyclic_coloring,
    drop_neutral,
    forest_depths,
    star_coloring,
)

type Method = Literal["auto", "star", "acyclic"]

MAX_AUTO_DEPTH = 32
"""``auto`` does not choose a colouring with more substitutions in a row: errors add up."""

_METHODS = ("auto", "star", "acyclic")
_ACYCLIC_PAYS = 0.75
_ACYCLIC_COST, _SHALLOW_COST = 2, 3


def color_hessian(
    pattern: Any,
    *,
    method: Method = "auto",
    input_shapes: Sequence[tuple[int, ...]] = (),
    effort: int = DEFAULT_EFFORT,
    seed: int = 0,
) -> Coloring:
    """Choose the forward passes from which all entries of a symmetric matrix can be found.

    The same arguments give the same colouring on every machine.

    Args:
        pattern: (n, n) SciPy sparse matrix, both triangles; only the positions of its stored
            entries count.
        method: ``star``: every entry is read directly. ``acyclic``: fewer passes, but entries are
            found by substitution, in which rounding errors add up along paths. ``auto``: star,
            unless acyclic takes three quarters of the passes or less and not more than
            `MAX_AUTO_DEPTH` substitutions in a row.
        input_shapes: shapes of the arrays whose elements are the columns, in order; for stencils.
        effort: work the refinements may do, in visited non-zeros; two greedy star colourings are
            always made. 10**7 takes a few seconds.
        seed: of the random orders.

    Raises:
        SparsityError: the pattern is not square or not symmetric, or the method is unknown.
    """
    if method not in _METHODS:
        raise SparsityError(
            f"unknown method {method!r} of a Hessian; use one of {', '.join(_METHODS)}"
        )
    matrix = canonical(pattern)
    _check_symmetric(matrix)
    graph, stock = Graph.of(matrix), Effort(effort)
    if method == "acyclic":
        return _searched(_SymmetricSearch(graph, star=False), input_shapes, stock, seed)
    star = _SymmetricSearch(graph, star=True)
    result = _searched(star, input_shapes, stock, seed)
    if method == "star":
        return result
    acyclic = _SymmetricSearch(graph, star=False, max_depth=MAX_AUTO_DEPTH)
    acyclic.count = int(_ACYCLIC_PAYS * result.passes) + 1
    if acyclic.lower_bound >= acyclic.count:
        return result
    acyclic.refine((), Effort(effort), seed)
    return result if acyclic.colors is None else acyclic.result()


def _check_symmetric(matrix: sp.csc_array) -> None:
    rows, columns = shape_of(matrix)
    if rows != columns:
        raise SparsityError(f"the pattern of a symmetric matrix is square, not {(rows, columns)}")
    mirrored = sp.csc_array(matrix.T)
    mirrored.sort_indices()
    if np.array_equal(mirrored.indptr, matrix.indptr) and np.array_equal(
        mirrored.indices, matrix.indices
    ):
        return
    i, j = sp.coo_array(matrix - mirrored).coords
    raise SparsityError(
        f"the pattern is not symmetric: only one of the entries ({i[0]}, {j[0]}) and "
        f"({j[0]}, {i[0]}) is there; give both triangles"
    )


def _searched(
    search: "_SymmetricSearch", shapes: Sequence[tuple[int, ...]], effort: Effort, seed: int
) -> Coloring:
    search.quick()
    search.refine(shapes, effort, seed)
    return search.result()


class _SymmetricSearch:
    """The best star or acyclic colouring so far.

    Attributes:
        colors: (n,) of the best colouring, None before the first one is found.
        count: its number of colours; only colourings with fewer are of interest.
        order: what found it.
        lower_bound: no colouring has fewer colours.
    """

    def __init__(self, graph: Graph, *, star: bool, max_depth: int | None = None) -> None:
        self.graph = graph
        self.star = star
        self.max_depth = max_depth
        self.lower_bound = bounds.symmetric(graph, star)
        self.colors: np.ndarray | None = None
        self.count = graph.n + 1
        self.order = ""
        self._cost = graph.greedy_cost
        if not star:
            self._cost *= _ACYCLIC_COST if max_depth is None else _SHALLOW_COST

    @property
    def is_done(self) -> bool:
        """Whether fewer colours are impossible."""
        return self.count <= self.lower_bound

    def quick(self) -> None:
        """The colourings that are made whatever the effort."""
        self._forest()
        for name, order in self._simple_orders():
            if not self.is_done:
                self._try(name, order)

    def refine(self, shapes: Sequence[tuple[int, ...]], effort: Effort, seed: int) -> None:
        """Search on while there is effort; `shapes` are those of the inputs."""
        if self.colors is None:
            self._forest()
        self._lattices(shapes, effort)
        for name, order in self._orders(effort, seed):
            if self.is_done or not effort.afford(self._cost):
                return
            self._try(name, order)
        self._iterate(effort, seed)

    def result(self) -> Coloring:
        """The best colouring; there must be one."""
        assert self.colors is not None
        none = np.full(self.graph.n, -1, np.int64)
        kind = "star" if self.star else "acyclic"
        return Coloring(kind, self.colors, none, self.count, 0, self.lower_bound, self.order)

    def _simple_orders(self) -> Iterator[tuple[str, Sequence[int]]]:
        yield "natural", range(self.graph.n)
        yield "largest first", largest_first(self.graph.degrees)

    def _orders(self, effort: Effort, seed: int) -> Iterator[tuple[str, Sequence[int]]]:
        if self.colors is None:
            yield from self._simple_orders()
        yield "reverse", range(self.graph.n - 1, -1, -1)
        for name in DYNAMIC_ORDERS:
            if effort.afford(self.graph.greedy_cost):
                yield name, dynamic_order(self.graph, name)
        yield "random", np.random.default_rng(seed).permutation(self.graph.n).tolist()

    def _forest(self) -> None:
        depths = None if self.is_done else forest_depths(self.graph)
        if depths is not None:
            colors = 3 if self.star and depths.max(initial=0) > 1 else 2
            self._offer("forest", depths % colors)

    def _lattices(self, shapes: Sequence[tuple[int, ...]], effort: Effort) -> None:
        """Colourings at distance two are star colourings; they need the degree plus one."""
        least = int(self.graph.degrees.max(initial=0)) + 1
        if self.is_done or not self.star or least >= self.count:
            return
        closed = sp.csc_array(self.graph.matrix() + sp.eye_array(self.graph.n))
        for grid in stencils(Incidence.of(canonical(closed)), shapes, effort):
            found = valid_lattice(grid, least, self.count, effort)
            if found is not None:
                self._offer("lattice", found[0])

    def _iterate(self, effort: Effort, seed: int) -> None:
        """Colour again class after class, as in `greedy.iterated_greedy`.

        For star and acyclic colourings the number of colours may grow on the way.
        """
        rng = np.random.default_rng(seed)
        colors, turn, waited = self.colors, 0, 0
        if colors is None and effort.afford(self._cost):
            colors = self._color(range(self.graph.n))
        while colors is not None and not self.is_done and waited < patience(self._cost):
            if not effort.afford(self._cost):
                return
            count = self.count
            colors = self._color(by_class(colors, class_rank(turn, colors, rng), rng))
            self._offer("iterated greedy", colors)
            turn, waited = turn + 1, 0 if self.count < count else waited + 1

    def _color(self, order: Sequence[int], limit: int | None = None) -> np.ndarray | None:
        if self.star:
            return star_coloring(self.graph, order, limit)
        return acyclic_coloring(self.graph, order, limit, self.max_depth)

    def _try(self, name: str, order: Sequence[int]) -> None:
        # A colour without diagonal entries may turn out to be neutral: then more are allowed.
        limit = self.count - 1 if self.graph.diagonal.all() else None
        self._offer(name, self._color(order, limit))

    def _offer(self, name: str, colors: np.ndarray | None) -> None:
        if colors is None:
            return
        if not self.graph.diagonal.all():
            colors = drop_neutral(self.graph, colors)
        count = int(colors.max(initial=-1)) + 1
        if count >= self.count or not self._is_shallow(colors):
            return
        self.colors, self.count, self.order = colors, count, name

    def _is_shallow(self, colors: np.ndarray) -> bool:
        if self.max_depth is None:
            return True
        graph = self.graph
        upper = graph.sources < graph.indices
        slots = symmetric_slots(colors, graph.sources[upper], graph.indices[upper])
        return find_reading(slots, self.max_depth) is not None
