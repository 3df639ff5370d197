"""Axes that belong together: one axis followed through many operations.

Every axis of every value is a node; the lines of an operation join the nodes that run in parallel.
A group is *clean* if no operation mixes its slices, so that all of it can be removed at once: the
operations that its values pass through then do the same for every slice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anvil_jax.sparsity.maps.program import Operand, Program
from anvil_jax.sparsity.maps.unbatching.registry import Line, lines_of

type Node = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Group:
    """Axes that run in parallel.

    Attributes:
        extent: number of slices.
        values: place in each value, by (program, value).
        lines: what each operation does with the axis, by (program, position).
    """

    extent: int
    values: dict[tuple[int, int], int] = field(default_factory=dict)
    lines: dict[tuple[int, int], Line] = field(default_factory=dict)

    def of(self, number: int) -> dict[int, int]:
        """Place in the values of one program."""
        return {value: axis for (program, value), axis in self.values.items() if program == number}


class Axes:
    """Joins the axes of one or several programs."""

    def __init__(self) -> None:
        self._nodes: dict[Node, dict[int, Node]] = {}
        self._parents: dict[Node, Node] = {}
        self._extents: dict[Node, int] = {}
        self._lines: list[tuple[int, int, Line, Node]] = []
        self._mixed: list[Node] = []

    def add(
        self,
        number: int,
        program: Program,
        positions: Iterable[int],
        carried: Mapping[int, Any] | set[int] | None = None,
    ) -> None:
        """Reads operations.

        Args:
            number: distinguishes programs.
            program: the operations' program.
            positions: which of its operations.
            carried: values that have the same axes wherever they are used; None means all. Any
                other value may have other axes in each use.
        """
        for position in positions:
            op = program.ops[position]
            operands = [
                self._axes(program, v, self._use(number, position, k, v, carried))
                for k, v in enumerate(op.ins)
            ]
            results = [self._axes(program, v, ("v", number, v)) for v in op.outs]
            self._join(number, position, lines_of(program, op), (operands, results))

    def add_values(self, number: int, program: Program, values: Iterable[Operand]) -> None:
        """Reads values that no operation may touch."""
        for v in values:
            if isinstance(v, int):
                self._axes(program, v, ("v", number, v))

    def tie(self, first: tuple[int, Operand], second: tuple[int, Operand]) -> None:
        """Two values, of the same shape, by (program, operand), have the same axes."""
        nodes = self._nodes.get(("v", *first), {})
        for axis, other in self._nodes.get(("v", *second), {}).items():
            if axis in nodes:
                self._unite(nodes[axis], other)

    def mix(self, number: int, program: Program, value: int) -> None:
        """No axis of a value may be removed."""
        self._mixed += self._axes(program, value, ("v", number, value)).values()

    def groups(self) -> list[Group]:
        """The clean groups."""
        spoiled = {self._root(n) for n in self._mixed}
        found: dict[Node, Group] = {}
        for number, position, line, node in self._lines:
            root = self._root(node)
            group = found.setdefault(root, Group(self._extents[node]))
            if (number, position) in group.lines:
                spoiled.add(root)  # two axes of one operation
            group.lines[number, position] = line
        for node in self._parents:
            root = self._root(node)
            if node[0] == "v" and root not in spoiled:
                _, number, value, axis = node
                group = found.setdefault(root, Group(self._extents[node]))
                if group.values.setdefault((number, value), axis) != axis:
                    spoiled.add(root)
        return [group for root, group in found.items() if root not in spoiled]

    def _use(
        self, number: int, position: int, k: int, operand: Operand, carried: Any
    ) -> tuple[Any, ...]:
        if carried is None or operand in carried:
            return ("v", number, operand)
        return ("u", number, (position, k))

    def _axes(self, program: Program, operand: Operand, prefix: Node) -> dict[int, Node]:
        """The nodes of a value's axes; axes of extent one are none."""
        if prefix not in self._nodes:
            nodes = self._nodes[prefix] = {}
            for axis, extent in enumerate(program.shape(operand)):
                if extent != 1:
                    node = nodes[axis] = (*prefix, axis)
                    self._parents[node] = node
                    self._extents[node] = extent
        return self._nodes[prefix]

    def _join(
        self,
        number: int,
        position: int,
        lines: Sequence[Line],
        nodes: tuple[list[dict[int, Node]], list[dict[int, Node]]],
    ) -> None:
        """Unites the nodes on each line; those on no line are mixed by the operation."""
        operands, results = nodes
        every = [*operands, *results]
        covered = set()
        for line in lines:
            on_line = [
                every[k][axis] for k, axis in enumerate((*line.ins, *line.outs)) if axis is not None
            ]
            for other in on_line[1:]:
                self._unite(on_line[0], other)
            covered.update(on_line)
            self._lines.append((number, position, line, on_line[0]))
        for axes in every:
            self._mixed += [node for node in axes.values() if node not in covered]

    def _unite(self, a: Node, b: Node) -> None:
        self._parents[self._root(a)] = self._root(b)

    def _root(self, node: Node) -> Node:
        while self._parents[node] != node:
            self._parents[node] = self._parents[self._parents[node]]
            node = self._parents[node]
        return node
