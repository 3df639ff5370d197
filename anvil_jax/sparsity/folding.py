"""Constant folding in NumPy, element by element where only some elements are known.

A fixed list of operations: index arithmetic, masks, and the arithmetic from which constant
coefficients come. What is not listed is unknown, which is always right. Operations whose NumPy
result may differ from JAX's (conversions out of range, integer division by zero, shifts by too
much) are refused for the values concerned.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.rules.registry import out_shapes
from anvil_jax.sparsity.structure import Known, Shape, Value, masked

type Operation = Callable[..., np.ndarray]
type ElementFold = Callable[[Sequence[Known], Any, Shape], Known | None]
type Fold = Callable[[Sequence[Known], Any, Shape], Known | list[Known] | None]

MAX_SIZE = 1 << 22
"""Elements up to which results are folded."""

MAX_PRODUCTS = 1 << 26
"""Multiplications up to which contractions are folded."""

ELEMENTWISE: dict[str, Operation] = {
    "abs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "add": np.add, "add_any": np.add,
    "and": np.bitwise_and, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atan2": np.arctan2, "atanh": np.arctanh, "cbrt": np.cbrt, "ceil": np.ceil,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "conj": np.conj, "copy": np.asarray, "copy_p": np.asarray, "cos": np.cos, "cosh": np.cosh,
    "eq": np.equal, "eq_to": np.equal, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "floor": np.floor, "ge": np.greater_equal, "gt": np.greater, "is_finite": np.isfinite,
    "le": np.less_equal, "log": np.log, "log1p": np.log1p, "log2": np.log2,
    "logistic": lambda x: 1 / (1 + np.exp(-x)), "lt": np.less, "max": np.maximum,
    "min": np.minimum, "mul": np.multiply, "ne": np.not_equal, "neg": np.negative,
    "not": np.invert, "one_minus_square": lambda x: 1 - x * x,
    "or": np.bitwise_or, "rsqrt": lambda x: 1 / np.sqrt(x), "sign": np.sign, "sin": np.sin,
    "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "stop_gradient": np.asarray,
    "sub": np.subtract, "tan": np.tan, "tanh": np.tanh, "xor": np.bitwise_xor,
}  # fmt: skip
"""By primitive; applied to operands that broadcast."""


def fold(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Results of an equation whose operands do not depend on the seed.

    Args:
        eqn: the equation.
        operands: each `Known` or None.

    Returns:
        What is known about each result.
    """
    unknown: list[Value] = [None] * len(eqn.outvars)
    sizes = [math.prod(shape) for shape in out_shapes(eqn)]
    if not sizes or max(sizes) > MAX_SIZE or eqn.effects:
        return unknown
    result = _folded(eqn, [v if isinstance(v, Known) else None for v in operands])
    if result is None:
        return unknown
    results = [result] if isinstance(result, Known) else result
    return [_typed(r, v.aval) for r, v in zip(results, eqn.outvars, strict=True)]


def _typed(result: Known, aval: Any) -> Known:
    """In the dtype that JAX gives it."""
    if result.values.dtype == aval.dtype:
        return result
    return Known(result.values.astype(aval.dtype), result.mask)


def _folded(eqn: JaxprEqn, operands: Sequence[Known | None]) -> Known | list[Known] | None:
    name, p = eqn.primitive.name, eqn.params
    shape = out_shapes(eqn)[0]
    known = [v for v in operands if v is not None]
    complete = len(known) == len(operands)
    whole = complete and all(v.mask is None for v in known)
    result = None
    if complete and name in ELEMENTWISE:
        result = _elementwise(ELEMENTWISE[name], known, shape)
    elif complete and name in _SPECIAL:
        result = _SPECIAL[name](known, p, shape)
    elif whole and name in _WHOLE:
        return _WHOLE[name](known, p, shape)
    if name in _ABSORBING and not whole:
        return _absorbed(name, operands, result, shape)
    return result


def _elementwise(operation: Operation, operands: Sequence[Known], shape: Shape) -> Known | None:
    values = _applied(operation, [v.values for v in operands], shape)
    masks = [v.mask for v in operands if v.mask is not None]
    if not masks:
        return Known(values)
    return masked(values, np.broadcast_to(np.logical_and.reduce(masks), shape))


def _applied(operation: Operation, arrays: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
    """The operation, once only along axes over which all operands are broadcast."""
    if not shape:
        return np.asarray(operation(*arrays))
    arrays = [np.broadcast_to(a, shape) for a in arrays]
    constant = [n > 1 and not any(a.strides[d] for a in arrays) for d, n in enumerate(shape)]
    if any(constant):
        first = tuple(slice(0, 1) if c else slice(None) for c in constant)
        arrays = [a[first] for a in arrays]
    return np.broadcast_to(operation(*arrays), shape)


def _absorbed(
    name: str, operands: Sequence[Known | None], common: Known | None, shape: Shape
) -> Known | None:
    """An operation of which one operand can decide the result alone.

    Values that are not known are taken to be finite, and denominators not to be zero.

    Args:
        name: of the primitive.
        operands: what is known about them.
        common: the result where all are known.
        shape: of the result.
    """
    some = next(v for v in operands if v is not None)
    values, mask = np.zeros(shape, some.values.dtype), np.zeros(shape, bool)
    if common is not None:
        values = common.values
        mask = np.ones(shape, bool) if common.mask is None else common.mask
    for position, decides in enumerate(_ABSORBING[name]):
        operand = operands[position]
        if operand is None or decides is None:
            continue
        decided = decides(operand.values) & ~mask
        if operand.mask is not None:
            decided &= operand.mask
        result = -operand.values if (name, position) == ("sub", 1) else operand.values
        values, mask = np.where(decided, result, values), mask | decided
    return masked(values, mask)


def _is_zero(values: np.ndarray) -> np.ndarray:
    return values == 0


_ABSORBING: dict[str, tuple[Operation | None, Operation | None]] = {
    "add": (np.isinf, np.isinf),
    "and": (_is_zero, _is_zero),
    "div": (_is_zero, None),
    "mul": (_is_zero, _is_zero),
    "or": (lambda values: ~values == 0, lambda values: ~values == 0),
    "sub": (np.isinf, np.isinf),
}
"""Values of the first and second operand that decide the result."""


# ----------------------------------------------------------------------------- with parameters


def _convert(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
    source, target = operands[0].values, np.dtype(p["new_dtype"])
    if target.kind in "iu" and source.dtype.kind not in "iub":
        info = np.iinfo(target)
        real = np.real(source)
        if not ((real >= float(info.min)) & (real < float(info.max))).all():
            return None
    discards = source.dtype.kind == "c" and target.kind != "c"
    return _elementwise(lambda x: (np.real(x) if discards else x).astype(target), operands, shape)


def _division(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
    del p
    if operands[0].values.dtype.kind not in "iu":
        return _elementwise(np.true_divide, operands, shape)
    if (operands[1].values == 0).any():
        return None
    return _elementwise(_truncated, operands, shape)


def _truncated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer quotient rounded towards zero."""
    return np.floor_divide(a, b) + ((np.remainder(a, b) != 0) & ((a < 0) != (b < 0)))


def _remainder(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
    del p
    if operands[1].values.dtype.kind in "iu" and (operands[1].values == 0).any():
        return None
    return _elementwise(np.fmod, operands, shape)


def _round(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
    if "EVEN" in str(p["rounding_method"]).upper():
        return _elementwise(np.rint, operands, shape)
    return _elementwise(
        lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x).astype(x.dtype), operands, shape
    )


def _power(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
    del p
    if operands[0].values.dtype.kind != "f":
        return None
    return _elementwise(np.power, operands, shape)


def _integer_power(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
    exponent = p["y"]
    if operands[0].values.dtype.kind != "f" and exponent < 0:
        return None
    return _elementwise(lambda x: x**exponent, operands, shape)


def _shift(operation: Operation) -> ElementFold:
    def folded(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
        del p
        bits = 8 * operands[0].values.dtype.itemsize
        if not ((operands[1].values >= 0) & (operands[1].values < bits)).all():
            return None
        return _elementwise(operation, operands, shape)

    return folded


_SPECIAL: dict[str, ElementFold] = {
    "convert_element_type": _convert,
    "div": _division,
    "integer_pow": _integer_power,
    "pow": _power,
    "rem": _remainder,
    "round": _round,
    "shift_left": _shift(np.left_shift),
    "shift_right_arithmetic": _shift(np.right_shift),
}
"""Elementwise operations that need a closer look; also of partly known operands."""


# ------------------------------------------------------------------- of completely known operands


def _iota(operands: Sequence[Known], p: Any, shape: Shape) -> Known:
    del operands
    counter = np.arange(shape[p["dimension"]]).astype(p["dtype"])
    layout = [-1 if d == p["dimension"] else 1 for d in range(len(shape))]
    return Known(np.broadcast_to(counter.reshape(layout), shape))


def _reduce(operation: Operation) -> Fold:
    def folded(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
        del shape
        values = operands[0].values
        return Known(np.asarray(operation(values, axis=tuple(p["axes"])))) if values.size else None

    return folded


def _accumulate(operation: np.ufunc) -> Fold:
    def folded(operands: Sequence[Known], p: Any, shape: Shape) -> Known:
        del shape
        axis, values = p["axis"], operands[0].values
        values = np.flip(values, axis) if p["reverse"] else values
        result = operation.accumulate(values, axis=axis, dtype=values.dtype)
        return Known(np.flip(result, axis) if p["reverse"] else result)

    return folded


def _arg_extreme(operation: Operation) -> Fold:
    def folded(operands: Sequence[Known], p: Any, shape: Shape) -> Known:
        return Known(np.asarray(operation(operands[0].values, axis=p["axes"][0])).reshape(shape))

    return folded


def _sort(operands: Sequence[Known], p: Any, shape: Shape) -> list[Known] | None:
    del shape
    if p["num_keys"] != 1:
        return None
    order = np.argsort(operands[0].values, axis=p["dimension"], stable=True)
    return [Known(np.take_along_axis(v.values, order, p["dimension"])) for v in operands]


def _contraction(operands: Sequence[Known], p: Any, shape: Shape) -> Known | None:
    left, right = (v.values for v in operands)
    (left_sum, right_sum), (left_batch, _) = p["dimension_numbers"]
    work = math.prod(shape) * math.prod(left.shape[d] for d in left_sum)
    if left_batch or work > MAX_PRODUCTS:
        return None
    result = np.tensordot(left, right, (tuple(left_sum), tuple(right_sum)))
    return Known(np.asarray(result).reshape(shape))


_WHOLE: dict[str, Fold] = {
    "argmax": _arg_extreme(np.argmax),
    "argmin": _arg_extreme(np.argmin),
    "cummax": _accumulate(np.maximum),
    "cummin": _accumulate(np.minimum),
    "cumprod": _accumulate(np.multiply),
    "cumsum": _accumulate(np.add),
    "dot_general": _contraction,
    "iota": _iota,
    "reduce_and": _reduce(np.bitwise_and.reduce),
    "reduce_max": _reduce(np.max),
    "reduce_min": _reduce(np.min),
    "reduce_or": _reduce(np.bitwise_or.reduce),
    "reduce_prod": _reduce(np.prod),
    "reduce_sum": _reduce(np.sum),
    "reduce_xor": _reduce(np.bitwise_xor.reduce),
    "sort": _sort,
}
