"""Kernels for graphics processors, run on the CPU: the text of a library for `run_natively`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from anvil_jax.emit.device import render_kernels
from anvil_jax.emit.interface import loop_lines
from anvil_jax.emit.views import DeviceFunctionView, FunctionView, LaunchView

HOST = Path(__file__).parent / "cuda" / "host.hpp"

COMMAND = ("g++", "-O0", "-ftrivial-auto-var-init=pattern")
"""How the text is compiled: what is read before it is written is a number that nothing computes."""

RACES = (
    "clang++", *COMMAND[1:], "-fsanitize=thread", "-fno-sanitize-link-runtime",
    "-mllvm", "-tsan-instrument-atomics=0", "-DANVIL_HOST_RACES",
)  # fmt: skip
"""The same, ending when two threads access an element without a barrier; see ``cuda/races.hpp``."""


def kernels_text(views: Iterable[FunctionView]) -> str:
    """The kernels of functions that are all for one device."""
    return render_kernels(_for_device(views))


def emulated_cuda(views: Sequence[FunctionView]) -> str:
    """Defines ``cases::<name>::evaluate`` by launching the kernels of each view on the host."""
    return (
        f'#include <cstddef>\n#include <cstdint>\n#include "{HOST}"\n{kernels_text(views)}\n'
        f"{launchers(views, lambda launch: launch.arguments)}"
    )


def launchers(
    views: Sequence[FunctionView], arguments: Callable[[LaunchView], Iterable[str]]
) -> str:
    """What is defined, behind the kernels; each of them takes `arguments` of its launch."""
    functions = "\n".join(_launcher(view, arguments) for view in _for_device(views))
    return f"namespace cases {{\n{functions}\n}}\n"


def _for_device(views: Iterable[FunctionView]) -> list[DeviceFunctionView]:
    return [view for view in views if isinstance(view, DeviceFunctionView)]


def _launcher(view: DeviceFunctionView, arguments: Callable[[LaunchView], Iterable[str]]) -> str:
    parameters = [f"const {b.ctype}* in{k}" for k, b in enumerate(view.inputs)]
    parameters += [f"{b.ctype}* out{k}" for k, b in enumerate(view.outputs)]
    lines = [f"void evaluate({', '.join([*parameters, 'unsigned char* ws'])}) {{"]
    for x, (begins, ends) in zip(view.launches, loop_lines(view.launches), strict=True):
        lines += begins
        lines.append(
            f"  anvil_host::launch(dim3({x.groups}), dim3({x.threads}), "
            f'[&] {{ {x.kernel}({", ".join(arguments(x))}); }}, "{x.kernel}");'
        )
        lines += ends
    body = "\n".join(lines)
    return f"namespace {view.name} {{\n{body}\n}}\n}}"
