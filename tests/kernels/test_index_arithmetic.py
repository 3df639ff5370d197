"""Address simplification keeps values, and bounds hold for every counter value."""

import itertools
from collections.abc import Callable
from functools import partial
from operator import itemgetter

import numpy as np
import pytest

from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.kernels.expression import Expressions
from anvil_jax.lowering.values import dense_strides, unravel


def value(node: UOp, counters: dict[UOp, int]) -> int:
    if node in counters:
        return counters[node]
    if node.op is Ops.CONST:
        return node.arg
    args = [value(s, counters) for s in node.src]
    if node.op is Ops.CAST:
        return args[0]
    if node.op is Ops.CUSTOM:
        return {"maximum": max, "minimum": min}[node.arg](*args)
    return {
        Ops.ADD: lambda a, b: a + b, Ops.MUL: lambda a, b: a * b,
        Ops.CDIV: lambda a, b: a // b, Ops.CMOD: lambda a, b: a % b,
    }[node.op](*args)  # fmt: skip


type At = dict[UOp, int]
type Meaning = Callable[[At], int]


def random_index(
    ex: Expressions, counters: list[UOp], generator: np.random.Generator
) -> list[tuple[UOp, Meaning]]:
    """Sums of counters and constant factors, each with what it means as a Python function."""
    pool: list[tuple[UOp, Meaning]] = [(c, itemgetter(c)) for c in counters]
    for _ in range(8):
        (a, f), (b, g) = (pool[generator.integers(len(pool))] for _ in range(2))
        n = int(generator.integers(-4, 7))
        rows: list[tuple[UOp, Meaning]] = [
            (ex.add(a, b), partial(lambda f, g, at: f(at) + g(at), f, g)),
            (ex.mul(a, ex.index(n)), partial(lambda f, n, at: f(at) * n, f, n)),
            (ex.add(a, ex.index(n)), partial(lambda f, n, at: f(at) + n, f, n)),
            (ex.sub(a, b), partial(lambda f, g, at: f(at) - g(at), f, g)),
        ]
        pool.append(rows[generator.integers(4)])
    return pool


@pytest.mark.parametrize("seed", range(20))
def test_random_sums_keep_their_value_and_bounds(seed):
    generator = np.random.default_rng(seed)
    ex = Expressions()
    trips = [3, 4, 2]
    counters = [ex.loop_variable(n) for n in trips]
    pool = random_index(ex, counters, generator)
    for place in itertools.product(*map(range, trips)):
        at = dict(zip(counters, place, strict=True))
        for node, function in pool:
            assert value(node, at) == function(at)
            limits = ex.bounds(node)
            assert limits is None or limits[0] <= value(node, at) <= limits[1]


@pytest.mark.parametrize("divisor", [1, 2, 3, 12, 35])
@pytest.mark.parametrize("seed", range(10))
def test_quotients_and_remainders(seed, divisor):
    generator = np.random.default_rng(seed)
    ex = Expressions()
    trips = [5, 3, 4]
    counters = [ex.loop_variable(n) for n in trips]
    factors = generator.integers(0, 40, 3)
    total = ex.index(int(generator.integers(0, 20)))
    for counter, factor in zip(counters, factors, strict=True):
        total = ex.add(total, ex.mul(counter, ex.index(int(factor))))
    quotient, rest = ex.floor_div(total, divisor), ex.floor_mod(total, divisor)
    for place in itertools.product(*map(range, trips)):
        at = dict(zip(counters, place, strict=True))
        assert value(quotient, at) == value(total, at) // divisor
        assert value(rest, at) == value(total, at) % divisor


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 1), (7,), (2, 1, 3, 2), ()])
def test_unravel_inverts_positions(shape):
    ex = Expressions()
    counter = ex.loop_variable(int(np.prod(shape)))
    index = unravel(ex, counter, shape)
    for k, wanted in enumerate(np.ndindex(*shape)):
        assert tuple(value(i, {counter: k}) for i in index) == wanted


def test_unravelling_a_dense_position_needs_no_division():
    ex = Expressions()
    shape = (3, 4, 5)
    counters = tuple(ex.loop_variable(n) for n in shape)
    position = ex.index(0)
    for counter, stride in zip(counters, dense_strides(shape), strict=True):
        position = ex.add(position, ex.mul(counter, ex.index(stride)))
    assert unravel(ex, position, shape) == counters


def test_clamping_that_cannot_matter_disappears():
    ex = Expressions()
    counter = ex.loop_variable(10)
    assert ex.minimum(counter, ex.index(9)) is counter
    assert ex.maximum(counter, ex.index(0)) is counter
    assert ex.minimum(counter, ex.index(5)) is not counter
    wide = ex.cast(counter, "int32")
    assert ex.maximum(wide, ex.const(0, "int32")) is wide
    assert ex.less(wide, ex.const(10, "int32")).arg is True
