"""Regions and epilogue as jaxprs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Jaxpr, jaxpr_as_fun

from anvil_jax.sparsity.maps.affine import Degree, all_affine, degrees
from anvil_jax.sparsity.maps.components import FREE_SHARED, Core, Map
from anvil_jax.sparsity.maps.normalise import normalised
from anvil_jax.sparsity.maps.program import (
    Op,
    Program,
    look_up,
    read,
    run,
    to_jaxpr,
    trace,
)
from anvil_jax.sparsity.maps.regions import Instance, Slice, extend, instance
from anvil_jax.sparsity.maps.slices import with_shorter_maps
from anvil_jax.sparsity.maps.unbatching import load
from anvil_jax.sparsity.maps.unbatching.custom import with_derivative_rules
from anvil_jax.sparsity.maps.unbatching.registry import UnbatchingError

load()


@dataclass(frozen=True, eq=False)
class Region:
    """The same small function for every stage, element or stencil point.

    Attributes:
        trips: number of instances.
        prologue: closed; all inputs of the function -> arrays with a leading axis of `trips`, then
            arrays that all instances share.
        n_mapped: how many of the prologue's outputs have that axis.
        body: closed; one slice of each mapped array, then the shared arrays -> results of one
            instance.
    """

    trips: int
    prologue: Jaxpr
    n_mapped: int
    body: Jaxpr


@dataclass(frozen=True, eq=False)
class Split:
    """A function as ``epilogue(inputs, [vmap(body)(prologue(inputs)) for every region])``.

    Prologues are affine in the differentiated inputs, and the epilogue is affine in those and in
    the regions' results; coefficients depend on the other inputs only.

    Attributes:
        regions: in any order; one that is computed once has a single trip.
        epilogue: closed; all inputs of the function, then the results of each region's body,
            stacked along a leading axis -> outputs of the function.
    """

    regions: tuple[Region, ...]
    epilogue: Jaxpr


def split_maps(jaxpr: Jaxpr, wrt: Sequence[int], *, min_trips: int = 4) -> Split | None:
    """Finds maps in a function.

    Args:
        jaxpr: closed and flat.
        wrt: the differentiated inputs.
        min_trips: instances below which something is no map.

    Returns:
        The function in parts; None if no part of it is a map, if parts of it are nonlinear
        functions of one another, or if most of its work belongs to no map.
    """
    if jaxpr.effects or not wrt:
        return None
    with jax.enable_x64(True):
        try:
            return _split(jaxpr, wrt, min_trips)
        except UnbatchingError:
            return None


def recompose(split: Split) -> Callable[..., list[Any]]:
    """The function that was split, as its parts say."""
    epilogue = jaxpr_as_fun(split.epilogue)

    def function(*args: Any) -> list[Any]:
        results = [y for region in split.regions for y in run_region(region, args)]
        return epilogue(*args, *results)

    return function


def run_region(region: Region, args: Sequence[Any]) -> list[Any]:
    """The results of all instances of a region, stacked."""
    values = jaxpr_as_fun(region.prologue)(*args)
    axes = tuple(0 if k < region.n_mapped else None for k in range(len(values)))
    body = jaxpr_as_fun(region.body)
    if not values:
        return [jnp.broadcast_to(y, (region.trips, *jnp.shape(y))) for y in body()]
    return jax.vmap(body, in_axes=axes, axis_size=region.trips)(*values)


# ------------------------------------------------------------------------------------- splitting


def _split(jaxpr: Jaxpr, wrt: Sequence[int], min_trips: int) -> Split | None:
    core, maps, remainder = _maps(jaxpr, wrt, min_trips)
    if not maps or _work(core, remainder) > sum(_work(core, m.positions) for m in maps):
        return None
    if remainder:
        maps.append(_once(core, remainder))
    extend(core, maps)
    results = _results(core, maps)
    if results is None:
        return None
    instances = [instance(core, m, v) for m, v in zip(maps, results, strict=True) if v]
    if any(_is_dense(core, one) for one in instances):
        return None
    regions = tuple(_region(core.program, one) for one in instances)
    split = Split(regions, _epilogue(core.program, instances))
    return split if _is_affine(split, wrt, len(core.program.inputs)) else None


def _maps(jaxpr: Jaxpr, wrt: Sequence[int], min_trips: int) -> tuple[Core, list[Map], set[int]]:
    """The function's core, its maps, and what belongs to no map."""
    program = read(jaxpr).pruned()
    inputs = [Degree.AFFINE if k in wrt else Degree.INDEPENDENT for k in range(len(program.inputs))]
    core = _core(program, inputs, min_trips)
    maps, remainder = core.maps(min_trips)
    shorter = with_shorter_maps(core, remainder, min_trips) if remainder else None
    if shorter is None:
        return core, maps, remainder
    other = _core(shorter, inputs, min_trips)
    more, less = other.maps(min_trips)
    better = more and _work(other, less) < _work(core, remainder)
    return (other, more, less) if better else (core, maps, remainder)


def _core(program: Program, inputs: Sequence[Degree], min_trips: int) -> Core:
    program = normalised(program, inputs, min_trips)
    degree, nonlinear = degrees(program, inputs)
    return Core(with_derivative_rules(program, sorted(nonlinear)), degree, nonlinear)


def _work(core: Core, positions: set[int]) -> int:
    return sum(core.size(p) for p in positions)


def _is_dense(core: Core, one: Instance) -> bool:
    """Whether all instances depend on about as many variables as there are instances."""
    shared = sum(core.program.avals[v].size for v in one.shared if core.degree[v])
    return bool(one.extents) and shared > FREE_SHARED and shared >= math.prod(one.extents)


def _once(core: Core, positions: set[int]) -> Map:
    """What belongs to no map, as a map over no axis."""
    result = Map((), set(positions))
    for position in positions:
        op = core.program.ops[position]
        result.labels.update(dict.fromkeys(op.outs, ()))
        result.uses.update({(position, k): () for k in range(len(op.ins))})
    return result


def _results(core: Core, maps: Sequence[Map]) -> list[list[int]] | None:
    """The values of each map that are needed outside of it."""
    found: list[dict[int, None]] = [{} for _ in maps]
    waiting = [v for v in core.program.outs if isinstance(v, int)]
    seen = set(waiting)
    while waiting:
        value = waiting.pop()
        owner = next((k for k, m in enumerate(maps) if m.has(value)), None)
        if value in core.nonlinear and owner is not None:
            found[owner][value] = None
            continue
        position = core.producers.get(value)
        if position is None:
            continue
        if position in core.positions:
            return None
        for v in core.program.ops[position].values:
            if v not in seen:
                seen.add(v)
                waiting.append(v)
    return [sorted(values) for values in found]


def _is_affine(split: Split, wrt: Sequence[int], inputs: int) -> bool:
    results = range(inputs, len(split.epilogue.in_avals))
    return all_affine(split.epilogue, {*wrt, *results}) and all(
        all_affine(region.prologue, set(wrt)) for region in split.regions
    )


# ------------------------------------------------------------------------------------ the parts


def _region(program: Program, one: Instance) -> Region:
    trips = math.prod(one.extents)
    values = [*(v for v, _ in one.mapped), *one.shared]
    ops = _needed(program, values, set())

    def prologue(*args: Any) -> list[Any]:
        env = _inputs(program, args)
        run(ops, env)
        mapped = [_stacked(env[v], labels, one.extents) for v, labels in one.mapped]
        return [*mapped, *(env[v] for v in one.shared)]

    structs = [program.avals[v].struct() for v in program.inputs]
    return Region(trips, trace(prologue, structs), len(one.mapped), to_jaxpr(one.body))


def _epilogue(program: Program, instances: Sequence[Instance]) -> Jaxpr:
    given: list[tuple[Slice, Instance]] = [(s, one) for one in instances for s in one.results]
    outs = [v for v in program.outs if isinstance(v, int)]
    ops = _needed(program, outs, {v for (v, _), _ in given})
    count = len(program.inputs)

    def epilogue(*args: Any) -> list[Any]:
        env = _inputs(program, args[:count])
        for ((value, labels), one), array in zip(given, args[count:], strict=True):
            env[value] = _unstacked(array, labels, one.extents)
        run(ops, env)
        return [look_up(v, env) for v in program.outs]

    structs = [program.avals[v].struct() for v in program.inputs]
    for (value, labels), one in given:
        aval = program.avals[value]
        rest = tuple(n for d, n in enumerate(aval.shape) if d not in labels)
        structs.append(jax.ShapeDtypeStruct((math.prod(one.extents), *rest), aval.dtype))
    return trace(epilogue, structs)


def _inputs(program: Program, args: Sequence[Any]) -> dict[int, Any]:
    return {**program.constants, **dict(zip(program.inputs, args, strict=True))}


def _needed(program: Program, values: Sequence[int], given: set[int]) -> list[Op]:
    """The operations that compute values from the inputs and from given values."""
    wanted = set(values) - given
    ops = []
    for op in reversed(program.ops):
        if not wanted.isdisjoint(op.outs):
            ops.append(op)
            wanted.update(v for v in op.values if v not in given)
    return ops[::-1]


def _stacked(array: Any, labels: Sequence[int | None], extents: Sequence[int]) -> Any:
    """With the mapped axes as one leading axis, of which every instance has an element."""
    present = [a for a in labels if a is not None]
    rest = [d for d in range(array.ndim) if d not in present]
    shape = tuple(array.shape[d] for d in rest)
    order = (*present, *rest)
    if order != tuple(range(array.ndim)):
        array = lax.transpose(array, order)
    if len(present) < len(extents):
        kept = [k for k, a in enumerate(labels) if a is not None]
        tail = range(len(extents), len(extents) + len(rest))
        array = lax.broadcast_in_dim(array, (*extents, *shape), (*kept, *tail))
    if len(extents) == 1:
        return array
    return lax.reshape(array, (math.prod(extents), *shape))


def _unstacked(array: Any, labels: Sequence[int | None], extents: Sequence[int]) -> Any:
    """The mapped axes in their places again."""
    places = [a for a in labels if a is not None]
    if len(extents) != 1:
        array = lax.reshape(array, (*extents, *array.shape[1:]))
    rest = iter(range(len(places), array.ndim))
    order = [places.index(d) if d in places else next(rest) for d in range(array.ndim)]
    if order != list(range(array.ndim)):
        array = lax.transpose(array, order)
    return array
