"""Fewer operations for the same results: common factors, common sums, common products.

Sums and products that elimination built from two operands at a time are taken as a whole, because
what they have in common depends on the order of their operands no more than their values do:

    factors     a * b + a * c        ->  a * (b + c)
    sums        a + b + c, a + b + d ->  s + c, s + d  with s = a + b
    products    the same with products

Only what nothing else uses is taken apart, and expressions of the original program are left alone.

Source: Breuer, Generation of optimal code for expressions via factorization, Communications of the
ACM 12, 1969 (the pair that occurs most often comes first).
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from anvil_jax.kernels.coefficients import ZERO, Coefficients, Reference

type Kind = Literal["sum", "product"]

_MAX_OPERANDS = 40
"""Longest sum or product that is searched for pairs; their number grows with its square."""


def factored(
    c: Coefficients, results: Sequence[Reference], base: Coefficients
) -> tuple[Coefficients, list[Reference]]:
    """The same results with fewer operations.

    Args:
        c: what `results` refer to.
        results: expressions.
        base: an earlier state of `c`, with all expressions of the program; it is not changed.

    Returns:
        A continuation of `base`, and the results in it.
    """
    terms = _Terms(c, results)
    terms.flatten()
    terms.extract_factors()
    terms.share_pairs("sum")
    terms.share_pairs("product")
    return terms.rebuild(base.fork())


class _Terms:
    """Sums and products with any number of operands.

    Attributes:
        c: where the nodes come from.
        results: references to what is wanted.
        kinds, operands: of each sum and product; products have positive operands. New nodes are
            numbered behind those of `c`.
        uses: how often each node is an operand or a result.
    """

    def __init__(self, c: Coefficients, results: Sequence[Reference]) -> None:
        self.c = c
        self.results = results
        self.kinds: dict[int, Kind] = {}
        self.operands: dict[int, list[Reference]] = {}
        self.uses: Counter[int] = Counter(abs(a) for a in results)
        self.reachable = sorted(c.reachable(results))
        for x in self.reachable:
            self.uses.update(c.operands(x))
            if c.is_given(x):
                continue
            kind, *operands = c.nodes[x]
            if kind in ("add", "sub"):
                a, b = operands
                self.kinds[x], self.operands[x] = "sum", [a, b if kind == "add" else -b]
            elif kind == "mul":
                self.kinds[x], self.operands[x] = "product", list(operands)
        self._next = len(c.nodes)

    def _new(self, kind: Kind, operands: list[Reference]) -> int:
        node = self._next
        self._next += 1
        self.kinds[node], self.operands[node] = kind, operands
        self.uses[node] = 1
        return node

    def _is_private(self, node: int, kind: Kind) -> bool:
        """Whether a node is a sum or product that has one user."""
        return self.kinds.get(node) == kind and self.uses[node] == 1

    def flatten(self) -> None:
        """Merges sums into the sum that alone uses them, and products into the product."""
        for x in sorted(self.kinds):
            kind, merged = self.kinds[x], []
            for a in self.operands[x]:
                if not self._is_private(abs(a), kind):
                    merged.append(a)
                    continue
                inner = self.operands.pop(abs(a))
                del self.kinds[abs(a)]
                merged += inner if a > 0 else [-b for b in inner]
            self.operands[x] = merged

    # -- factors --------------------------------------------------------------------------------

    def extract_factors(self) -> None:
        """Takes factors that terms of one sum share out of it, the most frequent first."""
        pending = [x for x, kind in self.kinds.items() if kind == "sum"]
        while pending:
            x = pending.pop()
            while self.kinds[x] == "sum" and (factor := self._common_factor(x)) is not None:
                pending.append(self._take_out(x, factor))

    def _common_factor(self, x: int) -> int | None:
        found: Counter[int] = Counter()
        for a in self.operands[x]:
            if self._is_private(abs(a), "product"):
                found.update(set(self.operands[abs(a)]))
        factor, count = max(found.items(), key=lambda f: (f[1], -f[0]), default=(0, 0))
        return factor if count > 1 else None

    def _take_out(self, x: int, factor: int) -> int:
        """Rewrites sum `x` with a product of `factor`; returns the sum that is multiplied."""
        rest, inner = [], []
        for a in self.operands[x]:
            product = self.operands.get(abs(a), [])
            if not self._is_private(abs(a), "product") or factor not in product:
                rest.append(a)
                continue
            product.remove(factor)
            self.uses[factor] -= 1
            if len(product) == 1:
                del self.kinds[abs(a)], self.operands[abs(a)]
                inner.append(product[0] if a > 0 else -product[0])
            else:
                inner.append(a)
        total = self._new("sum", inner)
        self.uses[factor] += 1
        if rest:
            self.operands[x] = [*rest, self._new("product", [factor, total])]
        else:
            self.kinds[x], self.operands[x] = "product", [factor, total]
        return total

    # -- pairs ----------------------------------------------------------------------------------

    def share_pairs(self, kind: Kind) -> None:
        """Computes pairs of operands that occur several times only once."""
        where: dict[tuple[int, int], set[int]] = {}
        for x, its_kind in self.kinds.items():
            if its_kind == kind:
                for pair in self._pairs(x):
                    where.setdefault(pair, set()).add(x)
        heap = [(-len(users), pair) for pair, users in where.items() if len(users) > 1]
        heapq.heapify(heap)
        while heap:
            count, pair = heapq.heappop(heap)
            users = where[pair]
            if len(users) < 2:
                continue
            if len(users) != -count:
                heapq.heappush(heap, (-len(users), pair))
                continue
            shared = self._shared_node(kind, pair, users)
            for x in sorted(users - {shared}):
                for old in self._pairs(x):
                    where[old].discard(x)
                self._replace(x, pair, shared)
                for new in self._pairs(x):
                    users_of_new = where.setdefault(new, set())
                    users_of_new.add(x)
                    if shared in map(abs, new) and len(users_of_new) > 1:
                        heapq.heappush(heap, (-len(users_of_new), new))

    def _pairs(self, x: int) -> set[tuple[int, int]]:
        """Pairs of operands of one node; of a pair and its negative that with a positive head."""
        operands = sorted(self.operands[x], key=abs)
        if len(operands) > _MAX_OPERANDS:
            return set()
        return {
            (a, b) if a > 0 else (-a, -b) for k, a in enumerate(operands) for b in operands[k + 1 :]
        }

    def _shared_node(self, kind: Kind, pair: tuple[int, int], users: Iterable[int]) -> int:
        """The node that is just this pair (or its negative), a new one if there is none."""
        for x in sorted(users):
            if len(self.operands[x]) == 2:
                return x
        node = self._new(kind, list(pair))
        self.uses[node] = 0
        return node

    def _replace(self, x: int, pair: tuple[int, int], shared: int) -> None:
        operands = self.operands[x]
        a, b = pair
        sign = 1
        if a not in operands or b not in operands or (a == b and operands.count(a) < 2):
            sign = -1
        operands.remove(sign * a)
        operands.remove(sign * b)
        same = a in self.operands[shared]
        operands.append(sign * (shared if same else -shared))
        self.uses[shared] += 1

    # -- back to two operands -------------------------------------------------------------------

    def rebuild(self, c: Coefficients) -> tuple[Coefficients, list[Reference]]:
        """The results as nodes of `c`; operands are combined in the order of their creation."""
        made: dict[int, Reference] = {}

        def new(a: Reference) -> Reference:
            return ZERO if a == ZERO else made[abs(a)] if a > 0 else -made[abs(a)]

        def make(x: int) -> None:
            if x in made:
                return
            if x not in self.kinds:
                made[x] = c.copied(self.c, x, new)
                return
            for a in self.operands[x]:
                make(abs(a))
            operands = sorted(map(new, self.operands[x]), key=abs)
            combine = c.add if self.kinds[x] == "sum" else c.mul
            total = operands[0]
            for a in operands[1:]:
                total = combine(total, a)
            made[x] = total

        taken_apart = {
            x
            for x in self.reachable
            if x not in self.kinds and self.c.nodes[x][0] in ("add", "sub", "mul")
            and not self.c.is_given(x)
        }  # fmt: skip
        for x in self.reachable:
            if x not in taken_apart:
                make(x)
        return c, [new(a) for a in self.results]
