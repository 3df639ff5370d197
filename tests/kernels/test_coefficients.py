"""Coefficients and their factoring: values, signs, ranges, numbers of operations."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.coefficients import ZERO, Coefficients
from anvil_jax.kernels.expression import Expressions
from anvil_jax.kernels.factoring import factored
from anvil_jax.kernels.program import Buffer
from tests.kernels.evaluation import evaluate


def _load(ex: Expressions, position: int) -> UOp:
    return ex.load(Buffer("float64", 1, "input", position), 0)


def _random_expressions(ex: Expressions, seed: int) -> tuple[Coefficients, list[int], list[UOp]]:
    """Sums of products over a few leaves, with much in common."""
    generator = random.Random(seed)
    leaves = [_load(ex, k) for k in range(4)]
    c = Coefficients("float64")
    pool = [c.given(leaf) for leaf in leaves] + [c.const(0.5), c.const(-3.0)]
    for _ in range(60):
        a, b = (generator.choice(pool) for _ in range(2))
        pool.append(generator.choice([c.add, c.sub, c.mul])(a, b))
    return c, pool[-8:], leaves


def _numbers(
    ex: Expressions, c: Coefficients, references: Sequence[int], leaves: Sequence[UOp]
) -> list[float]:
    nodes = c.build(ex, references)
    known = {leaf: np.float64(0.3 + 0.4 * k) for k, leaf in enumerate(leaves)}
    values = evaluate(nodes.values(), known)
    return [float(values[nodes[a]]) for a in references]


@pytest.mark.parametrize("seed", range(20))
def test_factoring_keeps_values_and_never_adds_operations(seed):
    ex = Expressions()
    c, results, leaves = _random_expressions(ex, seed)
    base = Coefficients("float64")
    for leaf in leaves:
        base.given(leaf)
    after, shortened = factored(c, results, base)
    assert after.cost(shortened) <= c.cost(results)
    before = _numbers(ex, c, results, leaves)
    np.testing.assert_allclose(_numbers(ex, after, shortened, leaves), before, rtol=1e-9, atol=1e-9)


def test_factoring_finds_factors_sums_and_products():
    ex = Expressions()
    c = Coefficients("float64")
    x, y, z, w = (c.given(_load(ex, k)) for k in range(4))
    base = c.fork()

    def cost(*results: int) -> tuple[int, int]:
        after, shortened = factored(c, results, base)
        return c.cost(results), after.cost(shortened)

    assert cost(c.add(c.mul(x, y), c.mul(z, x))) == (3, 2)
    assert cost(c.add(c.add(x, y), z), c.add(c.add(x, w), y)) == (4, 3)
    assert cost(c.sub(c.sub(x, y), z), c.sub(c.add(w, y), x)) == (4, 3)
    assert cost(c.mul(c.mul(x, y), z), c.mul(c.mul(x, w), y)) == (4, 3)


def test_constants_are_merged_only_where_the_product_is_a_number():
    ex = Expressions()
    c = Coefficients("float64")
    x = c.given(_load(ex, 0))
    assert c.mul(c.const(2.0), c.mul(c.const(0.5), x)) == x
    tiny = c.mul(c.const(1e-200), c.mul(c.const(1e-200), x))
    assert tiny != ZERO
    assert c.cost([tiny]) == 2
    single = Coefficients("float32")
    x = single.given(ex.load(Buffer("float32", 1, "input", 0), 0))
    assert single.cost([single.mul(single.const(1e30), single.mul(single.const(1e30), x))]) == 2


def test_signs_are_shared():
    ex = Expressions()
    c = Coefficients("float64")
    x, y = c.given(_load(ex, 0)), c.given(_load(ex, 1))
    assert c.sub(x, y) == -c.sub(y, x)
    assert c.mul(-x, y) == c.mul(x, -y) == -c.mul(x, y)
    assert c.recip(-x) == -c.recip(x)
    assert c.recip(c.mul(x, x)) == c.mul(c.recip(x), c.recip(x))
    assert c.sub(x, x) == ZERO
    assert c.add(x, c.mul(c.const(2.0), x)) == c.mul(c.const(3.0), x)


def test_powers_of_reciprocals_have_one_division():
    ex = Expressions()
    c = Coefficients("float64")
    x = c.given(_load(ex, 0))
    power = x
    for _ in range(6):
        power = c.mul(power, x)
    assert c.cost([c.recip(power)]) < c.cost([c.recip(x)]) + 7


def test_reciprocals_of_tiny_numbers_are_left_to_run_time():
    single = Coefficients("float32")
    assert single.nodes[single.recip(single.const(1e-40))][0] == "recip"
    assert single.nodes[single.recip(single.const(1e-30))][0] == "const"
