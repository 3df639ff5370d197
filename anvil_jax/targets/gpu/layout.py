"""Where the data of kernels live: in registers and local memory of a thread, or in the workspace.

Local arrays of a thread are interleaved with those of its neighbours by the hardware, so they are
accessed coalesced without further ado; they are the first choice. What several kernels or several
threads use lies in the workspace. If each trip of a loop has its own, those of one thread each are
interleaved in the same way; what several threads share lies one after the other.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from anvil_jax.kernels.adapter import UOp, dtype_name
from anvil_jax.kernels.buffers import Lifetime, lay_out
from anvil_jax.kernels.program import Block, Buffer, Call, For, Program
from anvil_jax.kernels.schedule import Schedule
from anvil_jax.targets.gpu.ordering import reordered
from anvil_jax.targets.gpu.partition import Kernel, accessed
from anvil_jax.targets.gpu.windows import Window
from anvil_jax.targets.layout import Layout

_LOCAL_BYTES = 16_384
"""Local arrays of one thread in all; larger ones lie in the workspace. The driver reserves local
memory for as many threads as the device could run at once."""


_MOST_ELEMENTS = 2**31 - 1
"""Of interleaved arrays together: their addresses are C++ ints."""

ENOUGH_FOR_ROWS = 1024
"""Threads from which on it pays to exchange values before they are stored."""


@dataclass(slots=True)
class Memory:
    """Where everything is that more than one kernel needs.

    Attributes:
        local: for each kernel the buffers that are arrays of its threads.
        offsets: bytes from the start of the workspace to the first copy of a buffer.
        copies: loops each trip of which has a copy of its own, outermost first.
        interleaved: how many copies there are, for buffers whose copies have their first elements
            first, then the second ones, and so on.
        windows: arrays that are parts of outputs.
        handed: values in memory, with buffer and place.
        nbytes: size of the workspace.
    """

    windows: Mapping[Buffer, Window]
    local: dict[Kernel, list[Buffer]] = field(default_factory=dict)
    offsets: dict[Buffer, int] = field(default_factory=dict)
    copies: dict[Buffer, tuple[For, ...]] = field(default_factory=dict)
    interleaved: dict[Buffer, int] = field(default_factory=dict)
    handed: dict[UOp, tuple[Buffer, int]] = field(default_factory=dict)
    nbytes: int = 0


def plan_memory(
    program: Program,
    plan: Schedule,
    launches: Sequence[Sequence[Kernel]],
    windows: Mapping[Buffer, Window],
) -> Memory:
    """Decides for every intermediate of a partitioned program where it lives."""
    memory = Memory(windows)
    kernels = [kernel for launch in launches for kernel in launch]
    number = {kernel: k for k, launch in enumerate(launches) for kernel in launch}
    spans: dict[For, list[int]] = {}
    for kernel in kernels:
        for loop in kernel.repeats:
            span = spans.setdefault(loop, [number[kernel], number[kernel]])
            span[1] = number[kernel]
    users: dict[Buffer, list[Kernel]] = {}
    for kernel in kernels:
        memory.local[kernel] = []
        for buffer in accessed(kernel):
            if buffer.space == "intermediate" and buffer not in windows:
                users.setdefault(buffer, []).append(kernel)
        for buffer in _handed_by(kernel, memory):
            memory.copies[buffer] = kernel.loops
            users[buffer] = [kernel]
    for kernel in kernels:
        for node in reads_handed(kernel, memory.handed):
            users[memory.handed[node][0]].append(kernel)
    handed = {buffer for buffer, _ in memory.handed.values()}
    called = _called(kernels)
    lives: dict[Buffer, Lifetime] = {}
    room = dict.fromkeys(kernels, _LOCAL_BYTES)
    for buffer, using in sorted(users.items(), key=lambda item: item[0].nbytes):
        kernel = using[0]
        if buffer not in memory.copies:
            scope = buffer.scope or program.root
            if _is_local(buffer, scope, using) and buffer.nbytes <= room[kernel]:
                room[kernel] -= buffer.nbytes
                memory.local[kernel].append(buffer)
                continue
            memory.copies[buffer] = tuple(x for x in kernel.loops if _encloses(x.body, scope))
        trips = math.prod(loop.trips for loop in memory.copies[buffer])
        # What is handed over is read by threads of the same trip together; of an array, threads
        # that share a trip read neighbours.
        is_of_threads = buffer in handed or (
            buffer not in called
            and all(
                user.loops == memory.copies[buffer] and not user.elements and not user.tiles
                for user in using
            )
        )
        if trips > 1 and is_of_threads and buffer.size * trips <= _MOST_ELEMENTS:
            memory.interleaved[buffer] = trips
        copies = Buffer(buffer.dtype, buffer.size * trips, "intermediate")
        numbers = [number[user] for user in using]
        # What outlives a trip of the host's loop is needed in all of it.
        for user in using:
            for loop in user.repeats:
                if not _encloses(loop.body, buffer.scope or program.root):
                    numbers += spans[loop]
        lives[buffer] = Lifetime(copies, min(numbers), max(numbers))
    places, memory.nbytes = lay_out(list(lives.values()))
    memory.offsets = {buffer: places[life.buffer] for buffer, life in lives.items()}
    return memory


def _handed_by(kernel: Kernel, memory: Memory) -> list[Buffer]:
    """Buffers for the values that a kernel hands on, one per dtype."""
    groups: dict[str, list[UOp]] = {}
    for node in kernel.hands:
        groups.setdefault(dtype_name(node), []).append(node)
    made = []
    for dtype, nodes in groups.items():
        stored = "int32" if dtype == "index" else dtype
        buffer = Buffer(stored, len(nodes), "intermediate", scope=kernel.block)
        memory.handed |= {node: (buffer, k) for k, node in enumerate(nodes)}
        made.append(buffer)
    return made


def reads_handed(kernel: Kernel, handed: Mapping[UOp, object]) -> list[UOp]:
    """Which of the values `handed` over a kernel reads from memory."""
    found: dict[UOp, None] = {}
    seen: set[UOp] = set()
    pending = [*kernel.roots(), *(item for item in kernel.items if isinstance(item, UOp))]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in handed and node not in kernel.items:
            found[node] = None
        else:
            pending.extend(node.src)
    return list(found)


def _is_local(buffer: Buffer, scope: Block, users: Sequence[Kernel]) -> bool:
    """Whether a buffer can be an array of each thread: one kernel uses it, one trip of it."""
    kernel = users[0]
    return (
        len(users) == 1
        and not kernel.elements
        and not kernel.tiles
        and scope not in kernel.path[:-1]
    )


def _called(kernels: Iterable[Kernel]) -> set[Buffer]:
    """Storage that functions read or write, for whom an array lies in one piece."""
    statements = (statement for kernel in kernels for statement in kernel.everything())
    calls = (statement for statement in statements if isinstance(statement, Call))
    return {argument.buffer.storage for call in calls for argument in call.arguments}


def _encloses(outer: Block, inner: Block) -> bool:
    block: Block | None = inner
    while block is not None:
        if block is outer:
            return True
        block = block.parent
    return False


class KernelLayout(Layout):
    """Functions and buffers of one kernel.

    Attributes:
        rows: the row that each store is a part of, if threads exchange what they store.
    """

    def __init__(
        self,
        program: Program,
        plan: Schedule,
        kernel: Kernel,
        name: str,
        memory: Memory,
        *,
        makes_rows: bool,
    ) -> None:
        """Lay out `kernel`, whose entry function will be `name`."""
        self._memory = memory
        self._kernel = kernel
        body = Block()
        own_items, rows = reordered(
            kernel.items,
            plan.inlined.__contains__,
            makes_rows=makes_rows and kernel.threads >= ENOUGH_FOR_ROWS,
            alone=memory.interleaved,
        )
        self.rows = {store: row for row in rows for store in row}
        items = {**plan.items, body: own_items}
        handed = {
            node: place
            for node, place in memory.handed.items()
            if node in kernel.hands or node not in kernel.items
        }
        own = Schedule(items, plan.inlined, plan.block_of)
        super().__init__(program, own, name, body, handed)

    def _place_buffers(self) -> None:
        self.offsets, self.workspace_nbytes = self._memory.offsets, self._memory.nbytes
        path = set(self._kernel.path)
        for buffer in self._memory.local[self._kernel]:
            scope = buffer.scope or self.program.root
            self.local[buffer] = self.block if scope in path else scope
        for buffer in self._crossing:
            self.local[buffer] = self.block
