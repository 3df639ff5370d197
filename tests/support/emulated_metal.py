"""Metal kernels, run on the CPU: the text of a library for `run_natively`.

Threads, groups and barriers are those of the emulation of CUDA (``cuda/fibers.hpp``); Metal's
headers are those of the shim in its run mode.
"""

from collections.abc import Sequence
from pathlib import Path

from anvil_jax.emit.device import render_kernels
from anvil_jax.emit.interface import loop_lines
from anvil_jax.emit.views import DeviceFunctionView, FunctionView
from tests.support.metal_shim import SHIM

FIBERS = Path(__file__).parent / "cuda" / "fibers.hpp"

COMMAND = ("clang++", "-O0", "-ffp-contract=off", "-DANVIL_METAL_RUN", f"-I{SHIM}")
"""How the text is compiled. No contraction: Metal may, but the text must not count on it."""

# The words of Metal are macros, so everything else that is included comes first. The emulation has
# a type uint3 of its own.
_HEAD = f"""
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct dim3 {{
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {{}}
}};
struct anvil_uint3 {{
  unsigned x, y, z;
}};
#define uint3 anvil_uint3
#include "{FIBERS}"
#undef uint3
extern "C" void anvil_metal_barrier() {{ __syncthreads(); }}

// A pointer that becomes one of whatever type a kernel takes: Metal's int8_t is char.
struct anvil_any {{
  const void* place;
  template <class T> operator T*() const {{
    return static_cast<T*>(const_cast<void*>(place));
  }}
}};
"""

_TAIL = "\n".join(f"#undef {word}" for word in ("device", "thread", "threadgroup", "constant"))


def emulated_metal(views: Sequence[FunctionView]) -> str:
    """Defines ``cases::<name>::evaluate`` by launching the kernels of each view on the host."""
    functions = [view for view in views if isinstance(view, DeviceFunctionView)]
    launchers = "\n".join(map(_launcher, functions))
    return (
        f"{_HEAD}\n{render_kernels(functions)}\n{_TAIL}\n#undef kernel\n"
        f"namespace cases {{\n{launchers}\n}}\n"
    )


def _launcher(view: DeviceFunctionView) -> str:
    parameters = [f"const {b.ctype}* in{k}" for k, b in enumerate(view.inputs)]
    parameters += [f"{b.ctype}* out{k}" for k, b in enumerate(view.outputs)]
    lines: list[str] = []
    for x, (begins, ends) in zip(view.launches, loop_lines(view.launches), strict=True):
        arguments = ", ".join((*map(_argument, x.arguments), "blockIdx.x", "threadIdx.x"))
        lines += begins
        lines.append(
            f"  anvil_host::launch(dim3({x.groups}), dim3({x.threads}), "
            f'[&] {{ {x.kernel}({arguments}); }}, "{x.kernel}");'
        )
        lines += ends
    head = f"void evaluate({', '.join([*parameters, 'unsigned char* ws'])})"
    return f"namespace {view.name} {{\n{head} {{\n{chr(10).join(lines)}\n}}\n}}"


def _argument(name: str) -> str:
    return f"anvil_any{{{name}}}" if name.startswith(("in", "out")) else name
