"""`Arg`: the shape and dtype of one argument."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from anvil_jax.dtypes import element_type
from anvil_jax.errors import ArgumentError

type Shape = SupportsIndex | Sequence[SupportsIndex]


@dataclass(frozen=True, init=False, slots=True)
class Arg:
    """Shape and dtype of one input or output.

    ``Arg(1024)`` is a vector, ``Arg((3, 3))`` a matrix, ``Arg(())`` a scalar, ``Arg(0)`` a vector
    without elements ("no parameter").

    Attributes:
        shape: always a tuple.
        dtype: NumPy dtype.

    Raises:
        ArgumentError: a size is negative or no integer.
        DtypeError: the dtype has no C++ form here.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, shape: Shape, dtype: DTypeLike = np.float64) -> None:
        """Describe an array of `shape`: an integer, or a tuple of integers."""
        object.__setattr__(self, "shape", _shape(shape))
        object.__setattr__(self, "dtype", element_type(dtype, "Arg").dtype)

    @property
    def ndim(self) -> int:
        """Number of axes; 0 for a scalar."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __repr__(self) -> str:
        """``Arg((3, 3))``, with the dtype unless it is float64."""
        dtype = "" if self.dtype == np.float64 else f", {self.dtype.name}"
        shape = self.shape[0] if self.ndim == 1 else self.shape
        return f"Arg({shape}{dtype})"


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    for size in sizes:
        if isinstance(size, bool) or not hasattr(size, "__index__"):
            raise ArgumentError(
                f"Arg({shape!r}): a shape is an integer or a tuple of integers, "
                f"but {size!r} is a {type(size).__name__}"
            )
        if int(size) < 0:
            raise ArgumentError(f"Arg({shape!r}): sizes cannot be negative")
    return tuple(int(size) for size in sizes)
