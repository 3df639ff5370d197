"""The benchmark's control problems: JAX and CasADi agree on them, and solvers find their optima."""

import casadi
import jax
import numpy as np
import pytest

from anvil_jax import opti
from benchmarks.control_problems import PROBLEMS, flat_program
from benchmarks.jaxpr_casadi import multistage_program


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("calls", [False, True])
def test_casadi_has_the_same_functions(name: str, calls: bool) -> None:
    control = PROBLEMS[name](3)
    nlp = multistage_program(control.problem, calls=calls).nlp
    program = casadi.Function("program", [nlp["x"], nlp["p"]], [nlp["f"], nlp["g"]])
    random = np.random.default_rng(0)
    w = np.ravel(control.x0) + 0.1 * random.normal(size=control.x0.size)
    cost, rows = (value.full().ravel() for value in program(w, control.p))
    with jax.enable_x64(True):
        flat = flat_program(control)
        np.testing.assert_allclose(cost[0], flat.cost(w, control.p), rtol=1e-12)
        want = [flat.equalities(w, control.p), flat.inequalities(w, control.p)]
    np.testing.assert_allclose(rows, np.concatenate(want), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_starts_are_naive(name: str) -> None:
    """All stages alike, and the first of them is the measured state."""
    control = PROBLEMS[name](4)
    assert control.x0.shape == control.problem.x_shape
    assert (control.x0 == control.x0[0]).all()
    np.testing.assert_array_equal(control.x0[0, : len(control.x_measured)], control.x_measured)


@pytest.mark.compile
@pytest.mark.parametrize("name", ["pendulum", "cart_pole", "race_car"])
def test_solver_and_ipopt_agree(name: str) -> None:
    control = PROBLEMS[name](20)
    program = multistage_program(control.problem)
    options = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-9}}
    ipopt = casadi.nlpsol("ipopt", "ipopt", program.nlp, options)
    want = ipopt(**program.arguments(control.x0, control.p, control.eq_rhs))
    assert ipopt.stats()["success"]
    solver = opti.SparseSQPFunction(name, control.problem, qp="riccati")
    result = solver(control.x0, control.p, eq_rhs=control.eq_rhs)
    assert result.success
    assert result.objective == pytest.approx(float(want["f"]), rel=1e-6)


@pytest.mark.compile
def test_starts_off_the_track() -> None:
    """Infeasible linear models at first, which say nothing about the problem."""
    control = PROBLEMS["race_car"](30)
    solver = opti.SparseSQPFunction("race_car", control.problem, qp="riccati")
    best = solver(control.x0, control.p, eq_rhs=control.eq_rhs)
    assert best.success
    assert best.elastic_steps > 0
    random = np.random.default_rng(1)
    for _ in range(20):
        start = control.x0 + 0.3 * random.normal(size=control.x0.shape)
        result = solver(start, control.p, eq_rhs=control.eq_rhs)
        assert result.success
        assert result.objective == pytest.approx(best.objective, rel=1e-6)
