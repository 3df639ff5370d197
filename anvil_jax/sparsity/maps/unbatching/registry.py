"""Which axes an operation carries through unchanged, and the operation without such an axis.

An axis of a result that is computed slice by slice from an axis of the operands is a `Line`: the
operation on arrays is the operation on slices, done for every slice. A rule lists the lines of a
primitive and gives the parameters of the operation on slices. Axes on no line mix their slices.
A primitive without a rule has no lines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anvil_jax.sparsity.maps.program import ELEMENTWISE, Aval, Op, Program, Shape


@dataclass(frozen=True, slots=True)
class Line:
    """One axis that an operation carries through.

    Attributes:
        ins: its place in each operand, None where every slice uses the whole operand.
        outs: its place in each result, None where the result is the same for every slice.
        detail: what the rule needs to remove it.
    """

    ins: tuple[int | None, ...]
    outs: tuple[int | None, ...]
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Layout:
    """An operation as a rule sees it."""

    op: Op
    ins: tuple[Shape, ...]
    outs: tuple[Shape, ...]

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters of the primitive."""
        return self.op.params


type Lines = Callable[[Layout], Sequence[Line]]
type Drop = Callable[[Layout, Line], Op]
type Parameters = Callable[[Layout, Line], Mapping[str, Any]]

_RULES: dict[str, tuple[Lines, Drop]] = {}


def register(*names: str, lines: Lines, drop: Drop) -> None:
    """Adds a rule for primitives of these names."""
    for name in names:
        _RULES[name] = (lines, drop)


def changing(parameters: Parameters) -> Drop:
    """A rule that only replaces some parameters."""

    def drop(layout: Layout, line: Line) -> Op:
        return replace(layout.op, params={**layout.params, **parameters(layout, line)})

    return drop


def unchanged(layout: Layout, line: Line) -> Op:
    """The rule of operations whose parameters name no axis."""
    del line
    return layout.op


def lines_of(program: Program, op: Op) -> Sequence[Line]:
    """The axes of extent two or more that an operation carries through."""
    rule = _RULES.get(op.name)
    if rule is None:
        return ()
    layout = Layout(op, program.shapes(op.ins), program.shapes(op.outs))
    return [line for line in rule[0](layout) if _extent(layout, line) > 1]


def _extent(layout: Layout, line: Line) -> int:
    for shapes, axes in ((layout.outs, line.outs), (layout.ins, line.ins)):
        for shape, axis in zip(shapes, axes, strict=True):
            if axis is not None:
                return shape[axis]
    return 0


class UnbatchingError(Exception):
    """An axis is not carried through; nobody outside this package sees it."""


def drop_axis(program: Program, axes: Mapping[int, int]) -> Program:
    """One instance of a program that does the same for every slice.

    Args:
        program: any program.
        axes: place of the axis in each value that has it, among them all that are computed from
            such values.

    Raises:
        UnbatchingError: an operation does not carry the axis through.
    """
    if any(v in axes for v in program.constants):
        raise UnbatchingError("a constant differs between instances")
    ops = [_dropped(program, op, axes) for op in program.ops]
    avals: dict[int, Aval] = {v: a.without(axes.get(v)) for v, a in program.avals.items()}
    return replace(program, avals=avals, ops=tuple(ops))


def _dropped(program: Program, op: Op, axes: Mapping[int, int]) -> Op:
    ins = tuple(axes.get(v) if isinstance(v, int) else None for v in op.ins)
    outs = tuple(axes.get(v) for v in op.outs)
    if op.name == "self" or all(a is None for a in (*ins, *outs)):
        return op  # a function's call of itself is freed of the axis with the function
    for line in lines_of(program, op):
        if line.ins == ins and line.outs == outs:
            layout = Layout(op, program.shapes(op.ins), program.shapes(op.outs))
            return _RULES[op.name][1](layout, line)
    raise UnbatchingError(f"{op.name} does not carry axes {ins} to {outs}")


def less(axes: Sequence[int], removed: int | None) -> tuple[int, ...]:
    """Axes without one of them, renumbered."""
    if removed is None:
        return tuple(int(a) for a in axes)
    return tuple(int(a) - (a > removed) for a in axes if a != removed)


def without(items: Sequence[Any], axis: int) -> tuple[Any, ...]:
    """Per-axis items without those of one axis."""
    return (*items[:axis], *items[axis + 1 :])


def _elementwise_lines(layout: Layout) -> list[Line]:
    (shape,) = layout.outs
    return [
        Line(tuple(axis if len(s) else None for s in layout.ins), (axis,))
        for axis in range(len(shape))
    ]


register(*ELEMENTWISE, lines=_elementwise_lines, drop=unchanged)
