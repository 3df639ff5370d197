"""How kernels are spelled in CUDA C++ and in the Metal Shading Language."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from anvil_jax.errors import LoweringError
from anvil_jax.targets.printer import Dialect

_METAL_BUFFERS = 30
"""Of Metal's 31 slots for buffers; the last is left to tools that add one of their own."""


@dataclass(frozen=True, slots=True)
class KernelDialect(Dialect, ABC):
    """What a kernel needs beyond functions and pointers.

    Attributes:
        thread: expression of the number of a thread in the whole launch; ``@`` stands for the
            threads of a group.
        group: of the number of a group of threads.
        lane: of the number of a thread in its group.
        tile: declaration of memory that a group shares; ``@`` stands for type, name and size.
        has_double: whether there is a type ``double``.
        has_rows: whether rows.hpp is there, through which threads exchange what they store.
    """

    thread: str
    group: str
    lane: str
    tile: str
    has_double: bool
    has_rows: bool

    @abstractmethod
    def kernel_head(
        self, name: str, pointers: Sequence[str], counters: Sequence[str], threads: int
    ) -> str:
        """Start of the definition of a kernel, up to the brace.

        Args:
            name: of the kernel.
            pointers: declarations of the arrays.
            counters: names of the counters of the host's loops around the launch.
            threads: of a group.
        """


class _Cuda(KernelDialect):
    def kernel_head(
        self, name: str, pointers: Sequence[str], counters: Sequence[str], threads: int
    ) -> str:
        """The start of a ``__global__`` function with C linkage, found by its name."""
        parameters = ", ".join((*pointers, *(f"const int {counter}" for counter in counters)))
        return f'extern "C" __global__ void __launch_bounds__({threads}) {name}({parameters})'


class _Metal(KernelDialect):
    def kernel_head(
        self, name: str, pointers: Sequence[str], counters: Sequence[str], threads: int
    ) -> str:
        """The start of a ``kernel`` function with numbered buffers, of which counters take some.

        Raises:
            LoweringError: there are more than Metal has numbers for.
        """
        parameters = [*pointers, *(f"constant int& {counter}" for counter in counters)]
        if len(parameters) > _METAL_BUFFERS:
            raise LoweringError(
                f"{name} takes {len(parameters)} arrays, of which METAL allows {_METAL_BUFFERS}; "
                "join some of the function's inputs or results to one array"
            )
        numbered = [f"{p} [[buffer({k})]]" for k, p in enumerate(parameters)]
        numbered += [
            "const uint anvil_group [[threadgroup_position_in_grid]]",
            "const uint anvil_lane [[thread_position_in_threadgroup]]",
        ]
        most = f"[[max_total_threads_per_threadgroup({threads})]]"
        return f"{most} kernel void {name}({', '.join(numbered)})"


CUDA = _Cuda(
    part="__device__ __noinline__ void",
    suffix="",
    shared="",
    private="",
    restrict=" __restrict__",
    byte="unsigned char",
    thread="static_cast<int>(blockIdx.x * @ + threadIdx.x)",
    group="static_cast<int>(blockIdx.x)",
    lane="static_cast<int>(threadIdx.x)",
    tile="alignas(16) __shared__ @",
    has_double=True,
    has_rows=True,
)

METAL = _Metal(
    part="static __attribute__((noinline)) void",
    suffix="",
    shared="device ",
    private="thread ",
    restrict="",
    byte="uchar",
    thread="static_cast<int>(anvil_group * @ + anvil_lane)",
    group="static_cast<int>(anvil_group)",
    lane="static_cast<int>(anvil_lane)",
    tile="ANVIL_THREADGROUP @",
    has_double=False,
    has_rows=False,
)

DIALECTS = {"CUDA": CUDA, "METAL": METAL}
