"""What the benchmark scripts share: comparison with CasADi, rows with a verdict, a page."""

import argparse
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import numpy as np
from native_timing import (
    FLAGS,
    Candidate,
    best_times,
    casadi_function,
    generated_module,
    pin_to_one_core,
)

import anvil_jax as av

COMPILERS = tuple(name for name in ("g++", "clang++") if shutil.which(name))
TOLERANCE = 1e-11

type Section = Callable[[Path], Iterator["Row"]]


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
        check_agreement(candidates, inputs, [output.shape for output in function.outputs])
        outputs = [np.empty(output.shape) for output in function.outputs]
        times = best_times(candidates, inputs, outputs)
        ratio = times["anvil_jax"] / min(times[name] for name in competitors)
        listed = ", ".join(f"{name} {ns:.1f} ns" for name, ns in times.items())
        yield Row(f"{what}, {compiler}", f"{listed}: ratio {ratio:.2f}", ratio, limit)


def check_agreement(
    candidates: Sequence[Candidate], inputs: list[np.ndarray], shapes: Sequence[tuple[int, ...]]
) -> None:
    """Stops the program unless all candidates compute the same outputs of these shapes."""
    results = []
    for candidate in candidates:
        outputs = [np.full(shape, np.nan) for shape in shapes]
        candidate.run(inputs, outputs, 1)
        results.append(np.concatenate([output.reshape(-1) for output in outputs]))
    for candidate, result in zip(candidates, results, strict=True):
        error = np.max(np.abs(result - results[0])) / np.max(np.abs(results[0]))
        if not error < TOLERANCE:
            raise SystemExit(f"{candidate.name} differs by {error:.1e}: not the same function")


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


def run(sections: Mapping[str, Section], page: Path, description: str, intro: str) -> int:
    """Runs the sections chosen on the command line.

    Args:
        sections: by name; each yields its rows.
        page: Markdown file that ``--write`` replaces.
        description: of the script, for its help.
        intro: head of the page.

    Returns:
        The exit status: 1 if a requirement is missed.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("sections", nargs="*", help=f"default: all of {', '.join(sections)}")
    parser.add_argument("--write", action="store_true", help=f"write {page.name}")
    options = parser.parse_args()
    chosen = options.sections or list(sections)
    if unknown := [name for name in chosen if name not in sections]:
        parser.error(f"unknown section {unknown[0]}; choose from {', '.join(sections)}")
    pinned = pin_to_one_core()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for name in chosen:
            for row in sections[name](Path(work, name)):
                print(f"{row.verdict:7} {row.what}: {row.found}", flush=True)
                rows.append(row)
    note = f"{machine()}; {' '.join(FLAGS)} unless said otherwise; {pinned}."
    print(f"\n{table(rows)}\n\n{note}")
    if options.write:
        page.write_text(f"{intro}\n{table(rows)}\n\n{note}\n", encoding="utf-8")
    return int(any(row.verdict == "MISSED" for row in rows))
