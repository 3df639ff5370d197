"""Loops over the branch-free functions become vector code, which is why they are branch-free.

The compilers are asked, not timed: a change that slips a branch in would make every network ten
times slower and fail no other test.
"""

import platform
import re
import shutil
import subprocess

import pytest

from tests.runtime.harness import BUILDS, module_text

pytestmark = pytest.mark.compile

FUNCTIONS = ["fast_exp", "fast_expm1", "fast_tanh", "fast_logistic", "fast_log"]
FUNCTIONS += ["floor", "round_even", "round_away", "sign", "sqrt"]
REPORT = {
    "g++": ["-ftree-vectorize", "-fvect-cost-model=dynamic", "-fopt-info-vec"],
    "clang++": ["-Rpass=loop-vectorize"],
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the report depends on the target")
@pytest.mark.parametrize("compiler", REPORT)
def test_loops_are_vectorised(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    version = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=True)
    if int(version.stdout.split(".")[0]) < 12:
        pytest.skip("older compilers vectorise less")
    lines = [
        f"void {name}(const double* __restrict__ x, double* __restrict__ y) "
        f"{{ for (int i = 0; i < 64; ++i) y[i] = anvil_rt::{name}(x[i]); }}"
        for name in FUNCTIONS
    ]
    source = tmp_path / "loops.cpp"
    source.write_text(module_text(["elementary.hpp", "exponential.hpp"], "\n".join(lines)))
    # AVX2 rather than this machine's best: it lacks 64-bit shifts and conversions.
    flags = [flag for flag in BUILDS[compiler] if flag != "-march=native"]
    command = [*flags, "-std=c++17", "-mavx2", "-mfma", *REPORT[compiler], "-c", str(source)]
    result = subprocess.run(
        [*command, "-o", str(tmp_path / "loops.o")], capture_output=True, text=True, check=True
    )
    reported = {
        int(number)
        for number in re.findall(r"loops\.cpp:(\d+):\d+: (?:optimized|remark)", result.stderr)
    }
    text = source.read_text().splitlines()
    vectorised = {text[number - 1].split("(")[0].removeprefix("void ") for number in reported}
    assert set(FUNCTIONS) - vectorised == set()
