"""The Hock-Schittkowski collection: the generated SQP solver beside IPOPT from CasADi's wheel.

Usage: python benchmarks/hock_schittkowski.py [names] [--write]
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jaxpr_casadi import to_casadi  # found through the line above
from native_timing import pin_to_one_core
from report import machine

from anvil_jax import opti
from tests.opti.hock_schittkowski import PROBLEMS
from tests.opti.hock_schittkowski.problem import Problem
from tests.opti.hock_schittkowski.programs import dense_problem, identifier

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks_hock_schittkowski.md"
INTRO = """# Benchmark: the Hock-Schittkowski collection

Written by `python benchmarks/hock_schittkowski.py --write`. Problems of W. Hock and K. Schittkowski
(Lecture Notes in Economics and Mathematical Systems 187, 1981) from their standard starts, exact
Hessians, tolerances 1e-8; tests/opti/hock_schittkowski has them. "Found" compares with the
published optimum, to 1e-6 relative to max(1, |f*|); some problems have several minima. IPOPT solves
the same problem, translated from the same JAX functions, with derivatives that CasADi interprets,
and its times include the call from Python: they are for orientation only. Times are the best of
several solves.
"""
TOLERANCE = 1e-8
REPEATS = 5
SETTINGS = opti.SQPSettings(
    tolerance_stationarity=TOLERANCE,
    tolerance_feasibility=TOLERANCE,
    tolerance_complementarity=TOLERANCE,
)
IPOPT = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "tol": TOLERANCE}}


@dataclass(frozen=True, slots=True)
class Line:
    """One problem."""

    problem: Problem
    ours: opti.SQPResult
    ipopt_status: str
    ipopt_objective: float
    ipopt_iterations: int
    ipopt_time: float

    def found(self, objective: float) -> bool:
        """Whether this is the published optimum."""
        optimum = self.problem.optimum
        return abs(objective - optimum) <= 1e-6 * max(1.0, abs(optimum))

    @property
    def ours_found(self) -> bool:
        """Whether the generated solver has found the published optimum."""
        return self.ours.success and self.found(self.ours.objective)

    @property
    def ipopt_found(self) -> bool:
        """Whether IPOPT has."""
        return self.ipopt_status == "Solve_Succeeded" and self.found(self.ipopt_objective)

    @property
    def cells(self) -> tuple[str, ...]:
        """What is printed."""
        ours = self.ours
        verdict = "yes" if self.ours_found else f"{ours.status.name}, {ours.objective:.6g}"
        other = "yes" if self.ipopt_found else f"{self.ipopt_status}, {self.ipopt_objective:.6g}"
        return (
            self.problem.name,
            str(self.problem.x0.size),
            f"{self.problem.optimum:.6g}",
            verdict,
            str(ours.iterations),
            str(ours.evaluations),
            str(ours.qp_iterations),
            f"{1e6 * ours.time:.0f}",
            other,
            str(self.ipopt_iterations),
            f"{1e6 * self.ipopt_time:.0f}",
        )


HEAD = (
    "problem",
    "n",
    "f*",
    "found",
    "iterations",
    "evaluations",
    "QP iterations",
    "us",
    "IPOPT: found",
    "iterations",
    "us",
)


def measure(problem: Problem) -> Line:
    """Solve with both."""
    with jax.enable_x64(True):
        solver = opti.DenseSQPFunction(
            identifier(problem), dense_problem(problem), SETTINGS, qp="dense"
        )
        ours = min((solver(problem.x0) for _ in range(REPEATS)), key=lambda result: result.time)
        program, bounds = casadi_program(problem)
    ipopt = ca.nlpsol("ipopt", "ipopt", program, IPOPT)
    times, answer = [], {}
    for _ in range(REPEATS):
        start = time.perf_counter()
        answer = ipopt(**bounds)
        times.append(time.perf_counter() - start)
    stats = ipopt.stats()
    return Line(
        problem,
        ours,
        stats["return_status"],
        float(answer["f"]),
        int(stats["iter_count"]),
        min(times),
    )


def casadi_program(problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same problem for `casadi.nlpsol`, and its bounds and start."""
    x = ca.SX.sym("x", problem.x0.size)
    rows, lower, upper = [ca.SX(0, 1)], [np.zeros(0)], [np.zeros(0)]
    if problem.equality is not None:
        rows.append(to_casadi(problem.equality, x))
        lower.append(np.zeros(rows[-1].shape[0]))
        upper.append(np.zeros(rows[-1].shape[0]))
    if problem.inequality is not None:
        rows.append(to_casadi(problem.inequality, x))
        lower.append(problem.g_lb)
        upper.append(problem.g_ub)
    program = {"x": x, "f": to_casadi(problem.objective, x), "g": ca.vertcat(*rows)}
    bounds = {
        "x0": problem.x0,
        "lbx": problem.x_lb,
        "ubx": problem.x_ub,
        "lbg": np.concatenate(lower),
        "ubg": np.concatenate(upper),
    }
    return program, bounds


def report(lines: list[Line]) -> str:
    """Summary and table in Markdown."""
    both = [line for line in lines if line.ours_found and line.ipopt_found]
    ratio = np.exp(np.mean([np.log(line.ipopt_time / line.ours.time) for line in both]))
    iterations = sum(line.ours.iterations for line in both)
    ipopt_iterations = sum(line.ipopt_iterations for line in both)
    summary = (
        f"Published optima found: {sum(line.ours_found for line in lines)} of {len(lines)}, by "
        f"IPOPT {sum(line.ipopt_found for line in lines)}. On the {len(both)} problems where both "
        f"find it: {iterations} iterations in all, IPOPT {ipopt_iterations}; IPOPT's time divided "
        f"by ours, geometric mean: {ratio:.0f}."
    )
    body = [HEAD, tuple("-" * len(name) for name in HEAD), *(line.cells for line in lines)]
    return summary + "\n\n" + "\n".join("| " + " | ".join(cells) + " |" for cells in body)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="default: all problems")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    names = options.names or [p.name for p in PROBLEMS.values() if p.verdict == "optimal"]
    pinned = pin_to_one_core()
    lines = []
    for name in names:
        lines.append(measure(PROBLEMS[name]))
        print(" ".join(lines[-1].cells), flush=True)
    text = report(lines)
    print(text)
    if options.write:
        PAGE.write_text(f"{INTRO}\n{text}\n\n{machine()}; {pinned}.\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
