"""Which operations are the same for every stage or element.

The *core* of a function is what lies between its affine parts: its nonlinear operations and what
connects them. Each connected component of the core is mapped over all axes that run through all of
it; a component without such an axis is left to the caller.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from anvil_jax.sparsity.maps.affine import Degree
from anvil_jax.sparsity.maps.axes import Axes, Group
from anvil_jax.sparsity.maps.program import MOVEMENT, Program

MAX_SHARED = 64
"""Elements that every instance may compute again because all instances share them."""

FREE_SHARED = 4
"""Such elements that are always accepted; more may not be more than an instance's own."""

MAX_INNER = 16
"""Elements per stage up to which stages are mapped as a whole, if other parts need whole stages."""

MAX_GROUPS = 8
"""Axes of one component that are tried."""

_HEAVY = {"scan", "map", "while", "custom_linear_solve", "lu", "cholesky", "svd", "eigh", "qr"}

type Labels = tuple[int | None, ...]


@dataclass(slots=True, eq=False)
class Map:
    """Operations that are mapped.

    Attributes:
        extents: of the mapped axes.
        positions: the operations.
        labels: place of each mapped axis in the operations' results.
        uses: the same for each of their operands, by (position, number of the operand).
    """

    extents: tuple[int, ...]
    positions: set[int] = field(default_factory=set)
    labels: dict[int, Labels] = field(default_factory=dict)
    uses: dict[tuple[int, int], Labels] = field(default_factory=dict)

    @property
    def trips(self) -> int:
        """Number of instances."""
        return math.prod(self.extents)

    def has(self, value: int) -> bool:
        """Whether every instance has a slice of its own of a value."""
        labels = self.labels.get(value)
        return labels is not None and None not in labels

    def without_inner(self) -> "Map":
        """The same mapped over the first axis only."""
        return Map(
            self.extents[:1],
            self.positions,
            {v: labels[:1] for v, labels in self.labels.items()},
            {use: labels[:1] for use, labels in self.uses.items()},
        )

    def joined(self, other: "Map") -> "Map | None":
        """Both in one, None if they are not mapped alike."""
        if self.extents != other.extents:
            return None
        if any(other.labels.get(v, labels) != labels for v, labels in self.labels.items()):
            return None
        return Map(
            self.extents,
            self.positions | other.positions,
            self.labels | other.labels,
            self.uses | other.uses,
        )


class Core:
    """The nonlinear part of a program.

    Attributes:
        program: all operations.
        degree: of every value.
        nonlinear: values that are not affine.
        positions: operations of the core.
        uses: operations that use each value.
        producers: the operation that computes each value.
        varying: values that are not the same in every call.
    """

    def __init__(self, program: Program, degree: dict[int, Degree], nonlinear: set[int]) -> None:
        self.program = program
        self.degree = degree
        self.nonlinear = {v for v, d in degree.items() if d is Degree.NONLINEAR}
        self.uses: dict[int, list[int]] = {}
        self.producers: dict[int, int] = {}
        self.varying: set[int] = set(program.inputs)
        for position, op in enumerate(program.ops):
            self.producers.update(dict.fromkeys(op.outs, position))
            for v in op.values:
                self.uses.setdefault(v, []).append(position)
            if not self.varying.isdisjoint(op.values):
                self.varying.update(op.outs)
        self.positions = self._between(nonlinear)

    def _between(self, nonlinear: set[int]) -> set[int]:
        """Nonlinear operations, and affine ones on a path between two of them."""
        found: set[int] = set()
        wanted: set[int] = set()
        for position in range(len(self.program.ops) - 1, -1, -1):
            op = self.program.ops[position]
            if position in nonlinear or not wanted.isdisjoint(op.outs):
                found.add(position)
                wanted.update(v for v in op.values if v in self.nonlinear)
        return found

    def components(self, positions: Iterable[int]) -> list[list[int]]:
        """Operations that are connected by nonlinear values, each in order."""
        parents = {p: p for p in positions}

        def root(p: int) -> int:
            while parents[p] != p:
                parents[p] = parents[parents[p]]
                p = parents[p]
            return p

        for position in parents:
            for v in self.program.ops[position].outs:
                for use in self.uses.get(v, ()):
                    if use in parents:
                        parents[root(use)] = root(position)
        found: dict[int, list[int]] = {}
        for position in sorted(parents):
            found.setdefault(root(position), []).append(position)
        return list(found.values())

    def size(self, position: int) -> int:
        """Elements, or products, that an operation computes."""
        op = self.program.ops[position]
        size = sum(self.program.avals[v].size for v in op.outs)
        if op.name in ("scan", "map"):
            (body,) = op.bodies
            inner = sum(body.avals[v].size for inner in body.ops for v in inner.outs)
            size += op.params["length"] * inner
        if op.name == "dot_general":
            (summed, _), _ = op.params["dimension_numbers"]
            size *= math.prod(self.program.shape(op.ins[0])[d] for d in summed)
        return size

    # ---- maps ----

    def maps(self, min_trips: int) -> tuple[list[Map], set[int]]:
        """The maps, and the operations of the core that belong to none."""
        waiting = self.components(self.positions)
        found: list[Map] = []
        remainder: set[int] = set()
        while waiting:
            component = waiting.pop()
            result = self._mapped(component, min_trips)
            if result is None:
                remainder.update(component)
                continue
            mapped, rest = result
            found.append(mapped)
            waiting += self.components(rest)
        return _merged(found, min_trips), remainder

    def _mapped(self, component: Sequence[int], min_trips: int) -> tuple[Map, set[int]] | None:
        """The best map of a component, and what is left of it."""
        axes = Axes()
        axes.add(0, self.program, component, self.nonlinear)
        groups = [g for g in axes.groups() if g.lines]
        groups.sort(key=lambda g: (-len(g.lines), self._place(g), -g.extent))
        groups = groups[:MAX_GROUPS]
        for first in groups:
            chosen, core = [first], _positions(first)
            shared = self._ancestors(core, component)
            if not self._is_cheap(shared, core, chosen):
                continue
            for other in groups:
                if other is first:
                    continue
                smaller = core & _positions(other)
                above = self._ancestors(smaller, component)
                more = [*chosen, other]
                if (
                    smaller
                    and core <= smaller | above
                    and self._is_cheap(above, smaller, more)
                    and self._is_worth(core | shared, chosen, smaller | above, more)
                ):
                    chosen, core, shared = more, smaller, above
            if math.prod(g.extent for g in chosen) < min_trips:
                continue
            return self.map(chosen, core, core | shared), self._left(component, core, shared)
        return None

    def _place(self, group: Group) -> int:
        """The axis in the first result that has it."""
        (_, position), line = min(group.lines.items(), key=lambda item: item[0])
        del position
        return next((a for a in (*line.outs, *line.ins) if a is not None), 0)

    def _ancestors(self, core: set[int], component: Sequence[int]) -> set[int]:
        """Operations of a component that the core needs."""
        wanted = {v for p in core for v in self.program.ops[p].values}
        found: set[int] = set()
        for position in reversed(component):
            op = self.program.ops[position]
            if position not in core and not wanted.isdisjoint(op.outs):
                found.add(position)
                wanted.update(op.values)
        return found

    def _is_cheap(self, shared: set[int], core: set[int], groups: Sequence[Group]) -> bool:
        """Whether every instance may compute the shared operations again."""
        if any(self.program.ops[p].name in _HEAVY for p in shared):
            return False
        trips = math.prod(g.extent for g in groups)
        repeated, own = (self._work(p, groups) // trips for p in (shared, core))
        return repeated <= FREE_SHARED or repeated <= min(own, MAX_SHARED)

    def _is_worth(
        self, before: set[int], groups: list[Group], after: set[int], more: list[Group]
    ) -> bool:
        """Whether mapping one more axis makes instances smaller without repeating much work."""
        extent = more[-1].extent
        growth = 1.25 if extent <= MAX_INNER else 2.0
        return self._work(after, more) <= growth * self._work(before, groups)

    def _work(self, positions: set[int], groups: Sequence[Group]) -> int:
        """Elements that all instances together compute."""
        trips = math.prod(g.extent for g in groups)
        return sum(
            trips * self.size(p) // math.prod(g.extent for g in groups if (0, p) in g.lines)
            for p in positions
            if self.program.ops[p].name not in MOVEMENT
        )

    def _left(self, component: Sequence[int], core: set[int], shared: set[int]) -> set[int]:
        """Operations outside the core whose results are needed elsewhere."""
        inside = core | shared
        results = {v for v in self.program.outs if isinstance(v, int)}
        left: set[int] = set()
        for position in reversed(component):
            if position in core:
                continue
            outs = self.program.ops[position].outs
            users = {use for v in outs for use in self.uses.get(v, ())}
            if position not in shared or users - inside or users & left or results & {*outs}:
                left.add(position)
        return left

    def above(self, value: int) -> list[int]:
        """The operations of the core that a value needs, in order."""
        wanted = {value}
        found = []
        for position in sorted(self.positions, reverse=True):
            op = self.program.ops[position]
            if not wanted.isdisjoint(op.outs):
                found.append(position)
                wanted.update(op.values)
        return found[::-1]

    def map(self, groups: list[Group], core: set[int], positions: set[int] | None = None) -> Map:
        """Operations mapped over axes.

        Args:
            groups: the axes.
            core: operations that have all of them.
            positions: all operations, among them those that instances share; `core` by default.
        """
        positions = core if positions is None else positions
        first = self.program.ops[min(core)].outs
        value = next((v for v in first if all((0, v) in g.values for g in groups)), None)
        if value is not None:
            groups = sorted(groups, key=lambda g: g.values[0, value])
        result = Map(tuple(g.extent for g in groups), set(positions))
        for position in positions:
            op = self.program.ops[position]
            lines = [g.lines.get((0, position)) for g in groups]
            for k in range(len(op.ins)):
                result.uses[position, k] = tuple(x and x.ins[k] for x in lines)
            for k, v in enumerate(op.outs):
                result.labels[v] = tuple(x and x.outs[k] for x in lines)
        return result


def _positions(group: Group) -> set[int]:
    return {position for _, position in group.lines}


def _merged(maps: list[Map], min_trips: int) -> list[Map]:
    """Fewer maps: those over the same axes are one."""
    inner: dict[int, set[tuple[int, ...]]] = {}
    for m in maps:
        if m.extents[0] >= min_trips and math.prod(m.extents[1:]) <= MAX_INNER:
            inner.setdefault(m.extents[0], set()).add(m.extents[1:])
    merged: list[Map] = []
    for m in maps:
        variants = inner.get(m.extents[0], ())
        if m.extents[1:] in variants and len(variants) > 1:
            m = m.without_inner()
        for k, other in enumerate(merged):
            both = other.joined(m)
            if both is not None:
                merged[k] = both
                break
        else:
            merged.append(m)
    return merged
