"""Neighbouring kernels that do not depend on each other become one launch: each costs some 3 us."""

from collections.abc import Sequence

from anvil_jax.kernels.index_arithmetic import Affine, affine
from anvil_jax.kernels.program import Buffer, Call, Store
from anvil_jax.kernels.schedule import loaded
from anvil_jax.targets.gpu.layout import reads_handed
from anvil_jax.targets.gpu.partition import Kernel

type Launch = Sequence[Kernel]
"""Kernels whose parts one thread executes one after the other."""

_FEW_THREADS = 4096
"""Threads of a kernel that joins any other: it could not fill a device anyway."""

_MOST = 32
"""Kernels in one launch; the text of a kernel should not grow without bounds."""


def fuse(kernels: Sequence[Kernel]) -> list[Launch]:
    """The launches of a program, in order."""
    launches: list[list[_Accesses]] = []
    for kernel in kernels:
        accesses = _Accesses(kernel)
        if launches and _joins(accesses, launches[-1]):
            launches[-1].append(accesses)
        else:
            launches.append([accesses])
    return [tuple(accesses.kernel for accesses in launch) for launch in launches]


class _Accesses:
    """What a kernel reads and writes.

    Attributes:
        kernel: the kernel.
        reads: storage it loads from.
        stores: places it stores to, None for one that is not affine in loop counters.
        calls: storage that functions it calls read and write.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.stores: dict[Buffer, list[Affine | None]] = {}
        self.calls: set[Buffer] = set()
        for statement in kernel.everything():
            if isinstance(statement, Store):
                places = self.stores.setdefault(statement.buffer.storage, [])
                places.append(affine(statement.index))
            elif isinstance(statement, Call):
                self.calls |= {argument.buffer.storage for argument in statement.arguments}
        self.reads = set(loaded(kernel.roots()))

    def is_independent(self, other: "_Accesses") -> bool:
        """Whether no thread of one can notice when threads of the other run."""
        if reads_handed(self.kernel, dict.fromkeys(other.kernel.hands)):
            return False
        if self._touched(other.reads | other.calls) or other._touched(self.reads | self.calls):
            return False
        common = self.stores.keys() & other.stores.keys()
        return all(
            a is not None and b is not None and a.never_meets(b)
            for x in common
            for a in self.stores[x]
            for b in other.stores[x]
        )

    def _touched(self, buffers: set[Buffer]) -> bool:
        """Whether it may write to one of `buffers`."""
        return bool(buffers & (self.stores.keys() | self.calls))


def _joins(accesses: _Accesses, launch: Sequence[_Accesses]) -> bool:
    kernels = [accesses.kernel, *(other.kernel for other in launch)]
    if len(kernels) > _MOST or any(kernel.tiles for kernel in kernels):
        return False
    if len({kernel.repeats for kernel in kernels}) > 1:
        return False
    most = max(kernel.threads for kernel in kernels)
    if any(_FEW_THREADS < kernel.threads < most // 2 for kernel in kernels):
        return False
    return all(accesses.is_independent(other) for other in launch)
