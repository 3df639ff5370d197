"""Prints what one thread of a kernel executes."""

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.expression import is_float
from anvil_jax.kernels.program import Buffer, Call, Program, Statement, Store
from anvil_jax.kernels.schedule import Schedule
from anvil_jax.targets.gpu.dialects import KernelDialect
from anvil_jax.targets.gpu.layout import KernelLayout, Memory
from anvil_jax.targets.gpu.ordering import SLOTS, Row
from anvil_jax.targets.gpu.partition import Kernel
from anvil_jax.targets.layout import Unit
from anvil_jax.targets.printer import Printer, Text

GROUP = 128
"""Threads of a group: few, because a thread of straight-line code holds many registers."""

COLLECTIVE_GROUP = 64
"""Threads of a group that exchanges values: shared memory holds `SLOTS` rows of each."""

SLOT_BYTES = 40
"""Shared memory of a row for each thread, see rows.hpp."""

_TILE_ELEMENTS = 2 * 16 * (64 + 4)
"""Shared elements of `contract_tiles`, see contraction.hpp."""


class KernelPrinter(Printer):
    """Prints one kernel; `functions` holds the parts it is cut into.

    Attributes:
        arguments: declarations of the parameters it uses, by name.
        is_collective: threads exchange values, so that all of a group must take part.
        slots: for how many rows they do so at a time.
    """

    def __init__(
        self,
        program: Program,
        plan: Schedule,
        kernel: Kernel,
        name: str,
        memory: Memory,
        dialect: KernelDialect,
    ) -> None:
        """Lay the kernel out."""
        layout = KernelLayout(program, plan, kernel, name, memory, makes_rows=dialect.has_rows)
        super().__init__(program, layout, dialect)
        self._rows = layout.rows
        self._kernel = kernel
        self._dialect = dialect
        self._copies, self._interleaved = memory.copies, memory.interleaved
        self._windows = memory.windows
        self.arguments: dict[str, str] = {}
        self.is_collective = bool(layout.rows)
        self.slots = 0
        self._slots: dict[Row, int] = {}
        self._missing: dict[Row, int] = {}

    def print(self) -> list[str]:
        """The lines that a thread executes; sets `arguments`."""
        kernel, text = self._kernel, Text()
        lines = self._counters()
        if kernel.tiles or kernel.elements:
            self._product(text)
        else:
            self.block(self.layout.block, text, self.layout.entry, "  ")
        host = {loop.variable for loop in kernel.repeats}
        text.counters = {n: name for n, name in text.counters.items() if n in host}
        text.further.clear()
        self.arguments = {name: declared for declared, name in self.parameters(text)}
        return [*lines, *self.body(text)]

    def _counters(self) -> list[str]:
        """The lines that say which trip of each loop a thread runs; names the counters."""
        kernel = self._kernel
        extents = [(f"i{k}", loop) for k, loop in enumerate(kernel.loops)]
        self._counts["i"] = len(extents)
        inner = kernel.tiles or kernel.elements or 1
        lines = []
        place = "place"
        if self.is_collective:
            # Threads beyond the last trip repeat it, and store nothing.
            place = "trip"
            lines.append(f"  const bool is_inside = place < {kernel.trips};")
            lines.append(f"  const int trip = is_inside ? place : {kernel.trips - 1};")
        for name, loop in extents:
            self.names[loop.variable] = name
        for k, loop in enumerate(kernel.repeats):
            self.names[loop.variable] = f"h{k}"
        stride = inner
        spelled = []
        for k in range(len(extents) - 1, -1, -1):
            name, loop = extents[k]
            value = place if stride == 1 else f"{place} / {stride}"
            if k:
                value = f"{value} % {loop.trips}"
            stride *= loop.trips
            spelled.append(f"  const int {name} = {value};")
        return [*lines, *reversed(spelled)]

    def _statement(self, statement: Statement, text: Text, unit: Unit, indent: str) -> None:
        row = self._rows.get(statement) if isinstance(statement, Store) else None
        if row is None or not isinstance(statement, Store):
            super()._statement(statement, text, unit, indent)
            return
        text.further["is_inside"] = "const bool is_inside"
        if len(row) == 1:
            text.lines.append(f"{indent}if (is_inside) {{")
            super()._statement(statement, text, unit, indent + "  ")
            text.lines.append(indent + "}")
            return
        self.runtime["rows.hpp"] = None
        text.further["tile"] = "unsigned char* tile"
        if row not in self._slots:
            used = set(self._slots.values())
            self._slots[row] = next(k for k in range(SLOTS) if k not in used)
            self._missing[row] = len(row)
            self.slots = max(self.slots, self._slots[row] + 1)
        types = f"{ELEMENT_TYPES[statement.buffer.dtype].cpp}, {len(row)}"
        slot = f"tile + {self._slots[row] * SLOT_BYTES * COLLECTIVE_GROUP}"
        value = self._ref(statement.value, text, unit)
        text.lines.append(
            f"{indent}anvil_rt::keep<{types}, {row.index(statement)}>({slot}, {value});"
        )
        self._missing[row] -= 1
        if self._missing[row] == 0:
            del self._slots[row]
            # The address of the row's first element, from that of this one.
            place = f"{self._ref(statement.index, text, unit)} - {row.index(statement)}"
            where = f"is_inside ? {self._buffer(statement.buffer, text)} + ({place}) : nullptr"
            text.lines.append(f"{indent}anvil_rt::store_row<{types}>({slot}, {where});")

    def _product(self, text: Text) -> None:
        """A matrix product that many threads compute together."""
        kernel = self._kernel
        self._items(
            tuple(item for item in kernel.items if isinstance(item, UOp)),
            self.layout.block,
            text,
            self.layout.entry,
            "  ",
        )
        (call,) = kernel.statements
        assert isinstance(call, Call)
        template = call.function.removeprefix("contract")
        if kernel.elements:
            place = f"place % {kernel.elements}" if kernel.loops else "place"
            further, function = (place, str(kernel.elements)), "contract_by_threads"
        else:
            ctype = ELEMENT_TYPES[call.writes[0].buffer.dtype].cpp
            tile = self._dialect.tile.replace("@", f"{ctype} tiles[{_TILE_ELEMENTS}]")
            text.lines.append(f"  {tile};")
            place = f"place % {kernel.tiles}" if kernel.loops else "place"
            further, function = (place, self._dialect.lane, "tiles"), "contract_tiles"
        called = self.call(call, text, self.layout.entry, function + template, further)
        text.lines.append("  " + called)

    def _expression(self, node: UOp, text: Text, unit: Unit) -> str:
        if node.op is Ops.CAST and not self._dialect.has_double and is_float(node):
            # Not a number is one expression for each type, which lowering does not convert.
            (source,) = node.src
            if source.op is Ops.CUSTOM and source.arg == "nan":
                return self._custom(source.replace(dtype=node.dtype), dtype_name(node), [])
        return super()._expression(node, text, unit)

    def workspace_pointer(self, buffer: Buffer) -> str:
        """Where this thread's copy of a buffer lies: in the workspace, or in an output."""
        if window := self._windows.get(buffer):
            first = self.buffer_names[window.buffer]
            terms = [
                f"static_cast<std::int64_t>({self.names[counter]}) * {coefficient}"
                for counter, coefficient in window.first.coefficients.items()
            ]
            if window.first.constant:
                terms.append(str(window.first.constant))
            return " + ".join([first, *terms])
        first = super().workspace_pointer(buffer)
        place = "0"
        for loop in self._copies[buffer]:
            name = self.names[loop.variable]
            place = name if place == "0" else f"({place} * {loop.trips} + {name})"
        if place == "0":
            return first
        if buffer in self._interleaved:
            return f"{first} + {place}"
        return f"{first} + static_cast<std::int64_t>({place}) * {buffer.size}"

    def _element(self, buffer: Buffer, index: str, text: Text) -> str:
        if count := self._interleaved.get(buffer.storage):
            index = str(int(index) * count) if index.isdigit() else f"{index} * {count}"
        return super()._element(buffer, index, text)

    def reach(self, buffer: Buffer, text: Text) -> None:
        """Notes memory and counters that `workspace_pointer` refers to."""
        if window := self._windows.get(buffer):
            text.pointers.add(window.buffer)
            counters = list(window.first.coefficients)
        else:
            super().reach(buffer, text)
            counters = [loop.variable for loop in self._copies[buffer]]
        for counter in counters:
            text.counters.setdefault(counter, self.names[counter])
