"""Modules with solvers on disk: what their text depends on, and that a C++ project can use them."""

import functools
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax import opti
from anvil_jax.opti.piqp_native import find_piqp

CONSUMER = Path(__file__).parents[1] / "consumers" / "solver"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

N = av.CodegenIntConstant("N", 10)
DT = 0.1
STEPS = 5
PRECISE = opti.SQPSettings(
    tolerance_stationarity=1e-9,
    tolerance_feasibility=1e-9,
    tolerance_complementarity=1e-9,
    qp_tolerance=1e-11,
)


def advance(x, u):
    """A pendulum with a torque, one step of Euler's method."""
    return x + DT * jnp.array([x[1], u[0] - jnp.sin(x[0])])


def controller(qp: Any = "riccati", intervals: int = 10) -> opti.SparseSQPFunction:
    """To an angle that is the parameter of each stage; the price of torque is that of all."""
    problem = opti.MultistageProblem(
        intervals,
        3,
        cost_stage_fn=lambda z, shared, own: (
            DT * ((z[0] - own[0]) ** 2 + 0.1 * z[1] ** 2 + shared[0] * z[2] ** 2)
        ),
        cost_terminal_fn=lambda z, _, own: 5.0 * (z[0] - own[0]) ** 2 + z[1] ** 2,
        eq_initial_fn=lambda z, *_: z[:2],
        eq_interstage_fn=lambda z, following, *_: following[:2] - advance(z[:2], z[2:]),
        ineq_stage_fn=lambda z, *_: jnp.array([z[0] + z[1]]),
        ineq_stage_lb=[-np.inf],
        ineq_stage_ub=[1.1],
        z_lb=[-3.0, -1.0, -2.0],
        z_ub=[3.0, 1.0, 2.0],
        param_dim=1,
        global_param_dim=1,
    )
    return opti.SparseSQPFunction("mpc", problem, PRECISE, qp=qp)


def fit(qp: Any = "dense") -> opti.DenseSQPFunction:
    """Three variables, every kind of constraint."""
    problem = opti.DenseProblem(
        lambda x, p: (1 - x[0]) ** 2 + p[0] * (x[1] - x[0] ** 2) ** 2 + x[2] ** 2,
        lambda x, p: jnp.array([x[0] + x[1] * x[2]]),
        lambda x, p: jnp.array([x @ x]),
        x_lb=np.full(3, -2.0),
        x_ub=np.full(3, 2.0),
        eq_rhs=[0.9],
        ineq_lb=[-np.inf],
        ineq_ub=[1.5],
        n=3,
        param_dim=1,
    )
    return opti.DenseSQPFunction("fit", problem, PRECISE, qp=qp)


def write(path: Path, control: opti.SparseSQPFunction, other: opti.DenseSQPFunction) -> av.Exported:
    function = av.NumericalFunction("advance", advance, (av.Arg(2), av.Arg(1)))
    return av.generate_module("robot", [control, function, other], [N], path=path)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- what Python computes ----


@functools.cache
def expected(qp: str) -> dict[str, np.ndarray]:
    """What tests/consumers/solver/main.cpp does, in Python."""
    control = controller(qp)
    other = fit("piqp" if qp == "piqp" else "dense")
    problem = control.problem
    cold = control(np.zeros(problem.x_shape), problem.parameters([0.05], [1.0]))
    right = np.zeros(problem.m_eq)
    right[:2] = 0.1, -0.2
    warm = control(p=problem.parameters([0.05], [1.0]), eq_rhs=right)
    state, states, inputs = right[:2], [], []
    with jax.enable_x64(True):
        for _ in range(STEPS):
            assert control.prepare() == opti.SQPStatus.SOLVED
            result = control.feedback(state)
            assert result.success
            state = np.asarray(advance(jnp.asarray(state), jnp.asarray(result.x[0, 2:])))
            states.append(state)
            inputs.append(result.x[0, 2])
            control.shift()
    fitted = other(np.zeros(3), [10.0])
    found = {
        "status": [cold.status, warm.status, 0, fitted.status],
        "iterations": [cold.iterations, fitted.iterations],
        "x": cold.x,
        "lam_eq": cold.lam_eq,
        "lam_ineq": cold.lam_ineq,
        "lam_box": cold.lam_box,
        "warm_x": warm.x,
        "states": states,
        "inputs": inputs,
        "fit_x": fitted.x,
        "fit_lam_eq": fitted.lam_eq,
        "fit_lam_ineq": fitted.lam_ineq,
        "fit_lam_box": fitted.lam_box,
    }
    assert not any(found["status"])
    return {name: np.ravel(numbers) for name, numbers in found.items()}


def check_output(text: str, mark: str, qp: str, tolerance: float) -> None:
    """The first line is `mark`, the others say what Python says."""
    first, *lines = text.splitlines()
    assert first == mark, text
    found = {name: list(map(float, numbers)) for name, *numbers in map(str.split, lines)}
    assert set(found) == set(expected(qp)), text
    for name, numbers in expected(qp).items():
        np.testing.assert_allclose(
            found[name], numbers, rtol=tolerance, atol=tolerance, err_msg=name
        )


# ---- a C++ project ----


@dataclass(frozen=True, slots=True)
class Project:
    """Module and programs that use it."""

    module: Path
    build: Path

    def make(self, cmake: str, compiler: str, *options: str) -> None:
        run(cmake, "-S", CONSUMER, "-B", self.build, f"-DROBOT_SOURCE_DIR={self.module}",
            f"-DCMAKE_CXX_COMPILER={compiler}", *options)  # fmt: skip
        run(cmake, "--build", self.build)

    @property
    def consumer(self) -> Path:
        """Runs alone and in two threads."""
        return self.build / "consumer"

    @property
    def counting(self) -> Path:
        """Counts allocations."""
        return self.build / "counting_consumer"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both built-in solvers and a function between them."""
    path = tmp_path_factory.mktemp("robot")
    write(path, controller(), fit())
    return path


@pytest.mark.compile
def test_consumer_gets_what_python_gets(cmake: str, compiler: str, module: Path, tmp_path: Path):
    project = Project(module, tmp_path)
    project.make(cmake, compiler)
    check_output(run(project.consumer), "threads 1", "riccati", 1e-9)
    if sys.platform == "linux":
        check_output(run(project.counting), "counting", "riccati", 1e-9)
    valgrind = shutil.which("valgrind")
    if valgrind is not None and Path(compiler).name == "g++":
        options = ("--error-exitcode=1", "--leak-check=full", "--quiet")
        check_output(run(valgrind, *options, project.consumer), "threads 1", "riccati", 1e-9)


@pytest.mark.compile
def test_sanitizers_find_nothing(compilers: tuple[str, ...], module: Path, tmp_path: Path):
    program = tmp_path / "consumer"
    run(compilers[0], "-std=c++17", "-O0", "-pthread", *SANITIZERS, f"-I{module}",
        CONSUMER / "main.cpp", module / "robot.cpp", "-o", program)  # fmt: skip
    check_output(run(program), "threads 1", "riccati", 1e-9)


@pytest.mark.compile
def test_piqp_module(cmake: str, compilers: tuple[str, ...], tmp_path: Path):
    piqp = find_piqp()
    if piqp is None:
        pytest.skip("needs PIQP's C interface (ANVIL_JAX_PIQP_ROOT)")
    project = Project(tmp_path / "robot", tmp_path / "build")
    write(project.module, controller("piqp"), fit("piqp"))
    project.make(cmake, compilers[0], f"-Dpiqp_ROOT={piqp.library.parent.parent}")
    check_output(run(project.consumer), "threads 1", "piqp", 1e-7)
    if sys.platform == "linux":
        check_output(run(project.counting), "counting", "piqp", 1e-7)


# ---- text ----


def test_piqp_is_named_where_it_is_needed(module: Path, tmp_path: Path):
    written = write(tmp_path, controller("piqp"), fit())
    assert written.source is not None
    source, cmake = written.source.read_text(), written.cmake.read_text()
    for text in ("#include <piqp.h>", "anvil_rt::piqp_subproblem<"):
        assert text in source
        assert text not in (module / "robot.cpp").read_text()
    for text in ("find_package(piqp CONFIG QUIET)", "FetchContent_Declare(piqp"):
        assert text in cmake
    assert "piqp" not in (module / "CMakeLists.txt").read_text().lower()
    assert "set_qp_solver" not in written.header.read_text()


@pytest.mark.parametrize("qp", ["riccati", "piqp"])
def test_text_does_not_grow_with_the_horizon(qp: str):
    short, long = (controller(qp, intervals).module for intervals in (20, 100))
    for one, other in ((short.source, long.source), (short.header, long.header)):
        assert one is not None
        assert other is not None
        assert len(one.splitlines()) == len(other.splitlines())
        assert abs(len(one) - len(other)) < 100


REPRODUCE = """
import sys
sys.path.insert(0, {tests!r})
import test_solver_modules as t
from pathlib import Path
t.write(Path({path!r}), t.controller(), t.fit())
"""


def test_text_is_reproducible(tmp_path: Path):
    processes = []
    for seed in ("1", "2"):
        code = REPRODUCE.format(tests=str(Path(__file__).parent), path=str(tmp_path / seed))
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", code]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    for path in (tmp_path / "1").iterdir():
        assert (tmp_path / "2" / path.name).read_bytes() == path.read_bytes(), path.name
