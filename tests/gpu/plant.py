"""The module that tests of generated CUDA code export: functions, inputs, and what JAX computes."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import anvil_jax as av
from anvil_jax import Arg, NumericalFunction
from tests.support.native import reference

BATCH = 300


def step(x: Any, u: Any, dt: Any) -> Any:
    """Two oscillators with a force: the next state, and the energy."""
    pos, vel = x[:2], x[2:]
    next_vel = vel + dt * (u - jnp.sin(pos) - 0.1 * vel * pos[::-1])
    return jnp.concatenate([pos + dt * next_vel, next_vel]), 0.5 * (next_vel @ next_vel)


def product(a: Any, b: Any) -> Any:
    return jnp.tanh(a @ b)


def residual(x: Any) -> Any:
    return jnp.sin(x[1:]) * x[:-1] + x[0]


def newton(x: Any) -> Any:
    """Square roots, each until all have converged."""

    def unfinished(state: Any) -> Any:
        return (jnp.max(jnp.abs(state[0] ** 2 - x)) > 1e-9) & (state[1] < 60)

    def improve(state: Any) -> Any:
        return 0.5 * (state[0] + x / state[0]), state[1] + 1

    return jax.lax.while_loop(unfinished, improve, (x, 0))


def heat(x: Any) -> Any:
    """The temperatures of a rod, in two loops of the host, and of its end after each sweep."""

    def step(_: Any, t: Any) -> Any:
        return t.at[1:-1].add(0.2 * (t[2:] - 2.0 * t[1:-1] + t[:-2]))

    def sweep(t: Any, source: Any) -> Any:
        t = jax.lax.fori_loop(0, 3, step, t) + 0.1 * source * jnp.sin(t)
        return t, t[0]

    return jax.lax.scan(sweep, x, jnp.arange(4, dtype=x.dtype))


def mixed(count: Any, mask: Any, scale: Any) -> Any:
    return jnp.where(mask, count * 2, -count), scale * count.astype("float32"), ~mask


def awkward(stream: Any, ws: Any, status: Any, arguments: Any, detail: Any, Status: Any) -> Any:
    return stream + 2.0 * ws - status * arguments, detail @ Status


def functions() -> dict[str, Any]:
    """What is exported, by name."""
    single = NumericalFunction("single", step, (Arg(4), Arg(2), Arg(())), "CUDA")
    n = 3
    listed = (
        av.vmap(single, BATCH, in_axes=(0, 0, None), name="steps"),
        NumericalFunction("product", product, (Arg((70, 33)), Arg((33, 90))), "CUDA"),
        av.spjacobian(NumericalFunction("residual", residual, (Arg(12),), "CUDA"), name="slope"),
        NumericalFunction("newton", newton, (Arg(5),), "CUDA"),
        NumericalFunction("heat", heat, (Arg(600),), "CUDA"),
        NumericalFunction("nothing_in", lambda: jnp.arange(7.0) ** 2, (), "CUDA"),
        NumericalFunction("nothing_out", lambda x: (x[:0], x + 1.0), (Arg(3),), "CUDA"),
        NumericalFunction(
            "mixed", mixed, (Arg(6, "int32"), Arg(6, "bool"), Arg((), "float32")), "CUDA"
        ),
        NumericalFunction("awkward", awkward, (Arg(n),) * 6, "CUDA"),
    )
    return {function.name: function for function in listed}


def samples(function: Any, seed: int = 0) -> list[np.ndarray]:
    """Inputs, from 0.5 to 1.5 where they are numbers."""
    rng = np.random.default_rng(seed)
    arrays = []
    for buffer in function.view.inputs:
        uniform = rng.uniform(0.5, 1.5, buffer.shape)
        if buffer.dtype == "bool":
            uniform = uniform > 1.0
        elif buffer.dtype.startswith("int"):
            uniform = 100.0 * uniform
        arrays.append(np.asarray(uniform).astype(buffer.dtype))
    return arrays


def expected(function: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What JAX computes, as the module's outputs."""
    if function.name != "slope":
        return reference(function.fn, inputs)
    (dense,) = reference(jax.jacobian(residual), inputs)
    columns = np.repeat(np.arange(function.shape[1]), np.diff(function.indptr))
    return [dense[function.indices, columns]]


@functools.cache
def write(folder: Path) -> dict[str, Any]:
    """Writes the module into `folder`; returns the functions."""
    found = functions()
    av.generate_module("plant", tuple(found.values()), path=folder, self_test=True)
    return found
