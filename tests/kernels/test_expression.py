"""Expression folding is exact: random expressions against NumPy, special values included.

Every expression is built twice: from variables, where only structural rewrites apply, and from
constants, where everything folds. Both must equal NumPy bit for bit (any NaN is as good as
another).
"""

import math
from typing import Any

import numpy as np
import pytest

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.expression import Expressions, is_float
from anvil_jax.kernels.program import Buffer

SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.7, 1e300, 1e-300]
UNARY = ("neg", "sqrt", "abs", "sin", "tanh", "floor")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "less", "equal", "less_equal")

_NUMPY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "maximum": np.maximum, "minimum": np.minimum, "neg": np.negative, "sqrt": np.sqrt,
    "abs": np.abs, "sin": np.sin, "tanh": np.tanh, "floor": np.floor,
}  # fmt: skip


def apply(ex: Expressions, name: str, *nodes: UOp) -> UOp:
    method = getattr(ex, name, None)
    return method(*nodes) if method else ex.intrinsic(name, dtype_name(nodes[0]), *nodes)


def evaluate(node: UOp, values: dict[UOp, Any]) -> Any:
    """The value of an expression, operation by operation in NumPy scalars of its dtype."""
    if node in values:
        return values[node]
    dtype = np.dtype(dtype_name(node)) if dtype_name(node) != "index" else np.dtype("int64")
    if node.op is Ops.CONST:
        return dtype.type(-0.0 if node.tag == "-0" else node.arg)
    if node.op is Ops.CUSTOM and node.arg == "nan":
        return dtype.type(math.nan)
    args = [evaluate(s, values) for s in node.src]
    operations = {
        Ops.ADD: np.add, Ops.SUB: np.subtract, Ops.MUL: np.multiply, Ops.FDIV: np.divide,
        Ops.NEG: np.negative, Ops.SQRT: np.sqrt, Ops.CMPLT: np.less, Ops.CMPEQ: np.equal,
        Ops.CMPNE: np.not_equal, Ops.AND: np.bitwise_and, Ops.OR: np.bitwise_or,
        Ops.XOR: np.bitwise_xor, Ops.CDIV: np.floor_divide, Ops.CMOD: np.mod,
    }  # fmt: skip
    if node.op is Ops.WHERE:
        return args[1] if args[0] else args[2]
    if node.op is Ops.CAST:
        return dtype.type(args[0])
    if node.op is Ops.CUSTOM:
        names = {"le": np.less_equal, "not": np.logical_not, **_NUMPY}
        return names[node.arg](*args)
    return operations[node.op](*args)


def same(a: object, b: object) -> bool:
    x, y = np.asarray(a), np.asarray(b)
    if x.dtype == y.dtype and x.dtype.kind == "f" and np.isnan(x):
        return bool(np.isnan(y))
    return x.dtype == y.dtype and x.tobytes() == y.tobytes()


def variable(ex: Expressions, dtype: str, position: int) -> UOp:
    return ex.load(Buffer(dtype, 8, "input", position), 0)


class RandomExpression:
    """Grows an expression and its value side by side, the value in NumPy alone."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.generator = np.random.default_rng(seed)
        self.ex = Expressions()
        self.dtype = np.dtype(dtype)
        self.values: dict[UOp, object] = {}
        self.pool: list[tuple[UOp, object]] = []
        for k in range(4):
            value = self.number()
            node = variable(self.ex, dtype, k)
            self.values[node] = value
            self.pool.append((node, value))
        for value in (0.0, -0.0, 1.0, -1.0, 2.0, 0.25, math.nan, math.inf, 3.0):
            if self.dtype.kind == "f" or (math.isfinite(value) and value == int(value)):
                number = np.asarray(value).astype(self.dtype)[()]
                self.pool.append((self.ex.const(number, dtype), number))

    def number(self) -> object:
        if self.dtype.kind == "f":
            return self.dtype.type(self.generator.choice(SPECIAL))
        info = np.iinfo(self.dtype)
        ends = [info.min, info.max, 0, 1, 3]
        return self.dtype.type(ends[self.generator.integers(len(ends))])

    def pick(self) -> tuple[UOp, object]:
        return self.pool[self.generator.integers(len(self.pool))]

    def grow(self) -> None:
        unary, binary = self.names()
        name = [*unary, *binary][self.generator.integers(len(unary) + len(binary))]
        picked = [self.pick() for _ in range(1 if name in unary else 2)]
        nodes, numbers = [p[0] for p in picked], [p[1] for p in picked]
        if name in ("less", "equal", "less_equal"):
            compare = {"less": np.less, "equal": np.equal, "less_equal": np.less_equal}[name]
            other = self.pick()
            node = self.ex.where(apply(self.ex, name, *nodes), nodes[0], other[0])
            value = numbers[0] if compare(*numbers) else other[1]
        else:
            node = apply(self.ex, name, *nodes)
            value = _NUMPY[name](*numbers)
        self.pool.append((node, value))

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self.dtype.kind == "f":
            return UNARY, BINARY
        return ("neg",), ("add", "sub", "mul", "maximum", "minimum", "less", "equal", "less_equal")


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "int64", "uint8", "uint32"])
def test_random_expressions_are_exact(dtype):
    with np.errstate(all="ignore"):
        for seed in range(60):
            made = RandomExpression(seed, dtype)
            for _ in range(40):
                made.grow()
            for node, value in made.pool:
                assert dtype_name(node) == dtype
                got = evaluate(node, made.values)
                signs = isinstance(value, np.floating) and value == 0 == got
                # maximum(0, -0) has no defined sign, neither here nor in NumPy.
                assert same(got, value) or (signs and _has_extremum(node)), (seed, got, value)


def _has_extremum(node: UOp) -> bool:
    pending = [node]
    while pending:
        node = pending.pop()
        if node.op is Ops.CUSTOM and node.arg in ("maximum", "minimum"):
            return True
        pending.extend(node.src)
    return False


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [*UNARY, "add", "sub", "mul", "div"])
def test_constants_fold_to_numpy(name, dtype):
    ex = Expressions()
    kind = np.dtype(dtype).type
    with np.errstate(all="ignore"):
        for a in SPECIAL:
            for b in SPECIAL if name not in UNARY else (0.0,):
                operands = [ex.const(v, dtype) for v in ((a,) if name in UNARY else (a, b))]
                numbers = [kind(v) for v in ((a,) if name in UNARY else (a, b))]
                got = evaluate(apply(ex, name, *operands), {})
                assert same(got, _NUMPY[name](*numbers)), (name, numbers, got)


def test_equal_expressions_are_one_node():
    ex = Expressions()
    x, y = variable(ex, "float64", 0), variable(ex, "float64", 1)
    assert ex.add(x, y) is ex.add(y, x)
    assert ex.mul(x, y) is ex.mul(y, x)
    assert ex.sub(x, y) is not ex.sub(y, x)
    assert ex.equal(x, y) is ex.equal(y, x)


def test_a_product_and_its_negation_share():
    ex = Expressions()
    x, y = variable(ex, "float64", 0), variable(ex, "float64", 1)
    assert ex.mul(ex.neg(x), y) is ex.neg(ex.mul(x, y))
    assert ex.mul(ex.neg(x), ex.neg(y)) is ex.mul(x, y)
    assert ex.sub(x, ex.neg(y)) is ex.add(x, y)
    assert ex.add(x, ex.neg(y)) is ex.sub(x, y)
    assert ex.intrinsic("sin", "float64", ex.neg(x)) is ex.neg(ex.intrinsic("sin", "float64", x))
    assert ex.intrinsic("cos", "float64", ex.neg(x)) is ex.intrinsic("cos", "float64", x)


def test_signed_zero_and_nan_are_kept_apart():
    ex = Expressions()
    zero, minus = ex.const(0.0, "float64"), ex.const(-0.0, "float64")
    x = variable(ex, "float64", 0)
    assert zero is not minus
    assert ex.const(math.nan, "float64") is ex.const(-math.nan, "float64")
    assert ex.add(x, minus) is x
    assert ex.add(x, zero) is not x  # -0.0 + 0.0 is 0.0
    assert ex.sub(x, zero) is x
    assert ex.sub(x, minus) is not x
    assert ex.mul(x, zero) is not zero
    assert ex.neg(zero) is minus
    assert math.copysign(1, evaluate(ex.neg(zero), {})) == -1


def test_structural_zeros_fold_only_on_request():
    ex = Expressions(structural_zeros=True)
    x, zero = variable(ex, "float64", 0), ex.const(0.0, "float64")
    assert ex.mul(x, zero) is zero
    assert ex.add(x, zero) is x
    assert ex.sub(zero, x) is ex.neg(x)
    assert ex.div(zero, x) is zero


@pytest.mark.parametrize("divisor", [2.0, -4.0, 0.125, 3.0, 1e-300, 2.0**-1000, 0.0, 2.0**200])
def test_division_becomes_multiplication_only_when_exact(divisor):
    ex = Expressions()
    x = variable(ex, "float64", 0)
    node = ex.div(x, ex.const(divisor, "float64"))
    exact = divisor != 0 and math.frexp(abs(divisor))[0] == 0.5 and 1e-36 < abs(divisor) < 1e36
    assert (node.op is Ops.MUL) == exact
    with np.errstate(all="ignore"):
        for value in (math.nan, math.inf, -0.0, 3.7, 1e300, -1e-300):
            number = np.float64(value)
            assert same(evaluate(node, {x: number}), number / np.float64(divisor))


@pytest.mark.parametrize(
    ("value", "source", "dtype", "wanted"),
    [
        (300.7, "float64", "int8", 127),
        (-1.5, "float64", "uint8", 0),
        (math.inf, "float32", "int64", 2**63 - 1),
        (-math.inf, "float64", "int64", -(2**63)),
        (1e30, "float64", "uint64", 2**64 - 1),
        (2.0**63, "float64", "int64", 2**63 - 1),
        (300, "int64", "int8", 44),
        (-1, "int8", "uint64", 2**64 - 1),
        (2**63, "uint64", "int64", -(2**63)),
        (0.3, "float64", "bool", True),
        (True, "bool", "float32", 1.0),
        (0.1, "float64", "float32", float(np.float32(0.1))),
    ],
)
def test_constant_conversion(value, source, dtype, wanted):
    ex = Expressions()
    node = ex.cast(ex.const(value, source), dtype)
    assert node.op is Ops.CONST
    assert node.arg == wanted


def test_comparisons_with_the_limits_of_an_integer():
    ex = Expressions()
    for dtype in ("uint8", "int8", "int64", "uint64"):
        x, info = variable(ex, dtype, 0), np.iinfo(dtype)
        low, high = ex.const(info.min, dtype), ex.const(info.max, dtype)
        assert ex.less(x, low).arg is False
        assert ex.less(high, x).arg is False
        assert ex.less_equal(low, x).arg is True
        assert ex.less_equal(x, high).arg is True
        assert ex.less(low, x).op is Ops.CMPLT


def test_power_by_squaring():
    ex = Expressions()
    x = variable(ex, "float64", 0)
    for exponent in (-3, -1, 0, 1, 2, 7, 10):
        got = evaluate(ex.power(x, exponent), {x: np.float64(1.25)})
        assert math.isclose(got, 1.25**exponent, rel_tol=1e-15)


def test_order_is_a_valid_schedule():
    made = RandomExpression(0, "float64")
    with np.errstate(all="ignore"):
        for _ in range(100):
            made.grow()
    for node, time in made.ex.order.items():
        assert all(made.ex.order[s] < time for s in node.src)
    assert is_float(made.pool[0][0])
