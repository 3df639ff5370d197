"""In which order a thread computes straight-line code: so that few values are alive at a time.

A thread of a graphics processor has at most 255 registers of 32 bits, and the more it takes the
fewer threads run at once. The scheduler of programs keeps the order of creation, in which all
results of a function are computed before the first is stored. Here values are computed just before
they are needed, depth first from the stores, and the stores are put in an order that keeps few
values alive.

Stores to neighbouring elements are a row: the threads of a warp keep them in shared memory and
store the row together once it is complete. How many rows may be incomplete at a time is limited by
that memory, and is one of the things the order is chosen for.
"""

import itertools
from collections.abc import Callable, Container, Iterable, Sequence

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.index_arithmetic import Affine, affine
from anvil_jax.kernels.program import Buffer, Store, operands
from anvil_jax.kernels.schedule import Item, is_volatile, loaded

type Row = tuple[Store, ...]
"""Stores to neighbouring elements, which are stored together."""

SLOTS = 16
"""Rows that may be incomplete at a time; each takes shared memory."""

_MOST_STORES = 300
"""Stores up to which their order is looked for; the time grows with their square."""

_WEIGHT = 0.1
"""What a register for a new value counts, beside one more that stays in use."""

_ENOUGH = 200
"""Registers for values below which it does not matter how many more are free."""

_ROW_BYTES = 32
"""A sector of memory: what is stored together should fill it."""


def reordered(
    items: Sequence[Item],
    is_inlined: Callable[[UOp], bool],
    *,
    makes_rows: bool,
    alone: Container[Buffer],
) -> tuple[list[Item], list[Row]]:
    """The items in an order of low register pressure; loops, branches and calls stay in place.

    Args:
        items: values and statements of one block, in a valid order.
        is_inlined: whether an expression has no register of its own.
        makes_rows: bring stores to neighbouring elements together, if there is nothing else.
        alone: buffers whose elements are better stored one by one.

    Returns:
        The items, and the rows.
    """
    if makes_rows and all(isinstance(item, UOp | Store) for item in items):
        stores = [item for item in items if isinstance(item, Store)]
        values = [item for item in items if isinstance(item, UOp)]
        rows = _rows(stores, alone)
        if any(len(row) > 1 for row in rows) and not _has_conflict(values, stores):
            return _Graph(items, items, is_inlined).best(rows), rows
    result: list[Item] = []
    segment: list[Item] = []
    for item in items:
        if isinstance(item, UOp | Store):
            segment.append(item)
        else:
            result += _best(segment, items, is_inlined)
            result.append(item)
            segment = []
    return result + _best(segment, items, is_inlined), []


def _best(
    segment: list[Item], everything: Sequence[Item], is_inlined: Callable[[UOp], bool]
) -> list[Item]:
    stores = [item for item in segment if isinstance(item, Store)]
    values = [item for item in segment if isinstance(item, UOp)]
    if len(stores) < 2 or len(values) < 8 or _has_conflict(values, stores):
        return segment
    graph = _Graph(segment, everything, is_inlined)
    best = graph.best([(store,) for store in stores])
    return min((segment, best), key=graph.pressure)


def _rows(stores: Iterable[Store], alone: Container[Buffer]) -> list[Row]:
    """All stores, those to neighbouring elements together except in the buffers `alone`."""
    groups: dict[tuple[Buffer, UOp | None], dict[int, Store]] = {}
    rows: list[Row] = []
    for store in stores:
        if store.buffer.storage in alone:
            rows.append((store,))
            continue
        base, place = _split_constant(store.index)
        groups.setdefault((store.buffer, base), {})[place] = store
    for (buffer, _), group in groups.items():
        most = _ROW_BYTES * 8 // ELEMENT_TYPES[buffer.dtype].bits
        row: list[Store] = []
        last = -1
        for place in sorted(group):
            # Rows begin at multiples of their length, so that most of them fill one sector.
            if row and (place != last + 1 or place % most == 0):
                rows.append(tuple(row))
                row = []
            row.append(group[place])
            last = place
        rows.append(tuple(row))
    return rows


def _split_constant(index: UOp) -> tuple[UOp | None, int]:
    if index.op is Ops.CONST:
        return None, index.arg
    if index.op is Ops.ADD and index.src[1].op is Ops.CONST:
        return index.src[0], index.src[1].arg
    return index, 0


def _has_conflict(values: Iterable[UOp], stores: Sequence[Store]) -> bool:
    """Whether it matters when a store happens: to a value, or to another store."""
    stored = {store.buffer.storage for store in stores}
    roots = [*values, *(node for store in stores for node in operands(store))]
    return (
        any(is_volatile(node) for node in values)
        or not stored.isdisjoint(loaded(roots))
        or _may_meet(stores)
    )


def _may_meet(stores: Sequence[Store]) -> bool:
    """Whether two stores may be to the same element."""
    places: dict[Buffer, dict[UOp | None, set[int]]] = {}
    for store in stores:
        base, place = _split_constant(store.index)
        known = places.setdefault(store.buffer.storage, {}).setdefault(base, set())
        if place in known:
            return True
        known.add(place)
    several = {storage for storage, bases in places.items() if len(bases) > 1}
    indices: dict[Buffer, list[Affine | None]] = {}
    for store in stores:
        if store.buffer.storage in several:
            indices.setdefault(store.buffer.storage, []).append(affine(store.index))
    return any(
        a is None or b is None or not a.never_meets(b)
        for group in indices.values()
        for a, b in itertools.combinations(group, 2)
    )


class _Graph:
    """Which values of a segment each item needs."""

    def __init__(
        self,
        segment: Sequence[Item],
        everything: Sequence[Item],
        is_inlined: Callable[[UOp], bool],
    ) -> None:
        self._values = {item for item in segment if isinstance(item, UOp)}
        self._sizes = {node: _registers(node) for node in self._values}
        self._position = {item: k for k, item in enumerate(segment)}
        self._is_inlined = is_inlined
        self._needs = {item: self._needed_by(item) for item in segment}
        # Values that are read behind the segment stay alive until its end.
        outside = [item for item in everything if item not in self._position]
        self._lasting = {node for item in outside for node in self._needed_by(item)}
        used = {node for needs in self._needs.values() for node in needs}
        self._unused = [v for v in segment if v in self._values and v not in used]

    def _needed_by(self, item: Item) -> list[UOp]:
        found: dict[UOp, None] = {}
        roots = item.src if isinstance(item, UOp) else operands(item)
        pending, seen = list(roots), set()
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in self._values:
                found[node] = None
            else:
                pending.extend(node.src)
        return sorted(found, key=self._position.__getitem__)

    def best(self, rows: Sequence[Row]) -> list[Item]:
        """The order with the fewest live values among those tried, few rows being incomplete."""
        stores = [store for row in rows for store in row]
        best = self.depth_first(stores)
        if len(stores) > _MOST_STORES:
            return best
        for slots in (1, 4, SLOTS):
            best = min(best, self.depth_first(self._greedy(rows, slots)), key=self.pressure)
            if self.pressure(best) <= _ENOUGH or all(len(row) == 1 for row in rows):
                break
        return best

    def depth_first(self, stores: Sequence[Store]) -> list[Item]:
        """Values just before the first of `stores` that needs them; those behind last."""
        order: list[Item] = []
        done: set[Item] = set()
        for root in (*stores, *self._unused):
            pending: list[tuple[Item, bool]] = [(root, False)]
            while pending:
                item, is_ready = pending.pop()
                if item in done:
                    continue
                if is_ready:
                    done.add(item)
                    order.append(item)
                    continue
                pending.append((item, True))
                pending.extend((n, False) for n in reversed(self._needs[item]) if n not in done)
        return order

    def _greedy(self, rows: Sequence[Row], slots: int) -> list[Store]:
        """Stores such that each leaves as few more values alive as possible.

        Args:
            rows: all of them.
            slots: rows that may be incomplete at a time.
        """
        users: dict[UOp, int] = dict.fromkeys(self._lasting, 1)
        for needs in self._needs.values():
            for node in needs:
                users[node] = users.get(node, 0) + 1
        row_of = {store: row for row in rows for store in row}
        missing = {row: len(row) for row in rows}
        known: set[UOp] = set()
        left = dict.fromkeys(store for row in rows for store in row)
        order = []
        while left:
            begun = [row for row, count in missing.items() if 0 < count < len(row)]
            candidates = left if len(begun) < slots else [s for s in left if row_of[s] in begun]
            best = min(candidates, key=lambda s: self._growth(s, known, users))
            del left[best]
            order.append(best)
            missing[row_of[best]] -= 1
            new = self._new_values(best, known)
            for item in (*new, best):
                for node in self._needs[item]:
                    users[node] -= 1
            known |= set(new)
        return order

    def _growth(self, store: Store, known: set[UOp], users: dict[UOp, int]) -> float:
        new = self._new_values(store, known)
        used: dict[UOp, int] = {}
        for item in (*new, store):
            for node in self._needs[item]:
                used[node] = used.get(node, 0) + 1
        ended = sum(self._sizes[node] for node, n in used.items() if users[node] == n)
        begun = sum(self._sizes[node] for node in new)
        return begun - ended + _WEIGHT * begun

    def _new_values(self, store: Store, known: set[UOp]) -> list[UOp]:
        """The values a store needs that are not `known`."""
        found: dict[UOp, None] = {}
        pending = list(self._needs[store])
        while pending:
            node = pending.pop()
            if node not in known and node not in found:
                found[node] = None
                pending.extend(self._needs[node])
        return list(found)

    def pressure(self, order: Sequence[Item]) -> int:
        """Registers of 32 bits in use at the worst place."""
        last: dict[UOp, int] = dict.fromkeys(self._lasting, len(order))
        for k, item in enumerate(order):
            for node in self._needs[item]:
                last[node] = max(last.get(node, -1), k)
        ends: dict[int, int] = {}
        alive = worst = 0
        for k, item in enumerate(order):
            if isinstance(item, UOp):
                size = self._sizes[item]
                alive += size
                end = last.get(item, k)
                ends[end] = ends.get(end, 0) + size
            worst = max(worst, alive)
            alive -= ends.pop(k, 0)
        return worst


def _registers(node: UOp) -> int:
    name = dtype_name(node)
    return 1 if name == "index" else max(1, ELEMENT_TYPES[name].bits // 32)
