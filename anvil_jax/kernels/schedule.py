"""Decides where every expression of a program is computed.

A statement tree plus a pure expression graph becomes, for each block, one ordered list of named
values and statements:

1. statements whose results nobody reads are dropped;
2. an expression goes to the innermost block that encloses all its uses, then out of the loops it
   does not depend on (never out of a branch: what is not chosen is not computed);
3. inside a block everything is ordered by creation time, which keeps values near their uses;
4. an expression with a single use in its own block is written at that use.

Method: global code motion of Click, "Global Code Motion / Global Value Numbering", PLDI 1995,
specialised to structured control flow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.buffers import Lifetime
from anvil_jax.kernels.program import (
    Block,
    BreakUnless,
    Buffer,
    For,
    Forever,
    Program,
    Statement,
    Store,
    Switch,
    bodies,
    operands,
    touched,
)

_MAX_INLINE_DEPTH = 10
"""Nesting of single-use expressions written in one C++ expression."""

type Item = UOp | Statement


@dataclass(slots=True)
class Schedule:
    """The result.

    Attributes:
        items: for each block, named values and statements in order.
        inlined: expressions written at their only use.
        block_of: the block of every expression that is computed.
    """

    items: dict[Block, list[Item]]
    inlined: set[UOp]
    block_of: dict[UOp, Block]


def written(statement: Statement) -> tuple[Buffer, ...]:
    """The buffers a statement itself stores to."""
    if isinstance(statement, Store):
        return (statement.buffer,)
    return tuple(a.buffer for a in getattr(statement, "writes", ()))


def walk(block: Block) -> Iterator[tuple[Block, Statement]]:
    """Every statement below `block` with the block it stands in, outermost first."""
    pending = [(block, s) for s in reversed(block.statements)]
    while pending:
        where, statement = pending.pop()
        yield where, statement
        for body in reversed(bodies(statement)):
            pending.extend((body, s) for s in reversed(body.statements))


def reachable(roots: Iterable[UOp], seen: set[UOp]) -> list[UOp]:
    """Nodes below `roots` that are not in `seen` yet; adds them to `seen`."""
    found = []
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        found.append(node)
        pending.extend(node.src)
    return found


def loaded(roots: Iterable[UOp]) -> dict[Buffer, None]:
    """The storage that expressions load from, each once, in order."""
    nodes = reachable(roots, set())
    return {node.arg.storage: None for node in nodes if node.op is Ops.BUFFER}


def remove_dead_statements(program: Program) -> None:
    """Drops, in place, every statement that cannot influence an output."""
    everything = list(walk(program.root))
    owner_of = {body: s for _, s in everything for body in bodies(s)}
    block_of = {s: where for where, s in everything}
    breaks: dict[Statement, list[Statement]] = {}
    for where, s in everything:
        if isinstance(s, BreakUnless):
            breaks.setdefault(owner_of[where], []).append(s)
    needed = {b.storage for b in program.outputs}
    live: set[Statement] = set()
    seen: set[UOp] = set()

    def keep(statement: Statement) -> None:
        if statement in live:
            return
        live.add(statement)
        for node in reachable(operands(statement), seen):
            if node.op is Ops.BUFFER:
                needed.add(node.arg.storage)
        needed.update(b.storage for b in touched(statement))
        for stop in breaks.get(statement, ()):
            keep(stop)
        enclosing = owner_of.get(block_of[statement])
        if enclosing is not None:
            keep(enclosing)

    changed = True
    while changed:
        before = len(live)
        for _, s in reversed(everything):
            if s not in live and any(b.storage in needed for b in written(s)):
                keep(s)
        changed = len(live) != before
    for block in {program.root, *owner_of}:
        block.statements = [s for s in block.statements if s in live]


def _common_ancestor(a: Block | None, b: Block) -> Block:
    if a is None:
        return b
    while a is not b:
        if a.depth >= b.depth:
            assert a.parent is not None
            a = a.parent
        else:
            assert b.parent is not None
            b = b.parent
    return a


def schedule(program: Program) -> Schedule:
    """Places every live expression of `program`; dead statements are removed first."""
    remove_dead_statements(program)
    order = program.order
    loop_body = {s.variable: s.body for _, s in walk(program.root) if isinstance(s, For)}
    users: dict[UOp, list[tuple[Block, int]]] = {}
    seen: set[UOp] = set()
    nodes: list[UOp] = []
    for where, statement in walk(program.root):
        used = operands(statement)
        nodes.extend(reachable(used, seen))
        for node in used:
            users.setdefault(node, []).append((where, statement.order))
    nodes.sort(key=order.__getitem__)

    innermost: dict[UOp, Block] = {}
    for node in nodes:
        deepest = program.root
        if node.op is Ops.BUFFER:
            deepest = node.arg.scope or program.root
        elif node.op is Ops.RANGE:
            deepest = loop_body[node]
        for source in node.src:
            if innermost[source].depth > deepest.depth:
                deepest = innermost[source]
        innermost[node] = deepest

    block_of: dict[UOp, Block] = {}
    time: dict[UOp, int] = {}
    for node in reversed(nodes):
        home: Block | None = None
        for where, _ in users[node]:
            home = _common_ancestor(home, where)
        assert home is not None
        # A volatile value is read before anything overwrites it, whoever uses it later.
        home = innermost[node] if is_volatile(node) else _leave_loops(home, innermost[node])
        block_of[node] = home
        time[node] = min(order[node], *(_time_in(home, *use) for use in users[node]))
        for source in node.src:
            users.setdefault(source, []).append((home, time[node]))

    inlined = _choose_inlined(nodes, users, block_of)
    items: dict[Block, list[Item]] = {program.root: []}
    keyed: dict[Block, list[tuple[int, int, int, Item]]] = {program.root: []}
    for where, statement in walk(program.root):
        keyed.setdefault(where, []).append((statement.order, 1, statement.order, statement))
        for body in bodies(statement):
            keyed.setdefault(body, [])
    for node in nodes:
        if node not in inlined and not is_atom(node):
            keyed[block_of[node]].append((time[node], 0, order[node], node))
    for block, entries in keyed.items():
        entries.sort(key=lambda e: e[:3])
        items[block] = [e[3] for e in entries]
    return Schedule(items, inlined, block_of)


def is_atom(node: UOp) -> bool:
    """Nodes that are spelled, never computed: constants, counters, buffers, addresses."""
    return node.op in (Ops.CONST, Ops.RANGE, Ops.BUFFER, Ops.INDEX)


def is_volatile(node: UOp) -> bool:
    """A load of memory that is overwritten while its value may still be needed."""
    return node.op is Ops.LOAD and node.src[0].src[0].arg.mutable


def _leave_loops(home: Block, innermost: Block) -> Block:
    """The outermost block reachable from `home` by leaving loops only, within `innermost`."""
    best = home
    while home is not innermost and isinstance(home.owner, For | Forever):
        assert home.parent is not None
        home = best = home.parent
    return best


def _time_in(home: Block, where: Block, time: int) -> int:
    """When a use at `time` in block `where` happens, seen from the enclosing block `home`."""
    while where is not home:
        assert where.owner is not None
        assert where.parent is not None
        time, where = where.owner.order, where.parent
    return time


def _choose_inlined(
    nodes: list[UOp], users: dict[UOp, list[tuple[Block, int]]], block_of: dict[UOp, Block]
) -> set[UOp]:
    inlined: set[UOp] = set()
    depth: dict[UOp, int] = {}
    for node in nodes:
        if is_atom(node):
            inner = [depth.get(s, 0) for s in node.src if s in inlined or s.op is Ops.INDEX]
            depth[node] = max(inner, default=0)
            continue
        if is_volatile(node):
            continue
        if node.op is Ops.CUSTOM and node.arg in ("sin", "cos"):
            continue  # stays a value of its own, so that sin and cos of one angle can pair up
        inner = [depth.get(s, 0) for s in node.src if s in inlined or s.op is Ops.INDEX]
        depth[node] = 1 + max(inner, default=0)
        uses = users[node]
        if len(uses) > 1 and not _is_cheap_index(node):
            continue
        if depth[node] <= _MAX_INLINE_DEPTH and all(w is block_of[node] for w, _ in uses):
            inlined.add(node)
    return inlined


def _is_cheap_index(node: UOp) -> bool:
    """Index sums of counters and constants are folded into addresses; naming them helps nobody."""
    return dtype_name(node) == "index" and all(is_atom(s) for s in node.src)


def lifetimes(program: Program, plan: Schedule) -> list[Lifetime]:
    """When each intermediate's contents matter, in positions of one walk over the statements.

    A buffer that outlives a trip of a loop (its scope encloses the loop) is alive for the whole
    loop, whatever the order of its accesses inside.
    """
    begin: dict[Statement, int] = {}
    end: dict[Statement, int] = {}
    position = 0

    def number(block: Block) -> None:
        nonlocal position
        for s in block.statements:
            position += 1
            begin[s] = position
            for body in bodies(s):
                number(body)
            position += 1
            end[s] = position

    number(program.root)
    found: dict[Buffer, Lifetime] = {}

    def access(buffer: Buffer, where: Block, first: int, last: int) -> None:
        storage = buffer.storage
        if storage.space != "intermediate":
            return
        scope = storage.scope or program.root
        while where is not scope and where.parent is not None:
            owner = where.owner
            assert owner is not None
            if not isinstance(owner, Switch):
                first, last = min(first, begin[owner]), max(last, end[owner])
            where = where.parent
        life = found.setdefault(storage, Lifetime(storage, first, last))
        life.first, life.last = min(life.first, first), max(life.last, last)

    loads: dict[UOp, frozenset[Buffer]] = {}
    nothing: frozenset[Buffer] = frozenset()
    for node in sorted(plan.block_of, key=program.order.__getitem__):
        if node.op is Ops.BUFFER and node.arg.storage.space == "intermediate":
            loads[node] = frozenset((node.arg,))
        else:
            below = [loads[s] for s in node.src if loads[s]]
            loads[node] = below[0].union(*below[1:]) if below else nothing
    # Writes first: they meet the buffers in an order that does not depend on object identity.
    for where, s in walk(program.root):
        for buffer in touched(s):
            access(buffer, where, begin[s], end[s])
    for where, s in walk(program.root):
        for root in operands(s):
            for buffer in loads[root]:
                access(buffer, where, begin[s], begin[s])
    return sorted(found.values(), key=lambda life: (life.first, life.last))
