"""What JAX's abstract values are here: static shapes and supported dtypes."""

import numpy as np

from anvil_jax.dtypes import element_type
from anvil_jax.errors import LoweringError


def aval_shape(aval: object) -> tuple[int, ...]:
    """Static shape; a random key array counts its words as a last axis.

    Raises:
        LoweringError: an extent is symbolic.
    """
    shape = list(getattr(aval, "shape", ()))
    if any(not isinstance(n, int | np.integer) for n in shape):
        raise LoweringError(f"dynamic shape {shape}: extents must be known numbers")
    key_shape = getattr(getattr(aval, "dtype", None), "_impl", None)
    if key_shape is not None:
        shape += key_shape.key_shape
    return tuple(int(n) for n in shape)


def aval_dtype(aval: object) -> str:
    """NumPy dtype name; random keys are uint32 words."""
    dtype = getattr(aval, "dtype", None)
    if getattr(dtype, "_impl", None) is not None:
        return "uint32"
    return element_type(dtype).numpy
