"""Orders in which a greedy colouring visits the vertices of a graph.

All but the static ones are in Gebremedhin, Manne, Pothen, "What color is your Jacobian?", SIAM
Review 47 (2005), section 6, and take time linear in the number of edges with a queue of buckets.
No order is best: the drivers try several. Vertices that tie are taken last in first out or first
in first out; the rule matters (smallest last on a two-dimensional grid: 7 or 5 colours).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from anvil_jax.sparsity.coloring.incidence import Graph


@dataclass(frozen=True)
class _Rule:
    """How the bucket queue picks and updates.

    Attributes:
        counts_ordered: the key of a vertex is its number of neighbours already picked; otherwise
            of those not yet picked.
        takes_largest: pick the largest key; otherwise the smallest.
        reverses: colour in the opposite order of picking.
        first_in: of equal keys pick the one that got its key first.
    """

    counts_ordered: bool
    takes_largest: bool
    reverses: bool
    first_in: bool = False


_RULES = {
    "smallest last": _Rule(counts_ordered=False, takes_largest=False, reverses=True),
    "smallest last, first in": _Rule(False, False, True, first_in=True),
    "incidence degree": _Rule(counts_ordered=True, takes_largest=True, reverses=False),
    "incidence degree, first in": _Rule(True, True, False, first_in=True),
    "dynamic largest first": _Rule(counts_ordered=False, takes_largest=True, reverses=False),
}

DYNAMIC_ORDERS = tuple(_RULES)
"""Orders that need the graph's edges."""


def dynamic_order(graph: Graph, name: str) -> list[int]:
    """The order called `name`, one of `DYNAMIC_ORDERS`, of the vertices of `graph`."""
    rule = _RULES[name]
    neighbours = graph.neighbours
    keys = [0] * graph.n if rule.counts_ordered else graph.degrees.tolist()
    largest = int(graph.degrees.max(initial=0))
    buckets: list[deque[int]] = [deque() for _ in range(largest + 1)]
    for vertex in range(graph.n) if rule.first_in else range(graph.n - 1, -1, -1):
        buckets[keys[vertex]].append(vertex)
    step = 1 if rule.counts_ordered else -1
    picked = bytearray(graph.n)
    order: list[int] = []
    for vertex in _picks(buckets, keys, picked, rule):
        picked[vertex] = 1
        order.append(vertex)
        for other in neighbours[vertex]:
            if not picked[other]:
                keys[other] = key = keys[other] + step
                buckets[key].append(other)
    return order[::-1] if rule.reverses else order


def _picks(
    buckets: list[deque[int]], keys: list[int], picked: bytearray, rule: _Rule
) -> Iterator[int]:
    """Vertices from the lowest or highest bucket; entries that are out of date are skipped.

    After a pick a key has moved by one at most, so the search for the next bucket starts there.
    """
    current = len(buckets) - 1 if rule.takes_largest and not rule.counts_ordered else 0
    for _ in range(len(keys)):
        while True:
            bucket = buckets[current]
            take: Callable[[], int] = bucket.popleft if rule.first_in else bucket.pop
            vertex = -1
            while bucket:
                vertex = take()
                if not picked[vertex] and keys[vertex] == current:
                    break
                vertex = -1
            if vertex >= 0:
                break
            current += -1 if rule.takes_largest else 1
        yield vertex
        if rule.takes_largest:
            current = min(current + int(rule.counts_ordered), len(buckets) - 1)
        else:
            current = max(current - 1, 0)


def largest_first(degrees: np.ndarray) -> list[int]:
    """Vertices by falling degree (Welsh and Powell)."""
    return np.argsort(-degrees, kind="stable").tolist()


def by_class(colors: np.ndarray, rank: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Vertices class after class: colour c at place ``rank[c]``, at random inside a class."""
    place = np.where(colors >= 0, rank[colors], len(rank)) if len(rank) else colors
    return np.lexsort((rng.random(len(colors)), place)).tolist()


def class_rank(turn: int, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The place of every colour in round `turn` of iterated greedy.

    Culberson and Luo, "Exploring the k-colorable landscape with iterated greedy" (1996): the
    reverse order, large classes first, and random orders in turn.
    """
    count = int(colors.max(initial=-1)) + 1
    if turn % 3 == 0:
        return np.arange(count)[::-1]
    if turn % 3 == 1:
        sizes = np.bincount(colors[colors >= 0], minlength=count)
        return np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")
    return rng.permutation(count)
