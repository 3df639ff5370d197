"""CUDA kernels without a GPU: run on the host against JAX, and compiled by NVIDIA's compilers."""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import pytest

import anvil_jax as av
from anvil_jax.emit.views import DeviceFunctionView
from anvil_jax.targets.gpu import layout
from tests.cases.case import KERNELS, Case, Kernel
from tests.cases.programs import quadrotor_step
from tests.cases.table import TABLE
from tests.requirements import require_cuda
from tests.support.batches import batched_cases
from tests.support.cuda_compilers import compile_text, compile_with_nvcc
from tests.support.emulated import COMMAND, RACES, emulated_cuda, kernels_text
from tests.support.judge import difference
from tests.support.native import SANITIZERS, Job, make_job, reference, run_natively

pytestmark = pytest.mark.compile

# No thread may depend on what another one does, in whatever order they run.
_ORDER = {"auto": "reverse", "scalar": "forward", "tensor": "shuffled"}
_COMMAND = {"auto": COMMAND, "scalar": COMMAND, "tensor": RACES}


def jobs(cases: Sequence[Case], kernel: Kernel) -> list[Job]:
    return [
        make_job(f"case_{c.name}", c.function, c.inputs, kernel, "CUDA")
        for c in cases
        if kernel in c.kernels
    ]


def kernels(family: str) -> str:
    return kernels_text(job.view for job in jobs(TABLE[family], "auto"))


def check(cases: Sequence[Case], kernel: Kernel, folder: Path, command: Sequence[str]) -> None:
    found = run_natively(jobs(cases, kernel), command, folder, emulated_cuda)
    wrong = []
    for c in cases:
        if f"case_{c.name}" in found:
            want = reference(c.function, c.inputs)
            text = difference(found[f"case_{c.name}"], want, rtol=c.rtol, signed=c.signed)
            wrong += [f"{c.name}: {text}"] if text else []
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", TABLE)
def test_equals_jax_when_emulated(
    family: str, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ANVIL_EMULATED_ORDER", _ORDER[kernel])
    check(TABLE[family], kernel, tmp_path, _COMMAND[kernel])


@pytest.mark.parametrize("family", TABLE)
def test_batches_equal_jax_when_emulated(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every case with one instance per thread, few as they are exchanging what they store."""
    monkeypatch.setattr(layout, "ENOUGH_FOR_ROWS", 2)
    monkeypatch.setenv("ANVIL_EMULATED_ORDER", "shuffled")
    check(batched_cases(TABLE[family]), "auto", tmp_path, RACES)


@pytest.mark.parametrize("family", TABLE)
def test_stays_within_bounds_when_emulated(family: str, tmp_path: Path):
    command = ["g++", "-O0", *SANITIZERS]
    run_natively(jobs(TABLE[family], "tensor"), command, tmp_path, emulated_cuda)


@pytest.mark.parametrize("family", TABLE)
def test_nvrtc_compiles(family: str):
    require_cuda()
    code, _ = compile_text(kernels(family), 80)
    assert code


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("architecture", [75, 80, 90])
def test_nvcc_compiles(architecture: int, tmp_path: Path):
    """A family with loops, branches, tables and every kind of kernel, and a large batch."""
    for text in (kernels("programs"), quadrotor_batch()):
        compile_with_nvcc(text, architecture, tmp_path, ("-Werror", "all-warnings"))


def quadrotor_batch() -> str:
    """16,384 steps of a quadrotor with sparse Jacobians."""

    def stacked(z: jax.Array) -> jax.Array:
        return quadrotor_step(z[:13], z[13:])

    jacobian = av.spjacobian(av.NumericalFunction("stacked", stacked, (av.Arg(17),)))
    both = av.NumericalFunction("both", lambda z: (stacked(z), jacobian(z)), (av.Arg(17),), "CUDA")
    view = av.vmap(both, 16_384).view
    assert isinstance(view, DeviceFunctionView)
    assert [(launch.groups, launch.threads) for launch in view.launches] == [(256, 64)]
    return kernels_text([view])


def test_registers_are_enough():
    """The compiler says how many bytes per thread do not fit: none, in little compile time."""
    require_cuda()
    text = quadrotor_batch()
    begin = time.perf_counter()
    _, log = compile_text(text, 90, ["--ptxas-options=-v"])
    assert time.perf_counter() - begin < 3
    spilled = re.findall(r"(\d+) bytes spill stores", log)
    assert spilled
    assert set(spilled) == {"0"}, log
