"""Functions with derivative rules of their own (``jax.custom_jvp``).

The function and its rule, as programs, are both freed of the axis, and make a new function with a
new rule. Rules usually call the function itself for its value; that call becomes a call of the new
function, so that second derivatives use the rule too.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import Jaxpr

from anvil_jax.sparsity.maps.program import (
    Aval,
    Op,
    Operand,
    Program,
    bind,
    read,
    shape_dtype,
    trace,
)
from anvil_jax.sparsity.maps.unbatching.nested import Port, agrees, lines_through, without_axis
from anvil_jax.sparsity.maps.unbatching.registry import Layout, Line, register


def with_derivative_rules(program: Program, positions: Sequence[int]) -> Program:
    """A program some of whose ``custom_jvp_call`` operations can be taken apart."""
    ops = list(program.ops)
    for position in positions:
        op = ops[position]
        if op.name == "custom_jvp_call":
            ops[position] = _with_rule(op, _avals(program, op.ins)) or op
        elif op.bodies:
            bodies = [with_derivative_rules(body, range(len(body.ops))) for body in op.bodies]
            ops[position] = replace(op, bodies=tuple(bodies))
    return replace(program, ops=tuple(ops))


def _avals(program: Program, operands: Sequence[Operand]) -> list[Aval]:
    return [
        program.avals[v] if isinstance(v, int) else Aval((), np.asarray(v.value).dtype)
        for v in operands
    ]


def _with_rule(op: Op, avals: Sequence[Aval]) -> Op | None:
    """The function and its rule, unrolled; None if their axes cannot be followed."""
    function: Jaxpr = op.params["call_jaxpr"]
    floating = all(jnp.issubdtype(shape_dtype(a)[1], jnp.floating) for a in function.out_avals)
    if op.params.get("num_consts") or function.consts or not floating:
        return None
    moving = tuple(k for k, a in enumerate(avals) if jnp.issubdtype(a.dtype, jnp.floating))
    jaxpr = _rule(op, avals, moving)
    rule = read(jaxpr)
    if jaxpr.consts:
        return None
    ops = []
    for inner in rule.ops:
        if inner.name == "custom_jvp_call":
            if not _is_same(op, avals, jaxpr, inner, _avals(rule, inner.ins)):
                return None
            inner = replace(inner, name="self", primitive=None, params={})
        ops.append(inner)
    bodies = (read(function), replace(rule, ops=tuple(ops)))
    return replace(op, name="custom_jvp", primitive=None, params={"moving": moving}, bodies=bodies)


def _rule(op: Op, avals: Sequence[Aval], moving: Sequence[int]) -> Jaxpr:
    """``(operands, tangents of the moving ones) -> (results, their tangents)``."""

    def rule(*args: Any) -> tuple[Any, ...]:
        primals, tangents = args[: len(avals)], args[len(avals) :]

        def of_moving(*some: Any) -> tuple[Any, ...]:
            filled = list(primals)
            for k, value in zip(moving, some, strict=True):
                filled[k] = value
            return tuple(bind(op, filled))

        results, derivatives = jax.jvp(of_moving, [primals[k] for k in moving], list(tangents))
        return (*results, *derivatives)

    structs = [a.struct() for a in avals]
    return trace(rule, [*structs, *(structs[k] for k in moving)])


def _is_same(
    op: Op, avals: Sequence[Aval], rule: Jaxpr, other: Op, other_avals: Sequence[Aval]
) -> bool:
    """Whether two operations are the same function with the same rule, as far as it is written."""
    if list(avals) != list(other_avals):
        return False
    if str(op.params["call_jaxpr"]) != str(other.params["call_jaxpr"]):
        return False
    moving = [k for k, a in enumerate(avals) if jnp.issubdtype(a.dtype, jnp.floating)]
    return str(_rule(other, avals, moving)) == str(rule)


def _ports(op: Op) -> tuple[list[Port], list[Port]]:
    """Of the operands and of the results; tangents have the axes of their primals."""
    function, rule = op.bodies
    moving, count, results = op.params["moving"], len(function.inputs), len(function.outs)
    ins: list[list[tuple[int, Operand]]] = [
        [(0, v), (1, rule.inputs[k])] for k, v in enumerate(function.inputs)
    ]
    for place, k in enumerate(moving, count):
        ins[k].append((1, rule.inputs[place]))
    outs: list[list[tuple[int, Operand]]] = [
        [(0, v), (1, rule.outs[k]), (1, rule.outs[results + k])]
        for k, v in enumerate(function.outs)
    ]
    for inner in rule.ops:
        if inner.name == "self":
            for port, v in zip((*ins, *outs), (*inner.ins, *inner.outs), strict=True):
                port.append((1, v))
    return [Port(tuple(p)) for p in ins], [Port(tuple(p)) for p in outs]


def _lines(layout: Layout) -> list[Line]:
    ins, outs = _ports(layout.op)
    lines = lines_through(layout.op.bodies, ins, outs, ignored="self")
    return [line for line in lines if all(agrees(port, line) for port in (*ins, *outs))]


register("custom_jvp", lines=_lines, drop=without_axis)
