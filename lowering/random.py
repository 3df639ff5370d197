"""Random keys and bits: threefry through JAX's own definition, bit for bit.

A key is its words (uint32, last axis). Every key primitive is written by the key's implementation
in ordinary integer operations, which are traced and lowered like the user's own code.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend import random as jax_random
from jax.extend.core import JaxprEqn

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.errors import LoweringError
from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.lowering.avals import aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Pull, Value


@register("random_wrap", "random_unwrap")
def rewrap(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """A key and its words are the same array here."""
    return x


def _implementation(lowering: Lowering, eqn: JaxprEqn):
    aval: Any = eqn.invars[0].aval if eqn.primitive.name != "random_seed" else eqn.outvars[0].aval
    found = aval.dtype._impl
    if found.name != "threefry2x32":
        raise LoweringError(
            f"random keys of kind {found.name!r} are not supported{lowering.where()}; use "
            "jax.random.key(seed, impl='threefry2x32')"
        )
    return found


def _over_batch(function: Callable[..., object], batch_rank: int) -> Callable[..., object]:
    for _ in range(batch_rank):
        function = jax.vmap(function)
    return function


@register("random_bits")
def random_bits(lowering: Lowering, eqn: JaxprEqn, keys: Value) -> list[Value]:
    """Uniform unsigned words from each key."""
    kind = _implementation(lowering, eqn)
    draw = partial(kind.random_bits, bit_width=eqn.params["bit_width"], shape=eqn.params["shape"])
    return lowering.run_function(_over_batch(lambda k: draw(k), len(keys.shape) - 1), keys)


@register("random_split")
def random_split(lowering: Lowering, eqn: JaxprEqn, keys: Value) -> list[Value]:
    """New keys from each key."""
    kind = _implementation(lowering, eqn)
    split = partial(kind.split, shape=eqn.params["shape"])
    return lowering.run_function(_over_batch(lambda k: split(k), len(keys.shape) - 1), keys)


@register("random_fold_in")
def random_fold_in(lowering: Lowering, eqn: JaxprEqn, keys: Value, data: Value) -> list[Value]:
    """A key combined with a number."""
    kind = _implementation(lowering, eqn)
    shape = aval_shape(eqn.outvars[0].aval)

    def fold(words: jax.Array, numbers: jax.Array) -> object:
        words = jax.numpy.broadcast_to(words, shape)
        numbers = jax.numpy.broadcast_to(numbers, shape[:-1])
        return _over_batch(kind.fold_in, len(shape) - 1)(words, numbers)

    return lowering.run_function(fold, keys, data)


@register("random_seed")
def random_seed(lowering: Lowering, eqn: JaxprEqn, seeds: Value) -> list[Value]:
    """A key from an integer."""
    kind = _implementation(lowering, eqn)
    return lowering.run_function(_over_batch(kind.seed, len(seeds.shape)), seeds)


@register("iota_2x32_shape")
def iota_2x32_shape(lowering: Lowering, eqn: JaxprEqn) -> list[Value]:
    """The C-order position of every element, as high and low 32-bit words."""
    shape = aval_shape(eqn.outvars[0].aval)
    if math.prod(shape) >= 2**31:
        raise LoweringError(f"too many random numbers at once{lowering.where()}")
    high = lowering.constant(np.zeros((), np.uint32)).broadcast_in_dim(shape, ())
    if lowering.is_scalar(shape):
        return [
            high,
            lowering.constant(np.arange(math.prod(shape), dtype=np.uint32).reshape(shape)),
        ]
    ex = lowering.ex
    low = Pull(
        ex, (math.prod(shape),), "uint32", lambda i: ex.cast(i[0], "uint32"), cost=1,
        flat=lambda k: ex.cast(k, "uint32"),
    )  # fmt: skip
    return [high, low.reshape(shape)]


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


@register(jax_random.threefry2x32_p)
def threefry2x32(
    lowering: Lowering, eqn: JaxprEqn, k0: Value, k1: Value, x0: Value, x1: Value
) -> list[Value]:
    """20 rounds of Threefry-2x32 (Salmon et al., "Parallel random numbers", SC 2011)."""
    ex = lowering.ex

    def rotated(word: UOp, distance: int) -> UOp:
        left = ex.intrinsic("shift_left", "uint32", word, ex.const(distance, "uint32"))
        right = ex.intrinsic(
            "shift_right_logical", "uint32", word, ex.const(32 - distance, "uint32")
        )
        return ex.bitwise(Ops.OR, left, right)

    def block(key0: UOp, key1: UOp, a: UOp, b: UOp) -> tuple[UOp, UOp]:
        parity = ex.const(0x1BD11BDA, "uint32")
        keys = (key0, key1, ex.bitwise(Ops.XOR, ex.bitwise(Ops.XOR, key0, key1), parity))
        a, b = ex.add(a, keys[0]), ex.add(b, keys[1])
        for group in range(5):
            for distance in _ROTATIONS[group % 2]:
                a = ex.add(a, b)
                b = ex.bitwise(Ops.XOR, a, rotated(b, distance))
            a = ex.add(a, keys[(group + 1) % 3])
            b = ex.add(b, ex.add(keys[(group + 2) % 3], ex.const(group + 1, "uint32")))
        return a, b

    assert ELEMENT_TYPES[x0.dtype].numpy == "uint32"
    shape = aval_shape(eqn.outvars[0].aval)
    return [
        lowering.elementwise(
            lambda *words, part=part: block(*words)[part],
            (shape, "uint32"),
            k0,
            k1,
            x0,
            x1,
            cost=110,
        )
        for part in (0, 1)
    ]
