"""Simplification of addresses: sums of counters times strides, and what range they span.

Indices are exact integers that never overflow, so unlike user arithmetic they may be reassociated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name

type Bounds = tuple[int, int] | None


class Builder(Protocol):
    """What is needed to build an address; `expression.Expressions` is one."""

    def index(self, value: int) -> UOp:
        """A literal."""
        ...

    def add(self, a: UOp, b: UOp) -> UOp:
        """A sum."""
        ...

    def mul(self, a: UOp, b: UOp) -> UOp:
        """A product."""
        ...


def simplified_sum(ex: Builder, a: UOp, b: UOp) -> UOp | None:
    """Keeps sums as (...) + constant, the constant last and only once; None if nothing to do."""
    if b.op is Ops.CONST:
        if a.op is Ops.ADD and a.src[1].op is Ops.CONST:
            return ex.add(a.src[0], ex.index(a.src[1].arg + b.arg))
        return None
    for x, y in ((a, b), (b, a)):
        if x.op is Ops.ADD and x.src[1].op is Ops.CONST:
            return ex.add(ex.add(x.src[0], y), x.src[1])
    return None


def simplified_product(ex: Builder, a: UOp, b: UOp) -> UOp | None:
    """Distributes a constant factor over sums and merges it with another; None if neither."""
    if b.op is not Ops.CONST:
        return None
    if a.op is Ops.ADD:
        return ex.add(ex.mul(a.src[0], b), ex.mul(a.src[1], b))
    if a.op is Ops.MUL and a.src[1].op is Ops.CONST:
        return ex.mul(a.src[0], ex.index(a.src[1].arg * b.arg))
    return None


def split_multiples(ex: Builder, a: UOp, divisor: int) -> tuple[UOp, UOp]:
    """``a == whole * divisor + rest``, taking the terms divisible by `divisor` into whole."""
    whole, rest = ex.index(0), ex.index(0)
    pending = [a]
    while pending:
        term = pending.pop()
        if term.op is Ops.ADD:
            pending.extend(reversed(term.src))
            continue
        factor, rest_factor, core = 0, 1, term
        if term.op is Ops.CONST:
            factor, rest_factor = divmod(term.arg, divisor)
            core = ex.index(1)
        elif term.op is Ops.MUL and term.src[1].op is Ops.CONST:
            core, coefficient = term.src[0], term.src[1].arg
            if coefficient % divisor == 0:
                factor, rest_factor = coefficient // divisor, 0
            else:
                rest_factor = coefficient
        elif divisor == 1:
            factor, rest_factor = 1, 0
        whole = ex.add(whole, ex.mul(core, ex.index(factor)))
        rest = ex.add(rest, ex.mul(core, ex.index(rest_factor)))
    return whole, rest


def bounds(a: UOp, of: Callable[[UOp], Bounds]) -> Bounds:
    """Smallest and largest value of an index or int32 expression, from those of its operands."""
    if a.op is Ops.CONST:
        return a.arg, a.arg
    if a.op is Ops.RANGE:
        return 0, max(a.arg[1] - 1, 0)
    if a.op is Ops.CAST and dtype_name(a.src[0]) in ("index", "int32"):
        return of(a.src[0])
    if a.op is Ops.CUSTOM and a.arg in ("maximum", "minimum"):
        pick = max if a.arg == "maximum" else min
        unknown = (-(2**31), 2**31 - 1)
        left, right = (of(s) or unknown for s in a.src)
        return pick(left[0], right[0]), pick(left[1], right[1])
    if dtype_name(a) != "index" or a.op not in (Ops.ADD, Ops.MUL, Ops.CDIV, Ops.CMOD):
        return None
    left, right = of(a.src[0]), of(a.src[1])
    if left is None or right is None:
        return None
    if a.op is Ops.ADD:
        return left[0] + right[0], left[1] + right[1]
    if a.op is Ops.MUL:
        corners = [x * y for x in left for y in right]
        return min(corners), max(corners)
    if a.op is Ops.CDIV:
        return left[0] // right[0], left[1] // right[0]
    return 0, right[0] - 1


@dataclass(frozen=True, slots=True)
class Affine:
    """``constant`` plus loop counters times their ``coefficients``."""

    constant: int
    coefficients: dict[UOp, int]

    @property
    def smallest(self) -> int:
        """The least value over all trips."""
        return self.constant + sum(min(c * (n.arg[1] - 1), 0) for n, c in self.coefficients.items())

    @property
    def largest(self) -> int:
        """The greatest value over all trips."""
        return self.constant + sum(max(c * (n.arg[1] - 1), 0) for n, c in self.coefficients.items())

    def never_meets(self, other: "Affine") -> bool:
        """Whether two places differ whatever the counters: by their ranges, or by the GCD test."""
        if self.largest < other.smallest or other.largest < self.smallest:
            return True
        step = math.gcd(*self.coefficients.values(), *other.coefficients.values())
        apart = self.constant - other.constant
        return apart % step != 0 if step else apart != 0


def affine(node: UOp) -> Affine | None:
    """An index as a sum of counters, None if it is none."""
    if node.op is Ops.CONST:
        return Affine(node.arg, {})
    if node.op is Ops.RANGE:
        return Affine(0, {node: 1})
    if node.op not in (Ops.ADD, Ops.MUL):
        return None
    a, b = (affine(source) for source in node.src)
    if a is None or b is None:
        return None
    if node.op is Ops.ADD:
        total = dict(a.coefficients)
        for counter, coefficient in b.coefficients.items():
            total[counter] = total.get(counter, 0) + coefficient
        return Affine(a.constant + b.constant, total)
    if a.coefficients and b.coefficients:
        return None
    factor, scaled = (b.constant, a) if not b.coefficients else (a.constant, b)
    products = {counter: factor * c for counter, c in scaled.coefficients.items()}
    return Affine(factor * scaled.constant, products)
