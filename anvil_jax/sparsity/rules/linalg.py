"""Linear algebra: dense inside each matrix, exact over batch axes.

After differentiation only solves carry tangents; the factorisations are listed for completeness.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import mapped, nonlinear, smeared
from anvil_jax.sparsity.rules.registry import in_shapes, out_shapes, register, value_only
from anvil_jax.sparsity.structure import NAN, Known, Shape, Tangent, Value, tangents_of

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation

MAX_TERMS = 4_000_000

_RANKS = {
    "cholesky": 2, "cholesky_update": 2, "eig": 2, "eigh": 2, "geqrf": 2, "geqp3": 2,
    "hessenberg": 2, "householder_product": 2, "lu": 2, "qr": 2, "schur": 2, "svd": 2,
    "symmetric_product": 2, "tridiagonal": 2, "tridiagonal_solve": 1,
}  # fmt: skip
"""Trailing axes of the first operand that one problem consumes."""

value_only("lu_pivots_to_permutation")


@register(*_RANKS)
def factorisation(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Each problem of a batch by itself, and everything in it depends on everything."""
    rank = len(in_shapes(eqn)[0]) - _RANKS[eqn.primitive.name]
    return _batched(operands, out_shapes(eqn), rank)


def _batched(operands: Sequence[Value], shapes: Sequence[Shape], batch: int) -> list[Value]:
    """Dense beyond the first `batch` axes."""
    united = []
    for tangent in tangents_of(operands):
        small = smeared(tangent, range(batch, len(tangent.shape)))
        leading = small.shape[:batch]
        united.append(Tangent(small.base, small.ids.reshape(leading), NAN))
    results: list[Value] = []
    for shape in shapes:
        layout = [
            Tangent(t.base, t.ids.reshape(*t.shape, *[1] * (len(shape) - batch)), NAN)
            for t in united
        ]
        results.append(nonlinear(layout, shape))
    return results


@register("fft")
def fft(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Dense over the transformed axes."""
    batch = len(in_shapes(eqn)[0]) - len(eqn.params["fft_lengths"])
    return _batched(operands, out_shapes(eqn), batch)


@register("triangular_solve")
def triangular_solve(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Each column (row, from the right) by itself, and only substituted values in it."""
    matrix, right_side = operands
    shape = in_shapes(eqn)[1]
    left, lower = eqn.params["left_side"], eqn.params["lower"]
    if eqn.params["transpose_a"]:
        lower = not lower
    size = shape[-2] if left else shape[-1]
    if not isinstance(right_side, Tangent) or isinstance(matrix, Tangent):
        return _batched(operands, out_shapes(eqn), len(shape) - 2)
    reach = _substituted(matrix, size, transposed=eqn.params["transpose_a"], lower=lower)
    results, sources = np.nonzero(reach if left else reach.T)
    positions = np.arange(math.prod(shape)).reshape(shape)
    lanes = np.moveaxis(positions, -2 if left else -1, 0).reshape(size, -1)
    if results.size * lanes.shape[1] > MAX_TERMS:
        return _batched(operands, out_shapes(eqn), len(shape) - 2)
    targets, origins = lanes[results].reshape(-1), lanes[sources].reshape(-1)
    return [mapped(right_side, targets, origins, NAN, shape)]


def _substituted(matrix: Value, size: int, *, transposed: bool, lower: bool) -> np.ndarray:
    """Where the inverse of a triangular matrix may differ from zero, as (row, column)."""
    triangle = np.tri(size, dtype=bool)
    triangle = triangle if lower else triangle.T
    if not isinstance(matrix, Known) or size > 512:
        return triangle
    entries = matrix.values != 0
    if matrix.mask is not None:
        entries |= ~matrix.mask
    entries = entries.reshape(-1, size, size).any(axis=0)
    reach = ((entries.T if transposed else entries) & triangle) | np.eye(size, dtype=bool)
    while True:
        further = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
        if (further == reach).all():
            return reach
        reach = further
