"""Loops that stay loops, and branches that stay branches.

State that survives a trip (scan and while carries) lives in a buffer. Inside the body it is seen
through an alias whose loads are made at the beginning of the trip, before anything overwrites
them, so that new state may depend on old state in any order.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, jaxpr_as_fun

from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering.assembly import join, row
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.selection import scalar_operations
from anvil_jax.lowering.values import Elements, Pull, Value


class _State:
    """The carried arrays of one loop."""

    def __init__(self, lowering: Lowering, initial: Sequence[Value]) -> None:
        self.lowering = lowering
        self.shapes = [v.shape for v in initial]
        self.buffers = [lowering.allocate(v.dtype, math.prod(v.shape)) for v in initial]
        for buffer, value in zip(self.buffers, initial, strict=True):
            lowering.fill(buffer, lowering.ex.index(0), value)

    def read(self) -> list[Value]:
        """The state at the beginning of a trip; call inside the loop body."""
        values: list[Value] = []
        for buffer, shape in zip(self.buffers, self.shapes, strict=True):
            inside = self.lowering.view(self.lowering.alias(buffer), shape)
            if buffer.size <= self.lowering.model.carried_elements:
                values.append(Elements(self.lowering.elements(inside), buffer.dtype))
            else:
                inside.owned = True
                values.append(inside)
        return values

    def write(self, values: Sequence[Value]) -> None:
        """Replaces the state; everything that depends on the old state is computed first."""
        lowering = self.lowering
        ready: list[Value | None] = []
        for buffer, value in zip(self.buffers, values, strict=True):
            if self._is_in_place(buffer, value):
                ready.append(None)
            elif isinstance(value, Pull) and value.size <= lowering.model.carried_elements:
                ready.append(Elements(lowering.elements(value), value.dtype))
            elif isinstance(value, Pull) and self._may_read_state(value):
                ready.append(_copied(lowering, value))
            else:
                ready.append(value)
        for buffer, value in zip(self.buffers, ready, strict=True):
            if value is not None:
                lowering.fill(buffer, lowering.ex.index(0), value)

    def _is_in_place(self, buffer: Buffer, value: Value) -> bool:
        """Whether the new state is the old one, or the old one updated where it lies."""
        if buffer.size <= self.lowering.model.carried_elements or not isinstance(value, Pull):
            return False
        return (
            value.view is not None
            and value.view.buffer.storage is buffer
            and (value.is_contiguous and value.size == buffer.size)
        )

    def _may_read_state(self, value: Pull) -> bool:
        return value.view is None or value.view.buffer.storage in self.buffers

    def results(self) -> list[Value]:
        """The state after the loop."""
        return [
            self.lowering.view(buffer, shape)
            for buffer, shape in zip(self.buffers, self.shapes, strict=True)
        ]


def _copied(lowering: Lowering, value: Pull) -> Pull:
    buffer = lowering.allocate(value.dtype, value.size)
    lowering.fill(buffer, lowering.ex.index(0), value)
    return lowering.view(buffer, value.shape)


def scan_arity(eqn: JaxprEqn) -> tuple[int, int]:
    """Number of constants and of carries of a scan equation."""
    if "num_consts" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, _ = eqn.params["ft_in"].unpack()
    return len(consts), len(carry)


@register(lax.scan_p)
def scan(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """A counted loop with carried state, per-trip inputs and per-trip outputs."""
    num_consts, num_carry = scan_arity(eqn)
    body, length, reverse = (eqn.params[k] for k in ("jaxpr", "length", "reverse"))
    consts = [lowering.settle(v) for v in operands[:num_consts]]
    initial = list(operands[num_consts : num_consts + num_carry])
    xs = operands[num_consts + num_carry :]
    collected = [(aval_shape(v.aval), aval_dtype(v.aval)) for v in eqn.outvars[num_carry:]]
    small = all(math.prod(v.shape) <= lowering.model.carried_elements for v in initial)
    work = length * scalar_operations(body.jaxpr)
    if length <= 1 or (small and work <= lowering.model.unrolled):
        trips = range(length - 1, -1, -1) if reverse else range(length)
        return _unrolled(lowering, body, trips, consts, initial, xs, collected)
    ex = lowering.ex
    rows = [lowering.settle(x) for x in xs]
    rows = [lowering.pull(x) for x in rows]
    state = _State(lowering, initial)
    ys = [lowering.allocate(dtype, math.prod(shape)) for shape, dtype in collected]
    with lowering.loop(length, parallel=num_carry == 0) as trip:
        position = ex.sub(ex.index(length - 1), trip) if reverse else trip
        carried = state.read()
        slices = [x.row(position) for x in rows]
        results = lowering.run(body.jaxpr, body.consts, [*consts, *carried, *slices])
        for buffer, value in zip(ys, results[num_carry:], strict=True):
            size = math.prod(value.shape)
            lowering.fill(buffer, ex.mul(position, ex.index(size)), value)
        state.write(results[:num_carry])
    stacked = [lowering.view(b, shape) for b, (shape, _) in zip(ys, collected, strict=True)]
    return [*state.results(), *stacked]


def _unrolled(
    lowering: Lowering,
    body: Jaxpr,
    trips: Iterable[int],
    consts: Sequence[Value],
    carry: Sequence[Value],
    xs: Sequence[Value],
    collected: Sequence[tuple[tuple[int, ...], str]],
) -> list[Value]:
    """The trips of a scan one after the other."""
    ys: list[dict[int, Value]] = [{} for _ in collected]
    xs = [lowering.settle(x) for x in xs]
    for trip in trips:
        slices = [row(lowering, x, trip) for x in xs]
        results = lowering.run(body.jaxpr, body.consts, [*consts, *carry, *slices])
        carry = results[: len(carry)]
        for parts, value in zip(ys, results[len(carry) :], strict=True):
            parts[trip] = value.reshape((1, *value.shape))
    stacked: list[Value] = []
    for parts, (shape, dtype) in zip(ys, collected, strict=True):
        if not parts:
            stacked.append(lowering.view(lowering.allocate(dtype, 0), shape))
        else:
            stacked.append(join(lowering, [parts[k] for k in sorted(parts)], 0, shape))
    return [*carry, *stacked]


@register(lax.while_p)
def while_loop(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """A loop whose number of trips depends on values."""
    p = eqn.params
    split = p["cond_nconsts"]
    num_consts = split + p["body_nconsts"]
    consts = [lowering.settle(v) for v in operands[:num_consts]]
    condition, body = p["cond_jaxpr"], p["body_jaxpr"]
    cond_consts, body_consts = consts[:split], consts[split:]
    if aval_shape(condition.out_avals[0]):
        condition, body, body_consts = *_joint_loop(eqn), consts
    state = _State(lowering, operands[num_consts:])
    with lowering.forever():
        carried = state.read()
        (go_on,) = lowering.run(condition.jaxpr, condition.consts, [*cond_consts, *carried])
        lowering.break_unless(lowering.scalar(go_on))
        state.write(lowering.run(body.jaxpr, body.consts, [*body_consts, *carried]))
    return state.results()


def _joint_loop(eqn: JaxprEqn) -> tuple[Jaxpr, Jaxpr]:
    """Condition and body of a batch of loops (`jax.vmap`) as one loop.

    It goes on while any of them does; those that have ended keep their state. The body takes the
    constants of both.
    """
    split, rest = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    goes_on, step = (jaxpr_as_fun(eqn.params[k]) for k in ("cond_jaxpr", "body_jaxpr"))

    def condition(*operands: jax.Array) -> jax.Array:
        return jnp.any(goes_on(*operands)[0])

    def body(*operands: jax.Array) -> list[jax.Array]:
        carried = operands[split + rest :]
        on = goes_on(*operands[:split], *carried)[0]
        return [
            jnp.where(on.reshape(on.shape + (1,) * (new.ndim - on.ndim)), new, old)
            for new, old in zip(step(*operands[split:]), carried, strict=True)
        ]

    avals: list[Any] = [v.aval for v in eqn.invars]
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    with jax.enable_x64(True):
        return (
            jax.make_jaxpr(condition)(*structs[:split], *structs[split + rest :]),
            jax.make_jaxpr(body)(*structs),
        )


@register(lax.cond_p)
def cond(lowering: Lowering, eqn: JaxprEqn, which: Value, *operands: Value) -> Sequence[Value]:
    """One of several branches; cheap ones are all computed and selected from."""
    branches = eqn.params["branches"]
    ex = lowering.ex
    index = lowering.scalar(which)
    last = len(branches) - 1
    known = index.arg if not index.src and isinstance(index.arg, int) else None
    if last == 0 or known is not None:
        branch = branches[min(max(known or 0, 0), last)]
        return lowering.run(branch.jaxpr, branch.consts, operands)
    outputs = [(aval_shape(v.aval), aval_dtype(v.aval)) for v in eqn.outvars]
    cost = sum(scalar_operations(b.jaxpr) for b in branches)
    if cost <= lowering.model.branch and all(math.prod(s) <= 16 for s, _ in outputs):
        return _selected(lowering, index, branches, operands, outputs)
    operands = tuple(lowering.settle(v) for v in operands)
    results = [lowering.allocate(dtype, math.prod(shape)) for shape, dtype in outputs]

    def branch_body(branch: Jaxpr) -> None:
        values = lowering.run(branch.jaxpr, branch.consts, operands)
        for buffer, value in zip(results, values, strict=True):
            lowering.fill(buffer, ex.index(0), value)

    lowering.switch(
        _selector(lowering, index, last), [lambda b=b: branch_body(b) for b in branches]
    )
    return [lowering.view(b, shape) for b, (shape, _) in zip(results, outputs, strict=True)]


def _selector(lowering: Lowering, index: UOp, last: int) -> UOp:
    """The branch number, clamped as JAX clamps it; a bool for two branches."""
    ex = lowering.ex
    if last == 1:
        return ex.less(ex.const(0, "int32"), index)
    low, high = ex.const(0, "int32"), ex.const(last, "int32")
    return ex.minimum(ex.maximum(index, low), high)


def _selected(
    lowering: Lowering,
    index: UOp,
    branches: Sequence[Jaxpr],
    operands: Sequence[Value],
    outputs: Sequence[tuple[tuple[int, ...], str]],
) -> list[Value]:
    """All branches computed, element by element the chosen one."""
    ex = lowering.ex
    values = [lowering.run(b.jaxpr, b.consts, operands) for b in branches]
    chosen = values[-1]
    for k in range(len(branches) - 2, -1, -1):
        take = ex.less(index, ex.const(k + 1, "int32"))

        def pick(a: UOp, b: UOp, take: UOp = take) -> UOp:
            return ex.where(take, a, b)

        chosen = [
            lowering.elementwise(pick, (shape, dtype), a, b)
            for a, b, (shape, dtype) in zip(values[k], chosen, outputs, strict=True)
        ]
    return chosen


@register("platform_index")
def platform_index(lowering: Lowering, eqn: JaxprEqn) -> Value:
    """Which branch of a platform-dependent choice is the one for a CPU."""
    choices = eqn.params["platforms"]
    for k, names in enumerate(choices):
        if names is None or "cpu" in names:
            return lowering.constant(np.asarray(k, np.int32))
    return lowering.constant(np.asarray(len(choices), np.int32))
