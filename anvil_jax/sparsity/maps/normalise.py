"""The same function in a form whose maps are easier to see.

Equal operations are done once. Independent loops become maps (`loops`). A long contraction becomes
a product and a sum. Elementwise functions of joined or reshaped results are applied before those
are joined or reshaped, so that ``sum(concatenate(residuals)**2)`` sums over each residual's
elements.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from anvil_jax.sparsity.maps.affine import Degree, degrees
from anvil_jax.sparsity.maps.components import Core
from anvil_jax.sparsity.maps.loops import Rewriter, as_maps
from anvil_jax.sparsity.maps.program import ELEMENTWISE, Aval, Op, Operand, Program, Shape

_MAX_PARTS = 16
_MAX_COMPARED = 4096


def normalised(program: Program, inputs: Sequence[Degree], min_trips: int) -> Program:
    """An equivalent program.

    Args:
        program: any program.
        inputs: degrees of its inputs.
        min_trips: shorter loops remain loops.
    """
    program = as_maps(without_duplicates(program), inputs, min_trips)
    program = _with_products(program, inputs, min_trips)
    return _with_early_functions(program, inputs, min_trips)


# -------------------------------------------------------------------------------- duplicates


def without_duplicates(program: Program) -> Program:
    """The program with equal operations on equal operands done once."""
    aliases: dict[int, Operand] = {}
    first: dict[Hashable, tuple[int, ...]] = {}
    for v, constant in program.constants.items():
        key = _constant_key(constant)
        if key is not None:
            aliases[v] = first.setdefault(key, (v,))[0]
    aliases = {v: other for v, other in aliases.items() if v != other}
    rewriter = Rewriter(program)
    for op in program.ops:
        ins = tuple(aliases.get(v, v) if isinstance(v, int) else v for v in op.ins)
        key = _key(op, ins)
        same = op.outs if key is None else first.setdefault(key, op.outs)
        if same is op.outs:
            rewriter.ops.append(op)
        else:
            aliases.update(zip(op.outs, same, strict=True))
    return rewriter.finished(program, aliases)


def _constant_key(constant: Any) -> Hashable:
    if not isinstance(constant, np.ndarray | jax.Array) or constant.size > _MAX_COMPARED:
        return None
    if jnp.issubdtype(constant.dtype, jax.dtypes.extended):
        return None
    array = np.asarray(constant)
    return (array.shape, array.dtype.str, array.tobytes())


def _key(op: Op, ins: Sequence[Operand]) -> Hashable:
    """What an operation computes, None if that is not easily said."""
    if op.bodies or op.primitive is None or op.name.startswith(("custom", "random", "rng")):
        return None
    operands = tuple(v if isinstance(v, int) else _constant_key(np.asarray(v.value)) for v in ins)
    key = (op.primitive, operands, tuple(op.params.items()))
    try:
        hash(key)
    except TypeError:
        return None
    return key


# ------------------------------------------------------------------------ long contractions


def _with_products(program: Program, inputs: Sequence[Degree], min_trips: int) -> Program:
    _, nonlinear = degrees(program, inputs)
    long = {p for p in nonlinear if _is_long(program, program.ops[p], min_trips)}
    if not long:
        return program
    rewriter = Rewriter(program)
    aliases: dict[int, Operand] = {}
    for position, op in enumerate(program.ops):
        if position not in long:
            rewriter.ops.append(op)
            continue
        (left, right), _ = op.params["dimension_numbers"]
        (aliases[op.outs[0]],) = rewriter.call(_product(left, right), *op.ins)
    return rewriter.finished(program, aliases)


def _product(left: Sequence[int], right: Sequence[int]) -> Any:
    """A contraction over these axes as a product and a sum."""

    def product(a: Any, b: Any) -> list[Any]:
        free = [[d for d in range(x.ndim) if d not in s] for x, s in ((a, left), (b, right))]
        a = lax.transpose(a, (*free[0], *left))
        b = lax.transpose(b, (*free[1], *right))
        middle, rank = len(free[0]), len(free[0]) + len(free[1])
        a = lax.expand_dims(a, range(middle, rank))
        b = lax.expand_dims(b, range(middle))
        return [lax.reduce_sum(a * b, tuple(range(rank, a.ndim)))]

    return product


def _is_long(program: Program, op: Op, min_trips: int) -> bool:
    """Whether a product of two nonlinear arrays sums more than it has results."""
    if op.name != "dot_general":
        return False
    (summed, _), (batch, _) = op.params["dimension_numbers"]
    terms = math.prod(program.shape(op.ins[0])[d] for d in summed)
    dtypes = {program.avals[v].dtype for v in (*op.values, *op.outs)}
    results = program.avals[op.outs[0]].size
    return not batch and terms >= max(min_trips, results) and len(dtypes) == 1


# -------------------------------------------------------------- functions of joined results


@dataclass(frozen=True, slots=True)
class _View:
    """How a value is made of others.

    Attributes:
        parts: the others.
        axis: along which they are joined, None for a reshaped value.
    """

    parts: tuple[int, ...]
    axis: int | None


class _Early(Rewriter):
    """Moves elementwise operations of the core before reshapes and concatenations."""

    def __init__(self, core: Core, min_trips: int) -> None:
        super().__init__(core.program)
        self.min_trips = min_trips
        self.core = core
        self.views: dict[int, _View] = {}
        self.aliases: dict[int, Operand] = {}

    def run(self) -> Program:
        for position, op in enumerate(self.core.program.ops):
            ins = tuple(self.aliases.get(v, v) if isinstance(v, int) else v for v in op.ins)
            op = replace(op, ins=ins)
            if position in self.core.positions and op.name in ELEMENTWISE:
                self.elementwise(op)
            elif not self.undone(op):
                self.ops.append(op)
                self.note(op)
        return self.finished(self.core.program, self.aliases)

    def note(self, op: Op) -> None:
        """Remembers how a nonlinear value is made."""
        out = op.outs[0]
        if out not in self.core.nonlinear:
            return
        parts = tuple(op.values)
        if op.name == "reshape" and not op.params["dimensions"]:
            self.views[out] = _View(parts, None)
        elif op.name == "concatenate" and op.params["dimension"] == 0:
            extents = [self.avals[v].shape[0] for v in parts]
            is_vector = len(self.avals[out].shape) == 1
            if len(parts) <= _MAX_PARTS and (is_vector or min(extents) >= self.min_trips):
                self.views[out] = _View(parts, 0)

    def undone(self, op: Op) -> bool:
        """Whether a reshape gives what was reshaped before."""
        if op.name != "reshape" or op.params["dimensions"]:
            return False
        view = self.views.get(next(iter(op.values), -1))
        if view is None or view.axis is not None:
            return False
        if self.avals[view.parts[0]].shape != self.avals[op.outs[0]].shape:
            return False
        self.aliases[op.outs[0]] = view.parts[0]
        return True

    def elementwise(self, op: Op) -> None:
        view = next((self.views[v] for v in op.values if v in self.views), None)
        if view is None:
            self.ops.append(op)
            return
        shapes = self.shapes(view.parts)
        operands = [self.split(v, view, shapes) for v in op.ins]
        dtype = self.avals[op.outs[0]].dtype
        results = []
        for k, shape in enumerate(shapes):
            result = self.value(Aval(shape, dtype))
            ins = tuple(parts[k] for parts in operands)
            self.elementwise(replace(op, ins=ins, outs=(result,)))
            results.append(result)
        self.join(results, view.axis, op.outs[0])
        self.views[op.outs[0]] = _View(tuple(results), view.axis)

    def split(self, operand: Operand, view: _View, shapes: Sequence[Shape]) -> Sequence[Operand]:
        """The parts of an operand that belong to the parts of a view."""
        if not isinstance(operand, int) or self.avals[operand].shape == ():
            return [operand] * len(shapes)
        own = self.views.get(operand)
        if own is not None and (own.axis, self.shapes(own.parts)) == (view.axis, list(shapes)):
            return own.parts
        if view.axis is None:
            return self.call(lambda x: [lax.reshape(x, shapes[0])], operand)
        sizes = [s[view.axis] for s in shapes]
        axis = view.axis
        return self.call(lambda x: list(lax.split(x, sizes, axis)), operand)

    def shapes(self, values: Sequence[int]) -> list[Shape]:
        return [self.avals[v].shape for v in values]

    def join(self, parts: Sequence[int], axis: int | None, out: int) -> None:
        """The whole again, as an existing value."""
        shape = self.avals[out].shape
        if axis is None:
            params = {"new_sizes": shape, "dimensions": None, "sharding": None}
            self.ops.append(Op("reshape", lax.reshape_p, params, tuple(parts), (out,)))
        else:
            params = {"dimension": axis}
            self.ops.append(Op("concatenate", lax.concatenate_p, params, tuple(parts), (out,)))


def _with_early_functions(program: Program, inputs: Sequence[Degree], min_trips: int) -> Program:
    degree, nonlinear = degrees(program, inputs)
    if not any(op.name in ("reshape", "concatenate") for op in program.ops):
        return program
    return _Early(Core(program, degree, nonlinear), min_trips).run()
