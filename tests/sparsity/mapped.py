"""Functions that are maps, for `test_maps`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.models import step

NX, NU = 13, 4


@dataclass(frozen=True)
class Case:
    """One function for every size.

    Attributes:
        name: unique.
        fn: the function.
        shapes: of its inputs, by size n.
        trips: of its regions, by size n; one trip for what is computed once.
        instance: elements of an instance's largest value may not exceed this.
        wrt: the differentiated inputs.
        size: the smaller of the two sizes that are compared.
    """

    name: str
    fn: Callable[..., Any]
    shapes: Callable[[int], tuple[tuple[int, ...], ...]]
    trips: Callable[[int], tuple[int, ...]]
    instance: int = 1
    wrt: tuple[int, ...] = (0,)
    size: int = 18


# -------------------------------------------------------------------------------- shooting


def stages(z, width=NX + NU):
    n = z.shape[0] // width
    inner = z[: n * width].reshape(n, width)
    xs = jnp.concatenate([inner[:, :NX], z[None, n * width :]])
    return xs, inner[:, NX:]


def shooting_interleaved(z, x0):
    xs, us = stages(z)
    defects = jax.vmap(step)(xs[:-1], us) - xs[1:]
    return jnp.concatenate([x0 - xs[0], defects.ravel()])


def pendulum(x, u, length=1.0):
    return jnp.stack([x[1], -jnp.sin(x[0]) / length + u[0] * jnp.cos(x[0])])


def rk4(x, u, h):
    k1 = pendulum(x, u)
    k2 = pendulum(x + h / 2 * k1, u)
    k3 = pendulum(x + h / 2 * k2, u)
    k4 = pendulum(x + h * k3, u)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def pendulum_step(x, u):
    return rk4(x, u, 0.1)


def shooting_blocks(z, x0):
    n = (z.shape[0] - 2) // 3
    xs, us = z[: 2 * n + 2].reshape(n + 1, 2), z[2 * n + 2 :].reshape(n, 1)
    return jnp.concatenate([xs[0] - x0, jnp.ravel(jax.vmap(pendulum_step)(xs[:-1], us) - xs[1:])])


def shooting_inputs(xs, us):
    return jax.vmap(pendulum_step)(xs[:-1], us) - xs[1:], xs[0]


def shooting_by_map(xs, us):
    return lax.map(lambda xu: pendulum_step(*xu), (xs[:-1], us)) - xs[1:]


def shooting_by_scan(xs, us):
    def body(carry, xu):
        x, u, following = xu
        return carry, following - pendulum_step(x, u)

    return lax.scan(body, None, (xs[:-1], us, xs[1:]))[1]


def shooting_with_delay(xs, us):
    def body(x, following_and_u):
        following, u = following_and_u
        return following, following - pendulum_step(x, u)

    return lax.scan(body, xs[0], (xs[1:], us))[1]


def collocation(xs, us):
    """Hermite-Simpson; the dynamics at the nodes are used at both ends of the intervals."""
    h, us = 0.1, jnp.concatenate([us, us[-1:]])
    f = jax.vmap(pendulum)(xs, us)
    middle = (xs[:-1] + xs[1:]) / 2 + h / 8 * (f[:-1] - f[1:])
    slope = f[:-1] + 4 * jax.vmap(pendulum)(middle, (us[:-1] + us[1:]) / 2) + f[1:]
    return xs[1:] - xs[:-1] - h / 6 * slope


def time_varying(xs, us):
    times = jnp.arange(us.shape[0]) * 0.1
    return jax.vmap(lambda t, x, u: jnp.cos(t * x[0]) * u + x)(times, xs[:-1], us)


def costs_in_a_scan(xs, us):
    def body(state, xu):
        cost, k = state
        x, u = xu
        return (cost - k * jnp.sum(x**2) * jnp.exp(u[0]), k + 1), pendulum_step(x, u)

    (cost, count), following = lax.scan(body, (1.0, 0), (xs[:-1], us), reverse=True)
    return cost * count, following - xs[1:]


@jax.custom_vjp
def own_rule(x):
    return jnp.sin(x[0]) * x[1]


own_rule.defvjp(lambda x: (own_rule(x), x), lambda x, g: (g * x,))


def with_remainder(xs, us):
    def body(state):
        return state[0] * 1.1, state[1] + state[0] ** 2 + 1

    grown = lax.while_loop(lambda s: s[1] < 3.0, body, (xs[-1, 0], 0.0))[0]
    return collocation(xs, us), own_rule(xs[-1]), grown


def huber(xs, us):
    r = (jax.vmap(pendulum_step)(xs[:-1], us) - xs[1:]).ravel()
    return jnp.sum(jnp.where(jnp.abs(r) < 1, 0.5 * r**2, jnp.abs(r) - 0.5))


def quadratic_costs(xs, us):
    weights = jnp.array([[1.0, 0.5], [0.5, 2.0]])
    return jnp.einsum("ni,ij,nj->", xs, weights, xs) + jnp.trace(us.T @ us)


def free_time(xs, us, duration):
    n = us.shape[0]
    return jax.vmap(rk4, in_axes=(0, 0, None))(xs[:-1], us, duration / n) - xs[1:]


def stage_parameters(xs, us, lengths):
    return xs[:-1] + 0.1 * jax.vmap(pendulum)(xs[:-1], us, lengths) - xs[1:]


def substeps(xs, us):
    def many(x, u):
        return lax.fori_loop(0, 4, lambda _, y: rk4(y, u, 0.02), x)

    return jax.vmap(many)(xs[:-1], us) - xs[1:]


def substeps_with_table(xs, us):
    table = jnp.linspace(0.5, 1.0, 3)

    def many(x, u):
        def body(y, w):
            return y + w * pendulum(y, u), y[0]

        x, path = lax.scan(body, x, table)
        return x + path.sum()

    return jax.vmap(many)(xs[:-1], us) - xs[1:]


def indexed_map(xs, us):
    return lax.map(lambda k: rk4(xs[k], us[k], 0.1) - xs[k + 1], jnp.arange(us.shape[0]))


def indexed_vmap(xs, us):
    return jax.vmap(lambda k: rk4(xs[k], us[k], 0.1) - xs[k + 1])(jnp.arange(us.shape[0]))


def time_major_last(xs, us):
    return jax.vmap(lambda x, u: rk4(x, u, 0.1), in_axes=1, out_axes=1)(xs[:, :-1], us) - xs[:, 1:]


def shared_physics(xs, us, theta):
    def f(x, u):
        return jnp.stack([x[1] * jnp.sin(theta), -jnp.sin(x[0]) * jnp.cos(theta) + u[0]])

    return xs[:-1] + 0.1 * jax.vmap(f)(xs[:-1], us) - xs[1:]


def constrained(xs, us):
    dynamics = jax.vmap(lambda x, u: rk4(x, u, 0.1))(xs[:-1], us) - xs[1:]
    path = jax.vmap(lambda x: x[0] ** 2 + jnp.cos(x[1]))(xs)
    terminal = xs[-1, 0] * xs[-1, 1] + jnp.exp(xs[-1, 0])
    return dynamics.ravel(), path, terminal


def lagrangian(xs, us, multipliers):
    costs = jax.vmap(lambda x, u: x @ x + 0.1 * u[0] ** 2)(xs[:-1], us)
    defects = jax.vmap(lambda x, u: rk4(x, u, 0.1))(xs[:-1], us) - xs[1:]
    return jnp.sum(costs) + jnp.vdot(multipliers, defects) + jnp.sum(xs[-1] ** 4)


def lagrangian_flat(xs, us, multipliers):
    defects = jax.vmap(lambda x, u: rk4(x, u, 0.1))(xs[:-1], us) - xs[1:]
    return multipliers.ravel() @ defects.ravel()


def summed_in_a_loop(xs, us):
    def body(k, total):
        return total + jnp.cos(xs[k, 0]) * us[k, 0] ** 2

    return lax.fori_loop(0, us.shape[0], body, 0.0)


def least_squares(xs, us):
    defects = jax.vmap(lambda x, u: rk4(x, u, 0.1))(xs[:-1], us) - xs[1:]
    return 0.5 * jnp.sum(defects**2)


def flat_least_squares(xs, us):
    defects = jax.vmap(lambda x, u: rk4(x, u, 0.1))(xs[:-1], us) - xs[1:]
    residual = jnp.concatenate([defects.ravel(), xs[0] - 1.0])
    return 0.5 * residual @ residual


_states = np.random.default_rng(0).normal(size=(3, 2))


def network(xs, us):
    def f(x, u):
        return jnp.tanh(jnp.concatenate([x, u]) @ _states) @ jnp.tanh(_states[:2])

    return xs[:-1] + jax.vmap(f)(xs[:-1], us) - xs[1:]


def two_layers(xs, us):
    def f(x, u):
        hidden = jax.nn.softplus(_states @ x + u)
        return jnp.tanh(hidden) @ jax.nn.relu(hidden) * x

    return jax.vmap(f)(xs[:-1], us) - xs[1:]


def implicit(xs, us):
    def f(x, u):
        matrix = jnp.array([[2.0 + jnp.cos(x[0]), x[1]], [0.1, 2.0 + u[0] ** 2]])
        return jnp.linalg.solve(matrix, x)

    return jax.vmap(f)(xs[:-1], us) - xs[1:]


def branches(xs, us, flag):
    def f(x, u):
        return lax.cond(flag > 0, lambda x: jnp.sin(x) * u, lambda x: x * x[0], x)

    return jax.vmap(f)(xs[:-1], us) - xs[1:]


def choices(xs, us):
    def f(x, u):
        grown = x.at[0].multiply(u[0])
        limited = jnp.clip(grown, -1.0, 1.0)
        ordered = jnp.sort(limited)[::-1]
        picked = jnp.take(x, jnp.argmax(x))
        padded = jnp.pad(ordered * picked, (1, 0))
        return jnp.where(x > 0, padded[:2], jnp.cumsum(x * x)) + jnp.max(x)

    return jax.vmap(f)(xs[:-1], us) - xs[1:]


def batched_matrices(xs, us):
    def f(x, u):
        rotation = jnp.array([[jnp.cos(u[0]), -jnp.sin(u[0])], [jnp.sin(u[0]), jnp.cos(u[0])]])
        return jnp.einsum("ij,jk,k->i", rotation, rotation.T, x * x)

    return jax.vmap(f)(xs[:-1], us) - xs[1:]


def pairs(xs, us):
    """Interactions between the elements of one stage."""

    def f(x, u):
        return jnp.sum(jnp.sin(x[:, None] - x[None, :]), axis=1) * u

    return jax.vmap(f)(xs[:-1], us) - xs[1:]


def agents(x):
    """(stages, agents, 2) with the agents of a stage coupled linearly."""
    speed = jnp.sqrt(1.0 + jnp.sum(x**2, axis=2))
    return x / speed[:, :, None] + 0.1 * x.mean(1, keepdims=True)


# -------------------------------------------------------------------------------- elements


def brusselator(u, v):
    def laplacian(z):
        return sum(jnp.roll(z, s, a) for s in (-1, 1) for a in (0, 1)) - 4 * z

    return (
        1 + u**2 * v - 4.4 * u + 0.1 * laplacian(u),
        3.4 * u - u**2 * v + 0.1 * laplacian(v),
    )


def reaction_diffusion(u):
    return u[2:] - 2 * u[1:-1] + u[:-2] + u[1:-1] * (1 - jnp.exp(u[1:-1]))


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def windows(x):
    starts = jnp.arange(x.shape[0] - 2)
    return jax.vmap(lambda k: jnp.prod(lax.dynamic_slice(x, (k,), (3,))))(starts)


def arrow(x):
    return jnp.sum(x) * x + jnp.cos(x)


def scaled_by_scalar(x, theta):
    return jnp.sin(theta) * jnp.exp(x) + theta


def weighted(x, weights):
    return jnp.dot(weights, jnp.sin(x) * x)


def norm_of_parts(x):
    return jnp.sum(jnp.linalg.norm(x.reshape(-1, 3), axis=1))


def double_map(x, y):
    return jax.vmap(lambda a: jax.vmap(lambda b: jnp.stack([a * b, jnp.sin(a) * b]))(y))(x)


def quadratic(x):
    return x @ x + jnp.exp(x).sum()


def _xu(n):
    return (n + 1, 2), (n, 1)


CASES = [
    Case("shooting_interleaved", shooting_interleaved, lambda n: ((n * 17 + 13,), (13,)),
         lambda n: (n,), 13),
    Case("shooting_blocks", shooting_blocks, lambda n: ((n * 3 + 2,), (2,)), lambda n: (n,), 2),
    Case("shooting_inputs", shooting_inputs, _xu, lambda n: (n,), 2, (0, 1)),
    Case("shooting_by_map", shooting_by_map, _xu, lambda n: (n,), 2, (0, 1)),
    Case("shooting_by_scan", shooting_by_scan, _xu, lambda n: (n,), 2, (0, 1)),
    Case("shooting_with_delay", shooting_with_delay, _xu, lambda n: (n,), 2, (0, 1)),
    Case("only_states", shooting_inputs, _xu, lambda n: (n,), 2),
    Case("collocation", collocation, _xu, lambda n: (n,), 2, (0, 1)),
    Case("time_varying", time_varying, _xu, lambda n: (n,), 2, (0, 1)),
    Case("costs_in_a_scan", costs_in_a_scan, _xu, lambda n: (n,), 2, (0, 1)),
    Case("with_remainder", with_remainder, _xu, lambda n: (n, 1), 2, (0, 1)),
    Case("huber", huber, _xu, lambda n: (n,), 2, (0, 1)),
    Case("quadratic_costs", quadratic_costs, _xu, lambda n: (n, 4 * n + 4), 1, (0, 1)),
    Case("free_time", free_time, lambda n: (*_xu(n), ()), lambda n: (n,), 2, (0, 1, 2)),
    Case("stage_parameters", stage_parameters, lambda n: (*_xu(n), (n,)), lambda n: (n,), 2,
         (0, 1)),
    Case("substeps", substeps, _xu, lambda n: (n,), 2, (0, 1)),
    Case("substeps_with_table", substeps_with_table, _xu, lambda n: (n,), 3, (0, 1)),
    Case("indexed_map", indexed_map, _xu, lambda n: (n,), 2, (0, 1)),
    Case("indexed_vmap", indexed_vmap, _xu, lambda n: (n,), 2, (0, 1)),
    Case("time_major_last", time_major_last, lambda n: ((2, n + 1), (1, n)), lambda n: (n,), 2,
         (0, 1)),
    Case("shared_physics", shared_physics, lambda n: (*_xu(n), ()), lambda n: (n,), 2, (0, 1, 2)),
    Case("constrained", constrained, _xu, lambda n: (n, n + 1, 1), 2, (0, 1)),
    Case("lagrangian", lagrangian, lambda n: (*_xu(n), (n, 2)), lambda n: (n, 1), 2, (0, 1)),
    Case("lagrangian_flat", lagrangian_flat, lambda n: (*_xu(n), (n, 2)), lambda n: (n,), 2,
         (0, 1)),
    Case("summed_in_a_loop", summed_in_a_loop, _xu, lambda n: (n,), 2, (0, 1)),
    Case("least_squares", least_squares, _xu, lambda n: (n,), 2, (0, 1)),
    Case("flat_least_squares", flat_least_squares, _xu, lambda n: (n, 1), 2, (0, 1)),
    Case("network", network, _xu, lambda n: (2 * n,), 1, (0, 1)),
    Case("two_layers", two_layers, _xu, lambda n: (n,), 6, (0, 1)),
    Case("implicit", implicit, _xu, lambda n: (n,), 4, (0, 1)),
    Case("branches", branches, lambda n: (*_xu(n), ()), lambda n: (n,), 2, (0, 1)),
    Case("choices", choices, _xu, lambda n: (n,), 3, (0, 1)),
    Case("batched_matrices", batched_matrices, _xu, lambda n: (n,), 4, (0, 1)),
    Case("pairs", pairs, _xu, lambda n: (2 * n,), 2, (0, 1)),
    Case("agents", agents, lambda n: ((n, 3, 2),), lambda n: (3 * n,), 2),
    Case("brusselator", brusselator, lambda n: ((n, n), (n, n)), lambda n: (n * n,), 1, (0, 1)),
    Case("reaction_diffusion", reaction_diffusion, lambda n: ((n,),), lambda n: (n - 2,)),
    Case("rosenbrock", rosenbrock, lambda n: ((n,),), lambda n: (n - 1,)),
    Case("windows", windows, lambda n: ((n,),), lambda n: (n - 2,), 3),
    Case("arrow", arrow, lambda n: ((n,),), lambda n: (n,)),
    Case("scaled_by_scalar", scaled_by_scalar, lambda n: ((n,), ()), lambda n: (n,), 1, (0, 1)),
    Case("weighted", weighted, lambda n: ((n,), (n,)), lambda n: (n,)),
    Case("norm_of_parts", norm_of_parts, lambda n: ((3 * n,),), lambda n: (n,), 3),
    Case("double_map", double_map, lambda n: ((n,), (n,)), lambda n: (n * n,), 2, (0, 1)),
    Case("quadratic", quadratic, lambda n: ((n,),), lambda n: (n,)),
]  # fmt: skip
