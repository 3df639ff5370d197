"""The rendered C++: silent under strict warnings, clean under sanitizers, free of Python."""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.jit.interpreter import Interpreter
from anvil_jax.jit.library import RELEASE_GIL_OPERATIONS

WARNINGS = ["all", "extra", "pedantic", "conversion", "sign-conversion", "shadow", "error"]

SIGNATURES = {
    "vector": ((("x", "float64", (3,)),), (("float64", (3,)),), 0, 10),
    "nothing": ((), (), 0, 10),
    "scalars": ((("a", "float64", ()), ("b", "int32", ())), (("float64", ()),), 0, 10),
    "no_results": ((("x", "float64", (3,)),), (), 64, 10),
    "many": (
        tuple((f"x{i}", name, (i, 2)) for i, name in enumerate(ELEMENT_TYPES)),
        tuple((name, (2, i)) for i, name in enumerate(ELEMENT_TYPES)),
        64,
        RELEASE_GIL_OPERATIONS,
    ),
    "workspace": ((("x", "float64", ()),), (("float64", ()),), 1 << 18, 10),
    "large_workspace": ((("x", "float64", ()),), (("float64", ()),), 1 << 20, 10),
}


@pytest.mark.compile
@pytest.mark.parametrize("name", SIGNATURES)
def test_no_warnings(make, tmp_path, compiler, name):
    inputs, outputs, nbytes, operations = SIGNATURES[name]
    function = make(name, inputs, outputs, "", nbytes, operations)
    flags = [f"-W{warning}" for warning in WARNINGS]
    source = tmp_path / f"{name}.cpp"
    source.write_text(function.source)
    done = subprocess.run(
        [compiler, "-std=c++17", "-O2", *flags, "-c", source, "-o", tmp_path / "out.o"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    assert done.returncode == 0


MAIN = """
#include <thread>
#include <vector>
int main() {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([t] {
            for (int k = 0; k < 3; ++k) {
                double x = t + k, y = 0;
                void* buffers[] = {&x, &y};
                if (anvil_jit_run(buffers) != 0 || y != x + 1) std::abort();
            }
        });
    }
    for (auto& thread : threads) thread.join();
    return anvil_jit_abi() == 1 ? 0 : 1;
}
"""


@pytest.mark.compile
@pytest.mark.parametrize("nbytes", [64, 1 << 20])
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_plain_entry_under_sanitizers(make, tmp_path, compiler, nbytes, sanitizer):
    body = f"ws[0] = 1; ws[{nbytes - 1}] = 0; *out0 = *in0 + ws[0] + ws[{nbytes - 1}];"
    function = make("plus", (("x", "float64", ()),), (("float64", ()),), body, nbytes)
    source = tmp_path / "plus.cpp"
    source.write_text("#include <cstdlib>\n" + function.source + MAIN)
    flags = ["-std=c++17", "-O1", "-g", "-pthread", f"-fsanitize={sanitizer}"]
    built = subprocess.run(
        [compiler, *flags, source, "-o", tmp_path / "plus"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find" in built.stderr:
        pytest.skip(f"no {sanitizer} sanitizer for {compiler}")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([tmp_path / "plus"], capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.compile
def test_only_three_symbols_are_exported_and_none_of_python_is_needed(make):
    function = make("vector", *SIGNATURES["vector"][:2], "")
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm")
    text = subprocess.run(
        [nm, "-D", function.library_path], capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r" T (\w+)", text)) == {
        "anvil_jit_abi",
        "anvil_jit_run",
        "anvil_jit_bind",
    }
    assert not re.findall(r" U _?Py\w+", text)


@pytest.mark.compile
def test_plain_entry_through_ctypes(double):
    library = ctypes.CDLL(str(double.library_path))
    x, y = np.arange(3.0), np.empty(3)
    assert library.anvil_jit_run((ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data)) == 0
    np.testing.assert_array_equal(y, 2 * x)


def test_both_descriptions_of_the_interpreter_agree(root):
    """The C++ struct and the ctypes one have the same fields in the same order."""
    text = (root / "templates" / "jit" / "python_call.hpp").read_text()
    body = text[text.index("struct Interpreter {") : text.index("// PyObject_HEAD followed")]
    body = re.sub(r"//.*", "", body)
    fields = re.findall(r"\(\*(\w+)\)\(|[*] ?(\w+);", body)
    assert [a or b for a, b in fields] == [name for name, *_ in Interpreter._fields_]


def test_rendering_is_reproducible(make):
    first, second = (make("vector", *SIGNATURES["vector"][:2], "").source for _ in range(2))
    assert first == second
