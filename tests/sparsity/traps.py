"""Functions made to mislead a tracer, and a few that are easily got wrong."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.sparsity.programs import mlp

_SPARSE = np.where(np.diag(np.ones(12)) + np.diag(np.ones(9), 3) > 0, np.arange(12.0) - 4.5, 0.0)


# ---------------------------------------------------------------------------------- adversarial


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda primals, tangents: (straight_through(*primals), tangents[0]))


@jax.custom_jvp
def longer_arm(x):
    return x


longer_arm.defjvp(lambda primals, tangents: (primals[0], tangents[0] + jnp.roll(tangents[0], 1)))


@jax.custom_vjp
def straight_through_vjp(x):
    return jnp.round(x)


straight_through_vjp.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))


@jax.custom_vjp
def longer_arm_vjp(x):
    return x**2


longer_arm_vjp.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g + jnp.roll(g, 1),))


@jax.custom_vjp
def clipped_gradient(x):
    return jnp.sum(x**2)


clipped_gradient.defvjp(lambda x: (jnp.sum(x**2), x), lambda x, g: (jnp.clip(g * x**3, -1e3, 1e3),))


def jit_reused(x):
    """One jitted function, first with a constant zero, then with data."""
    scale = jax.jit(lambda a, b: a * b)
    return jnp.concatenate([scale(x, jnp.zeros_like(x)), scale(x, x)])


def stop_gradient_partly(x):
    return x * lax.stop_gradient(jnp.sum(x))


def zeroth_power(x):
    return x ** np.array([0, 1, 2, 0, 3])


def zeroth_float_power(x):
    return jnp.abs(x) ** np.array([0.0, 1.0, 2.5, 0.0, 3.0])


def masked(x):
    mask = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    return mask * jnp.cumsum(x) + (1 - mask) * x


def where_constant(x):
    return jnp.where(np.arange(6) % 2 == 0, x[::-1], x * x)


def integer_detour(x):
    return x.astype(int).astype(float) * x + jnp.floor(x)


def mixed_outputs(x):
    return jnp.argmax(x), x[:2] * x[1:3], x > 0, jnp.sum(x)


def sort_rows(x):
    return jnp.sort(x, axis=1)


def cancelling(x):
    """Terms that cancel in exact arithmetic, and terms that cancel always."""
    return jnp.concatenate([(0.1 * x + 0.2 * x) - 0.3 * x, 2 * x[:2]])


def mixed_shapes(x, y, z):
    return x[:, None] * y[None, :] + z


def reused_row(x):
    return jnp.outer(jnp.array([1.0, 0.0, 2.0]), x)


def constant_linear(z):
    a, b = z[:6].reshape(2, 3), z[6:]
    return jnp.concatenate(
        [(np.arange(8.0).reshape(4, 2) @ a).reshape(-1) / 6, jnp.sum(b)[None], 0.02 * b]
    )


def float32_network(x):
    return jnp.sin(x[1:]) * jnp.float32(0.1) + jnp.roll(x, 2)[:-1] * jnp.float32(0.3)


def tanh_energy(x):
    return jnp.sum(jnp.tanh(x[1:] * x[:-1]))


def mlp_energy(x):
    return jnp.sum(mlp(x[:5]) ** 2) + jnp.sum(x[5:] ** 4)


def sum_of_sines(x):
    return jnp.sum(jnp.sin(x))


def quadratic(x):
    return x @ _SPARSE @ x + jnp.sum(x)


def log_sum_exp_blocks(x):
    return jnp.sum(jax.nn.logsumexp(x.reshape(-1, 3), axis=1))


def scan_energy(x):
    return lax.scan(lambda c, u: (u, jnp.sin(c * u)), x[0], x[1:])[1].sum()
