"""Functions on a GPU: what compilers say, agreement with JAX, memory checks, speed.

Usage: python benchmarks/gpu.py [sections] [--write [--page FILE]]

Sections: static (needs no GPU), cases, sanitizer, timing. What cannot run says so. `--write`
replaces the chosen sections of docs/gpu.md, or of FILE, and keeps the others.
"""

import argparse
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gpu_cases import (  # imports tests, found through the line above
    KERNELS,
    Outcome,
    build_runner,
    run_again,
    run_self_test,
    run_worker,
)
from gpu_device import Driver, measure_ceilings
from gpu_models import DTYPES, MODELS, small
from gpu_timing import ROOF, SPEED, measure_in_process

from anvil_jax.emit.device import render_kernels
from anvil_jax.errors import AnvilError
from anvil_jax.lowering import families
from tests.support.cuda_compilers import (
    compile_seconds,
    compile_text,
    compile_with_nvcc,
    nvrtc_version,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gpu.md"
INTRO = """# Benchmarks on a GPU

Written by `python benchmarks/gpu.py --write`, section by section, each on the machine that it
names; benchmarks/gpu_models.py has the functions that are measured.
"""
FAMILIES = (*families.FAMILIES, "programs")
RACES = ("reductions", "contraction")
ARCHITECTURES = (80, 90)
NVRTC_LIMIT = 3.0
_TOOL_SECONDS = 120.0
_NOT_RUN = -3
_USAGE = re.compile(
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)
_CLEAN = re.compile(r"ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards")

type Section = Callable[["Bench"], Iterator[str]]


@dataclass
class Bench:
    """What the sections share.

    Attributes:
        work: folder for files.
        families, kernels, models, dtypes: to be measured; all, but in tests.
        cases: per family, None for all.
        sanitizer_seconds: after which the sanitizers start no other program.
        is_small: small sizes, for the emulated device.
        missed: requirements that are not met, and whatever is wrong.
        runner, outcomes: made when they are needed first.
    """

    work: Path
    families: Sequence[str] = FAMILIES
    kernels: Sequence[str] = KERNELS
    models: Sequence[str] = tuple(MODELS)
    dtypes: Sequence[str] = DTYPES
    cases: int | None = None
    sanitizer_seconds: float = 240.0
    is_small: bool = False
    missed: list[str] = field(default_factory=list)
    runner: Path | None = None
    outcomes: list[Outcome] | None = None

    def make(self, name: str, dtype: str) -> Any:
        """A model."""
        return small(MODELS[name], dtype) if self.is_small else MODELS[name](dtype)

    def folder(self, family: str, kernel: str) -> Path:
        """Where a family is kept for the sanitizers."""
        return self.work / "cases" / f"{family}-{kernel}"

    def prepared(self) -> list[Outcome]:
        """Every family under every override, run once."""
        if self.outcomes is None:
            self.runner = build_runner(self.work)
            pairs = [(family, kernel) for kernel in self.kernels for family in self.families]
            workers = max(1, min(os.cpu_count() or 1, 14))
            with ThreadPoolExecutor(workers) as pool:
                self.outcomes = list(pool.map(self._one, pairs))
        return self.outcomes

    def _one(self, pair: tuple[str, str]) -> Outcome:
        assert self.runner is not None
        found = run_worker(self.runner, *pair, self.folder(*pair), self.cases)
        say(f"{found.family} {found.kernel}: {found.count} functions, {len(found.wrong)} wrong "
            f"{found.error} ({found.seconds:.0f} s)")  # fmt: skip
        return found


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    cells = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def listed(heading: str, lines: Sequence[str]) -> str:
    """A list below a table, empty without lines."""
    return "\n".join([heading, "", *(f"- {line}" for line in lines)]) if lines else ""


# ---- static ----


def static(bench: Bench) -> Iterator[str]:
    """What the compilers say about the kernels of every model."""
    nvcc = shutil.which("nvcc")
    rows, problems = [], []
    if not bench.is_small:
        _ = small(MODELS["quadrotor"], "float32").function.view  # loads what generating needs
    for name in bench.models:
        for dtype in bench.dtypes:
            try:
                row, slow = _static_row(bench, name, dtype, nvcc)
                rows.append(row)
                problems += slow
            except Exception as error:
                problems.append(f"{name} {dtype}: {type(error).__name__}: {error}"[:300])
    bench.missed += problems
    source = f"`nvcc` {_nvcc_version(nvcc)}" if nvcc else "the log of NVRTC"
    yield (
        f"Seconds of NVRTC {nvrtc_version()} (at most {NVRTC_LIMIT:g} s); registers of the kernel "
        f"that needs most, bytes spilled (stores and loads, all kernels) and largest stack frame "
        f"from {source}; the two numbers are for sm_80 and sm_90. Operations and the bytes that "
        "must be moved are those of one call."
    )
    head = (
        "model", "dtype", "generated in", "launches", "threads of each", "operations",
        "bytes moved", "text", "NVRTC", "registers", "spilled bytes", "stack bytes",
    )  # fmt: skip
    yield table(head, rows)
    yield listed("Problems:", problems)


def _static_row(
    bench: Bench, name: str, dtype: str, nvcc: str | None
) -> tuple[tuple[str, ...], list[str]]:
    start = time.perf_counter()
    model = bench.make(name, dtype)
    view = model.function.view
    seconds = time.perf_counter() - start
    text = render_kernels([view])
    compiled = [compile_seconds(text, architecture) for architecture in ARCHITECTURES]
    usages = [_usage(text, architecture, nvcc, bench.work) for architecture in ARCHITECTURES]
    row = (
        model.name, dtype, f"{seconds:.1f} s", str(len(view.launches)),
        ", ".join(str(launch.groups * launch.threads) for launch in view.launches),
        f"{view.operations:.2e}", f"{model.bytes_moved:.2e}", f"{len(text) / 1000:.0f} kB",
        " / ".join(f"{found:.2f} s" for found in compiled),
        *(" / ".join(str(usage[k]) for usage in usages) for k in range(3)),
    )  # fmt: skip
    say(" | ".join(row))
    slow = [
        f"{model.name} {dtype}: NVRTC takes {found:.2f} s for sm_{architecture}"
        for found, architecture in zip(compiled, ARCHITECTURES, strict=True)
        if found > NVRTC_LIMIT
    ]
    return row, slow


def _usage(text: str, architecture: int, nvcc: str | None, work: Path) -> tuple[Any, Any, Any]:
    """Most registers, all spilled bytes, largest stack frame."""
    if nvcc is None:
        _, log = compile_text(text, architecture, ["--ptxas-options=-v"])
    else:
        log = compile_with_nvcc(text, architecture, work, ("-Xptxas", "-v"))
    found = [tuple(map(int, match)) for match in _USAGE.findall(log)]
    if not found:
        return "-", "-", "-"
    stacks, stores, loads, registers = zip(*found, strict=True)
    return max(registers), sum(stores) + sum(loads), max(stacks)


def _nvcc_version(nvcc: str) -> str:
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\S+),", text)
    return found[1] if found else ""


# ---- cases ----


def cases(bench: Bench) -> Iterator[str]:
    """Every case of tests/cases against JAX on the CPU."""
    driver = Driver()
    outcomes = bench.prepared()
    wrong = [
        f"{o.family}, {o.kernel}: {name}: {text}"
        for o in outcomes
        for name, text in o.wrong.items()
    ]
    wrong += [f"{o.family}, {o.kernel}: {o.error}" for o in outcomes if o.error]
    printed = run_self_test(bench.work / "self_test")
    if not printed.endswith("all results agree"):
        wrong.append(f"self test of a module: {printed}")
    bench.missed += wrong
    yield (
        f"Every case of tests/cases on {driver.name}, each called twice with equal results, "
        "under every override and in batches of five (one instance per thread), judged by "
        "tests/support/judge.py against JAX on the CPU. `rounded` are cases whose elements differ "
        "by more than that admits, but by less than 1e-5 (float32) or 1e-12 (float64) of the "
        "largest element: sums in another order. The worst difference is relative to the element "
        "plus 1e-3."
    )
    rows = []
    for family in bench.families:
        own = [o for o in outcomes if o.family == family]
        worst = [_worst(own, dtype) for dtype in DTYPES]
        counts = ", ".join(f"{o.count} {o.kernel}" for o in own)
        bad = sum(len(o.wrong) + bool(o.error) for o in own)
        slowest = max((o.nvrtc_seconds for o in own), default=0.0)
        rounded = str(sum(len(o.rounding) for o in own))
        rows.append((family, counts, str(bad), rounded, *worst, f"{slowest:.1f} s"))
    head = (
        "family",
        "functions",
        "wrong",
        "rounded",
        "worst, float64",
        "worst, float32",
        "slowest NVRTC",
    )
    yield table(head, rows)
    yield f"The self test of a generated module (tests/gpu/plant.py) printed: `{printed[-100:]}`."
    yield listed("Wrong:", [" ".join(line.split()) for line in wrong[:60]])
    rounding = [f"{o.family}, {o.kernel}: {name}" for o in outcomes for name in o.rounding]
    yield listed("Rounded:", rounding[:60])
    if len(wrong) > 60:
        yield f"And {len(wrong) - 60} more."


def _worst(outcomes: Sequence[Outcome], dtype: str) -> str:
    found = [(o.worst[dtype], o.worst_case[dtype]) for o in outcomes if dtype in o.worst]
    return "-" if not found else "{:.1e} ({})".format(*max(found))


def sanitizer(bench: Bench) -> Iterator[str]:
    """The same programs under NVIDIA's checkers."""
    driver = Driver()
    tool = _sanitizer_tool()
    if tool is None:
        yield "Not run: compute-sanitizer was not found on this machine."
        return
    outcomes = [o for o in bench.prepared() if not o.error]
    jobs = [("racecheck", o) for o in outcomes if o.family in RACES]
    jobs += [("memcheck", o) for o in outcomes]
    deadline = time.monotonic() + bench.sanitizer_seconds
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, 8))) as pool:
        found = list(pool.map(partial(_check, bench, tool, deadline), jobs))
    rows, wrong = [], []
    for name in ("memcheck", "racecheck"):
        own = [(o, status, text) for (kind, o), (status, text) in zip(jobs, found, strict=True)
               if kind == name]  # fmt: skip
        clean = [o for o, status, _ in own if status == 0]
        left_out = sum(status == _NOT_RUN for _, status, _ in own)
        functions = str(sum(o.count for o in clean))
        rows.append((name, str(len(own) - left_out), str(len(clean)), functions, str(left_out)))
        wrong += [
            f"{name}, {o.family}, {o.kernel}: {_last_words(text)}"
            for o, status, text in own
            if status not in (0, _NOT_RUN)
        ]
    bench.missed += wrong
    yield f"{tool} on {driver.name}; racecheck for {' and '.join(RACES)}."
    head = ("tool", "programs", "without errors", "functions in these", "not run for time")
    yield table(head, rows)
    yield listed("Errors, or no result:", wrong[:40])


def _check(bench: Bench, tool: str, deadline: float, job: tuple[str, Outcome]) -> tuple[int, str]:
    kind, outcome = job
    if time.monotonic() > deadline:
        return _NOT_RUN, ""
    assert bench.runner is not None
    command = [tool, "--tool", kind, "--error-exitcode", "9"]
    folder = bench.folder(outcome.family, outcome.kernel)
    start = time.perf_counter()
    status, text = run_again(bench.runner, folder, command, _TOOL_SECONDS, f"{kind}.out")
    if status == 0 and not _CLEAN.search(text):
        status = -2
    say(f"{kind} {folder.name}: {status} ({time.perf_counter() - start:.0f} s)")
    return status, text


def _sanitizer_tool() -> str | None:
    places = [shutil.which("compute-sanitizer")]
    roots = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    nvcc = shutil.which("nvcc")
    roots += [] if nvcc is None else [str(Path(nvcc).resolve().parents[1])]
    for root in filter(None, roots):
        places += [f"{root}/bin/compute-sanitizer", f"{root}/compute-sanitizer/compute-sanitizer"]
    return next((place for place in places if place and Path(place).is_file()), None)


def _last_words(text: str) -> str:
    lines = [line.strip("= ") for line in text.splitlines() if line.startswith("=====")]
    shown = [line for line in lines if "Invalid" in line or "hazard" in line or "Error" in line][:2]
    return "; ".join([*shown, *(lines or text.splitlines() or [""])[-1:]])[:300]


# ---- timing ----


def timing(bench: Bench) -> Iterator[str]:
    """Every model against JAX on the device and one core of the CPU."""
    driver = Driver()
    ceilings = measure_ceilings(driver)
    say(f"ceilings: {ceilings.text()}")
    speed, roof, notes = [], [], []
    for name in bench.models:
        found, error = measure_in_process(name, bench.dtypes, ceilings, is_small=bench.is_small)
        for result in found:
            speed.append(result.speed)
            roof += [result.roof] if result.roof else []
            notes += result.notes
            if result.is_missed:
                bench.missed.append(f"{' '.join(result.speed[:2])}: a requirement is missed")
            say(" | ".join(result.speed))
        if error:
            notes.append(f"{name}: {error}")
            bench.missed.append(notes[-1])
    yield (
        f"Ceilings measured in the same run: {ceilings.text()}. One call of the whole batch, "
        "arrays on the device, median: `device` by replaying a graph, `call` in a loop of calls "
        "from Python, `from Python` a single call with JAX arrays, waited for. JAX is the best of "
        "single calls, a loop and `lax.map` over several inputs, with matrix products in full "
        "precision. One CPU core calls the function of one instance for each in turn; `core, "
        "batched` is av.vmap on that core, which may compute instances side by side. Ours in a "
        "ratio is the better of `device` and `call`. Required: five times as fast as JAX for the "
        "quadrotor and the race car, the race car fifty times as fast as one CPU core, NVRTC "
        "within 3 s; the difference from JAX on the CPU is by norms."
    )
    yield table(SPEED, speed)
    yield (
        "Of `device`: bytes that must be moved and operations of the generated code per second, "
        "against the ceilings; `of the roof` is the least time that the ceilings allow over the "
        "time. An operation counts as one, also a sine; what is moved beyond inputs and outputs "
        "does not count."
    )
    yield table(ROOF, roof)
    yield listed("Notes:", [" ".join(note.split()) for note in notes])


# ---- page ----

SECTIONS: dict[str, Section] = {
    "static": static,
    "cases": cases,
    "sanitizer": sanitizer,
    "timing": timing,
}
TITLES = {
    "static": "Compilation",
    "cases": "Agreement with JAX",
    "sanitizer": "Memory checks",
    "timing": "Speed",
}


def machine() -> str:
    """Processor, device, tools, date."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("model name"))
        model = next(lines, model).rpartition(": ")[2]
    try:
        device = Driver().description
    except Exception:
        device = "no NVIDIA GPU"
    tools = f"Python {platform.python_version()}, jax {jax.__version__}"
    return f"{device}; {model}, {os.cpu_count()} cores; {tools}; {datetime.date.today()}"


def run_section(name: str, bench: Bench) -> str:
    """The Markdown of a section; what fails becomes a sentence."""
    parts = []
    try:
        parts += [part for part in SECTIONS[name](bench) if part]
    except AnvilError as error:
        why = str(error).splitlines()[0].partition("; ")[0]
        parts.append(f"Not run: {why}.")
    except Exception as error:
        bench.missed.append(f"{name}: {error}")
        parts.append(f"Not completed: {type(error).__name__}: {str(error)[:300]}")
    return "\n\n".join([*parts, f"Machine: {machine()}."])


def merged(page: str, found: dict[str, str]) -> str:
    """The page with these sections replaced."""
    old = {}
    for part in page.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        old[title] = body.strip()
    never = "Not run yet."
    texts = [
        f"## {TITLES[name]}\n\n{found.get(name, old.get(TITLES[name], never))}\n"
        for name in SECTIONS
    ]
    return "\n".join([INTRO, *texts])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", help=f"default: all of {', '.join(SECTIONS)}")
    parser.add_argument("--write", action="store_true", help="replace the sections of the page")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"default: {PAGE.name}")
    parser.add_argument("--models", default=",".join(MODELS), help="of static and timing")
    parser.add_argument("--families", default=",".join(FAMILIES), help="of cases and sanitizer")
    parser.add_argument("--sanitizer-seconds", type=float, default=240.0)
    options = parser.parse_args(arguments)
    chosen = options.sections or list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        parser.error(f"unknown section {unknown[0]}; choose from {', '.join(SECTIONS)}")
    jax.config.update("jax_enable_x64", True)
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(
            Path(work),
            models=options.models.split(","),
            families=options.families.split(","),
            sanitizer_seconds=options.sanitizer_seconds,
        )
        found: dict[str, str] = {}
        for name in chosen:
            start = time.perf_counter()
            found[name] = run_section(name, bench)
            print(f"## {TITLES[name]}\n\n{found[name]}\n", flush=True)
            say(f"section {name}: {time.perf_counter() - start:.0f} s")
            if options.write:
                _write(options.page, found)
    for line in bench.missed:
        say(f"MISSED {line}")
    return int(bool(bench.missed))


def _write(page: Path, found: dict[str, str]) -> None:
    """What an emulated device gives is no measurement."""
    if any("Emulated CUDA device" in text for text in found.values()):
        say("not written: the device is emulated")
        return
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(merged(old, found), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
