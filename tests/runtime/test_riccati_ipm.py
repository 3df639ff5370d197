"""riccati_ipm.hpp: programs over stages, against PIQP and the conditions of optimality."""

from functools import cache

import numpy as np
import pytest

from tests.runtime.quadratic_programs import (
    COMPILERS,
    DRIVER,
    HEADERS,
    StageProgram,
    builder,
    entry,
    infeasible_stages,
    random_stages,
)

pytestmark = pytest.mark.compile

# N, NX, NU, NG
MPC = (8, 4, 2, 5)
SIZES = [(5, 3, 1, 1), MPC, (1, 2, 0, 1), (3, 0, 2, 2)]
# Seed, sizes and share of soft rows.
CASES = [(seed, SIZES[seed % 4], (0.0, 0.0, 0.3, 1.0)[seed // 4 % 4]) for seed in range(120)]


@pytest.fixture(scope="module", params=COMPILERS)
def library(request, tmp_path_factory):
    build = builder(request.param, tmp_path_factory)
    entries = [entry("stages", "double", sizes) for sizes in SIZES]
    entries += [entry("soft_stages", "double", sizes) for sizes in (*SIZES[:2], SIZES[3])]
    return build(HEADERS, "".join([DRIVER, *entries, entry("stages", "float", SIZES[0])]))


@cache
def reference(case):
    return random_stages(*case).dense().reference()


def copy(program):
    return StageProgram(*(array.copy() for array in vars(program).values()))


def chain(horizon=5, nx=3):
    """A chain of integrators with one input, of sizes (5, 3, 1, 1), and nothing else."""
    shape = (horizon + 1, nx + 1)
    program = StageProgram(
        np.zeros((*shape, nx + 1)),
        np.zeros(shape),
        np.zeros((*shape, nx + 1)),
        np.zeros((horizon + 1, nx)),
        np.full((horizon + 1, nx + 2), -np.inf),
        np.full((horizon + 1, nx + 2), np.inf),
        np.full((horizon + 1, nx + 2), np.inf),
    )
    program.jacobian[:-1, :nx] = np.eye(nx, nx + 1) + np.eye(nx, nx + 1, 1)
    program.lower[0, :nx] = program.upper[0, :nx] = 1.0
    return program


@pytest.mark.parametrize("soft", [0.0, 0.3, 1.0])
def test_solutions_are_optimal(library, soft):
    for case in CASES:
        if case[2] != soft:
            continue
        program = random_stages(*case)
        result = program.solve(library, tolerance=1e-9)
        assert result.status == "solved", case
        dense = program.dense()
        assert dense.residual(*program.flat(result)) < 2e-8, case
        x, _ = program.flat(result)
        assert result.objective + result.penalty == pytest.approx(dense.cost(x), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("price", [0.1, 10.0, 1e4])
def test_links_at_a_price(library, price):
    """Dynamics give way where that pays; with singular Hessians it may pay without end."""
    solved = broken = 0
    for case in CASES:
        if case[1] == (1, 2, 0, 1):
            continue
        program = random_stages(*case)
        dense = program.dense(price)
        status, objective = dense.reference()
        if status != "solved":
            continue
        result = program.solve(library, tolerance=1e-9, price=price)
        assert result.status == "solved", case
        x, multiplier = program.flat(result)
        assert dense.residual(x, multiplier) < 1e-6, case
        assert result.objective + result.penalty == pytest.approx(objective, rel=1e-6, abs=1e-6)
        links = slice(dense.lower.size - program.sizes[0] * program.sizes[1], None)
        rows = np.concatenate([x, dense.matrix @ x])
        broken += np.abs(rows - dense.lower)[links].max(initial=0.0) > 1e-3
        solved += 1
    assert solved > 70
    assert (broken > 0) == (price < 1e3)


def test_objectives_are_those_of_piqp(library):
    for case in CASES:
        program = random_stages(*case)
        x, _ = program.flat(program.solve(library, tolerance=1e-9))
        status, objective = reference(case)
        assert status == "solved", case
        assert program.dense().cost(x) == pytest.approx(objective, rel=1e-7, abs=1e-7), case


def test_infeasible_programs_are_found_to_be(library):
    for seed in range(60):
        program = infeasible_stages(seed, SIZES[seed % 3])
        assert program.solve(library).status == "infeasible", seed


def test_soft_rows_make_infeasible_programs_solvable(library):
    for seed in range(20):
        program = infeasible_stages(seed, MPC)
        program.penalty[:] = 50.0
        program.penalty[0, :4] = np.inf
        result = program.solve(library)
        assert result.status == "solved"
        assert result.penalty > 1e-3
        assert program.dense().residual(*program.flat(result)) < 1e-6


def test_warm_starts_save_iterations(library):
    cold, warm = [], []
    for seed in range(30):
        program = copy(random_stages(seed, MPC))
        before = program.solve(library, tolerance=1e-6)
        again = program.solve(library, tolerance=1e-6, start=before)
        assert again.status == "solved"
        assert again.iterations <= 3
        program.gradient += 0.003 * np.random.default_rng(seed).normal(size=program.gradient.shape)
        program.gradient[-1, 4:] = 0
        cold.append(program.solve(library, tolerance=1e-6).iterations)
        after = program.solve(library, tolerance=1e-6, start=before)
        assert after.status == "solved"
        warm.append(after.iterations)
    assert sum(warm) < 0.6 * sum(cold)
    assert np.mean(np.array(warm) <= np.array(cold)) > 0.9


def test_loose_tolerances_take_fewer_iterations(library):
    counts = []
    for tolerance in (1e-9, 1e-6, 1e-3, 1e-1):
        results = [random_stages(i, MPC).solve(library, tolerance=tolerance) for i in range(20)]
        assert all(result.status == "solved" for result in results)
        for result in results:
            size = max(1.0, *(np.abs(array).max() for array in result.arrays[-3:]))
            assert result.stationarity <= 1.2 * tolerance * size
            assert result.infeasibility <= 1.2 * tolerance * size
        counts.append(sum(result.iterations for result in results))
    assert counts == sorted(counts, reverse=True)
    assert counts[2] < 0.7 * counts[0]


def test_single_precision(library):
    for seed in range(40):
        program = random_stages(seed, SIZES[0], 0.3 * (seed % 2))
        result = program.solve(library, "float")
        assert result.status == "solved", seed
        x, multiplier = program.flat(result)
        assert program.dense().residual(x, multiplier) < 2e-3, seed


@pytest.mark.parametrize("name", ["hessian", "gradient", "jacobian", "offset", "lower", "penalty"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_is_not_finite(library, name, value):
    program = copy(random_stages(0, MPC))
    getattr(program, name)[2].flat[0] = value
    if name == "penalty" and value > 0:
        expected = {"solved"}
    elif name == "lower":
        expected = {"numerics"} if np.isnan(value) else {"solved", "infeasible"}
    else:
        expected = {"numerics"}
    assert program.solve(library).status in expected
    # It leaves no trace in the instance.
    assert random_stages(0, MPC).solve(library).status == "solved"


def test_starts_that_are_not_finite(library):
    program = random_stages(0, MPC)
    start = program.solve(library)
    start.arrays[-3][1, 0] = np.nan
    assert program.solve(library, start=start).status == "numerics"


def test_unbounded_programs(library):
    program = chain()
    program.gradient[-1, 0] = -1.0  # the last position is to be large, and inputs cost nothing
    assert program.solve(library).status == "unbounded"
    # Enough of anything against it makes a solution.
    bounded = copy(program)
    bounded.lower[:-1, 3], bounded.upper[:-1, 3] = -1e4, 1e4
    assert bounded.solve(library).status == "solved"
    convex = copy(program)
    convex.hessian[:-1, 3, 3] = 1e-4
    result = convex.solve(library)
    assert result.status == "solved"
    assert convex.dense().residual(*convex.flat(result)) < 1e-7
    soft = copy(program)
    soft.upper[-1, 0], soft.penalty[-1, 0] = 3.0, 2.0
    assert soft.solve(library).status == "solved"
    soft.penalty[-1, 0] = 0.5
    assert soft.solve(library).status == "unbounded"
    # Where it cannot be told from rows that nearly go along, the objective still says so.
    free = copy(program)
    free.lower[0, :3] = -1.0
    result = free.solve(library)
    assert result.status in ("unbounded", "max_iterations")
    assert result.objective < -1e7


def test_bounds_that_cross_or_exclude_everything(library):
    for lower, upper in ((1.0, 0.0), (np.inf, np.inf), (-np.inf, -np.inf)):
        program = chain()
        program.lower[2, 3], program.upper[2, 3] = lower, upper
        assert program.solve(library).status == "infeasible"


def test_rows_without_penalty_take_no_part(library):
    program = chain()
    program.hessian[:] = np.eye(4)
    program.hessian[-1, 3] = 0
    free = program.solve(library)
    program.upper[2, 0], program.penalty[2, 0] = -100.0, 0.0
    result = program.solve(library)
    assert result.status == "solved"
    assert result.objective == pytest.approx(free.objective, rel=1e-9)


def test_limits_of_iterations(library):
    program = random_stages(1, MPC)
    for limit in (0, 1, 3):
        result = program.solve(library, limit=limit)
        assert (result.status, result.iterations) == ("max_iterations", limit)


def test_dependent_rows_and_fixed_ends(library):
    for seed in range(20):
        program = copy(random_stages(seed, MPC))
        program.jacobian[:, -1] = program.jacobian[:, -2]
        program.lower[:, -1], program.upper[:, -1] = program.lower[:, -2], program.upper[:, -2]
        result = program.solve(library)
        assert result.status == "solved"
        assert program.dense().residual(*program.flat(result)) < 1e-7
