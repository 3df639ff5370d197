"""Metal kernels, run on the CPU: the text of a library for `run_natively`.

Threads, groups and barriers are those of the emulation of CUDA (``cuda/fibers.hpp``); Metal's
headers are those of the shim in its run mode.
"""

from collections.abc import Iterator, Sequence

from anvil_jax.emit.views import FunctionView, LaunchView
from tests.support.emulated import HOST, kernels_text, launchers
from tests.support.metal_shim import SHIM

COMMAND = ("clang++", "-O0", "-ffp-contract=off", "-DANVIL_METAL_RUN", f"-I{SHIM}")
"""How the text is compiled. No contraction: Metal may, but the text must not count on it."""

# The words of Metal are macros, so everything else that is included comes first.
_HEAD = f"""
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "{HOST.with_name("fibers.hpp")}"
extern "C" void anvil_metal_barrier() {{ __syncthreads(); }}

// A pointer that becomes one of whatever type a kernel takes: Metal's int8_t is char.
struct anvil_any {{
  const void* place;
  template <class T> operator T*() const {{
    return static_cast<T*>(const_cast<void*>(place));
  }}
}};
"""

_WORDS = ("device", "thread", "threadgroup", "constant", "kernel")
_TAIL = "\n".join(f"#undef {word}" for word in _WORDS)


def emulated_metal(views: Sequence[FunctionView]) -> str:
    """Defines ``cases::<name>::evaluate`` by launching the kernels of each view on the host."""
    return f"{_HEAD}\n{kernels_text(views)}\n{_TAIL}\n{launchers(views, _arguments)}"


def _arguments(launch: LaunchView) -> Iterator[str]:
    for name in launch.arguments:
        yield f"anvil_any{{{name}}}" if name.startswith(("in", "out")) else name
    yield from ("blockIdx.x", "threadIdx.x")
