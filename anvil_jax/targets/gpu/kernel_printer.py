"""Prints what one thread of a kernel executes."""

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.expression import is_float
from anvil_jax.kernels.program import Buffer, Call, Program
from anvil_jax.kernels.schedule import Schedule
from anvil_jax.targets.gpu.dialects import KernelDialect
from anvil_jax.targets.gpu.layout import KernelLayout, Memory
from anvil_jax.targets.gpu.partition import Kernel
from anvil_jax.targets.layout import Unit
from anvil_jax.targets.printer import Printer, Text

GROUP = 128
"""Threads of a group: few, because a thread of straight-line code holds many registers."""

TILE_GROUP = 256
_TILE_ELEMENTS = 2 * 16 * (64 + 4)
"""Threads and shared elements of `contract_tiles`, see contraction.hpp."""


class KernelPrinter(Printer):
    """Prints one kernel; `functions` holds the parts it is cut into.

    Attributes:
        arguments: declarations of the parameters it uses, by name.
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
        layout = KernelLayout(program, plan, kernel, name, memory)
        super().__init__(program, layout, dialect)
        self._kernel = kernel
        self._dialect = dialect
        self._copies = memory.copies
        self._windows = memory.windows
        self.arguments: dict[str, str] = {}

    def print(self) -> list[str]:
        """The lines that a thread executes; sets `arguments`."""
        kernel, text = self._kernel, Text()
        lines = self._counters()
        if kernel.tiles or kernel.elements:
            self._product(text)
        else:
            self.block(self.layout.block, text, self.layout.entry, "  ")
        text.counters.clear()
        self.arguments = {name: declared for declared, name in self.parameters(text)}
        return [*lines, *self.body(text)]

    def _counters(self) -> list[str]:
        """The lines that say which trip of each loop a thread runs; names the counters."""
        kernel = self._kernel
        extents = [(f"i{k}", loop) for k, loop in enumerate(kernel.loops)]
        self._counts["i"] = len(extents)
        inner = kernel.tiles or kernel.elements or 1
        for name, loop in extents:
            self.names[loop.variable] = name
        stride = inner
        spelled = []
        for k in range(len(extents) - 1, -1, -1):
            name, loop = extents[k]
            value = "place" if stride == 1 else f"place / {stride}"
            if k:
                value = f"{value} % {loop.trips}"
            stride *= loop.trips
            spelled.append(f"  const int {name} = {value};")
        return spelled[::-1]

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
        return f"{first} + static_cast<std::int64_t>({place}) * {buffer.size}"

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
