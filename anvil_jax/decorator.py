"""`numerical_function`: the decorator that makes a `NumericalFunction`."""

from collections.abc import Callable
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from anvil_jax.arguments import Arg, Shape
from anvil_jax.emit.names import check_identifier
from anvil_jax.function import Device, KernelChoice, NumericalFunction


class Decorator[**P]:
    """Turns a JAX function into a `NumericalFunction`; made by `numerical_function`."""

    def __init__(
        self, name: str, inputs: tuple[Arg, ...], device: Device, kernel: KernelChoice
    ) -> None:
        """Keep what the function will be made with."""
        self.name = name
        self.inputs = inputs
        self.device: Device = device
        self.kernel: KernelChoice = kernel

    def __call__[R](self, fn: Callable[..., R]) -> NumericalFunction[P, R]:
        """The function with the inputs of this decorator."""
        return NumericalFunction(self.name, fn, self.inputs, self.device, kernel=self.kernel)


type _One = Shape | Arg


@overload
def numerical_function(
    name: str,
    shape: _One,
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    shapes: tuple[_One, _One],
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike, ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    shapes: tuple[_One, ...],
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[...]: ...
@overload
def numerical_function(
    name: str,
    first: _One,
    second: _One,
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike, ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    first: _One,
    second: _One,
    third: _One,
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike, ArrayLike, ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    *shapes: _One,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[...]: ...
def numerical_function(
    name: str,
    *shapes: Any,
    dtype: DTypeLike = np.float64,
    device: Device = "CPU",
    kernel: KernelChoice = "auto",
) -> Decorator[...]:
    """Decorator that makes a `NumericalFunction` of a JAX function.

    ``@numerical_function("f", 3, (2, 2))`` and ``@numerical_function("f", ((3,), (2, 2)))`` mean
    the same: a vector of 3 and a 2 x 2 matrix.

    Args:
        name: C++ identifier.
        *shapes: one per argument, each an integer, a tuple of integers or an `Arg`; or one tuple
            of such tuples and Args.
        dtype: of all inputs that are not given as `Arg`.
        device: ``CPU``, ``METAL`` or ``CUDA``.
        kernel: override of the choice between scalar and tensor kernels.

    Raises:
        ArgumentError: name, shapes or device are not usable.
        DtypeError: the dtype is not supported.
    """
    check_identifier(name, "function")
    return Decorator(name, argument_specs(shapes, dtype), device, kernel)


def argument_specs(shapes: tuple[Any, ...], dtype: DTypeLike) -> tuple[Arg, ...]:
    """The arguments that both spellings of a decorator's shapes mean."""
    if len(shapes) == 1 and _is_group(shapes[0]):
        shapes = tuple(shapes[0])
    return tuple(s if isinstance(s, Arg) else Arg(s, dtype) for s in shapes)


def _is_group(shape: object) -> bool:
    return isinstance(shape, tuple | list) and any(isinstance(s, tuple | list | Arg) for s in shape)
