"""Which compiler is taken, how it is called, and what is said when it fails."""

import shlex
import stat
import sys
import time
from pathlib import Path

import pytest

from anvil_jax.errors import ToolchainError
from anvil_jax.jit.cache import cached_library
from anvil_jax.jit.toolchain import (
    Compiler,
    compile_flags,
    compile_shared_library,
    find_compiler,
)
from anvil_jax.progress import progress


def fake_compiler(path: Path, version: str, then: str = "exit 1") -> Path:
    """A script that claims to be a compiler."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\ncase " $* " in *" --version "*) echo "{version}"; exit 0;; esac\n{then}\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


CLANG = "clang version 99.0"
GCC = "g++ 99.0\nCopyright (C) Free Software Foundation, Inc."


@pytest.fixture
def two_compilers(tmp_path, monkeypatch):
    """A PATH with fakes of both kinds only."""
    fake_compiler(tmp_path / "bin" / "g++", GCC)
    fake_compiler(tmp_path / "bin" / "clang++", CLANG)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_order_of_preference(two_compilers, tmp_path, monkeypatch):
    assert find_compiler() == Compiler(str(two_compilers / "clang++"), "clang++", CLANG)
    monkeypatch.setenv("CXX", "g++")
    assert find_compiler() == Compiler(str(two_compilers / "g++"), "g++", "g++ 99.0")
    mine = fake_compiler(tmp_path / "elsewhere" / "mine", "mine, based on clang 3")
    monkeypatch.setenv("ANVIL_JAX_CXX", str(mine))
    assert find_compiler().path == str(mine)
    assert find_compiler().kind == "clang++"
    monkeypatch.setenv("ANVIL_JAX_CXX", "  ")
    assert find_compiler().kind == "g++"
    monkeypatch.delenv("CXX")
    (two_compilers / "clang++").unlink()
    monkeypatch.setenv("PATH", f"{two_compilers}:")
    assert find_compiler().kind == "g++"


def test_the_variable_may_hold_arguments(two_compilers, monkeypatch):
    monkeypatch.setenv("CXX", "g++ -m64 '-DNAME=a b'")
    compiler = find_compiler()
    assert compiler.command == (str(two_compilers / "g++"), "-m64", "-DNAME=a b")


def test_the_answer_is_cached(two_compilers):
    assert find_compiler() is find_compiler()


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError) as caught:
        find_compiler()
    message = str(caught.value)
    assert "found none: neither clang++ nor g++ is on the PATH" in message
    for advice in ("apt install g++", "brew install llvm", "conda install", "ANVIL_JAX_CXX"):
        assert advice in message
    assert caught.value.command == ()


@pytest.mark.parametrize("value", ["no-such-compiler -O3", sys.executable, "'unclosed"])
def test_a_wrong_variable_is_not_passed_over(monkeypatch, value):
    monkeypatch.setenv("CXX", value)
    with pytest.raises(ToolchainError, match=r"^CXX="):
        find_compiler()


def test_flags(monkeypatch):
    gcc, clang = Compiler("/g++", "g++", "1"), Compiler("/clang++", "clang++", "1")
    common = compile_flags(clang)
    assert {"-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden"} <= set(common)
    assert not any("fast-math" in flag for flag in common)
    extra = ("-ftree-vectorize", "-fvect-cost-model=dynamic")
    assert compile_flags(gcc) == (*common, *extra)
    monkeypatch.setenv("ANVIL_JAX_CXXFLAGS", "-O3 '-DNAME=a b'")
    assert compile_flags(clang) == (*common, "-O3", "-DNAME=a b")
    monkeypatch.setenv("ANVIL_JAX_CXXFLAGS", "'")
    with pytest.raises(ToolchainError, match=r"^ANVIL_JAX_CXXFLAGS="):
        compile_flags(clang)


@pytest.mark.parametrize(
    ("system", "machine", "present", "absent"),
    [
        ("Darwin", "arm64", {"-mcpu=native", "-dynamiclib"}, {"-march=native", "-shared"}),
        ("Darwin", "x86_64", {"-march=native", "-dynamiclib"}, {"-mcpu=native", "-shared"}),
        ("Linux", "aarch64", {"-march=native", "-shared"}, {"-mcpu=native", "-dynamiclib"}),
    ],
)
def test_flags_by_system(monkeypatch, system, machine, present, absent):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    flags = set(compile_flags(Compiler("/clang++", "clang++", "1")))
    assert present <= flags
    assert not absent & flags


@pytest.mark.compile
def test_a_failed_compilation_says_everything(empty_cache):
    source = "int f() { return undeclared_name; }\n"
    with pytest.raises(ToolchainError) as caught:
        cached_library("broken", source, abi=1)
    error, message = caught.value, str(caught.value)
    assert error.returncode == 1
    assert error.source_path is not None
    kept = Path(error.source_path)
    assert kept.parent == empty_cache / "failed"
    assert kept.read_text() == source
    assert f"{find_compiler().kind} failed on broken with exit code 1" in message
    assert "undeclared_name" in error.stderr
    assert f"{kept}:1:" in message
    assert shlex.join(error.command) in message
    assert [p.name for p in empty_cache.iterdir()] == ["failed"]


@pytest.mark.compile
def test_only_the_last_lines_are_quoted(tmp_path):
    count = "i=0; while [ $i -lt 99 ]; do echo line$i >&2; i=$((i+1)); done; exit 3"
    compiler = fake_compiler(tmp_path / "chatty", CLANG, count)
    source = tmp_path / "f.cpp"
    source.write_text("")
    with pytest.raises(ToolchainError, match="exit code 3") as caught:
        compile_shared_library(
            source, tmp_path / "f.so", Compiler(str(compiler), "clang++", CLANG), ()
        )
    assert caught.value.stderr.splitlines() == [f"line{i}" for i in range(79, 99)]
    assert caught.value.source_path == str(source)
    assert source.exists()


def test_a_compiler_that_vanished(tmp_path):
    gone = Compiler(str(tmp_path / "gone"), "g++", "1")
    with pytest.raises(ToolchainError, match="could not be started"):
        compile_shared_library(tmp_path / "f.cpp", tmp_path / "f.so", gone, ())


@pytest.mark.compile
def test_both_compilers_work(make, monkeypatch, compiler):
    monkeypatch.setenv("ANVIL_JAX_CXX", compiler)
    inputs, outputs = (("x", "float64", (2,)),), (("float64", ()),)
    product = make("product", inputs, outputs, "*out0 = in0[0] * in0[1];")
    assert product([3.0, 4.0]) == 12.0


@pytest.mark.parametrize(
    ("verbose", "after", "expected"),
    [
        ("1", 0.0, "anvil_jax: compiling quadrotor ...\n"),
        ("1", 60.0, ""),
        ("0", 0.0, ""),
        ("", 0.0, ""),
    ],
)
def test_progress_is_one_late_line(monkeypatch, capsys, verbose, after, expected):
    monkeypatch.setenv("ANVIL_JAX_VERBOSE", verbose)
    with progress("compiling quadrotor", after):
        time.sleep(0.1)
    assert capsys.readouterr().err == expected
