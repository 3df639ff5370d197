"""Model predictive control in simulation: a solver in the loop with a plant."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anvil_jax.errors import ArgumentError, SolverError
from anvil_jax.opti.multistage_problem import MultistageProblem
from anvil_jax.opti.plots import plot_closed_loop
from anvil_jax.opti.settings import SQPResult, SQPStatus
from anvil_jax.opti.shooting import initial_guess
from anvil_jax.opti.sqp_function import SparseSQPFunction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

type Mode = Literal["rti", "converged"]
type Parameters = ArrayLike | Callable[[int], ArrayLike] | None


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """What happened in a simulation.

    Attributes:
        states: of the plant, (steps + 1, nx).
        inputs: that were applied, (steps, nu).
        statuses: of the solver at each step.
        iterations: of the SQP method at each step, (steps,).
        times: seconds in native code between a measurement and the input at each step, (steps,).
        preparation_times: seconds of wall clock spent in `prepare`, (steps,); 0 when converged.
        dt: time between steps, None if unknown.
    """

    states: NDArray[Any]
    inputs: NDArray[Any]
    statuses: tuple[SQPStatus, ...]
    iterations: NDArray[np.int64]
    times: NDArray[np.float64]
    preparation_times: NDArray[np.float64]
    dt: float | None = None

    @property
    def failures(self) -> int:
        """Steps at which the solver did not report SOLVED."""
        return sum(status != SQPStatus.SOLVED for status in self.statuses)

    def plot(
        self,
        *,
        state_names: tuple[str, ...] | None = None,
        input_names: tuple[str, ...] | None = None,
    ) -> "Figure":
        """States, inputs and solution times over time; needs ``pip install anvil_jax[plot]``.

        Args:
            state_names: for the legend, default x0, x1, ...
            input_names: likewise, default u0, u1, ...

        Raises:
            ArgumentError: the number of names is wrong, or matplotlib is not installed.
        """
        return plot_closed_loop(self, state_names, input_names)

    def _rows(self) -> dict[str, str]:
        milliseconds = 1e3 * self.times
        return {
            "steps": str(len(self.inputs)),
            "states, inputs": f"{self.states.shape[1]}, {self.inputs.shape[1]}",
            "steps not solved": str(self.failures),
            "time per step": f"median {np.median(milliseconds):.3g} ms, "
            f"longest {np.max(milliseconds):.3g} ms",
            "iterations per step": f"mean {np.mean(self.iterations):.3g}, "
            f"most {np.max(self.iterations)}",
        }

    def __repr__(self) -> str:
        """Sizes, failures, times."""
        rows = "\n".join(f"  {name}: {value}" for name, value in self._rows().items())
        return f"<ClosedLoop\n{rows}>"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        rows = self._rows().items()
        cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
        return f"<table>{cells}</table>"


def simulate_closed_loop(
    solver: SparseSQPFunction,
    plant: Callable[[Any, Any], Any],
    x_init: ArrayLike,
    steps: int,
    *,
    mode: Mode = "rti",
    parameters: Parameters = None,
    disturbance: ArrayLike | Callable[[int], ArrayLike] | None = None,
    x0: ArrayLike | None = None,
    dt: float | None = None,
) -> ClosedLoop:
    """Let a controller act on a plant: measure, solve, apply the first input, step, repeat.

    The problem's stages are (x, u) with the states first, as `multiple_shooting` makes them, and
    its initial equalities fix x. The first input is that of a converged solve; with
    ``mode="rti"`` each later one is that of one real-time iteration (M. Diehl et al., "Real-time
    optimization and nonlinear model predictive control of processes governed by
    differential-algebraic equations", Journal of Process Control 12, 2002), with ``"converged"``
    of a full solve. Both start from the last solution, moved on by one stage. A solver that fails
    does not end the simulation: the input of its best iterate is applied and `statuses` tells.

    Args:
        solver: of a `MultistageProblem`; its iterate is used and changed.
        plant: next state of (x, u), called with arrays (nx,) and (nu,): a JAX function, a
            `NumericalFunction` or any other callable.
        x_init: initial state of the plant, (nx,).
        steps: how many inputs are applied.
        mode: ``"rti"`` or ``"converged"``.
        parameters: flat parameters of the problem, (parameters_size,), or a function that gives
            them for step k = 0, 1, ...
        disturbance: added to the plant's next state: (steps, nx), or a function of the step.
        x0: start of the first solve, (N + 1, nz); default: x_init and inputs 0 at all stages.
        dt: time between steps, for plots only.

    Returns:
        A `ClosedLoop`.

    Raises:
        ArgumentError: a shape, the mode or the kind of solver is wrong.
        SolverError: the plant's state is no longer finite.
    """
    problem = solver.problem
    if not isinstance(problem, MultistageProblem):
        raise ArgumentError(f"simulate_closed_loop needs a MultistageProblem, not {problem!r}")
    if mode not in ("rti", "converged"):
        raise ArgumentError(f"mode must be 'rti' or 'converged', not {mode!r}")
    if not isinstance(steps, int) or steps < 1:
        raise ArgumentError(f"steps must be a positive integer, not {steps!r}")
    x = np.array(x_init, problem.dtype)
    nx = problem.equalities.counts["initial"]
    if x.shape != (nx,) or not 0 < nx <= problem.nz:
        raise ArgumentError(
            f"x_init has the shape {x.shape}, but the initial equalities have {nx} rows"
        )
    given = _of_steps(parameters, None, "parameters")
    disturb = _of_steps(disturbance, (steps, nx), "disturbance")
    states, inputs = [x], []
    results: list[SQPResult] = []
    preparation_times = np.zeros(steps)
    start = initial_guess(problem, x) if x0 is None else x0
    for k in range(steps):
        p = given(k)
        if k == 0:
            result = _solve(solver, x, p, start)
        elif mode == "rti":
            begin = time.perf_counter()
            solver.shift()
            solver.prepare(p)
            preparation_times[k] = time.perf_counter() - begin
            result = solver.feedback(x)
        else:
            solver.shift()
            result = _solve(solver, x, p, None)
        u = result.x[0, nx:].copy()
        x = _next_state(plant, x, u, disturb(k), k)
        states.append(x)
        inputs.append(u)
        results.append(result)
    return ClosedLoop(
        np.array(states),
        np.array(inputs),
        tuple(result.status for result in results),
        np.array([result.iterations for result in results], np.int64),
        np.array([result.time for result in results]),
        preparation_times,
        dt,
    )


def measured(problem: MultistageProblem, x: ArrayLike) -> NDArray[Any]:
    """The right-hand sides ``eq_rhs`` of a call whose initial equalities are given a measurement.

    Args:
        problem: with initial equalities.
        x: right-hand side of these, (rows,).

    Returns:
        (m_eq,), the problem's own values except for the first rows.

    Raises:
        ArgumentError: the shape is wrong.
    """
    values = np.asarray(x, problem.dtype)
    count = problem.equalities.counts["initial"]
    if values.shape != (count,):
        raise ArgumentError(f"the measurement has the shape {values.shape}, expected {(count,)}")
    sides = problem.defaults.eq_rhs.copy()
    sides[:count] = values
    return sides


def _solve(
    solver: SparseSQPFunction, x: NDArray[Any], p: ArrayLike | None, start: ArrayLike | None
) -> SQPResult:
    return solver(start, p, eq_rhs=measured(solver.problem, x))


def _of_steps(values: Any, shape: tuple[int, int] | None, what: str) -> Callable[[int], Any]:
    """A function of the step from what may be one, an array or None."""
    if values is None:
        return lambda k: None
    if callable(values):
        return values
    array = np.asarray(values)
    if shape is None:
        return lambda k: array
    if array.shape != shape:
        raise ArgumentError(f"{what} has the shape {array.shape}, expected {shape}")
    return lambda k: array[k]


def _next_state(
    plant: Callable[[Any, Any], Any], x: NDArray[Any], u: NDArray[Any], change: Any, step: int
) -> NDArray[Any]:
    following = np.asarray(plant(x, u), x.dtype)
    if following.shape != x.shape:
        raise ArgumentError(f"the plant returns the shape {following.shape}, expected {x.shape}")
    if change is not None:
        following = following + np.asarray(change, x.dtype)
    if not np.isfinite(following).all():
        raise SolverError(f"the state of the plant is not finite after step {step}: {following}")
    return following
