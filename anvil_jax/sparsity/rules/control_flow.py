"""Loops and branches."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn

from anvil_jax.sparsity.algebra import assembled, everything, nonlinear, one_of
from anvil_jax.sparsity.loops import (
    census,
    live_rows,
    read_loop,
    split_rows,
    trips,
)
from anvil_jax.sparsity.rows import Rows, closure, empty, identity, product, stacked
from anvil_jax.sparsity.rules.registry import out_shapes, register, united, value_only
from anvil_jax.sparsity.structure import (
    Known,
    Tangent,
    Value,
    tangents_of,
)

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation

MAX_STEPS = 100_000
"""Equations up to which a loop whose counter is known is followed trip by trip."""

MAX_VALUE_STEPS = 3_000
"""The same for loops in which only floating-point constants change from trip to trip."""

_INDEXING = {
    "cond", "dynamic_slice", "dynamic_update_slice", "gather", "scatter", "scatter-add",
    "scatter-mul", "scatter-sub", "select_n",
}  # fmt: skip
"""Primitives that know more when a loop counter does."""

value_only("platform_index")


# -------------------------------------------------------------------------------------- branches


@register("cond", walks=True)
def cond(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> Sequence[Value]:
    """The branch that is taken where that is known, else the union of all."""
    which, *rest = operands
    branches: Sequence[Jaxpr] = eqn.params["branches"]
    if isinstance(which, Known) and which.mask is None:
        index = min(max(int(which.values), 0), len(branches) - 1)
        return trace.run(branches[index], rest)
    outcomes = [trace.run(branch, rest) for branch in branches]
    results: list[Value] = []
    for k, shape in enumerate(out_shapes(eqn)):
        cases = [outcome[k] for outcome in outcomes]
        value = one_of(cases, shape)
        if isinstance(which, Tangent):
            spread = everything([which], shape)
            value = nonlinear([*tangents_of([value]), spread], shape)
        results.append(value)
    return results


# -------------------------------------------------------------------------------------- scan


@register("scan", walks=True)
def scan(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> Sequence[Value]:
    """A counted loop: read once and composed, or trip by trip where a known counter matters."""
    if not any(isinstance(v, Tangent) for v in operands):
        return [None] * len(eqn.outvars)
    constants, carried = _scan_arity(eqn)
    body: Jaxpr = eqn.params["jaxpr"]
    length = eqn.params["length"]
    changing = [v for v in operands[constants:] if isinstance(v, Known)]
    if length and _worth_following(body, changing, length):
        return _followed(trace, eqn, operands, constants, carried)
    return _composed(trace, eqn, operands, constants, carried)


def _scan_arity(eqn: JaxprEqn) -> tuple[int, int]:
    """Number of constants and of carried operands."""
    if "num_consts" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    constants, carry, _ = eqn.params["ft_in"].unpack()
    return len(constants), len(carry)


def _worth_following(body: Jaxpr, changing: Sequence[Known], length: int) -> bool:
    """Whether known operands that change from trip to trip are worth reading every trip."""
    if not changing:
        return False
    names, count = census(body)
    if length * count <= MAX_VALUE_STEPS:
        return True
    counts = any(v.values.dtype.kind in "iub" for v in changing)
    return counts and not names.isdisjoint(_INDEXING) and length * count <= MAX_STEPS


def _order(eqn: JaxprEqn) -> range:
    length = eqn.params["length"]
    return range(length - 1, -1, -1) if eqn.params["reverse"] else range(length)


def _followed(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value], constants: int, carried: int
) -> list[Value]:
    """Trip by trip, with what is known about the carry and the operands of the trip."""
    body: Jaxpr = eqn.params["jaxpr"]
    fixed, xs = operands[:constants], operands[constants + carried :]
    carry: Sequence[Value] = operands[constants : constants + carried]
    collected: list[list[Value]] = [[] for _ in eqn.outvars[carried:]]
    for trip in _order(eqn):
        results = trace.run(body, [*fixed, *carry, *(_row(x, trip) for x in xs)])
        carry = results[:carried]
        for rows, value in zip(collected, results[carried:], strict=True):
            rows.append(value)
    stacks = [_stack(rows, eqn) for rows in collected]
    return [*carry, *stacks]


def _row(value: Value, trip: int) -> Value:
    if value is None:
        return None
    return assembled([value], [value.shape], lambda arrays: arrays[0][trip])


def _stack(rows: list[Value], eqn: JaxprEqn) -> Value:
    """Results of the trips along a new first axis."""
    if eqn.params["reverse"]:
        rows = rows[::-1]
    shape = next((v.shape for v in rows if v is not None), None)
    if shape is None:
        return None
    return assembled(rows, [shape] * len(rows), lambda arrays: np.stack(arrays))


def _composed(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value], constants: int, carried: int
) -> list[Value]:
    """The body read once, and its matrix multiplied with itself."""
    jaxpr: Jaxpr = eqn.params["jaxpr"]
    state = range(constants, constants + carried)
    always = [
        v if k < constants or isinstance(v, Tangent) else None for k, v in enumerate(operands)
    ]
    body = read_loop(trace, jaxpr, always, constants, carried)
    sizes = [math.prod(getattr(v.aval, "shape", ())) for v in jaxpr.outvars]
    live = [body.live[k] for k in state]
    kept = [k for k in range(carried) if live[k]]
    produced = [k for k in range(carried, len(sizes)) if isinstance(body.results[k], Tangent)]
    per_trip = [v for v in operands[constants + carried :] if isinstance(v, Tangent)]

    def rows(trip: int) -> Rows:
        return stacked([t.rows() for t in tangents_of([_row(x, trip) for x in per_trip])])

    final, others = trips(
        body.rows([*kept, *produced], [sizes[k] for k in (*kept, *produced)]),
        live_rows(operands, body, range(constants), trace.columns),
        stacked([empty(0, trace.columns), *live_rows(operands, body, state, trace.columns)]),
        rows if per_trip else None,
        _order(eqn),
    )
    shapes = out_shapes(eqn)
    ys = _by_trip(others[::-1] if eqn.params["reverse"] else others, [sizes[k] for k in produced])
    results = split_rows(final, live, shapes[:carried])
    for k, shape in enumerate(shapes[carried:], carried):
        ids = next(ys, None) if k in produced else None
        results.append(None if ids is None else Tangent(ids[0], ids[1].reshape(shape)))
    return results


def _by_trip(trips: Sequence[Rows], sizes: Sequence[int]) -> Iterator[tuple[Rows, np.ndarray]]:
    """The rows of each result in all trips, and their numbers."""
    if not trips:
        return
    base = stacked(trips)
    step, position = sum(sizes), 0
    for size in sizes:
        yield base, position + np.arange(len(trips))[:, None] * step + np.arange(size)
        position += size


# -------------------------------------------------------------------------------------- while


@register("while", walks=True)
def while_loop(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> Sequence[Value]:
    """A loop: trip by trip while the condition is known, else the closure of its body."""
    if not any(isinstance(v, Tangent) for v in operands):
        return [None] * len(eqn.outvars)
    first = eqn.params["cond_nconsts"]
    split = first + eqn.params["body_nconsts"]
    condition: Jaxpr = eqn.params["cond_jaxpr"]
    body: Jaxpr = eqn.params["body_jaxpr"]
    limit = MAX_STEPS // max(1, census(body)[1] + census(condition)[1])
    carry: Sequence[Value] = operands[split:]
    for _ in range(limit):
        (go_on,) = trace.run(condition, [*operands[:first], *carry])
        if isinstance(go_on, Tangent):
            return united(eqn, operands)
        if go_on is None or go_on.mask is not None:
            break
        if not go_on.values.any():
            return carry
        carry = trace.run(body, [*operands[first:split], *carry])
    return _unbounded(trace, body, operands[first:split], carry)


def _unbounded(
    trace: "Propagation", jaxpr: Jaxpr, constants: Sequence[Value], carry: Sequence[Value]
) -> list[Value]:
    """The union over any number of trips."""
    operands = [*constants, *carry]
    always = [*constants, *(v if isinstance(v, Tangent) else None for v in carry)]
    state = range(len(constants), len(operands))
    body = read_loop(trace, jaxpr, always, len(constants), len(carry))
    sizes = [body.sizes[k] for k in state]
    live = [body.live[k] for k in state]
    kept = [k for k in range(len(carry)) if live[k]]
    below = body.rows(kept, [sizes[k] for k in kept])
    above = body.columns - below.count
    unchanged = identity(body.columns).between(0, above)
    rows = live_rows(operands, body, range(len(operands)), trace.columns)
    final = product(closure(stacked([unchanged, below])), stacked(rows))
    shapes = [getattr(v.aval, "shape", ()) for v in jaxpr.outvars]
    return split_rows(final.between(above, final.count), live, shapes)
