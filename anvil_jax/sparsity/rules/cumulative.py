"""Cumulative operations along one axis: triangular."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import mapped
from anvil_jax.sparsity.rules.registry import out_shapes, register
from anvil_jax.sparsity.structure import Tangent, Value, tangents_of

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation


@register("cumsum")
def cumsum(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Running sums."""
    (tangent,) = tangents_of(operands)
    return [_accumulated(tangent, eqn)]


@register("cumlogsumexp", "cummax", "cummin", "cumprod")
def cumulative(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Nonlinear running reductions of a tangent."""
    (tangent,) = tangents_of(operands)
    return [_accumulated(tangent.reweighted(math.nan), eqn)]


def _accumulated(tangent: Tangent, eqn: JaxprEqn) -> Tangent:
    """Every element sums those before it, or after it if reversed, and itself."""
    axis = eqn.params["axis"]
    positions = np.arange(tangent.ids.size).reshape(tangent.shape)
    lanes = np.moveaxis(positions, axis, 0).reshape(tangent.shape[axis], -1)
    after, before = np.tril_indices(lanes.shape[0])
    if eqn.params["reverse"]:
        after, before = before, after
    targets, sources = lanes[after].reshape(-1), lanes[before].reshape(-1)
    return mapped(tangent, targets, sources, 1.0, *out_shapes(eqn))
