"""The table of tests/cases on the device: one family under one override, as a process of its own.

Usage: python benchmarks/gpu_cases.py RUNNER FAMILY KERNEL FOLDER [CASES]

RUNNER is what `build_runner` compiles, KERNEL auto, scalar, tensor, or batch for five instances
with one thread each; CASES limits their number. Prints one line of JSON, an `Outcome`. FOLDER keeps
what the sanitizers run again.
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gpu_process import environment, find_compiler, run_script

from anvil_jax.emit.device import render_kernels
from anvil_jax.jit.cuda_toolkit import find_cuda_toolkit, find_devices, load_driver
from tests.cases.case import KERNELS as OVERRIDES
from tests.cases.case import RTOL, SCALE, Case
from tests.support.batches import batched_cases
from tests.support.command import run
from tests.support.cuda_compilers import compile_text
from tests.support.judge import difference
from tests.support.native import Job, make_job, nbytes, read_results, reference

KERNELS = (*OVERRIDES, "batch")
_PREFIX = "case_"
_ATTEMPTS = 6
_ON_CPU = {"JAX_PLATFORMS": "cpu"}  # JAX is the reference


@dataclass(slots=True)
class Outcome:
    """What happened to a family under an override.

    Attributes:
        count: functions that ran.
        wrong: what is wrong, by function.
        rounding: the same where it is small beside the largest number of the result.
        worst: largest relative difference from JAX, by dtype.
        worst_case: where it is, by dtype.
        nvrtc_seconds, seconds: of NVRTC, and of everything.
        error: why nothing ran.
    """

    family: str
    kernel: str
    count: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    rounding: dict[str, str] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    worst_case: dict[str, str] = field(default_factory=dict)
    nvrtc_seconds: float = 0.0
    seconds: float = 0.0
    error: str = ""


def build_runner(folder: Path) -> Path:
    """Compiles gpu_runner.cpp."""
    folder.mkdir(parents=True, exist_ok=True)
    return _build(Path(__file__).with_name("gpu_runner.cpp"), folder / "gpu_runner")


def run_self_test(folder: Path) -> str:
    """What the self test of the module of tests/gpu/plant.py prints, compiled by itself."""
    code = "import sys, pathlib, tests.gpu.plant as p; p.write(pathlib.Path(sys.argv[1]))"
    try:
        run([sys.executable, "-c", code, folder], env=environment(**_ON_CPU))
        program = _build(folder / "plant_self_test.cpp", folder / "self_test")
        done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=120)
    except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
        return str(error)[-300:]
    return done.stdout.strip()[-300:]


def _build(source: Path, program: Path) -> Path:
    """A program that is linked to the driver and NVRTC that calls from Python use."""
    toolkit = find_cuda_toolkit()
    libraries = (_driver_file(), toolkit.nvrtc)
    command = [find_compiler(), "-std=c++17", "-O1", *toolkit.compile_arguments, source]
    command += ["-o", program, *libraries, "-pthread", "-ldl"]
    command += [f"-Wl,-rpath,{path.parent}" for path in libraries]
    # The driver's own libraries are found when the program is run.
    run([*command, "-Wl,--allow-shlib-undefined"])
    return program


def _driver_file() -> Path:
    """The driver as it was named, or as the system's loader found it."""
    named = Path(load_driver()._name)
    if named.is_absolute():
        return named
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name.startswith("libcuda.so"):
            return path
    raise RuntimeError("the driver's file was not found")


def run_worker(
    runner: Path, family: str, kernel: str, folder: Path, limit: int | None = None
) -> Outcome:
    """Runs this file."""
    words = [runner, family, kernel, folder, *([] if limit is None else [limit])]
    found, error = run_script(Path(__file__), words, 400.0, **_ON_CPU)
    if error or not found:
        return Outcome(family, kernel, error=error or "printed nothing")
    return Outcome(**found[-1])


def run_again(
    runner: Path, folder: Path, tool: Sequence[str], seconds: float, output: str = "again"
) -> tuple[int, str]:
    """Runs what `run_worker` left in a folder, under a tool; exit status and output."""
    words = [folder / name for name in ("code", "plan", "in", output)]
    command = [*tool, str(runner), *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return -1, f"not done within {seconds:.0f} s"
    return done.returncode, done.stdout + done.stderr


def _plan(job: Job) -> str:
    view = job.view
    buffers = (*view.inputs, *view.outputs)
    names = [f"in{k}" for k in range(len(view.inputs))]
    names += [f"out{k}" for k in range(len(view.outputs))]
    place = {name: k for k, name in enumerate((*names, "ws"))}
    sizes = [nbytes(buffer) for buffer in buffers]
    lines = [f"{view.name} {len(view.inputs)} {len(view.outputs)}"]
    executed = list(_unrolled(view.launches, 0, {}))
    lines += [" ".join(map(str, [*sizes, view.workspace_nbytes])), str(len(executed))]
    for launch, counters in executed:
        words = [launch.kernel, launch.groups, launch.threads, len(launch.arguments)]
        for name in launch.arguments:
            words += [place[name]] if name in place else [-1, counters[name]]
        lines.append(" ".join(map(str, words)))
    return "\n".join(lines) + "\n"


def _unrolled(
    launches: Sequence[Any], depth: int, counters: dict[str, int]
) -> Iterator[tuple[Any, dict[str, int]]]:
    """Every launch with the host's counters, its loops executed from `depth` on."""
    for key, group in itertools.groupby(launches, lambda launch: launch.loops[depth : depth + 1]):
        inside = list(group)
        if not key:
            yield from ((launch, counters) for launch in inside)
            continue
        name, trips = inside[0].repeats[depth]
        for trip in range(trips):
            yield from _unrolled(inside, depth + 1, counters | {name: trip})


def _run(runner: Path, jobs: list[Job], code: bytes, folder: Path, outcome: Outcome) -> list[Job]:
    """Runs the jobs; one that crashes is noted and left out. Gives those that ran."""
    (folder / "code").write_bytes(code)
    for _ in range(_ATTEMPTS):
        (folder / "plan").write_text("".join(map(_plan, jobs)))
        data = b"".join(array.tobytes() for job in jobs for array in job.inputs)
        (folder / "in").write_bytes(data)
        words = [folder / name for name in ("code", "plan", "in", "out")]
        done = subprocess.run(
            [str(runner), *map(str, words)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return jobs
        lines = done.stderr.splitlines()
        running = [line.split()[1] for line in lines if line.startswith("running ")]
        if not running:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr[-300:]}")
        last = (lines or [""])[-1]
        outcome.wrong[running[-1]] = f"exit {done.returncode}: {last}"
        jobs = [job for job in jobs if job.view.name != running[-1]]
    raise RuntimeError(f"{_ATTEMPTS} functions crash")


def _judge(jobs: list[Job], cases: dict[str, Case], data: bytes, outcome: Outcome) -> None:
    position = 0
    for job in jobs:
        case = cases[job.view.name]
        size = 2 * sum(map(nbytes, job.view.outputs))
        piece = data[position : position + size]
        position += size
        try:
            got = read_results([job], piece)[job.view.name]
            want = reference(case.function, case.inputs)
            text = difference(got, want, rtol=case.rtol, signed=case.signed)
            _note_worst(case.name, got, want, outcome)
            if text and not difference(_without_rounding(got, want), want, signed=case.signed):
                outcome.rounding[case.name] = text
                text = None
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:200]
        if text:
            outcome.wrong[case.name] = text
        outcome.count += 1


def _without_rounding(got: list[Any], want: list[Any]) -> list[Any]:
    """`got` with the numbers of `want` where they differ by little beside the largest of them."""
    cleaned = []
    for g, w in zip(got, want, strict=False):
        if w.dtype.kind == "f" and (g.shape, g.dtype) == (w.shape, w.dtype):
            a, b = g.astype(np.float64), w.astype(np.float64)
            both = np.isfinite(a) & np.isfinite(b)
            largest = np.abs(b[both]).max(initial=0.0)
            near = both & (a != b)
            near[near] = np.abs(a - b)[near] <= RTOL[w.dtype.name] * largest
            g = np.where(near, w, g)
        cleaned.append(g)
    return cleaned


def _note_worst(name: str, got: list[Any], want: list[Any], outcome: Outcome) -> None:
    for g, w in zip(got, want, strict=True):
        if w.dtype.kind != "f" or g.shape != w.shape or not w.size:
            continue
        dtype = w.dtype.name
        a, b = g.astype(np.float64), w.astype(np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        errors = np.abs(a - b)[finite] / (np.abs(b[finite]) + SCALE)
        found = float(errors.max(initial=0.0))
        if found >= outcome.worst.get(dtype, 0.0):
            outcome.worst[dtype], outcome.worst_case[dtype] = found, name


def main(runner: Path, family: str, kernel: str, folder: Path, limit: int | None) -> Outcome:
    """Lowers, compiles, runs and judges."""
    from tests.cases.table import TABLE  # computes with JAX, which the parent shall not do

    start = time.perf_counter()
    outcome = Outcome(family, kernel)
    folder.mkdir(parents=True, exist_ok=True)
    override = "auto" if kernel == "batch" else kernel
    table = batched_cases(TABLE[family]) if kernel == "batch" else TABLE[family]
    listed = [c for c in table if override in c.kernels]
    jobs, cases = [], {}
    for case in listed[:limit]:
        name = f"{_PREFIX}{case.name}"
        try:
            jobs.append(make_job(name, case.function, case.inputs, override, "CUDA"))
            cases[name] = case
        except Exception as error:
            outcome.wrong[case.name] = f"{type(error).__name__}: {error}"[:200]
    compiling = time.perf_counter()
    text = render_kernels([job.view for job in jobs])
    code, _ = compile_text(text, find_devices()[0].architecture)
    outcome.nvrtc_seconds = time.perf_counter() - compiling
    jobs = _run(runner, jobs, code, folder, outcome)
    _judge(jobs, cases, (folder / "out").read_bytes(), outcome)
    outcome.seconds = time.perf_counter() - start
    return outcome


if __name__ == "__main__":
    given = sys.argv[1:]
    result = main(
        Path(given[0]), given[1], given[2], Path(given[3]),
        int(given[4]) if len(given) > 4 else None,
    )  # fmt: skip
    print(json.dumps(asdict(result)))
