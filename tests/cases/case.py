"""What a case is: a JAX function, fixed inputs, and how closely results must agree with JAX."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

type Kernel = Literal["auto", "scalar", "tensor"]

KERNELS: tuple[Kernel, ...] = ("auto", "scalar", "tensor")
TENSOR: tuple[Kernel, ...] = ("auto", "tensor")
"""For what would become thousands of scalar statements."""

SCALAR_ELEMENTS = 100
"""Input elements up to which a case is also written out element by element."""

RTOL = {"float64": 1e-12, "float32": 1e-5}
SCALE = 1e-3
"""Size below which errors are judged absolutely: results of cancellation."""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        name: C++ identifier, unique in its family.
        function: any JAX callable.
        inputs: its arguments, NumPy arrays or pytrees of them.
        rtol: relative tolerance of floating-point results, None for the default of their dtype.
        signed: whether zeros must have the sign that JAX gives them.
        kernels: the overrides under which it runs.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    rtol: float | None = None
    signed: bool = False
    kernels: tuple[Kernel, ...] = KERNELS


def case(name: str, function: Callable[..., Any], *inputs: Any, **options: Any) -> Case:
    """A row; the name may contain anything, it becomes an identifier."""
    name = re.sub(r"\W+", "_", name.replace("-", "minus"))
    if sum(np.size(leaf) for leaf in jax.tree.leaves(inputs)) > SCALAR_ELEMENTS:
        options.setdefault("kernels", TENSOR)
    return Case(name, function, inputs, **options)


class Data:
    """Reproducible inputs; every call gives other numbers."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def normal(self, *shape: int, dtype: str = "float64") -> np.ndarray:
        return np.asarray(self._generator.normal(size=shape)).astype(dtype)

    def uniform(self, low: float, high: float, *shape: int, dtype: str = "float64") -> np.ndarray:
        return np.asarray(self._generator.uniform(low, high, shape)).astype(dtype)

    def integers(self, low: int, high: int, *shape: int, dtype: str = "int64") -> np.ndarray:
        """In low .. high - 1."""
        return np.asarray(self._generator.integers(low, high, shape)).astype(dtype)

    def whole_range(self, dtype: str, *shape: int) -> np.ndarray:
        """Any value of an integer dtype, its extremes and their neighbours often."""
        info = np.iinfo(dtype)
        ends = np.array([info.min, info.max, info.min + 1, info.max - 1, 0, 1, 3], dtype=dtype)
        random = self._generator.integers(info.min, info.max, shape, dtype, endpoint=True)
        chosen = ends[self._generator.integers(0, len(ends), shape)]
        return np.where(self._generator.random(shape) < 0.5, random, chosen)

    def booleans(self, *shape: int) -> np.ndarray:
        return self._generator.random(shape) < 0.5

    def shuffled(self, count: int) -> np.ndarray:
        return self._generator.permutation(count)


FLOATS = ("float64", "float32")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = (*SIGNED, *UNSIGNED)
DTYPES = (*FLOATS, *INTEGERS, "bool")
