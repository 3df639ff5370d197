"""Generated functions against their requirements: ``python benchmarks/functions.py [--write]``.

Compares with CasADi and jax.jit in one run on one core, prints a table with a verdict per row, and
exits with status 1 if a requirement is missed. ``--write`` puts the table into docs/benchmarks.md.
"""

import argparse
import ctypes
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import models
import numpy as np
from native_timing import (
    FLAGS,
    best_times,
    casadi_function,
    compile_object,
    generated_module,
    pin_to_one_core,
)

import anvil_jax as av

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
COMPILERS = tuple(name for name in ("g++", "clang++") if shutil.which(name))
TOLERANCE = 1e-11


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `limit` is None where there is no requirement."""

    what: str
    found: str
    value: float
    limit: float | None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Whether the requirement is met."""
        if self.limit is None:
            return "-"
        return "ok" if self.value <= self.limit else "MISSED"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """What is printed."""
        limit = "-" if self.limit is None else f"<= {self.limit:g}{self.unit}"
        return self.what, self.found, limit, self.verdict


def against_casadi(
    what: str,
    function: Any,
    competitors: dict[str, ca.Function],
    inputs: list[np.ndarray],
    limit: float,
    work: Path,
) -> Iterator[Row]:
    """Ratio of run times to the fastest competitor, one row per compiler."""
    files = av.export(function, module="ours", path=work / "ours")
    for compiler in COMPILERS:
        candidates = [generated_module("anvil_jax", compiler, files, function)]
        candidates += [
            casadi_function(name, compiler, other, work / name / compiler)
            for name, other in competitors.items()
        ]
        _check_agreement(candidates, inputs, function)
        outputs = [np.empty(output.shape) for output in function.outputs]
        times = best_times(candidates, inputs, outputs)
        ratio = times["anvil_jax"] / min(times[name] for name in competitors)
        listed = ", ".join(f"{name} {ns:.1f} ns" for name, ns in times.items())
        yield Row(f"{what}, {compiler}", f"{listed}: ratio {ratio:.2f}", ratio, limit)


def _check_agreement(candidates: list[Any], inputs: list[np.ndarray], function: Any) -> None:
    results = []
    for candidate in candidates:
        outputs = [np.full(output.shape, np.nan) for output in function.outputs]
        candidate.run(inputs, outputs, 1)
        results.append(np.concatenate([output.reshape(-1) for output in outputs]))
    for candidate, result in zip(candidates, results, strict=True):
        error = np.max(np.abs(result - results[0])) / np.max(np.abs(results[0]))
        if not error < TOLERANCE:
            raise SystemExit(f"{candidate.name} differs by {error:.1e}: not the same function")


def quadrotor(work: Path) -> Iterator[Row]:
    """One Runge-Kutta step of 13 states."""
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=13), rng.uniform(1, 3, size=4)]
    function = av.NumericalFunction("step", models.step, (av.Arg(13), av.Arg(4)))
    competitors = {"CasADi SX": models.casadi_step()}
    yield from against_casadi("quadrotor RK4 step", function, competitors, inputs, 1.1, work)


def networks(work: Path) -> Iterator[Row]:
    """Two hidden layers of 64 with tanh."""
    for sizes in models.MLP_SIZES:
        name = "-".join(map(str, sizes))
        function = av.NumericalFunction("network", models.mlp(sizes), (av.Arg(sizes[0]),))
        competitors = {
            f"CasADi {kind.__name__}": models.casadi_mlp(sizes, kind) for kind in (ca.SX, ca.MX)
        }
        inputs = [np.random.default_rng(1).normal(size=sizes[0])]
        yield from against_casadi(f"MLP {name}", function, competitors, inputs, 0.5, work / name)


def loop(work: Path) -> Iterator[Row]:
    """200 quadrotor steps in lax.scan: size of the source, time to make and compile it."""
    start = time.perf_counter()
    function = av.NumericalFunction("roll_out", models.roll_out, (av.Arg(13), av.Arg(4)))
    files = av.export(function, path=work)
    generation = time.perf_counter() - start
    kilobytes = files.source.stat().st_size / 1024
    yield Row("scan of 200 steps: source", f"{kilobytes:.1f} KB", kilobytes, 40, " KB")
    for compiler in COMPILERS:
        compilation = compile_object(compiler, files.source, FLAGS)
        total = generation + compilation
        found = f"{generation:.2f} s + {compilation:.2f} s"
        yield Row(f"scan of 200 steps: generate + compile, {compiler}", found, total, 5, " s")


def straight_line(work: Path) -> Iterator[Row]:
    """Compile time of long straight-line functions."""
    for operations, limit in ((10_000, 4.0), (100_000, 40.0)):
        fn, states = models.straight_line(operations)
        function = av.NumericalFunction("lorenz", fn, (av.Arg(states),))
        start = time.perf_counter()
        files = av.export(function, path=work / str(operations))
        generation = time.perf_counter() - start
        assert function.operations >= operations, function.operations
        for compiler in COMPILERS:
            seconds = compile_object(compiler, files.source, ("-O2",))
            yield Row(
                f"{function.operations} scalar operations, {compiler} -O2",
                f"{seconds:.1f} s (generated in {generation:.1f} s)",
                seconds,
                limit if compiler == "g++" else None,
                " s",
            )


def call_overhead(work: Path) -> Iterator[Row]:
    """What a call from Python costs when there is nothing to compute."""

    def twice(x: Any) -> Any:
        return 2.0 * x

    x = np.arange(3.0)
    function = av.NumericalFunction("twice", twice, (av.Arg(3),))
    function(x)
    symbol = ca.SX.sym("x", 3)
    pointer = ctypes.POINTER(ctypes.c_double)
    plain = _plain_twice(work)

    def through_ctypes() -> Any:
        out = np.empty(3)
        plain(x.ctypes.data_as(pointer), out.ctypes.data_as(pointer))
        return out

    with jax.enable_x64(True):
        jitted, casadi_twice = jax.jit(twice), ca.Function("f", [symbol], [2.0 * symbol])
        calls: dict[str, Callable[[], Any]] = {
            "anvil_jax": lambda: function(x),
            "ctypes with data_as": through_ctypes,
            "jax.jit": lambda: jitted(x).block_until_ready(),
            "CasADi Function": lambda: casadi_twice(x),
        }
        best = dict.fromkeys(calls, float("inf"))
        for _ in range(20):
            for name, call in calls.items():
                best[name] = min(best[name], timeit.timeit(call, number=2000) / 2000 * 1e6)
    for name, us in best.items():
        limit = 1.0 if name == "anvil_jax" else None
        yield Row(f"call with 3 numbers: {name}", f"{us:.2f} us", us, limit, " us")


def _plain_twice(work: Path) -> Any:
    work.mkdir(parents=True, exist_ok=True)
    source, library = work / "twice.cpp", work / "twice.so"
    source.write_text(
        'extern "C" void twice(const double* x, double* y) {'
        " for (int i = 0; i < 3; ++i) y[i] = 2.0 * x[i]; }"
    )
    command = [COMPILERS[0], "-O2", "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).twice


SECTIONS = {
    "quadrotor": quadrotor,
    "mlp": networks,
    "scan": loop,
    "straight_line": straight_line,
    "overhead": call_overhead,
}


def machine() -> str:
    """Processor and tools, for the reader of the table."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("model name"))
        model = next(lines, model).rpartition(": ")[2]
    tools = [
        subprocess.run(
            [name, "--version"], capture_output=True, text=True, check=True
        ).stdout.splitlines()[0]
        for name in COMPILERS
    ]
    python = f"Python {platform.python_version()}, jax {jax.__version__}, CasADi {ca.__version__}"
    return "; ".join([model, platform.system(), *tools, python])


def table(rows: list[Row]) -> str:
    """Markdown."""
    cells = [("what", "measured", "required", "verdict"), *(row.cells for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def main() -> int:
    """Runs the chosen sections; 1 if a requirement is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", help=f"default: all of {', '.join(SECTIONS)}")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    chosen = options.sections or list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        parser.error(f"unknown section {unknown[0]}; choose from {', '.join(SECTIONS)}")
    pinned = pin_to_one_core()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for name in chosen:
            for row in SECTIONS[name](Path(work, name)):
                print(f"{row.verdict:7} {row.what}: {row.found}", flush=True)
                rows.append(row)
    note = f"{machine()}; {' '.join(FLAGS)} unless said otherwise; {pinned}."
    print(f"\n{table(rows)}\n\n{note}")
    if options.write:
        intro = (
            "# Benchmarks\n\nWritten by `python benchmarks/functions.py --write`. Times are the "
            "fastest of 200 batches that take turns,\nin a C++ loop around the call. Ratios are "
            "ours over the fastest competitor.\n\n"
        )
        PAGE.write_text(f"{intro}{table(rows)}\n\n{note}\n", encoding="utf-8")
    return int(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
