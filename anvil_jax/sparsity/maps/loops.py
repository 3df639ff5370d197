"""Loops whose trips do not depend on each other, as maps.

A scan is one if what it carries is a counter, a sum that the trips only add to, or unchanged. The
counter becomes an array and the sum is taken afterwards. Arrays that the body indexes by trip are
indexed for all trips at once before the map, so that an instance sees its own elements only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from anvil_jax.sparsity.maps.affine import Degree, degrees
from anvil_jax.sparsity.maps.program import (
    Aval,
    Op,
    Operand,
    Program,
    Scalar,
    evaluate,
    read,
    scan_arity,
    trace,
)

_INDEXING = {"dynamic_slice", "gather"}


class Rewriter:
    """A program under construction, with the values of another one.

    Attributes:
        avals, constants: as in a program.
        ops: the new operations.
    """

    def __init__(self, program: Program) -> None:
        self.avals = dict(program.avals)
        self.constants = dict(program.constants)
        self.ops: list[Op] = []
        self._next = max(self.avals, default=-1) + 1

    def value(self, aval: Aval) -> int:
        """A new value."""
        number = self._next
        self._next += 1
        self.avals[number] = aval
        return number

    def call(self, function: Any, *operands: Operand) -> list[Operand]:
        """Adds the operations of a JAX function.

        Args:
            function: of arrays, returning a list of arrays.
            *operands: its arguments.
        """
        structs = [
            self.avals[v].struct() if isinstance(v, int) else jax.ShapeDtypeStruct(
                (), np.asarray(v.value).dtype
            )
            for v in operands
        ]  # fmt: skip
        return self._inlined(read(trace(function, structs)), operands)

    def _inlined(self, program: Program, operands: Sequence[Operand]) -> list[Operand]:
        env: dict[int, Operand] = dict(zip(program.inputs, operands, strict=True))
        for v, constant in program.constants.items():
            env[v] = number = self.value(program.avals[v])
            self.constants[number] = constant
        for op in program.ops:
            ins = tuple(env[v] if isinstance(v, int) else v for v in op.ins)
            outs = tuple(self.value(program.avals[v]) for v in op.outs)
            env.update(zip(op.outs, outs, strict=True))
            self.ops.append(replace(op, ins=ins, outs=outs))
        return [env[v] if isinstance(v, int) else v for v in program.outs]

    def finished(self, program: Program, aliases: dict[int, Operand]) -> Program:
        """The new program; `aliases` says which of the old values are others."""

        def actual(v: Operand) -> Operand:
            while isinstance(v, int) and v in aliases:
                v = aliases[v]
            return v

        ops = tuple(replace(op, ins=tuple(actual(v) for v in op.ins)) for op in self.ops)
        outs = tuple(actual(v) for v in program.outs)
        return Program(self.avals, self.constants, program.inputs, ops, outs).pruned()


@dataclass(slots=True, eq=False)
class _Loop:
    """A scan taken apart.

    Attributes:
        op: the scan.
        body: one trip.
        constants: operands that every trip sees.
        initial: what is carried into the first trip.
        arrays: operands of which every trip sees an element.
        counters: increment of what is carried, by position; 0 if it does not change.
        sums: (what is added, its sign), by position.
        delays: the operand of the body that is carried to the next trip, by position.
    """

    op: Op
    body: Program
    constants: tuple[Operand, ...]
    initial: tuple[Operand, ...]
    arrays: tuple[Operand, ...]
    counters: dict[int, Any] = field(default_factory=dict)
    sums: dict[int, tuple[Operand, int]] = field(default_factory=dict)
    delays: dict[int, int] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of trips."""
        return self.op.params["length"]

    @property
    def state(self) -> tuple[int, ...]:
        """Inputs of the body that are carried."""
        start = len(self.constants)
        return self.body.inputs[start : start + len(self.initial)]

    @property
    def own(self) -> tuple[int, ...]:
        """Inputs of the body that belong to one trip."""
        return self.body.inputs[len(self.constants) + len(self.initial) :]


def as_maps(program: Program, inputs: Sequence[Degree], min_trips: int) -> Program:
    """The program with independent loops replaced by ``map`` operations.

    Args:
        program: any program.
        inputs: degrees of its inputs.
        min_trips: shorter loops remain.
    """
    if not any(op.name == "scan" for op in program.ops):
        return program
    degree, _ = degrees(program, inputs)
    rewriter = Rewriter(program)
    aliases: dict[int, Operand] = {}
    for op in program.ops:
        depends = any(degree[v] for v in op.values)
        loop = _taken_apart(op) if op.name == "scan" and depends else None
        if loop is None or loop.length < min_trips:
            rewriter.ops.append(op)
        else:
            results = _Mapping(rewriter, loop, degree).results()
            aliases.update(zip(op.outs, results, strict=True))
    return rewriter.finished(program, aliases)


def _degree(operand: Operand, degree: dict[int, Degree]) -> Degree:
    return degree[operand] if isinstance(operand, int) else Degree.INDEPENDENT


def _taken_apart(op: Op) -> _Loop | None:
    """The parts of a scan whose trips are independent, None if they are not."""
    (body,) = op.bodies
    constants, carried = scan_arity(op.params)
    start = constants + carried
    loop = _Loop(op, body, op.ins[:constants], op.ins[constants:start], op.ins[start:])
    for k, (before, after) in enumerate(zip(loop.state, body.outs, strict=False)):
        increment = _increment(body, before, after)
        addend = _addend(body, before, after)
        if increment is not None:
            loop.counters[k] = increment
        elif isinstance(after, int) and after in loop.own:
            loop.delays[k] = after
        elif addend is not None:
            loop.sums[k] = addend
        else:
            return None
    return loop


def _increment(body: Program, before: int, after: Operand) -> Any:
    """By how much a trip increases an integer; 0 for any value that it leaves alone."""
    if after == before:
        return 0
    producer = next((op for op in body.ops if after in op.outs), None)
    if producer is None or producer.name != "add" or body.shape(before) != ():
        return None
    if not jnp.issubdtype(body.avals[before].dtype, jnp.integer) or before not in producer.ins:
        return None
    other = next((v for v in producer.ins if v != before), None)
    return other.value if isinstance(other, Scalar) else None


def _addend(body: Program, before: int, after: Operand) -> tuple[Operand, int] | None:
    """What a trip adds to a sum that it does not use otherwise, and the sign."""
    while True:
        users = [op for op in body.ops if before in op.ins]
        if len(users) != 1 or users[0].ins.count(before) != 1:
            return None
        user = users[0]
        if user.name != "convert_element_type" or before in body.outs:
            break
        if body.avals[user.outs[0]] != body.avals[before]:
            return None
        before = user.outs[0]
    first = user.ins[0] == before
    if user.name not in ("add", "sub") or user.outs != (after,) or body.outs.count(after) != 1:
        return None
    if before in body.outs or any(after in op.ins for op in body.ops):
        return None
    if not jnp.issubdtype(body.avals[before].dtype, jnp.floating) or (
        user.name == "sub" and not first
    ):
        return None
    return user.ins[1 if first else 0], (1 if user.name == "add" else -1)


class _Mapping:
    """Adds a loop to a program as a map.

    Attributes:
        shared: operands that every trip sees, by input of the body.
        own: arrays of which every trip sees an element, by input of the body.
    """

    def __init__(self, rewriter: Rewriter, loop: _Loop, degree: dict[int, Degree]) -> None:
        self.rewriter = rewriter
        self.loop = loop
        self.shared: dict[int, Operand] = dict(zip(loop.body.inputs, loop.constants, strict=False))
        self.own: dict[int, Operand] = dict(zip(loop.own, loop.arrays, strict=True))
        self.degree = dict(
            zip(loop.body.inputs, (_degree(v, degree) for v in loop.op.ins), strict=True)
        )
        for k, increment in loop.counters.items():
            if increment == 0:
                self.shared[loop.state[k]] = loop.initial[k]
            else:
                self.own[loop.state[k]] = self._counter(loop.initial[k], increment)
        for k, source in loop.delays.items():
            self.own[loop.state[k]] = self._delayed(loop.initial[k], self.own[source])
            self.degree[loop.state[k]] = max(self.degree[loop.state[k]], self.degree[source])

    def results(self) -> list[Operand]:
        """The results of the scan."""
        loop = self.loop
        carried = len(loop.initial)
        results: dict[int, Operand] = {k: g for k, (g, _) in loop.sums.items()}
        results.update(enumerate(loop.body.outs[carried:], carried))
        inputs = (*self.shared, *self.own)
        body = replace(loop.body, inputs=inputs, outs=tuple(results.values())).pruned()
        stacks = self._add_map(self._indexed_before(body))
        by_position = dict(zip(results, stacks, strict=True))
        return [self._result(k, by_position) for k in range(len(loop.body.outs))]

    @property
    def _is_reversed(self) -> bool:
        return self.loop.op.params["reverse"]

    def _counter(self, initial: Operand, increment: Any) -> Operand:
        """The values of a counter in all trips."""

        def counter(start: Any) -> list[Any]:
            steps = jnp.arange(self.loop.length, dtype=start.dtype)
            return [start + (steps[::-1] if self._is_reversed else steps) * increment]

        return self.rewriter.call(counter, initial)[0]

    def _delayed(self, initial: Operand, array: Operand) -> Operand:
        """The element of the trip before."""

        def delayed(first: Any, elements: Any) -> list[Any]:
            rows = (first[None], elements[:-1])
            return [jnp.concatenate((elements[1:], first[None]) if self._is_reversed else rows)]

        return self.rewriter.call(delayed, initial, array)[0]

    def _result(self, k: int, stacks: Mapping[int, Operand]) -> Operand:
        """A result of the scan."""
        loop = self.loop
        if k in loop.counters:
            total = loop.counters[k] * loop.length
            if total == 0:
                return loop.initial[k]
            return self.rewriter.call(lambda start: [start + total], loop.initial[k])[0]
        if k in loop.delays:
            last = 0 if self._is_reversed else -1
            return self.rewriter.call(lambda x: [x[last]], self.own[loop.delays[k]])[0]
        if k in loop.sums:
            combine = lax.add if loop.sums[k][1] > 0 else lax.sub

            def total_of(start: Any, terms: Any) -> list[Any]:
                return [combine(start, lax.reduce_sum(terms, (0,)))]

            return self.rewriter.call(total_of, loop.initial[k], stacks[k])[0]
        return stacks[k]

    def _add_map(self, body: Program) -> list[int]:
        """Adds the operation; returns its results, which have a leading axis over trips."""
        length = self.loop.length
        outs = []
        for v in body.outs:
            aval = body.avals[v] if isinstance(v, int) else Aval((), np.asarray(v.value).dtype)
            outs.append(self.rewriter.value(Aval((length, *aval.shape), aval.dtype)))
        used = {v for op in body.ops for v in op.values} | set(body.outs)
        inputs = [v for kind in (self.shared, self.own) for v in body.inputs if v in kind]
        inputs = [v for v in inputs if v in used]
        params = {"length": length, "mapped": tuple(v in self.own for v in inputs)}
        ins = tuple((self.own if v in self.own else self.shared)[v] for v in inputs)
        body = replace(body, inputs=tuple(inputs))
        self.rewriter.ops.append(Op("map", None, params, ins, tuple(outs), (body,)))
        return outs

    def _indexed_before(self, body: Program) -> Program:
        """Takes elements of shared arrays for all trips at once; they become operands."""
        taken = self._indexing(body)
        if not taken:
            return body
        values = [v for op in taken for v in op.outs]
        before = replace(body, outs=tuple(values)).pruned()
        axes = tuple(0 if v in self.own else None for v in before.inputs)
        every = jax.vmap(
            lambda *args: evaluate(before, args), in_axes=axes, axis_size=self.loop.length
        )
        operands = [(self.own if v in self.own else self.shared)[v] for v in before.inputs]
        self.own.update(zip(values, self.rewriter.call(every, *operands), strict=True))
        ops = tuple(op for op in body.ops if op not in taken)
        return replace(body, inputs=(*body.inputs, *values), ops=ops).pruned()

    def _indexing(self, body: Program) -> list[Op]:
        """Operations that take elements of shared arrays at places that depend on the trip."""
        degree, _ = degrees(body, [self.degree[v] for v in body.inputs])
        per_trip = set(self.own)
        for op in body.ops:
            if not per_trip.isdisjoint(op.values):
                per_trip.update(op.outs)
        return [
            op
            for op in body.ops
            if op.name in _INDEXING
            and op.ins[0] in self.shared
            and not per_trip.isdisjoint(op.ins[1:])
            and not any(_degree(v, degree) for v in op.ins[1:])
        ]
