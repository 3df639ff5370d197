"""From which number of the compressed products every entry is read, and what is subtracted.

An entry of a matrix is part of at most two numbers of the products: one of a forward pass and one
of a reverse pass, or, if the matrix is symmetric, the one of its column's colour in its row and
the one of its row's colour in its column. An entry alone in one of them is read there. When all
but one entry of a number are known, the last one follows by substitution. This needs no case
distinction between kinds of colourings: it finds every entry exactly when the colouring is valid.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Reading:
    """How each of the entries is found.

    Attributes:
        slot: (nnz,) number of the compressed products it is read from.
        parent: (nnz,) the entry that is read from the other number it is part of, and from which
            it is therefore subtracted; -1 for none.
        depth: largest number of substitutions between an entry and a direct read.
    """

    slot: np.ndarray
    parent: np.ndarray
    depth: int


def find_reading(slots: np.ndarray, max_depth: int | None = None) -> Reading | None:
    """Decide where to read each entry, with as few substitutions in a row as possible.

    Args:
        slots: (2, nnz) the numbers of the products each entry is part of, -1 for none.
        max_depth: give up when entries are further than this from a direct read.

    Returns:
        None if some entry cannot be found, or only beyond `max_depth`.
    """
    number = slots.shape[1]
    exists = slots >= 0
    _, packed, sharing = np.unique(slots[exists], return_inverse=True, return_counts=True)
    owner = np.full(slots.shape, -1, np.int64)
    owner[exists] = packed
    alone = np.zeros(slots.shape, bool)
    alone[exists] = sharing[packed] == 1
    side = np.where(alone[0], 0, np.where(alone[1], 1, -1))
    entries = np.arange(number)
    parent = np.full(number, -1, np.int64)
    if np.all(side >= 0):
        return Reading(slots[side, entries], parent, 0)
    depth = _substitute(owner, sharing, side, max_depth)
    if depth is None:
        return None
    reader = np.full(len(sharing) + 1, -1, np.int64)  # the last one is that of owner -1
    reader[owner[side, entries]] = entries
    parent = reader[owner[1 - side, entries]]
    return Reading(slots[side, entries], parent, depth)


def _substitute(
    owner: np.ndarray, sharing: np.ndarray, side: np.ndarray, max_depth: int | None
) -> int | None:
    """Complete `side` for the entries that are alone nowhere; returns the depth, None if stuck.

    A slot remembers how many unknown entries it has and their sum, which is the number of the
    last one when one is left.
    """
    unknown = np.flatnonzero(side < 0)
    pairs = owner[:, unknown]
    present = pairs >= 0
    left = np.bincount(pairs[present], minlength=len(sharing)).tolist()
    total = np.zeros(len(sharing), np.int64)
    np.add.at(total, pairs[present], np.broadcast_to(unknown, pairs.shape)[present])
    total = total.tolist()
    first, second = owner[0].tolist(), owner[1].tolist()
    ready = [slot for slot, count in enumerate(left) if count == 1]
    missing, depth = len(unknown), 0
    while ready:
        if depth == max_depth:
            return None
        depth += 1
        following: list[int] = []
        for slot in ready:
            if left[slot] != 1:
                continue
            entry = total[slot]
            is_first = first[entry] == slot
            side[entry] = 0 if is_first else 1
            missing -= 1
            left[slot] = 0
            other = second[entry] if is_first else first[entry]
            if other >= 0:
                left[other] -= 1
                total[other] -= entry
                if left[other] == 1:
                    following.append(other)
        ready = [slot for slot in following if left[slot] == 1]
    return depth if missing == 0 else None


def symmetric_slots(colors: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The numbers (2, nnz) that entries of one triangle are part of: ``color * n + row``."""
    n = len(colors)
    straight = np.where(colors[columns] >= 0, colors[columns] * n + rows, -1)
    mirrored = np.where(colors[rows] >= 0, colors[rows] * n + columns, -1)
    return np.stack([straight, np.where(rows == columns, -1, mirrored)])


def jacobian_slots(
    column_colors: np.ndarray, row_colors: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """The numbers (2, nnz) that entries are part of, forward passes before reverse passes."""
    m, n = len(row_colors), len(column_colors)
    begin = (int(column_colors.max(initial=-1)) + 1) * m
    forward, reverse = column_colors[columns], row_colors[rows]
    return np.stack(
        [
            np.where(forward >= 0, forward * m + rows, -1),
            np.where(reverse >= 0, begin + reverse * n + columns, -1),
        ]
    )
