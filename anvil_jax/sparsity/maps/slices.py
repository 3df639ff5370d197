"""Parts of mapped results, recomputed: a slice of a map is a shorter map.

Direct collocation evaluates the dynamics once at all nodes and uses them at both ends of every
interval, in nonlinear functions again. No axis runs through that, as slicing mixes instances. After
the dynamics at the left ends and at the right ends are two maps over intervals, one does.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from anvil_jax.sparsity.maps.axes import Axes
from anvil_jax.sparsity.maps.components import Core
from anvil_jax.sparsity.maps.loops import Rewriter
from anvil_jax.sparsity.maps.program import Op, Operand, Program, evaluate
from anvil_jax.sparsity.maps.regions import Instance, instance
from anvil_jax.sparsity.maps.unbatching.registry import UnbatchingError

_MAX_SLICES = 3
"""Slices of one value up to which it is computed again for each."""

_MAX_VALUES = 16
"""Sliced values up to which it is tried; programs with more are stencils of stencils."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """A contiguous part of a value along one axis."""

    value: int
    axis: int
    start: int
    stop: int


def with_shorter_maps(core: Core, positions: Collection[int], min_trips: int) -> Program | None:
    """The program with slices of mapped values computed from slices, None if there are none.

    Args:
        core: of the program.
        positions: operations of the core that are looked at.
        min_trips: slices with fewer elements are no maps.
    """
    found = {p: s for p in positions if (s := _slice(core, core.program.ops[p], min_trips))}
    uses: dict[tuple[int, int], set[_Slice]] = {}
    for s in found.values():
        uses.setdefault((s.value, s.axis), set()).add(s)
    if len(uses) > _MAX_VALUES:
        return None
    instances = {
        key: one
        for key, slices in uses.items()
        if len(slices) <= _MAX_SLICES and (one := _instance(core, *key)) is not None
    }
    if not instances:
        return None
    rewriter = Rewriter(core.program)
    aliases: dict[int, Operand] = {}
    for position, op in enumerate(core.program.ops):
        s = found.get(position)
        one = instances.get((s.value, s.axis)) if s else None
        if s is None or one is None:
            rewriter.ops.append(op)
            continue
        operands = [v for v, _ in one.mapped] + list(one.shared)
        (aliases[op.outs[0]],) = rewriter.call(_shorter(one, s), *operands)
    return rewriter.finished(core.program, aliases)


def _slice(core: Core, op: Op, min_trips: int) -> _Slice | None:
    """A slice of a nonlinear value that has at least half of it."""
    if op.name != "slice" or op.ins[0] not in core.nonlinear:
        return None
    (value,) = op.values
    old, new = core.program.shape(value), core.program.shape(op.outs[0])
    cut = [d for d in range(len(old)) if old[d] != new[d]]
    if len(cut) != 1 or any(n != 1 for n in op.params["strides"] or ()):
        return None
    (axis,) = cut
    if new[axis] < max(min_trips, old[axis] / 2):
        return None
    start, stop = op.params["start_indices"][axis], op.params["limit_indices"][axis]
    return _Slice(value, axis, int(start), int(stop))


def _instance(core: Core, value: int, axis: int) -> Instance | None:
    """One element, along an axis, of a value; None if elements cannot be computed one by one."""
    above = core.above(value)
    axes = Axes()
    axes.add(0, core.program, above, core.nonlinear)
    group = next((g for g in axes.groups() if g.values.get((0, value)) == axis), None)
    if group is None:
        return None
    try:
        return instance(core, core.map([group], set(above)), [value])
    except UnbatchingError:
        return None


def _shorter(one: Instance, part: _Slice) -> Any:
    """The part of the value as a function of the instance's whole operands."""

    def function(*arrays: Any) -> list[Any]:
        sliced = [
            x if axis is None else lax.slice_in_dim(x, part.start, part.stop, axis=axis)
            for x, axis in zip(arrays, axes, strict=True)
        ]
        if all(axis is None for axis in axes):
            (result,) = evaluate(one.body, sliced)
            shape = (part.stop - part.start, *jnp.shape(result))
            return [jnp.moveaxis(jnp.broadcast_to(result, shape), 0, part.axis)]
        mapped = jax.vmap(lambda *x: evaluate(one.body, x)[0], axes, part.axis)
        return [mapped(*sliced)]

    axes: Sequence[int | None] = [
        *(labels[0] for _, labels in one.mapped),
        *(None for _ in one.shared),
    ]
    return function
