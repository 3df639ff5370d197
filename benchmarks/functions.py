"""Generated functions against their requirements: ``python benchmarks/functions.py [--write]``.

Compares with CasADi and jax.jit in one run on one core, prints a table with a verdict per row, and
exits with status 1 if a requirement is missed. ``--write`` puts the table into docs/benchmarks.md.
"""

import ctypes
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import models
import numpy as np
from native_timing import FLAGS, compile_object
from report import COMPILERS, Row, against_casadi, run

import anvil_jax as av

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
INTRO = """\
# Benchmarks

Written by `python benchmarks/functions.py --write`. Times are the fastest of 200 batches that
take turns, in a C++ loop around the call. Ratios are ours over the fastest competitor.
"""


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


if __name__ == "__main__":
    sys.exit(run(SECTIONS, PAGE, (__doc__ or "").partition("\n")[0], INTRO))
