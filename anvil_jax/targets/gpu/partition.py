"""Which kernels a program becomes: the loops that threads share out, and what each thread does.

The statements of the root block are walked in order. A loop whose trips are independent becomes the
threads of a kernel; while there are too few of them, loops inside it are shared out as well, each
with its part of the statements, unless they are little beside the rest of a trip: what is shared by
kernels has to be in memory. Everything else stays a loop that one thread runs.

Values that several kernels need are computed again in each of them if that is cheap (they are
pure), otherwise handed over through memory by a kernel that does nothing else.
"""

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field

from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.kernels.program import (
    Block,
    Buffer,
    Call,
    For,
    Program,
    Statement,
    bodies,
    operands,
    touched,
)
from anvil_jax.kernels.schedule import Item, Schedule, is_atom, is_volatile, loaded, walk, written
from anvil_jax.targets.gpu.windows import Windows
from anvil_jax.targets.intrinsics import INTRINSICS
from anvil_jax.targets.statistics import Costs

ENOUGH_THREADS = 32_768
"""Threads from which on loops inside a thread stay loops: about what keeps a large GPU busy."""

_MOST_THREADS = 2**31 - 2**10
"""Threads are numbered by C++ ints, and groups are filled up."""

_WORTH_THREADS = 8
"""Trips of an inner loop from which on they are worth threads of their own."""

_LIGHT = 8
"""A loop that is so many times less work than what its thread does besides is not shared out."""

_REPEATED = 64
"""Operations that every thread repeats rather than reading their results from memory."""

_REPEATED_THREADS = 256
"""Threads from which on a trip of a loop is worth launches of its own."""

_TILE = 64
"""Rows and columns of a matrix product that 256 threads compute together; see contraction.hpp."""

TILE_THREADS = 256
"""Threads for a tile."""

_TILED = 16
"""Rows, columns and summands from which on a product is worth tiles."""

_ENOUGH_TILES = 32
"""Tiles from which on there are enough for a device; below, each thread computes one element."""


@dataclass(eq=False, slots=True)
class Kernel:
    """What the threads of one launch do.

    Attributes:
        repeats: loops of the host around the launch, outermost first.
        loops: nested independent loops; each thread runs one trip of all of them.
        block: where the statements stand: the innermost loop's body, or the root.
        statements: what a thread executes, some consecutive statements of `block`.
        items: the same with the values it needs, those of enclosing blocks first.
        hands: values that the thread stores for later kernels.
        elements: the kernel is one matrix product, of which each thread computes one of so many
            elements; 0 for other kernels.
        tiles: the same with 256 threads for each of so many tiles.
    """

    repeats: tuple[For, ...]
    loops: tuple[For, ...]
    block: Block
    statements: list[Statement]
    items: list[Item] = field(default_factory=list)
    hands: list[UOp] = field(default_factory=list)
    elements: int = 0
    tiles: int = 0

    @property
    def trips(self) -> int:
        """Trips of all loops."""
        return math.prod(loop.trips for loop in self.loops)

    @property
    def threads(self) -> int:
        """Threads that do something."""
        return self.trips * (TILE_THREADS * self.tiles or self.elements or 1)

    @property
    def path(self) -> tuple[Block, ...]:
        """The blocks from the root to `block`: first those of `repeats`, then those of `loops`."""
        found = [self.block]
        while found[-1].parent is not None:
            found.append(found[-1].parent)
        return tuple(reversed(found))

    def everything(self) -> Iterator[Statement]:
        """The statements with all that stand inside them."""
        for statement in self.statements:
            yield statement
            for body in bodies(statement):
                for _, inner in walk(body):
                    yield inner

    def roots(self) -> list[UOp]:
        """The expressions that the statements use, at any depth, and those handed on."""
        used = (node for statement in self.everything() for node in operands(statement))
        return [*self.hands, *used]


def partition(program: Program, plan: Schedule, windows: Windows) -> list[Kernel]:
    """The kernels of a scheduled program, in the order in which they run.

    Args:
        program: without dead statements.
        plan: where its expressions are computed.
        windows: gets the arrays that need not be copied to an output.
    """
    kernels = _split(program.root, (), (), plan, windows, Costs(plan))
    return _with_values(program, plan, kernels)


def _split(
    block: Block,
    repeats: tuple[For, ...],
    loops: tuple[For, ...],
    plan: Schedule,
    windows: Windows,
    costs: Costs,
) -> list[Kernel]:
    """The kernels of a block that stands in `repeats` of the host and in the threads' `loops`."""
    kernels: list[Kernel] = []
    run: list[Statement] = []
    threads = math.prod(loop.trips for loop in loops)
    before = dict(windows.found)
    alone = [s for s in block.statements if not (isinstance(s, For) and s.parallel)]
    least = sum(map(costs.statement, alone)) // _LIGHT if loops else 0

    def close() -> None:
        if run:
            kernels.append(Kernel(repeats, loops, block, list(run)))
            run.clear()

    for statement in block.statements:
        if windows.makes_superfluous(statement):
            continue
        is_light = costs.statement(statement) < least
        if (
            isinstance(statement, For)
            and not is_light
            and _is_shared_out(statement, threads, block)
        ):
            close()
            inner = (*loops, statement)
            kernels += _split(statement.body, repeats, inner, plan, windows, costs)
        elif isinstance(statement, Call) and _is_product(statement, threads):
            close()
            kernels.append(_product(statement, block, repeats, loops))
        elif isinstance(statement, For) and not loops and _is_repeated(statement):
            known = dict(windows.found)
            outer = (*repeats, statement)
            found = _split(statement.body, outer, (), plan, windows, costs)
            if all(kernel.threads == 1 for kernel in found):
                windows.found = known
                run.append(statement)
            else:
                close()
                kernels += found
        else:
            run.append(statement)
    close()
    if _rereads_overwritten(block, len(repeats), kernels, plan):
        windows.found = before
        return [Kernel(repeats, loops, block, list(block.statements))]
    return kernels


def _rereads_overwritten(block: Block, depth: int, kernels: list[Kernel], plan: Schedule) -> bool:
    """Whether a kernel would read state of `block` that one before it may have overwritten.

    Values are read again by every kernel that needs them; one thread that executes the whole block
    reads them once. Of kernels in the same loop of the host each comes before the others, too.
    """
    overwritten: set[Buffer] = set()
    for kernel in kernels:
        group = [kernel]
        if len(kernel.repeats) > depth:
            loop = kernel.repeats[depth]
            group = [k for k in kernels if k.repeats[depth : depth + 1] == (loop,)]
            overwritten |= _written(group)
        needed = _needed(plan, kernel.roots(), {block}, ())
        read = {node.src[0].src[0].arg.storage for node in needed if is_volatile(node)}
        if read & overwritten:
            return True
        overwritten |= _written(group)
    return False


def _written(kernels: Iterable[Kernel]) -> set[Buffer]:
    statements = (statement for kernel in kernels for statement in kernel.everything())
    return {buffer.storage for statement in statements for buffer in written(statement)}


def _is_repeated(loop: For) -> bool:
    """Whether the host may run a loop, because its trips have work for many threads."""
    return not loop.parallel and any(
        isinstance(statement, For) and statement.parallel and statement.trips >= _REPEATED_THREADS
        for _, statement in walk(loop.body)
    )


def _is_shared_out(loop: For, threads: int, block: Block) -> bool:
    if not loop.parallel or threads >= ENOUGH_THREADS:
        return False
    if not 0 < threads * loop.trips <= _MOST_THREADS:
        return False
    is_all = len(block.statements) == 1
    return threads == 1 or is_all or loop.trips >= _WORTH_THREADS


def _is_product(call: Call, threads: int) -> bool:
    if call.product is None or threads >= ENOUGH_THREADS:
        return False
    batch, m, n, _ = call.product
    return math.prod(call.product) > 64 and threads * batch * m * n <= _MOST_THREADS


def _product(call: Call, block: Block, repeats: tuple[For, ...], loops: tuple[For, ...]) -> Kernel:
    assert call.product is not None
    batch, m, n, _ = call.product
    kernel = Kernel(repeats, loops, block, [call])
    tiles = batch * math.ceil(m / _TILE) * math.ceil(n / _TILE)
    if min(call.product[1:]) >= _TILED and kernel.trips * tiles >= _ENOUGH_TILES:
        kernel.tiles = tiles
    else:
        kernel.elements = batch * m * n
    return kernel


# ---- values ----


def _with_values(program: Program, plan: Schedule, kernels: list[Kernel]) -> list[Kernel]:
    """The kernels with the values each needs, and kernels in between that hand values over."""
    handed: dict[UOp, Kernel] = {}
    found: list[Kernel] = []
    for kernel in kernels:
        _hand_over(program, plan, kernel, handed, found)
        _fill(program, plan, kernel, handed)
        found.append(kernel)
    return found


def _hand_over(
    program: Program,
    plan: Schedule,
    kernel: Kernel,
    handed: dict[UOp, Kernel],
    before: list[Kernel],
) -> None:
    """Has kernels `before` store the values that `kernel` should not compute again.

    Adds to `handed` the values, to `before` kernels for those that none of them computes.
    """
    needed = _needed(plan, kernel.roots(), set(kernel.path), handed)
    known = {n: k for k in before if k.block is kernel.block for n in k.items if n in plan.block_of}
    shared = {n for n in needed if plan.block_of[n] is not kernel.block or n in known}
    if sum(map(_cost, shared)) <= _REPEATED:
        return
    own = [node for node in needed if node not in shared]
    frontier = _used_directly([*kernel.roots(), *own], plan, shared)
    for depth, block in enumerate(kernel.path):
        hands = [n for n in frontier if plan.block_of[n] is block]
        makers = {n: k for k in before if k.block is block for n in k.items if n in plan.block_of}
        missing = sorted((n for n in hands if n not in makers), key=program.order.__getitem__)
        if missing:
            outer = len(kernel.repeats)
            loops = kernel.loops[: max(depth - outer, 0)]
            maker = Kernel(kernel.repeats[:depth], loops, block, [], hands=missing)
            # In front of the host's loop that `kernel` is in and the maker is not, if there is one.
            inner = kernel.repeats[: depth + 1] if outer > depth else ()
            place = _first_inside(before, inner)
            earlier = before[:place]
            _hand_over(program, plan, maker, handed, earlier)
            _fill(program, plan, maker, handed)
            before[:place] = [*earlier, maker]
            makers |= dict.fromkeys(missing, maker)
        for node in hands:
            handed[node] = makers[node]
            if node not in makers[node].hands:
                makers[node].hands.append(node)


def _first_inside(kernels: list[Kernel], repeats: tuple[For, ...]) -> int:
    """The place of the first kernel in loops of the host, the number of kernels if none is."""
    for k, kernel in enumerate(kernels):
        if repeats and kernel.repeats[: len(repeats)] == repeats:
            return k
    return len(kernels)


def _cost(node: UOp) -> int:
    """Operations, a named value with what is written inside it counting as one."""
    if node.op is Ops.CUSTOM and node.arg in INTRINSICS:
        return INTRINSICS[node.arg].cost
    return int(node.op is not Ops.LOAD)


def _fill(program: Program, plan: Schedule, kernel: Kernel, handed: Container[UOp]) -> None:
    """Sets `items`: values of the enclosing blocks, then the block's own items in their order."""
    needed = _needed(plan, kernel.roots(), set(kernel.path), handed)
    outside = [node for node in needed if plan.block_of[node] is not kernel.block]
    outside.sort(key=program.order.__getitem__)
    inside, statements = set(needed), set(kernel.statements)
    own = [
        item
        for item in plan.items[kernel.block]
        if (item in inside if isinstance(item, UOp) else item in statements)
    ]
    kernel.items = [*outside, *own]


def _needed(
    plan: Schedule, roots: Iterable[UOp], blocks: set[Block], handed: Container[UOp]
) -> list[UOp]:
    """The named values of `blocks` below `roots`, except those in memory already."""
    found: list[UOp] = []
    seen: set[UOp] = set()
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node in seen or node in handed:
            continue
        seen.add(node)
        pending.extend(node.src)
        if not is_atom(node) and node not in plan.inlined and plan.block_of[node] in blocks:
            found.append(node)
    return found


def _used_directly(users: Iterable[UOp], plan: Schedule, among: set[UOp]) -> list[UOp]:
    """Those of the values `among` that `users` name themselves, through inlined expressions."""
    found: dict[UOp, None] = {}
    seen: set[UOp] = set()
    users = list(users)
    pending = [source for node in users for source in (node, *node.src)]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in among:
            found[node] = None
        elif is_atom(node) or node in plan.inlined or node not in plan.block_of:
            pending.extend(node.src)
    return list(found)


# ---- memory ----


def accessed(kernel: Kernel) -> list[Buffer]:
    """The storage that a kernel reads or writes, each once, in order."""
    found = loaded([*kernel.roots(), *(item for item in kernel.items if isinstance(item, UOp))])
    for statement in kernel.everything():
        found |= dict.fromkeys(buffer.storage for buffer in touched(statement))
    return list(found)
