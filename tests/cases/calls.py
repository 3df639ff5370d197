"""Primitives that call another function."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from tests.cases.case import Data, case

_data = Data(7)


@jax.custom_jvp
def _softplus(x):
    return jnp.log1p(jnp.exp(x))


_softplus.defjvp(lambda p, t: (_softplus(*p), lax.logistic(p[0]) * t[0]))


@jax.custom_vjp
def _clipped(x):
    return jnp.sin(x) * 2


_clipped.defvjp(lambda x: (_clipped(x), x), lambda x, g: (jnp.clip(g, -1, 1) * jnp.cos(x),))


@jax.custom_batching.custom_vmap
def _batched(x):
    return x * 3


@_batched.def_vmap
def _(size, batched, x):
    return x * 3, batched[0]


def _solve(matrix, b):
    return lax.custom_linear_solve(
        lambda v: matrix @ v,
        b,
        lambda _, b: b / jnp.diag(matrix),
        lambda _, b: b / jnp.diag(matrix),
    )


@jax.jit
def _inner(x, y):
    return jnp.sin(x) * y, x + y


_twice = lax.composite(lambda x: x * 2, name="anvil.twice")
_X = _data.normal(7)

CASES = (
    case("jit", lambda x: _inner(x, x * 2), _X),
    case("jit_twice", lambda x: _inner(*_inner(x, x * 2)), _X),
    case("jit_in_jit", jax.jit(lambda x: jax.jit(lambda y: _inner(y, x)[0])(x * 2)), _X),
    case("jit_unused_result", lambda x: _inner(x, 3.0)[1], _X),
    case("jit_same_result", lambda x: jax.jit(lambda y: (y, y, x))(x), _X),
    case("jit_of_constant", lambda x: x + jax.jit(lambda: jnp.arange(7.0))(), _X),
    case("custom_jvp", lambda x: (_softplus(x), jax.jvp(_softplus, (x,), (x * 2,))), _X),
    case("custom_vjp", lambda x: (_clipped(x), jax.vjp(_clipped, x)[1](x * 9)[0]), _X),
    case("custom_vmap", lambda x: (_batched(x), jax.vmap(_batched)(x)), _X),
    case("checkpoint", lambda x: (jax.checkpoint(jnp.sin)(x), jax.grad(lambda x: jax.checkpoint(lambda y: jnp.sin(jnp.sin(y)))(x).sum())(x)), _X),
    case("checkpoint_name", lambda x: checkpoint_name(jnp.sin(x), "here") * 2, _X),
    case("composite", lambda x: _twice(x) + 1, _X),
    case("custom_linear_solve", lambda a, b: _solve(a, b), np.diag(_data.normal(4) + 3), _data.normal(4)),
    case("custom_linear_solve_gradient", lambda a, b: jax.grad(lambda b: _solve(a, b).sum())(b), np.diag(_data.normal(4) + 3), _data.normal(4)),
    case("named_call", lambda x: jax.named_call(jnp.cos, name="named")(x), _X),
    case("stop_gradient", lambda x: (lax.stop_gradient(x) * 2, jax.grad(lambda x: (lax.stop_gradient(x) * x).sum())(x)), _X),
    case("optimization_barrier", lambda x: lax.optimization_barrier((jnp.sin(x), x))[0] * 2, _X),
    case("linear_call", lambda x: jax.custom_derivatives.linear_call(lambda r, v: v * r, lambda r, v: v * r, 2.0, x), _X),
    case("device_put", lambda x: jax.device_put(x * 2) + 1, _X),
    case("vmap_of_jit", jax.vmap(lambda x: _inner(x, x)[0]), _data.normal(5, 9)),
    case("relu", lambda x: (jax.nn.relu(x), jax.nn.gelu(x), jax.nn.silu(x), jax.nn.softplus(x), jax.nn.elu(x)), _X),
    case("gradients", lambda x: (jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2))(x), jax.jacfwd(jnp.sin)(x), jax.jacrev(lambda x: x[::-1] * x)(x)), _X),
    case("hessian", jax.hessian(lambda x: jnp.sum(jnp.sin(x) * x[::-1])), _X),
    case("linearize", lambda x: jax.linearize(lambda x: jnp.sin(x) * x, x)[1](x + 1), _X),
)  # fmt: skip
