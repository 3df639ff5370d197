"""Derivatives of functions against JAX's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import anvil_jax as av
from anvil_jax.errors import ArgumentError, SparsityError

_random = np.random.default_rng(5)


def quadratic(x):
    return x[0] ** 2 + x[0] * x[1] + x[1] ** 2


def pair(x):
    return jnp.stack([x[0] * x[1], x[1] ** 2])


def two_outputs(x, p):
    return {"a": jnp.outer(x, jnp.sin(x)) * p["scale"], "b": (jnp.sum(x**2), p["shift"] - x)}


PARAMETERS = {"scale": np.float64(1.5), "shift": np.array([1.0, 2.0, 3.0])}
STRUCTURES = {"scale": av.Arg(()), "shift": av.Arg(3)}


def function(fn, *specs, name="f"):
    return av.NumericalFunction(name, fn, specs)


def truth(transform, *args):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, transform(*args))


def same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        # Rounding errors of the largest entries stay where these cancel.
        largest = np.max(np.abs(w), initial=1.0)
        np.testing.assert_allclose(f, w, rtol=1e-12, atol=5e-15 * largest)


def dense(matrix):
    return matrix.toarray()


# ---- worked values ----


def test_worked_values():
    total = function(lambda x: jnp.sum(x**2), av.Arg(3), name="total")
    np.testing.assert_array_equal(av.gradient(total)(np.array([1.0, 2, 3])), [2, 4, 6])
    f = function(pair, av.Arg(2))
    np.testing.assert_array_equal(av.jacobian(f)(np.array([3.0, 4])), [[4, 3], [0, 8]])
    np.testing.assert_array_equal(dense(av.spjacobian(f)(np.array([3.0, 4]))), [[4, 3], [0, 8]])
    h = function(quadratic, av.Arg(2))
    np.testing.assert_array_equal(av.hessian(h)(np.array([3.0, 4])), [[2, 1], [1, 2]])
    np.testing.assert_array_equal(dense(av.sphessian(h)(np.array([3.0, 4]))), [[2, 1], [0, 2]])


# ---- dense ----


@pytest.mark.parametrize("argnum", [0, 1, (0, 1), (1, 0), -1])
def test_pytrees_and_argnum(argnum):
    f = function(two_outputs, av.Arg(3), STRUCTURES)
    x = _random.normal(size=3)
    positions = argnum if isinstance(argnum, tuple) else argnum % 2
    same(
        av.jacobian(f, argnum)(x, PARAMETERS),
        truth(jax.jacobian(two_outputs, positions), x, PARAMETERS),
    )


def test_gradient_and_hessian_of_pytrees():
    def energy(p, x):
        return jnp.sum(jnp.tanh(p["w"] @ x) ** 2) + jnp.exp(p["b"])

    specs = {"w": av.Arg((2, 3)), "b": av.Arg(())}
    p = {"w": _random.normal(size=(2, 3)), "b": np.float64(0.3)}
    x = _random.normal(size=3)
    f = function(energy, specs, av.Arg(3), name="energy")
    same(av.gradient(f)(p, x), truth(jax.grad(energy), p, x))
    same(av.gradient(f, (0, 1))(p, x), truth(jax.grad(energy, (0, 1)), p, x))
    same(av.hessian(f)(p, x), truth(jax.hessian(energy), p, x))
    same(av.hessian(f, (0, 1))(p, x), truth(jax.hessian(energy, (0, 1)), p, x))


def test_hessian_of_a_vector_function():
    f = function(pair, av.Arg(2))
    x = _random.normal(size=2)
    same(av.hessian(f)(x), truth(jax.hessian(pair), x))


def test_large_dense_jacobians_use_passes():
    draw = np.random.default_rng(17)
    weights = draw.normal(size=(80, 60)) / 8

    def layer(x):
        return jnp.tanh(weights @ jnp.tanh(weights.T @ x))

    f = function(layer, av.Arg(80), name="layer")
    x = draw.normal(size=80)
    same(av.jacobian(f)(x), truth(jax.jacobian(layer), x))


def test_directional():
    f = function(two_outputs, av.Arg(3), STRUCTURES)
    x, t = _random.normal(size=(2, 3))
    forward = av.jvp(f)(x, PARAMETERS, t)
    same(forward, truth(lambda x: jax.jvp(lambda x: two_outputs(x, PARAMETERS), (x,), (t,)), x))
    w = jax.tree.map(lambda v: _random.normal(size=np.shape(v)), truth(two_outputs, x, PARAMETERS))
    value, pulled = av.vjp(f, (0, 1))(x, PARAMETERS, w)
    same(value, truth(two_outputs, x, PARAMETERS))
    wanted = truth(lambda x, p: jax.vjp(two_outputs, x, p)[1](w), x, PARAMETERS)
    same(pulled, wanted)


def test_results_are_functions_again():
    f = function(lambda x: jnp.sum(jnp.sin(x) * x[::-1] ** 2), av.Arg(4))
    x = _random.normal(size=4)
    plain = f.fn
    same(av.jacobian(av.gradient(f))(x), truth(jax.hessian(plain), x))
    same(
        av.gradient(av.gradient(function(lambda x: x**3 * 2.0, av.Arg(()))))(1.5), np.float64(18.0)
    )
    same(av.jacobian(av.hessian(f))(x), truth(jax.jacfwd(jax.hessian(plain)), x))
    batched = av.vmap(av.spjacobian(av.gradient(f)), 5)
    points = _random.normal(size=(5, 4))
    matrix = av.spjacobian(av.gradient(f))
    np.testing.assert_allclose(batched(points), [matrix.values(p) for p in points], rtol=1e-13)


def test_names_and_device():
    f = function(pair, av.Arg(2), name="model")
    made = [av.jacobian(f), av.spjacobian(f), av.jvp(f), av.vjp(f)]
    assert [m.name for m in made] == ["model_jac", "model_spjac", "model_jvp", "model_vjp"]
    assert av.gradient(function(quadratic, av.Arg(2))).name == "f_grad"
    assert av.jacobian(f, name="other").name == "other"
    gpu = av.NumericalFunction("gpu", pair, (av.Arg(2),), "CUDA")
    assert {m(gpu).device for m in (av.jacobian, av.spjacobian, av.jvp, av.vjp)} == {"CUDA"}
    assert [b.name for b in av.jvp(f).input_buffers] == ["x", "d_x"]


# ---- sparse ----


def chain(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def test_rows_and_columns_of_several_leaves():
    def fn(x, n, y):
        return jnp.sin(x) * y["s"], n + 1, (y["v"][1:] * x[:2].sum(),)

    specs = (av.Arg(3), av.Arg((), "int64"), {"s": av.Arg(()), "v": av.Arg(4)})
    f = av.NumericalFunction("f", fn, specs)
    x, y = _random.normal(size=3), {"s": np.float64(2.0), "v": _random.normal(size=4)}
    jacobian = av.spjacobian(f, (0, 2))
    assert jacobian.shape == (7, 8)

    def flat(z):
        a, _, (c,) = fn(z[:3], 5, {"s": z[3], "v": z[4:]})
        return jnp.concatenate([a, jnp.zeros(1), c])

    z = np.concatenate([x, [2.0], y["v"]])
    same(dense(jacobian(x, 5, y)), truth(jax.jacobian(flat), z))


@pytest.mark.parametrize("mode", ["auto", "fwd", "rev", "both"])
def test_every_mode_gives_the_jacobian(mode):
    def fn(x):
        return jnp.concatenate([x[1:] * x[:-1] ** 2, jnp.sum(x**2)[None], 3.0 * x[:2]])

    x = _random.normal(size=12)
    made = av.spjacobian(function(fn, av.Arg(12)), mode=mode)
    assert made.nnz == 22 + 12 + 2
    same(dense(made(x)), truth(jax.jacobian(fn), x))


@pytest.mark.parametrize("mode", ["auto", "star", "acyclic"])
def test_every_mode_gives_the_hessian(mode):
    x = _random.normal(size=30)
    made = av.sphessian(function(chain, av.Arg(30)), mode=mode)
    same(dense(made(x)), np.triu(truth(jax.hessian(chain), x)))


def test_symmetric_jacobian():
    f = av.gradient(function(chain, av.Arg(9), name="chain"))
    x = _random.normal(size=9)
    made = av.spjacobian(f, symmetric=True)
    same(dense(made(x)), truth(jax.hessian(chain), x))
    with pytest.raises(SparsityError, match="not symmetric"):
        av.spjacobian(function(lambda x: x * x[0], av.Arg(3)), symmetric=True)
    with pytest.raises(ArgumentError, match="3 x 2 cannot be symmetric"):
        av.spjacobian(function(lambda x: jnp.sum(x) * jnp.ones(3), av.Arg(2)), symmetric=True)


def test_lagrangian():
    def objective(x, p):
        return jnp.sum(x**4) * p

    def constraints(x, p):
        return jnp.stack([x[0] * x[1], x[2] ** 3]), p * x[0] * x[3]

    f = function(objective, av.Arg(4), av.Arg(()), name="objective")
    g = function(constraints, av.Arg(4), av.Arg(()), name="constraints")
    x, lam = _random.normal(size=4), _random.normal(size=3)

    def lagrangian(x, factor):
        a, b = constraints(x, 0.7)
        return factor * objective(x, 0.7) + lam @ jnp.concatenate([a, b[None]])

    made = av.lagrangian_hessian(f, g)
    assert made.name == "objective_laghess"
    same(dense(made(x, 0.7, lam)), np.triu(truth(jax.hessian(lagrangian), x, 1.0)))
    scaled = av.lagrangian_hessian(f, g, objective_factor=True)
    same(dense(scaled(x, 0.7, 2.5, lam)), np.triu(truth(jax.hessian(lagrangian), x, 2.5)))
    alone = av.lagrangian_hessian(None, g)
    same(dense(alone(x, 0.7, lam)), np.triu(truth(jax.hessian(lagrangian), x, 0.0)))


def test_lagrangian_multipliers_have_the_dtype_of_what_they_multiply():
    f = av.NumericalFunction("f", lambda x: jnp.sum(x**3), (av.Arg(2, "float32"),))
    g = av.NumericalFunction("g", lambda x: x * x, (av.Arg(2, "float32"),))
    made = av.lagrangian_hessian(f, g, objective_factor=True)
    assert all(arg.dtype == "float32" for arg in (*made.inputs, *made.outputs))


@pytest.mark.parametrize("mode", ["auto", "fwd"])
def test_guards_hold(mode):
    def guarded(x):
        return 3.0 * x * jnp.where(x > 0, jnp.sqrt(x) / x, 0.0)

    x = np.array([-1.0, 0.0, 4.0, 0.25])
    wanted = truth(jax.jacfwd(guarded), x)
    assert np.isfinite(wanted).all()
    same(dense(av.spjacobian(function(guarded, av.Arg(4)), mode=mode)(x)), wanted)


def test_functions_with_solves_inside_stages():
    weights = _random.normal(size=(3, 3)) + 4.0 * np.eye(3)

    def stage(v):
        return jnp.linalg.solve(weights + jnp.outer(v, v), v**2)

    def fn(z):
        return jax.vmap(stage)(z.reshape(7, 3)).ravel()

    z = _random.normal(size=21)
    made = av.spjacobian(function(fn, av.Arg(21)))
    assert made.nnz == 63
    same(dense(made(z)), truth(jax.jacobian(fn), z))


def test_shared_work_is_emitted_once():
    f = function(lambda x: jnp.stack([jnp.sin(x[0]) * x[1], jnp.exp(x[1])]), av.Arg(2))
    jacobian = av.spjacobian(f)
    both = function(lambda x: (f.fn(x), jacobian.fn(x)), av.Arg(2), name="both")
    assert both.operations < f.operations + jacobian.operations
    assert both.kernels.count("_exp<double>(") == 1


# ---- patterns given by the user ----


def banded(x):
    return x[1:] * x[:-1]


def test_given_pattern():
    n = 8
    pattern = sp.csr_array(np.eye(n - 1, n) + np.eye(n - 1, n, 1))
    f = function(banded, av.Arg(n))
    x = _random.normal(size=n)
    for mode in ("auto", "fwd"):
        made = av.spjacobian(f, mode=mode, pattern=pattern, check=True)
        same(dense(made(x)), truth(jax.jacobian(banded), x))
    wider = np.ones((n - 1, n))
    made = av.spjacobian(f, pattern=wider, check=True)
    assert made.nnz == (n - 1) * n
    same(dense(made(x)), truth(jax.jacobian(banded), x))
    upper = np.triu(np.ones((30, 30))) * (np.abs(np.subtract.outer(range(30), range(30))) <= 1)
    hessian = av.sphessian(function(chain, av.Arg(30)), pattern=upper, check=True)
    assert hessian.nnz == 59


def test_missing_entries_are_found():
    f = function(banded, av.Arg(8))
    with pytest.raises(SparsityError, match=r"misses 7 entries.*\(0, 1\)"):
        av.spjacobian(f, pattern=np.eye(7, 8), check=True)
    with pytest.raises(SparsityError, match=r"misses 29 entries"):
        av.sphessian(function(chain, av.Arg(30)), pattern=np.eye(30), check=True)


# ---- refusals ----


def test_refusals():
    f = function(pair, av.Arg(2))
    mixed = av.NumericalFunction("mixed", lambda n, x: x * n, (av.Arg((), "int32"), av.Arg(2)))
    rounded = function(lambda x: (x, jnp.argmax(x)), av.Arg(2), name="rounded")
    every: tuple[Any, ...] = (
        av.gradient, av.jacobian, av.hessian, av.spjacobian, av.sphessian, av.jvp,
    )  # fmt: skip
    for transform in every:
        with pytest.raises(ArgumentError, match="argnum 1 is out of range"):
            transform(f, 1)
        with pytest.raises(ArgumentError, match="n has dtype int32"):
            transform(mixed, 0)
        with pytest.raises(ArgumentError, match="no input shapes"):
            transform(pair)
        with pytest.raises(ArgumentError, match="is no integer"):
            transform(f, "x")
        with pytest.raises(ArgumentError, match="different arguments"):
            transform(mixed, (1, 1))
    for transform in (av.gradient, av.sphessian):
        with pytest.raises(ArgumentError, match="one scalar floating-point output"):
            transform(f)
    for transform in (av.jacobian, av.hessian, av.vjp):
        with pytest.raises(ArgumentError, match="output 1 has dtype int64"):
            transform(rounded)
    with pytest.raises(ArgumentError, match="mode 'both' is unknown for a hessian"):
        av.sphessian(function(quadratic, av.Arg(2)), mode="both")
    with pytest.raises(ArgumentError, match=r"shape \(3, 3\), the jacobian \(2, 2\)"):
        av.spjacobian(f, pattern=np.eye(3))
    with pytest.raises(ArgumentError, match="needs the pattern"):
        av.spjacobian(f, check=True)
    with pytest.raises(ArgumentError, match="give an objective"):
        av.lagrangian_hessian(None)
    with pytest.raises(ArgumentError, match="same arguments"):
        av.lagrangian_hessian(function(quadratic, av.Arg(2)), function(pair, av.Arg(3), name="g"))
