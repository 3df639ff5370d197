"""Every way in which a solve can end: the right status or a clear error, never NaN."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anvil_jax import opti
from anvil_jax.errors import ArgumentError
from anvil_jax.opti import SQPStatus

pytestmark = pytest.mark.compile


@pytest.fixture(autouse=True)
def quick_compilation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small solvers, each called a few times: compiling them is what takes time."""
    monkeypatch.setenv("ANVIL_JAX_CXXFLAGS", "-O0")
    with jax.enable_x64(True):
        yield


def cost(x: Any, p: Any) -> Any:
    """A convex bowl."""
    return jnp.sum((x - 3) ** 2)


def rosenbrock(x: Any, p: Any) -> Any:
    """The banana valley, with its minimum at (1, 1)."""
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


_names = (f"status_{i}" for i in itertools.count())


def solver_for(*functions: Any, **options: Any) -> opti.DenseSQPFunction:
    """A dense solver of two variables, unless n says otherwise."""
    settings = options.pop("settings", None)
    problem = opti.DenseProblem(*functions, **{"n": 2} | options)
    return opti.DenseSQPFunction(next(_names), problem, settings, qp="dense")


def check_finite(result: Any) -> None:
    """No NaN anywhere."""
    for array in (result.x, result.lam_eq, result.lam_ineq, result.lam_box):
        assert np.isfinite(array).all()
    assert np.isfinite(result.objective)


INFEASIBLE = {
    "linear equalities": {"eq_constraints_fn": lambda x, p: jnp.stack([x[0], x[0] - 1])},
    "linear rows": {
        "ineq_constraints_fn": lambda x, p: x[:1] + x[1:],
        "ineq_lb": 5.0,
        "x_ub": 1.0,
    },
    "bounds and an equality": {"eq_constraints_fn": lambda x, p: x[:1] - 9, "x_ub": 1.0},
    "a negative square": {"eq_constraints_fn": lambda x, p: x[:1] ** 2 + x[1:] ** 2 + 1},
    "two discs": {
        "ineq_constraints_fn": lambda x, p: jnp.stack(
            [jnp.sum(x**2), jnp.sum((x - jnp.array([4.0, 0.0])) ** 2)]
        ),
        "ineq_ub": 1.0,
    },
}


@pytest.mark.parametrize("case", INFEASIBLE)
@pytest.mark.parametrize("start", [(0.0, 0.0), (3.0, -2.0)])
def test_infeasible(case: str, start: tuple[float, float]) -> None:
    result = solver_for(cost, **INFEASIBLE[case])(start)
    check_finite(result)
    assert result.status == SQPStatus.INFEASIBLE, result
    assert result.infeasibility > 1e-2


def test_unbounded_below() -> None:
    result = solver_for(lambda x, p: x[0] ** 3 + x[1] ** 2)((-1.0, 1.0))
    check_finite(result)
    assert result.status == SQPStatus.UNBOUNDED, result


def test_bounds_that_cross_at_run_time() -> None:
    with pytest.raises(ArgumentError, match="x_lb"):
        solver_for(cost)((0.0, 0.0), x_lb=2.0, x_ub=1.0)


def test_no_constraint_qualification() -> None:
    """The only feasible point (0, 0) has no multipliers: never SOLVED far from it."""
    solver = solver_for(
        lambda x, p: x[0] + x[1], ineq_constraints_fn=lambda x, p: x[:1] ** 2 + x[1:] ** 2
    )
    result = solver((1.0, 1.0))
    check_finite(result)
    assert result.status != SQPStatus.UNBOUNDED
    np.testing.assert_allclose(result.x, 0.0, atol=2e-2)


def test_dependent_equalities() -> None:
    solver = solver_for(
        cost, lambda x, p: jnp.stack([x[0] + x[1] - 2, 2 * x[0] + 2 * x[1] - 4, x[0] + x[1] - 2])
    )
    result = solver((5.0, 0.0))
    assert result.success
    np.testing.assert_allclose(result.x, 1.0, atol=1e-6)


def test_nan_at_the_start() -> None:
    result = solver_for(lambda x, p: jnp.log(x[0]) + x[1] ** 2)((-1.0, 1.0))
    check_finite(result)
    assert result.status == SQPStatus.EVALUATION_FAILED
    assert result.evaluations == 1


def test_nan_along_the_way_shortens_steps() -> None:
    """The full Newton step from 4 leads to where the logarithm is not defined."""
    result = solver_for(lambda x, p: jnp.sum(x - jnp.log(x)))((4.0, 3.0))
    check_finite(result)
    assert result.success
    np.testing.assert_allclose(result.x, 1.0, atol=1e-5)


WRONG_CALLS = {
    "x0 too long": ({"x0": (1.0, 2.0, 3.0)}, "x0|x must|shape"),
    "x0 NaN": ({"x0": (np.nan, 0.0)}, "x"),
    "p where there is none": ({"x0": (0.0, 0.0), "p": (1.0,)}, "p"),
    "eq_rhs of the wrong size": ({"x0": (0.0, 0.0), "eq_rhs": (1.0, 2.0)}, "eq_rhs"),
    "eq_rhs NaN": ({"x0": (0.0, 0.0), "eq_rhs": (np.nan,)}, "eq_rhs"),
    "x_lb NaN": ({"x0": (0.0, 0.0), "x_lb": (np.nan, 0.0)}, "x_lb"),
    "ineq_ub too short": ({"x0": (0.0, 0.0), "ineq_ub": ()}, "ineq_ub"),
    "rows that cross": ({"x0": (0.0, 0.0), "ineq_lb": (2.0,), "ineq_ub": (1.0,)}, "ineq_lb"),
    "lam_eq of the wrong size": ({"x0": (0.0, 0.0), "lam_eq": (1.0, 2.0)}, "lam_eq"),
    "lam_box NaN": ({"x0": (0.0, 0.0), "lam_box": (np.nan, 0.0)}, "lam_box"),
}


@pytest.fixture(scope="module")
def constrained() -> opti.DenseSQPFunction:
    """x0 + x1 = right-hand side, x0 x1 within sides."""
    problem = opti.DenseProblem(
        rosenbrock, lambda x, p: x[:1] + x[1:], lambda x, p: x[:1] * x[1:], eq_rhs=2.0, n=2
    )
    return opti.DenseSQPFunction("status_constrained", problem, qp="dense")


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_call(constrained: opti.DenseSQPFunction, case: str) -> None:
    arguments, text = WRONG_CALLS[case]
    with pytest.raises(ArgumentError, match=text):
        constrained(**arguments)


def test_settings_cannot_change_the_hessian(constrained: opti.DenseSQPFunction) -> None:
    bfgs = opti.SQPSettings(hessian=opti.HessianApproximation.BFGS)
    with pytest.raises(ArgumentError, match="EXACT"):
        constrained((0.0, 0.0), settings=bfgs)


@pytest.mark.parametrize(
    "changes",
    [
        {"tolerance_stationarity": 0.0},
        {"tolerance_feasibility": np.nan},
        {"time_limit": -1.0},
        {"max_iterations": -1},
        {"max_line_search_steps": 0},
        {"hessian": "exact"},
        {"globalization": "filter"},
    ],
)
def test_settings_are_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(changes))):
        opti.SQPSettings(**changes)


def test_no_constraints_and_no_bounds() -> None:
    result = solver_for(rosenbrock)((-1.2, 1.0))
    assert result.success
    assert result.lam_eq.shape == result.lam_ineq.shape == (0,)
    np.testing.assert_array_equal(result.lam_box, 0.0)
    np.testing.assert_allclose(result.x, 1.0, atol=1e-5)


def test_one_variable() -> None:
    result = solver_for(lambda x, p: (x[0] - 2) ** 4 + x[0], n=1, x_lb=-5.0)((4.0,))
    assert result.success
    np.testing.assert_allclose(result.x, 2 - 0.25 ** (1 / 3), atol=1e-5)


def test_fixed_variables() -> None:
    """With x0 fixed at 3, x1 minimises (x1 - 3)^2; the multiplier is minus the slope there."""
    result = solver_for(cost, x_lb=(1.0, -9.0), x_ub=(1.0, 9.0))((5.0, 5.0))
    assert result.success
    np.testing.assert_allclose(result.x, (1.0, 3.0), atol=1e-6)
    np.testing.assert_allclose(result.lam_box, (4.0, 0.0), atol=1e-5)


def test_all_variables_fixed() -> None:
    result = solver_for(cost, x_lb=(1.0, 2.0), x_ub=(1.0, 2.0))((0.0, 0.0))
    assert result.success
    np.testing.assert_allclose(result.x, (1.0, 2.0), atol=1e-9)


def test_too_few_iterations() -> None:
    """The best iterate is returned, and more iterations never give a worse one."""
    solver = solver_for(rosenbrock)
    objectives = []
    for count in (0, 1, 3, 6):
        result = solver((-1.2, 1.0), settings=solver.settings.replace(max_iterations=count))
        check_finite(result)
        assert result.status == SQPStatus.MAX_ITER
        assert result.iterations == count
        assert result.objective == pytest.approx(float(rosenbrock(result.x, None)))
        objectives.append(result.objective)
    assert objectives == sorted(objectives, reverse=True)


def test_time_limit() -> None:
    solver = solver_for(rosenbrock)
    result = solver((-1.2, 1.0), settings=solver.settings.replace(time_limit=1e-12))
    check_finite(result)
    assert result.status == SQPStatus.TIME_LIMIT
    np.testing.assert_array_equal(result.x, (-1.2, 1.0))


def test_warm_start(constrained: opti.DenseSQPFunction) -> None:
    cold = constrained((-3.0, 5.0))
    assert cold.success
    multipliers = {name: getattr(cold, name) for name in ("lam_eq", "lam_ineq", "lam_box")}
    warm = constrained(cold.x, **multipliers)
    assert warm.success
    assert warm.iterations < cold.iterations
    again = constrained(eq_rhs=(2.001,))
    assert again.success
    assert again.iterations < cold.iterations
    np.testing.assert_allclose(np.sum(again.x), 2.001, atol=1e-6)


def test_bounds_and_right_hand_sides_at_run_time(constrained: opti.DenseSQPFunction) -> None:
    free = constrained((0.0, 0.0), ineq_ub=np.inf)
    bounded = constrained((0.0, 0.0), ineq_ub=np.inf, x_ub=(0.5, np.inf))
    moved = constrained((0.0, 0.0), ineq_ub=np.inf, eq_rhs=3.0)
    assert free.success
    assert bounded.success
    assert moved.success
    np.testing.assert_allclose(free.x, 1.0, atol=1e-5)
    np.testing.assert_allclose(bounded.x, (0.5, 1.5), atol=1e-6)
    assert bounded.lam_box[0] > 1
    assert np.sum(moved.x) == pytest.approx(3.0, abs=1e-6)


def test_table_of_iterations(
    constrained: opti.DenseSQPFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    result = constrained((-3.0, 5.0), verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert "objective" in "".join(lines[:2])
    assert "SOLVED" in lines[-1]
    assert len(lines) >= result.iterations + 2


def test_history(constrained: opti.DenseSQPFunction) -> None:
    result = constrained((-3.0, 5.0), history=True)
    assert [line.iteration for line in result.history] == list(range(result.iterations + 1))
    assert result.history[-1].objective == pytest.approx(result.objective)
    assert constrained((-3.0, 5.0)).history == ()
