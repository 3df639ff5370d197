"""Reads the linear graph out of a derivative program that was lowered to scalar expressions.

JAX's forward-mode program is linear in its tangents. With a symbol for each tangent (a *leaf*),
every expression that depends on leaves is a sum of others times coefficients: a graph whose inner
vertices are tangents of intermediate values and whose edges carry local derivatives.

A program that differentiates twice is bilinear in two sets of symbols, the leaves and their
*twins*. The vertices over the twins are those over the leaves again, so it becomes a quadratic form
over the vertices of one linear graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.coefficients import ONE, ZERO, Coefficients, NotLinear, Reference

type Vertex = int
"""Number of a vertex, from 1; negative: the negated vertex; 0: zero."""

type Edges = dict[int, Reference]
"""Coefficients by vertex (positive)."""

_RATIONAL = frozenset({Ops.NEG, Ops.MUL, Ops.FDIV, Ops.WHERE})
"""Operations that are rebuilt when a coefficient is made of them."""


@dataclass(slots=True)
class LinearGraph:
    """Vertices that are linear combinations of earlier ones; equal combinations are one vertex.

    Attributes:
        coefficients: what the edges' references mean.
        predecessors: by vertex; empty for the leaves, which come first. Entry 0 is unused.
        leaves: their number.
    """

    coefficients: Coefficients
    leaves: int
    predecessors: list[Edges] = field(default_factory=list)
    _known: dict[tuple[tuple[int, Reference], ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.predecessors = [{} for _ in range(self.leaves + 1)]

    def combine(self, terms: Sequence[tuple[Reference, Vertex]]) -> Vertex:
        """The vertex ``sum(c * v for c, v in terms)``; no new one for a vertex or its negative."""
        edges: Edges = {}
        for coefficient, vertex in terms:
            if vertex == 0 or coefficient == ZERO:
                continue
            signed = coefficient if vertex > 0 else -coefficient
            total = self.coefficients.add(edges.pop(abs(vertex), ZERO), signed)
            if total != ZERO:
                edges[abs(vertex)] = total
        if not edges:
            return 0
        if len(edges) == 1:
            ((vertex, coefficient),) = edges.items()
            if abs(coefficient) == ONE:
                return vertex if coefficient == ONE else -vertex
        key = tuple(sorted(edges.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.predecessors)
            self.predecessors.append(edges)
        return found


class _Reader:
    """Turns expressions into vertices.

    Attributes:
        graph: the vertices so far.
        over: which symbols each expression read so far depends on: 0 none, 1 the leaves, 2 the
            twins, 3 both.
        kept: expressions of the program that are needed as they are.
        zeros: expressions that are zero whatever the values in them are.
    """

    def __init__(self, roots: Sequence[UOp], leaves: Sequence[UOp], twins: Sequence[UOp]) -> None:
        dtypes = {dtype_name(node) for node in (*roots, *leaves, *twins)}
        if len(dtypes) != 1 or not (dtype := dtypes.pop()).startswith("float"):
            raise NotLinear("not one floating-point dtype")
        self.dtype = dtype
        self.coefficients = Coefficients(dtype)
        self.graph = LinearGraph(self.coefficients, len(leaves))
        self.vertices: dict[UOp, Vertex] = {}
        self.over: dict[UOp, int] = {}
        for k, node in enumerate(leaves):
            self.vertices[node], self.over[node] = k + 1, 1
        for k, node in enumerate(twins):
            self.vertices[node], self.over[node] = k + 1, 2
        self.order = self._sorted(roots)
        self.kept = self._kept()
        self.zeros = self._zeros()
        self._known: dict[UOp, Reference] = {}

    def _sorted(self, roots: Sequence[UOp]) -> list[UOp]:
        """Everything below the roots, operands first; fills `over`."""
        order: list[UOp] = []
        pending = list(roots)
        over = self.over
        while pending:
            node = pending[-1]
            if node in over:
                pending.pop()
                continue
            needed = [s for s in node.src if s not in over]
            if needed:
                pending.extend(needed)
                continue
            pending.pop()
            over[node] = 0
            for s in node.src:
                if node.op is not Ops.BUFFER:
                    over[node] |= over[s]
            order.append(node)
        return order

    def _kept(self) -> set[UOp]:
        """What functions, sums and comparisons are made of: it is needed as it is."""
        kept: set[UOp] = set()
        for node in reversed(self.order):
            if self.over[node] == 0 and (node in kept or node.op not in _RATIONAL):
                kept.update(node.src)
        return kept

    # -- parts that depend on no symbol ---------------------------------------------------------

    def _zeros(self) -> set[UOp]:
        """Expressions that are zero whatever the values in them are."""
        zeros: set[UOp] = set()
        for node in self.order:
            inside = [s in zeros for s in node.src]
            match node.op:
                case Ops.CONST:
                    zero = dtype_name(node) == self.dtype and node.arg == 0
                case Ops.MUL:
                    zero = any(inside)
                case Ops.ADD | Ops.SUB | Ops.NEG:
                    zero = all(inside)
                case Ops.FDIV:
                    zero = inside[0]
                case Ops.WHERE:
                    zero = all(inside[1:])
                case _:
                    zero = False
            if zero:
                zeros.add(node)
        return zeros

    def coefficient(self, node: UOp) -> Reference:
        """A factor of a derivative: products, quotients and choices may be rearranged."""
        pending = [node]
        while pending:
            top = pending[-1]
            if top in self._known:
                pending.pop()
                continue
            rebuilt = top.op in _RATIONAL and top not in self.kept and top not in self.zeros
            parts = top.src[top.op is Ops.WHERE :] if rebuilt else ()
            needed = [s for s in parts if s not in self._known]
            if needed:
                pending.extend(needed)
                continue
            self._known[top] = self._rebuilt(top) if rebuilt else self._given(top)
            pending.pop()
        return self._known[node]

    def _given(self, node: UOp) -> Reference:
        return ZERO if node in self.zeros else self.coefficients.given(node)

    def _rebuilt(self, node: UOp) -> Reference:
        c, known = self.coefficients, self._known
        match node.op:
            case Ops.NEG:
                return -known[node.src[0]]
            case Ops.MUL:
                return c.mul(known[node.src[0]], known[node.src[1]])
            case Ops.FDIV:
                return c.mul(known[node.src[0]], self._inverse(known[node.src[1]]))
            case _:
                condition = c.given(node.src[0])
                return c.where(condition, known[node.src[1]], known[node.src[2]])

    def _inverse(self, divisor: Reference) -> Reference:
        if divisor == ZERO:
            raise NotLinear("division by zero")
        return self.coefficients.recip(divisor)

    # -- linear parts ---------------------------------------------------------------------------

    def terms(self, node: UOp) -> list[tuple[Reference, UOp]]:
        """A node as a sum of coefficients times operands that depend on symbols.

        Raises:
            NotLinear: it is no such sum.
        """
        dependent = [self.over[s] != 0 for s in node.src]
        if dtype_name(node) != self.dtype:
            raise NotLinear(f"{node.op.name} to {dtype_name(node)}")
        match node.op:
            case Ops.ADD:
                parts = list(zip((ONE, ONE), node.src, strict=True))
            case Ops.SUB:
                parts = list(zip((ONE, -ONE), node.src, strict=True))
            case Ops.NEG:
                parts = [(-ONE, node.src[0])]
            case Ops.MUL if not all(dependent):
                factor, linear = node.src if dependent[1] else reversed(node.src)
                parts = [(self.coefficient(factor), linear)]
            case Ops.FDIV if not dependent[1]:
                parts = [(self._inverse(self.coefficient(node.src[1])), node.src[0])]
            case Ops.WHERE if not dependent[0]:
                gate = self.coefficients.given(node.src[0])
                one_if = self.coefficients.where(gate, ONE, ZERO)
                zero_if = self.coefficients.where(gate, ZERO, ONE)
                parts = [(one_if, node.src[1]), (zero_if, node.src[2])]
            case _:
                raise NotLinear(node.op.name)
        linear = [(c, s) for c, s in parts if self.over[s] != 0]
        if not all(s in self.zeros for _, s in parts if self.over[s] == 0):
            raise NotLinear("a constant is added")
        return linear

    def read(self) -> None:
        """Makes vertices of everything that is linear in one set of symbols."""
        for node in self.order:
            if self.over[node] in (1, 2):
                terms = [(c, self.vertices[s]) for c, s in self.terms(node)]
                self.vertices[node] = self.graph.combine(terms)


def read_linear(outputs: Sequence[UOp], leaves: Sequence[UOp]) -> tuple[LinearGraph, list[Vertex]]:
    """The graph of expressions that are linear in the leaves.

    Args:
        outputs: zero, or linear in the leaves, with coefficients of any kind.
        leaves: distinct expressions; leaf k becomes vertex k + 1.

    Returns:
        The graph and the vertex of each output.

    Raises:
        NotLinear: an output is not linear, or made by operations that are not known to be.
    """
    reader = _Reader(outputs, leaves, ())
    reader.read()
    vertices = []
    for node in outputs:
        if reader.over[node] == 0 and node not in reader.zeros:
            raise NotLinear("an output has a constant part")
        vertices.append(reader.vertices[node] if reader.over[node] else 0)
    return reader.graph, vertices


@dataclass(frozen=True, slots=True)
class QuadraticForm:
    """A symmetric bilinear expression as a combination of products of vertices.

    Attributes:
        graph: vertices over the leaves.
        products: pairs (v, u), v <= u, that stand for ``(v(t) * u(s) + u(t) * v(s)) / 2``.
        sums: a graph whose leaves are the products.
        root: its vertex that is the expression.
    """

    graph: LinearGraph
    products: tuple[tuple[int, int], ...]
    sums: LinearGraph
    root: Vertex


def read_bilinear(root: UOp, leaves: Sequence[UOp], twins: Sequence[UOp]) -> QuadraticForm:
    """The quadratic form of an expression that is bilinear in leaves t and twins s.

    Products are made symmetric one by one, which is allowed because the expression as a whole is
    symmetric.

    Args:
        root: zero, or bilinear and symmetric as a function: a second derivative.
        leaves: distinct expressions; leaf k becomes vertex k + 1.
        twins: others, twin k in the role of leaf k.

    Raises:
        NotLinear: as for `read_linear`.
    """
    reader = _Reader((root,), leaves, twins)
    reader.read()
    over = reader.over
    if over[root] != 3:
        if root not in reader.zeros and reader.vertices.get(root) != 0:
            raise NotLinear("not bilinear")
        return QuadraticForm(reader.graph, (), LinearGraph(reader.coefficients, 0), 0)
    expanded = _shared_products(reader)
    products = {pair: None for terms in expanded.values() for _, pair in terms}
    number = {pair: k + 1 for k, pair in enumerate(products)}
    sums = LinearGraph(reader.coefficients, len(number))
    vertices: dict[UOp, Vertex] = {node: 0 for node, v in reader.vertices.items() if v == 0}
    for node in reader.order:
        if node in expanded:
            terms = [(c, number[pair]) for c, pair in expanded[node]]
        elif over[node] == 3:
            terms = []
            for c, s in reader.terms(node):
                if s not in vertices and c != ZERO:
                    raise NotLinear("not bilinear")
                terms.append((c, vertices.get(s, 0)))
        else:
            continue
        vertices[node] = sums.combine(terms)
    return QuadraticForm(reader.graph, tuple(products), sums, vertices[root])


def _shared_products(reader: _Reader) -> dict[UOp, list[tuple[Reference, tuple[int, int]]]]:
    """Expressions ``v(t) * u(s)`` by products of vertices that exist over leaves and twins.

    The others, parts of derivatives of coefficients, are written as combinations of these.
    """
    c, predecessors = reader.coefficients, reader.graph.predecessors
    shared = {abs(v) for node, v in reader.vertices.items() if reader.over[node] == 1}
    found = {}
    for node in reader.order:
        if node.op is not Ops.MUL or sorted(reader.over[s] for s in node.src) != [1, 2]:
            continue
        first, second = (reader.vertices[s] for s in sorted(node.src, key=reader.over.__getitem__))
        terms: Edges = {}
        rest = {abs(second): ONE if (first > 0) == (second > 0) else -ONE}
        while rest:
            vertex = max(rest)
            weight = rest.pop(vertex)
            if vertex in shared or not predecessors[vertex]:
                terms[vertex] = weight
                continue
            for source, coefficient in predecessors[vertex].items():
                rest[source] = c.add(rest.get(source, ZERO), c.mul(weight, coefficient))
        v = abs(first)
        found[node] = [(w, (min(v, u), max(v, u))) for u, w in terms.items() if v and u]
    return found
