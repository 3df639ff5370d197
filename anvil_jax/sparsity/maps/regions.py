"""From maps of the core to regions: where a map begins and where it ends.

A map takes in the affine operations after it as long as they work slice by slice, so that it has
few results. It begins at the smallest set of affine values from which all that it needs can be
computed slice by slice (a minimum vertex cut), so that it has few inputs: a laplacian is computed
before the map, the parts of a state are taken from the state inside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from anvil_jax.sparsity.maps.affine import Degree
from anvil_jax.sparsity.maps.components import FREE_SHARED, Core, Labels, Map
from anvil_jax.sparsity.maps.program import MOVEMENT, Aval, Op, Operand, Program
from anvil_jax.sparsity.maps.unbatching.registry import Line, drop_axis, lines_of

_MAX_GROWTH = 32
"""Elements per instance up to which repeating results is part of an instance."""

_MAX_CONSTANT = 4096
"""Elements of a computed constant that every instance may make for itself."""

_WEIGHT = 16
_MAX_WEIGHT = 1 << 20
_UNCUT = 1 << 28

type Slice = tuple[int, Labels]
"""A value as seen by one instance: where the mapped axes are in it."""


def _is_shared(item: Slice) -> bool:
    return all(axis is None for axis in item[1])


# ----------------------------------------------------------------------------------- the end


def extend(core: Core, maps: Sequence[Map]) -> None:
    """Adds to each map the affine operations on its results that work slice by slice."""
    for position, op in enumerate(core.program.ops):
        if position in core.positions:
            continue
        nonlinear = [v for v in op.values if v in core.nonlinear]
        owner = next((m for m in maps if nonlinear and m.has(nonlinear[0])), None)
        if owner is None or not all(owner.has(v) for v in nonlinear):
            continue
        lines = _lines_through(core, op, owner)
        if lines is not None and not _grows(core, op, owner):
            owner.positions.add(position)
            for k in range(len(op.ins)):
                owner.uses[position, k] = tuple(line.ins[k] for line in lines)
            for k, v in enumerate(op.outs):
                owner.labels[v] = tuple(line.outs[k] for line in lines)


def _lines_through(core: Core, op: Op, owner: Map) -> list[Line] | None:
    """For each mapped axis, what an operation does with it; None if it mixes slices."""
    known = {
        k: owner.labels[v]
        for k, v in enumerate(op.ins)
        if isinstance(v, int) and v in core.nonlinear
    }
    lines = lines_of(core.program, op)
    found = []
    for dim in range(len(owner.extents)):
        for line in lines:
            if all(line.ins[k] == labels[dim] for k, labels in known.items()):
                break
        else:
            return None
        if None in line.outs:
            return None
        found.append(line)
    return found


def _grows(core: Core, op: Op, owner: Map) -> bool:
    """Whether an operation merely repeats what an instance has computed."""
    if op.name not in MOVEMENT:
        return False
    avals = core.program.avals
    before = sum(avals[v].size for v in op.values) // owner.trips
    after = sum(avals[v].size for v in op.outs) // owner.trips
    return after > max(2 * before, _MAX_GROWTH)


# --------------------------------------------------------------------------------- the beginning


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """What one instance of a map computes.

    Attributes:
        extents: of the mapped axes; empty for what is computed once.
        mapped: inputs of which every instance has a slice.
        shared: inputs that all instances have.
        results: values, in order of the body's results.
        body: the inputs' slices, then the shared values -> slices of the results.
    """

    extents: tuple[int, ...]
    mapped: tuple[Slice, ...]
    shared: tuple[int, ...]
    results: tuple[Slice, ...]
    body: Program


class _Needs:
    """The values an instance needs, and the affine operations that could compute them in it."""

    def __init__(self, core: Core, owner: Map) -> None:
        self.core = core
        self.owner = owner
        self.operands: dict[Slice, list[Slice]] = {}  # of the operation that computes a value
        self.wanted = self._wanted()
        self._follow()

    def _wanted(self) -> list[Slice]:
        """Values from outside."""
        found: dict[Slice, None] = {}
        for position in sorted(self.owner.positions):
            for k, v in enumerate(self.core.program.ops[position].ins):
                if isinstance(v, int) and v not in self.owner.labels:
                    found[v, self.owner.uses[position, k]] = None
        return list(found)

    def _follow(self) -> None:
        waiting = list(self.wanted)
        seen = set(waiting)
        while waiting:
            item = waiting.pop()
            operands = self.computed(item)
            if operands is None:
                continue
            self.operands[item] = operands
            for operand in operands:
                if operand not in seen:
                    seen.add(operand)
                    waiting.append(operand)

    def computed(self, item: Slice) -> list[Slice] | None:
        """The operands of an operation that may be part of the instance, None if it may not."""
        value, labels = item
        position = self.core.producers.get(value)
        if position is None:
            return None
        op = self.core.program.ops[position]
        uses = uses_through(self.core.program, op, op.outs.index(value), labels)
        if uses is None or (_is_shared(item) and not self._is_cheap(value)):
            return None
        return [(v, use) for v, use in zip(op.ins, uses, strict=True) if isinstance(v, int)]

    def _is_cheap(self, value: int) -> bool:
        """Whether every instance may compute something that all share."""
        if value not in self.core.varying:
            return self.core.program.avals[value].size <= _MAX_CONSTANT
        position = self.core.producers[value]
        is_free = self.core.program.ops[position].name in MOVEMENT
        small = is_free or self.core.size(position) <= FREE_SHARED
        return small and self.core.degree[value] is Degree.AFFINE

    # ---- minimum cut ----

    def inputs(self) -> list[Slice]:
        """The smallest set of values from which the instance can be computed."""
        items = list({s: None for k, v in self.operands.items() for s in (k, *v)})
        items = list(dict.fromkeys([*self.wanted, *items]))
        number = {item: k for k, item in enumerate(items)}
        count = len(items)
        source, sink = 2 * count, 2 * count + 1
        edges = {(2 * number[item] + 1, sink): _UNCUT for item in self.wanted}
        for item, k in number.items():
            edges[2 * k, 2 * k + 1] = self._capacity(item)
            operands = self.operands.get(item)
            if operands is not None:
                edges.update(dict.fromkeys(((2 * number[o] + 1, 2 * k) for o in operands), _UNCUT))
            elif not self._is_constant(item):
                edges[source, 2 * k] = _UNCUT
        reached = _reachable(edges, source, sink)
        return [item for item, k in number.items() if reached[2 * k] and not reached[2 * k + 1]]

    def _is_constant(self, item: Slice) -> bool:
        """Whether an array belongs to the body's own constants."""
        return item[0] in self.core.program.constants and _is_shared(item)

    def _capacity(self, item: Slice) -> int:
        """Elements per instance; what is shared is better computed before."""
        value, labels = item
        shape = self.core.program.avals[value].shape
        size = 1
        for axis, extent in enumerate(shape):
            size *= 1 if axis in labels else extent
        if value not in self.core.varying or self.core.degree[value] is Degree.INDEPENDENT:
            return min(size, _MAX_WEIGHT)
        weight = _WEIGHT * size
        if _is_shared(item):
            weight -= min(len(self.operands.get(item, ())), 1)
        return min(weight, _MAX_WEIGHT)


def uses_through(program: Program, op: Op, result: int, labels: Labels) -> list[Labels] | None:
    """Where the mapped axes are in the operands, None if an operation mixes slices."""
    lines = lines_of(program, op) if any(a is not None for a in labels) else ()
    chosen: list[Line | None] = []
    for axis in labels:
        line = next((x for x in lines if x.outs[result] == axis), None)
        if axis is not None and (line is None or None in line.outs):
            return None
        chosen.append(line if axis is not None else None)
    return [tuple(x and x.ins[k] for x in chosen) for k in range(len(op.ins))]


def _reachable(edges: dict[tuple[int, int], int], source: int, sink: int) -> np.ndarray:
    """Nodes on the source's side of the minimum cut that is closest to the source."""
    rows, cols = np.array(list(edges), np.int32).T
    capacities = np.array(list(edges.values()), np.int32)
    graph = csr_array(coo_array((capacities, (rows, cols)), shape=(sink + 1, sink + 1)))
    flow = maximum_flow(graph, source, sink).flow
    residual = csr_array(graph - flow)
    residual.data = (residual.data > 0).astype(np.int32)
    residual.eliminate_zeros()
    reached = np.zeros(sink + 1, bool)
    reached[breadth_first_order(residual, source, return_predecessors=False)] = True
    return reached


# -------------------------------------------------------------------------------------- the body


def instance(core: Core, owner: Map, results: Sequence[int]) -> Instance:
    """One instance of a map.

    Args:
        core: of the whole function.
        owner: the map.
        results: values that are needed outside.

    Raises:
        UnbatchingError: an operation mixes slices after all.
    """
    needs = _Needs(core, owner)
    inputs = needs.inputs() if needs.wanted else []
    builder = _Builder(core, owner, needs, inputs)
    wanted: list[Slice] = [(v, owner.labels[v]) for v in results]
    for item in wanted:
        builder.value(item)
    inputs.sort(key=_is_shared)  # mapped ones first
    body = builder.program(inputs, wanted).pruned()
    used = {v for op in body.ops for v in op.values} | {v for v in body.outs if isinstance(v, int)}
    kept = [s for s in inputs if builder.numbers[s] in used]
    return Instance(
        owner.extents,
        tuple(s for s in kept if not _is_shared(s)),
        tuple(s[0] for s in kept if _is_shared(s)),
        tuple(wanted),
        replace(body, inputs=tuple(builder.numbers[s] for s in kept)),
    )


class _Builder:
    """Collects the operations of one instance; a value may occur with several labels."""

    def __init__(self, core: Core, owner: Map, needs: _Needs, inputs: Iterable[Slice]) -> None:
        self.core = core
        self.owner = owner
        self.needs = needs
        self.numbers: dict[Slice, int] = {}
        self.ops: list[Op] = []
        self.constants: dict[int, object] = {}
        for item in inputs:
            self._number(item)

    def _number(self, item: Slice) -> int:
        return self.numbers.setdefault(item, len(self.numbers))

    def value(self, item: Slice) -> int:
        """The number of a value; the operations that compute it are added."""
        waiting = [item]
        while waiting:
            current = waiting[-1]
            missing = [o for o in self._operands(current) if o not in self.numbers]
            if current in self.numbers or not missing:
                waiting.pop()
                self._add(current)
            else:
                waiting += missing
        return self.numbers[item]

    def _uses(self, item: Slice) -> Sequence[Labels]:
        """Labels of the operands of the operation that computes a value."""
        value, labels = item
        position = self.core.producers[value]
        op = self.core.program.ops[position]
        if value in self.owner.labels:
            return [self.owner.uses[position, k] for k in range(len(op.ins))]
        uses = uses_through(self.core.program, op, op.outs.index(value), labels)
        assert uses is not None
        return uses

    def _operands(self, item: Slice) -> list[Slice]:
        value = item[0]
        if item in self.numbers or value not in self.core.producers:
            return []
        op = self.core.program.ops[self.core.producers[value]]
        return [
            (v, use) for v, use in zip(op.ins, self._uses(item), strict=True) if isinstance(v, int)
        ]

    def _add(self, item: Slice) -> None:
        if item in self.numbers:
            return
        value = item[0]
        if value in self.core.program.constants:
            self.constants[self._number(item)] = self.core.program.constants[value]
            return
        op = self.core.program.ops[self.core.producers[value]]
        uses = self._uses(item)
        ins: tuple[Operand, ...] = tuple(
            self.numbers[v, use] if isinstance(v, int) else v
            for v, use in zip(op.ins, uses, strict=True)
        )
        outs = tuple(self._number((v, self._out_labels(v, item))) for v in op.outs)
        self.ops.append(replace(op, ins=ins, outs=outs))

    def _out_labels(self, value: int, item: Slice) -> Labels:
        """Labels of another result of the operation that computes a value."""
        if value == item[0] or value in self.owner.labels:
            return item[1] if value == item[0] else self.owner.labels[value]
        op = self.core.program.ops[self.core.producers[value]]
        first, this = op.outs.index(item[0]), op.outs.index(value)
        lines = lines_of(self.core.program, op)
        return tuple(
            None if axis is None else next(x.outs[this] for x in lines if x.outs[first] == axis)
            for axis in item[1]
        )

    def program(self, inputs: Sequence[Slice], results: Sequence[Slice]) -> Program:
        """The instance, without the mapped axes."""
        avals: dict[int, Aval] = {
            n: self.core.program.avals[v] for (v, _), n in self.numbers.items()
        }
        program = Program(
            avals,
            self.constants,
            tuple(self.numbers[s] for s in inputs),
            tuple(self.ops),
            tuple(self.numbers[s] for s in results),
        )
        dropped: dict[int, list[int]] = {n: [] for n in avals}
        for dim in range(len(self.owner.extents)):
            axes = {}
            for (_, labels), n in self.numbers.items():
                axis = labels[dim]
                if axis is not None:
                    axes[n] = axis - sum(a < axis for a in dropped[n])
                    dropped[n].append(axis)
            program = drop_axis(program, axes)
        return program
