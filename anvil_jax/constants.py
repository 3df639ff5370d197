"""Named integers that appear in generated code as ``constexpr``, with the formula they came from.

    N = CodegenIntConstant("N", 20)
    size = CodegenIntConstant.from_expr("size", 4 * (N + 1) // 2)

prints ``constexpr int N = 20;`` and ``constexpr int size = floor_div(4 * (N + 1), 2);``. A constant
is an integer for Python too (``Arg(N)``, ``range(N)``). Knows neither JAX nor tinygrad.
"""

import graphlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from anvil_jax.emit.names import check_identifier
from anvil_jax.emit.views import ConstantView
from anvil_jax.errors import ArgumentError

type IntType = Literal["int", "int32_t", "int64_t"]

_CTYPES: dict[str, str] = {"int": "int", "int32_t": "std::int32_t", "int64_t": "std::int64_t"}
_BITS = {"int": 32, "int32_t": 32, "int64_t": 64}

_SUM, _PRODUCT, _ATOM = 0, 1, 2  # how tightly a text binds


class _Integer:
    """Arithmetic that keeps the formula; an integer to Python."""

    __slots__ = ()
    value: int

    def __add__(self, other: object) -> "CodegenIntExpr":
        """``self + other``."""
        return _binary(self, "+", other)

    def __radd__(self, other: object) -> "CodegenIntExpr":
        """``other + self``."""
        return _binary(other, "+", self)

    def __sub__(self, other: object) -> "CodegenIntExpr":
        """``self - other``."""
        return _binary(self, "-", other)

    def __rsub__(self, other: object) -> "CodegenIntExpr":
        """``other - self``."""
        return _binary(other, "-", self)

    def __mul__(self, other: object) -> "CodegenIntExpr":
        """``self * other``."""
        return _binary(self, "*", other)

    def __rmul__(self, other: object) -> "CodegenIntExpr":
        """``other * self``."""
        return _binary(other, "*", self)

    def __floordiv__(self, other: object) -> "CodegenIntExpr":
        """``self // other``, rounded down as in Python."""
        return _binary(self, "//", other)

    def __rfloordiv__(self, other: object) -> "CodegenIntExpr":
        """``other // self``, rounded down as in Python."""
        return _binary(other, "//", self)

    def __index__(self) -> int:
        """The value, so that ``Arg(N)`` and ``range(N)`` work."""
        return self.value

    def __int__(self) -> int:
        """The value."""
        return self.value


@dataclass(frozen=True, slots=True)
class CodegenIntExpr(_Integer):
    """An integer with the C++ expression that gives it.

    Attributes:
        value: the integer.
        text: C++ expression.
        bits: width of the type C++ computes it in, 32 or 64.
        constants: the named constants in `text`, in order of appearance.
        uses_floor_div: whether `text` calls ``floor_div``.
    """

    value: int
    text: str
    bits: int
    constants: tuple["CodegenIntConstant", ...] = ()
    uses_floor_div: bool = False
    binding: int = _ATOM


@dataclass(frozen=True, slots=True)
class CodegenIntConstant(_Integer):
    """A named integer of a generated module.

    Attributes:
        name: C++ identifier.
        value: the integer.
        type: ``int``, ``int32_t`` or ``int64_t``.
        expr: the formula it was made from, or None.

    Raises:
        ArgumentError: bad name or type, not an integer, or the value does not fit the type.
    """

    name: str
    value: int
    type: IntType = "int"
    expr: CodegenIntExpr | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what C++ would refuse."""
        check_identifier(self.name, "constant")
        if self.type not in _CTYPES:
            raise ArgumentError(
                f"constant {self.name} has type {self.type!r}; use one of {', '.join(_CTYPES)}"
            )
        if isinstance(self.value, bool) or not hasattr(self.value, "__index__"):
            raise ArgumentError(f"constant {self.name} is {self.value!r}; it must be an integer")
        object.__setattr__(self, "value", int(self.value))
        _check_range(self.value, _BITS[self.type], f"constant {self.name}")

    @classmethod
    def from_expr(
        cls, name: str, expr: "CodegenIntExpr | CodegenIntConstant | int", type: IntType = "int"
    ) -> Self:
        """A constant whose formula stays visible in the generated code.

        Args:
            name: C++ identifier.
            expr: result of arithmetic with constants, or a constant, or an integer.
            type: ``int``, ``int32_t`` or ``int64_t``.
        """
        formula = _expression(expr)
        if formula is None:
            raise ArgumentError(f"constant {name} is made from {expr!r}, which is no integer")
        return cls(name, formula.value, type, expr=formula)

    def dependencies(self) -> tuple["CodegenIntConstant", ...]:
        """The constants named in this one's formula, in order of appearance."""
        return () if self.expr is None else self.expr.constants

    def all_dependencies(self) -> tuple["CodegenIntConstant", ...]:
        """All constants this one is made from, each after those that it is made from."""
        return order_constants([self])[:-1]


def order_constants(constants: Iterable[CodegenIntConstant]) -> tuple[CodegenIntConstant, ...]:
    """`constants` and all they are made from, dependencies first, otherwise in the given order.

    Raises:
        ArgumentError: two different constants have the same name.
    """
    by_name: dict[str, CodegenIntConstant] = {}
    graph: dict[str, list[str]] = {}
    pending = list(constants)[::-1]
    while pending:
        constant = pending.pop()
        known = by_name.setdefault(constant.name, constant)
        if known != constant:
            raise ArgumentError(
                f"two different constants are named {constant.name}: {known.value} and "
                f"{constant.value}; rename one"
            )
        graph[constant.name] = [c.name for c in constant.dependencies()]
        pending.extend(reversed(constant.dependencies()))
    return tuple(by_name[name] for name in graphlib.TopologicalSorter(graph).static_order())


def constant_views(constants: Iterable[CodegenIntConstant]) -> tuple[ConstantView, ...]:
    """What the module template prints for `constants` and their dependencies."""
    return tuple(
        ConstantView(
            name=c.name,
            ctype=_CTYPES[c.type],
            text=_integer_text(c.value) if c.expr is None else c.expr.text,
            uses_floor_div=c.expr is not None and c.expr.uses_floor_div,
        )
        for c in order_constants(constants)
    )


def _expression(operand: Any) -> CodegenIntExpr | None:
    if isinstance(operand, CodegenIntExpr):
        return operand
    if isinstance(operand, CodegenIntConstant):
        return CodegenIntExpr(operand.value, operand.name, _BITS[operand.type], (operand,))
    if isinstance(operand, bool) or not hasattr(operand, "__index__"):
        return None
    value = operator.index(operand)
    bits = 32 if -(1 << 31) <= value < 1 << 31 else 64
    _check_range(value, 64, f"the number {value}")
    return CodegenIntExpr(value, _integer_text(value), bits, binding=_ATOM if value >= 0 else _SUM)


def _binary(left: object, operator: str, right: object) -> CodegenIntExpr:
    a, b = _expression(left), _expression(right)
    if a is None or b is None:
        return NotImplemented
    bits = max(a.bits, b.bits)
    if operator == "//":
        if b.value == 0:
            raise ArgumentError(f"{a.text} // {b.text}: division by zero")
        value, text, binding = a.value // b.value, f"floor_div({a.text}, {b.text})", _ATOM
    elif operator == "*":
        value, binding = a.value * b.value, _PRODUCT
        text = f"{_bound(a, _PRODUCT)} * {_bound(b, _ATOM)}"
    else:
        value = a.value + b.value if operator == "+" else a.value - b.value
        text, binding = f"{a.text} {operator} {_bound(b, _PRODUCT)}", _SUM
    _check_range(value, bits, text)
    return CodegenIntExpr(
        value=value,
        text=text,
        bits=bits,
        constants=tuple(dict.fromkeys((*a.constants, *b.constants))),
        uses_floor_div=operator == "//" or a.uses_floor_div or b.uses_floor_div,
        binding=binding,
    )


def _bound(operand: CodegenIntExpr, at_least: int) -> str:
    return operand.text if operand.binding >= at_least else f"({operand.text})"


def _integer_text(value: int) -> str:
    # The positive part of the smallest integers is itself out of range.
    if value in (-(1 << 31), -(1 << 63)):
        return f"({value + 1} - 1)"
    return str(value)


def _check_range(value: int, bits: int, what: str) -> None:
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise ArgumentError(
            f"{what} = {value} does not fit {bits} bits"
            + ("; give its constants the type 'int64_t'" if bits == 32 else "")
        )
