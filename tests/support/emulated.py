"""Kernels for graphics processors, run on the CPU: the text of a library for `run_natively`."""

from collections.abc import Sequence
from pathlib import Path

from anvil_jax.emit.device import render_kernels
from anvil_jax.emit.interface import loop_lines
from anvil_jax.emit.views import DeviceFunctionView, FunctionView

HOST = Path(__file__).parent / "cuda" / "host.hpp"


def emulated_cuda(views: Sequence[FunctionView]) -> str:
    """Defines ``cases::<name>::evaluate`` by launching the kernels of each view on the host."""
    functions = [view for view in views if isinstance(view, DeviceFunctionView)]
    launchers = "\n".join(map(_launcher, functions))
    return (
        f'#include <cstddef>\n#include <cstdint>\n#include "{HOST}"\n{render_kernels(functions)}\n'
        f"namespace cases {{\n{launchers}\n}}\n"
    )


def _launcher(view: DeviceFunctionView) -> str:
    parameters = [f"const {b.ctype}* in{k}" for k, b in enumerate(view.inputs)]
    parameters += [f"{b.ctype}* out{k}" for k, b in enumerate(view.outputs)]
    lines: list[str] = []
    for x, (begins, ends) in zip(view.launches, loop_lines(view.launches), strict=True):
        lines += begins
        lines.append(
            f"  anvil_host::launch(dim3({x.groups}), dim3({x.threads}), "
            f'[&] {{ {x.kernel}({", ".join(x.arguments)}); }}, "{x.kernel}");'
        )
        lines += ends
    launches = "\n".join(lines)
    head = f"void evaluate({', '.join([*parameters, 'unsigned char* ws'])})"
    return f"namespace {view.name} {{\n{head} {{\n{launches}\n}}\n}}"
