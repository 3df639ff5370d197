"""Runs many functions from one C++ program: lowered, compiled together, called in one process.

The program gives every input, output and workspace an allocation of its exact size, so that the
sanitizers see each access outside; it fills outputs and workspace with all-ones bytes (NaN) first,
and calls everything twice, so that a result that depends on old memory shows.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from anvil_jax import targets
from anvil_jax.emit.module import render_library_source
from anvil_jax.emit.views import BufferView, FunctionView
from anvil_jax.lowering import lower
from anvil_jax.targets.signature import SignatureNames
from anvil_jax.tracing import trace
from tests.cases.case import Kernel
from tests.support.command import run

WARNINGS = (
    "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-Wfatal-errors",
)  # fmt: skip
FLAGS = ("-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

_MAIN = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::FILE* in_file;
std::FILE* out_file;

// `alignment` divides no more than it says: what follows the end is never part of the allocation.
unsigned char* allocate(std::size_t size, std::size_t alignment) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size) != 0) std::abort();
  if (size != 0) std::memset(memory, 0xff, size);
  return static_cast<unsigned char*>(memory);
}

template <int Inputs, int Outputs, typename F>
void run(const char* name, const std::size_t* sizes, std::size_t workspace, F call) {
  std::fprintf(stderr, "%s\n", name);
  unsigned char* p[Inputs + Outputs + 1];
  for (int k = 0; k < Inputs + Outputs; ++k) p[k] = allocate(sizes[k], sizeof(double));
  for (int k = 0; k < Inputs; ++k) {
    if (std::fread(p[k], 1, sizes[k], in_file) != sizes[k]) std::abort();
  }
  unsigned char* ws = workspace == 0 ? nullptr : allocate(workspace, 64);
  call(p, ws);
  for (int k = Inputs; k < Inputs + Outputs; ++k) {
    if (std::fwrite(p[k], 1, sizes[k], out_file) != sizes[k]) std::abort();
  }
  call(p, ws);
  for (int k = Inputs; k < Inputs + Outputs; ++k) {
    if (std::fwrite(p[k], 1, sizes[k], out_file) != sizes[k]) std::abort();
    std::free(p[k]);
  }
  for (int k = 0; k < Inputs; ++k) std::free(p[k]);
  std::free(ws);
}

}  // namespace

int main(int, char** argv) {
  in_file = std::fopen(argv[1], "rb");
  out_file = std::fopen(argv[2], "wb");
  if (in_file == nullptr || out_file == nullptr) return 2;
@CALLS@
  return std::fclose(out_file) == 0 && std::fclose(in_file) == 0 ? 0 : 2;
}
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One function with inputs; `view` is what is compiled."""

    view: FunctionView
    inputs: tuple[np.ndarray, ...]


def make_view(
    name: str,
    function: Callable[..., Any],
    inputs: Sequence[Any],
    kernel: Kernel = "auto",
    device: str = "CPU",
) -> FunctionView:
    """Traces, lowers and prints a function."""
    traced = trace(function, tuple(inputs))
    names = SignatureNames(
        source=name,
        inputs=tuple((p.name, p.shape) for p in traced.inputs),
        outputs=tuple((p.name, p.shape) for p in traced.outputs),
    )
    program = lower(traced, kernel, has_threads=device != "CPU")
    return targets.render(program, name, names, device)


def make_job(
    name: str,
    function: Callable[..., Any],
    inputs: Sequence[Any],
    kernel: Kernel = "auto",
    device: str = "CPU",
) -> Job:
    """A view and the flat arrays to call it with."""
    view = make_view(name, function, inputs, kernel, device)
    return Job(view, flat_arrays(view, inputs))


def flat_arrays(view: FunctionView, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The leaves of `inputs` as the view declares them; those that are functions are part of it."""
    leaves = [leaf for leaf in jax.tree.leaves(tuple(inputs)) if not callable(leaf)]
    return tuple(
        np.ascontiguousarray(leaf, dtype=b.dtype).reshape(b.shape)
        for leaf, b in zip(leaves, view.inputs, strict=True)
    )


def nbytes(buffer: BufferView) -> int:
    """What an input or output needs."""
    return int(np.prod(buffer.shape)) * np.dtype(buffer.dtype).itemsize


def reference(function: Callable[..., Any], inputs: Sequence[Any]) -> list[np.ndarray]:
    """What JAX computes, as flat arrays."""
    with jax.enable_x64(True):
        return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.jit(function)(*inputs))]


def run_natively(
    jobs: Sequence[Job],
    command: Sequence[str],
    folder: Path,
    library: Callable[[Sequence[FunctionView]], str] | None = None,
) -> dict[str, list[np.ndarray]]:
    """Compiles all functions in one source file and runs them.

    Args:
        jobs: what to run.
        command: compiler and flags.
        folder: for files.
        library: text that defines ``cases::<name>::evaluate`` of each view; default is that for
            the CPU, which must compile without warnings.

    Returns:
        The flat outputs by function name.

    Raises:
        AssertionError: it does not compile, crashes, or a result depends on old memory.
    """
    if not jobs:
        return {}
    text = _program_text(jobs, library)
    digest = hashlib.sha256("\0".join([*command, text]).encode()).hexdigest()[:16]
    source = folder / f"{digest}.cpp"
    program, data, results = (source.with_suffix(s) for s in (".exe", ".in", ".out"))
    source.write_text(text, encoding="utf-8")
    warnings = WARNINGS if library is None else ("-w",)
    run([*command, "-std=c++17", *warnings, source, "-o", program])
    data.write_bytes(b"".join(array.tobytes() for job in jobs for array in job.inputs))
    run([program, data, results])
    found = read_results(jobs, results.read_bytes())
    for path in (source, program, data, results):
        path.unlink()
    return found


def _program_text(
    jobs: Sequence[Job], library: Callable[[Sequence[FunctionView]], str] | None
) -> str:
    calls = []
    for job in jobs:
        view = job.view
        buffers = (*view.inputs, *view.outputs)
        sizes = [nbytes(b) for b in buffers]
        const = ["const "] * len(view.inputs) + [""] * len(view.outputs)
        arguments = [
            f"reinterpret_cast<{c}{b.ctype}*>(p[{k}])"
            for k, (c, b) in enumerate(zip(const, buffers, strict=True))
        ]
        calls.append(
            f"  {{\n    const std::size_t sizes[] = {{{', '.join(map(str, [*sizes, 0]))}}};\n"
            f'    run<{len(view.inputs)}, {len(view.outputs)}>("{view.name}", sizes, '
            f"{view.workspace_nbytes},\n"
            f"        [](unsigned char** p, unsigned char* ws) {{ static_cast<void>(p); "
            f"cases::{view.name}::evaluate({', '.join([*arguments, 'ws'])}); }});\n  }}"
        )
    views = [job.view for job in jobs]
    text = render_library_source("cases", views) if library is None else library(views)
    return text + _MAIN.replace("@CALLS@", "\n".join(calls))


def read_results(jobs: Sequence[Job], data: bytes) -> dict[str, list[np.ndarray]]:
    """The flat outputs by function name.

    Args:
        jobs: what was run.
        data: outputs of the first call and of the second, job by job.

    Raises:
        AssertionError: the two differ.
    """
    arrays = iter(read_arrays([b for job in jobs for b in 2 * job.view.outputs], data))
    found: dict[str, list[np.ndarray]] = {}
    for job in jobs:
        first, second = ([next(arrays) for _ in job.view.outputs] for _ in range(2))
        for a, b in zip(first, second, strict=True):
            same = a.tobytes() == b.tobytes()
            assert same, f"{job.view.name}: the second call gives another result\n{a}\n{b}"
        found[job.view.name] = first
    return found


def read_arrays(buffers: Iterable[BufferView], data: bytes) -> list[np.ndarray]:
    """Arrays that were written one after the other."""
    arrays = []
    position = 0
    for b in buffers:
        end = position + nbytes(b)
        arrays.append(np.frombuffer(data[position:end], b.dtype).reshape(b.shape))
        position = end
    assert position == len(data)
    return arrays
