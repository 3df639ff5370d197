"""Maps found in functions, against the functions themselves."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

from anvil_jax.sparsity.maps import Split, recompose, split_maps
from tests.sparsity.functions import FUNCTIONS, Function
from tests.sparsity.mapped import CASES, Case, constrained, rk4, shooting_interleaved, two_layers


def traced(fn, *inputs):
    with jax.enable_x64(True):
        return jax.make_jaxpr(lambda *args: jax.tree.leaves(fn(*args)))(*inputs)


def points(shapes, dtype="float64"):
    rng = np.random.default_rng(1)
    return [rng.uniform(0.2, 1.0, s).astype(dtype) for s in shapes]


def found(case: Case, n: int) -> Split:
    split = split_maps(traced(case.fn, *points(case.shapes(n))), case.wrt)
    assert split is not None
    return split


def agrees(split: Split, fn, inputs, tolerance=1e-12):
    with jax.enable_x64(True):
        expected = jax.jit(lambda *args: jax.tree.leaves(fn(*args)))(*inputs)
        results = jax.jit(recompose(split))(*inputs)
    for a, b in zip(results, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def walk(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from walk(inner)


def largest(jaxpr):
    return max(v.aval.size for eqn in walk(jaxpr) for v in eqn.outvars)


def shape_of(split: Split):
    """Everything about the bodies that may not depend on the horizon."""
    return [
        ([a.str_short() for a in r.body.in_avals], [e.primitive.name for e in walk(r.body)])
        for r in split.regions
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_finds_maps(case: Case) -> None:
    first, second = (found(case, n) for n in (case.size, 2 * case.size))
    for split, n in ((first, case.size), (second, 2 * case.size)):
        assert sorted(r.trips for r in split.regions) == sorted(case.trips(n))
        assert max(largest(r.body) for r in split.regions) <= case.instance
    assert shape_of(first) == shape_of(second)
    agrees(first, case.fn, points(case.shapes(case.size)))


# ------------------------------------------------------------------------------- no maps


def single_shooting(x0, us):
    return lax.scan(lambda x, u: (rk4(x, u, 0.1),) * 2, x0, us)[1]


def chain_of_stencils(u):
    for _ in range(2):
        u = jnp.sin(jnp.roll(u, 1)) * u
    return u


def normalised(x):
    return jnp.exp(x) / jnp.sum(jnp.exp(x))


def log_sum(x):
    return jnp.log(jnp.sum(jnp.exp(x)))


def prefix_products(x):
    return jnp.cumprod(x)


NO_MAPS = [
    ("single_shooting", single_shooting, ((2,), (30, 1))),
    ("chain_of_stencils", chain_of_stencils, ((20,),)),
    ("normalised", normalised, ((20,),)),
    ("log_sum", log_sum, ((20,),)),
    ("prefix_products", prefix_products, ((20,),)),
    ("short", jnp.sin, ((3,),)),
    ("affine", lambda x: 2 * x + 1, ((20,),)),
    ("data_dependent_index", lambda x: x[jnp.argmax(x)] * x, ((20,),)),
    ("sorted", lambda x: jnp.sort(x) * 2, ((20,),)),
]


@pytest.mark.parametrize(("name", "fn", "shapes"), NO_MAPS, ids=[n for n, _, _ in NO_MAPS])
def test_refuses(name: str, fn, shapes) -> None:
    assert split_maps(traced(fn, *points(shapes)), range(len(shapes))) is None


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_never_wrong(function: Function) -> None:
    inputs = points(function.shapes, function.dtype)
    split = split_maps(traced(function.fn, *inputs), range(len(inputs)))
    if split is not None:
        agrees(split, function.fn, inputs, 1e-12 if function.dtype == "float64" else 1e-5)


def test_own_derivatives_survive() -> None:
    """Also those that a function defines itself."""
    inputs = points(((9, 2), (8, 1)))
    with jax.enable_x64(True):
        split = split_maps(traced(two_layers, *inputs), (0, 1))
        assert split is not None
        for transformation in (jax.jacfwd, jax.jacrev):
            expected = jax.jit(transformation(two_layers))(*inputs)
            results = jax.jit(transformation(lambda *x: recompose(split)(*x)[0]))(*inputs)
            np.testing.assert_allclose(results, expected, rtol=1e-12, atol=1e-12)


def test_quadrotor_is_fast() -> None:
    jaxpr = traced(shooting_interleaved, *points(((100 * 17 + 13,), (13,))))
    split_maps(jaxpr, (0,))
    begin = time.process_time()
    split_maps(jaxpr, (0,))
    assert time.process_time() - begin < 0.3


def test_names_do_not_depend_on_the_hash_seed() -> None:
    jaxpr = traced(constrained, *points(((21, 2), (20, 1))))
    first, second = (split_maps(jaxpr, (0, 1)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert str(first.epilogue) == str(second.epilogue)
    assert [str(r.body) for r in first.regions] == [str(r.body) for r in second.regions]
