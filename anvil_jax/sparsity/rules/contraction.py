"""Products of matrices and their generalisation."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import mapped, summed, total
from anvil_jax.sparsity.rules.registry import out_shapes, register
from anvil_jax.sparsity.structure import Known, Shape, Tangent, Value

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation

MAX_TERMS = 4_000_000
"""Terms up to which a constant factor is taken into account; a larger one counts as unknown."""


@register("dot_general")
def dot_general(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """A contraction; zeros of a known factor remove terms."""
    summed_axes, batch_axes = eqn.params["dimension_numbers"]
    (shape,) = out_shapes(eqn)
    other_shapes = [getattr(v.aval, "shape", ()) for v in eqn.invars]
    parts: list[Tangent | None] = []
    for side in (0, 1):
        tangent, other = operands[side], operands[1 - side]
        if not isinstance(tangent, Tangent):
            continue
        layout = [(batch_axes[k], summed_axes[k]) for k in (side, 1 - side)]
        if isinstance(other, Tangent):
            tangent = tangent.reweighted(math.nan)
        known = other if isinstance(other, Known) else None
        parts.append(_contracted(tangent, known, other_shapes[1 - side], layout, side, shape))
    return [total(parts, shape)]


def _contracted(
    tangent: Tangent,
    other: Known | None,
    other_shape: Shape,
    layout: Sequence[tuple[Sequence[int], Sequence[int]]],
    side: int,
    shape: Shape,
) -> Tangent:
    """The product of a tangent and something that does not depend on the seed.

    Args:
        tangent: one operand.
        other: the other one.
        other_shape: its shape.
        layout: batch and summed axes of the tangent, and of the other one.
        side: 0 if the tangent is the left operand.
        shape: of the result: batch axes, free axes of the left, free axes of the right operand.
    """
    rows = _arranged(np.arange(tangent.ids.size).reshape(tangent.shape), *layout[0])
    batch, free, _ = rows.shape
    if other is not None:
        factors = _arranged(np.broadcast_to(other.factors(), other_shape), *layout[1])
        present = factors != 0
        count = int(present.sum()) * free
        if count <= MAX_TERMS and not (tangent.varies and present.all()):
            others = factors.shape[1]
            targets = _targets(batch, free, others, side)
            b, g, k = np.nonzero(present)
            coefficients = np.repeat(factors[b, g, k], free)
            return mapped(
                tangent, targets[b, :, g].reshape(-1), rows[b, :, k].reshape(-1), coefficients,
                shape,
            )  # fmt: skip
    varying = Tangent(tangent.base, tangent.ids.reshape(-1)[rows], math.nan)
    union = summed(varying, (2,), (batch, free))
    others = math.prod(shape) // max(1, batch * free)
    spread = np.broadcast_to(union.ids[:, :, None], (batch, free, others))
    ids = spread if side == 0 else spread.transpose(0, 2, 1)
    return Tangent(union.base, ids.reshape(shape), math.nan)


def _arranged(array: np.ndarray, batch: Sequence[int], contracted: Sequence[int]) -> np.ndarray:
    """As (batch, free, summed)."""
    free = [d for d in range(array.ndim) if d not in (*batch, *contracted)]
    sizes = [math.prod(array.shape[d] for d in axes) for axes in (batch, free, contracted)]
    return array.transpose(*batch, *free, *contracted).reshape(sizes)


def _targets(batch: int, free: int, others: int, side: int) -> np.ndarray:
    """Flat position in the result, by (batch, free axis of the tangent, of the other one)."""
    if side == 0:
        return np.arange(batch * free * others).reshape(batch, free, others)
    return np.arange(batch * free * others).reshape(batch, others, free).transpose(0, 2, 1)
