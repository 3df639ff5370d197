"""The functions that are measured on a GPU: ours, the same in JAX, inputs, and what they cost."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import anvil_jax as av
from tests.support.native import nbytes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import quadrotor as example  # found through the line above

DTYPES = ("float64", "float32")
_STAGES = 100
_WIDTH = 64
_LAYERS = 3


@dataclass(frozen=True)
class GpuModel:
    """A function of a batch, or of one large array.

    Attributes:
        name: for tables; `dtype` is not part of it.
        dtype: of all arrays.
        function: ours on the device.
        instance: ours on the CPU, of one instance, and None where `function` is no batch.
        batch: how many instances `function` computes, 1 where it is no batch.
        in_axes: 0 where an argument of `function` has one row per instance.
        competitors: JAX functions by name, to be jitted; the fastest counts.
        reference: what `function` computes, by JAX, as a list in the order of the outputs.
        sample: inputs for a random generator.
        goal: largest admissible ratio of our time to JAX's, None where there is no requirement.
        cpu_goal: the same for the ratio to the time of one CPU core.
        rtol: largest admissible relative difference from `reference`.
    """

    name: str
    dtype: str
    function: Any
    instance: Any
    batch: int
    in_axes: tuple[int | None, ...]
    competitors: dict[str, Callable[..., Any]]
    reference: Callable[..., Any]
    sample: Callable[[np.random.Generator], list[np.ndarray]]
    goal: float | None = None
    cpu_goal: float | None = None
    rtol: float = 1e-10

    @cached_property
    def bytes_moved(self) -> int:
        """Every input read once, every output written once."""
        buffers = (*self.function.view.inputs, *self.function.view.outputs)
        return sum(map(nbytes, buffers))

    @property
    def operations(self) -> int:
        """Arithmetic operations of the generated code for the whole batch.

        A sine or a square root counts as one, a multiplication with an addition as two.
        """
        return self.function.view.operations

    def inputs(self, seed: int) -> list[np.ndarray]:
        """Random inputs of the declared dtypes."""
        arrays = self.sample(np.random.default_rng(seed))
        return [
            np.ascontiguousarray(array, dtype=buffer.dtype)
            for array, buffer in zip(arrays, self.function.view.inputs, strict=True)
        ]


def _rtol(dtype: str) -> float:
    return 1e-10 if dtype == "float64" else 2e-3


# ---- quadrotor ----


def quadrotor_derivative(x: Any, thrust: Any) -> Any:
    """The rigid body of examples/quadrotor.py in the dtype of its arguments."""
    inertia = example.INERTIA.astype(x.dtype)
    velocity, (w, i, j, k), (p, q, r) = x[3:6], x[6:10], x[10:13]
    axis = 2 * jnp.stack([i * k + w * j, j * k - w * i, 0.5 - i * i - j * j])
    gravity = np.array([0, 0, example.GRAVITY], x.dtype)
    acceleration = axis * jnp.sum(thrust) / example.MASS - gravity
    vector = [w * p + j * r - k * q, w * q - i * r + k * p, w * r + i * q - j * p]
    spin = jnp.stack([-i * p - j * q - k * r, *vector]) / 2
    a, b, c, d = thrust
    torque = [example.ARM * (b - d), example.ARM * (c - a), example.DRAG * (a - b + c - d)]
    angular = (jnp.stack(torque) - jnp.cross(x[10:13], inertia * x[10:13])) / inertia
    return jnp.concatenate([velocity, acceleration, spin, angular])


def _runge_kutta(derivative: Callable[..., Any], x: Any, u: Any, h: float) -> Any:
    """One step of the classical method."""
    k1 = derivative(x, u)
    k2 = derivative(x + h / 2 * k1, u)
    k3 = derivative(x + h / 2 * k2, u)
    k4 = derivative(x + h * k3, u)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def quadrotor_step(x: Any, thrust: Any, h: float = 0.02) -> Any:
    """One step; the quaternion keeps its length."""
    x = _runge_kutta(quadrotor_derivative, x, thrust, h)
    return x.at[6:10].divide(jnp.linalg.norm(x[6:10]))


def _stacked(z: Any) -> Any:
    return quadrotor_step(z[:13], z[13:])


def _quadrotor_points(rng: np.random.Generator, batch: int) -> list[np.ndarray]:
    return [np.hstack([rng.normal(size=(batch, 13)), rng.uniform(1, 3, size=(batch, 4))])]


def quadrotor_jacobians(dtype: str, batch: int = 16384) -> GpuModel:
    """The step of the quadrotor and its sparse Jacobian."""

    def both(device: str) -> tuple[Any, Any]:
        step = av.NumericalFunction("stacked", _stacked, (av.Arg(17, dtype),), device)
        jacobian = av.spjacobian(step)

        def values(z: Any) -> Any:
            return _stacked(z), jacobian(z)

        return av.NumericalFunction("both", values, (av.Arg(17, dtype),), device), jacobian

    function, jacobian = both("CUDA")
    instance, _ = both("CPU")
    rows, columns = _positions(jacobian)
    dense = {
        "jacfwd": jax.vmap(lambda z: (_stacked(z), jax.jacfwd(_stacked)(z))),
        "jacrev": jax.vmap(lambda z: (_stacked(z), jax.jacrev(_stacked)(z))),
    }

    def reference(z: Any) -> Any:
        step, matrix = dense["jacfwd"](z)
        return [step, matrix[:, rows, columns]]

    return GpuModel(
        "quadrotor step and Jacobian", dtype, av.vmap(function, batch, name="quadrotor_jacobians"),
        instance, batch, (0,), dense, reference, lambda rng: _quadrotor_points(rng, batch),
        goal=1 / 5, rtol=_rtol(dtype),
    )  # fmt: skip


def _positions(sparse: Any) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each stored value."""
    columns = np.repeat(np.arange(sparse.shape[1]), np.diff(sparse.indptr))
    return np.asarray(sparse.indices), columns


def quadrotor_roll_out(
    dtype: str, batch: int = 16384, steps: int = 100, *, mapped: bool = False
) -> GpuModel:
    """The last state of a hundred steps in a loop; batched by vmap, or `mapped` by jax.lax.map."""

    def roll_out(z: Any) -> Any:
        def body(x: Any, _: None) -> tuple[Any, None]:
            return quadrotor_step(x, z[13:]), None

        return jax.lax.scan(body, z[:13], length=steps)[0]

    def make(device: str) -> Any:
        return av.NumericalFunction("roll_out", roll_out, (av.Arg(17, dtype),), device)

    def sample(rng: np.random.Generator) -> list[np.ndarray]:
        hover = example.MASS * example.GRAVITY / 4
        x = 0.1 * rng.normal(size=(batch, 13)) + np.eye(13)[6]
        return [np.hstack([x, hover + 1e-3 * rng.normal(size=(batch, 4))])]

    if mapped:
        argument = (av.Arg((batch, 17), dtype),)
        function = av.NumericalFunction(
            "quadrotor_map", lambda z: jax.lax.map(roll_out, z), argument, "CUDA"
        )
    else:
        function = av.vmap(make("CUDA"), batch, name="quadrotor_roll_outs")
    return GpuModel(
        f"quadrotor roll-out, {'lax.map' if mapped else 'vmap'}", dtype, function,
        make("CPU"), batch, (0,), {"vmap of scan": jax.vmap(roll_out)},
        lambda z: [jax.vmap(roll_out)(z)], sample, rtol=100 * _rtol(dtype),
    )  # fmt: skip


def mapped_roll_out(dtype: str, batch: int = 16384, steps: int = 100) -> GpuModel:
    """The roll-outs by jax.lax.map."""
    return quadrotor_roll_out(dtype, batch, steps, mapped=True)


# ---- race car ----


def _car_derivative(x: Any, u: Any) -> Any:
    _, _, heading, speed, steering = x
    turn = speed * jnp.tan(steering) / 0.3
    return jnp.stack([speed * jnp.cos(heading), speed * jnp.sin(heading), turn, u[0], u[1]])


def _stage_cost(z: Any, r: Any, h: float) -> Any:
    weights = np.array([50, 50, 50, 50, 10, 5, 5], z.dtype)
    return 0.5 * h * jnp.sum(weights * (z - r[:7]) ** 2)


def _stage_limits(z: Any, r: Any) -> Any:
    beside = r[7] * (z[1] - r[1]) - r[8] * (z[0] - r[0])
    return jnp.stack([beside, z[3] ** 2 * jnp.tan(z[4]) / 0.3])


def race_car_hessians(dtype: str, batch: int = 1024, stages: int = _STAGES) -> GpuModel:
    """The Lagrangian's Hessian of an optimal control problem of a kinematic race car."""
    h = 3.0 / stages
    gaps = 5 * stages

    def cost(w: Any, p: Any) -> Any:
        z, r = w.reshape(stages + 1, 7), p.reshape(stages + 1, 9)
        return jnp.sum(jax.vmap(lambda z, r: _stage_cost(z, r, h))(z, r))

    def next_state(z: Any) -> Any:
        return _runge_kutta(_car_derivative, z[:5], z[5:], h)

    def rows(w: Any, p: Any) -> Any:
        z, r = w.reshape(stages + 1, 7), p.reshape(stages + 1, 9)
        dynamics = jax.vmap(next_state)(z[:-1]) - z[1:, :5]
        return jnp.concatenate([dynamics.ravel(), jax.vmap(_stage_limits)(z, r).ravel()])

    sizes = ((stages + 1) * 7, (stages + 1) * 9, gaps + 2 * (stages + 1))

    # av.lagrangian_hessian, whose multipliers are float64, of a model in another dtype.
    def lagrangian(w: Any, p: Any, multipliers: Any) -> Any:
        return cost(w, p) + jnp.vdot(multipliers, rows(w, p))

    def make(device: str) -> Any:
        arguments = tuple(av.Arg(size, dtype) for size in sizes)
        return av.sphessian(av.NumericalFunction("lagrangian", lagrangian, arguments, device))

    function = make("CUDA")
    at, columns = _positions(function)

    def stage(z: Any, r: Any, dynamics: Any, limits: Any) -> Any:
        total = _stage_cost(z, r, h) + limits @ _stage_limits(z, r)
        return total + dynamics @ next_state(z)

    def blocks(w: Any, p: Any, multipliers: Any) -> Any:
        """All but the last stage's dynamics: its multiplier is zero."""
        z, r = w.reshape(stages + 1, 7), p.reshape(stages + 1, 9)
        dynamics = jnp.concatenate([multipliers[:gaps], jnp.zeros(5, w.dtype)]).reshape(-1, 5)
        limits = multipliers[gaps:].reshape(-1, 2)
        return jax.vmap(jax.hessian(stage))(z, r, dynamics, limits)

    def reference(w: Any, p: Any, multipliers: Any) -> Any:
        return [jax.vmap(blocks)(w, p, multipliers)[:, at // 7, at % 7, columns % 7]]

    def sample(rng: np.random.Generator) -> list[np.ndarray]:
        w, p, multipliers = (rng.normal(size=(batch, size)) for size in sizes)
        return [0.3 * w, p, multipliers]

    return GpuModel(
        "race car Lagrangian Hessian", dtype, av.vmap(function, batch, name="race_car_hessians"),
        make("CPU"), batch, (0, 0, 0), {"hessians of the stages": jax.vmap(blocks)}, reference,
        sample, goal=1 / 5, cpu_goal=1 / 50, rtol=_rtol(dtype),
    )  # fmt: skip


# ---- dense ----


def _network(dtype: str) -> Callable[[Any], Any]:
    """Layers with tanh between them, of a row or a matrix of rows."""
    rng = np.random.default_rng(0)
    shape = (_LAYERS, _WIDTH, _WIDTH)
    weights = (rng.normal(size=shape) / np.sqrt(_WIDTH)).astype(dtype)
    offsets = rng.normal(size=(_LAYERS, _WIDTH)).astype(dtype)

    def network(x: Any) -> Any:
        for k in range(_LAYERS):
            x = (jnp.tanh(x) if k else x) @ weights[k] + offsets[k]
        return x

    return network


def mlp(dtype: str, batch: int = 16384) -> GpuModel:
    """A network of one row, batched by vmap: an instance per thread."""
    network = _network(dtype)

    def make(device: str) -> Any:
        return av.NumericalFunction("network", network, (av.Arg(_WIDTH, dtype),), device)

    return GpuModel(
        "MLP, vmap", dtype, av.vmap(make("CUDA"), batch, name="networks"), make("CPU"), batch,
        (0,), {"vmap": jax.vmap(network)}, lambda x: [jax.vmap(network)(x)],
        lambda rng: [rng.normal(size=(batch, _WIDTH))], rtol=_rtol(dtype),
    )  # fmt: skip


def mlp_rows(dtype: str, batch: int = 16384) -> GpuModel:
    """The same network of a matrix: three matrix products."""
    network = _network(dtype)
    argument = (av.Arg((batch, _WIDTH), dtype),)
    function = av.NumericalFunction("network_of_rows", network, argument, "CUDA")
    instance = av.NumericalFunction("network", network, (av.Arg(_WIDTH, dtype),))
    return GpuModel(
        "MLP, matrix products", dtype, function, instance, batch, (0,), {"matrix": network},
        lambda x: [network(x)], lambda rng: [rng.normal(size=(batch, _WIDTH))], rtol=_rtol(dtype),
    )  # fmt: skip


def matrix_product(dtype: str, size: int = 1024) -> GpuModel:
    """A product of square matrices."""
    arguments = (av.Arg((size, size), dtype),) * 2
    function = av.NumericalFunction("matrix_product", jnp.matmul, arguments, "CUDA")
    return GpuModel(
        "matrix product", dtype, function, None, 1, (None, None), {"matmul": jnp.matmul},
        lambda a, b: [a @ b], lambda rng: [rng.normal(size=(size, size)) for _ in range(2)],
        rtol=_rtol(dtype),
    )  # fmt: skip


def total(dtype: str, size: int = 10**7) -> GpuModel:
    """The sum of a long vector."""
    function = av.NumericalFunction("total", jnp.sum, (av.Arg(size, dtype),), "CUDA")
    return GpuModel(
        "sum", dtype, function, None, 1, (None,), {"sum": jnp.sum}, lambda x: [jnp.sum(x)],
        lambda rng: [rng.uniform(size=size)], rtol=_rtol(dtype),
    )  # fmt: skip


MODELS: dict[str, Callable[..., GpuModel]] = {
    "quadrotor": quadrotor_jacobians,
    "race_car": race_car_hessians,
    "mlp": mlp,
    "mlp_rows": mlp_rows,
    "matrix_product": matrix_product,
    "sum": total,
    "roll_out": quadrotor_roll_out,
    "mapped_roll_out": mapped_roll_out,
}


def small(make: Callable[..., GpuModel], dtype: str) -> GpuModel:
    """A model of a size that the emulated device can compute."""
    sizes: dict[Any, Sequence[int]] = {
        race_car_hessians: (3, 2), matrix_product: (20,), total: (3000,),
        quadrotor_roll_out: (5, 3), mapped_roll_out: (5, 3),
    }  # fmt: skip
    return make(dtype, *sizes.get(make, (5,)))
