"""Loops, branches and linear solves: axes inside their bodies.

An axis runs through a body if it does so through every operation of it; what is carried from trip
to trip has the same axis at the beginning and at the end. A loop that carries nothing is itself a
map over its trips (`loops` makes it one).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anvil_jax.sparsity.maps.axes import Axes, Group
from anvil_jax.sparsity.maps.program import (
    Op,
    Operand,
    Program,
    scan_arity,
)
from anvil_jax.sparsity.maps.unbatching.registry import Layout, Line, drop_axis, register

_TRIPS = "trips"
"""Detail of the line along which a map runs."""


@dataclass(frozen=True, slots=True)
class Port:
    """Where an operand or result of the operation is found in the bodies.

    Attributes:
        values: (body, value) that all have the same axes.
        shift: 1 if the operand has one more leading axis, over trips.
    """

    values: tuple[tuple[int, Operand], ...]
    shift: int = 0


def _groups(bodies: Sequence[Program], ports: Sequence[Port], ignored: str) -> list[Group]:
    """Axes that run through the bodies."""
    axes = Axes()
    for number, body in enumerate(bodies):
        axes.add(number, body, [k for k, op in enumerate(body.ops) if op.name != ignored])
        left_out = [v for op in body.ops if op.name == ignored for v in (*op.ins, *op.outs)]
        axes.add_values(number, body, [*body.inputs, *body.outs, *left_out])
        for constant in body.constants:
            axes.mix(number, body, constant)
    for port in ports:
        for other in port.values[1:]:
            axes.tie(port.values[0], other)
    return axes.groups()


def _port_axis(port: Port, group: Group) -> int | None:
    number, value = port.values[0]
    axis = group.values.get((number, value)) if isinstance(value, int) else None
    return None if axis is None else axis + port.shift


def lines_through(
    bodies: Sequence[Program], ins: Sequence[Port], outs: Sequence[Port], ignored: str = ""
) -> list[Line]:
    """The axes of operands and results that run through all bodies.

    Args:
        bodies: the inner programs.
        ins: where the operands are found in them.
        outs: where the results are found.
        ignored: operations that the caller answers for.
    """
    lines = []
    for group in _groups(bodies, (*ins, *outs), ignored):
        operands = tuple(_port_axis(p, group) for p in ins)
        results = tuple(_port_axis(p, group) for p in outs)
        if any(a is not None for a in (*operands, *results)):
            lines.append(Line(operands, results, group))
    return lines


def without_axis(layout: Layout, line: Line) -> Op:
    """The operation with an axis removed from its bodies."""
    group: Group = line.detail
    bodies = tuple(drop_axis(body, group.of(k)) for k, body in enumerate(layout.op.bodies))
    return replace(layout.op, bodies=bodies, rebuilt=True)


# ------------------------------------------------------------------------------------ scan


def _scan_lines(layout: Layout) -> list[Line]:
    (body,) = layout.op.bodies
    constants, carried = scan_arity(layout.op.params)
    start = constants + carried
    fixed, state, own = body.inputs[:constants], body.inputs[constants:start], body.inputs[start:]
    ins = [Port(((0, v),)) for v in fixed]
    ins += [Port(((0, a), (0, b))) for a, b in zip(state, body.outs, strict=False)]
    ins += [Port(((0, v),), shift=1) for v in own]
    outs = [Port(((0, v),), shift=int(k >= carried)) for k, v in enumerate(body.outs)]
    return lines_through(layout.op.bodies, ins, outs)


register("scan", lines=_scan_lines, drop=without_axis)


# ------------------------------------------------------------------------------------- map


def _map_lines(layout: Layout) -> list[Line]:
    (body,) = layout.op.bodies
    mapped = layout.params["mapped"]
    ins = [Port(((0, v),), shift=int(m)) for v, m in zip(body.inputs, mapped, strict=True)]
    outs = [Port(((0, v),), shift=1) for v in body.outs]
    operands = tuple(0 if m else None for m in mapped)
    trips = Line(operands, (0,) * len(outs), _TRIPS)
    return [trips, *lines_through(layout.op.bodies, ins, outs)]


def _map(layout: Layout, line: Line) -> Op:
    if line.detail == _TRIPS:
        return replace(layout.op, name="inline", params={})
    return without_axis(layout, line)


register("map", lines=_map_lines, drop=_map)


def _inline_lines(layout: Layout) -> list[Line]:
    (body,) = layout.op.bodies
    ins = [Port(((0, v),)) for v in body.inputs]
    return lines_through(layout.op.bodies, ins, [Port(((0, v),)) for v in body.outs])


register("inline", lines=_inline_lines, drop=without_axis)


# ------------------------------------------------------------------------------------ cond


def _cond_lines(layout: Layout) -> list[Line]:
    """The predicate is the same for every slice."""
    bodies = layout.op.bodies
    ins = [Port(tuple(enumerate(vs))) for vs in zip(*(b.inputs for b in bodies), strict=True)]
    outs = [Port(tuple(enumerate(vs))) for vs in zip(*(b.outs for b in bodies), strict=True)]
    return [
        replace(line, ins=(None, *line.ins))
        for line in lines_through(bodies, ins, outs)
        if all(agrees(port, line) for port in (*ins, *outs))
    ]


def agrees(port: Port, line: Line) -> bool:
    """Whether an operand or result has the axis in all branches or in none."""
    axes = {line.detail.values.get((k, v)) if isinstance(v, int) else None for k, v in port.values}
    return len(axes) == 1


register("cond", lines=_cond_lines, drop=without_axis)


# ----------------------------------------------------------------------------- linear solve


def _solve_lines(layout: Layout) -> list[Line]:
    """Constants of four functions, then right-hand sides; all map such sides to such sides."""
    bodies = layout.op.bodies
    lengths, jaxprs = layout.params["const_lengths"], layout.params["jaxprs"]
    present = [n for n, jaxpr in zip(lengths, jaxprs, strict=True) if jaxpr is not None]
    if sum(present) != sum(lengths):
        return []
    ins = [
        Port(((k, body.inputs[c]),))
        for k, (body, count) in enumerate(zip(bodies, present, strict=True))
        for c in range(count)
    ]
    sides = [
        Port(
            tuple(
                pair
                for k, (body, count) in enumerate(zip(bodies, present, strict=True))
                for pair in ((k, body.inputs[count + j]), (k, body.outs[j]))
            )
        )
        for j in range(len(layout.outs))
    ]
    return [
        line
        for line in lines_through(bodies, [*ins, *sides], sides)
        if all(agrees(port, line) for port in sides)
    ]


register("custom_linear_solve", lines=_solve_lines, drop=without_axis)
