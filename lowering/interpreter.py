"""Walks a jaxpr, applies one rule per equation, and returns the program.

What a rule can do is in `code.py`; `run` below lowers an inner jaxpr.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.extend import core

from anvil_jax.errors import AnvilError, LoweringError, UnsupportedPrimitiveError
from anvil_jax.kernels.adapter import Ops
from anvil_jax.kernels.program import Buffer, Program
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.code import Code
from anvil_jax.lowering.implementation import trace_implementation
from anvil_jax.lowering.registry import may_consume, rule_for
from anvil_jax.lowering.selection import KernelChoice
from anvil_jax.lowering.values import Constant, Elements, Pull, Value
from anvil_jax.tracing import user_location


class Lowering(Code):
    """Code under construction, and the walk over the jaxprs it comes from."""

    def run(
        self, jaxpr: core.Jaxpr, consts: Sequence[object], args: Sequence[Value]
    ) -> list[Value]:
        """Lowers the equations of `jaxpr` that its results need; returns the results."""
        equations = live_equations(jaxpr)
        uses = Counter(
            v
            for v in itertools.chain(*(e.invars for e in equations), jaxpr.outvars)
            if not isinstance(v, core.Literal)
        )
        left = Counter(uses)
        env: dict[core.Var, Value] = {}
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            env[var] = self.constant(np.asarray(const))
        for var, arg in zip(jaxpr.invars, args, strict=True):
            env[var] = self.shared(arg, uses[var])

        def read(atom: core.Var | core.Literal) -> Value:
            if isinstance(atom, core.Literal):
                return self.constant(np.asarray(atom.val, dtype=aval_dtype(atom.aval)))
            return env[atom]

        for eqn in equations:
            outer, self.location = self.location, user_location(eqn) or self.location
            operands = [read(v) for v in eqn.invars]
            for v in eqn.invars:
                if not isinstance(v, core.Literal):
                    left[v] -= 1
            if any(isinstance(x, Pull) and x.owned for x in operands):
                needed = [value for var, value in env.items() if left[var] > 0]
                operands = _ownership(eqn, operands, needed)
            results = self._equation(eqn, operands)
            for var, value in zip(eqn.outvars, results, strict=True):
                env[var] = self.shared(value, uses[var])
            self.location = outer
        return [read(v) for v in jaxpr.outvars]

    def run_function(self, function: Callable[..., object], *operands: Value) -> list[Value]:
        """Lowers a JAX function of the operands, for rules that are easiest said in JAX."""
        structs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands]
        with jax.enable_x64(True):
            traced = jax.make_jaxpr(function)(*structs)
        return self.run(traced.jaxpr, traced.consts, operands)

    def _equation(self, eqn: core.JaxprEqn, operands: list[Value]) -> Sequence[Value]:
        try:
            rule = rule_for(eqn.primitive)
            if _moves_keys(eqn):
                results: Value | Sequence[Value] = self.run_function(_on_words(eqn), *operands)
            elif rule is None:
                inner = trace_implementation(eqn)
                if inner is None:
                    raise UnsupportedPrimitiveError(
                        f"primitive {eqn.primitive.name!r} has no lowering rule and no "
                        f"implementation that JAX can trace{self.where()}. Rewrite that part with "
                        "other jax.numpy operations, or add a rule with "
                        "anvil_jax.lowering.register."
                    )
                results = self.run(inner, inner.consts, operands)
            else:
                results = rule(self, eqn, *operands)
        except AnvilError:
            raise
        except Exception as error:
            raise LoweringError(
                f"cannot lower {eqn.primitive.name!r}{self.where()}: "
                f"{type(error).__name__}: {error}"
            ) from error
        values = [results] if isinstance(results, Constant | Elements | Pull) else list(results)
        for var, value in zip(eqn.outvars, values, strict=True):
            wanted = aval_shape(var.aval), aval_dtype(var.aval)
            if (tuple(value.shape), value.dtype) != wanted:
                raise LoweringError(
                    f"the rule of {eqn.primitive.name!r} gave {value.dtype}{list(value.shape)}, "
                    f"JAX says {wanted[1]}{list(wanted[0])}{self.where()}"
                )
        return values


def _is_key(aval: object) -> bool:
    return getattr(getattr(aval, "dtype", None), "_impl", None) is not None


def _moves_keys(eqn: core.JaxprEqn) -> bool:
    """Whether the equation rearranges random keys without looking into them."""
    return (
        any(_is_key(v.aval) for v in eqn.invars)
        and not eqn.primitive.name.startswith("random_")
        and not list(core.jaxprs_in_params(eqn.params))
    )


def _on_words(eqn: core.JaxprEqn) -> Callable[..., object]:
    """The same rearrangement of the keys' words, which lie along an additional last axis."""
    axes = tuple(-1 if _is_key(v.aval) else None for v in eqn.invars)

    def one_word(*operands: jax.Array) -> object:
        return eqn.primitive.bind(*operands, **eqn.params)

    return jax.vmap(one_word, in_axes=axes, out_axes=-1)


def _ownership(eqn: core.JaxprEqn, operands: list[Value], needed: Sequence[Value]) -> list[Value]:
    """The operands; memory may be overwritten only where nobody reads it afterwards.

    An operand stays `owned` if the equation's rule can use that and neither another operand nor a
    value needed later (which may be computed from this memory lazily) reads the same storage.
    """
    passed = []
    for k, value in enumerate(operands):
        if isinstance(value, Pull) and value.owned:
            others = [*operands[:k], *operands[k + 1 :], *needed]
            if not may_consume(eqn.primitive) or any(_may_read(o, value) for o in others):
                value = value.borrowed()
        passed.append(value)
    return passed


def _may_read(other: Value, value: Pull) -> bool:
    if not isinstance(other, Pull):
        return False
    assert value.reads is not None
    return other.reads is None or bool(other.reads & value.reads)


def live_equations(jaxpr: core.Jaxpr) -> list[core.JaxprEqn]:
    """The equations that the results depend on, in order."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}
    live = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            live.append(eqn)
            needed.update(v for v in eqn.invars if not isinstance(v, core.Literal))
    return live[::-1]


def lower_jaxpr(
    jaxpr: core.Jaxpr,
    consts: Sequence[object],
    kernel: KernelChoice,
    *,
    has_threads: bool = False,
) -> Program:
    """Lowers a closed, flat jaxpr.

    Args:
        jaxpr: the function.
        consts: values of its constvars.
        kernel: ``auto``, or ``scalar`` / ``tensor`` to override the choice.
        has_threads: whether the program is for a graphics processor.

    Returns:
        The program; inputs and outputs in jaxpr order.

    Raises:
        LoweringError: an operation has no native form; the message names the user's line.
    """
    lowering = Lowering(kernel, has_threads=has_threads)
    for v in (*jaxpr.invars, *jaxpr.outvars):
        lowering.check_size(math.prod(aval_shape(v.aval)))
    inputs = tuple(
        Buffer(aval_dtype(v.aval), math.prod(aval_shape(v.aval)), "input", k, scope=lowering.root)
        for k, v in enumerate(jaxpr.invars)
    )
    args = [lowering.view(b, aval_shape(v.aval)) for b, v in zip(inputs, jaxpr.invars, strict=True)]
    results = lowering.run(jaxpr, consts, args)
    outputs: list[Buffer] = []
    for k, value in enumerate(results):
        size = math.prod(value.shape)
        output = _whole_intermediate(value)
        if output is not None:
            output.space, output.position = "output", k
        else:
            output = Buffer(value.dtype, size, "output", k, scope=lowering.root)
            lowering.fill(output, lowering.ex.index(0), value)
        outputs.append(output)
    return Program(inputs, tuple(outputs), lowering.constants(), lowering.root, lowering.ex.order)


def _whole_intermediate(value: Value) -> Buffer | None:
    """The intermediate whose storage can become the output's: no copy is needed."""
    if not isinstance(value, Pull) or value.view is None or not value.is_contiguous:
        return None
    buffer, offset = value.view.buffer, value.view.offset
    whole = buffer.size == value.size and offset.op is Ops.CONST and offset.arg == 0
    if buffer.space == "intermediate" and buffer.base is None and whole:
        return buffer
    return None
