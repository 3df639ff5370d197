"""``python -m anvil_jax``: what each command prints, and how mistakes are explained."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anvil_jax.__main__ import main
from anvil_jax.jit import cuda_toolkit
from anvil_jax.opti import suppliers

MODEL = '''\
"""A file as a user would write it."""

import jax
import jax.numpy as jnp
import numpy as np

import anvil_jax as av

TABLE = np.arange(6.0).reshape(2, 3)


def step(x, gain):
    return jnp.sin(x) * gain + TABLE.T @ jnp.ones(2)


def count(n):
    return jax.lax.fori_loop(0, 5000, lambda i, total: total + jnp.sin(i * total), n)


def complain(x):
    if x > 0:
        return x
    return -x


@av.numerical_function("energy", 2, 2)
def energy(pos, vel):
    return 0.5 * (pos @ pos + vel @ vel)


class Robot:
    @staticmethod
    def model(x):
        return 2.0 * x


number = 3
'''


@pytest.fixture(autouse=True)
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file to name in commands; it is imported and forgotten."""
    (tmp_path / "model_file.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("model_file", "broken"):
        sys.modules.pop(name, None)


# ---- show ----


def test_show(capsys):
    assert main(["show", "model_file.py:step", "--args", "f64[3], f64"]) == 0
    text = capsys.readouterr().out
    for part in (
        "step: model_file.step on CPU",
        "in   x: float64[3]",
        "in   gain: float64\n",
        "out  out: float64[3]",
        "operations ",
        "workspace  0 bytes",
        "loops: 0",
        "sin x1",
        "---- jaxpr ----",
        "void evaluate(const double*",
    ):
        assert part in text


def test_show_counts_loops_and_functions(capsys):
    assert main(["show", "model_file.py:count", "--args", "f64[]"]) == 0
    assert "C++ functions: 1, loops: 1, library: sin x1" in capsys.readouterr().out


def test_show_numerical_function(capsys):
    assert main(["show", "model_file.py:energy"]) == 0
    assert "energy: model_file.energy on CPU" in capsys.readouterr().out


def test_show_attribute(capsys):
    assert main(["show", "model_file.py:Robot.model", "--args", "float32[2,3]"]) == 0
    assert "in   x: float32[2, 3]" in capsys.readouterr().out


# ---- export ----


def test_export(capsys):
    command = ["export", "model_file.py:step", "--args", "f64[3],f64[]", "--out", "cpp"]
    assert main([*command, "--self-test", "--c-abi", "--module", "robot"]) == 0
    printed = capsys.readouterr().out.split()
    assert sorted(Path(name).name for name in printed) == sorted(os.listdir("cpp"))
    assert "robot_self_test.cpp" in os.listdir("cpp")
    assert "robot_casadi.cpp" in os.listdir("cpp")


def test_export_of_a_numerical_function(capsys):
    assert main(["export", "model_file.py:energy", "--out", "cpp"]) == 0
    assert sorted(os.listdir("cpp")) == ["CMakeLists.txt", "energy.cpp", "energy.hpp"]


# ---- mistakes ----


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["show", "model_file.py"], "write FILE.py:NAME"),
        (["show", "absent.py:step"], "there is no file absent.py"),
        (["show", "model_file.py:stp"], "did you mean step?"),
        (["show", "model_file.py:zzz"], "its functions: step, count, complain, energy"),
        (["show", "model_file.py:number"], "is a int, not a function"),
        (["show", "model_file.py:step"], "needs --args"),
        (["show", "model_file.py:step", "--args", "f64[3"], "cannot read 'f64[3'"),
        (["show", "model_file.py:step", "--args", "q[3]"], "unknown type q"),
        (["show", "model_file.py:step", "--args", "f64[3]"], "cannot be called with 1 positional"),
        (["show", "model_file.py:energy", "--args", "f64[2]"], "leave --args and --kernel away"),
        (["show", "model_file.py:complain", "--args", "f64"], "Python `if`"),
        (["show", "broken.py:step"], "cannot be imported: ZeroDivisionError"),
        (["export", "model_file.py:energy", "--out", "taken"], "not written by anvil_jax"),
    ],
)
def test_mistakes_are_explained(command, message, capsys, tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "energy.hpp").write_text("mine\n")
    assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("anvil_jax: ")
    assert message in printed.err


def test_import_error_names_the_line(capsys, tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    assert main(["show", "broken.py:step"]) == 2
    assert "(at broken.py:2 (<module>))" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["show"], ["export", "model_file.py:energy"], ["dance"]])
def test_usage(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert "usage: python -m anvil_jax" in capsys.readouterr().err


# ---- doctor ----


@pytest.mark.compile
def test_doctor(compilers, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ANVIL_JAX_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for part in ("anvil_jax ", "jax ", "tinygrad   0.14.0", "(used, ", "agrees with JAX"):
        assert part in text
    assert f"{tmp_path / 'cache'}: 0 libraries" in text
    assert main(["doctor", "--clear-cache"]) == 0
    assert "cleared: 1 libraries" in capsys.readouterr().out


def test_doctor_without_a_compiler(capsys, monkeypatch):
    monkeypatch.setenv("ANVIL_JAX_CXX", "no-such-compiler")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "FAILED: ANVIL_JAX_CXX='no-such-compiler' does not name a C++ compiler" in text
    assert "Something does not work" in text


def test_doctor_says_who_solves_quadratic_programs(capsys, monkeypatch, tmp_path):
    installed = tmp_path / "piqp"
    for file in ("include/piqp_c/piqp.h", "lib/libpiqpc.so"):
        (installed / file).parent.mkdir(parents=True)
        (installed / file).touch()
    monkeypatch.setenv("ANVIL_JAX_CXX", "no-such-compiler")  # nothing is to be compiled
    monkeypatch.setenv("ANVIL_JAX_PIQP_ROOT", str(installed))
    main(["doctor"])
    text = capsys.readouterr().out
    for part in (
        "QP         riccati: built in, for multistage problems",
        "dense: built in, for dense problems",
        "piqp: package ",
        f"PIQP's C library: {installed / 'lib' / 'libpiqpc.so'} (ANVIL_JAX_PIQP_ROOT)",
    ):
        assert part in text
    monkeypatch.setenv("ANVIL_JAX_PIQP_ROOT", str(tmp_path))
    main(["doctor"])
    assert "QP         FAILED: ANVIL_JAX_PIQP_ROOT=" in capsys.readouterr().out


def test_doctor_says_how_to_add_piqp(monkeypatch):
    monkeypatch.setattr(suppliers, "find_piqp", lambda: None)
    missing = suppliers.piqp_library()
    assert not missing.is_available
    assert "ANVIL_JAX_PIQP_ROOT (here)" in missing.text
    monkeypatch.setitem(sys.modules, "piqp", None)
    assert "pip install piqp" in suppliers.piqp_package().text
    available = [supplier.is_available for supplier in suppliers.suppliers()]
    assert available == [True, True, False, False]


def test_doctor_without_cuda(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ANVIL_JAX_CXX", "no-such-compiler")  # nothing is to be compiled
    for name in cuda_toolkit._ROOT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cuda_toolkit, "_roots", lambda variables, search_path: iter([tmp_path]))
    monkeypatch.setattr(cuda_toolkit, "_driver", lambda: tmp_path / "libcuda.so.1")
    cuda_toolkit._find.cache_clear()
    main(["doctor"])
    text = capsys.readouterr().out
    assert "CUDA       no toolkit: CUDA's header cuda.h was not found.\n" in text
    assert "           no driver: there is no NVIDIA driver on this machine (" in text

    monkeypatch.setenv("ANVIL_JAX_CUDA_ROOT", str(tmp_path))
    assert main(["doctor"]) == 1
    failed = f"CUDA       FAILED: ANVIL_JAX_CUDA_ROOT='{tmp_path}' has neither CUDA's headers nor "
    assert failed in capsys.readouterr().out


def test_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "anvil_jax", "show", "model_file.py:stp"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "did you mean step?" in done.stderr
    assert done.stdout == ""
