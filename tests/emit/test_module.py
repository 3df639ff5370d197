"""Modules from views written by hand: golden text, both compilers, sanitizers, linking."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anvil_jax.emit.module import ModuleText, render_library_source, render_module
from anvil_jax.errors import ArgumentError, ExportError
from tests.emit.handmade import (
    ALL,
    CONSTANTS,
    CUBE,
    MATVEC,
    MIXED,
    NOTHING,
    ODD,
    REAL,
    SAMPLES,
    A,
    X,
)

STRICT = (
    "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wold-style-cast",
    "-Wundef", "-Werror", "-fno-exceptions",
)  # fmt: skip


def write(text: ModuleText, directory: Path) -> Path:
    directory.mkdir(exist_ok=True, parents=True)
    for name, content in text.files().items():
        (directory / name).write_text(content)
    return directory


def build(compiler: str, *arguments: str | Path) -> None:
    run = subprocess.run([compiler, *STRICT, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def everything() -> ModuleText:
    samples = {name: SAMPLES[name] for name in (f.name for f in ALL)}
    return render_module("models", ALL, CONSTANTS, samples=samples)


def test_golden_text(compare_golden: Callable[[str, str], None]):
    functions = [dataclasses.replace(f, runtime=()) for f in REAL]
    samples = {f.name: SAMPLES[f.name] for f in functions}
    text = render_module("models", functions, CONSTANTS, samples=samples, c_abi=True)
    for name, content in text.files().items():
        compare_golden(f"emit/{name}", content)


def test_sparse_golden_header(compare_golden: Callable[[str, str], None], everything: ModuleText):
    compare_golden("emit/all/models.hpp", everything.header)


def test_text_ends_with_one_newline_and_has_no_trailing_blanks(everything: ModuleText):
    for name, content in everything.files().items():
        assert content.endswith("\n"), name
        assert not content.endswith("\n\n"), name
        lines = content.split("\n")
        assert [line for line in lines if line != line.rstrip()] == [], name


@pytest.mark.compile
@pytest.mark.parametrize("options", [("-O0", "-fsanitize=address,undefined"), ("-O3",)])
def test_self_test_passes(compiler: str, tmp_path: Path, everything: ModuleText, options):
    at = write(everything, tmp_path)
    program = tmp_path / "self_test"
    build(compiler, *options, at / "models.cpp", at / "models_self_test.cpp", "-o", program)
    run = subprocess.run([program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "models: all results agree" in run.stdout


@pytest.mark.compile
def test_self_test_finds_a_wrong_result(compiler: str, tmp_path: Path):
    wrong = dataclasses.replace(MIXED, code=MIXED.code.replace("in2[i] *", "2.0f * in2[i] *"))
    text = render_module("models", (wrong,), samples={"mixed": SAMPLES["mixed"]})
    at = write(text, tmp_path)
    program = tmp_path / "self_test"
    build(compiler, at / "models.cpp", at / "models_self_test.cpp", "-o", program)
    run = subprocess.run([program], capture_output=True, text=True)
    assert run.returncode == 1
    assert "mixed.out[0] is 2, JAX gives 1" in run.stdout


@pytest.mark.compile
def test_two_modules_with_the_same_contents_link(compiler: str, tmp_path: Path):
    for name in ("first", "second"):
        write(render_module(name, ALL, CONSTANTS), tmp_path)
    main = tmp_path / "main.cpp"
    main.write_text("""
#include "first.hpp"
#include "second.hpp"
#include "first.hpp"

using first::Buffer;

static_assert(first::matvec::IN0_t::ndim == 2 && first::matvec::IN0_t::shape[1] == 3);
static_assert(first::matvec::IN0_t::size == 6 && first::matvec::IN0_t::nbytes == 48);
static_assert(first::matvec::IN0_t::alignment == 64);
static_assert(Buffer<double>::is_scalar && Buffer<double>::size == 1 && Buffer<double>::ndim == 0);
static_assert(!Buffer<double, 0, 3>::is_scalar && Buffer<double, 0, 3>::nbytes == 0);
static_assert(first::N == 7 && first::half == -4);
static_assert(first::diagonal::rows == 2 && first::diagonal::cols == 3);
static_assert(first::diagonal::nnz == 2 && first::diagonal::outerStarts[3] == 2);
static_assert(noexcept(first::nothing::call(first::nothing::WS_t{})));

int main() {
    auto A = first::matvec::IN0_t::alloc();  // elements are not const: they can be written
    auto x = first::matvec::IN1_t::alloc();
    auto y = first::matvec::OUT0_t::alloc();
    auto scaled = first::matvec::OUT1_t::alloc();
    auto ws = first::matvec::init_ws();
    bool fine = A.data[5] == 0.0;
    A.data[1] = 2.0;
    x.data[1] = 3.0;
    first::matvec::call(A, x, y, scaled, ws);
    fine = fine && y.data[0] == 6.0 && scaled.data[1] == 4.0;
    // Memory of the caller, const or not.
    const double constant[3] = {0.0, 1.0, 0.0};
    double result[2] = {};
    namespace other = second::matvec;
    const auto other_ws = other::init_ws();
    other::call(other::IN0_t{A.data}, other::IN1_t{constant}, other::OUT0_t{result},
                other::OUT1_t{scaled.data}, other_ws);
    fine = fine && result[0] == 2.0;
    auto released = other_ws;
    released.free();
    auto empty = Buffer<double, 0>::alloc();
    fine = fine && empty.data == nullptr;
    empty.free();
    A.free();
    x.free();
    y.free();
    scaled.free();
    ws.free();
    return fine && ws.data == nullptr ? 0 : 1;
}
""")
    program = tmp_path / "main"
    sources = (tmp_path / "first.cpp", tmp_path / "second.cpp", main)
    build(compiler, "-fsanitize=address,undefined", "-O1", *sources, "-o", program)
    subprocess.run([program], check=True)


@pytest.mark.compile
def test_arguments_may_have_names_of_library_functions(compiler: str, tmp_path: Path):
    names = ("y1", "j0", "gamma", "index", "time", "exp", "div", "sin", "data", "alloc", "table")
    odd = dataclasses.replace(
        NOTHING,
        inputs=tuple(dataclasses.replace(MATVEC.inputs[1], name=name) for name in names),
        code=f"void evaluate({'const double*, ' * len(names)}unsigned char*) noexcept {{}}",
    )
    write(render_module("models", (odd,)), tmp_path)
    build(compiler, "-fsyntax-only", tmp_path / "models.cpp")


@pytest.mark.compile
def test_outputs_cannot_be_passed_as_const(compiler: str, tmp_path: Path):
    at = write(render_module("models", (NOTHING, MATVEC)), tmp_path)
    (at / "bad.cpp").write_text("""
#include "models.hpp"
void f(const double* p) { (void)models::matvec::OUT0_t{p}; }
""")
    assert subprocess.run([compiler, *STRICT, "-fsyntax-only", at / "bad.cpp"],
                          capture_output=True).returncode != 0  # fmt: skip


@pytest.mark.compile
def test_library_source_is_complete(compiler: str, tmp_path: Path):
    text = render_library_source("jit", ALL)
    assert '#include "' not in text
    source = tmp_path / "jit.cpp"
    source.write_text(
        text
        + "\nint main() { jit::nothing::evaluate(nullptr); double x[2] = {1.0, 2.0}, y[2];"
        + " jit::diagonal::evaluate(x, y, nullptr); (void)jit::matvec::evaluate;"
        + " (void)jit::models::evaluate; (void)jit::mixed::evaluate; return y[0] < y[1] ? 0 : 1; }"
    )
    build(compiler, "-O1", source, "-o", tmp_path / "jit")
    subprocess.run([tmp_path / "jit"], check=True)


@pytest.mark.compile
def test_casadi_loads_the_c_interface(compiler: str, tmp_path: Path):
    casadi = pytest.importorskip("casadi")
    at = write(render_module("models", REAL, c_abi=True), tmp_path)
    library = tmp_path / "libmodels.so"
    sources = (at / "models.cpp", at / "models_casadi.cpp")
    build(compiler, "-O2", "-shared", "-fPIC", *sources, "-o", library)

    matvec = casadi.external("matvec", str(library))
    assert matvec.name_in() == ["A", "x"]
    assert matvec.name_out() == ["out_y", "out_scaled"]
    assert matvec.size_in(0) == (2, 3)
    y, scaled = matvec(A, X)
    np.testing.assert_allclose(np.array(y).ravel(), A @ X, rtol=1e-15)
    np.testing.assert_array_equal(np.array(scaled), A * np.arange(1.0, 7.0).reshape(2, 3))
    # A result that is not asked for, arguments left out, and inside a graph of CasADi's own.
    np.testing.assert_allclose(np.array(matvec(A=A, x=X)["out_y"]).ravel(), A @ X, rtol=1e-15)
    np.testing.assert_array_equal(np.array(matvec(x=X)["out_y"]).ravel(), 0.0)
    x = casadi.MX.sym("x", 3)
    graph = casadi.Function("graph", [x], [matvec(2 * A, x)[0] + 1])
    np.testing.assert_allclose(np.array(graph(X)).ravel(), 2 * A @ X + 1, rtol=1e-15)

    odd = casadi.external("models", str(library))
    assert [odd.size_in(i) for i in range(3)] == [(1, 1), (0, 1), (8, 1)]
    assert odd.size_out(1) == (0, 3)
    out, nothing = odd(3.0, casadi.DM(0, 1), CUBE.ravel())
    assert float(out) == 13.0
    assert nothing.shape == (0, 3)
    assert casadi.external("nothing", str(library)).n_in() == 0

    diagonal = casadi.external("diagonal", str(library))
    assert diagonal.sparsity_out(0) == casadi.Sparsity(2, 3, [0, 1, 1, 2], [0, 1])
    np.testing.assert_array_equal(casadi.DM(diagonal([5.0, 6.0])), [[5, 0, 0], [0, 0, 6]])


def test_c_interface_refuses_other_dtypes():
    with pytest.raises(ExportError, match="flag of mixed has dtype bool"):
        render_module("models", (MIXED,), c_abi=True)


def test_c_interface_refuses_names_of_the_c_library():
    with pytest.raises(ExportError, match="sin is a function of the C library"):
        render_module("models", (dataclasses.replace(NOTHING, name="sin"),), c_abi=True)


@pytest.mark.compile
def test_functions_may_be_called_like_library_functions(compiler: str, tmp_path: Path):
    names = ("sin", "abs", "floor", "wrap_add", "max", "call_", "data", "cstdint")
    functions = [dataclasses.replace(MATVEC, name=name) for name in names]
    write(render_module("models", functions), tmp_path)
    build(compiler, "-fsyntax-only", tmp_path / "models.cpp")


@pytest.mark.parametrize(
    ("module", "functions", "constants", "message"),
    [
        ("for", (), (), "module name 'for' is a C\\+\\+ keyword"),
        ("test", (), (), "a target of CMake's own; use for example 'test_module'"),
        ("sqrt", (), (), "a function of the C library"),
        ("m", (MATVEC, MATVEC), (), "a function and a function named matvec"),
        ("m", (ODD,), (dataclasses.replace(CONSTANTS[0], name="models"),), "named models"),
        ("m", (ODD,), (dataclasses.replace(CONSTANTS[0], name="in0"),), "in0 appears in the code"),
        ("m", (dataclasses.replace(ODD, name="a-b"),), (), "use for example 'a_b'"),
        ("m", (dataclasses.replace(ODD, inputs=ODD.inputs[:1] * 2),), (), "same name"),
    ],
)
def test_names_are_checked(module, functions, constants, message):
    with pytest.raises(ArgumentError, match=message):
        render_module(module, functions, constants)
