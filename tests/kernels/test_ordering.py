"""Orders of elimination: permutations that repeat, and cost what they say."""

import random
from collections.abc import Sequence

import pytest

from anvil_jax.kernels import ordering


def _random_structure(seed: int, second: bool) -> tuple[ordering.Structure, list[int]]:
    """3 leaves, 12 inner vertices, and 3 outputs or edges of second order."""
    generator = random.Random(seed)
    count = 15 if second else 18
    before = [0] * count
    for v in range(3, count):
        for u in generator.sample(range(min(v, 15)), min(v, generator.randint(1, 3))):
            before[v] |= 1 << u
    after = [sum(1 << v for v in range(count) if before[v] >> u & 1) for u in range(count)]
    edges = [0] * count
    for _ in range(8 if second else 0):
        a, b = generator.choices(range(count), k=2)
        edges[a] |= 1 << b
        edges[b] |= 1 << a
    units = [mask & generator.getrandbits(count) for mask in before]
    return ordering.Structure(before, after, units, edges), list(range(3, 15))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("second", [False, True])
def test_the_remaining_graph_does_not_depend_on_the_order(seed, second):
    """What annealing relies on."""
    structure, inner = _random_structure(seed, second)
    generator = random.Random(seed)
    remaining = []
    for _ in range(3):
        left = structure.copy()
        order = generator.sample(inner[:8], 8)
        for vertex in order:
            left.eliminate(vertex)
        kept = [v for v in range(len(left.before)) if v not in order]
        remaining.append([(left.before[v], left.after[v], left.second[v]) for v in kept])
        units = [left.units[v] & left.before[v] for v in kept]
        remaining[-1].append(tuple(units))
    assert remaining[0] == remaining[1] == remaining[2]


@pytest.mark.parametrize("second", [False, True])
def test_orders_are_permutations_and_reproducible(second):
    structure, inner = _random_structure(1, second)
    found = ordering.good_orders(structure, inner)
    assert found == ordering.good_orders(structure.copy(), inner)
    assert all(sorted(order) == inner for order in found)

    def cost(order: Sequence[int]) -> int:
        left = structure.copy()
        return sum(map(left.eliminate, order))

    assert cost(found[0]) <= min(cost(inner), cost(inner[::-1]))
    assert cost(found[0]) <= min(cost(random.Random(k).sample(inner, 12)) for k in range(200))


def test_a_vertex_costs_what_its_products_and_sums_cost():
    """Two edges in (one of them 1), two out, one of them meeting an edge that exists."""
    structure = ordering.Structure(
        before=[0, 0, 0b11, 0b101, 0b100],
        after=[0b1100, 0b100, 0b11000, 0, 0],
        units=[0, 0, 0b01, 0, 0],
        second=[0] * 5,
    )
    assert structure.eliminate(2) == 2 + 1
    assert structure.before[3] == structure.before[4] == 0b11
    assert structure.units[4] == 0
