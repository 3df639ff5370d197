"""Derivatives by vertex elimination: one expression per entry, in the cheapest order found.

Eliminating an inner vertex multiplies the edges that enter it with those that leave it; when only
edges from leaves to outputs remain, they are the Jacobian. Any order is right. The steps:

1. `linear` reads the graph from the scalar expressions of JAX's derivative program,
2. vertices that no order could use to save anything are eliminated,
3. `ordering` proposes orders,
4. each is carried out on integers (`coefficients`), and the cheapest kept,
5. `factoring` finds what the results have in common,
6. UOps are built.

Sources: Griewank and Walther, Evaluating Derivatives, 2nd edition (2008), chapter 9 for
elimination; for Hessians the symmetric graph carries edges of second order, and the reverse order
is edge pushing (Gower and Mello, Optimization Methods and Software 27, 2012).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.coefficients import ONE, ZERO, Coefficients, NotLinear, Reference
from anvil_jax.kernels.expression import Expressions
from anvil_jax.kernels.factoring import factored
from anvil_jax.kernels.linear import (
    Edges,
    LinearGraph,
    QuadraticForm,
    Vertex,
    read_bilinear,
    read_linear,
)
from anvil_jax.kernels.ordering import Structure, good_orders

type Place = tuple[int, int]
"""Output and leaf, or two leaves; leaves count from 1."""

_FACTORED = 2
"""How many of the cheapest results are factored; the best of them counts."""

_LONG = 50_000
"""Operations from which on only one is."""


def jacobian(
    ex: Expressions, outputs: Sequence[UOp], leaves: Sequence[UOp]
) -> list[dict[int, UOp]]:
    """Coefficients of expressions that are linear in the leaves.

    Args:
        ex: builds the results.
        outputs: zero, or linear in the leaves.
        leaves: distinct expressions.

    Returns:
        For each output its coefficients by number of the leaf; structural zeros are absent.

    Raises:
        NotLinear: the outputs are not linear, or made by operations that are not known to be.
    """
    graph, roots = read_linear(outputs, leaves)
    found: list[dict[int, UOp]] = [{} for _ in outputs]
    for (row, leaf), node in _expressions(ex, _Elimination(graph, {}, roots)).items():
        found[row][leaf - 1] = node
    return found


def hessian(
    ex: Expressions, root: UOp, leaves: Sequence[UOp], twins: Sequence[UOp]
) -> dict[tuple[int, int], UOp]:
    """Coefficients of a symmetric expression that is bilinear in leaves and twins.

    Args:
        ex: builds the results.
        root: zero, or the second derivative of a function in directions `leaves` and `twins`.
        leaves: distinct expressions.
        twins: others, twin k in the role of leaf k.

    Returns:
        Coefficients by numbers (i, j) with i <= j; structural zeros are absent.

    Raises:
        NotLinear: as for `jacobian`.
    """
    form = read_bilinear(root, leaves, twins)
    start = _Elimination(form.graph, _product_weights(form), ())
    return {(i - 1, j - 1): node for (i, j), node in _expressions(ex, start).items()}


def _product_weights(form: QuadraticForm) -> dict[tuple[int, int], Reference]:
    """Symmetric weights of pairs of vertices: adjoints of the products, found in reverse."""
    reverse = _Elimination(form.sums, {}, (form.root,))
    reverse.condense()
    reverse.eliminate(reverse.inner[::-1])
    half = reverse.c.const(0.5)
    weights = {}
    for (_, leaf), weight in reverse.entries().values.items():
        v, u = form.products[leaf - 1]
        weights[v, u] = weight if v == u else reverse.c.mul(half, weight)
    return weights


@dataclass(frozen=True, slots=True)
class _Entries:
    """Results of an elimination.

    Attributes:
        c: what the references mean.
        values: coefficients by place.
    """

    c: Coefficients
    values: dict[Place, Reference]

    @property
    def cost(self) -> int:
        """Operations that all of them together need."""
        return self.c.cost(self.values.values())

    def factored(self, base: Coefficients) -> "_Entries":
        """The same with fewer operations; `base` is an earlier state of `c`."""
        c, values = factored(self.c, list(self.values.values()), base)
        return _Entries(c, dict(zip(self.values, values, strict=True)))

    def build(self, ex: Expressions) -> dict[Place, UOp]:
        """UOps of those that are not zero."""
        kept = {place: a for place, a in self.values.items() if a != ZERO}
        nodes = self.c.build(ex, kept.values())
        return {place: nodes[a] for place, a in kept.items()}


def _expressions(ex: Expressions, graph: "_Elimination") -> dict[Place, UOp]:
    try:
        return _cheapest(graph).build(ex)
    except RecursionError:
        raise NotLinear("hundreds of choices inside one another") from None


def _cheapest(graph: "_Elimination") -> _Entries:
    """The results of eliminating all inner vertices in the best order that was found."""
    graph.condense()
    structure, vertices = graph.structure()
    number = {v: k for k, v in enumerate(vertices)}
    found = []
    for order in good_orders(structure, [number[v] for v in graph.inner]):
        trial = graph.fork()
        trial.eliminate([vertices[k] for k in order])
        found.append(trial.entries())
    found.sort(key=lambda entries: entries.cost)
    several = _FACTORED if found[0].cost < _LONG else 1
    shortened = [entries.factored(graph.c) for entries in found[:several]]
    return min(shortened, key=lambda entries: entries.cost)


class _Elimination:
    """A graph whose vertices disappear.

    Attributes:
        c: what references mean.
        before: edges that enter each vertex, by the vertex they come from. Outputs are vertices of
            their own behind all others.
        after: the same edges by the vertex they go to.
        second: edges of second order, both ways.
        inner: vertices that are left to eliminate.
    """

    def __init__(
        self,
        graph: LinearGraph,
        weights: dict[tuple[int, int], Reference],
        outputs: Sequence[Vertex],
    ) -> None:
        self.c: Coefficients = graph.coefficients
        self.leaves = graph.leaves
        self.first_output = len(graph.predecessors)
        self.outputs = len(outputs)
        needed = self._needed(graph, weights, outputs)
        self.before: dict[int, Edges] = {v: dict(graph.predecessors[v]) for v in needed}
        self.second: dict[int, Edges] = {v: {} for v in needed}
        for (a, b), weight in weights.items():
            self.second[a][b] = self.second[b][a] = weight
        for k, vertex in enumerate(outputs):
            edges = {abs(vertex): ONE if vertex > 0 else -ONE} if vertex else {}
            self.before[self.first_output + k] = edges
        self.after: dict[int, Edges] = {v: {} for v in needed}
        for vertex, edges in self.before.items():
            for source, weight in edges.items():
                self.after[source][vertex] = weight
        self.inner = [v for v in needed if v > self.leaves]

    @staticmethod
    def _needed(
        graph: LinearGraph, weights: dict[tuple[int, int], Reference], outputs: Sequence[Vertex]
    ) -> list[int]:
        """The leaves and what the results depend on, in the order of the program."""
        needed = {abs(v) for v in outputs if v}
        for pair in weights:
            needed.update(pair)
        for vertex in range(len(graph.predecessors) - 1, graph.leaves, -1):
            if vertex in needed:
                needed.update(graph.predecessors[vertex])
        return sorted(needed.union(range(1, graph.leaves + 1)))

    def fork(self) -> "_Elimination":
        """A copy that can go its own way."""
        other = _Elimination.__new__(_Elimination)
        other.c = self.c.fork()
        other.leaves, other.first_output = self.leaves, self.first_output
        other.outputs = self.outputs
        other.before = {v: dict(edges) for v, edges in self.before.items()}
        other.after = {v: dict(edges) for v, edges in self.after.items()}
        other.second = {v: dict(edges) for v, edges in self.second.items()}
        other.inner = list(self.inner)
        return other

    # -- results --------------------------------------------------------------------------------

    def entries(self) -> _Entries:
        """What is left when there are no inner vertices: coefficients other than zero."""
        found = {
            (k, leaf): a
            for k in range(self.outputs)
            for leaf, a in sorted(self.before[self.first_output + k].items())
        }
        found |= {
            (i, j): a
            for i in range(1, self.leaves + 1)
            for j, a in sorted(self.second[i].items())
            if i <= j
        }
        kept = {place: a for place, a in found.items() if a != ZERO}
        return _Entries(self.c, kept)

    # -- elimination ----------------------------------------------------------------------------

    def condense(self) -> None:
        """Eliminates vertices that no order could use to save anything.

        These are vertices without edges of second order that have one edge in and one out, or
        whose only edge in or out is a 1 or -1.
        """
        changed = True
        while changed:
            left = []
            for vertex in reversed(self.inner):
                if self._is_trivial(vertex):
                    self._remove(vertex)
                else:
                    left.append(vertex)
            changed = len(left) < len(self.inner)
            self.inner = left[::-1]

    def _is_trivial(self, vertex: int) -> bool:
        if self.second[vertex]:
            return False
        before, after = self.before[vertex], self.after[vertex]
        if len(before) <= 1 and len(after) <= 1:
            return True
        return any(
            len(edges) == 1 and all(abs(weight) == ONE for weight in edges.values())
            for edges in (before, after)
        )

    def structure(self) -> tuple[Structure, list[int]]:
        """Which edges exist, and the vertices in the order of their bits."""
        vertices = sorted(self.before)
        bit = {v: 1 << k for k, v in enumerate(vertices)}
        return Structure(
            before=[sum(bit[u] for u in self.before[v]) for v in vertices],
            after=[sum(bit[u] for u in self.after.get(v, ())) for v in vertices],
            units=[
                sum(bit[u] for u, a in self.before[v].items() if abs(a) == ONE) for v in vertices
            ],
            second=[sum(bit[u] for u in self.second.get(v, ())) for v in vertices],
        ), vertices

    def eliminate(self, order: Iterable[int]) -> None:
        """Eliminates inner vertices."""
        for vertex in order:
            self._remove(vertex)
        self.inner = []

    def _remove(self, vertex: int) -> None:
        """Eliminates one vertex."""
        mul, add = self.c.mul, self.c.add
        before, after = self.before.pop(vertex), self.after.pop(vertex)
        second = self.second.pop(vertex)
        for target, leaving in after.items():
            edges = self.before[target]
            del edges[vertex]
            for source, entering in before.items():
                product = mul(leaving, entering)
                if source in edges:
                    product = add(edges[source], product)
                edges[source] = self.after[source][target] = product
        for source in before:
            del self.after[source][vertex]
        for other in second:
            if other != vertex:
                del self.second[other][vertex]
        for other, weight in second.items():
            if other == vertex:
                self._push_square(before, weight)
                continue
            for source, entering in before.items():
                product = mul(entering, weight)
                if source == other:
                    product = mul(self.c.const(2.0), product)
                self._add_second(source, other, product)

    def _push_square(self, before: Edges, weight: Reference) -> None:
        """``weight * v**2`` for a vertex v, in terms of those before it."""
        mul = self.c.mul
        entering = list(before.items())
        for k, (a, edge) in enumerate(entering):
            scaled = mul(edge, weight)
            for b, other in entering[: k + 1]:
                self._add_second(a, b, mul(scaled, other))

    def _add_second(self, a: int, b: int, weight: Reference) -> None:
        if weight != ZERO:
            edges = self.second[a]
            total = self.c.add(edges[b], weight) if b in edges else weight
            edges[b] = self.second[b][a] = total


__all__ = ["NotLinear", "hessian", "jacobian"]
