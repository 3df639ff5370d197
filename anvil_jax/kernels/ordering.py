"""Orders in which to eliminate vertices, found on the structure of a graph alone.

The number of operations depends on the order, and the best order is hard to find. It hardly depends
on what the coefficients are, so it is looked for on bit sets, where eliminating a vertex takes some
microseconds: first forward, reverse and greedy orders, then improvements of the best by simulated
annealing.

Annealing is quick because the graph that is left after eliminating a set of vertices is the same
for every order of that set: moving a vertex changes costs only between its old and its new place.

Sources: Griewank and Walther, Evaluating Derivatives, 2nd edition (2008), section 10.3 (greedy
orders, Markowitz); Kirkpatrick, Gelatt and Vecchi, Science 220, 1983 (annealing).
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_ROUNDS = ((6, 1), (3, 2), (2, 2))
"""Of each round of annealing: the number of orders that take part, and the effort for each."""

_EFFORT = 500
"""Neighbours visited in one run of annealing, by vertex; a tenth of a second for 200 vertices."""

_MAX_EFFORT = 30_000
"""The same for large graphs, in total."""

_TRIED = 150_000
"""Operations in all orders that are proposed together; carrying them out takes about a second."""

_MAX_ANNEALED = 1_000
"""Vertices up to which annealing is tried; its memory grows with their square."""

_WINDOW = 30
"""Longest move of a vertex within the order."""

_TEMPERATURE = 5e-4
"""First temperature, as a part of the cost of the first order."""


@dataclass(slots=True)
class Structure:
    """Which edges a graph has, by vertex, as bit sets of vertices.

    Attributes:
        before: where edges into the vertex come from.
        after: where its edges go.
        units: those of `before` whose coefficient is 1 or -1.
        second: the other ends of its edges of second order.
    """

    before: list[int]
    after: list[int]
    units: list[int]
    second: list[int]

    def copy(self) -> "Structure":
        """The same structure, to be changed independently."""
        return Structure(self.before[:], self.after[:], self.units[:], self.second[:])

    def neighbours(self, vertex: int) -> int:
        """Vertices that have an edge in common with `vertex`."""
        others = self.before[vertex] | self.after[vertex] | self.second[vertex]
        return others & ~(1 << vertex)

    def eliminate(self, vertex: int) -> int:
        """Removes a vertex; returns the products and sums that takes."""
        cost = self._first_order(vertex)
        return cost + self._second_order(vertex) if self.second[vertex] else cost

    def _first_order(self, vertex: int) -> int:
        before, units = self.before, self.units
        bit = 1 << vertex
        rest = ~bit
        sources, targets = before[vertex], self.after[vertex]
        unit_sources = sources & units[vertex]
        general = (sources ^ unit_sources).bit_count()
        cost = 0
        left = targets
        while left:
            lowest = left & -left
            left ^= lowest
            k = lowest.bit_length() - 1
            old = before[k]
            common = old & sources
            if units[k] & bit:
                units[k] = (units[k] & rest & ~common) | (unit_sources & ~old)
            else:
                cost += general
                units[k] &= ~common
            cost += common.bit_count()
            before[k] = (old & rest) | sources
        after = self.after
        left = sources
        while left:
            lowest = left & -left
            left ^= lowest
            k = lowest.bit_length() - 1
            after[k] = (after[k] & rest) | targets
        return cost

    def _second_order(self, vertex: int) -> int:
        second = self.second
        bit = 1 << vertex
        sources = self.before[vertex]
        general_sources = sources & ~self.units[vertex]
        general = general_sources.bit_count()
        others = second[vertex] & ~bit
        square = second[vertex] & bit
        cost = general * others.bit_count() + (general if square else 0)
        left = sources
        while left:
            lowest = left & -left
            left ^= lowest
            k = lowest.bit_length() - 1
            edges = second[k]
            # A pair of the same two vertices has a factor of two.
            cost += (edges & others).bit_count() + (1 if others & lowest else 0)
            edges |= others
            if square:
                up_to_this = sources & (lowest * 2 - 1)
                cost += (edges & up_to_this).bit_count()
                cost += (general_sources & up_to_this).bit_count()
                edges |= sources
            second[k] = edges
        left = others
        while left:
            lowest = left & -left
            left ^= lowest
            k = lowest.bit_length() - 1
            second[k] = (second[k] & ~bit) | sources
        return cost


def good_orders(structure: Structure, inner: Sequence[int]) -> list[list[int]]:
    """Orders of the inner vertices that need few operations.

    What an order really costs depends on the coefficients too, so several are proposed, the best
    first. The same structure always gives the same orders.

    Args:
        structure: of the whole graph.
        inner: vertices to eliminate, in the order of the program.
    """
    found = [list(inner), list(inner)[::-1]]
    found += [
        _greedy_order(structure, inner, measure, late=late)
        for measure in _MEASURES
        for late in (True, False)
    ]
    found.sort(key=lambda order: _cost(structure, order))
    proposed = found[:1]
    if 2 < len(inner) <= _MAX_ANNEALED:
        for number, (size, effort) in enumerate(_ROUNDS):
            visits = effort * min(_EFFORT * len(inner), _MAX_EFFORT)
            found = [
                _annealed(structure, order, visits, seed=10 * number + k)
                for k, order in enumerate(found[:size])
            ]
            found.sort(key=lambda order: _cost(structure, order))
            proposed += found
    else:
        proposed += found[1:3]
    proposed.sort(key=lambda order: _cost(structure, order))
    return proposed[: max(_TRIED // max(_cost(structure, proposed[0]), 1), 1)]


def _cost(structure: Structure, order: Sequence[int]) -> int:
    left = structure.copy()
    return sum(map(left.eliminate, order))


# -- greedy orders ------------------------------------------------------------------------------


def _degree(s: Structure, vertex: int) -> int:
    """Edges in times edges out (Markowitz)."""
    out = s.after[vertex].bit_count() + s.second[vertex].bit_count()
    return s.before[vertex].bit_count() * out


def _products(s: Structure, vertex: int) -> int:
    """Products with factors other than 1 and -1."""
    general_out = sum(not s.units[k] >> vertex & 1 for k in bits(s.after[vertex]))
    return _general_in(s, vertex) * (general_out + s.second[vertex].bit_count())


def _operations(s: Structure, vertex: int) -> int:
    """Products, twice, and sums."""
    pairs = s.before[vertex].bit_count() * s.after[vertex].bit_count()
    return 2 * _products(s, vertex) + pairs - _fill(s, vertex) + _second_fill(s, vertex)


def _growth(s: Structure, vertex: int) -> int:
    """Products, and edges that come less edges that go."""
    gone = s.before[vertex].bit_count() + s.after[vertex].bit_count()
    return _products(s, vertex) + 2 * _fill(s, vertex) - gone + _second_fill(s, vertex)


def _general_in(s: Structure, vertex: int) -> int:
    return (s.before[vertex] & ~s.units[vertex]).bit_count()


def _fill(s: Structure, vertex: int) -> int:
    """New edges."""
    sources = s.before[vertex]
    return sum((sources & ~s.before[k]).bit_count() for k in bits(s.after[vertex]))


def _second_fill(s: Structure, vertex: int) -> int:
    """New edges of second order."""
    others = s.second[vertex] & ~(1 << vertex)
    if not others:
        return 0
    return sum((others & ~s.second[k]).bit_count() for k in bits(s.before[vertex]))


_MEASURES = (_degree, _products, _operations, _growth)


def bits(mask: int) -> Iterator[int]:
    """Positions of the ones."""
    while mask:
        lowest = mask & -mask
        mask ^= lowest
        yield lowest.bit_length() - 1


def _greedy_order(
    structure: Structure,
    inner: Sequence[int],
    measure: Callable[[Structure, int], int],
    *,
    late: bool,
) -> list[int]:
    """Always the vertex that is cheapest now; among equals the last or first of the program."""
    left = structure.copy()
    sign = -1 if late else 1
    price = {v: measure(left, v) for v in inner}
    heap = [(price[v], sign * v) for v in inner]
    heapq.heapify(heap)
    order = []
    while heap:
        cost, place = heapq.heappop(heap)
        vertex = sign * place
        if price.get(vertex) != cost:
            continue  # it was eliminated, or has another price now
        del price[vertex]
        order.append(vertex)
        touched = left.neighbours(vertex)
        left.eliminate(vertex)
        for k in bits(touched):
            if k in price and (now := measure(left, k)) != price[k]:
                price[k] = now
                heapq.heappush(heap, (now, sign * k))
    return order


# -- annealing ----------------------------------------------------------------------------------


def _annealed(structure: Structure, order: Sequence[int], visits: int, seed: int) -> list[int]:
    """An improvement of `order` by moving vertices to the other side of neighbours."""
    state = _Annealing(structure, order)
    generator = random.Random(seed)
    best, fewest = list(order), state.total
    start = _TEMPERATURE * state.total
    while state.visited < visits:
        temperature = start * (1.0 - state.visited / visits)
        allowance = -temperature * math.log(1.0 - generator.random())
        if state.move(generator, allowance) and state.total < fewest:
            best, fewest = list(state.order), state.total
    return best


class _Annealing:
    """An order with its costs, and the graph before each of its steps.

    Attributes:
        order: the vertices.
        total: what eliminating them costs.
        visited: neighbours met so far, a measure of the time spent.
    """

    def __init__(self, structure: Structure, order: Sequence[int]) -> None:
        self.order = list(order)
        self.place = {v: k for k, v in enumerate(order)}
        self.inner = sum(1 << v for v in order)
        self.graphs: list[Structure] = []
        self.costs: list[int] = []
        left = structure.copy()
        for vertex in order:
            self.graphs.append(left.copy())
            self.costs.append(left.eliminate(vertex))
        self.total = sum(self.costs)
        self.visited = 0

    def move(self, generator: random.Random, allowance: float) -> bool:
        """Tries one random move; keeps it if it costs at most `allowance` more."""
        begin = generator.randrange(len(self.order))
        self.visited += 1
        vertex = self.order[begin]
        later = list(bits(self.graphs[begin].neighbours(vertex) & self.inner))
        if not later:
            return False
        end = self.place[later[generator.randrange(len(later))]] + 1
        if end - begin > _WINDOW:
            return False
        part = self.order[begin:end]
        part = part[1:] + part[:1] if generator.random() < 0.5 else part[-1:] + part[:-1]
        old = sum(self.costs[begin:end])
        costs = self._try(part, begin, old + allowance)
        if costs is None:
            return False
        self._keep(part, begin, costs)
        self.total += sum(costs) - old
        return True

    def _try(self, part: Sequence[int], begin: int, limit: float) -> list[int] | None:
        left = self.graphs[begin].copy()
        costs = []
        for vertex in part:
            self.visited += left.neighbours(vertex).bit_count()
            costs.append(left.eliminate(vertex))
            limit -= costs[-1]
            if limit < 0:
                return None
        return costs

    def _keep(self, part: Sequence[int], begin: int, costs: Sequence[int]) -> None:
        left = self.graphs[begin].copy()
        for k, vertex in enumerate(part, begin):
            self.graphs[k] = left.copy()
            left.eliminate(vertex)
            self.order[k] = vertex
            self.place[vertex] = k
        self.costs[begin : begin + len(part)] = costs
