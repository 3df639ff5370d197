"""Small sparse derivatives as scalar expressions: only the operations that are needed.

JAX's derivative program is lowered with a symbol for the tangent of each input element; the
results are linear in the symbols, and the inner vertices of the graph they form are eliminated
(`kernels.elimination`). What remains is one expression per entry.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from anvil_jax.kernels import elimination
from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.kernels.elimination import NotLinear
from anvil_jax.kernels.program import Buffer, Statement, bodies, operands
from anvil_jax.lowering.avals import aval_dtype
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.values import Elements, Value
from anvil_jax.sparsity.derivative import SparseDerivative, Tangents

type Entries = dict[tuple[int, int], UOp]
"""Expressions by row and column; entries that are zero are absent."""


def eliminate(
    lowering: Lowering,
    derivative: SparseDerivative,
    values: Sequence[Value],
    columns: Sequence[np.ndarray],
) -> Entries | None:
    """The entries of a derivative as expressions.

    Args:
        lowering: the code under construction.
        derivative: what to compute.
        values: the flat inputs of its function.
        columns: for each active input the column of each element; elements that are known to move
            together may share one.

    Returns:
        Entries by row and column; of a Hessian those with row <= column. None if the program has
        loops or anything else that elimination cannot see through.
    """
    try:
        with lowering.attempt("elimination"):
            return _entries(lowering, derivative, derivative.tangents, values, columns)
    except NotLinear:
        return None


def _entries(
    lowering: Lowering,
    derivative: SparseDerivative,
    program: Tangents,
    values: Sequence[Value],
    columns: Sequence[np.ndarray],
) -> Entries:
    rows = _row_numbers(derivative)
    ex = lowering.ex
    if program.order == 2:
        first = _Symbols(lowering, derivative.inputs, columns)
        second = _Symbols(lowering, derivative.inputs, columns)
        (root,) = _roots(lowering, program, [*values, *first.values, *second.values])
        _refuse_stored_tangents(lowering, [*first.nodes, *second.nodes])
        return elimination.hessian(ex, root, first.nodes, second.nodes)
    if program.transposed:
        avals = [derivative.out_avals[k] for k in derivative.active_outputs]
        symbols = _Symbols(lowering, avals, rows)
        roots = _roots(lowering, program, [*values, *symbols.values])
        _refuse_stored_tangents(lowering, symbols.nodes)
        found = elimination.jacobian(ex, roots, symbols.nodes)
        places = np.concatenate([*columns, np.zeros(0, np.int64)])
        return _summed(
            lowering,
            (
                (row, int(places[k]), node)
                for k, entries in enumerate(found)
                for row, node in entries.items()
            ),
        )
    symbols = _Symbols(lowering, derivative.inputs, columns)
    roots = _roots(lowering, program, [*values, *symbols.values])
    _refuse_stored_tangents(lowering, symbols.nodes)
    found = elimination.jacobian(ex, roots, symbols.nodes)
    if derivative.kind == "hessian":
        numbers = np.concatenate(columns)
        pairs = (
            (int(numbers[k]), column, node)
            for k, entries in enumerate(found)
            for column, node in entries.items()
        )
        merged = _summed(lowering, pairs)
        return {place: node for place, node in merged.items() if place[0] <= place[1]}
    numbers = np.concatenate([*rows, np.zeros(0, np.int64)])
    return {
        (int(numbers[k]), column): node
        for k, entries in enumerate(found)
        for column, node in entries.items()
    }


def _row_numbers(derivative: SparseDerivative) -> list[np.ndarray]:
    """Row of each element of each floating-point output."""
    sizes = [aval.size for aval in derivative.out_avals]
    begins = np.cumsum([0, *sizes])
    return [np.arange(begins[k], begins[k] + sizes[k]) for k in derivative.active_outputs]


def _summed(lowering: Lowering, entries: Iterable[tuple[int, int, UOp]]) -> Entries:
    total: Entries = {}
    for row, column, node in entries:
        old = total.get((row, column))
        total[row, column] = node if old is None else lowering.ex.add(old, node)
    return total


class _Symbols:
    """Tangents as loads from a buffer that never exists: only the elimination sees them.

    Attributes:
        nodes: one per column.
        values: one per input.
    """

    def __init__(
        self, lowering: Lowering, avals: Sequence[Any], columns: Sequence[np.ndarray]
    ) -> None:
        count = max((int(c.max(initial=-1)) for c in columns), default=-1) + 1
        dtypes = {aval_dtype(aval) for aval in avals}
        if len(dtypes) != 1:
            raise NotLinear("tangents of several dtypes")
        (dtype,) = dtypes
        buffer = Buffer(dtype, count, "input", scope=lowering.root)
        self.nodes = [lowering.ex.load(buffer, k) for k in range(count)]
        self.values: list[Value] = []
        for aval, numbers in zip(avals, columns, strict=True):
            a = np.empty(numbers.size, dtype=object)
            a[:] = [self.nodes[k] for k in numbers.reshape(-1)]
            self.values.append(Elements(a.reshape(aval.shape), dtype))


def _roots(lowering: Lowering, program: Tangents, operands: Sequence[Value]) -> list[UOp]:
    results = lowering.run(program.jaxpr.jaxpr, program.jaxpr.consts, operands)
    return [node for value in results for node in lowering.elements(value).reshape(-1)]


def _refuse_stored_tangents(lowering: Lowering, symbols: Sequence[UOp]) -> None:
    """A tangent that passes through memory is invisible to elimination.

    Raises:
        NotLinear: a statement of this attempt uses a tangent.
    """
    known: dict[UOp, bool] = dict.fromkeys(symbols, True)
    for statement in _statements(lowering.attempted()):
        for node in operands(statement):
            if _depends(node, known):
                raise NotLinear("a tangent is stored")


def _statements(top: Sequence[Statement]) -> Iterable[Statement]:
    for statement in top:
        yield statement
        for block in bodies(statement):
            yield from _statements(block.statements)


def _depends(node: UOp, known: dict[UOp, bool]) -> bool:
    stack = [node]
    while stack:
        top = stack[-1]
        if top in known:
            stack.pop()
            continue
        waiting = [s for s in top.src if s not in known]
        if waiting:
            stack.extend(waiting)
            continue
        known[top] = top.op is not Ops.BUFFER and any(known[s] for s in top.src)
        stack.pop()
    return known[node]
