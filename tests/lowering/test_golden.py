"""The text of generated kernels, one per shape that code can take.

A difference here is a change of what users read in their C++; numbers are judged elsewhere.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av

WEIGHTS = np.arange(48 * 32, dtype=np.float64).reshape(48, 32) % 7 - 3


def scalar(x: jax.Array) -> jax.Array:
    """Straight-line code: shared subexpressions, sine and cosine of one angle together."""
    sine, cosine = jnp.sin(x[0]), jnp.cos(x[0])
    return jnp.stack([sine * x[1] - cosine, cosine * x[1] + sine, -sine])


def tensor(x: jax.Array) -> jax.Array:
    """A captured matrix, a blocked product, one loop."""
    return jnp.tanh(WEIGHTS @ x)


def scan(x: jax.Array, us: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A loop whose state swaps places."""

    def trip(state: tuple[jax.Array, jax.Array], u: jax.Array) -> tuple[Any, jax.Array]:
        a, b = state
        return (b + u, a), a

    (a, b), history = jax.lax.scan(trip, (x[0], x[1]), us)
    return a - b, history


def newton(a: jax.Array) -> jax.Array:
    """A loop with a test."""
    return jax.lax.while_loop(lambda x: jnp.abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a)


def branches(k: jax.Array, x: jax.Array) -> jax.Array:
    """Branches that are worth skipping."""
    return jax.lax.switch(
        k, [lambda v: jnp.exp(v) / jnp.cosh(v), lambda v: jnp.sin(v) * v, lambda v: v], x
    )


def scatter(x: jax.Array, i: jax.Array) -> jax.Array:
    """An update at a computed place, out-of-range ones dropped."""
    return x.at[i].add(1.0)


CASES: dict[str, tuple[Callable[..., Any], tuple[av.Arg, ...]]] = {
    "scalar": (scalar, (av.Arg(2),)),
    "tensor": (tensor, (av.Arg(32),)),
    "scan": (scan, (av.Arg(2), av.Arg(500))),
    "newton": (newton, (av.Arg(()),)),
    "branches": (branches, (av.Arg((), np.int32), av.Arg(5))),
    "scatter": (scatter, (av.Arg(100), av.Arg(70, np.int32))),
}


@pytest.mark.parametrize("name", CASES)
def test_kernels(name: str, compare_golden: Callable[[str, str], None]):
    function, inputs = CASES[name]
    compare_golden(f"kernels/{name}.txt", av.NumericalFunction(name, function, inputs).kernels)


def batch(x: jax.Array) -> jax.Array:
    """One instance per thread, whose stores are exchanged."""
    return jax.lax.map(lambda v: jnp.stack([v[0] * v[1], jnp.sin(v[2]), v[0] - v[2]]), x)


def maximum(x: jax.Array) -> jax.Array:
    """A reduction that threads share out."""
    return jnp.max(x)


DEVICE_CASES: dict[str, tuple[Callable[..., Any], tuple[av.Arg, ...]]] = {
    "batch": (batch, (av.Arg((2000, 3), "float32"),)),
    "maximum": (maximum, (av.Arg(10_000, "float32"),)),
    "product": (jnp.matmul, (av.Arg((500, 40), "float32"), av.Arg((40, 360), "float32"))),
}


@pytest.mark.parametrize("device", ["CUDA", "METAL"])
@pytest.mark.parametrize("name", DEVICE_CASES)
def test_device_kernels(name: str, device: Any, compare_golden: Callable[[str, str], None]):
    function, inputs = DEVICE_CASES[name]
    text = av.NumericalFunction(name, function, inputs, device).kernels
    compare_golden(f"kernels/{name}_{device.lower()}.txt", text)
