"""Products of matrices and their generalisation."""

from collections.abc import Mapping, Sequence
from typing import Any

from anvil_jax.sparsity.maps.unbatching.registry import Layout, Line, changing, less, register


def _dot_lines(layout: Layout) -> list[Line]:
    """Batch axes, and the free axes of each operand; results have them in this order."""
    (left_sum, right_sum), (left_batch, right_batch) = layout.params["dimension_numbers"]
    lines = [
        Line((int(a), int(b)), (k,))
        for k, (a, b) in enumerate(zip(left_batch, right_batch, strict=True))
    ]
    left, right = layout.ins
    left_free = _free(len(left), left_sum, left_batch)
    right_free = _free(len(right), right_sum, right_batch)
    place = len(lines)
    lines += [Line((d, None), (place + k,)) for k, d in enumerate(left_free)]
    place += len(left_free)
    lines += [Line((None, d), (place + k,)) for k, d in enumerate(right_free)]
    return lines


def _free(rank: int, summed: Sequence[int], batch: Sequence[int]) -> list[int]:
    return [d for d in range(rank) if d not in summed and d not in batch]


def _dot(layout: Layout, line: Line) -> Mapping[str, Any]:
    summed, batch = layout.params["dimension_numbers"]
    sides = range(2)
    return {
        "dimension_numbers": (
            tuple(less(summed[k], line.ins[k]) for k in sides),
            tuple(less(batch[k], line.ins[k]) for k in sides),
        )
    }


register("dot_general", lines=_dot_lines, drop=changing(_dot))
