"""Windows sliding over arrays: convolutions and window reductions.

Each position inside the window contributes one strided slice of the (dilated, padded) operand, so
the rules say what to do with slices in JAX and lower that.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import jax
from jax import lax
from jax import numpy as jnp
from jax.extend.core import JaxprEqn, Primitive

from anvil_jax.errors import LoweringError
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Value

_MAX_POSITIONS = 1024


def _slices(
    lowering: Lowering,
    padded: jax.Array,
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[tuple[int, ...], jax.Array]]:
    """For each position in the window, what it sees as the window moves."""
    if math.prod(window) > _MAX_POSITIONS:
        raise LoweringError(
            f"a window of {math.prod(window)} positions is too large{lowering.where()}"
        )
    reach = [(w - 1) * d for w, d in zip(window, dilation, strict=True)]
    extents = [
        max((n - r - 1) // s + 1, 0) for n, r, s in zip(padded.shape, reach, strides, strict=True)
    ]
    seen = []
    for place in itertools.product(*map(range, window)):
        start = [p * d for p, d in zip(place, dilation, strict=True)]
        limit = [
            a + (n - 1) * s + 1 if n else a for a, n, s in zip(start, extents, strides, strict=True)
        ]
        seen.append((place, lax.slice(padded, start, limit, strides)))
    return seen


@register(lax.conv_general_dilated_p)
def conv_general_dilated(lowering: Lowering, eqn: JaxprEqn, x: Value, kernel: Value) -> Value:
    """Convolution as a sum over kernel positions of matrix products."""
    p = eqn.params
    if p["batch_group_count"] != 1:
        raise LoweringError(f"convolution with batch groups is not supported{lowering.where()}")
    numbers, groups = p["dimension_numbers"], p["feature_group_count"]
    dtype = p["preferred_element_type"]

    def convolved(image: jax.Array, weights: jax.Array) -> jax.Array:
        image = image.transpose(numbers.lhs_spec)
        weights = weights.transpose(numbers.rhs_spec)
        config = [
            (lo, hi, step - 1)
            for (lo, hi), step in zip(p["padding"], p["lhs_dilation"], strict=True)
        ]
        image = lax.pad(image, jnp.zeros((), image.dtype), [(0, 0, 0), (0, 0, 0), *config])
        batch, channels = image.shape[:2]
        image = image.reshape(batch, groups, channels // groups, *image.shape[2:])
        weights = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
        ones = (1, 1, 1)
        total = None
        window = (*ones, *weights.shape[3:])
        strides, dilation = (*ones, *p["window_strides"]), (*ones, *p["rhs_dilation"])
        for place, seen in _slices(lowering, image, window, strides, dilation):
            tap = weights[(..., *place[3:])]
            term = jnp.einsum("bgc...,goc->bgo...", seen, tap, preferred_element_type=dtype)
            total = term if total is None else total + term
        assert total is not None
        merged = total.reshape(batch, -1, *total.shape[3:])
        inverse = [numbers.out_spec.index(k) for k in range(len(numbers.out_spec))]
        return merged.transpose(inverse)

    (result,) = lowering.run_function(convolved, x, kernel)
    return result


_REDUCERS: dict[Primitive, tuple[Callable[[jax.Array, jax.Array], jax.Array], str]] = {
    lax.reduce_window_sum_p: (jnp.add, "zero"),
    lax.reduce_window_max_p: (jnp.maximum, "smallest"),
    lax.reduce_window_min_p: (jnp.minimum, "largest"),
}


@register(*_REDUCERS)
def reduce_window(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Sum or extremum over a sliding window."""
    p = eqn.params
    combine, neutral = _REDUCERS[eqn.primitive]

    def reduced(image: jax.Array) -> jax.Array:
        if neutral == "zero":
            filler = jnp.zeros((), image.dtype)
        elif jnp.issubdtype(image.dtype, jnp.floating):
            filler = jnp.asarray(-jnp.inf if neutral == "smallest" else jnp.inf, image.dtype)
        else:
            limits = jnp.iinfo(image.dtype)
            filler = jnp.asarray(limits.min if neutral == "smallest" else limits.max, image.dtype)
        config = [
            (lo, hi, step - 1)
            for (lo, hi), step in zip(p["padding"], p["base_dilation"], strict=True)
        ]
        padded = lax.pad(image, filler, config)
        total = None
        for _, seen in _slices(
            lowering, padded, p["window_dimensions"], p["window_strides"], p["window_dilation"]
        ):
            total = seen if total is None else combine(total, seen)
        assert total is not None
        return total

    (result,) = lowering.run_function(reduced, x)
    return result


_FILLERS = {"ge": -jnp.inf, "le": jnp.inf}


def _chosen(
    slices: Sequence[tuple[tuple[int, ...], jax.Array]], better: str
) -> list[tuple[tuple[int, ...], jax.Array]]:
    """For each position in the window, where it holds the extremum (the first of equal ones)."""
    keeps = jnp.greater_equal if better == "ge" else jnp.less_equal
    best = slices[0][1]
    which = jnp.zeros(best.shape, jnp.int32)
    for number, (_, seen) in enumerate(slices[1:], start=1):
        keep = keeps(best, seen)
        best = jnp.where(keep, best, seen)
        which = jnp.where(keep, which, number)
    return [(place, which == number) for number, (place, _) in enumerate(slices)]


@register("select_and_gather_add")
def select_and_gather_add(
    lowering: Lowering, eqn: JaxprEqn, tangents: Value, operand: Value
) -> Value:
    """The tangent of the element that a window extremum takes."""
    p = eqn.params
    better = p["select_prim"].name
    steps = zip(p["padding"], p["base_dilation"], strict=True)
    config = [(*ends, step - 1) for ends, step in steps]
    how = p["window_dimensions"], p["window_strides"], p["window_dilation"]

    def gathered(tangent: jax.Array, image: jax.Array) -> jax.Array:
        filler = jnp.asarray(_FILLERS[better], image.dtype)
        chosen = _chosen(_slices(lowering, lax.pad(image, filler, config), *how), better)
        moving = _slices(lowering, lax.pad(tangent, jnp.zeros((), tangent.dtype), config), *how)
        total = jnp.zeros(chosen[0][1].shape, tangent.dtype)
        for (_, here), (_, seen) in zip(chosen, moving, strict=True):
            total = jnp.where(here, seen, total)
        return total

    (result,) = lowering.run_function(gathered, tangents, operand)
    return result


@register("select_and_scatter_add")
def select_and_scatter_add(
    lowering: Lowering, eqn: JaxprEqn, source: Value, operand: Value
) -> Value:
    """Adds each window's cotangent to the element that the window's extremum took."""
    p = eqn.params
    better = p["select_prim"].name
    window, strides = p["window_dimensions"], p["window_strides"]
    ones = (1,) * len(window)

    def scattered(cotangent: jax.Array, image: jax.Array) -> jax.Array:
        filler = jnp.asarray(_FILLERS[better], image.dtype)
        padded = lax.pad(image, filler, [(*ends, 0) for ends in p["padding"]])
        zero = jnp.zeros((), cotangent.dtype)
        total = jnp.zeros(padded.shape, cotangent.dtype)
        for place, here in _chosen(_slices(lowering, padded, window, strides, ones), better):
            config = [
                (begin, extent - begin - (count - 1) * step - 1, step - 1)
                for begin, extent, count, step in zip(
                    place, padded.shape, here.shape, strides, strict=True
                )
            ]
            total = total + lax.pad(jnp.where(here, cotangent, zero), zero, config)
        inside = [slice(lo, n - hi) for (lo, hi), n in zip(p["padding"], padded.shape, strict=True)]
        return total[tuple(inside)]

    (result,) = lowering.run_function(scattered, source, operand)
    return result
