"""CUDA kernels without a GPU: run on the host against JAX, and compiled by NVIDIA's compilers."""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax.emit.device import render_kernels
from anvil_jax.emit.views import DeviceFunctionView
from anvil_jax.targets.gpu import layout
from tests.cases.case import KERNELS, Case, Kernel
from tests.cases.programs import quadrotor_step
from tests.cases.table import TABLE
from tests.support.emulated import emulated_cuda
from tests.support.judge import difference
from tests.support.native import Job, make_job, reference, run_natively
from tests.support.nvrtc import compile_cubin, compile_log

pytestmark = pytest.mark.compile

# What is read before it is written shows as a number that no function computes.
_COMMAND = ["g++", "-O0", "-ftrivial-auto-var-init=pattern"]

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
    check(family, jobs(family, kernel), tmp_path)


@pytest.mark.parametrize("family", TABLE)
def test_batches_equal_jax_when_emulated(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every case with one instance per thread, few as they are exchanging what they store."""
    monkeypatch.setattr(layout, "ENOUGH_FOR_ROWS", 2)
    monkeypatch.setenv("ANVIL_EMULATED_ORDER", "shuffled")
    batched = [_batched(c) for c in TABLE[family] if any(map(_is_array, jax.tree.leaves(c.inputs)))]
    made = [make_job(f"case_{c.name}", c.function, c.inputs, "auto", "CUDA") for c in batched]
    check(family, made, tmp_path, batched)


def check(family: str, made: list[Job], folder: Path, cases: Sequence[Case] = ()) -> None:
    found = run_natively(made, _COMMAND, folder, emulated_cuda)
    wrong = []
    for c in cases or TABLE[family]:
        if f"case_{c.name}" in found:
            want = reference(c.function, c.inputs)
            text = difference(found[f"case_{c.name}"], want, rtol=c.rtol, signed=c.signed)
            wrong += [f"{c.name}: {text}"] if text else []
    assert not wrong, "\n".join(wrong)


def _is_array(leaf: object) -> bool:
    return hasattr(leaf, "shape")


def _batched(case: Case) -> Case:
    """The case for five equal instances."""
    leaves, tree = jax.tree.flatten(case.inputs)
    arrays = [k for k, leaf in enumerate(leaves) if _is_array(leaf)]

    def function(*args: Any) -> Any:
        given = jax.tree.leaves(args)

        def one(slices: list[jax.Array]) -> Any:
            filled = list(leaves)
            for k, piece in zip(arrays, slices, strict=True):
                filled[k] = piece
            return case.function(*jax.tree.unflatten(tree, filled))

        return jax.lax.map(one, [given[k] for k in arrays])

    stacked = [np.stack([x] * 5) if _is_array(x) else x for x in leaves]
    return replace(case, function=function, inputs=jax.tree.unflatten(tree, stacked))


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
    """A family with loops, branches, tables and every kind of kernel, and a large batch."""
    for name, text in (("programs", kernels("programs")), ("batch", quadrotor_batch())):
        source = tmp_path / f"{name}.cu"
        source.write_text(text, encoding="utf-8")
        command = ["nvcc", "-cubin", f"-arch={arch}", "-std=c++17", "-Werror", "all-warnings"]
        command += [str(source), "-o", str(tmp_path / "kernels.cubin")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def quadrotor_batch() -> str:
    """16,384 steps of a quadrotor with sparse Jacobians."""

    def stacked(z: jax.Array) -> jax.Array:
        return quadrotor_step(z[:13], z[13:])

    jacobian = av.spjacobian(av.NumericalFunction("stacked", stacked, (av.Arg(17),)))
    both = av.NumericalFunction("both", lambda z: (stacked(z), jacobian(z)), (av.Arg(17),), "CUDA")
    view = av.vmap(both, 16_384).view
    assert isinstance(view, DeviceFunctionView)
    assert [(launch.groups, launch.threads) for launch in view.launches] == [(256, 64)]
    return render_kernels([view])


def test_registers_are_enough(tmp_path: Path):
    """The compiler says how many bytes per thread do not fit: none, in little compile time."""
    text = quadrotor_batch()
    begin = time.perf_counter()
    log = compile_log(text, "sm_90", ["--ptxas-options=-v"])
    assert time.perf_counter() - begin < 3
    spilled = re.findall(r"(\d+) bytes spill stores", log)
    assert spilled
    assert set(spilled) == {"0"}, log
