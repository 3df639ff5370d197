"""The shooting constraint of a quadrotor over a horizon, in JAX and in CasADi's encodings."""

from collections.abc import Callable
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import models
import numpy as np

STATES, CONTROLS = 13, 4
STAGE = STATES + CONTROLS


def horizon_size(stages: int) -> int:
    """Variables: (x, u) of each stage, and the last state."""
    return stages * STAGE + STATES


def horizon_point(random: np.random.Generator, stages: int) -> np.ndarray:
    """States and controls of all stages."""
    points = [models.QUADROTOR.point(random) for _ in range(stages + 1)]
    return np.concatenate(points)[: horizon_size(stages)]


def shooting(stages: int) -> Callable[[Any, Any], Any]:
    """``(z, start) -> (x_0 - start, step(x_k, u_k) - x_{k+1})``."""

    def constraint(z: Any, start: Any) -> Any:
        pairs = z[: stages * STAGE].reshape(stages, STAGE)
        x, u = pairs[:, :STATES], pairs[:, STATES:]
        following = jnp.concatenate([x[1:], z[None, -STATES:]])
        defects = jax.vmap(models.step)(x, u) - following
        return jnp.concatenate([x[0] - start, defects.ravel()])

    return constraint


def casadi_shooting(stages: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Jacobian and upper triangle of the Lagrangian's Hessian, in the encodings CasADi offers.

    SX with everything written out; MX with calls of the step; MX with ``map``. The Hessian is not
    offered written out: compilers need minutes for it.
    """
    jacobians: dict[str, Any] = {}
    hessians: dict[str, Any] = {}
    for name in ("SX", "MX", "MX map"):
        kind: Any = ca.SX if name == "SX" else ca.MX
        z, start = kind.sym("z", horizon_size(stages)), kind.sym("start", STATES)
        multipliers = kind.sym("multipliers", STATES * (stages + 1))
        g = _casadi_constraint(z, start, stages, mapped=name == "MX map")
        jacobians[f"CasADi {name}"] = ca.Function("f", [z, start], [ca.jacobian(g, z)])
        if name != "SX":
            hessian, _ = ca.hessian(ca.dot(multipliers, g), z)
            hessians[f"CasADi {name}"] = ca.Function(
                "f", [z, start, multipliers], [ca.triu(hessian)]
            )
    return jacobians, hessians


def _casadi_constraint(z: Any, start: Any, stages: int, *, mapped: bool) -> Any:
    step = models.casadi_step()
    pairs = ca.reshape(z[: stages * STAGE], STAGE, stages)
    x, u = pairs[:STATES, :], pairs[STATES:, :]
    following = ca.horzcat(x[:, 1:], z[stages * STAGE :])
    if mapped:
        moved = step.map(stages)(x, u)
    else:
        moved = ca.horzcat(*(step(x[:, k], u[:, k]) for k in range(stages)))
    return ca.vertcat(x[:, 0] - start, ca.vec(moved - following))
