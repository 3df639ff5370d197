"""Coefficients of a linear graph: a small expression graph on integers, for trying things out.

Vertex elimination is done several times in different orders and only the cheapest result is kept,
so its arithmetic happens here and not on UOps, which cost ten times as much to build.

An expression is a *signed reference*: a positive integer names a node, its negative the negated
value, and 0 is the number zero. So ``a - b`` and ``b - a``, ``a * b`` and ``-a * b`` are one node
(the idea of inverter edges in and-inverter graphs). Equal nodes are one node.

What is built here is a derivative, and folding is freer than in `expression.Expressions`:
``0 * x`` is 0, products of constants are merged, a division by ``y`` is a product with the one
``1 / y``. Expressions of the original program are kept as they are.

A choice one of whose branches is zero is called a gate. Products move into gates, never the other
way round, so that what a gate switches off contributes exactly zero even where it is infinite:

    where(c, p, 0) * y  ->  where(c, p * y, 0)
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.expression import Expressions

type Reference = int
"""A node, negated if negative; 0 is zero."""

ZERO: Reference = 0
ONE: Reference = 1

_MAX_EXPONENT = 64
"""Powers up to which ``1 / x**n`` is ``(1 / x)**n``."""

_DIVISION = 4
_TRANSCENDENTAL = 10
_CHEAP = frozenset(
    {"abs", "maximum", "minimum", "floor", "ceil", "round_even", "round_away", "sign", "le", "not"}
)
_BOUNDED = frozenset({"sin", "cos", "tanh", "atan", "atan2", "logistic", "erf", "erfc", *_CHEAP})
"""Functions that are finite wherever their arguments are."""


class NotLinear(Exception):
    """The graph is not one that elimination can read; the caller takes another way."""


class Coefficients:
    """Signed, hash-consed expressions of one floating-point dtype.

    Attributes:
        dtype: of all nodes but conditions.
        nodes: by number; ``(kind, *operands)`` with kind one of ``const`` (the number, positive),
            ``add``, ``sub``, ``mul``, ``recip``, ``div`` (numbers of nodes; ``div`` occurs in the
            program only), ``where`` (a condition's number, two references), ``opaque`` (an
            expression of the program, numbers of the nodes it needs).
        costs: operations of each node itself.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.nodes: list[tuple] = [("zero",), ("const", 1.0)]
        self.costs: list[int] = [0, 0]
        self._table: dict[tuple, Reference] = {("const", 1.0): ONE}
        limits = np.finfo(dtype)
        self._range = float(limits.tiny), float(limits.max)
        self._finite: set[int] = {ZERO, ONE}
        self._gated: set[int] = set()
        self._powers: dict[int, tuple[int, int]] = {}
        self._given: dict[UOp, Reference] = {}
        self._spelled: dict[int, tuple[UOp, int]] = {}

    def fork(self) -> "Coefficients":
        """A copy that can be extended without this one."""
        other = Coefficients.__new__(Coefficients)
        other.dtype = self.dtype
        other.nodes = list(self.nodes)
        other.costs = list(self.costs)
        other._table = dict(self._table)
        other._range = self._range
        other._finite = set(self._finite)
        other._gated = set(self._gated)
        other._powers = dict(self._powers)
        other._given = self._given
        other._spelled = self._spelled
        return other

    def _node(self, key: tuple, cost: int, *, finite: bool, gated: bool = False) -> Reference:
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = len(self.nodes)
            self.nodes.append(key)
            self.costs.append(cost)
            if finite:
                self._finite.add(found)
            if gated:
                self._gated.add(found)
        return found

    # -- building -------------------------------------------------------------------------------

    def const(self, value: float) -> Reference:
        """A number."""
        if value == 0:
            return ZERO
        node = self._node(("const", abs(value)), 0, finite=math.isfinite(value))
        return -node if value < 0 else node

    def add(self, a: Reference, b: Reference) -> Reference:
        """``a + b``."""
        if a == ZERO or a == -b:
            return b if a == ZERO else ZERO
        if b == ZERO:
            return a
        if a == b:
            return self.mul(self.const(2.0), a)
        x, y = abs(a), abs(b)
        if x > y:
            a, b, x, y = b, a, y, x
        merged = self._sum_of_like(a, b)
        if merged is not None:
            return merged
        return self._sum(a, b)

    def _sum(self, a: Reference, b: Reference) -> Reference:
        """The node of ``a + b``, whatever they are."""
        x, y = abs(a), abs(b)
        if x > y:
            a, b, x, y = b, a, y, x
        kind = "add" if (a > 0) == (b > 0) else "sub"
        finite = x in self._finite and y in self._finite
        gated = x in self._gated and y in self._gated
        node = self._node((kind, x, y), 1, finite=finite, gated=gated)
        return node if a > 0 else -node

    def _sum_of_like(self, a: Reference, b: Reference) -> Reference | None:
        """``c * x + d * x``, or two choices made by the same condition."""
        left, right = self.nodes[abs(a)], self.nodes[abs(b)]
        if left[0] == "where" and right[0] == "where" and left[1] == right[1]:
            p, q = left[2:] if a > 0 else (-left[2], -left[3])
            r, s = right[2:] if b > 0 else (-right[2], -right[3])
            return self.where(left[1], self.add(p, r), self.add(q, s))
        (c, x), (d, y) = self._scaled(a), self._scaled(b)
        if x == y and abs(c + d) < self._range[1]:
            return self.mul(self.const(c + d), x)
        return None

    def _is_normal(self, value: float) -> bool:
        """Whether a positive number is neither subnormal nor infinite in the dtype."""
        smallest, largest = self._range
        return smallest < value < largest

    def _scaled(self, a: Reference) -> tuple[float, Reference]:
        """A reference as number times node."""
        sign = 1.0 if a > 0 else -1.0
        node = self.nodes[abs(a)]
        if node[0] == "const":
            return sign * node[1], ONE
        if node[0] == "mul" and self.nodes[node[1]][0] == "const":
            return sign * self.nodes[node[1]][1], node[2]
        return sign, abs(a)

    def sub(self, a: Reference, b: Reference) -> Reference:
        """``a - b``."""
        return self.add(a, -b)

    def mul(self, a: Reference, b: Reference) -> Reference:
        """``a * b``; constants come first, gates stay outside."""
        if a == ZERO or b == ZERO:
            return ZERO
        x, y = abs(a), abs(b)
        product = x * y if ONE in (x, y) else self._product(x, y)
        return product if (a > 0) == (b > 0) else -product

    def _product(self, x: int, y: int) -> Reference:
        nodes = self.nodes
        if nodes[y][0] == "const":
            x, y = y, x
        if nodes[x][0] == "const":
            factor, rest = self._scaled(y)
            product = nodes[x][1] * factor
            if factor != 1.0 and self._is_normal(product):
                return self.mul(self.const(product), rest)
        if x in self._gated or y in self._gated:
            pushed = self._gated_product(x, y)
            if pushed is not None:
                return pushed
        for a, b in ((x, y), (y, x)):
            quotient = self._quotient_by_square(a, b)
            if quotient is not None:
                return quotient
        return self._plain_product(x, y)

    def _plain_product(self, x: int, y: int) -> Reference:
        """The node of ``x * y``, whatever they are."""
        if self.nodes[x][0] != "const" and (self.nodes[y][0] == "const" or x > y):
            x, y = y, x
        finite = x in self._finite and y in self._finite
        gated = x in self._gated or y in self._gated
        product = self._node(("mul", x, y), 1, finite=finite, gated=gated)
        base, exponent = self._powers.get(x, (x, 1))
        same_base, more = self._powers.get(y, (y, 1))
        if base == same_base and exponent + more <= _MAX_EXPONENT:
            self._powers[product] = base, exponent + more
        return product

    def _gated_product(self, x: int, y: int) -> Reference | None:
        """A product with something that gates make zero; None if it may stay outside."""
        if x not in self._gated or (self.nodes[x][0] != "where" and self.nodes[y][0] == "where"):
            x, y = y, x
        if x not in self._gated:
            return None
        kind, *operands = self.nodes[x]
        if kind == "where":
            condition, p, q = operands
            return self.where(condition, self.mul(p, y), self.mul(q, y))
        if y in self._finite:
            return None
        if kind == "mul":
            a, b = operands if operands[1] in self._gated else operands[::-1]
            return self.mul(a, self.mul(b, y))
        total = ZERO
        for a in self._summands(x):
            total = self.add(total, self.mul(a, y))
        return total

    def _summands(self, x: int) -> list[Reference]:
        """Gated terms that a gated sum consists of."""
        found, pending = [], [x]
        while pending:
            a = pending.pop()
            kind, *operands = self.nodes[abs(a)]
            if kind not in ("add", "sub"):
                found.append(a)
                continue
            first, second = operands[0], operands[1] if kind == "add" else -operands[1]
            pending += [second, first] if a > 0 else [-second, -first]
        return found

    def _quotient_by_square(self, x: int, y: int) -> Reference | None:
        """``x * (1/d * 1/d)`` where the program has ``x / d`` anyway."""
        kind, *operands = self.nodes[y]
        if kind != "mul" or operands[0] != operands[1]:
            return None
        inverse = self.nodes[operands[0]]
        if inverse[0] != "recip":
            return None
        quotient = self._table.get(("div", x, inverse[1]))
        return None if quotient is None else self.mul(quotient, operands[0])

    def recip(self, a: Reference) -> Reference:
        """``1 / a``; of a power the power of the reciprocal."""
        x = abs(a)
        kind, *operands = self.nodes[x]
        if kind == "const" and self._is_normal(1.0 / operands[0]):
            inverse = self.const(1.0 / operands[0])
        elif x in self._powers or (kind == "mul" and self.nodes[operands[0]][0] == "const"):
            inverse = self.mul(self.recip(operands[0]), self.recip(operands[1]))
        else:
            inverse = self._node(("recip", x), _DIVISION, finite=False)
        return inverse if a > 0 else -inverse

    def where(self, condition: int, p: Reference, q: Reference) -> Reference:
        """``p if condition else q``; the condition is the number of an opaque node."""
        p, q = self._under(condition, 0, p), self._under(condition, 1, q)
        if p == q:
            return p
        if p <= 0 and q <= 0:
            return -self.where(condition, -p, -q)
        finite = abs(p) in self._finite and abs(q) in self._finite
        gated = ZERO in (p, q) or abs(p) in self._gated or abs(q) in self._gated
        return self._node(("where", condition, p, q), 1, finite=finite, gated=gated)

    def _under(self, condition: int, branch: int, a: Reference) -> Reference:
        """What `a` is where `condition` is true (branch 0) or false (branch 1)."""
        node = self.nodes[abs(a)]
        if node[0] != "where" or node[1] != condition:
            return a
        chosen = node[2 + branch]
        return chosen if a > 0 else -chosen

    # -- expressions of the program -------------------------------------------------------------

    def given(self, root: UOp) -> Reference:
        """An expression of the program, as it is."""
        pending = [root]
        known = self._given
        while pending:
            node = pending[-1]
            if node in known:
                pending.pop()
                continue
            needed = [s for s in node.src if s not in known]
            if needed:
                pending.extend(needed)
                continue
            known[node] = self._read(node)
            pending.pop()
        return known[root]

    def _read(self, node: UOp) -> Reference:
        if node.op is Ops.CONST and dtype_name(node) == self.dtype:
            return self.const(node.arg)
        operands = [self._given[s] for s in node.src]
        if dtype_name(node) != self.dtype:
            return self._opaque(node, operands)
        found = ZERO
        match node.op:
            case Ops.NEG:
                return -operands[0]
            case Ops.ADD | Ops.SUB if all(operands):
                a, b = operands
                found = self._sum(a, b if node.op is Ops.ADD else -b)
            case Ops.MUL if all(operands):
                a, b = operands
                found = self._plain_product(abs(a), abs(b))
                found = found if (a > 0) == (b > 0) else -found
            case Ops.FDIV if all(operands):
                a, b = operands
                found = self._node(("div", abs(a), abs(b)), _DIVISION, finite=False)
                found = found if (a > 0) == (b > 0) else -found
            case _:
                return self._opaque(node, operands)
        self._spelled.setdefault(abs(found), (node, 1 if found > 0 else -1))
        return found

    def _opaque(self, node: UOp, operands: Iterable[Reference]) -> Reference:
        below = tuple(abs(a) for a in operands)
        cost, finite = 0, node.op is Ops.LOAD
        if node.op is Ops.CUSTOM:
            cost = 1 if node.arg in _CHEAP else _TRANSCENDENTAL
            finite = node.arg in _BOUNDED and all(a in self._finite for a in below)
        elif node.op is Ops.SQRT:
            cost = _DIVISION
        elif node.op not in (Ops.LOAD, Ops.INDEX, Ops.BUFFER, Ops.CONST, Ops.RANGE):
            cost = 1
            finite = all(a in self._finite for a in below)
        found = self._node(("opaque", node, *below), cost, finite=finite)
        self._spelled.setdefault(found, (node, 1))
        return found

    def is_given(self, x: int) -> bool:
        """Whether a node is an expression of the program."""
        return x in self._spelled

    # -- results --------------------------------------------------------------------------------

    def copied(
        self, other: "Coefficients", x: int, new: Callable[[Reference], Reference]
    ) -> Reference:
        """Node `x` of another continuation of the same base, with its operands renamed."""
        kind, *operands = other.nodes[x]
        if kind == "recip":
            return self.recip(new(operands[0]))
        if kind == "where":
            condition, p, q = operands
            return self.where(condition, new(p), new(q))
        return self.const(operands[0]) if kind == "const" else x

    def operands(self, x: int) -> tuple[int, ...]:
        """Numbers of the nodes that node `x` needs, zero left out."""
        kind, *operands = self.nodes[x]
        if kind in ("zero", "const"):
            return ()
        return tuple(abs(a) for a in operands[kind == "opaque" :] if a != ZERO)

    def reachable(self, results: Iterable[Reference]) -> set[int]:
        """Numbers of the nodes that the results need."""
        seen: set[int] = set()
        pending = [abs(a) for a in results if a != ZERO]
        while pending:
            x = pending.pop()
            if x not in seen:
                seen.add(x)
                pending.extend(self.operands(x))
        return seen

    def cost(self, results: Iterable[Reference]) -> int:
        """Weighted operations that the results need, those of the program included."""
        costs = self.costs
        return sum(costs[x] for x in self.reachable(results))

    def build(self, ex: Expressions, results: Iterable[Reference]) -> dict[Reference, UOp]:
        """UOps for the results, made in the order in which the nodes were."""
        results = list(results)
        built = dict(self._spelled)
        for x in sorted(self.reachable(results)):
            if x not in built:
                built[x] = self._spell(ex, x, built)
        found = {}
        for a in results:
            node, sign = built[abs(a)] if a else (ex.const(0.0, self.dtype), 1)
            found[a] = node if (a >= 0) == (sign > 0) else _negated(ex, node)
        return found

    def _spell(self, ex: Expressions, x: int, built: dict[int, tuple[UOp, int]]) -> tuple[UOp, int]:
        """The UOp of a node, or of its negative (sign -1), from those of its operands."""
        kind, *operands = self.nodes[x]
        if kind == "const":
            return ex.const(operands[0], self.dtype), 1
        if kind == "where":
            condition, *branches = operands
            p, q = (self._signed(ex, a, built) for a in branches)
            return ex.where(built[condition][0], p, q), 1
        if kind == "recip":
            node, sign = built[operands[0]]
            return ex.div(ex.const(1.0, self.dtype), node), sign
        (a, a_sign), (b, b_sign) = built[operands[0]], built[operands[1]]
        if kind == "mul":
            return ex.mul(a, b), a_sign * b_sign
        if kind == "sub":
            b_sign = -b_sign
        if a_sign == b_sign:
            return ex.add(a, b), a_sign
        return (ex.sub(a, b), 1) if a_sign > 0 else (ex.sub(b, a), 1)

    def _signed(self, ex: Expressions, a: Reference, built: dict[int, tuple[UOp, int]]) -> UOp:
        if a == ZERO:
            return ex.const(0.0, self.dtype)
        node, sign = built[abs(a)]
        return node if (a > 0) == (sign > 0) else _negated(ex, node)


def _negated(ex: Expressions, node: UOp) -> UOp:
    """``-node``; of a difference the other difference."""
    return ex.sub(node.src[1], node.src[0]) if node.op is Ops.SUB else ex.neg(node)
