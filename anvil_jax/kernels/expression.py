"""Scalar expressions: hash-consed UOps, folded as they are built.

Every kernel, scalar or tensor, is made of these. Building is where common subexpressions meet
(UOps are hash-consed), where constants fold, and where signs are brought out of products so that a
node and its negation share. All rewrites are exact in IEEE arithmetic, NaN, infinities and signed
zeros included; the only exception is `structural_zeros`, which derivative programs switch on.

Operations and their UOps:
    arithmetic      ADD SUB MUL FDIV NEG MAX SQRT; integers wrap
    comparison      CMPLT CMPEQ CMPNE, and CUSTOM("le")
    bits, logic     AND OR XOR, and CUSTOM("not")
    choice          WHERE(condition, if_true, if_false)
    conversion      CAST, BITCAST
    memory          LOAD(INDEX(BUFFER(arg=Buffer), index))
    loop counter    RANGE(arg=(name, trips))
    anything else   CUSTOM(arg=intrinsic name), spelled by the target's table
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels import index_arithmetic
from anvil_jax.kernels.adapter import INDEX, Ops, UOp, dtype_name, dtype_of
from anvil_jax.kernels.program import Buffer

type Number = float | int | bool

_ODD = frozenset({"sin", "tan", "tanh", "atan", "asin", "sinh", "asinh", "atanh", "erf", "cbrt"})
_EVEN = frozenset({"cos", "cosh", "abs"})

_FOLDABLE: dict[str, Callable[..., object]] = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "exp": np.exp,
    "exp2": np.exp2, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "floor": np.floor,
    "ceil": np.ceil, "round_even": np.rint, "abs": np.abs, "atan2": np.arctan2, "pow": np.power,
    "cbrt": np.cbrt, "fmod": np.fmod, "sign": np.sign,
}  # fmt: skip


def is_float(node: UOp) -> bool:
    """Whether a node's value is a floating-point number."""
    return dtype_name(node).startswith("float")


def value_of(node: UOp) -> Number | None:
    """The number a constant node stands for, else None."""
    return node.arg if node.op is Ops.CONST else None


class Expressions:
    """Builds expressions of one program and remembers the order in which they were made.

    Attributes:
        order: creation time of each node; statements draw from the same clock, so that sorting
            by it is a valid schedule and keeps values close to their uses.
        structural_zeros: fold ``0 * x`` to 0 and ``x + 0`` to x (wrong only for NaN, infinity and
            -0). Derivative programs need it: their zeros come from seeds, not from data.
    """

    def __init__(self, *, structural_zeros: bool = False) -> None:
        self.order: dict[UOp, int] = {}
        self.structural_zeros = structural_zeros
        self._clock = 0
        self._constants: dict[tuple[str, object], UOp] = {}
        self._bounds: dict[UOp, tuple[int, int] | None] = {}
        self._ranges = 0

    def tick(self) -> int:
        """The next point of time on the clock that nodes and statements share."""
        self._clock += 1
        return self._clock

    def _node(
        self, op: Ops, dtype: str, src: tuple[UOp, ...], arg: object = None, tag: object = None
    ) -> UOp:
        node = UOp(op, dtype_of(dtype), src, arg, tag)
        if node not in self.order:
            self.order[node] = self.tick()
        return node

    # -- leaves ---------------------------------------------------------------------------------

    def const(self, value: Any, dtype: str) -> UOp:
        """A literal of `dtype`; -0.0 and NaN payload-free NaN are kept apart from 0.0."""
        if dtype == "index":
            exact: Number = int(value)
            key: object = exact
            tag = None
        else:
            kind = ELEMENT_TYPES[dtype].kind
            typed = np.asarray(value).astype(dtype)
            if kind == "f":
                exact = float(typed)
                negative_zero = exact == 0 and math.copysign(1.0, exact) < 0
                tag = "nan" if exact != exact else ("-0" if negative_zero else None)
                key = tag or exact
            else:
                exact = bool(typed) if kind == "b" else int(typed)
                key, tag = exact, None
        found = self._constants.get((dtype, key))
        if found is None:
            arg = 0.0 if tag == "nan" else exact
            found = self._node(Ops.CONST, dtype, (), arg, tag)
            if tag == "nan":
                # NaN never equals itself, so it cannot be the hash-consed argument.
                found = self._node(Ops.CUSTOM, dtype, (), "nan")
            self._constants[(dtype, key)] = found
        return found

    def index(self, value: int) -> UOp:
        """A literal index."""
        return self.const(value, "index")

    def loop_variable(self, trips: int) -> UOp:
        """A fresh loop counter running over 0 .. trips-1."""
        self._ranges += 1
        return self._node(Ops.RANGE, "index", (), (self._ranges, trips))

    def load(self, buffer: Buffer, index: UOp | int) -> UOp:
        """``buffer[index]``."""
        if isinstance(index, int):
            index = self.index(index)
        base = self._node(Ops.BUFFER, buffer.dtype, (), buffer)
        return self._node(
            Ops.LOAD, buffer.dtype, (self._node(Ops.INDEX, buffer.dtype, (base, index)),)
        )

    # -- folding helpers ------------------------------------------------------------------------

    def _fold(self, function: Callable[..., object], dtype: str, *nodes: UOp) -> UOp | None:
        """`function` of constant nodes in their own precision, or None if one is not constant."""
        values = [value_of(n) for n in nodes]
        if any(v is None for v in values):
            return None
        with np.errstate(all="ignore"):
            typed = [
                v if dtype_name(n) == "index" else np.asarray(v, dtype_name(n))[()]
                for v, n in zip(values, nodes, strict=True)
            ]
            return self.const(function(*typed), dtype)

    def _ordered(self, a: UOp, b: UOp) -> tuple[UOp, UOp]:
        """Operands of a commutative operation in canonical order: constants last, then by age."""
        if (a.op is Ops.CONST, self.order[a]) > (b.op is Ops.CONST, self.order[b]):
            return b, a
        return a, b

    # -- arithmetic -----------------------------------------------------------------------------

    def add(self, a: UOp, b: UOp) -> UOp:
        """``a + b``; or of bools."""
        dtype = dtype_name(a)
        if dtype == "bool":
            return self.logical_or(a, b)
        a, b = self._ordered(a, b)
        if (folded := self._fold(lambda x, y: x + y, dtype, a, b)) is not None:
            return folded
        zero = value_of(b)
        if zero == 0 and (not is_float(a) or self.structural_zeros or b.tag == "-0"):
            return a
        if dtype == "index":
            simpler = index_arithmetic.simplified_sum(self, a, b)
            return self._node(Ops.ADD, dtype, (a, b)) if simpler is None else simpler
        if is_float(a):
            if b.op is Ops.NEG:
                return self.sub(a, b.src[0])
            if a.op is Ops.NEG:
                return self.sub(b, a.src[0])
        return self._node(Ops.ADD, dtype, (a, b))

    def sub(self, a: UOp, b: UOp) -> UOp:
        """``a - b``."""
        dtype = dtype_name(a)
        if (folded := self._fold(lambda x, y: x - y, dtype, a, b)) is not None:
            return folded
        if dtype == "index":
            return self.add(a, self.mul(b, self.index(-1)))
        if value_of(b) == 0 and (b.tag is None or self.structural_zeros):
            return a  # x - (+0) is x, also for x = -0
        if not is_float(a):
            return self.const(0, dtype) if a is b else self._node(Ops.SUB, dtype, (a, b))
        if value_of(a) == 0 and (a.tag == "-0" or self.structural_zeros):
            return self.neg(b)
        if b.op is Ops.NEG:
            return self.add(a, b.src[0])
        return self._node(Ops.SUB, dtype, (a, b))

    def neg(self, a: UOp) -> UOp:
        """``-a``."""
        dtype = dtype_name(a)
        if (folded := self._fold(lambda x: -x, dtype, a)) is not None:
            return folded
        if a.op is Ops.NEG:
            return a.src[0]
        if a.op is Ops.MUL and is_float(a) and a.src[1].op is Ops.CONST:
            return self.mul(a.src[0], self.neg(a.src[1]))
        return self._node(Ops.NEG, dtype, (a,))

    def mul(self, a: UOp, b: UOp) -> UOp:
        """``a * b``; and of bools."""
        dtype = dtype_name(a)
        if dtype == "bool":
            return self.logical_and(a, b)
        a, b = self._ordered(a, b)
        if (folded := self._fold(lambda x, y: x * y, dtype, a, b)) is not None:
            return folded
        factor = value_of(b)
        if factor == 1:
            return a
        if factor == 0 and (not is_float(a) or self.structural_zeros):
            return self.const(0, dtype)
        if dtype == "index":
            simpler = index_arithmetic.simplified_product(self, a, b)
            return self._node(Ops.MUL, dtype, (a, b)) if simpler is None else simpler
        if is_float(a):
            if a.op is Ops.NEG:
                return self.neg(self.mul(a.src[0], b))
            if b.op is Ops.NEG:
                return self.neg(self.mul(a, b.src[0]))
            if factor == -1:
                return self.neg(a)
        return self._node(Ops.MUL, dtype, (a, b))

    def div(self, a: UOp, b: UOp) -> UOp:
        """Floating division, or JAX's truncating integer division (total: no trap, no UB)."""
        dtype = dtype_name(a)
        if not is_float(a):
            if value_of(b) == 1:
                return a
            return self.intrinsic("int_div", dtype, a, b)
        if (folded := self._fold(lambda x, y: x / y, dtype, a, b)) is not None:
            return folded
        divisor = value_of(b)
        if divisor is not None and divisor != 0 and math.frexp(divisor)[0] in (0.5, -0.5):
            reciprocal = 1.0 / divisor
            if 2.0**-120 < abs(reciprocal) < 2.0**120:  # exact and normal, also in float32
                return self.mul(a, self.const(reciprocal, dtype))
        if self.structural_zeros and value_of(a) == 0:
            return a
        if a.op is Ops.NEG:
            return self.neg(self.div(a.src[0], b))
        if b.op is Ops.NEG:
            return self.neg(self.div(a, b.src[0]))
        return self._node(Ops.FDIV, dtype, (a, b))

    def sqrt(self, a: UOp) -> UOp:
        """Square root, correctly rounded."""
        folded = self._fold(np.sqrt, dtype_name(a), a)
        return folded if folded is not None else self._node(Ops.SQRT, dtype_name(a), (a,))

    def power(self, a: UOp, exponent: int) -> UOp:
        """``a**exponent`` for an integer exponent, by squaring."""
        dtype = dtype_name(a)
        one = self.const(1, dtype)
        if exponent < 0:
            return self.div(one, self.power(a, -exponent))
        result, square = None, a
        while exponent:
            if exponent & 1:
                result = square if result is None else self.mul(result, square)
            exponent >>= 1
            if exponent:
                square = self.mul(square, square)
        return one if result is None else result

    def maximum(self, a: UOp, b: UOp) -> UOp:
        """Larger of two; NaN if either is NaN."""
        return self._extremum("maximum", max, a, b)

    def minimum(self, a: UOp, b: UOp) -> UOp:
        """Smaller of two; NaN if either is NaN."""
        return self._extremum("minimum", min, a, b)

    def _extremum(self, name: str, function: Callable[..., Number], a: UOp, b: UOp) -> UOp:
        dtype = dtype_name(a)
        if a is b:
            return a
        if dtype == "bool":
            return self.logical_or(a, b) if name == "maximum" else self.logical_and(a, b)
        va, vb = value_of(a), value_of(b)
        if va is not None and vb is not None and va != vb:
            return self.const(function(va, vb), dtype)
        if dtype in ("index", "int32"):
            low, high = (self.bounds(a), self.bounds(b))
            if low and high:
                if name == "maximum" and low[0] >= high[1]:
                    return a
                if name == "maximum" and high[0] >= low[1]:
                    return b
                if name == "minimum" and low[1] <= high[0]:
                    return a
                if name == "minimum" and high[1] <= low[0]:
                    return b
        return self._node(Ops.CUSTOM, dtype, (a, b), name)

    def intrinsic(self, name: str, dtype: str, *operands: UOp) -> UOp:
        """A named function of the target's table, e.g. ``sin``, ``atan2``, ``shift_left``."""
        a = operands[0] if operands else None
        if name in _FOLDABLE:
            folded = self._fold(_FOLDABLE[name], dtype, *operands)
            if folded is not None:
                return folded
        if a is not None and a.op is Ops.NEG and is_float(a) and len(operands) == 1:
            if name in _ODD:
                return self.neg(self.intrinsic(name, dtype, a.src[0]))
            if name in _EVEN:
                return self.intrinsic(name, dtype, a.src[0])
        return self._node(Ops.CUSTOM, dtype, operands, name)

    # -- comparison, logic, choice --------------------------------------------------------------

    def less(self, a: UOp, b: UOp) -> UOp:
        """``a < b``, false if either is NaN."""
        if dtype_name(a) in ("index", "int32"):
            low, high = self.bounds(a), self.bounds(b)
            if low and high:
                if low[1] < high[0]:
                    return self.const(True, "bool")
                if low[0] >= high[1]:
                    return self.const(False, "bool")
        if _is_limit(b, "min") or _is_limit(a, "max"):
            return self.const(False, "bool")
        return self._compare(Ops.CMPLT, None, lambda x, y: x < y, a, b)

    def less_equal(self, a: UOp, b: UOp) -> UOp:
        """``a <= b``, false if either is NaN."""
        if _is_limit(b, "max") or _is_limit(a, "min"):
            return self.const(True, "bool")
        return self._compare(Ops.CUSTOM, "le", lambda x, y: x <= y, a, b)

    def equal(self, a: UOp, b: UOp) -> UOp:
        """``a == b``."""
        return self._compare(Ops.CMPEQ, None, lambda x, y: x == y, *self._ordered(a, b))

    def not_equal(self, a: UOp, b: UOp) -> UOp:
        """``a != b``, true if either is NaN."""
        return self._compare(Ops.CMPNE, None, lambda x, y: x != y, *self._ordered(a, b))

    def _compare(
        self, op: Ops, arg: str | None, function: Callable[..., object], a: UOp, b: UOp
    ) -> UOp:
        folded = self._fold(function, "bool", a, b)
        return folded if folded is not None else self._node(op, "bool", (a, b), arg)

    def logical_and(self, a: UOp, b: UOp) -> UOp:
        """Both bools."""
        return self._logical(Ops.AND, True, a, b)

    def logical_or(self, a: UOp, b: UOp) -> UOp:
        """Either bool."""
        return self._logical(Ops.OR, False, a, b)

    def _logical(self, op: Ops, neutral: bool, a: UOp, b: UOp) -> UOp:
        a, b = self._ordered(a, b)
        if a is b:
            return a
        if b.op is Ops.CONST:
            return a if b.arg is neutral else b
        return self._node(op, "bool", (a, b))

    def logical_not(self, a: UOp) -> UOp:
        """Negated bool."""
        if a.op is Ops.CONST:
            return self.const(not a.arg, "bool")
        if a.op is Ops.CUSTOM and a.arg == "not":
            return a.src[0]
        return self._node(Ops.CUSTOM, "bool", (a,), "not")

    def bitwise(self, op: Ops, a: UOp, b: UOp) -> UOp:
        """AND, OR or XOR of integers."""
        function = {
            Ops.AND: lambda x, y: x & y, Ops.OR: lambda x, y: x | y, Ops.XOR: lambda x, y: x ^ y,
        }[op]  # fmt: skip
        a, b = self._ordered(a, b)
        folded = self._fold(function, dtype_name(a), a, b)
        return folded if folded is not None else self._node(op, dtype_name(a), (a, b))

    def where(self, condition: UOp, if_true: UOp, if_false: UOp) -> UOp:
        """One of two values; both are computed."""
        if condition.op is Ops.CONST:
            return if_true if condition.arg else if_false
        if if_true is if_false:
            return if_true
        if condition.op is Ops.CUSTOM and condition.arg == "not":
            return self.where(condition.src[0], if_false, if_true)
        return self._node(Ops.WHERE, dtype_name(if_true), (condition, if_true, if_false))

    def cast(self, a: UOp, dtype: str) -> UOp:
        """Conversion with JAX's meaning: float to integer saturates, NaN becomes 0."""
        source = dtype_name(a)
        if source == dtype:
            return a
        value = value_of(a)
        if value is not None:
            return self.const(_converted(value, dtype), dtype)
        if a.op is Ops.CAST and source != "bool" and dtype_name(a.src[0]) == "bool":
            return self.cast(a.src[0], dtype)
        return self._node(Ops.CAST, dtype, (a,))

    def bitcast(self, a: UOp, dtype: str) -> UOp:
        """Reinterprets the bits; both dtypes have the same width."""
        source = dtype_name(a)
        if source == dtype:
            return a
        value = value_of(a)
        if value is not None:
            return self.const(np.asarray(value, source).view(dtype)[()], dtype)
        return self._node(Ops.BITCAST, dtype, (a,))

    # -- index arithmetic -----------------------------------------------------------------------

    def floor_div(self, a: UOp, divisor: int) -> UOp:
        """``a // divisor`` of an index known to be non-negative."""
        whole, rest = index_arithmetic.split_multiples(self, a, divisor)
        limits = self.bounds(rest)
        if limits and limits[0] >= 0 and limits[1] < divisor:
            return whole
        return self._node(Ops.CDIV, "index", (a, self.index(divisor)))

    def floor_mod(self, a: UOp, divisor: int) -> UOp:
        """``a % divisor`` of an index known to be non-negative."""
        _, rest = index_arithmetic.split_multiples(self, a, divisor)
        limits = self.bounds(rest)
        if limits and limits[0] >= 0 and limits[1] < divisor:
            return rest
        return self._node(Ops.CMOD, "index", (a, self.index(divisor)))

    def bounds(self, a: UOp) -> tuple[int, int] | None:
        """Smallest and largest value an index expression can take, None if unknown."""
        if a not in self._bounds:
            self._bounds[a] = index_arithmetic.bounds(a, self.bounds)
        return self._bounds[a]

    def to_index(self, a: UOp) -> UOp:
        """An integer value as an index (the caller has clamped it to 32 bits)."""
        return a if a.dtype is INDEX else self.cast(a, "index")


def _is_limit(node: UOp, which: str) -> bool:
    """Whether a node is the smallest (``min``) or largest (``max``) integer of its dtype."""
    dtype = dtype_name(node)
    if node.op is not Ops.CONST or dtype == "index" or ELEMENT_TYPES[dtype].kind not in "iu":
        return False
    return node.arg == getattr(np.iinfo(dtype), which)


def _converted(value: Number, dtype: str) -> Number:
    if dtype == "index":
        return int(value)
    kind = ELEMENT_TYPES[dtype].kind
    if kind in "iu" and isinstance(value, float):
        limits = np.iinfo(dtype)
        if math.isnan(value):
            return 0
        return (
            int(max(min(value, limits.max), limits.min))
            if math.isfinite(value)
            else (limits.max if value > 0 else limits.min)
        )
    if kind in "iu":
        bits = ELEMENT_TYPES[dtype].bits
        wrapped = int(value) % 2**bits
        return wrapped - 2**bits if kind == "i" and wrapped >= 2 ** (bits - 1) else wrapped
    if kind == "b":
        return bool(value)
    return value
