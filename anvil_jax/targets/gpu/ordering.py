"""In which order a thread computes straight-line code: so that few values are alive at a time.

A thread of a graphics processor has at most 255 registers of 32 bits, and the more it takes the
fewer threads run at once. The scheduler of programs keeps the order of creation, in which all
results of a function are computed before the first is stored. Here each store comes as soon as its
value is known, and values are computed just before they are needed: depth first from the stores, in
several orders of the stores, of which the one with the fewest live values is taken.
"""

from collections.abc import Callable, Iterable, Sequence

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.program import Buffer, Store
from anvil_jax.kernels.schedule import Item, is_volatile, operands


def reordered(items: Sequence[Item], is_inlined: Callable[[UOp], bool]) -> list[Item]:
    """The items in an order of low register pressure; loops, branches and calls stay in place.

    Args:
        items: values and statements of one block, in a valid order.
        is_inlined: whether an expression has no register of its own.
    """
    result: list[Item] = []
    segment: list[Item] = []
    for item in items:
        if isinstance(item, UOp | Store):
            segment.append(item)
        else:
            result += _best(segment, items, is_inlined)
            result.append(item)
            segment = []
    return result + _best(segment, items, is_inlined)


def _best(
    segment: list[Item], everything: Sequence[Item], is_inlined: Callable[[UOp], bool]
) -> list[Item]:
    stores = [item for item in segment if isinstance(item, Store)]
    values = [item for item in segment if isinstance(item, UOp)]
    if len(stores) < 2 or len(values) < 8 or _has_conflict(values, stores):
        return segment
    graph = _Graph(segment, everything, is_inlined)
    orders = (stores, stores[::-1], graph.by_new_values(stores))
    return min((segment, *map(graph.depth_first, orders)), key=graph.pressure)


def _has_conflict(values: Iterable[UOp], stores: Iterable[Store]) -> bool:
    """Whether a value depends on when a store happens."""
    written = {store.buffer.storage for store in stores}
    roots = [*values, *(node for store in stores for node in operands(store))]
    return any(is_volatile(node) for node in values) or bool(written & set(_loaded(roots)))


def _loaded(roots: Iterable[UOp]) -> Iterable[Buffer]:
    seen: set[UOp] = set()
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op is Ops.BUFFER:
            yield node.arg.storage
        pending.extend(node.src)


class _Graph:
    """Which values of a segment each item needs."""

    def __init__(
        self,
        segment: Sequence[Item],
        everything: Sequence[Item],
        is_inlined: Callable[[UOp], bool],
    ) -> None:
        self._values = {item for item in segment if isinstance(item, UOp)}
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

    def by_new_values(self, stores: Sequence[Store]) -> list[Store]:
        """Stores such that each needs as few values as possible that none before it needed."""
        closure = {store: self._closure(store) for store in stores}
        known: set[UOp] = set()
        left = list(stores)
        order = []
        while left:
            best = min(left, key=lambda s: len(closure[s] - known))
            left.remove(best)
            known |= closure[best]
            order.append(best)
        return order

    def _closure(self, item: Item) -> set[UOp]:
        found: set[UOp] = set()
        pending = list(self._needs[item])
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending.extend(self._needs[node])
        return found

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
                size = _registers(item)
                alive += size
                end = last.get(item, k)
                ends[end] = ends.get(end, 0) + size
            worst = max(worst, alive)
            alive -= ends.pop(k, 0)
        return worst


def _registers(node: UOp) -> int:
    name = dtype_name(node)
    return 1 if name == "index" else max(1, ELEMENT_TYPES[name].bits // 32)
