"""Compiles C or C++ text and times calls in a loop that is itself native.

All candidates stay loaded and are measured in turns, so that a disturbance of the machine meets all
of them; the fastest of many batches counts.
"""

import ctypes
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FLAGS = ("-O3", "-march=native")

_LOOP = """
#include <chrono>
{declarations}
extern "C" double time_calls(const double** in, double** out, long count) {{
  {prologue}
  const auto start = std::chrono::steady_clock::now();
  for (long i = 0; i < count; ++i) {{
    {call};
    asm volatile("" ::: "memory");
  }}
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}}
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Code that is timed.

    Attributes:
        name: for the table.
        library: has ``time_calls``; the loop and the code are separate translation units.
        compile_seconds: what the compiler needed for the code.
    """

    name: str
    library: ctypes.CDLL
    compile_seconds: float

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], count: int) -> float:
        """Seconds of `count` calls."""
        return self.library.time_calls(_pointers(inputs), _pointers(outputs), count)


def pin_to_one_core() -> str:
    """Keep this process and its compilers on one core, where the system allows it; says which."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return f"pinned to core {core}"


def compile_object(compiler: str, source: Path, flags: Sequence[str]) -> float:
    """Seconds to compile `source` to an object file beside it."""
    command = [compiler, "-std=c++17", "-x", "c++", "-w", "-fPIC", *flags, "-c", str(source)]
    start = time.perf_counter()
    subprocess.run([*command, "-o", str(source.with_suffix(".o"))], check=True)
    return time.perf_counter() - start


def generated_module(name: str, compiler: str, files: Any, function: Any) -> Candidate:
    """A module exported by anvil_jax with one function in it, as it is."""
    module = f"{files.header.stem}::{function.name}"
    arguments = [f"{module}::IN{i}_t{{in[{i}]}}" for i in range(len(function.inputs))]
    arguments += [f"{module}::OUT{i}_t{{out[{i}]}}" for i in range(len(function.outputs))]
    loop = _LOOP.format(
        declarations=f'#include "{files.header.name}"',
        prologue=f"auto ws = {module}::init_ws();",
        call=f"{module}::call({', '.join(arguments)}, ws)",
    )
    return _link(name, compiler, files.source, loop)


def casadi_function(name: str, compiler: str, function: Any, directory: Path) -> Candidate:
    """The C code that CasADi generates for `function`."""
    directory.mkdir(parents=True, exist_ok=True)
    here = os.getcwd()
    os.chdir(directory)  # CasADi writes to the current directory only
    try:
        function.generate("f.c")
    finally:
        os.chdir(here)
    loop = _LOOP.format(
        declarations='extern "C" int f(const double**, double**, long long*, double*, int);',
        prologue=f"const double* arg[{function.sz_arg() + 1}];"
        f"double* res[{function.sz_res() + 1}];"
        f"static long long iw[{function.sz_iw() + 1}]; static double w[{function.sz_w() + 1}];",
        # MX functions use arg and res as scratch memory behind the given pointers.
        call="; ".join(
            [f"arg[{i}] = in[{i}]" for i in range(function.n_in())]
            + [f"res[{i}] = out[{i}]" for i in range(function.n_out())]
            + ["f(arg, res, iw, w, 0)"]
        ),
    )
    return _link(name, compiler, directory / "f.c", loop)


def best_times(
    candidates: Sequence[Candidate],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    rounds: int = 200,
    batch_seconds: float = 2e-3,
) -> dict[str, float]:
    """Nanoseconds per call of each candidate: the fastest batch, measured in turns."""
    counts = {}
    for candidate in candidates:
        once = max(candidate.run(inputs, outputs, 100) / 100, 1e-9)
        counts[candidate.name] = max(int(batch_seconds / once), 1)
    best = dict.fromkeys(counts, float("inf"))
    for _ in range(rounds):
        for candidate in candidates:
            count = counts[candidate.name]
            seconds = candidate.run(inputs, outputs, count) / count
            best[candidate.name] = min(best[candidate.name], seconds * 1e9)
    return best


def _link(name: str, compiler: str, source: Path, loop_text: str) -> Candidate:
    directory = source.parent
    loop = directory / f"{source.stem}_loop.cpp"
    loop.write_text(loop_text, encoding="utf-8")
    seconds = compile_object(compiler, source, FLAGS)
    compile_object(compiler, loop, FLAGS)
    library = directory / f"{source.stem}_{Path(compiler).name}.so"
    objects = [str(file.with_suffix(".o")) for file in (source, loop)]
    subprocess.run([compiler, "-shared", *objects, "-o", str(library), "-lm"], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.time_calls.restype = ctypes.c_double
    loaded.time_calls.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
    return Candidate(name, loaded, seconds)


def _pointers(arrays: Sequence[np.ndarray]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
