"""Batching against jax.vmap."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax.emit.views import DeviceFunctionView
from anvil_jax.errors import ArgumentError

_random = np.random.default_rng(6)


def model(x, p):
    return jnp.sin(x) * p["k"], {"total": jnp.sum(x**2) + p["b"]}


SPECS = (av.Arg(3), {"k": av.Arg(3), "b": av.Arg(())})


def same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.shape(f) == np.shape(w)
        np.testing.assert_allclose(f, w, rtol=1e-13)


def truth(fn, *args):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, fn(*args))


def parameters(size):
    return {"k": _random.normal(size=(size, 3)), "b": _random.normal(size=size)}


def test_several_outputs_and_pytrees():
    f = av.NumericalFunction("model", model, SPECS)
    x, p = _random.normal(size=(7, 3)), parameters(7)
    batched = av.vmap(f, 7)
    assert av.svmap is av.vmap
    assert batched.name == "model_vmap"
    same(batched(x, p), truth(jax.vmap(model), x, p))


def test_shared_arguments_and_axes():
    f = av.NumericalFunction("model", model, SPECS)
    one = {"k": _random.normal(size=3), "b": np.float64(0.5)}
    x = _random.normal(size=(3, 4))
    found = av.vmap(f, 4, in_axes=(1, None), out_axes=(1, 0))(x, one)
    wanted = truth(jax.vmap(model, in_axes=(1, None), out_axes=(1, 0)), x, one)
    same(found, wanted)
    same(av.vmap(f, 4, in_axes=(-1, None), out_axes=(-1, -1))(x, one), wanted)


def test_large_functions_are_batched_by_operation():
    weights = _random.normal(size=(90, 80))

    def layer(x):
        return jnp.tanh(weights @ x)

    f = av.NumericalFunction("layer", layer, (av.Arg(80),))
    x = _random.normal(size=(6, 80))
    same(av.vmap(f, 6)(x), truth(jax.vmap(layer), x))


def test_batches_of_batches_and_derivatives():
    f = av.NumericalFunction("f", lambda x: jnp.sum(jnp.sin(x) ** 2), (av.Arg(3),))
    x = _random.normal(size=(2, 5, 3))
    same(av.vmap(av.vmap(f, 5), 2)(x), truth(jax.vmap(jax.vmap(f.fn)), x))
    same(av.vmap(av.hessian(f), 5)(x[0]), truth(jax.vmap(jax.hessian(f.fn)), x[0]))
    batched = av.vmap(f, 5)
    same(av.jacobian(batched)(x[0]), truth(jax.jacobian(jax.vmap(f.fn)), x[0]))
    assert av.spjacobian(batched).nnz == 15


def test_code_does_not_grow_with_the_batch():
    f = av.NumericalFunction("f", lambda x: jnp.sin(x) @ x, (av.Arg(3),))
    small, large = (len(av.vmap(f, size).kernels) for size in (100, 100_000))
    assert large - small < 40


@pytest.mark.parametrize("size", [0, 1, 3, 4, 9])
def test_any_number_of_instances(size):
    f = av.NumericalFunction("model", model, SPECS)
    dynamic = av.dvmap(f, in_axes=(1, 0), out_axes=(1, 0), chunk=4)
    x, p = _random.normal(size=(3, size)), parameters(size)
    found = dynamic(x, p)
    if size:
        same(found, truth(jax.vmap(model, in_axes=(1, 0), out_axes=(1, 0)), x, p))
    else:
        assert found[0].shape == (3, 0)
        assert found[1]["total"].shape == (0,)
    assert "4 instances" in repr(dynamic)
    assert dynamic.function.name == "model_dvmap"


def test_refusals():
    f = av.NumericalFunction("f", lambda x, y: x * y, (av.Arg(3), av.Arg(3)))
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 2.5}, "no integer"),
        ({"batch_size": 2, "in_axes": (0,)}, "1 entries, the function 2 arguments"),
        ({"batch_size": 2, "in_axes": None}, "at least one argument"),
        ({"batch_size": 2, "in_axes": 3}, "out of range for an array of rank 1"),
        ({"batch_size": 2, "out_axes": (0, 0)}, "2 entries, the function 1 outputs"),
        ({"batch_size": 2, "out_axes": 2}, "out of range"),
    )
    for options, message in refused:
        with pytest.raises(ArgumentError, match=message):
            av.vmap(f, **options)
    plain: Any = model
    with pytest.raises(ArgumentError, match="no input shapes"):
        av.vmap(plain, 3)
    with pytest.raises(ArgumentError, match="different numbers"):
        av.dvmap(f)(np.zeros((2, 3)), np.zeros((3, 3)))


def test_on_a_gpu_loops_and_scalar_code_are_batched_by_thread():
    def roll_out(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c) * 1.1, c), x, None, length=100_000)[0]

    f = av.NumericalFunction("roll_out", roll_out, (av.Arg(3),), "CUDA")
    view = av.vmap(f, 2000).view
    assert isinstance(view, DeviceFunctionView)
    (launch,) = view.launches
    assert launch.groups * launch.threads >= 2000
    weights = np.ones((64, 64))
    f = av.NumericalFunction(
        "network", lambda x: jnp.tanh(weights @ x) @ weights, (av.Arg(64),), "CUDA"
    )
    assert "contract_tiles" in av.vmap(f, 4096).kernels
