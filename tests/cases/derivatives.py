"""Sparse derivatives inside functions: eliminated, in blocks, by coloured passes, batched."""

# ruff: noqa: E501 - a case is one line

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import anvil_jax as av
from tests.cases.case import Data, case

_data = Data(31)
_WEIGHTS = _data.normal(6, 6)


def _quotients(x):
    return jnp.stack([x[0] / x[1], jnp.sin(x[1] * x[2]), jnp.sqrt(x[2] + 3.0) * x[0], x[3] ** 3])


def _guarded(x):
    return jnp.where(x > 0.5, jnp.sqrt(jnp.where(x > 0.5, x - 0.5, 1.0)), 0.0) * x[::-1]


def _step(x, u):
    moved = x + 0.1 * jnp.stack(
        [x[1], jnp.sin(x[0]) - 0.2 * x[1] * x[2] + u[0], u[1] * jnp.cos(x[2])]
    )
    return moved / (1.0 + 0.01 * x @ x)


def _shooting(z, start):
    """6 stages of (3 states, 2 controls) and a last state."""
    stages = z[:30].reshape(6, 5)
    x, u = stages[:, :3], stages[:, 3:]
    following = jnp.concatenate([x[1:], z[None, 30:]])
    defects = jax.vmap(_step)(x, u) - following
    return jnp.concatenate([x[0] - start, defects.ravel()])


def _mapped(z):
    return lax.map(lambda w: jnp.stack([w[0] * w[1], jnp.exp(w[0]), w[1] - w[0]]), z.reshape(8, 2))


def _chain(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _stencil(u):
    around = jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1)
    return around - 4.0 * u + u**2 * jnp.exp(-u)


def _arrow(x):
    return jnp.concatenate([jnp.sum(x**2)[None], x[1:] ** 2 * x[0]])


def _network(x):
    return jnp.tanh(_WEIGHTS @ jnp.tanh(_WEIGHTS @ x)) @ _WEIGHTS


def _swept(x):
    return lax.fori_loop(0, 300, lambda k, v: v + 0.01 * jnp.sin(v) * jnp.roll(v, 1), x)


@jax.custom_jvp
def _doubled(x):
    return x**2


_doubled.defjvp(lambda p, t: (_doubled(p[0]), 3.0 * p[0] * t[0]))


@jax.custom_vjp
def _tripled(x):
    return x**3


_tripled.defvjp(lambda x: (x**3, x), lambda x, g: (5.0 * x * g,))


@jax.custom_vjp
def _cubed(x):
    return x**3


_cubed.defvjp(lambda x: (x**3, x), lambda x, g: (3.0 * x**2 * g,))


def _lazily(make):
    """The JAX function of a derivative that is made at the first call: importing stays cheap."""
    made = functools.cache(make)
    return lambda *args: made().fn(*args)


def _function(fn, shapes, dtype: Any = np.float64):
    return av.NumericalFunction("f", fn, tuple(av.Arg(s, dtype) for s in shapes))


def _jacobian(fn, *shapes, dtype: Any = np.float64, **options):
    return _lazily(lambda: av.spjacobian(_function(fn, shapes, dtype), **options))


def _hessian(fn, *shapes, **options):
    return _lazily(lambda: av.sphessian(_function(fn, shapes), **options))


def _lagrangian(fn, *shapes):
    return _lazily(lambda: av.lagrangian_hessian(None, _function(fn, shapes)))


def _value_and_jacobian(x):
    return _quotients(x), _jacobian(_quotients, 4)(x)


_X4 = _data.uniform(0.2, 1.5, 4)
_X6 = _data.uniform(-1.0, 1.5, 6)
_Z = _data.normal(33)
_START = _data.normal(3)
_U = _data.normal(6, 6)

CASES = (
    case("jacobian", _jacobian(_quotients, 4), _X4),
    case("jacobian guarded", _jacobian(_guarded, 6), _X6),
    case("jacobian network", _jacobian(_network, 6), _X6),
    case("jacobian fwd", _jacobian(_quotients, 4, mode="fwd"), _X4),
    case("jacobian rev", _jacobian(_quotients, 4, mode="rev"), _X4),
    case("jacobian both", _jacobian(_arrow, 9, mode="both"), _data.normal(9)),
    case("jacobian shooting", _jacobian(_shooting, 33, 3), _Z, _START),
    case("jacobian lax.map", _jacobian(_mapped, 16), _data.normal(16)),
    case("jacobian stencil", _jacobian(_stencil, (6, 6)), _U),
    case("jacobian arrow", _jacobian(_arrow, 40), _data.normal(40)),
    case("jacobian of a loop", _jacobian(_swept, 5), _data.normal(5)),
    case("jacobian custom_jvp", _jacobian(lambda x: _doubled(x) * x[0], 4), _X4),
    case("jacobian custom_vjp", _jacobian(lambda x: _tripled(x) * x[0], 4), _X4),
    case("jacobian float32", _jacobian(_quotients, 4, dtype=np.float32), _X4.astype(np.float32)),
    case("jacobian without entries", _jacobian(lambda x: jnp.round(x), 4), _X4),
    case("hessian", _hessian(lambda x: jnp.sum(_quotients(x)), 4), _X4),
    case("hessian network", _hessian(lambda x: jnp.sum(_network(x)), 6), _X6),
    case("hessian chain", _hessian(_chain, 40), _data.normal(40)),
    case("hessian star", _hessian(_chain, 20, mode="star"), _data.normal(20)),
    case("hessian acyclic", _hessian(_chain, 20, mode="acyclic"), _data.normal(20)),
    case("hessian custom_jvp", _hessian(lambda x: jnp.sum(_doubled(x) * x[0]), 4), _X4),
    case("hessian custom_vjp", _hessian(lambda x: jnp.sum(_cubed(x) * x[0]), 4), _X4),
    case("hessian of a loop", _hessian(lambda x: jnp.sum(_swept(x)), 4), _X4),
    case("hessian shooting", _lagrangian(_shooting, 33, 3), _Z, _START, _data.normal(21)),
    case("with the value", _value_and_jacobian, _X4),
    case("vmapped", jax.vmap(_jacobian(_quotients, 4)), _data.uniform(0.2, 1.5, 7, 4)),
    case("differentiated", jax.jacfwd(_jacobian(_quotients, 4)), _X4),
    case("in a loop", lambda x: lax.fori_loop(0, 3, lambda _, v: v + 0.1 * jnp.sum(_jacobian(_quotients, 4)(v)), x), _X4),
)  # fmt: skip
