"""A jaxpr as a flat list of operations that can be cut into pieces and put together again.

Calls are inlined, values are numbers, and broadcasting is explicit: an elementwise operation has
operands of its result's shape or scalars, and `broadcast_in_dim` only adds axes. Loops and branches
keep their inner jaxprs as `Op.bodies`. Values in a map's instance and in the whole function are
then told apart by their number alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Primitive

type Shape = tuple[int, ...]

CALLS = {
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "remat_opt", "checkpoint",
}  # fmt: skip
"""Primitives that run their jaxpr once and mean nothing else."""

ELEMENTWISE = frozenset({
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "convert_element_type", "copy",
    "copy_p", "cos", "cosh", "digamma", "div", "eq", "eq_to", "erf", "erf_inv", "erfc", "exp",
    "exp2", "expm1", "floor", "ge", "gt", "igamma", "igamma_grad_a", "igammac", "integer_pow",
    "is_finite", "le", "le_to", "lgamma", "log", "log1p", "log2", "logistic", "lt", "lt_to",
    "max", "min", "mul", "name", "ne", "neg", "nextafter", "not", "one_minus_square", "or",
    "polygamma", "population_count", "pow", "random_gamma_grad", "reduce_precision",
    "regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n", "shift_left",
    "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square",
    "stop_gradient", "sub", "tan", "tanh", "xor", "zeta",
})  # fmt: skip
"""Primitives whose result has, element by element, the value of a scalar function."""

MOVEMENT = frozenset({
    "broadcast_in_dim", "concatenate", "gather", "pad", "reshape", "rev", "slice", "split",
    "squeeze", "stack", "tile", "transpose", "unstack",
})  # fmt: skip
"""Primitives that compute nothing."""


@dataclass(frozen=True, slots=True)
class Aval:
    """Shape and dtype of a value."""

    shape: Shape
    dtype: Any

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def struct(self) -> jax.ShapeDtypeStruct:
        """For tracing."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def without(self, axis: int | None) -> "Aval":
        """The same without one axis."""
        if axis is None:
            return self
        return Aval(self.shape[:axis] + self.shape[axis + 1 :], self.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A literal operand."""

    value: Any


type Operand = int | Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation.

    Attributes:
        name: of the primitive; ``inline``, ``map`` and ``custom_jvp`` are our own.
        primitive: None for our own.
        params: of the primitive; those that are jaxprs are replaced by `bodies` where `rebuilt`.
        ins: operands.
        outs: results.
        bodies: inner programs of loops and branches.
        rebuilt: whether `bodies` differ from the jaxprs in `params`.
    """

    name: str
    primitive: Primitive | None
    params: dict[str, Any]
    ins: tuple[Operand, ...]
    outs: tuple[int, ...]
    bodies: tuple["Program", ...] = ()
    rebuilt: bool = False

    @property
    def values(self) -> Iterable[int]:
        """Operands that are no literals."""
        return (v for v in self.ins if isinstance(v, int))


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Operations in order of execution.

    Attributes:
        avals: of every value.
        constants: arrays among the values.
        inputs, outs: of the whole program.
        ops: the operations.
    """

    avals: dict[int, Aval]
    constants: dict[int, Any]
    inputs: tuple[int, ...]
    ops: tuple[Op, ...]
    outs: tuple[Operand, ...]

    def shape(self, operand: Operand) -> Shape:
        """Shape of an operand."""
        return self.avals[operand].shape if isinstance(operand, int) else ()

    def shapes(self, operands: Iterable[Operand]) -> tuple[Shape, ...]:
        """Shapes of operands."""
        return tuple(self.shape(v) for v in operands)

    def pruned(self) -> "Program":
        """The same without operations whose results nobody needs."""
        needed = {v for v in self.outs if isinstance(v, int)}
        kept = []
        for op in reversed(self.ops):
            if not needed.isdisjoint(op.outs):
                kept.append(op)
                needed.update(op.values)
        return replace(self, ops=tuple(reversed(kept)))


# --------------------------------------------------------------------------------- from a jaxpr


@dataclass(slots=True)
class _Reader:
    """Numbers the values of a jaxpr and of the functions it calls."""

    avals: dict[int, Aval] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)

    def value(self, shape: Sequence[int], dtype: Any) -> int:
        number = len(self.avals)
        self.avals[number] = Aval(tuple(shape), dtype)
        return number

    def read(self, jaxpr: Jaxpr, operands: Sequence[Operand]) -> list[Operand]:
        env: dict[Any, Operand] = dict(zip(jaxpr.invars, operands, strict=True))
        for var, const in zip(jaxpr.constvars, jaxpr.consts, strict=True):
            number = self.value(np.shape(const), const.dtype)
            self.constants[number] = const
            env[var] = number
        for eqn in jaxpr.eqns:
            ins = tuple(_operand(v, env) for v in eqn.invars)
            env.update(zip(eqn.outvars, self._equation(eqn, ins), strict=True))
        return [_operand(v, env) for v in jaxpr.outvars]

    def _equation(self, eqn: JaxprEqn, ins: tuple[Operand, ...]) -> Sequence[Operand]:
        name = eqn.primitive.name
        if name in CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            if isinstance(inner, Jaxpr):
                return self.read(inner, ins)
        expanded = _expanded(eqn)
        if expanded is not None:
            return self.read(expanded, ins)
        outs = tuple(self.value(*shape_dtype(v.aval)) for v in eqn.outvars)
        if name in ELEMENTWISE:
            ins = tuple(self._repeated(v, self.avals[outs[0]].shape) for v in ins)
        elif name == "broadcast_in_dim" and len(ins) == 1:
            self._broadcast(ins[0], eqn.params["broadcast_dimensions"], outs[0])
            return outs
        params = _plain(eqn)
        bodies = tuple(read(inner) for inner in inner_jaxprs(name, eqn.params))
        self.ops.append(Op(name, eqn.primitive, params, ins, outs, bodies))
        return outs

    def _repeated(self, operand: Operand, shape: Shape) -> Operand:
        """An operand of an elementwise operation, with axes of extent 1 made explicit."""
        if not isinstance(operand, int) or self.avals[operand].shape in (shape, ()):
            return operand
        out = self.value(shape, self.avals[operand].dtype)
        self._broadcast(operand, range(len(shape)), out)
        return out

    def _broadcast(self, operand: Operand, axes: Sequence[int], out: int) -> None:
        """Adds axes; those of extent 1 that are repeated are removed first."""
        shape = self.avals[out].shape
        if isinstance(operand, int):
            inner = self.avals[operand]
            kept = [k for k, d in enumerate(axes) if inner.shape[k] == shape[d]]
            if len(kept) < len(inner.shape):
                sizes = tuple(inner.shape[k] for k in kept)
                squeezed = self.value(sizes, inner.dtype)
                params = {"new_sizes": sizes, "dimensions": None, "sharding": None}
                self.ops.append(Op("reshape", lax.reshape_p, params, (operand,), (squeezed,)))
                operand, axes = squeezed, [axes[k] for k in kept]
        params = {
            "shape": shape, "broadcast_dimensions": tuple(map(int, axes)), "sharding": None,
        }  # fmt: skip
        self.ops.append(Op("broadcast_in_dim", lax.broadcast_in_dim_p, params, (operand,), (out,)))


def _plain(eqn: JaxprEqn) -> dict[str, Any]:
    """Parameters; those that mean the same are the same."""
    strides = eqn.params.get("strides")
    if eqn.primitive.name == "slice" and strides is not None and all(n == 1 for n in strides):
        return {**eqn.params, "strides": None}
    return eqn.params


def _expanded(eqn: JaxprEqn) -> Jaxpr | None:
    """A composite primitive without derivative (``jnp.searchsorted``) in simpler ones."""
    composite = eqn.params.get("_prim")
    if composite is None or any(
        jnp.issubdtype(shape_dtype(v.aval)[1], jnp.inexact) for v in eqn.outvars
    ):
        return None
    return trace(composite.expand, [jax.ShapeDtypeStruct(*shape_dtype(v.aval)) for v in eqn.invars])


def _operand(var: Any, env: dict[Any, Operand]) -> Operand:
    return Scalar(var.val) if isinstance(var, Literal) else env[var]


def shape_dtype(aval: Any) -> tuple[Sequence[int], Any]:
    """Of an abstract value of JAX."""
    return getattr(aval, "shape", ()), getattr(aval, "dtype", np.dtype(bool))


def read(jaxpr: Jaxpr) -> Program:
    """A closed jaxpr as a program."""
    reader = _Reader()
    inputs = tuple(reader.value(*shape_dtype(a)) for a in jaxpr.in_avals)
    outs = tuple(reader.read(jaxpr, inputs))
    return Program(reader.avals, reader.constants, inputs, tuple(reader.ops), outs)


def inner_jaxprs(name: str, params: dict[str, Any]) -> Sequence[Jaxpr]:
    """The jaxprs of an operation whose axes can be followed through them."""
    if name == "scan":
        return (params["jaxpr"],)
    if name == "cond":
        return params["branches"]
    if name == "custom_linear_solve":
        jaxprs = params["jaxprs"]
        return tuple(j for j in jaxprs if j is not None)
    return ()


def scan_arity(params: dict[str, Any]) -> tuple[int, int]:
    """Number of constants and of carried operands of a scan."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carry, _ = params["ft_in"].unpack()
    return len(constants), len(carry)


# ------------------------------------------------------------------------------------- execution


def evaluate(
    program: Program, args: Sequence[Any], itself: Callable[..., Any] | None = None
) -> list[Any]:
    """Runs a program on arrays or tracers.

    Args:
        program: what to run.
        args: its inputs.
        itself: what the operation ``self`` calls, in the derivative rule of a function.
    """
    env: dict[int, Any] = dict(program.constants)
    env.update(zip(program.inputs, args, strict=True))
    run(program.ops, env, itself)
    return [look_up(v, env) for v in program.outs]


def run(ops: Iterable[Op], env: dict[int, Any], itself: Callable[..., Any] | None = None) -> None:
    """Runs operations; their results are added to `env`."""
    for op in ops:
        values = [look_up(v, env) for v in op.ins]
        results = itself(*values) if itself and op.name == "self" else bind(op, values)
        env.update(zip(op.outs, results, strict=True))


def look_up(operand: Operand, env: dict[int, Any]) -> Any:
    """The value of an operand."""
    return env[operand] if isinstance(operand, int) else operand.value


def bind(op: Op, values: Sequence[Any]) -> Sequence[Any]:
    """Runs one operation."""
    if op.name == "inline":
        return evaluate(op.bodies[0], values)
    if op.name == "map":
        return _bind_map(op, values)
    if op.name == "custom_jvp":
        return _bind_custom_jvp(op, values)
    assert op.primitive is not None
    params = op.primitive.get_bind_params(_with_bodies(op) if op.rebuilt else op.params)
    results = op.primitive.bind(*values, **params)
    return results if op.primitive.multiple_results else [results]


def _bind_map(op: Op, values: Sequence[Any]) -> Sequence[Any]:
    """All instances of the body, one after the other."""
    mapped = op.params["mapped"]

    def trip(own: Sequence[Any]) -> list[Any]:
        rest = iter(own)
        args = [next(rest) if m else v for v, m in zip(values, mapped, strict=True)]
        return evaluate(op.bodies[0], args)

    arrays = [v for v, m in zip(values, mapped, strict=True) if m]
    return lax.scan(
        lambda carry, own: (carry, trip(own)), None, arrays, length=op.params["length"]
    )[1]


def _with_bodies(op: Op) -> dict[str, Any]:
    """Parameters with the jaxprs of the rebuilt bodies."""
    jaxprs = [to_jaxpr(body) for body in op.bodies]
    if op.name == "scan":
        return {**op.params, "jaxpr": jaxprs[0]}
    if op.name == "cond":
        return {**op.params, "branches": tuple(jaxprs)}
    old = op.params["jaxprs"]
    remaining = iter(jaxprs)
    fields = {f: j if j is None else next(remaining) for f, j in zip(old._fields, old, strict=True)}
    return {**op.params, "jaxprs": old._replace(**fields)}


def _bind_custom_jvp(op: Op, values: Sequence[Any]) -> Sequence[Any]:
    """A function with a derivative rule of its own: bodies are (function, rule)."""
    function, rule = op.bodies
    moving: tuple[int, ...] = op.params["moving"]

    @jax.custom_jvp
    def call(*args: Any) -> tuple[Any, ...]:
        return tuple(evaluate(function, args))

    def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        args = [*primals, *(tangents[k] for k in moving)]
        results = tuple(evaluate(rule, args, call))
        return results[: len(op.outs)], results[len(op.outs) :]

    call.defjvp(jvp)
    return call(*values)


def to_jaxpr(program: Program) -> Jaxpr:
    """A program as a closed jaxpr."""
    structs = [program.avals[v].struct() for v in program.inputs]
    return trace(lambda *args: evaluate(program, args), structs)


def trace(function: Callable[..., Any], structs: Sequence[jax.ShapeDtypeStruct]) -> Jaxpr:
    """The closed jaxpr of a function of flat arrays, in 64 bits."""
    with jax.enable_x64(True):
        return jax.make_jaxpr(function)(*structs)
