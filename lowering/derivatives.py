"""Sparse derivatives: scalar elimination, blocks in a loop, or coloured passes.

The primitive is bound by functions that `anvil_jax.spjacobian` and its relatives make; what it
computes is a `SparseDerivative`.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.errors import LoweringError
from anvil_jax.lowering.blocks import lower_blocks
from anvil_jax.lowering.elimination import Entries, eliminate
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.selection import scalar_operations
from anvil_jax.lowering.values import Value
from anvil_jax.sparsity.derivative import SparseDerivative

_WORTH_BLOCKS = 300
"""Scalar operations of a function from which on a loop over its stages is looked for."""

_MAX_REPEATED = 2.0
"""Operations of all stages together, relative to the function's, up to which it is a map."""

_MAX_ELIMINATED = {1: 8_000, 2: 30_000}
"""Scalar operations of a derivative program, by its order, up to which it is written out."""


@register("sparse_derivative")
def sparse_derivative(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Value:
    """The values of a sparse derivative in CSC order."""
    derivative: SparseDerivative = eqn.params["derivative"]
    if derivative.nnz and derivative.mode == "auto" and lowering.kernel != "tensor":
        if _is_map(derivative):
            found = lower_blocks(lowering, derivative, operands, local_entries)
            if found is not None:
                return found
        entries = by_elimination(lowering, derivative, operands)
        if entries is not None:
            return _in_order(lowering, derivative, entries)
    return lowering.run_function(derivative.compressed, *operands)[0]


def _is_map(derivative: SparseDerivative) -> bool:
    """Whether a loop over the function's stages is worth while, and repeats little work."""
    work = scalar_operations(derivative.jaxpr.jaxpr)
    if work < _WORTH_BLOCKS or derivative.split is None:
        return False
    bodies = ((r.trips, scalar_operations(r.body.jaxpr)) for r in derivative.split.regions)
    return sum(trips * each for trips, each in bodies) <= _MAX_REPEATED * work


def is_eliminated(derivative: SparseDerivative) -> bool:
    """Whether a derivative is small enough to be written out."""
    program = derivative.tangents
    return scalar_operations(program.jaxpr.jaxpr) <= _MAX_ELIMINATED[program.order]


def by_elimination(
    lowering: Lowering, derivative: SparseDerivative, operands: Sequence[Value]
) -> Entries | None:
    """The entries as expressions, None where the program is large or has loops."""
    if not is_eliminated(derivative):
        return None
    ends = np.cumsum([0, *(aval.size for aval in derivative.inputs)])
    columns = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    return eliminate(lowering, derivative, operands, columns)


def local_entries(
    lowering: Lowering,
    derivative: SparseDerivative,
    operands: Sequence[Value],
    columns: Sequence[np.ndarray],
) -> Entries:
    """The entries of one stage's block; columns with the same number are added up."""
    if is_eliminated(derivative):
        entries = eliminate(lowering, derivative, operands, columns)
        if entries is not None:
            return entries
    values = lowering.run_function(derivative.compressed, *operands)[0]
    nodes = lowering.elements(lowering.materialise(values))
    numbers = np.concatenate([*columns, np.zeros(0, np.int64)])
    pattern = derivative.pattern
    total: Entries = {}
    ex = lowering.ex
    for row, column, node in zip(pattern.rows, pattern.columns, nodes, strict=True):
        i, j = int(row), int(numbers[column])
        if derivative.kind == "hessian":
            # A mirrored entry of two inputs that move together counts twice.
            i = int(numbers[row])
            if i == j and row != column:
                node = ex.add(node, node)
            i, j = min(i, j), max(i, j)
        total[i, j] = ex.add(total[i, j], node) if (i, j) in total else node
    return total


def _in_order(lowering: Lowering, derivative: SparseDerivative, entries: Entries) -> Value:
    dtype = derivative.dtype.name
    pattern = derivative.pattern
    places = zip(pattern.rows.tolist(), pattern.columns.tolist(), strict=True)
    slots = {place: k for k, place in enumerate(places)}
    values = np.full(derivative.nnz, lowering.ex.const(0.0, dtype), dtype=object)
    outside = [place for place in entries if place not in slots]
    if outside and derivative.given is None and not derivative.vanish(outside):
        raise LoweringError(
            f"internal error: {len(outside)} entries exist outside the traced pattern, for example "
            f"{outside[0]}{lowering.where()}; please report this function"
        )
    for place, slot in slots.items():
        if place in entries:
            values[slot] = lowering.ex.cast(entries[place], dtype)
    return lowering.joined(values, dtype)
