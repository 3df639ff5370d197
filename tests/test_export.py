"""Modules on disk: what is written, when nothing is, and that a C++ project can use it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax import Arg, ArgumentError, CodegenIntConstant, ExportError, NumericalFunction
from anvil_jax import exporting as exporting_module
from anvil_jax.reference import reference_samples
from anvil_jax.tracing import trace

CONSUMER = Path(__file__).parent / "consumers" / "module"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")

N = CodegenIntConstant("N", 10)
stiffness = np.array([[2.0, -1.0], [-1.0, 2.0]])


def step(state: Any, force: Any) -> Any:
    vel = state["vel"] + 0.01 * (force - stiffness @ state["pos"] - jnp.sin(state["vel"]))
    return {"pos": state["pos"] + 0.01 * vel, "vel": vel}


def energy(pos: Any, vel: Any) -> Any:
    return 0.5 * (vel @ vel + pos @ (stiffness @ pos))


def robot() -> tuple[NumericalFunction[..., Any], ...]:
    return (
        NumericalFunction.from_callable(step, {"pos": Arg(2), "vel": Arg(2)}, Arg(())),
        NumericalFunction("energy", energy, (Arg(2), Arg(2))),
    )


def mixed() -> tuple[NumericalFunction[..., Any], ...]:
    return (
        NumericalFunction("energy", energy, (Arg(2), Arg(2))),
        NumericalFunction("energy_there", energy, (Arg(2), Arg(2)), "CUDA"),
    )


def roll_out(force: float) -> float:
    pos, vel = np.array([0.0, 1.0]), np.array([0.5, 0.0])
    for _ in range(N):
        vel = vel + 0.01 * (force - stiffness @ pos - np.sin(vel))
        pos = pos + 0.01 * vel
    return float(0.5 * (vel @ vel + pos @ stiffness @ pos))


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- what is written ----


def test_generate_module_writes_and_returns_the_files(tmp_path: Path, capsys: Any):
    written = av.generate_module("robot", robot(), [N], path=tmp_path / "new" / "robot")
    assert [path.name for path in written] == ["robot.hpp", "robot.cpp", "CMakeLists.txt"]
    assert sorted(os.listdir(tmp_path / "new" / "robot")) == sorted(p.name for p in written)
    assert all(path.is_file() for path in written)
    assert written.self_test is None
    assert "constexpr int N = 10;" in written.header.read_text()
    assert repr(written).startswith("<Exported robot.hpp, robot.cpp, CMakeLists.txt in ")
    assert capsys.readouterr() == ("", "")


def test_export_takes_any_jax_callable(tmp_path: Path):
    written = av.export(
        step, {"pos": Arg(2), "vel": Arg(2)}, 0.5, path=str(tmp_path), module="model",
        name="advance", c_abi=True, self_test=True,
    )  # fmt: skip
    assert [path.name for path in written] == [
        "model.hpp", "model.cpp", "CMakeLists.txt", "model_self_test.cpp", "model_casadi.cpp",
    ]  # fmt: skip
    header = written.header.read_text()
    assert "namespace model {" in header
    assert f"// advance: {__name__}.step" in header
    for line in ("in   state_pos: float64[2]", "in   force: float64", "out  out_vel: float64[2]"):
        assert f"//   {line}\n" in header


def test_export_takes_numerical_functions(tmp_path: Path, capsys: Any):
    (function, _) = robot()
    written = av.export(function, path=tmp_path, verbosity=1)
    assert written.header.name == "step.hpp"
    assert f"anvil_jax: wrote {written.source}" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="pass it alone"):
        av.export(function, 1.0, path=tmp_path)


def test_arguments_are_not_changed(tmp_path: Path):
    functions, constants = list(robot()), [CodegenIntConstant.from_expr("M", N * 2)]
    before = (list(functions), list(constants))
    av.generate_module("robot", functions, constants, path=tmp_path)
    assert (functions, constants) == before


def test_golden_module(tmp_path: Path, compare_golden: Callable[[str, str], None]):
    written = av.generate_module("robot", robot(), [N], path=tmp_path, c_abi=True)
    for path in (written.header, written.cmake):
        compare_golden(f"export/{path.name}", path.read_text())


REPRODUCE = """
import sys
sys.path.insert(0, {tests!r})
import test_export as t
t.av.generate_module("robot", t.robot(), [t.N], path={path!r}, self_test=True, c_abi=True)
"""


def test_text_is_reproducible(tmp_path: Path):
    texts = []
    for seed in ("1", "2"):
        path = tmp_path / f"place{seed}"
        code = REPRODUCE.format(tests=str(Path(__file__).parent), path=str(path))
        run(sys.executable, "-c", code, env={**os.environ, "PYTHONHASHSEED": seed})
        texts.append({file.name: file.read_bytes() for file in sorted(path.iterdir())})
    assert texts[0] == texts[1]
    assert not any(str(tmp_path).encode() in content for content in texts[0].values())


# ---- when nothing is written ----


def callback(x: Any) -> Any:
    jax.debug.print("{}", x)
    return x


NO_FUNCTIONS: Any = (step,)


@pytest.mark.parametrize(
    ("generate", "error", "message"),
    [
        (lambda p: av.generate_module("int", robot(), path=p), ArgumentError, "keyword"),
        (lambda p: av.generate_module("m", robot() * 2, path=p), ArgumentError, "named step"),
        (lambda p: av.generate_module("m", NO_FUNCTIONS, path=p), ArgumentError, "no Numerical"),
        (lambda p: av.generate_module("m", robot(), [N, CodegenIntConstant("step", 1)], path=p),
         ArgumentError, "a constant and a function named step"),
        (lambda p: av.export(callback, 1.0, path=p), av.TracingError, "remove the jax.debug"),
        (lambda p: av.export(lambda x: x, 1j, path=p), av.DtypeError, "complex128"),
        (lambda p: av.export(lambda x: x, 1, path=p, c_abi=True), ExportError, "int64"),
        (lambda p: av.export(lambda x: x, 1.0, path=p, device="CUDA", c_abi=True), ExportError,
         "runs on a graphics processor"),
        (lambda p: av.generate_module("m", mixed(), path=p), ExportError, "CPU and CUDA"),
    ],
)  # fmt: skip
def test_failures_leave_no_trace(tmp_path: Path, generate, error, message):
    with pytest.raises(error, match=message):
        generate(tmp_path / "module")
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_never_replaced(tmp_path: Path):
    (tmp_path / "CMakeLists.txt").write_text("project(mine)\n")
    with pytest.raises(ExportError, match="was not written by anvil_jax"):
        av.generate_module("robot", robot(), path=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["CMakeLists.txt"]


def test_own_files_are_replaced_but_not_those_of_another_module(tmp_path: Path):
    av.generate_module("robot", robot(), path=tmp_path)
    written = av.generate_module("robot", robot()[:1], [N], path=tmp_path)
    assert "energy" not in written.header.read_text()
    with pytest.raises(ExportError, match="belongs to another module"):
        av.generate_module("other", robot(), path=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_an_interrupted_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    av.generate_module("robot", robot(), path=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    calls = []
    replace = os.replace

    def failing(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(exporting_module.os, "replace", failing)
    with pytest.raises(ExportError, match="disk full; nothing was changed"):
        av.generate_module("robot", robot()[:1], [N], path=tmp_path, self_test=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written to"):
        av.generate_module("robot", robot(), path=tmp_path / "file" / "sub")


# ---- reference results ----


def test_samples_are_jax_results_with_tolerances():
    traced = trace(lambda x, n, b: (jnp.sqrt(x), n * 2, b), (Arg(3), Arg(2, "int32"), True))
    samples = reference_samples(traced)
    assert len(samples) == 3
    for sample in samples:
        assert [t.size for t in sample.inputs] == [3, 2, 1]
        assert [t.ctype for t in sample.outputs] == ["double", "std::int32_t", "bool"]
        assert sample.tolerances[1:] == ("0.0", "0.0")
        assert 0.0 < float(sample.tolerances[0]) < 1e-12
    assert samples == reference_samples(traced)


def test_large_inputs_get_one_sample():
    assert len(reference_samples(trace(lambda x: x, (Arg(30_000),)))) == 1


# ---- C++ projects ----


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("robot")
    av.generate_module("robot", robot(), [N], path=path, self_test=True, c_abi=True)
    return path


def check_output(text: str) -> None:
    np.testing.assert_allclose(
        [float(word) for word in text.split()], [roll_out(0.25), roll_out(1.0)], rtol=1e-13
    )


@pytest.mark.compile
def test_every_file_compiles_without_warnings(compiler: str, exported: Path, tmp_path: Path):
    for source in exported.glob("*.cpp"):
        command = (compiler, "-std=c++17", *STRICT, "-O2", "-c", source, "-o", tmp_path / "x.o")
        run(*command, cwd=exported)


@pytest.mark.compile
def test_consumer_finds_the_installed_package(
    cmake: str, compiler: str, exported: Path, tmp_path: Path
):
    build, prefix, consumer = tmp_path / "build", tmp_path / "prefix", tmp_path / "consumer"
    cxx = f"-DCMAKE_CXX_COMPILER={compiler}"
    run(cmake, "-S", exported, "-B", build, cxx, "-DROBOT_BUILD_SELF_TEST=ON",
        f"-DCMAKE_INSTALL_PREFIX={prefix}")  # fmt: skip
    run(cmake, "--build", build)
    run(Path(cmake).parent / "ctest", "--test-dir", build, "--output-on-failure")
    run(cmake, "--install", build)
    run(cmake, "-S", CONSUMER, "-B", consumer, cxx, f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", consumer)
    check_output(run(consumer / "consumer"))


@pytest.mark.compile
def test_consumer_adds_the_folder(cmake: str, compiler: str, exported: Path, tmp_path: Path):
    run(cmake, "-S", CONSUMER, "-B", tmp_path, f"-DROBOT_SOURCE_DIR={exported}",
        f"-DCMAKE_CXX_COMPILER={compiler}")  # fmt: skip
    run(cmake, "--build", tmp_path)
    check_output(run(tmp_path / "consumer"))
    assert not list(exported.glob("*.o"))


@pytest.mark.compile
def test_casadi_calls_a_jax_model(compiler: str, exported: Path, tmp_path: Path):
    casadi = pytest.importorskip("casadi")
    library = tmp_path / "librobot.so"
    sources = (exported / "robot.cpp", exported / "robot_casadi.cpp")
    run(compiler, "-std=c++17", *STRICT, "-O2", "-fPIC", "-shared", *sources, "-o", library)
    model = casadi.external("step", str(library))
    assert model.name_in() == ["state_pos", "state_vel", "force"]
    pos, vel = np.array([0.1, 0.2]), np.array([-1.0, 0.4])
    with jax.enable_x64(True):
        expected = step({"pos": jnp.asarray(pos), "vel": jnp.asarray(vel)}, 0.5)
    found = model(pos, vel, 0.5)
    np.testing.assert_allclose(np.array(found[0]).ravel(), expected["pos"], rtol=1e-14)
    np.testing.assert_allclose(np.array(found[1]).ravel(), expected["vel"], rtol=1e-14)
