"""The examples run and print what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.compile
def test_quadrotor(compilers, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quadrotor.py", tmp_path / "cpp"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    error = re.search(r"agreement +(\S+) maximum relative difference from JAX", done.stdout)
    assert error is not None
    assert float(error[1]) < 1e-12
    assert re.search(r"native +[\d.]+ us per call", done.stdout)
    assert re.search(r"jax.jit +[\d.]+ us per call", done.stdout)

    # The exported self-test agrees with JAX without Python.
    program = tmp_path / "self_test"
    sources = sorted(str(path) for path in (tmp_path / "cpp").glob("*.cpp"))
    subprocess.run([compilers[0], "-std=c++17", *sources, "-o", str(program)], check=True)
    subprocess.run([str(program)], check=True)


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name
