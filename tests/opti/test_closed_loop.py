"""Simulation of controllers: the plant moves as it should, and the controller brings it home."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot

from anvil_jax import opti
from anvil_jax.errors import ArgumentError, SolverError
from anvil_jax.opti.closed_loop import measured, simulate_closed_loop
from anvil_jax.opti.integrators import rk4
from anvil_jax.opti.shooting import multiple_shooting
from anvil_jax.opti.tracking import (
    reference_parameters,
    terminal_tracking_residual,
    tracking_residual,
)

pytestmark = pytest.mark.compile

START = np.array([2.5, 0.0])
STEP = 0.1


def swing(x: Any, u: Any) -> Any:
    return jnp.stack([x[1], jnp.sin(x[0]) + u[0]])


@jax.jit
def plant(x: Any, u: Any) -> Any:
    return rk4(swing, x, u, STEP, steps=2)


@pytest.fixture(autouse=True)
def double_precision() -> Any:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def solver() -> opti.SparseSQPFunction:
    with jax.enable_x64(True):
        problem = multiple_shooting(
            swing, 15, 2, 1, dt=STEP, param_dim=3, u_lb=[-6.0], u_ub=[6.0],
            stage_residual=tracking_residual([10.0, 1.0], [0.1]),
            terminal_residual=terminal_tracking_residual([50.0, 5.0]),
        )  # fmt: skip
        return opti.SparseSQPFunction("loop", problem, qp="riccati")


@pytest.mark.parametrize("mode", ["rti", "converged"])
def test_controller_brings_the_plant_home(solver: opti.SparseSQPFunction, mode: Any) -> None:
    target = np.array([0.5, 0.0])
    p = reference_parameters(solver.problem, target, [-np.sin(0.5)])
    loop = simulate_closed_loop(solver, plant, START, 40, mode=mode, parameters=p)
    assert loop.states.shape == (41, 2)
    assert loop.inputs.shape == (40, 1)
    assert loop.failures == 0
    np.testing.assert_array_equal(loop.states[0], START)
    for k in range(40):
        want = plant(loop.states[k], loop.inputs[k])
        np.testing.assert_allclose(loop.states[k + 1], want, rtol=1e-12)
    np.testing.assert_allclose(loop.states[-1], target, atol=1e-2)
    assert np.abs(loop.inputs).max() <= 6.0 + 1e-6
    assert (loop.times > 0).all()
    assert (loop.preparation_times[1:] > 0).all() == (mode == "rti")


def test_real_time_iterations_cost_little(solver: opti.SparseSQPFunction) -> None:
    p = reference_parameters(solver.problem, [0.0, 0.0])
    loops = [
        simulate_closed_loop(solver, plant, START, 30, mode=mode, parameters=p)
        for mode in ("rti", "converged")
    ]
    costs = [np.sum(loop.states**2 @ [10.0, 1.0]) + 0.1 * np.sum(loop.inputs**2) for loop in loops]
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)
    assert loops[0].iterations[1:].max() <= 1


def test_parameters_and_disturbances_of_each_step(solver: opti.SparseSQPFunction) -> None:
    """The reference jumps after 35 steps, and a push comes at step 10."""
    targets = [np.array([0.0, 0.0]), np.array([-1.0, 0.0])]
    pushes = np.zeros((75, 2))
    pushes[10] = [0.0, 2.0]
    seen = []

    def parameters(k: int) -> Any:
        seen.append(k)
        return reference_parameters(
            solver.problem, targets[k >= 35], [-np.sin(targets[k >= 35])[0]]
        )

    loop = simulate_closed_loop(solver, plant, START, 75, parameters=parameters, disturbance=pushes)
    same = simulate_closed_loop(
        solver, plant, START, 75, parameters=parameters, disturbance=lambda k: pushes[k]
    )
    assert seen == [*range(75)] * 2
    np.testing.assert_allclose(loop.states, same.states, atol=1e-9)
    pushed = plant(loop.states[10], loop.inputs[10]) + pushes[10]
    np.testing.assert_allclose(loop.states[11], pushed, rtol=1e-12)
    np.testing.assert_allclose(loop.states[34], targets[0], atol=0.05)
    np.testing.assert_allclose(loop.states[-1], targets[1], atol=1e-2)


def test_text_and_pictures(solver: opti.SparseSQPFunction) -> None:
    p = reference_parameters(solver.problem, [0.0, 0.0])
    loop = simulate_closed_loop(solver, plant, START, 5, parameters=p, dt=STEP)
    assert "steps not solved: 0" in repr(loop)
    assert "<td>2, 1</td>" in loop._repr_html_()
    figure = loop.plot(state_names=("angle", "rate"))
    top, middle, bottom = figure.axes
    assert [line.get_label() for line in top.lines] == ["angle", "rate"]
    x, y = (np.asarray(values) for values in top.lines[1].get_data())
    np.testing.assert_allclose(x, STEP * np.arange(6))
    np.testing.assert_allclose(y, loop.states[:, 1])
    assert bottom.get_xlabel() == "time"
    assert len(middle.patches) == 1
    with pytest.raises(ArgumentError, match="1 names for 2 values"):
        loop.plot(state_names=("angle",))
    pyplot.close("all")


def test_measured_replaces_the_initial_rows(solver: opti.SparseSQPFunction) -> None:
    sides = measured(solver.problem, START)
    np.testing.assert_array_equal(sides[:2], START)
    np.testing.assert_array_equal(sides[2:], solver.problem.defaults.eq_rhs[2:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "fast"}, "mode must be"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"x_init": [1.0]}, "x_init has the shape"),
        ({"disturbance": np.zeros((3, 2))}, "disturbance has the shape"),
        ({"plant": lambda x, u: x[:1]}, "the plant returns the shape"),
    ],
)
def test_errors(solver: opti.SparseSQPFunction, changes: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"plant": plant, "x_init": START, "steps": 2}
    options["parameters"] = reference_parameters(solver.problem, [0.0, 0.0])
    with pytest.raises(ArgumentError, match=message):
        simulate_closed_loop(solver, **(options | changes))


def test_plant_that_leaves_the_numbers(solver: opti.SparseSQPFunction) -> None:
    def explode(x: Any, u: Any) -> Any:
        return np.full(2, np.inf)

    p = reference_parameters(solver.problem, [0.0, 0.0])
    with pytest.raises(SolverError, match="not finite after step 0"):
        simulate_closed_loop(solver, explode, START, 2, parameters=p)
