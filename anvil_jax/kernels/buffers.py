"""How the workspace is laid out: buffers that are never needed together share memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from anvil_jax.kernels.program import Buffer

ALIGNMENT = 64
"""Bytes; the widest vector register, so that every workspace buffer may be loaded aligned."""


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
