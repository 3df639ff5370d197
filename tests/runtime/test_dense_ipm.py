"""dense_ipm.hpp: dense quadratic programs, against PIQP and the conditions of optimality."""

from functools import cache

import numpy as np
import pytest

from tests.runtime.quadratic_programs import (
    COMPILERS,
    DRIVER,
    HEADERS,
    DenseProgram,
    builder,
    entry,
    infeasible_dense,
    random_dense,
)

pytestmark = pytest.mark.compile

# Variables, equalities, inequalities
MIDDLE = (10, 4, 6)
SIZES = [(5, 2, 3), MIDDLE, (19, 3, 0), (3, 0, 0)]
# Seed, sizes and share of soft rows.
CASES = [(seed, SIZES[seed % 4], (0.0, 0.0, 0.3, 1.0)[seed // 4 % 4]) for seed in range(120)]


@pytest.fixture(scope="module", params=COMPILERS)
def library(request, tmp_path_factory):
    build = builder(request.param, tmp_path_factory)
    entries = [entry("dense", "double", sizes) for sizes in [*SIZES, (0, 0, 0)]]
    return build(HEADERS, "".join([DRIVER, *entries, entry("dense", "float", (5, 2, 3))]))


@cache
def reference(case):
    return random_dense(*case).reference()


def copy(program):
    return DenseProgram(*(array.copy() for array in vars(program).values()))


def solution(program, result):
    value, multiplier = result.arrays[-2:]
    return value[: len(program.gradient)], multiplier


@pytest.mark.parametrize("soft", [0.0, 0.3, 1.0])
def test_solutions_are_optimal(library, soft):
    for case in CASES:
        if case[2] != soft:
            continue
        program = random_dense(*case)
        result = program.solve(library, case[1][1], tolerance=1e-9)
        assert result.status == "solved", case
        x, multiplier = solution(program, result)
        assert program.residual(x, multiplier) < 2e-8, case
        cost = program.cost(x)
        assert result.objective + result.penalty == pytest.approx(cost, rel=1e-7, abs=1e-7), case
        assert np.allclose(result.arrays[-2][len(x) :], program.matrix @ x)


def test_objectives_are_those_of_piqp(library):
    for case in CASES:
        program = random_dense(*case)
        x, _ = solution(program, program.solve(library, case[1][1], tolerance=1e-9))
        status, objective = reference(case)
        assert status == "solved", case
        assert program.cost(x) == pytest.approx(objective, rel=1e-7, abs=1e-7), case


def test_infeasible_programs_are_found_to_be(library):
    for seed in range(60):
        sizes = SIZES[seed % 3]
        program = infeasible_dense(seed, sizes)
        assert program.solve(library, sizes[1]).status == "infeasible", seed


def test_contradictory_equalities(library):
    program = copy(random_dense(0, MIDDLE))
    program.matrix[1] = 2 * program.matrix[0]
    program.lower[11] = program.upper[11] = 2 * program.lower[10] + 1
    assert program.solve(library, 4).status == "infeasible"
    # Soft ones share the violation.
    program.penalty[10:] = 1.0
    result = program.solve(library, 4)
    assert result.status == "solved"
    assert program.residual(*solution(program, result)) < 1e-7
    assert result.penalty >= 0.5 - 1e-6


def test_warm_starts_save_iterations(library):
    cold, warm = [], []
    for seed in range(30):
        program = copy(random_dense(seed, MIDDLE))
        before = program.solve(library, 4, tolerance=1e-6)
        again = program.solve(library, 4, tolerance=1e-6, start=before)
        assert again.status == "solved"
        assert again.iterations <= before.iterations
        program.gradient += 0.003 * np.random.default_rng(seed).normal(size=10)
        cold.append(program.solve(library, 4, tolerance=1e-6).iterations)
        after = program.solve(library, 4, tolerance=1e-6, start=before)
        assert after.status == "solved"
        warm.append(after.iterations)
    assert sum(warm) < 0.6 * sum(cold)
    assert np.mean(np.array(warm) <= np.array(cold)) > 0.9


def test_single_precision(library):
    for seed in range(40):
        program = random_dense(seed, (5, 2, 3), 0.3 * (seed % 2))
        result = program.solve(library, 2, "float")
        assert result.status == "solved", seed
        assert program.residual(*solution(program, result)) < 5e-3, seed


@pytest.mark.parametrize("name", ["hessian", "gradient", "matrix", "upper", "penalty"])
def test_data_that_is_not_a_number(library, name):
    program = copy(random_dense(0, MIDDLE))
    getattr(program, name).flat[3] = np.nan
    assert program.solve(library, 4).status == "numerics"
    assert random_dense(0, MIDDLE).solve(library, 4).status == "solved"


def test_unbounded_programs(library):
    zeros, free = np.zeros((3, 3)), np.full(3, np.inf)
    program = DenseProgram(zeros, np.array([1.0, 2, 3]), np.zeros((0, 3)), -free, free, free)
    assert program.solve(library, 0).status == "unbounded"
    program.lower = np.array([-np.inf, 0, 0])
    assert program.solve(library, 0).status == "unbounded"
    for least in (-1.0, -1e2, -1e3, -1e6, -1e9):
        program.lower = np.array([least, 0, 0])
        result = program.solve(library, 0)
        assert result.status == "solved"
        assert result.objective == pytest.approx(least, rel=1e-6)
    program.lower, program.hessian = -free, 1e-7 * np.eye(3)
    result = program.solve(library, 0)
    assert result.status == "solved"
    assert result.objective == pytest.approx(-7e7, rel=1e-6)


def test_a_distant_vertex_is_not_taken_for_a_ray(library):
    # x_0 is 0 at least and 1e-8 x_1 at most 1 - x_0, so x_1 ends at 1e8.
    program = copy(random_dense(2, (5, 2, 3)))
    program.hessian[:] = program.matrix[:] = 0
    program.gradient[:] = [0, -1, 0, 0, 0]
    program.lower[:5], program.upper[:5], program.penalty[:] = 0, np.inf, np.inf
    program.lower[5:], program.upper[5:] = -np.inf, np.inf
    program.lower[5:7] = program.upper[5:7] = 0
    program.matrix[2, :2] = 1, 1e-8
    program.upper[7] = 1
    result = program.solve(library, 2)
    assert result.status in ("solved", "max_iterations")
    if result.status == "solved":
        assert result.objective == pytest.approx(-1e8, rel=1e-4)


def test_nothing_to_solve(library):
    empty = np.zeros(0)
    program = DenseProgram(np.zeros((0, 0)), empty, np.zeros((0, 0)), empty, empty, empty)
    result = program.solve(library, 0)
    assert (result.status, result.iterations, result.objective) == ("solved", 0, 0.0)


def test_limits_of_iterations(library):
    result = random_dense(1, MIDDLE).solve(library, 4, limit=2)
    assert (result.status, result.iterations) == ("max_iterations", 2)
