"""Convolutions and reductions over sliding windows."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import mapped, nonlinear, smeared, total
from anvil_jax.sparsity.movement import padded, window_pairs
from anvil_jax.sparsity.rules.registry import in_shapes, out_shapes, register, united
from anvil_jax.sparsity.structure import NAN, Known, Shape, Tangent, Value, Weights, tangents_of

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation

MAX_TERMS = 8_000_000
"""Terms up to which a convolution is followed; a larger one is taken to be dense."""


@register("reduce_window_sum")
def window_sum(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Sums over windows."""
    (tangent,) = tangents_of(operands)
    return [_over_windows(tangent, eqn, 1.0)]


@register("reduce_window_max", "reduce_window_min", "cumred_reduce_window_impl")
def window_extreme(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """One element of each window, nobody knows which."""
    (tangent,) = tangents_of(operands)
    return [_over_windows(tangent, eqn, NAN)]


@register("select_and_gather_add")
def select_and_gather_add(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]
) -> list[Value]:
    """The tangent of the extreme element of each window."""
    return [
        nonlinear([_over_windows(t, eqn, NAN) for t in tangents_of(operands)], *out_shapes(eqn))
    ]


@register("reduce_window")
def window_function(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """`jax.lax.reduce_window` of several arrays with any function."""
    half = len(operands) // 2
    united = [_over_windows(t, eqn, NAN) for t in tangents_of(operands[:half])]
    starts = tangents_of(operands[half:])
    return [nonlinear([*united, *starts], shape) for shape in out_shapes(eqn)]


def _over_windows(tangent: Tangent, eqn: JaxprEqn, factor: float) -> Tangent:
    (shape,) = set(out_shapes(eqn))
    targets, sources = window_pairs(tangent.shape, shape, eqn.params)
    return mapped(tangent, targets, sources, factor, shape)


@register("select_and_scatter_add")
def select_and_scatter_add(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]
) -> list[Value]:
    """Each source element is added to one element of its window, nobody knows which."""
    source, array = operands
    (shape,) = out_shapes(eqn)
    if isinstance(array, Tangent) or not isinstance(source, Tangent):
        return united(eqn, operands)
    windows, elements = window_pairs(shape, source.shape, eqn.params)
    return [mapped(source, elements, windows, NAN, shape)]


# --------------------------------------------------------------------------------- convolution


@register("conv_general_dilated")
def convolution(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """A convolution, linear in the image and in the kernel."""
    (shape,) = out_shapes(eqn)
    image, kernel = in_shapes(eqn)
    layout = eqn.params["dimension_numbers"]
    large = math.prod(shape) * math.prod(kernel) > MAX_TERMS * kernel[layout.rhs_spec[0]]
    if _has_equal_channels(eqn, operands, large):
        return [_blurred(operands[0], image, kernel, eqn)]
    if large:
        return united(eqn, operands)
    targets, *sources = _convolution_terms(image, kernel, shape, eqn.params)
    parts: list[Tangent | None] = []
    for side in (0, 1):
        tangent, other = operands[side], operands[1 - side]
        if isinstance(tangent, Tangent):
            factors: Weights = NAN
            if isinstance(other, Known):
                known = np.broadcast_to(other.factors(), other.shape).reshape(-1)
                factors = known[sources[1 - side]]
            parts.append(mapped(tangent, targets, sources[side], factors, shape))
    return [total(parts, shape)]


def _has_equal_channels(eqn: JaxprEqn, operands: Sequence[Value], large: bool) -> bool:
    """Whether all channels of the result depend on the same elements, or may be taken to."""
    image, kernel = operands
    p = eqn.params
    if p["feature_group_count"] * p["batch_group_count"] > 1 or isinstance(kernel, Tangent):
        return False
    if large or not isinstance(kernel, Known):
        return True
    zeros = np.broadcast_to(kernel.factors(), kernel.shape) == 0
    return isinstance(image, Tangent) and image.varies and not zeros.any()


def _blurred(image: Value, image_shape: Shape, kernel_shape: Shape, eqn: JaxprEqn) -> Value:
    """The union over the windows and all channels, once for all channels of the result."""
    if not isinstance(image, Tangent):
        return None
    (shape,) = out_shapes(eqn)
    layout = eqn.params["dimension_numbers"]

    def single(full: Shape, *axes: int) -> Shape:
        return tuple(1 if d in axes else n for d, n in enumerate(full))

    small = single(shape, layout.out_spec[1])
    targets, sources, _ = _convolution_terms(
        single(image_shape, layout.lhs_spec[1]),
        single(kernel_shape, *layout.rhs_spec[:2]),
        small,
        eqn.params,
    )
    united_channels = smeared(image, [layout.lhs_spec[1]])
    return mapped(united_channels, targets, sources, NAN, small).broadcast(shape)


def _convolution_terms(
    image_shape: Shape, kernel_shape: Shape, shape: Shape, p: Any
) -> list[np.ndarray]:
    """Flat positions in the result, the image and the kernel of every product."""
    layout = p["dimension_numbers"]
    image = np.arange(math.prod(image_shape)).reshape(image_shape).transpose(layout.lhs_spec)
    kernel = np.arange(math.prod(kernel_shape)).reshape(kernel_shape).transpose(layout.rhs_spec)
    target = np.arange(math.prod(shape)).reshape(shape).transpose(layout.out_spec)
    spatial = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(p["padding"], p["lhs_dilation"], strict=True)
    ]
    image = padded(image, -1, [(0, 0, 0), (0, 0, 0), *spatial])
    examples, inputs = image.shape[0] // p["batch_group_count"], kernel.shape[1]
    groups = p["batch_group_count"] * p["feature_group_count"]
    outputs = kernel.shape[0] // groups
    columns: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] for _ in range(3)]
    for group in range(groups):
        produced = slice(group * outputs, (group + 1) * outputs)
        part = image
        if p["batch_group_count"] > 1:
            part = image[group * examples : (group + 1) * examples]
        elif groups > 1:
            part = image[:, group * inputs : (group + 1) * inputs]
        for offset in np.ndindex(*kernel.shape[2:]):
            window = tuple(
                slice(o * dilation, o * dilation + (n - 1) * stride + 1, stride)
                for o, dilation, n, stride in zip(
                    offset, p["rhs_dilation"], target.shape[2:], p["window_strides"], strict=True
                )
            )
            taps = kernel[(produced, slice(None), *offset)]
            terms = np.broadcast_arrays(
                target[:, produced][:, :, None],
                part[(slice(None), slice(None), *window)][:, None],
                taps.reshape(1, *taps.shape, *[1] * len(window)),
            )
            inside = terms[1] >= 0
            for column, positions in zip(columns, terms, strict=True):
                column.append(positions[inside])
    return [np.concatenate(column) for column in columns]
