"""Prints a program as kernels, and says how to launch them."""

import re
import warnings
from collections.abc import Sequence

from anvil_jax.emit.views import DeviceFunctionView, LaunchView, TableView
from anvil_jax.errors import LoweringError
from anvil_jax.kernels.buffers import ALIGNMENT
from anvil_jax.kernels.program import Program
from anvil_jax.kernels.schedule import Schedule, schedule
from anvil_jax.targets.gpu.dialects import DIALECTS, KernelDialect
from anvil_jax.targets.gpu.fusion import Launch, fuse
from anvil_jax.targets.gpu.kernel_printer import (
    COLLECTIVE_GROUP,
    GROUP,
    SLOT_BYTES,
    KernelPrinter,
)
from anvil_jax.targets.gpu.layout import Memory, plan_memory
from anvil_jax.targets.gpu.partition import TILE_THREADS, Kernel, partition
from anvil_jax.targets.gpu.windows import Windows
from anvil_jax.targets.signature import SignatureNames, buffer_views
from anvil_jax.targets.statistics import Costs, count_operations

_FEW = 32
_LONG = 20_000_000
"""Threads, and operations of one of them: a twentieth of a second or more."""


def render(
    program: Program, name: str, signature: SignatureNames, device: str
) -> DeviceFunctionView:
    """The kernels of a program (which loses its dead statements on the way)."""
    dialect = DIALECTS[device]
    plan = schedule(program)
    windows = Windows(program)
    launches = fuse(partition(program, plan, windows))
    _warn_of_lone_threads(name, launches, plan)
    memory = plan_memory(program, plan, launches, windows.found)
    text = _DeviceText(program, plan, memory, dialect)
    views = tuple(text.launch(f"{name}_kernel_{k}", x) for k, x in enumerate(launches))
    code = "\n".join(text.functions)
    tables = tuple(table for table in text.tables.values() if table.name in code)
    if not dialect.has_double:
        _refuse_double(name, device, " ".join((code, *(table.ctype for table in tables))))
    return DeviceFunctionView(
        name=name,
        source=signature.source,
        inputs=buffer_views(signature.inputs, program.inputs),
        outputs=buffer_views(signature.outputs, program.outputs),
        code=code,
        tables=tables,
        runtime=tuple(sorted(text.runtime)),
        workspace_nbytes=-(-memory.nbytes // ALIGNMENT) * ALIGNMENT,
        operations=count_operations(program, plan),
        notes=(f"Kernels: {len(views)}.",),
        device=device,
        launches=views,
    )


class _DeviceText:
    """The functions printed so far."""

    def __init__(
        self, program: Program, plan: Schedule, memory: Memory, dialect: KernelDialect
    ) -> None:
        self._program = program
        self._plan = plan
        self._memory = memory
        self._dialect = dialect
        self.functions: list[str] = []
        self.runtime: dict[str, None] = {}
        self.tables: dict[str, TableView] = {}

    def launch(self, name: str, kernels: Launch) -> LaunchView:
        """Prints one kernel function, whose threads execute the parts of all `kernels`."""
        names = [name] if len(kernels) == 1 else [f"{name}_{k}" for k in range(len(kernels))]
        printers = [
            KernelPrinter(self._program, self._plan, kernel, own, self._memory, self._dialect)
            for kernel, own in zip(kernels, names, strict=True)
        ]
        is_collective = any(printer.is_collective for printer in printers)
        group = COLLECTIVE_GROUP if is_collective else GROUP
        if kernels[0].tiles:
            group = TILE_THREADS
        threads = max(kernel.threads for kernel in kernels)
        lines: list[str] = []
        parameters: dict[str, str] = {}
        for kernel, printer in zip(kernels, printers, strict=True):
            body = printer.print()
            parameters |= printer.arguments
            # Groups are whole: threads beyond the last trip have nothing to do.
            is_whole = kernel.threads % group == 0 and kernel.threads == threads
            scope = (
                "{" if is_whole or printer.is_collective else f"if (place < {kernel.threads}) {{"
            )
            if scope != "{" or len(kernels) > 1:
                body = [f"  {scope}", *(f"  {line}" for line in body), "  }"]
            lines += body
            self.functions += printer.functions
            self.runtime |= printer.runtime
            self.tables |= {table.name: table for table in printer.tables.values()}
        first = [self._first_line(kernels[0], group)]
        if slots := max(printer.slots for printer in printers):
            tile = f"unsigned char tile[{slots * SLOT_BYTES * group}]"
            first.append(f"  {self._dialect.tile.replace('@', tile)};")
        arguments = sorted(parameters, key=_argument_order)
        counters = [a for a in arguments if a.startswith("h")]
        pointers = [parameters[a] for a in arguments[: len(arguments) - len(counters)]]
        head = self._dialect.kernel_head(name, pointers, counters, group)
        self.functions.append("\n".join([f"{head} {{", *first, *lines, "}", ""]))
        # A lone thread needs no neighbours.
        groups = -(-threads // group)
        repeats = tuple((f"h{k}", loop.trips) for k, loop in enumerate(kernels[0].repeats))
        # Loops are known by the number of their variable: two in a row are not one.
        numbers = tuple(loop.variable.arg[0] for loop in kernels[0].repeats)
        return LaunchView(
            name, tuple(arguments), groups, 1 if threads == 1 else group, repeats, numbers
        )

    def _first_line(self, kernel: Kernel, group: int) -> str:
        place = self._dialect.group if kernel.tiles else self._dialect.thread
        return f"  const int place = {place.replace('@', str(group))};"


def _argument_order(name: str) -> tuple[int, int]:
    """Inputs, outputs, workspace, counters of the host, each by number."""
    letters = name.rstrip("0123456789")
    return ("in", "out", "ws", "h").index(letters), int(name[len(letters) :] or 0)


def _warn_of_lone_threads(name: str, launches: Sequence[Launch], plan: Schedule) -> None:
    """Says so if a few threads would be busy for long while the others have nothing to do."""
    costs = Costs(plan)
    for kernel in (kernel for launch in launches for kernel in launch):
        operations = sum(map(costs.statement, kernel.statements))
        if kernel.threads <= _FEW and operations >= _LONG:
            warnings.warn(
                f"{name}: some {operations:.0e} operations run one after the other in "
                f"{kernel.threads} thread{'s' if kernel.threads > 1 else ''} of the device. "
                "Instances are independent if the function of one is batched with anvil_jax.vmap "
                "(or jax.lax.map around the loop); jax.vmap leaves the loop outside.",
                stacklevel=2,
            )


def _refuse_double(name: str, device: str, code: str) -> None:
    """Refuses constants of float64 that were not folded; what depends on inputs was refused."""
    if re.search(r"\bdouble\b", code):
        raise LoweringError(
            f"{name}: constants of dtype float64 would be computed on the device, but {device} has "
            "no float64. Arrays made by jnp.zeros, jnp.arange and the like are float64 unless they "
            "are given a dtype"
        )
