"""CUDA kernels without a GPU: run on the host against JAX, and compiled by NVIDIA's compilers."""

import shutil
import subprocess
from pathlib import Path

import pytest

from anvil_jax.emit.device import render_kernels
from anvil_jax.emit.views import DeviceFunctionView
from tests.cases.case import KERNELS, Kernel
from tests.cases.table import TABLE
from tests.support.emulated import emulated_cuda
from tests.support.judge import difference
from tests.support.native import Job, make_job, reference, run_natively
from tests.support.nvrtc import compile_cubin

pytestmark = pytest.mark.compile

# No thread may depend on what another one does, in whatever order they run.
_ORDER = {"auto": "reverse", "scalar": "forward", "tensor": "shuffled"}


def jobs(family: str, kernel: Kernel) -> list[Job]:
    return [
        make_job(f"case_{c.name}", c.function, c.inputs, kernel, "CUDA")
        for c in TABLE[family]
        if kernel in c.kernels
    ]


def kernels(family: str) -> str:
    views = [job.view for job in jobs(family, "auto")]
    return render_kernels([view for view in views if isinstance(view, DeviceFunctionView)])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", TABLE)
def test_equals_jax_when_emulated(
    family: str, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ANVIL_EMULATED_ORDER", _ORDER[kernel])
    found = run_natively(jobs(family, kernel), ["g++", "-O0"], tmp_path, emulated_cuda)
    wrong = []
    for c in TABLE[family]:
        if f"case_{c.name}" in found:
            want = reference(c.function, c.inputs)
            text = difference(found[f"case_{c.name}"], want, rtol=c.rtol, signed=c.signed)
            wrong += [f"{c.name}: {text}"] if text else []
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("family", TABLE)
def test_stays_within_bounds_when_emulated(family: str, tmp_path: Path):
    command = ["g++", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    run_natively(jobs(family, "tensor"), command, tmp_path, emulated_cuda)


@pytest.mark.parametrize("family", TABLE)
def test_nvrtc_compiles(family: str):
    assert compile_cubin(kernels(family))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90"])
def test_nvcc_compiles(arch: str, tmp_path: Path):
    """A family with loops, branches, tables and every kind of kernel."""
    source = tmp_path / "programs.cu"
    source.write_text(kernels("programs"), encoding="utf-8")
    command = ["nvcc", "-cubin", f"-arch={arch}", "-std=c++17", "-Werror", "all-warnings"]
    command += [str(source), "-o", str(tmp_path / "programs.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
