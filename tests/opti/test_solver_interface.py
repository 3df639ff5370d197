"""Solvers as Python sees them: the records shared with C++, workspaces, threads, errors."""

import ctypes
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax import ArgumentError, CodegenIntConstant, ExportError, opti
from anvil_jax.emit.module import render_solver_library
from anvil_jax.errors import SolverError
from anvil_jax.opti import native_solver

pytestmark = pytest.mark.usefixtures("piqp_package")

INTERFACE = Path(__file__).resolve().parents[2] / "templates" / "sqp" / "interface.hpp"
ENUMERATIONS = {"SQPStatus": opti.SQPStatus, "SQPGlobalization": opti.Globalization}


def circle(qp: Any = "dense", name: str = "circle") -> opti.DenseSQPFunction:
    """The point of the unit circle's right half that is closest to p, above the line y = 0.1."""
    problem = opti.DenseProblem(
        lambda x, p: jnp.sum((x - p) ** 2),
        lambda x, p: jnp.array([x @ x]),
        lambda x, p: x[1:],
        eq_rhs=[1.0],
        x_lb=[0.0, -2.0],
        ineq_lb=[0.1],
        ineq_ub=[np.inf],
        n=2,
        param_dim=2,
    )
    return opti.DenseSQPFunction(name, problem, qp=qp)


def chain(intervals: int = 3) -> opti.SparseSQPFunction:
    """A double integrator."""
    problem = opti.MultistageProblem(
        intervals,
        3,
        cost_stage_fn=lambda z, *_: jnp.sum(z**2),
        cost_terminal_fn=lambda z, *_: jnp.sum(z**2),
        eq_initial_fn=lambda z, *_: z[:2],
        eq_interstage_fn=lambda z, following, *_: (
            following[:2] - jnp.array([z[0] + 0.1 * z[1], z[1] + 0.1 * z[2]])
        ),
    )
    return opti.SparseSQPFunction("chain", problem)


@pytest.fixture(scope="module")
def solver() -> opti.DenseSQPFunction:
    """Compiled once; tests that change its state clone it."""
    return circle()


def answer(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


# ---- records ----


def records() -> dict[str, type[ctypes.Structure]]:
    return {
        "circle::Inputs": native_solver._Inputs,
        "circle::Outputs": native_solver._Outputs,
        "SQPSettings": native_solver._Settings,
        "SQPStatistics": native_solver._Statistics,
        "SQPIteration": native_solver._Iteration,
        "circle::Call": native_solver._Call,
    }


def layout_program(solver: opti.DenseSQPFunction) -> str:
    """Prints sizes, offsets, defaults and enumerations, one name and number per line."""
    lines = []
    for name, record in records().items():
        lines.append(f'show("{name}", sizeof({name}));')
        for field, *_ in record._fields_:
            lines.append(f'show("{name}.{field}", offsetof({name}, {field}));')
            lines.append(f'show("{name}.{field} size", sizeof({name}::{field}));')
    for field, *_ in records()["SQPSettings"]._fields_:
        lines.append(f'show("default {field}", static_cast<double>(SQPSettings{{}}.{field}));')
    for name, enumeration in ENUMERATIONS.items():
        lines += [f'show("{name}::{e.name}", static_cast<int>({name}::{e.name}));'
                  for e in enumeration]  # fmt: skip
    text = render_solver_library("anvil_module", solver.view, native_solver.SOLVER_ABI)
    return (
        text
        + "#include <cstddef>\n#include <cstdio>\ntemplate <class T>\n"
        + 'void show(const char* name, T number) { std::printf("%s = %.17g\\n", name, '
        + "static_cast<double>(number)); }\n"
        + "int main() {\n  using namespace anvil_module;\n  "
        + "\n  ".join(lines)
        + "\n}\n"
    )


@pytest.fixture(scope="module")
def layout(
    compilers: tuple[str, ...],
    solver: opti.DenseSQPFunction,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, float]:
    """What C++ says about the records."""
    source = tmp_path_factory.mktemp("layout") / "layout.cpp"
    source.write_text(layout_program(solver), encoding="utf-8")
    program = source.with_suffix(".exe")
    command = [compilers[0], "-std=c++17", "-O0", str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    printed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    pairs = (line.split(" = ") for line in printed.splitlines())
    return {name: float(number) for name, number in pairs}


@pytest.mark.compile
def test_records_agree(layout: dict[str, float]):
    for name, record in records().items():
        assert layout[name] == ctypes.sizeof(record), name
        for field, *_ in record._fields_:
            place = getattr(record, field)
            assert layout[f"{name}.{field}"] == place.offset, (name, field)
            assert layout[f"{name}.{field} size"] == place.size, (name, field)


@pytest.mark.compile
def test_defaults_agree(layout: dict[str, float]):
    found = {name.removeprefix("default "): number for name, number in layout.items()
             if name.startswith("default ")}  # fmt: skip
    expected = {field.name: field.default for field in fields(opti.SQPSettings)}
    assert expected.pop("hessian") == opti.HessianApproximation.EXACT  # decided at generation
    expected["globalization"] = opti.SQPSettings().globalization.value
    expected["warm_start"] = False  # an argument of a call in Python
    assert found == expected


@pytest.mark.compile
def test_enumerations_agree(layout: dict[str, float]):
    text = INTERFACE.read_text(encoding="utf-8")
    for name, enumeration in ENUMERATIONS.items():
        body = re.search(rf"enum class {name} : int \{{(.*?)\}};", text, re.DOTALL)
        assert body is not None
        members = re.findall(r"^\s*([A-Z_]+) = \d+", body[1], re.MULTILINE)
        assert members == [member.name for member in enumeration]
        for member in enumeration:
            assert layout[f"{name}::{member.name}"] == member.value


# ---- workspaces ----


@pytest.mark.compile
def test_clones_have_their_own_memory(solver: opti.DenseSQPFunction):
    one = solver.clone()
    first = one([1.0, 0.5], 2.0 * answer(0.7))
    other = one.clone()
    assert other.library is one.library
    assert other.settings is one.settings
    np.testing.assert_allclose(other([1.0, 0.5], answer(1.2)).x, answer(1.2), atol=1e-6)
    again = one(p=2.0 * answer(0.7))  # from its last solution
    assert again.success
    assert again.iterations <= 1 < first.iterations
    np.testing.assert_allclose(again.x, answer(0.7), atol=1e-6)


@pytest.mark.compile
def test_results_are_copies(solver: opti.DenseSQPFunction):
    one = solver.clone()
    first = one([1.0, 0.5], answer(0.7))
    kept = first.x.copy()
    one([1.0, 0.5], answer(1.2))
    np.testing.assert_array_equal(first.x, kept)


@pytest.mark.compile
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("qp", ["dense", "piqp"])
def test_threads(qp: str, shared: bool):
    """One solver makes them wait; clones do not. Every result belongs to its arguments."""
    one = circle(qp)
    assert one([1.0, 0.5], answer(0.7)).success
    solvers = [one, one if shared else one.clone()]

    def work(number: int) -> list[float]:
        errors = []
        for angle in np.linspace(0.2, 1.4, 30) + 0.01 * number:
            result = solvers[number]([1.0, 0.5], 1.5 * answer(angle))
            assert result.success
            errors.append(float(np.abs(result.x - answer(angle)).max()))
        return errors

    with ThreadPoolExecutor(2) as pool:
        for errors in pool.map(work, range(2)):
            assert max(errors) < 1e-6


# ---- for people ----


@pytest.mark.compile
def test_results_describe_themselves(solver: opti.DenseSQPFunction):
    result = solver.clone()([1.0, 0.5], answer(0.7))
    assert repr(result).startswith("<SQPResult SOLVED: objective ")
    html = result._repr_html_()
    assert html.startswith("<table>")
    assert "<td>status</td><td>SOLVED</td>" in html
    assert html.count("<tr>") == html.count("</tr>") == 8


def test_solvers_describe_themselves():
    text = repr(circle())
    assert text.startswith("<DenseSQPFunction circle of <DenseProblem")
    assert text.endswith("EXACT Hessian, qp=dense>")


def test_text_of_a_solver():
    solver = circle()
    assert "namespace circle {" in solver.header
    assert '#include "circle.hpp"' in solver.source
    assert "constexpr int variables = 2;" in solver.header
    assert "prepare" not in solver.header
    assert "SQPStatus prepare(" in chain().header
    written = solver.module.files()
    assert list(written) == ["circle.hpp", "circle.cpp", "CMakeLists.txt"]


def test_export_is_the_text(tmp_path: Path):
    solver = circle()
    written = av.export(solver, path=tmp_path)
    assert written.source is not None
    assert written.source.read_text(encoding="utf-8") == solver.source
    assert written.header.read_text(encoding="utf-8") == solver.header


# ---- mistakes ----


def test_wrong_problems_and_options():
    dense, stages = circle().problem, chain().problem
    unknown: Any = "osqp"
    with pytest.raises(ArgumentError, match="DenseSQPFunction solves a DenseProblem"):
        opti.DenseSQPFunction("a", stages)
    with pytest.raises(ArgumentError, match="solves a SparseProblem or MultistageProblem"):
        opti.SparseSQPFunction("a", dense)
    with pytest.raises(ArgumentError, match="qp='riccati' is not one of auto, dense, piqp"):
        opti.DenseSQPFunction("a", dense, qp="riccati")
    with pytest.raises(ArgumentError, match="qp='osqp' is not one of auto, riccati, piqp"):
        opti.SparseSQPFunction("a", stages, qp=unknown)
    with pytest.raises(ArgumentError, match="solver name 'double' is a C"):
        opti.DenseSQPFunction("double", dense)
    with pytest.raises(SolverError, match="real-time iterations need a MultistageProblem"):
        circle().prepare()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance_stationarity": 0.0}, "tolerance_stationarity must be positive"),
        ({"time_limit": float("nan")}, "time_limit must be positive"),
        ({"max_iterations": -1}, "max_iterations must not be negative"),
        ({"max_line_search_steps": 0}, "max_line_search_steps must be at least 1"),
        ({"globalization": "filter"}, "is no Globalization"),
        ({"hessian": "bfgs"}, "is no HessianApproximation"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str):
    with pytest.raises(ArgumentError, match=message):
        opti.SQPSettings(**settings)


def test_names_in_a_module(tmp_path: Path):
    function = av.NumericalFunction("circle", jnp.sin, (av.Arg(2),))
    for pair in ([circle(), circle()], [function, circle()]):
        with pytest.raises(ArgumentError, match="two functions are named circle"):
            av.generate_module("robot", pair, path=tmp_path)
    with pytest.raises(ArgumentError, match="a constant and a solver named circle"):
        av.generate_module("robot", circle(), [CodegenIntConstant("circle", 1)], path=tmp_path)
    with pytest.raises(ArgumentError, match="the solver name SQPSettings is a type"):
        av.generate_module("robot", circle(name="SQPSettings"), path=tmp_path)
    with pytest.raises(ArgumentError, match="the constant name QPData is a type"):
        av.generate_module("robot", circle(), [CodegenIntConstant("QPData", 1)], path=tmp_path)
    with pytest.raises(ArgumentError, match="the constant name t0 appears in the code of circle"):
        av.generate_module("robot", circle(), [CodegenIntConstant("t0", 1)], path=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_solvers_cannot_be(tmp_path: Path):
    with pytest.raises(ExportError, match="self_test: circle is a DenseSQPFunction"):
        av.export(circle(), path=tmp_path, self_test=True)
    with pytest.raises(ExportError, match="c_abi: circle is a solver"):
        av.export(circle(), path=tmp_path, c_abi=True)
    assert not list(tmp_path.iterdir())
