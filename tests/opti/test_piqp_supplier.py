"""PIQP behind the C interface: optimality conditions, verdicts, and data it cannot stand."""

import ctypes
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anvil_jax.errors import ArgumentError, SolverError, ToolchainError
from anvil_jax.opti import piqp_supplier
from anvil_jax.opti.external_qp import (
    EQUALITIES_CHANGED,
    HESSIAN_CHANGED,
    INEQUALITIES_CHANGED,
    ExternalQP,
    QPKind,
    QPStatus,
    layout_of,
)
from anvil_jax.opti.piqp_native import ROOT_VARIABLE, find_piqp
from anvil_jax.opti.piqp_supplier import PiqpSupplier
from tests.opti.native_piqp import COMPILERS, NativeSupplier, compile_supplier
from tests.opti.programs import random_program
from tests.opti.quadratic import Record

KINDS = list(QPKind)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ supplier, if there is a PIQP to link with."""
    found = find_piqp()
    if found is None or not COMPILERS:
        pytest.skip("needs a C++ compiler and PIQP's C interface (ANVIL_JAX_PIQP_ROOT)")
    return compile_supplier(found, COMPILERS[0], tmp_path_factory.mktemp("piqp"))


@pytest.fixture
def wheel():
    made = PiqpSupplier()
    yield made
    made.reraise()


@pytest.fixture(params=["wheel", "library", "library, multistage"])
def supplier(request: pytest.FixtureRequest):
    if request.param == "wheel":
        made: Any = PiqpSupplier()
    else:
        library = request.getfixturevalue("library")
        made = NativeSupplier(library, multistage="multistage" in request.param)
    yield made
    made.reraise()


def box(**options: Any) -> Record:
    """Nearest point of a box, with one row: ``d0 + d1 >= 1``."""
    g, h_l = [[1.0, 1.0]], [1.0]
    return Record(np.eye(2), [0.0, -0.5], g=g, h_l=h_l, x_l=-1.0, x_u=2.0, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", range(4))
def test_optimality_conditions(kind, block, supplier):
    for seed in range(12 * block, 12 * block + 12):
        record = random_program(seed, kind)
        assert record.solve(supplier.callback) == QPStatus.SOLVED, seed
        scale = max(1.0, np.max(np.abs(record.y), initial=0.0), np.max(np.abs(record.w)))
        assert record.residual() < 1e-6 * scale, seed
        assert 0 < record.qp.iterations <= 60


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 1e4])
def test_soft_rows_obey_the_l1_penalty(kind, penalty, supplier):
    """Feasible or not, and whatever the penalty: a point between hard and ignored rows."""
    violated = 0
    for seed in range(6):
        record = random_program(seed, kind, penalty=penalty)
        record.b += np.random.default_rng(seed).normal(size=len(record.b))
        assert record.solve(supplier.callback) == QPStatus.SOLVED, seed
        assert record.residual() < 1e-8 * max(penalty, 100.0), seed
        violated += np.max(np.abs(record.a @ record.d - record.b), initial=0.0) > 1e-4
    assert violated or penalty > 1.0


def test_soft_and_hard_rows_agree_where_the_penalty_is_large_enough(supplier):
    record = random_program(1, QPKind.MULTISTAGE)
    record.solve(supplier.callback)
    d, y, z = record.d.copy(), record.y.copy(), record.z.copy()
    largest = max(np.abs(y).max(), np.abs(z).max())
    record.qp.penalty = 2 * largest
    assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
    np.testing.assert_allclose(record.d, d, atol=1e-6)
    np.testing.assert_allclose(record.y, y, atol=1e-5 * largest)
    np.testing.assert_allclose(record.z, z, atol=1e-5 * largest)
    record.qp.penalty = 0.3 * largest
    assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
    assert max(np.abs(record.y).max(), np.abs(record.z).max()) <= 0.3 * largest * (1 + 1e-6)


# ---- verdicts ---------------------------------------------------------------------------------


def test_infeasible_rows(supplier):
    record = Record(np.eye(2), [1.0, 1.0], [[1.0, 1.0]], [5.0], x_l=-1.0, x_u=1.0)
    assert record.solve(supplier.callback) == QPStatus.INFEASIBLE
    record.b[:] = 2.0
    assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
    np.testing.assert_allclose(record.d, [1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("intervals", [8, 60, 150])
def test_infeasible_dynamics(intervals, supplier):
    """These often run into PIQP's iteration limit."""
    record = random_program(2, QPKind.MULTISTAGE, intervals=intervals)
    right = record.b[:3].copy()
    record.b[:3] += 50.0
    assert record.solve(supplier.callback) == QPStatus.INFEASIBLE
    record.b[:3] = right
    assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
    assert record.residual() < 1e-5


@pytest.mark.parametrize("name", ["h", "x"])
@pytest.mark.parametrize(("lower", "upper"), [(1.0, 0.5), (math.inf, math.inf), (-math.inf,) * 2])
def test_crossing_sides_are_infeasible(name, lower, upper, supplier):
    record = box()
    getattr(record, f"{name}_l")[0], getattr(record, f"{name}_u")[0] = lower, upper
    assert record.solve(supplier.callback) == QPStatus.INFEASIBLE
    assert np.isnan(record.d).all()


def test_unbounded(supplier):
    record = Record(np.diag([1.0, 0.0]), [1.0, 1.0], g=[[1.0, 0.0]], h_l=[-1.0])
    assert record.solve(supplier.callback) == QPStatus.UNBOUNDED


def test_iteration_limit_is_not_infeasibility(supplier):
    record = random_program(1, QPKind.SPARSE, max_iterations=2)
    assert record.solve(supplier.callback) == QPStatus.MAX_ITERATIONS
    assert record.qp.iterations == 2
    record.qp.max_iterations = 60
    assert record.solve(supplier.callback, 0) == QPStatus.SOLVED


def test_tolerance_is_that_of_the_call(supplier):
    record = random_program(4, QPKind.SPARSE, tolerance=1e-3)
    record.solve(supplier.callback)
    loose = record.qp.iterations
    record.qp.tolerance = 1e-10
    record.solve(supplier.callback, 0)
    assert record.qp.iterations > loose
    assert record.residual() < 1e-7


# ---- data that PIQP cannot stand --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["p", "c", "a", "b", "g"])
def test_numbers_that_are_not_finite(kind, value, name, supplier):
    record = random_program(8, kind)
    array = getattr(record, name)
    array = array.data if name in "pag" else array
    record.solve(supplier.callback)
    d, right = record.d.copy(), array[0]
    array[0] = value
    assert record.solve(supplier.callback) == QPStatus.NUMERICS
    assert supplier.error is None
    array[0] = right
    assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
    np.testing.assert_allclose(record.d, d, atol=1e-6)


@pytest.mark.parametrize("name", ["h_l", "h_u", "x_l", "x_u"])
def test_sides_that_are_no_numbers(name, supplier):
    record = box()
    getattr(record, name)[0] = math.nan
    assert record.solve(supplier.callback) == QPStatus.NUMERICS


@pytest.mark.parametrize(("field", "value"), [("penalty", math.nan), ("tolerance", 0.0)])
def test_options_that_make_no_sense(field, value, supplier):
    record = box()
    setattr(record.qp, field, value)
    assert record.solve(supplier.callback) == QPStatus.NUMERICS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [math.inf, 1e3])
def test_rows_that_get_a_side_later(kind, penalty, supplier, capfd):
    """PIQP would have erased them, and said so on stderr."""
    record = random_program(5, kind, penalty=penalty)
    h_l, h_u = record.h_l.copy(), record.h_u.copy()
    for lower, upper in ((-math.inf, math.inf), (h_l, h_u), (-math.inf, math.inf), (h_l, h_u)):
        record.h_l[:], record.h_u[:] = lower, upper
        assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
        assert record.residual() < 1e-5
        free = np.isinf(record.h_l) & np.isinf(record.h_u)
        assert (record.z[free] == 0).all()
    assert "infinity" not in capfd.readouterr().err


def test_bounds_come_and_go(supplier):
    record = box()
    for x_l, x_u in ((-math.inf, math.inf), (0.3, 0.3), (-1.0, math.inf), (0.0, 0.6)):
        record.x_l[0], record.x_u[0] = x_l, x_u
        assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
        assert record.residual() < 1e-7


# ---- what changes between calls ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [math.inf, 10.0])
def test_matrices_that_changed(kind, penalty, supplier):
    record = random_program(7, kind, penalty=penalty)
    record.solve(supplier.callback)
    record.p.data *= 1.5
    assert record.solve(supplier.callback, HESSIAN_CHANGED) == QPStatus.SOLVED
    assert record.residual() < 1e-6
    record.a.data *= 1.5
    record.b *= 1.5
    assert record.solve(supplier.callback, EQUALITIES_CHANGED) == QPStatus.SOLVED
    assert record.residual() < 1e-6
    record.g.data *= 0.9
    record.h_l *= 0.9
    record.h_u *= 0.9
    assert record.solve(supplier.callback, INEQUALITIES_CHANGED) == QPStatus.SOLVED
    assert record.residual() < 1e-6


def test_changes_reach_both_hard_and_soft_problems(supplier):
    """Also those that were made in a call that was refused."""
    record = random_program(7, QPKind.SPARSE)
    for penalty in (math.inf, 10.0):
        record.qp.penalty = penalty
        record.solve(supplier.callback)
    for penalty in (10.0, math.inf, 10.0):
        record.p.data *= 1.3
        record.c[0] = math.nan
        record.solve(supplier.callback, HESSIAN_CHANGED)
        record.c[0] = 0.5
        for again in (penalty, math.inf, 10.0):
            record.qp.penalty = again
            assert record.solve(supplier.callback, 0) == QPStatus.SOLVED
            assert record.residual() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_updates_do_not_drift(kind, supplier):
    record = random_program(10, kind)
    record.solve(supplier.callback)
    d, c = record.d.copy(), record.c.copy()
    for k in range(300):
        record.c[:] = c * (1 + 0.1 * math.sin(k))
        record.solve(supplier.callback, 0)
    record.c[:] = c
    record.solve(supplier.callback, 0)
    np.testing.assert_allclose(record.d, d, atol=1e-7)


def test_another_record_is_another_problem(supplier):
    records = [random_program(3, kind) for kind in KINDS]
    for record in records * 2:
        assert record.solve(supplier.callback) == QPStatus.SOLVED
        assert record.residual() < 1e-5


# ---- errors -----------------------------------------------------------------------------------


def test_nothing_is_raised_through_the_callback(monkeypatch, wheel):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    record = box()
    monkeypatch.setattr(piqp_supplier, "_refused", interrupt)
    assert record.solve(wheel.callback) == QPStatus.NUMERICS
    with pytest.raises(KeyboardInterrupt):
        wheel.reraise()
    monkeypatch.undo()
    assert wheel.error is None
    assert record.solve(wheel.callback) == QPStatus.SOLVED


def test_records_that_are_none(wheel):
    assert wheel.callback(None, None) == QPStatus.NUMERICS
    with pytest.raises(SolverError, match="null"):
        wheel.reraise()
    empty = ExternalQP(penalty=math.inf, tolerance=1e-9)
    assert wheel.callback(None, ctypes.addressof(empty)) == QPStatus.NUMERICS
    with pytest.raises(SolverError, match="variables"):
        wheel.reraise()


@pytest.mark.parametrize("method", ["dense_cholesky", "sparse_ldlt", "sparse_ldlt_eq_cond",
                                    "sparse_ldlt_ineq_cond", "sparse_ldlt_cond",
                                    "sparse_multistage"])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_methods(method, kind):
    supplier = PiqpSupplier(method, {"preconditioner_reuse_on_update": True})
    record = random_program(11, kind)
    for _ in range(2):
        assert record.solve(supplier.callback) == QPStatus.SOLVED
        assert record.residual() < 1e-6


def test_unknown_options():
    method: Any = "simplex"
    with pytest.raises(ArgumentError, match="sparse_ldlt"):
        PiqpSupplier(method)
    for name in ("no_such_setting", "eps_abs", "check_duality_gap"):
        with pytest.raises(ArgumentError, match=name):
            PiqpSupplier(settings={name: 1})


def test_layouts_ignore_values():
    record = box()
    layout = layout_of(ctypes.addressof(record.qp))
    record.qp.iterations, record.qp.changed, record.qp.penalty = 7, 0, 3.0
    assert layout_of(ctypes.addressof(record.qp)) == layout
    record.qp.n = 1
    assert layout_of(ctypes.addressof(record.qp)) != layout


# ---- the C++ supplier ---------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", COMPILERS)
def test_solving_in_cpp_does_not_allocate(compiler, library, tmp_path):
    """Compiled without a warning; counted in malloc, which PIQP's Eigen uses too."""
    if not sys.platform.startswith("linux"):
        pytest.skip("malloc is replaced in a way that glibc allows")
    found = find_piqp()
    assert found is not None
    program = compile_supplier(found, compiler, tmp_path, counting=True)
    result = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0", "0"]


def test_finding_piqp(monkeypatch, tmp_path):
    for variable in ("piqp_ROOT", "PIQP_ROOT", "CONDA_PREFIX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(ToolchainError, match=ROOT_VARIABLE):
        find_piqp()
    for name in ("include/piqp_c/piqp.h", "lib/libpiqpc.a"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    found = find_piqp()
    assert found is not None
    assert found.include == tmp_path / "include/piqp_c"
    assert found.found_by == ROOT_VARIABLE
    assert found.link_arguments == (str(tmp_path / "lib/libpiqpc.a"),)
    monkeypatch.delenv(ROOT_VARIABLE)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setenv("CMAKE_PREFIX_PATH", f"/nowhere:{tmp_path}")
    found = find_piqp()
    assert found is not None
    assert found.found_by == "CMAKE_PREFIX_PATH"
