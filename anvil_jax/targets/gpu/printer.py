"""Prints a program as kernels, and says how to launch them."""

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.emit.views import DeviceFunctionView, LaunchView
from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.buffers import ALIGNMENT
from anvil_jax.kernels.program import Buffer, Call, Program
from anvil_jax.kernels.schedule import Schedule, schedule
from anvil_jax.targets.gpu.dialects import DIALECTS, KernelDialect
from anvil_jax.targets.gpu.layout import KernelLayout, Memory, plan_memory
from anvil_jax.targets.gpu.partition import Kernel, partition
from anvil_jax.targets.printer import Printer, Text
from anvil_jax.targets.signature import SignatureNames, buffer_views
from anvil_jax.targets.statistics import count_operations

_GROUP = 128
"""Threads of a group: few, because a thread of straight-line code holds many registers."""

_TILE_GROUP = 256
_TILE_ELEMENTS = 2 * 16 * (64 + 4)
"""Threads and shared elements of `contract_tiles`, see contraction.hpp."""


def render(
    program: Program, name: str, signature: SignatureNames, device: str
) -> DeviceFunctionView:
    """The kernels of a program (which loses its dead statements on the way)."""
    dialect = DIALECTS[device]
    plan = schedule(program)
    kernels = partition(program, plan)
    memory = plan_memory(program, plan, kernels)
    texts: list[str] = []
    launches: list[LaunchView] = []
    runtime: dict[str, None] = {}
    printed: KernelPrinter | None = None
    for k, kernel in enumerate(kernels):
        printed = KernelPrinter(program, plan, kernel, f"{name}_kernel_{k}", memory, dialect)
        launches.append(printed.launch())
        texts += printed.functions
        runtime |= printed.runtime
    code = "\n".join(texts)
    tables = printed.tables if printed is not None else {}
    return DeviceFunctionView(
        name=name,
        source=signature.source,
        inputs=buffer_views(signature.inputs, program.inputs),
        outputs=buffer_views(signature.outputs, program.outputs),
        code=code,
        tables=tuple(t for b, t in tables.items() if t.name in code),
        runtime=tuple(sorted(runtime)),
        workspace_nbytes=-(-memory.nbytes // ALIGNMENT) * ALIGNMENT,
        operations=count_operations(program, plan),
        notes=(f"Kernels: {len(launches)}.",),
        device=device,
        launches=tuple(launches),
    )


class KernelPrinter(Printer):
    """Prints one kernel: `functions` holds its parts and last the kernel itself."""

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
        self._name = name
        self._kernel = kernel
        self._dialect = dialect
        self._copies = memory.copies

    def launch(self) -> LaunchView:
        """Prints the kernel."""
        kernel = self._kernel
        if kernel.tiles:
            return self._print(kernel.trips * kernel.tiles * _TILE_GROUP, _TILE_GROUP)
        return self._print(kernel.trips * max(kernel.elements, 1), _GROUP)

    def _print(self, threads: int, group: int) -> LaunchView:
        kernel = self._kernel
        text, head = Text(), self._counters(threads, group)
        if kernel.tiles or kernel.elements:
            self._product(text)
        else:
            self.block(self.layout.block, text, self.layout.entry, "  ")
        for node in text.counters:
            assert node in self.names
        text.counters.clear()
        pairs = self.parameters(text)
        start = self._dialect.kernel_head(self._name, [p for p, _ in pairs], group)
        self.functions.append("\n".join([f"{start} {{", *head, *self.body(text), "}", ""]))
        groups = -(-threads // group)
        # A lone thread needs no neighbours.
        return LaunchView(
            self._name, tuple(a for _, a in pairs), groups, 1 if threads == 1 else group
        )

    def _counters(self, threads: int, group: int) -> list[str]:
        """The lines that say which trip of each loop a thread runs; names the counters."""
        kernel, lines = self._kernel, []
        if kernel.tiles:
            lines.append(f"  const int place = {self._dialect.group};")
        else:
            lines.append(f"  const int place = {self._dialect.thread.replace('@', str(group))};")
            if threads % group:
                lines.append(f"  if (place >= {threads}) return;")
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
        return [*lines, *reversed(spelled)]

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

    def workspace_pointer(self, buffer: Buffer) -> str:
        """Where this thread's copy of a buffer lies."""
        first = super().workspace_pointer(buffer)
        place = "0"
        for loop in self._copies[buffer]:
            name = self.names[loop.variable]
            place = name if place == "0" else f"({place} * {loop.trips} + {name})"
        return first if place == "0" else f"{first} + {place} * {buffer.size}"

    def workspace_counters(self, buffer: Buffer) -> list[UOp]:
        """The counters of the loops each trip of which has a copy."""
        return [loop.variable for loop in self._copies[buffer]]
