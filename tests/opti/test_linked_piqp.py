"""Calls from Python where PIQP's C library is installed: linked, no way back into Python."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from anvil_jax import opti
from anvil_jax.errors import ToolchainError
from anvil_jax.opti.piqp_native import NOWHERE, ROOT_VARIABLE, find_piqp
from tests.opti.optimality import check_optimal
from tests.opti.test_multistage import base, linked_inequality


def ring(kind: type[Any], qp: Any = "piqp") -> Any:
    """The point of a ring, within a box, that is closest to p."""
    problem = kind(
        lambda x, p: jnp.sum((x - p) ** 2) + x[0] * x[1] * x[2],
        lambda x, p: jnp.array([x @ x]),
        lambda x, p: x[1:] - x[:-1],
        eq_rhs=[1.0],
        x_lb=[0.0, -2.0, -1.0],
        ineq_lb=[-0.4, -0.4],
        n=3,
        param_dim=3,
    )
    made = opti.DenseSQPFunction if kind is opti.DenseProblem else opti.SparseSQPFunction
    return made("ring", problem, qp=qp)


START, P = [1.0, 0.5, 0.0], np.array([1.0, 0.3, -0.2])


@pytest.mark.compile
@pytest.mark.usefixtures("piqp_library")
@pytest.mark.parametrize("kind", [opti.DenseProblem, opti.SparseProblem])
def test_linked_and_called_back_agree(kind, monkeypatch):
    linked = ring(kind)
    assert linked.linked_piqp is not None
    found = linked(START, P)
    assert found.status == opti.SQPStatus.SOLVED
    check_optimal(linked.problem, found, P)
    monkeypatch.setenv(ROOT_VARIABLE, NOWHERE)
    calling = ring(kind)
    assert calling.linked_piqp is None
    wanted = calling(START, P)
    assert found.iterations == wanted.iterations
    np.testing.assert_allclose(found.x, wanted.x, atol=1e-9)
    np.testing.assert_allclose(found.lam_eq, wanted.lam_eq, atol=1e-8)


@pytest.mark.compile
def test_multistage_problems(piqp_library):
    """They take the library only if it has the multistage solver, which the package has."""
    for problem in (base(), linked_inequality()):
        solver = opti.SparseSQPFunction("stages", problem, qp="piqp")
        assert (solver.linked_piqp is not None) == piqp_library.has_multistage
        result = solver(np.full(problem.x_shape, 0.1))
        assert result.success
        check_optimal(problem, result)


@pytest.mark.compile
@pytest.mark.usefixtures("piqp_library")
def test_clones_in_threads():
    one = ring(opti.DenseProblem)
    targets = [P, P[::-1], P + 0.3]
    wanted = [one(START, p).x for p in targets]
    solvers = [one.clone(), one.clone()]
    assert all(solver.library is one.library for solver in solvers)

    def work(solver: Any) -> float:
        # PIQP keeps the scaling of the first program it sees: last digits depend on the order.
        found = [solver(START, p).x for p in targets * 10]
        return float(np.abs(np.array(found) - np.array(wanted * 10)).max())

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(work, solvers)) < 1e-7


def installation(folder: Path, content: bytes = b"") -> Path:
    for file in ("include/piqp_c/piqp.h", "lib/libpiqpc.so", "lib/libpiqp.so"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize(("content", "has"), [(b"dgemm", False), (b"..blasfeo_dgemm..", True)])
def test_which_libraries_have_the_multistage_solver(tmp_path, monkeypatch, content, has):
    monkeypatch.setenv(ROOT_VARIABLE, str(installation(tmp_path, content)))
    found = find_piqp()
    assert found is not None
    assert found.has_multistage is has
    assert found.arguments == (*found.compile_arguments, *found.link_arguments)
    solver = opti.SparseSQPFunction("stages", base(), qp="piqp")
    assert (solver.linked_piqp == found) is has


@pytest.mark.compile
def test_a_library_that_does_not_link_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_VARIABLE, str(installation(tmp_path, b"#error broken\n")))
    with pytest.raises(ToolchainError, match=str(tmp_path)):
        _ = ring(opti.DenseProblem).library


@pytest.mark.usefixtures("piqp_package")
def test_none_means_the_package():
    assert find_piqp() is None
    assert ring(opti.DenseProblem).linked_piqp is None
