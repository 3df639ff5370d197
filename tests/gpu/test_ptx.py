"""Kernels compiled ahead of time: embedded, used where the driver can, otherwise compiled later."""

import os
import shutil
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import pytest

import anvil_jax as av
from tests.support.cuda.emulator import Emulator

pytestmark = pytest.mark.compile


def function(device: Literal["CPU", "CUDA"] = "CUDA") -> av.NumericalFunction:
    return av.NumericalFunction("f", lambda x: jnp.tanh(x) * 2, (av.Arg(300),), device)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_ptx_is_embedded(tmp_path: Path, emulator: Emulator):
    written = av.export(function(), path=tmp_path, ptx=["sm_80", "sm_90"], self_test=True)
    header = written.header.read_text()
    assert ".target sm_80" in header
    assert ".target sm_90" in header
    assert header.index("{ 90, ptx_90 }") < header.index("{ 80, ptx_80 }")
    # The emulated driver takes no real PTX: the kernels are then compiled as if there were none.
    assert written.self_test is not None
    program = emulator.build(tmp_path / "self_test", written.self_test)
    emulator.run(program)


def test_a_failing_compiler_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bin").mkdir()
    compiler = tmp_path / "bin" / "nvcc"
    compiler.write_text("#!/bin/sh\necho no such architecture >&2\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(av.ToolchainError, match="exit code 3") as caught:
        av.export(function(), path=tmp_path / "module", ptx=["sm_999"])
    assert "no such architecture" in str(caught.value)
    assert not (tmp_path / "module").exists()


def test_wrong_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(av.ArgumentError, match="'80' names no architecture"):
        av.export(function(), path=tmp_path / "m", ptx=["80"])
    with pytest.raises(av.ArgumentError, match="is not for CUDA"):
        av.export(function("CPU"), path=tmp_path / "m", ptx=["sm_80"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(av.ToolchainError, match="nvcc of the CUDA toolkit is not on the PATH"):
        av.export(function(), path=tmp_path / "m", ptx=["sm_80"])
    assert not (tmp_path / "m").exists()
