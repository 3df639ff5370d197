"""Which C++ function every statement of a program belongs to, and where every buffer lives.

Independent of the target language: what is decided here is only the cut of long straight-line code
into functions, the values that cross a cut, and the addresses of intermediates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.buffers import Lifetime, lay_out
from anvil_jax.kernels.program import (
    Block,
    BreakUnless,
    Buffer,
    Call,
    Program,
    Store,
    bodies,
    operands,
)
from anvil_jax.kernels.schedule import Item, Schedule, is_atom, lifetimes

STATEMENTS_PER_FUNCTION = 1600
"""Length at which straight-line code is cut; measured in docs/explanation/compile_time.md."""

_LOCAL_ELEMENTS = 64
"""Intermediates up to this size that one C++ function uses alone are local arrays."""


@dataclass(eq=False, slots=True)
class Unit:
    """One C++ function."""

    name: str
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class Outlined:
    """Items of a block that became a function of their own."""

    unit: Unit
    items: tuple[Item, ...]


class Layout:
    """Which function an item belongs to, and where buffers and crossing values are stored."""

    def __init__(
        self,
        program: Program,
        plan: Schedule,
        name: str = "evaluate",
        block: Block | None = None,
        spilled: Mapping[UOp, tuple[Buffer, int]] | None = None,
    ) -> None:
        """Cut what is executed in `block` (default: everything) into functions.

        Args:
            program: whose statements these are.
            plan: where its expressions are computed.
            name: of the function that executes `block`.
            block: of the program, or one that stands for a part of it.
            spilled: values that lie in memory already.
        """
        self.program = program
        self.plan = plan
        self.entry = Unit(name)
        self.block = program.root if block is None else block
        self.pieces: dict[Block, list[Outlined | Item]] = {}
        self.unit_of: dict[Item, Unit] = {}
        self.spilled: dict[UOp, tuple[Buffer, int]] = dict(spilled or {})
        self._count = 0
        self._cut(self.block)
        self._assign(self.block, self.entry)
        self._assign_inlined()
        self._spill()
        # Local arrays and the block that declares each, in order of first use (reproducible text).
        self.local: dict[Buffer, Block] = {}
        self._place_buffers()

    def _cut(self, block: Block) -> int:
        """Cuts `block` and everything below it; returns its remaining number of statements."""
        weights = []
        for item in self.plan.items[block]:
            nested = () if isinstance(item, UOp) else bodies(item)
            weights.append(1 + sum(self._cut(body) for body in nested))
        items = self.plan.items[block]
        if sum(weights) <= STATEMENTS_PER_FUNCTION:
            self.pieces[block] = list(items)
            return sum(weights)
        pieces: list[Outlined | Item] = []
        group: list[Item] = []
        size = 0

        def close() -> None:
            nonlocal group, size
            if group:
                self._count += 1
                name = f"part_{self._count}"
                if self.entry.name != "evaluate":
                    name = f"{self.entry.name}_{name}"
                pieces.append(Outlined(Unit(name), tuple(group)))
            group, size = [], 0

        for item, weight in zip(items, weights, strict=True):
            if isinstance(item, BreakUnless):
                close()
                pieces.append(item)
                continue
            if size and size + weight > STATEMENTS_PER_FUNCTION:
                close()
            group.append(item)
            size += weight
        close()
        self.pieces[block] = pieces
        return len(pieces)

    def _assign(self, block: Block, unit: Unit) -> None:
        for piece in self.pieces[block]:
            if isinstance(piece, Outlined):
                for item in piece.items:
                    self._assign_item(item, piece.unit)
            else:
                self._assign_item(piece, unit)

    def _assign_item(self, item: Item, unit: Unit) -> None:
        self.unit_of[item] = unit
        if not isinstance(item, UOp):
            for body in bodies(item):
                self._assign(body, unit)

    def _assign_inlined(self) -> None:
        """Inlined expressions belong to the function of their user; users come later in time."""
        for s in [s for s in self.unit_of if not isinstance(s, UOp)]:
            self._claim(operands(s), self.unit_of[s])
        order = self.program.order
        for node in sorted(self.plan.block_of, key=order.__getitem__, reverse=True):
            if node in self.unit_of:
                self._claim(node.src, self.unit_of[node])

    def _claim(self, sources: tuple[UOp, ...], unit: Unit) -> None:
        for source in sources:
            if source in self.plan.inlined or is_atom(source):
                self.unit_of.setdefault(source, unit)
                if source.op is Ops.INDEX:
                    self._claim(source.src, unit)

    def users(self) -> Iterator[tuple[UOp, Unit]]:
        """(expression, function that refers to it), through addresses down to the values."""
        for item, unit in self.unit_of.items():
            pending = list(item.src if isinstance(item, UOp) else operands(item))
            while pending:
                node = pending.pop()
                yield node, unit
                if node.op is Ops.INDEX:
                    pending.extend(node.src)

    def _spill(self) -> None:
        self._crossing: list[Buffer] = []
        crossing: dict[str, list[UOp]] = {}
        seen: set[UOp] = set()
        for node, unit in self.users():
            named = not is_atom(node) and node not in self.plan.inlined
            if node in self.spilled or node in seen:
                continue
            if named and self.unit_of[node] is not unit:
                seen.add(node)
                crossing.setdefault(dtype_name(node), []).append(node)
        for dtype, nodes in sorted(crossing.items()):
            nodes.sort(key=self.program.order.__getitem__)
            stored = "int32" if dtype == "index" else dtype
            buffer = Buffer(stored, len(nodes), "intermediate", scope=self.block)
            self._crossing.append(buffer)
            self.spilled |= {node: (buffer, k) for k, node in enumerate(nodes)}

    def _place_buffers(self) -> None:
        accessed: dict[Buffer, set[Unit]] = {}
        for item, unit in self.unit_of.items():
            if isinstance(item, UOp):
                if item.op is Ops.LOAD:
                    accessed.setdefault(item.src[0].src[0].arg.storage, set()).add(unit)
            elif isinstance(item, Store):
                accessed.setdefault(item.buffer.storage, set()).add(unit)
            elif isinstance(item, Call):
                for argument in item.arguments:
                    accessed.setdefault(argument.buffer.storage, set()).add(unit)
        alive = lifetimes(self.program, self.plan)
        self.local = {
            life.buffer: life.buffer.scope or self.program.root
            for life in alive
            if life.buffer.size <= _LOCAL_ELEMENTS
            and accessed.get(life.buffer, {self.entry}) == {self._scope_unit(life.buffer)}
        }
        everywhere = 2**62
        kept = [life for life in alive if life.buffer not in self.local]
        kept += [Lifetime(buffer, -1, everywhere) for buffer in self._crossing]
        self.offsets, self.workspace_nbytes = lay_out(kept)

    def _scope_unit(self, buffer: Buffer) -> Unit | None:
        """The function that prints a buffer's scope block, None if the block was cut."""
        scope = buffer.scope or self.program.root
        if any(isinstance(p, Outlined) for p in self.pieces[scope]):
            return None
        return self.entry if scope.owner is None else self.unit_of[scope.owner]
