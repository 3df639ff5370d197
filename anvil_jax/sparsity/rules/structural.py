"""Operations that only move elements: exact for tangents and for partly known values alike."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import assembled
from anvil_jax.sparsity.movement import MOVES, padded
from anvil_jax.sparsity.rules.registry import in_shapes, register, value_only
from anvil_jax.sparsity.structure import Value

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation

value_only("iota", "empty2")


@register(*MOVES, moves=True)
def move(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Operations with one operand."""
    operation, parameters = MOVES[eqn.primitive.name], eqn.params
    return [
        assembled(operands[:1], in_shapes(eqn)[:1], lambda arrays: operation(arrays[0], parameters))
    ]


@register("concatenate", moves=True)
def concatenate(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Arrays one after the other."""
    axis = eqn.params["dimension"]
    return [assembled(operands, in_shapes(eqn), lambda arrays: np.concatenate(arrays, axis))]


@register("stack", moves=True)
def stack(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Arrays along a new axis."""
    axis = eqn.params["axis"]
    return [assembled(operands, in_shapes(eqn), lambda arrays: np.stack(arrays, axis))]


@register("unstack", moves=True)
def unstack(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """The slices of an axis."""
    axis = eqn.params["axis"]
    return [
        assembled(operands, in_shapes(eqn), lambda arrays, k=k: np.take(arrays[0], k, axis))
        for k in range(len(eqn.outvars))
    ]


@register("split", moves=True)
def split(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Consecutive parts of an axis."""
    axis, cuts = eqn.params["axis"], np.cumsum(eqn.params["sizes"])[:-1]
    return [
        assembled(operands, in_shapes(eqn), lambda arrays, k=k: np.split(arrays[0], cuts, axis)[k])
        for k in range(len(eqn.outvars))
    ]


@register("pad", moves=True)
def pad(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Copies of one element around and between those of an array."""
    config = eqn.params["padding_config"]
    return [
        assembled(operands, in_shapes(eqn), lambda arrays: padded(arrays[0], arrays[1][()], config))
    ]
