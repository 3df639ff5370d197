"""Which kernels a function becomes, and that they compute what JAX does."""

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from anvil_jax.emit.views import DeviceFunctionView
from tests.support.emulated import COMMAND, emulated_cuda
from tests.support.judge import difference
from tests.support.native import make_job, reference, run_natively

pytestmark = pytest.mark.compile

_random = np.random.default_rng(5)


@pytest.fixture
def kernels(tmp_path: Path) -> Callable[..., DeviceFunctionView]:
    """`kernels(function, *inputs)`: the view, after its results have been judged."""

    def make(function: Callable[..., Any], *inputs: Any, kernel: Any = "auto") -> Any:
        job = make_job("f", function, inputs, kernel, "CUDA")
        found = run_natively([job], COMMAND, tmp_path, emulated_cuda)["f"]
        assert difference(found, reference(function, inputs), rtol=1e-11) is None
        return job.view

    return make


def threads(view: DeviceFunctionView) -> list[int]:
    """Threads of each launch, groups being whole."""
    return [launch.groups * launch.threads for launch in view.launches]


def long_chain(p: jax.Array) -> jax.Array:
    """A hundred operations, all needed, whose result is one number."""
    for _ in range(50):
        p = jnp.sin(p) * 1.5
    return p


def test_a_loop_of_independent_trips_is_one_launch(kernels):
    view = kernels(lambda x: jnp.tanh(x) + 1.0, _random.normal(size=1000))
    assert threads(view) == [1024]
    assert view.workspace_nbytes == 0


def test_expensive_values_are_computed_once_and_handed_over(kernels):
    view = kernels(lambda p, x: x * long_chain(p), 0.3, _random.normal(size=1000))
    assert threads(view) == [1, 1024]
    assert "sin" not in view.code.partition("f_kernel_1")[2]


def test_cheap_values_are_computed_again_by_every_thread(kernels):
    view = kernels(lambda p, x: x * jnp.sin(p), 0.3, _random.normal(size=1000))
    assert threads(view) == [1024]


def test_values_of_an_instance_are_handed_over_to_its_threads(kernels):
    def instance(args: tuple[jax.Array, jax.Array]) -> jax.Array:
        p, x = args
        return x * long_chain(p)

    p, x = _random.normal(size=40), _random.normal(size=(40, 90))
    view = kernels(lambda p, x: lax.map(instance, (p, x)), p, x, kernel="tensor")
    assert threads(view) == [128, 3712]


def test_neighbours_without_dependence_share_a_launch(kernels):
    x = _random.normal(size=1000)
    assert threads(kernels(lambda x: (jnp.sin(x), jnp.cos(x[:500])), x)) == [1024]
    dependent = kernels(lambda x: jnp.cumsum(jnp.sin(x) * jnp.exp(x))[::-1], x)
    assert len(dependent.launches) > 1


def test_results_of_instances_are_written_where_they_belong(kernels):
    def instance(x: jax.Array) -> jax.Array:
        return jnp.cumsum(x)

    view = kernels(lambda x: lax.map(instance, x), _random.normal(size=(30, 50)), kernel="tensor")
    assert "= out0 + static_cast<std::int64_t>(i0) * 50;" in view.code
    assert view.workspace_nbytes == 0


def roll_out(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A state after many steps, and a sum over the states backwards."""

    def step(state: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        state = jnp.sin(state) + x[0]
        return state, state

    end, states = lax.scan(step, x, None, length=800)
    back, _ = lax.scan(lambda c, y: (0.5 * c + y * y.sum(), None), x, states, reverse=True)
    return end, back


def test_the_state_of_a_loop_stays_with_its_thread(kernels):
    code = kernels(lambda x: lax.map(roll_out, x), _random.normal(size=(40, 3))).code
    assert len(re.findall(r"out\d\[", code)) == 2  # copied at the end


def test_little_loops_beside_a_long_one_stay_with_their_thread(kernels):
    view = kernels(lambda x: lax.map(roll_out, x), _random.normal(size=(40, 12)))
    assert threads(view) == [128]
    assert len(re.findall(r"out\d\[", view.code)) == 2


def test_large_arrays_of_threads_are_interleaved(kernels):
    code = kernels(lambda x: lax.map(roll_out, x), _random.normal(size=(40, 3))).code
    assert re.search(r"(w\d+) = reinterpret_cast<double\*>\(ws \+ \d+\) \+ i0;", code)
    assert re.search(r"w\d+\[.* \* 40\] = ", code)


def test_many_instances_run_their_loops_themselves(kernels):
    def instance(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(x))

    view = kernels(lambda x: lax.map(instance, x), _random.normal(size=(40_000, 3)))
    assert threads(view) == [40_064]


def test_large_arrays_of_a_thread_lie_in_the_workspace(kernels):
    def instance(x: jax.Array) -> jax.Array:
        return lax.scan(lambda c, v: (jnp.flip(c) * v, c[0]), jnp.ones(3000), x)[1]

    view = kernels(lambda x: lax.map(instance, x), _random.normal(size=(20, 4)))
    assert view.workspace_nbytes >= 20 * 3000 * 8


@pytest.mark.parametrize(
    ("shapes", "groups", "size"),
    [
        (((3, 4), (4, 5)), 1, 1),
        (((20, 6), (6, 30)), 5, 128),
        (((70, 33), (33, 90)), 50, 128),
        (((300, 33), (33, 450)), 40, 256),
        (((9, 70, 33), (9, 33, 90)), 36, 256),
    ],
)
def test_products_are_divided_by_size(kernels, shapes, groups: int, size: int):
    inputs = [_random.normal(size=shape) for shape in shapes]
    view = kernels(jnp.matmul, *inputs)
    assert [(launch.groups, launch.threads) for launch in view.launches] == [(groups, size)]


@pytest.mark.parametrize("shape", [(100_003,), (7, 5000), (5000, 7), (50, 7, 90)])
@pytest.mark.parametrize("axes", [None, -1, 0])
def test_reductions_are_divided_among_threads(kernels, shape: tuple[int, ...], axes: int | None):
    view = kernels(lambda x: (jnp.sum(x, axes), jnp.max(x * 2, axes)), _random.normal(size=shape))
    assert len(view.launches) <= 6
    assert max(threads(view)) > 200


@pytest.mark.parametrize("shape", [(20_000,), (3, 7001)])
def test_running_sums_are_divided_among_threads(kernels, shape: tuple[int, ...]):
    view = kernels(lambda x: jnp.cumsum(x, -1), 1 + _random.normal(size=shape) / 100)
    assert max(threads(view)) >= math.prod(shape) // 64
    assert sum(threads(view)) >= 3 * max(threads(view)) // 2


@pytest.mark.parametrize(
    "update",
    [
        lambda x, i: x.at[1:-1].add(x[2:] - 2.0 * x[1:-1]),
        lambda x, i: x.at[::3].multiply(2.0),
        lambda x, i: x.at[i].add(x[:2000], unique_indices=True),
    ],
)
def test_scatters_to_different_places_are_divided_among_threads(kernels, update: Any):
    i = _random.permutation(4000)[:2000].astype(np.int32)
    view = kernels(update, _random.normal(size=4000), i)
    assert min(threads(view)) >= 1000


def test_scatters_to_places_that_may_coincide_are_not(kernels):
    i = _random.integers(0, 40, 2000).astype(np.int32)
    view = kernels(lambda x, i: x.at[i].add(x[:2000]), _random.normal(size=4000), i)
    assert min(threads(view)) == 1


def _swing(x: jax.Array) -> jax.Array:
    return x + 0.1 * jnp.sin(x) * x[:, ::-1]


@pytest.mark.parametrize(
    ("function", "repeats"),
    [
        (lambda x: lax.scan(lambda c, _: (_swing(c), c[:, 0]), x, None, length=7), [7]),
        (lambda x: lax.fori_loop(0, 5, lambda i, c: _swing(c) * (1 + 0.1 * i), x), [5]),
        (lambda x: lax.scan(lambda c, v: (c[::-1] * v, c), x, jnp.arange(4.0), reverse=True), [4]),
        (lambda x: lax.fori_loop(0, 4, lambda i, c: lax.fori_loop(
            0, 3, lambda j, d: _swing(d) + j, c) * i, x), [4, 3]),
        (lambda x: lax.scan(lambda c, v: ((c[0] + 1.5, _swing(c[1]) * c[0] + v), jnp.sum(c[1])),
            (jnp.asarray(0.5), x), jnp.arange(4.0)), [4]),
        (lambda x: lax.scan(lambda c, v: ((c[1] * v, c[0] + 1), None), (x, x * 2),
            jnp.arange(1, 5.0))[0], [4]),
    ],
    ids=["outputs", "counter", "reverse", "nested", "small_state", "swapped"],
)  # fmt: skip
def test_the_host_repeats_what_has_many_threads(kernels, function: Any, repeats: list[int]):
    view = kernels(function, _random.normal(size=(600, 3)))
    assert max((launch.repeats for launch in view.launches), key=len) == tuple(
        (f"h{k}", trips) for k, trips in enumerate(repeats)
    )
    assert max(threads(view)) >= 600


def test_values_for_repeated_kernels_are_handed_over_in_front_of_the_loop(kernels):
    def function(p: jax.Array, x: jax.Array) -> Any:
        expensive = long_chain(p)

        def trip(c: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            first = jnp.cumsum(jnp.sin(c) * 0.1) * 0.001
            inside = long_chain(v)

            def inner(k: jax.Array, d: jax.Array) -> jax.Array:
                return jnp.cumsum(d)[::-1] * 0.001 + d * inside * k + expensive

            return lax.fori_loop(0, 2, inner, first[::-1] * expensive + c * 0.5), first[0]

        return lax.scan(trip, x, jnp.arange(3.0))

    view = kernels(function, 0.3, _random.normal(size=700))
    assert {launch.repeats for launch in view.launches} == {
        (), (("h0", 3),), (("h0", 3), ("h1", 2)),
    }  # fmt: skip
    # Neighbours with the same loops are in one loop: none is torn apart.
    seen = [key for key, _ in itertools.groupby(launch.loops[:1] for launch in view.launches)]
    assert len(seen) == len(set(seen))


def test_stores_that_may_meet_keep_their_order(kernels):
    """The last one to an element is cheap, so an order of few registers would have it first."""

    def instance(args: tuple[jax.Array, jax.Array]) -> jax.Array:
        v, place = args
        five = [
            jnp.sin(v[0] * v[1]) * v[2],
            jnp.cos(v[1]) + v[3],
            v[0] * v[3] + jnp.exp(v[2]),
            jnp.tanh(v[2] * v[3]),
            v[0] * v[1],
        ]
        return lax.dynamic_update_slice(jnp.stack(five), v[4:5], (place,))

    v = _random.normal(size=(2000, 5))
    places = _random.integers(0, 5, 2000).astype(np.int32)
    kernels(lambda v, places: lax.map(instance, (v, places)), v, places)


def test_a_busy_lone_thread_is_warned_of():
    def roll_out(x: jax.Array) -> jax.Array:
        return lax.scan(lambda c, _: (jnp.sin(c) * 1.1, None), x, None, length=20_000)[0]

    x = np.zeros(100)
    with pytest.warns(UserWarning, match="one after the other in 1 thread of the device"):
        make_job("f", roll_out, (x,), "auto", "CUDA")
    make_job("f", lambda x: lax.map(roll_out, x), (x,), "auto", "CUDA")


def test_text_is_reproducible():
    x = _random.normal(size=(40, 30))

    def function(x: jax.Array) -> Any:
        return lax.map(lambda v: (jnp.cumsum(v), jnp.sort(v)), x), x @ x.T, jnp.sum(x)

    first, second = (make_job("f", function, (x,), "auto", "CUDA").view for _ in range(2))
    assert first == second
