"""The case table against JAX: every family, every choice of kernels, every compiler.

All cases of one family and kernel choice are one source file, hence one test: what differs is
listed together.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.cases.case import KERNELS, TENSOR, Kernel
from tests.cases.table import TABLE
from tests.support.judge import difference
from tests.support.native import FLAGS, SANITIZERS, Job, make_job, reference, run_natively

pytestmark = pytest.mark.compile

# Code of scalar kernels is megabytes here; at -O1 it compiles in half the time.
_LEVEL = {"auto": "-O2", "scalar": "-O1", "tensor": "-O2"}


@cache
def wanted(family: str) -> dict[str, list[np.ndarray]]:
    return {c.name: reference(c.function, c.inputs) for c in TABLE[family]}


@cache
def lowered(family: str, kernel: Kernel) -> tuple[tuple[Job, ...], tuple[str, ...]]:
    """The jobs of a family, and one line for each case that cannot be lowered.

    What has the same code as without an override is left to that test.
    """
    jobs, failures = [], []
    known = {} if kernel == "auto" else {j.view.name: j.view for j in lowered(family, "auto")[0]}
    for c in TABLE[family]:
        if kernel in c.kernels:
            try:
                job = make_job(f"case_{c.name}", c.function, c.inputs, kernel)
                if known.get(job.view.name) != job.view:
                    jobs.append(job)
            except Exception as error:
                failures.append(f"{c.name}: {type(error).__name__}: {error}")
    return tuple(jobs), tuple(failures)


def check(family: str, kernel: Kernel, command: list[str], folder: Path) -> None:
    jobs, failures = lowered(family, kernel)
    found = run_natively(jobs, command, folder)
    wrong = list(failures)
    for c in TABLE[family]:
        if f"case_{c.name}" in found:
            got = found[f"case_{c.name}"]
            text = difference(got, wanted(family)[c.name], rtol=c.rtol, signed=c.signed)
            wrong += [f"{c.name}: {text}"] if text else []
    assert not wrong, f"{family}, {kernel}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", TABLE)
def test_equals_jax(family: str, kernel: Kernel, compiler: str, tmp_path: Path):
    check(family, kernel, [compiler, _LEVEL[kernel], *FLAGS], tmp_path)


@pytest.mark.parametrize("kernel", TENSOR)
@pytest.mark.parametrize("family", TABLE)
def test_stays_within_bounds(
    family: str, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Under the address and undefined-behaviour sanitizers, without fused multiply-add.

    Small cases are scalar code under "auto" too, and indices in scalar code are constants.
    """
    monkeypatch.setenv("ASAN_OPTIONS", "detect_stack_use_after_return=1")
    check(family, kernel, ["g++", "-O0", "-ffp-contract=off", *SANITIZERS], tmp_path)


def test_names_are_unique():
    for family, cases in TABLE.items():
        names = [c.name for c in cases]
        assert len(set(names)) == len(names), family
