"""The generated SQP solver on the Hock-Schittkowski collection, judged by published optima and
JAX's derivatives."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import pytest

from anvil_jax import opti
from tests.opti.hock_schittkowski import LEAST_SQUARES, PROBLEMS, SPECIAL_PROBLEMS
from tests.opti.hock_schittkowski.problem import Problem
from tests.opti.hock_schittkowski.programs import dense_problem, identifier, kkt_residuals

pytestmark = [pytest.mark.compile, pytest.mark.usefixtures("piqp_package")]

SETTINGS = opti.SQPSettings(
    tolerance_stationarity=1e-8, tolerance_feasibility=1e-8, tolerance_complementarity=1e-8
)

# Problems with several minima, of which these starts lead to another one: IPOPT, too, from this or
# other starts.
ELSEWHERE = ("HS2", "HS16", "HS20", "HS55", "HS70")

# A KKT point so close to the minimum, relatively, that rounding errors decide.
NEIGHBOURS = {"HS116": 1e-4}

# What may be answered where there is no minimum that satisfies the first-order conditions, or none
# that a local method has to find.
ANSWERS = {
    "infeasible": {opti.SQPStatus.INFEASIBLE},
    "unbounded": {opti.SQPStatus.UNBOUNDED, opti.SQPStatus.MAX_ITER},
    "no KKT point": set(opti.SQPStatus) - {opti.SQPStatus.UNBOUNDED},
    "Waechter-Biegler": {opti.SQPStatus.SOLVED, opti.SQPStatus.INFEASIBLE},
}

QUASI_NEWTON = ("HS1", "HS7", "HS24", "HS35", "HS39", "HS43", "HS48", "HS71", "HS76", "HS100")
WITH_PIQP = ("HS7", "HS21", "HS35", "HS43", "HS71", "HS76", "HS100", "HS113")
# Small residuals, or constraints that are nearly linear: Gauss-Newton Hessians know no
# curvature of constraints, and converge slowly or not at all where it decides (HS27, HS42).
GAUSS_NEWTON = ("HS1", "HS6", "HS26", "HS28", "HS48", "HS50", "HS52", "HS77")


@pytest.fixture(autouse=True)
def quick_compilation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Many small solvers, each called once: compiling them is what takes time."""
    monkeypatch.setenv("ANVIL_JAX_CXXFLAGS", "-O0")
    with jax.enable_x64(True):
        yield


def solve(problem: Problem, settings: opti.SQPSettings = SETTINGS, **options: Any) -> Any:
    """One solve from the standard start."""
    least_squares = settings.hessian == opti.HessianApproximation.GAUSS_NEWTON
    program = dense_problem(problem, least_squares=least_squares)
    qp = options.pop("qp", "dense")
    solver = opti.DenseSQPFunction(identifier(problem), program, settings, qp=qp)
    return solver(problem.x0, **options)


def check_solution(problem: Problem, result: Any, tolerance: float = 1e-7) -> None:
    """A KKT point; with the published optimum, but for the exceptions above."""
    residuals = kkt_residuals(problem, result)
    assert residuals.stationarity <= tolerance
    assert residuals.infeasibility <= tolerance
    assert residuals.complementarity <= tolerance
    accepted = [problem.optimum]
    if problem.name in ELSEWHERE:
        accepted += problem.other_kkt
    errors = [abs(result.objective - value) / max(1.0, abs(value)) for value in accepted]
    assert min(errors) <= NEIGHBOURS.get(problem.name, 1e-6)


def check_finite(result: Any) -> None:
    """Nothing in any result is NaN or infinite."""
    for array in (result.x, result.lam_eq, result.lam_ineq, result.lam_box):
        assert np.isfinite(array).all()
    assert np.isfinite(result.objective)


def a_third(names: Iterable[str]) -> list[Any]:
    """Parameters of which `pytest` runs every third one, and `pytest -m slow` the others."""
    return [
        pytest.param(name, marks=() if i % 3 == 0 else pytest.mark.slow)
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("name", a_third(PROBLEMS))
def test_optimum(name: str) -> None:
    problem = PROBLEMS[name]
    result = solve(problem)
    check_finite(result)
    if problem.verdict == "optimal":
        assert result.status == opti.SQPStatus.SOLVED, result
        check_solution(problem, result)
    else:
        assert result.status in ANSWERS[problem.verdict], result


def test_most_optima_are_the_published_ones() -> None:
    regular = [p for p in PROBLEMS.values() if p.verdict == "optimal"]
    assert len(ELSEWHERE) <= 0.05 * len(regular)


@pytest.mark.parametrize("name", SPECIAL_PROBLEMS)
def test_special_problem(name: str) -> None:
    problem = SPECIAL_PROBLEMS[name]
    result = solve(problem)
    check_finite(result)
    if name in ANSWERS:
        assert result.status in ANSWERS[name], result
    elif problem.verdict == "optimal":
        assert result.status == opti.SQPStatus.SOLVED, result
        check_solution(problem, result)
    else:
        assert result.status in ANSWERS[problem.verdict], result


@pytest.mark.parametrize("name", QUASI_NEWTON)
def test_bfgs(name: str) -> None:
    settings = SETTINGS.replace(
        hessian=opti.HessianApproximation.BFGS, tolerance_stationarity=1e-6, max_iterations=300
    )
    result = solve(PROBLEMS[name], settings)
    assert result.status == opti.SQPStatus.SOLVED, result
    check_solution(PROBLEMS[name], result, 1e-5)


@pytest.mark.parametrize("name", GAUSS_NEWTON)
def test_gauss_newton(name: str) -> None:
    settings = SETTINGS.replace(
        hessian=opti.HessianApproximation.GAUSS_NEWTON, tolerance_stationarity=1e-6
    )
    result = solve(LEAST_SQUARES[name], settings)
    assert result.status == opti.SQPStatus.SOLVED, result
    check_solution(LEAST_SQUARES[name], result, 1e-5)


@pytest.mark.parametrize("name", WITH_PIQP)
def test_piqp(name: str) -> None:
    pytest.importorskip("piqp")
    result = solve(PROBLEMS[name], qp="piqp")
    assert result.status == opti.SQPStatus.SOLVED, result
    check_solution(PROBLEMS[name], result)
