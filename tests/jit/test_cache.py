"""The cache: whose directory it is, what decides a key, races, damage."""

import hashlib
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from anvil_jax.errors import ToolchainError
from anvil_jax.jit import cache
from anvil_jax.jit.cache import cache_directory, cache_info, cached_library, clear_cache
from anvil_jax.jit.library import NativeFunction
from anvil_jax.jit.toolchain import find_compiler

X = np.array([1.0, 2.0, 3.0])
SOURCE = 'extern "C" int f() { return 1; }\n'


@pytest.fixture
def compilations(tmp_path, monkeypatch):
    """Count compilations: the compiler is a script that notes each of them. Returns the counter."""
    log, wrapper = tmp_path / "log", tmp_path / "wrapper"
    real = find_compiler().path
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo x >> {log}\nexec {real} "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setenv("ANVIL_JAX_CXX", str(wrapper))
    return lambda: len(log.read_text().split()) if log.exists() else 0


def test_place(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("ANVIL_JAX_CACHE_DIR", "~/mine")
    assert cache_directory() == tmp_path / "mine"
    monkeypatch.setenv("ANVIL_JAX_CACHE_DIR", "")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_directory() == tmp_path / "xdg" / "anvil_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_directory() == tmp_path / ".cache" / "anvil_jax"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_directory() == tmp_path / "Library" / "Caches" / "anvil_jax"
    assert stat.S_IMODE(cache_directory().stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_directories_others_may_write_are_refused(empty_cache, mode):
    empty_cache.mkdir()
    empty_cache.chmod(mode)
    with pytest.raises(ToolchainError, match="can be written by other users") as caught:
        cache_directory()
    assert f"chmod 700 {empty_cache}" in str(caught.value)


def test_directories_of_others_are_refused(empty_cache, monkeypatch):
    empty_cache.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: empty_cache.stat().st_uid + 1)
    with pytest.raises(ToolchainError, match="belongs to another user"):
        cache_directory()


def test_a_file_in_the_way(empty_cache):
    empty_cache.write_text("")
    with pytest.raises(ToolchainError, match=r"cannot be used: .*Set ANVIL_JAX_CACHE_DIR"):
        cache_directory()


@pytest.mark.compile
def test_an_entry_is_text_library_and_digest(empty_cache, compilations):
    library = cached_library("f", SOURCE, abi=1)
    assert library.parent == empty_cache
    assert sorted(p.suffix for p in empty_cache.glob("f-*")) == [".cpp", ".sha256", ".so"]
    assert library.with_suffix(".cpp").read_text() == SOURCE
    assert cached_library("f", SOURCE, abi=1) == library
    assert compilations() == 1
    assert not list(empty_cache.glob("build-*"))
    if shutil.which("sha256sum"):
        check = ["sha256sum", "--check", library.with_suffix(".sha256").name]
        subprocess.run(check, cwd=empty_cache, check=True, capture_output=True)


@pytest.mark.compile
def test_what_decides_the_key(empty_cache, monkeypatch, tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\nexec {find_compiler().path} "$@"\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("ANVIL_JAX_CXX", str(compiler))
    seen = [cached_library("f", SOURCE, abi=1)]
    seen.append(cached_library("f", SOURCE + "\n", abi=1))
    seen.append(cached_library("f", SOURCE, abi=2))
    monkeypatch.setenv("ANVIL_JAX_CXXFLAGS", "-O1")
    seen.append(cached_library("f", SOURCE, abi=1))
    monkeypatch.delenv("ANVIL_JAX_CXXFLAGS")
    os.utime(compiler, ns=(1, 1))
    seen.append(cached_library("f", SOURCE, abi=1))
    monkeypatch.setenv("ANVIL_JAX_CXX", f"{compiler} -DX")
    seen.append(cached_library("f", SOURCE, abi=1))
    monkeypatch.setattr(cache, "_machine", lambda: "another processor")
    seen.append(cached_library("f", SOURCE, abi=1))
    assert len(set(seen)) == len(seen)


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="Linux only")
def test_the_processor_is_known():
    text = cache._linux_processor()
    assert text
    assert "MHz" not in text


@pytest.mark.compile
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "no library", "no digest"])
def test_damaged_entries_are_compiled_again(empty_cache, compilations, python, double, damage):
    clone = NativeFunction(double.signature, double.source)
    library = clone.library_path
    content = library.read_bytes()
    if damage == "no library":
        library.unlink()
    elif damage == "no digest":
        library.with_suffix(".sha256").unlink()
    else:
        # A new file, as the old one is mapped into this process.
        library.unlink()
        library.write_bytes(
            {"truncated": content[: len(content) // 2], "garbage": b"x" * 999, "empty": b""}[damage]
        )
    script = """
import pickle, sys, numpy as np
print(pickle.loads(bytes.fromhex(sys.argv[1]))(np.ones(3)))
"""
    assert python(script, pickle.dumps(double).hex()) == "[2. 2. 2.]\n"
    assert compilations() == 2


@pytest.mark.compile
def test_a_library_that_does_not_load_is_compiled_once_more(empty_cache, compilations, double):
    """Sound by its digest, but nothing dlopen accepts."""
    library = cached_library(double.signature.name, double.source, abi=1)
    library.unlink()
    library.write_bytes(b"not a library")
    library.with_suffix(".sha256").write_text(hashlib.sha256(b"not a library").hexdigest())
    clone = NativeFunction(double.signature, double.source)
    np.testing.assert_array_equal(clone(X), 2 * X)
    assert compilations() == 2


@pytest.mark.compile
def test_a_library_that_never_loads_is_reported(empty_cache, double):
    source = "extern int nowhere;\n" + double.source.replace("2 * in0[i]", "nowhere * in0[i]")
    with pytest.raises(ToolchainError, match=r"twice was compiled .* cannot be loaded: .*nowhere"):
        NativeFunction(double.signature, source)(X)


RACER = """
import pickle, sys, time
import numpy as np
function = pickle.load(open(sys.argv[1], "rb"))
while time.time() < float(sys.argv[2]):
    pass
print(function(np.ones(3)))
"""


@pytest.mark.compile
@pytest.mark.parametrize("locks", [True, False])
def test_sixteen_processes_race(empty_cache, compilations, start, double, tmp_path, locks):
    path = tmp_path / "double.pickle"
    path.write_bytes(pickle.dumps(double))
    script = RACER if locks else "import anvil_jax.jit.cache as c; c.fcntl = None\n" + RACER
    begin = time.time() + 3
    racers = [start(script, path, begin) for _ in range(16 if locks else 4)]
    for racer in racers:
        stdout, stderr = racer.communicate(timeout=120)
        assert (racer.returncode, stdout) == (0, "[2. 2. 2.]\n"), stderr
    assert compilations() == 1 if locks else compilations() >= 1
    assert not list(empty_cache.glob("*.lock"))
    assert not list(empty_cache.glob("build-*"))


@pytest.mark.compile
def test_threads_race(empty_cache, compilations, double):
    one = NativeFunction(double.signature, double.source)
    many = [NativeFunction(double.signature, double.source) for _ in range(8)]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda f: f(X), [one] * 8 + many))
    np.testing.assert_array_equal(results, [2 * X] * 16)
    assert compilations() == 1


@pytest.mark.compile
def test_info_and_clear(empty_cache):
    assert cache_info().libraries == 0
    cached_library("f", SOURCE, abi=1)
    cached_library("g", SOURCE, abi=1)
    with pytest.raises(ToolchainError):
        cached_library("h", "not C++", abi=1)
    (empty_cache / "notes.cpp").write_text("the user's own")
    (empty_cache / "build-killed").mkdir()
    os.utime(empty_cache / "build-killed", (0, 0))
    (empty_cache / "build-busy").mkdir()
    info = cache_info()
    assert (info.directory, info.libraries, info.failed) == (empty_cache, 2, 1)
    assert info.nbytes > 10_000
    assert clear_cache() == info
    assert sorted(p.name for p in empty_cache.iterdir()) == ["build-busy", "notes.cpp"]
    assert cache_info().nbytes == 0
    assert Path(cached_library("f", SOURCE, abi=1)).exists()
