"""Storage: what programs read and write, and how the workspace is laid out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from anvil_jax.dtypes import ELEMENT_TYPES

if TYPE_CHECKING:
    from anvil_jax.kernels.program import Block

Space = Literal["input", "output", "constant", "intermediate"]

ALIGNMENT = 64
"""Bytes; the widest vector register, so that every workspace buffer may be loaded aligned."""


@dataclass(eq=False, slots=True)
class Buffer:
    """A flat array of one dtype. Identity is the key: two buffers are never equal.

    Attributes:
        dtype: NumPy dtype name.
        size: number of elements.
        space: where it lives; intermediates become local arrays or workspace slices.
        position: index among inputs or outputs.
        data: contents of a constant.
        scope: block in which its contents are complete; loads may not move out of it.
        base: the buffer whose storage this one shares (loop carries, as seen from a loop body).
        mutable: storage is overwritten while loads of this buffer are alive, so each load must be
            a statement of its own, never repeated at its uses.
    """

    dtype: str
    size: int
    space: Space
    position: int = -1
    data: np.ndarray | None = None
    scope: "Block | None" = None
    base: "Buffer | None" = None
    mutable: bool = False

    @property
    def storage(self) -> "Buffer":
        """The buffer that owns the memory."""
        return self if self.base is None else self.base.storage

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * (ELEMENT_TYPES[self.dtype].bits // 8)


@dataclass(slots=True)
class Lifetime:
    """Statement positions (inclusive) between which a buffer's contents matter."""

    buffer: Buffer
    first: int
    last: int = field(default=-1)


def lay_out(lifetimes: Sequence[Lifetime]) -> tuple[dict[Buffer, int], int]:
    """Assigns workspace offsets; buffers whose lifetimes do not overlap share memory.

    First fit in order of decreasing size, which is within a few per cent of optimal for the
    interval sets that occur here.

    Args:
        lifetimes: one per buffer, positions from one linear numbering.

    Returns:
        Byte offset of each buffer, multiples of `ALIGNMENT`, and the total size in bytes.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[Buffer, int] = {}
    total = 0
    order = sorted(range(len(lifetimes)), key=lambda k: (-lifetimes[k].buffer.nbytes, k))
    for k in order:
        life = lifetimes[k]
        nbytes = -(-life.buffer.nbytes // ALIGNMENT) * ALIGNMENT
        busy = sorted(
            (start, end)
            for start, end, other in placed
            if not (other.last < life.first or life.last < other.first)
        )
        offset = 0
        for start, end in busy:
            if offset + nbytes <= start:
                break
            offset = max(offset, end)
        offsets[life.buffer] = offset
        placed.append((offset, offset + nbytes, life))
        total = max(total, offset + nbytes)
    return offsets, total
