"""Multistage problems of every shape, with every supplier, judged by the KKT conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anvil_jax import opti
from anvil_jax.errors import ArgumentError, SolverError
from tests.opti.optimality import check_optimal

pytestmark = pytest.mark.usefixtures("piqp_package")

DT = 0.1


def pendulum(x, u):
    return jnp.array([x[1], u[0] - jnp.sin(x[0])])


def euler(x, u):
    return x + DT * pendulum(x, u)


def stage_cost(z, *_):
    return DT * ((z[0] - 1.0) ** 2 + 0.1 * z[1] ** 2 + 0.05 * z[2] ** 2)


def base(N=8, **changes):
    """Pendulum to an angle of 1: z = (angle, rate, torque)."""
    options = {
        "cost_stage_fn": stage_cost,
        "cost_terminal_fn": lambda z, *_: 5.0 * (z[0] - 1.0) ** 2 + z[1] ** 2,
        "eq_initial_fn": lambda z, *_: z[:2],
        "eq_interstage_fn": lambda z, following, *_: following[:2] - euler(z[:2], z[2:]),
        "z_lb": [-3.0, -1.0, -2.0],
        "z_ub": [3.0, 1.0, 2.0],
    }
    return opti.MultistageProblem(N, 3, **(options | changes))


def reordered():
    """Input first, links with the other sign and in another order."""
    return opti.MultistageProblem(
        8,
        3,
        cost_stage_fn=lambda z, *_: stage_cost(z[jnp.array([2, 1, 0])]),
        cost_terminal_fn=lambda z, *_: 5.0 * (z[2] - 1.0) ** 2 + z[1] ** 2,
        eq_initial_fn=lambda z, *_: jnp.array([2.0 * z[1], z[2]]),
        eq_interstage_fn=lambda z, following, *_: jnp.array(
            [
                euler(jnp.array([z[2], z[1]]), z[:1])[1] - following[1],
                following[2] - euler(jnp.array([z[2], z[1]]), z[:1])[0],
            ]
        ),
        z_lb=[-2.0, -1.0, -3.0],
        z_ub=[2.0, 1.0, 3.0],
    )


def midpoint():
    """Implicit: curvature in the next state and between the stages."""

    def link(z, following, *_):
        middle = (z[:2] + following[:2]) / 2
        return following[:2] - z[:2] - DT * pendulum(middle, z[2:])

    return base(eq_interstage_fn=link)


def general_rows():
    """Equalities and inequalities of several variables in every place; two torques."""
    return opti.MultistageProblem(
        8,
        4,
        cost_initial_fn=lambda z, *_: 0.1 * z[2] ** 4,
        cost_stage_fn=lambda z, *_: stage_cost(z) + 0.02 * DT * z[3] ** 2,
        cost_terminal_fn=lambda z, *_: 5.0 * (z[0] - 1.0) ** 2 + z[1] ** 2,
        eq_initial_fn=lambda z, *_: z[:2],
        eq_interstage_fn=lambda z, following, *_: following[:2] - euler(z[:2], z[2:3] + z[3:]),
        eq_stage_fn=lambda z, *_: jnp.array([z[2] - 0.5 * z[3] + 0.1 * z[0] * z[1]]),
        eq_stage_rhs=[0.05],
        eq_terminal_fn=lambda z, *_: jnp.array([z[0] + 0.2 * z[1]]),
        eq_terminal_rhs=[0.3],
        ineq_stage_fn=lambda z, *_: jnp.array([z[0] + z[1], z[1]]),
        ineq_stage_lb=[-np.inf, -0.5],
        ineq_stage_ub=[0.9, 0.45],
        ineq_initial_fn=lambda z, *_: jnp.array([z[2] * z[3]]),
        ineq_initial_lb=[-1.0],
        ineq_initial_ub=[0.3],
        ineq_terminal_fn=lambda z, *_: jnp.array([z[0] ** 2 + z[1] ** 2, -2.0 * z[0]]),
        ineq_terminal_lb=[0.0, -1.9],
        ineq_terminal_ub=[0.2, np.inf],
        z_lb=[-3.0, -1.0, -2.0, -3.0],
        z_ub=[3.0, 1.0, 2.0, 3.0],
    )


def free_start():
    """Nothing fixes the initial state."""
    return base(
        eq_initial_fn=None,
        cost_initial_fn=lambda z, *_: (z[0] + 0.5) ** 2 + 0.3 * z[1] ** 2,
    )


def with_parameters():
    return base(
        cost_stage_fn=lambda z, shared, own: (
            DT * (shared[0] * (z[0] - own[0]) ** 2 + 0.1 * z[1] ** 2 + 0.05 * z[2] ** 2)
        ),
        eq_interstage_fn=lambda z, following, shared, own: (
            following[:2] - euler(z[:2], z[2:] * shared[1] + own[1])
        ),
        param_dim=2,
        global_param_dim=2,
    )


def linked_inequality():
    """Only PIQP: the input may not change quickly."""
    return base(
        ineq_interstage_fn=lambda z, following, *_: following[2:] - z[2:],
        ineq_interstage_lb=[-0.3],
        ineq_interstage_ub=[0.3],
        cost_terminal_fn=lambda z, *_: 5.0 * (z[0] - 1.0) ** 2 + z[1] ** 2 + 0.01 * z[2] ** 2,
    )


RICCATI = [base, reordered, midpoint, general_rows, free_start, lambda: base(N=1)]
NAMES = ["base", "reordered", "midpoint", "general_rows", "free_start", "one_interval"]


@pytest.mark.parametrize("qp", ["riccati", "piqp"])
@pytest.mark.parametrize("make", RICCATI, ids=NAMES)
def test_solutions_are_optimal(make, qp):
    problem = make()
    solver = opti.SparseSQPFunction("pendulum", problem, qp=qp)
    result = solver(np.full(problem.x_shape, 0.1))
    assert result.status == opti.SQPStatus.SOLVED
    check_optimal(problem, result)


def test_parameters_reach_their_stages():
    problem = with_parameters()
    p = problem.parameters([1.5, 0.8], np.stack([np.linspace(0, 1, 9), np.full(9, 0.1)], axis=1))
    solver = opti.SparseSQPFunction("pendulum_p", problem)
    assert solver.qp == "riccati"
    result = solver(np.zeros(problem.x_shape), p)
    assert result.success
    check_optimal(problem, result, p)
    other = solver(np.zeros(problem.x_shape), problem.parameters([1.5, 0.8], [0.5, 0.0]))
    assert other.success
    assert abs(other.objective - result.objective) > 1e-3
    with pytest.raises(ArgumentError, match="parameters"):
        solver(np.zeros(problem.x_shape))


def test_other_links_go_to_piqp():
    problem = linked_inequality()
    solver = opti.SparseSQPFunction("linked", problem)
    assert solver.qp == "piqp"
    result = solver(np.zeros(problem.x_shape))
    assert result.success
    check_optimal(problem, result)
    with pytest.raises(SolverError, match="inequalities between stages"):
        _ = opti.SparseSQPFunction("linked", problem, qp="riccati").view


def test_run_time_bounds_and_right_hand_sides():
    problem = base()
    solver = opti.SparseSQPFunction("pendulum", problem, qp="riccati")
    eq_rhs = problem.defaults.eq_rhs.copy()
    eq_rhs[:2] = 0.3, -0.2
    upper = np.tile([3.0, 0.5, 1.0], (9, 1))
    result = solver(np.zeros(problem.x_shape), eq_rhs=eq_rhs, x_ub=upper)
    assert result.success
    np.testing.assert_allclose(result.x[0, :2], [0.3, -0.2], atol=1e-7)
    check_optimal(problem, result, eq_rhs=eq_rhs, x_ub=upper)


@pytest.mark.parametrize("hessian", list(opti.HessianApproximation), ids=lambda h: h.value)
def test_hessian_approximations_agree(hessian):
    problem = opti.NLSMultistageProblem(
        8,
        3,
        residual_stage_fn=lambda z, *_: jnp.sqrt(2 * DT) * jnp.array(
            [z[0] - 1.0, 0.3 * z[1], 0.2 * z[2]]
        ),
        residual_terminal_fn=lambda z, *_: jnp.array([3.0 * (z[0] - 1.0), z[1]]),
        eq_initial_fn=lambda z, *_: z[:2],
        eq_interstage_fn=lambda z, following, *_: following[:2] - euler(z[:2], z[2:]),
        z_lb=[-3.0, -1.0, -2.0],
        z_ub=[3.0, 1.0, 2.0],
    )  # fmt: skip
    solver = opti.SparseSQPFunction("tracking", problem, opti.SQPSettings(hessian=hessian))
    result = solver(np.zeros(problem.x_shape))
    assert result.success, result
    check_optimal(problem, result)
    other = next(h for h in opti.HessianApproximation if h is not hessian)
    with pytest.raises(ArgumentError, match="Hessians"):
        solver(np.zeros(problem.x_shape), settings=opti.SQPSettings(hessian=other))


def test_single_precision():
    problem = base(dtype=np.float32)
    result = opti.SparseSQPFunction("single", problem)(np.zeros(problem.x_shape))
    assert result.success, result
    assert result.x.dtype == np.float32
    exact = opti.SparseSQPFunction("pendulum", base(), qp="riccati")(np.zeros(problem.x_shape))
    np.testing.assert_allclose(result.x, exact.x, atol=2e-2)


def test_feedback_tells_the_residuals_where_it_started():
    problem = base(N=20)
    solver = opti.SparseSQPFunction("controller", problem, qp="riccati")
    solved = solver(np.zeros(problem.x_shape))
    x = problem.defaults.eq_rhs[:2]
    assert solver.prepare() == opti.SQPStatus.SOLVED
    settled = solver.feedback(x)
    assert settled.objective == pytest.approx(solved.objective, rel=1e-12)
    assert settled.infeasibility == pytest.approx(solved.infeasibility, abs=1e-12)
    assert settled.stationarity == pytest.approx(solved.stationarity, abs=1e-12)
    assert solver.prepare() == opti.SQPStatus.SOLVED
    pushed = solver.feedback(x + np.array([0.1, 0.0]))
    assert pushed.infeasibility == pytest.approx(0.1, rel=1e-6)


def test_real_time_iterations_follow_the_solution():
    problem = base(N=20)
    solver = opti.SparseSQPFunction("controller", problem, qp="riccati")
    assert solver(np.zeros(problem.x_shape)).success
    converged = opti.SparseSQPFunction("controller", problem, qp="riccati")
    x = np.zeros(2)
    with jax.enable_x64(True):
        for _ in range(15):
            assert solver.prepare() == opti.SQPStatus.SOLVED
            result = solver.feedback(x)
            assert result.success
            rhs = problem.defaults.eq_rhs.copy()
            rhs[:2] = x
            best = converged(result.x, eq_rhs=rhs)
            np.testing.assert_allclose(result.x[0, 2], best.x[0, 2], atol=0.05)
            x = np.asarray(euler(jnp.asarray(x), jnp.asarray(result.x[0, 2:])))
            solver.shift()
    assert abs(x[0] - 1.0) < 0.2
    with pytest.raises(ArgumentError, match="x_measured"):
        solver.feedback([0.0])


def test_infeasible_dynamics_are_reported():
    problem = base(eq_terminal_fn=lambda z, *_: z[:2], eq_terminal_rhs=[2.5, 0.0])
    for qp in ("riccati", "piqp"):
        result = opti.SparseSQPFunction("far", problem, qp=qp)(np.zeros(problem.x_shape))
        assert result.status == opti.SQPStatus.INFEASIBLE
        assert np.isfinite(result.x).all()
