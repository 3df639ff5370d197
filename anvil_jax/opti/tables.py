"""Arrays as the solver templates see them: named tables, and long arrays as repeated pieces."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anvil_jax.emit.literals import table
from anvil_jax.emit.views import SegmentView, TableView


def named(name: str, values: Any) -> TableView:
    """A table of int32 numbers called `name`."""
    return replace(table(np.asarray(values, np.int32)), name=name)


def segments(
    values: NDArray[Any], pieces: Sequence[tuple[int, int]]
) -> tuple[tuple[SegmentView, ...], tuple[TableView, ...]]:
    """An array as tables and how often each repeats, so that code does not grow with it.

    Args:
        values: flat.
        pieces: lengths of consecutive pieces of `values` and how often each may repeat.
    """
    views: list[SegmentView] = []
    tables: dict[str, TableView] = {}
    for piece, repeat in _split(values, pieces):
        made = table(piece)
        tables[made.name] = made
        views.append(SegmentView(made.name, len(piece), repeat))
    return tuple(views), tuple(tables.values())


def _split(
    values: NDArray[Any], pieces: Sequence[tuple[int, int]]
) -> Iterator[tuple[NDArray[Any], int]]:
    if len(values) and (values == values[0]).all():
        yield values[:1], len(values)
        return
    start = 0
    for length, repeat in pieces:
        part = values[start : start + length * repeat]
        start += length * repeat
        if not len(part):
            continue
        one = part[:length]
        if (part.reshape(repeat, length) == one).all():
            yield one, repeat
        else:
            yield part, 1
