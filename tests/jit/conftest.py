"""Hand-written native functions for the tests of the JIT room; nothing here needs JAX."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.emit.views import BufferView, FunctionView
from anvil_jax.jit.library import NativeFunction
from anvil_jax.jit.shim import render_shim, signature_of

type Spec = tuple[str, str, tuple[int, ...]]
type Make = Callable[..., NativeFunction]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler settings from outside."""
    for variable in ("ANVIL_JAX_CXX", "CXX", "ANVIL_JAX_CXXFLAGS", "ANVIL_JAX_VERBOSE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    directory = tmp_path / "own-cache"
    monkeypatch.setenv("ANVIL_JAX_CACHE_DIR", str(directory))
    return directory


def native_source(function: FunctionView, body: str) -> str:
    """A complete source whose `evaluate` has the given body."""
    parameters = [
        *(f"[[maybe_unused]] const {b.ctype}* in{i}" for i, b in enumerate(function.inputs)),
        *(f"[[maybe_unused]] {b.ctype}* out{i}" for i, b in enumerate(function.outputs)),
        "[[maybe_unused]] unsigned char* ws",
    ]
    return (
        "#include <cstddef>\n#include <cstdint>\n"
        f"namespace module {{\nnamespace {function.name} {{\n"
        f"static void evaluate({', '.join(parameters)}) noexcept {{\n{body}\n}}\n}}\n}}\n"
        + render_shim(function, f"module::{function.name}::evaluate")
    )


def _buffer(name: str, dtype: str, shape: tuple[int, ...]) -> BufferView:
    return BufferView(name, ELEMENT_TYPES[dtype].cpp, dtype, shape)


@pytest.fixture(scope="session")
def make() -> Make:
    """Build `name(inputs) -> outputs` from the body of `evaluate(in0, ..., out0, ..., ws)`."""

    def build(
        name: str,
        inputs: tuple[Spec, ...],
        outputs: tuple[tuple[str, tuple[int, ...]], ...],
        body: str,
        workspace_nbytes: int = 0,
        operations: int = 10,
    ) -> NativeFunction:
        function = FunctionView(
            name=name,
            source=f"tests.{name}",
            inputs=tuple(_buffer(*spec) for spec in inputs),
            outputs=tuple(_buffer(f"out{i}", *spec) for i, spec in enumerate(outputs)),
            code="",
            tables=(),
            runtime=(),
            workspace_nbytes=workspace_nbytes,
            operations=operations,
        )
        return NativeFunction(signature_of(function), native_source(function, body))

    return build


@pytest.fixture(scope="session")
def double(make: Make) -> NativeFunction:
    """double(x: float64[3]) = 2 x."""
    body = "for (int i = 0; i < 3; ++i) out0[i] = 2 * in0[i];"
    return make("twice", (("x", "float64", (3,)),), (("float64", (3,)),), body)


@pytest.fixture(scope="session")
def step(make: Make) -> NativeFunction:
    """step(x: float64[2, 3], u: float64[3], dt: float64) -> x + dt u (rowwise), sum(u) dt."""
    body = """
    *out1 = 0;
    for (int j = 0; j < 3; ++j) {
        *out1 += in1[j] * *in2;
        for (int i = 0; i < 2; ++i) out0[3 * i + j] = in0[3 * i + j] + *in2 * in1[j];
    }"""
    inputs = (("x", "float64", (2, 3)), ("u", "float64", (3,)), ("dt", "float64", ()))
    return make("step", inputs, (("float64", (2, 3)), ("float64", ())), body)


@pytest.fixture
def start(root: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a script in a fresh interpreter that finds this package."""

    def run(script: str, *arguments: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"},
        )

    return run


@pytest.fixture
def python(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., str]:
    """Run a script to its end and return what it printed."""

    def run(script: str, *arguments: Any) -> str:
        process = start(script, *arguments)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        return stdout

    return run
