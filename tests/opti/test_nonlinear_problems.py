"""Dense and sparse problems: the worked example, own derivatives, every supplier and Hessian."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax import opti
from anvil_jax.errors import ArgumentError, SolverError
from anvil_jax.opti import curvature
from tests.opti.optimality import check_optimal

pytestmark = pytest.mark.usefixtures("piqp_package")

BOUNDS: dict[str, Any] = {"x_lb": [-1.0, -1e6, -1.0, -1.0], "x_ub": [1.0, 1e6, 1.0, 1.0]}
START = np.array([0.5, 0.5, 0.0, 0.0])
TIGHT = opti.SQPSettings(
    tolerance_stationarity=1e-9, tolerance_feasibility=1e-9, tolerance_complementarity=1e-9
)


def cost(x, p):
    return (x[1] - 2.0) ** 2 - x[2] + x[3]


def equality(x, p):
    return jnp.array([x[0] ** 2 + x[1]])


@pytest.mark.parametrize(
    ("kind", "solver", "qp"),
    [
        (opti.DenseProblem, opti.DenseSQPFunction, "dense"),
        (opti.DenseProblem, opti.DenseSQPFunction, "piqp"),
        (opti.SparseProblem, opti.SparseSQPFunction, "piqp"),
    ],
    ids=["dense", "dense_piqp", "sparse_piqp"],
)
def test_worked_example(kind, solver, qp):
    problem = kind(cost, equality, eq_rhs=[1.0], **BOUNDS)
    result = solver("worked", problem, TIGHT, qp=qp)(START)
    assert result.status == opti.SQPStatus.SOLVED
    np.testing.assert_allclose(result.x, [0.0, 1.0, 1.0, -1.0], atol=1e-4)
    np.testing.assert_allclose(result.objective, -1.0, atol=1e-7)
    np.testing.assert_allclose(result.lam_eq, [2.0], atol=1e-6)
    np.testing.assert_allclose(result.lam_box, [0.0, 0.0, 1.0, -1.0], atol=1e-6)
    check_optimal(problem, result)


def test_numerical_functions_are_accepted_and_say_the_size():
    specs = (av.Arg(4), av.Arg(0))
    problem = opti.DenseProblem(
        av.NumericalFunction("cost", cost, specs),
        av.NumericalFunction("equality", equality, specs),
        eq_rhs=1.0,
    )
    assert problem.n == 4
    assert problem.m_eq == 1
    result = opti.DenseSQPFunction("worked", problem, qp="dense")(START, **BOUNDS)
    assert result.success
    check_optimal(problem, result, **BOUNDS)


def disc(x, p):
    return jnp.array([x[0] ** 2 + x[1] ** 2, x[0] * x[2] - x[1]])


def rosenbrock(x, p):
    return (p[0] - x[0]) ** 2 + 10.0 * (x[1] - x[0] ** 2) ** 2 + (x[2] - 0.5) ** 2


DISC: dict[str, Any] = {"ineq_lb": [-np.inf, -0.2], "ineq_ub": [0.8, 0.3], "n": 3, "param_dim": 1}


@pytest.mark.parametrize("hessian", ["exact", "bfgs"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_parameters_and_two_sided_rows(kind, hessian):
    settings = opti.SQPSettings(hessian=opti.HessianApproximation(hessian))
    if kind == "dense":
        problem = opti.DenseProblem(rosenbrock, None, disc, **DISC)
        solver = opti.DenseSQPFunction("disc", problem, settings, qp="dense")
    else:
        problem = opti.SparseProblem(rosenbrock, None, disc, **DISC)
        solver = opti.SparseSQPFunction("disc", problem, settings)
    for p in ([1.0], [-0.5]):
        result = solver(np.zeros(3), p)
        assert result.success, result
        check_optimal(problem, result, p)


def test_own_derivatives_are_used():
    seen = []

    def noted(name, fn):
        def wrapped(*args):
            seen.append(name)
            return fn(*args)

        return wrapped

    def lagrangian(x, p, y, w):
        return rosenbrock(x, p) + w @ disc(x, p)

    problem = opti.DenseProblem(
        rosenbrock,
        None,
        disc,
        **DISC,
        gradient_fn=noted("gradient", jax.grad(rosenbrock)),
        ineq_jacobian_fn=noted("jacobian", jax.jacobian(disc)),
        hessian_fn=noted("hessian", jax.hessian(lagrangian)),
    )
    result = opti.DenseSQPFunction("own", problem, qp="dense")(np.zeros(3), [1.0])
    assert {"gradient", "jacobian", "hessian"} <= set(seen)
    assert isinstance(problem, opti.DenseDerivatives)
    check_optimal(problem, result, [1.0])


def test_own_sparse_derivatives_are_used():
    specs = (av.Arg(3), av.Arg(1))
    rows = av.spjacobian(av.NumericalFunction("disc", disc, specs))
    problem = opti.SparseProblem(rosenbrock, None, disc, **DISC, ineq_jacobian_fn=rows)
    result = opti.SparseSQPFunction("own_sparse", problem)(np.zeros(3), [1.0])
    check_optimal(problem, result, [1.0])
    wrong = opti.SparseProblem(rosenbrock, None, disc, **DISC, ineq_jacobian_fn=jax.jacobian(disc))
    with pytest.raises(SolverError, match="SparseNumericalFunction"):
        _ = opti.SparseSQPFunction("own_dense", wrong).view


def test_gauss_newton_needs_and_uses_residuals():
    def residual(x, p):
        return jnp.array([x[0] - p[0], 3.0 * (x[1] - x[0] ** 2), x[2] - 0.5])

    settings = opti.SQPSettings(hessian=opti.HessianApproximation.GAUSS_NEWTON)
    problem = opti.DenseProblem(None, None, disc, **DISC, residual_fn=residual)
    result = opti.DenseSQPFunction("squares", problem, settings, qp="dense")(np.zeros(3), [1.0])
    assert result.success
    check_optimal(problem, result, [1.0])
    plain = opti.DenseProblem(rosenbrock, None, disc, **DISC)
    with pytest.raises(SolverError, match="residual_fn"):
        _ = opti.DenseSQPFunction("no_squares", plain, settings).view
    with pytest.raises(ArgumentError, match="either"):
        opti.DenseProblem(rosenbrock, residual_fn=residual, n=3)


def test_many_small_blocks_with_sparse_constraints():
    n = 120

    def separable(x, p):
        return jnp.sum(jnp.cosh(x - 1.0) + 0.1 * x**4)

    def chain(x, p):
        return x[1:] - x[:-1] - 0.05 * jnp.sin(x[:-1])

    problem = opti.SparseProblem(separable, chain, x_lb=np.full(n, -3.0), x_ub=np.full(n, 0.9))
    solver = opti.SparseSQPFunction("blocks", problem)
    assert "largest_block = 1;" in solver.source
    result = solver(np.zeros(n))
    assert result.success
    check_optimal(problem, result)


PATIENT = opti.SQPSettings(max_iterations=500)


def chained_rosenbrock(x, p):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def exponential_rows(x, p):
    """Rows of problem 5.1 of L. Luksan, J. Vlcek, report V-767, Czech Academy of Sciences, 1999."""
    a, b, c = x[:-2], x[1:-1], x[2:]
    bent = jnp.sin(b - c) * jnp.sin(b + c) - a * jnp.exp(a - b)
    return 3 * b**3 + 2 * c - 5 + bent + 4 * b - 3


def waves(x, p):
    """Indefinite in most places; far variables are coupled, too."""
    near, far = jnp.sin(3 * (x[1:] - x[:-1])), jnp.cos(x[::7][1:] - x[::7][:-1])
    return jnp.sum(near) + jnp.sum(far) + 0.1 * jnp.sum(x**2)


@pytest.mark.parametrize(
    ("fn", "rows"),
    [(chained_rosenbrock, exponential_rows), (waves, None)],
    ids=["rosenbrock", "waves"],
)
def test_large_connected_hessians(fn, rows):
    n = 300
    problem = opti.SparseProblem(fn, rows, n=n, x_lb=-3.0, x_ub=3.0)
    solver = opti.SparseSQPFunction("connected", problem)
    assert "anvil_rt::envelope_convexification<model>" in solver.source
    result = solver(np.where(np.arange(n) % 2 == 0, -1.2, 1.0), settings=PATIENT)
    assert result.success
    check_optimal(problem, result)


def test_large_convex_hessians_are_left_alone():
    n = 260
    random = np.random.default_rng(3)
    pairs = random.integers(0, n, (2, 2 * n))
    weights = random.uniform(0.1, 2.0, 2 * n)

    def quadratic(x, p):
        coupled = jnp.sum(weights * (x[pairs[0]] - x[pairs[1]]) ** 2)
        return coupled + 0.5 * jnp.sum((x - jnp.arange(n) / n) ** 2)

    solver = opti.SparseSQPFunction("convex", opti.SparseProblem(quadratic, n=n))
    result = solver(np.zeros(n))
    assert result.success
    assert result.iterations == 1
    with jax.enable_x64(True):
        hessian = np.asarray(jax.hessian(quadratic)(np.zeros(n), None))
        gradient = np.asarray(jax.grad(quadratic)(np.zeros(n), None))
    np.testing.assert_allclose(result.x, -np.linalg.solve(hessian, gradient), atol=1e-8)


def test_hessians_too_large_are_refused_with_advice(monkeypatch):
    problem = opti.SparseProblem(lambda x, p: jnp.sum(x) ** 4 + jnp.sum(x**2), n=210)
    bfgs = opti.SQPSettings(hessian=opti.HessianApproximation.BFGS)
    with pytest.raises(
        SolverError, match=r"210 variables are connected .* Use HessianApproximation.EXACT"
    ):
        _ = opti.SparseSQPFunction("large", problem, bfgs).view
    monkeypatch.setattr(curvature, "LARGEST_ENVELOPE", 1000)
    with pytest.raises(SolverError, match=r"22155 entries, .* \(MultistageProblem"):
        _ = opti.SparseSQPFunction("large", problem).view


def test_single_precision():
    problem = opti.DenseProblem(cost, equality, eq_rhs=[1.0], **BOUNDS, dtype=np.float32)
    result = opti.DenseSQPFunction("single", problem, qp="dense")(START)
    assert result.success
    assert result.x.dtype == np.float32
    np.testing.assert_allclose(result.objective, -1.0, atol=1e-3)
    with pytest.raises(SolverError, match="float64"):
        _ = opti.DenseSQPFunction("single", problem, qp="piqp").view


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: opti.DenseProblem(None), "cost_fn or a residual_fn"),
        (lambda: opti.DenseProblem(cost), "number of variables"),
        (lambda: opti.DenseProblem(lambda x, p: x, n=4), "one number"),
        (lambda: opti.DenseProblem(cost, n=4, x_lb=[0.0, 1.0]), "shape"),
        (lambda: opti.DenseProblem(cost, n=4, x_lb=2.0, x_ub=1.0), "above"),
        (lambda: opti.DenseProblem(cost, n=4, x_lb=np.nan), "NaN"),
        (lambda: opti.DenseProblem(cost, equality, n=4, eq_rhs=np.inf), "finite"),
        (lambda: opti.DenseProblem(cost, n=4, dtype=np.int32), "float64 or float32"),
        (lambda: opti.DenseProblem(cost, lambda x, p: jnp.array([1]), n=4), "real numbers"),
    ],
)
def test_inconsistent_problems_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
