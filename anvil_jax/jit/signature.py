"""What a native function takes and returns, and how Python values are made to fit it.

No broadcasting and no silent loss: a value either has the declared shape, and a dtype whose values
the declared dtype can represent, or the call is refused with a sentence that quotes the signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anvil_jax.errors import ArgumentError, DtypeError


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One argument or result: its name, NumPy dtype name and static shape, ``()`` for a scalar."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def type_text(self) -> str:
        """As in messages: ``float64[3, 4]``, and ``float64`` for a scalar."""
        extents = ", ".join(map(str, self.shape))
        return f"{self.dtype}[{extents}]" if self.shape else self.dtype

    def __str__(self) -> str:
        """As in messages: ``x: float64[3, 4]``."""
        return f"{self.name}: {self.type_text}"


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything Python must know of a native function.

    Attributes:
        name: a C++ identifier.
        inputs, outputs: in call order.
        workspace_nbytes: scratch memory of one call in bytes.
        operations: arithmetic operations of one call.
    """

    name: str
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    workspace_nbytes: int
    operations: int

    def __str__(self) -> str:
        """As in messages: ``step(x: float64[13], dt: float64)``."""
        return f"{self.name}({', '.join(map(str, self.inputs))})"


def bind_arguments(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[np.ndarray]:
    """Arrays exactly as `signature` declares them: dtype, shape, C-contiguous, aligned.

    Values that already are such arrays are passed on, others are copied.

    Raises:
        ArgumentError: an argument is missing, unknown, given twice or of another shape.
        DtypeError: a dtype cannot be converted without losing data.
    """
    values = ordered_arguments(signature, args, kwargs)
    return [
        as_declared(value, spec, signature)
        for value, spec in zip(values, signature.inputs, strict=True)
    ]


def ordered_arguments(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Sequence[Any]:
    """The arguments by position, as they are.

    Raises:
        ArgumentError: an argument is missing, unknown or given twice.
    """
    names = [spec.name for spec in signature.inputs]
    unknown = [name for name in kwargs if name not in names]
    if unknown:
        raise ArgumentError(f"{signature} has no argument {unknown[0]!r}")
    twice = [name for name in names[: len(args)] if name in kwargs]
    if twice:
        raise ArgumentError(f"{signature} got argument {twice[0]!r} twice: by position and by name")
    given = len(args) + len(kwargs)
    if given != len(names):
        missing = [name for name in names[len(args) :] if name not in kwargs]
        noun = "argument" if len(names) == 1 else "arguments"
        raise ArgumentError(
            f"{signature} takes {len(names)} {noun}, got {given}"
            + (f" (missing: {', '.join(missing)})" if missing else "")
        )
    return [*args, *(kwargs[name] for name in names[len(args) :])]


def as_declared(value: Any, spec: ArraySpec, signature: Signature) -> np.ndarray:
    """One argument as `spec` declares it; see `bind_arguments`."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{signature}: argument {spec.name!r} is no array: {str(error).splitlines()[0]}"
        ) from error
    if array.shape != spec.shape:
        raise ArgumentError(
            f"{signature}: argument {spec.name!r} must have shape {spec.shape}, got {array.shape}"
        )
    declared = np.dtype(spec.dtype)
    if array.dtype != declared:
        _check_conversion(array, spec, signature)
        converted = array.astype(declared, order="C")
        if declared.kind in "iu" and not np.array_equal(converted, array):
            raise _dtype_error(array, spec, signature, f"its values do not fit into {declared}")
        return converted
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return array.copy(order="C")


def empty_outputs(signature: Signature) -> list[np.ndarray]:
    """Arrays for the results of one call; their contents are undefined."""
    return [np.empty(spec.shape, spec.dtype) for spec in signature.outputs]


def as_result(outputs: Sequence[np.ndarray]) -> Any:
    """What a call returns: scalars for rank 0, a tuple unless there is exactly one result."""
    results = tuple(array if array.ndim else array[()] for array in outputs)
    return results[0] if len(results) == 1 else results


def _check_conversion(array: np.ndarray, spec: ArraySpec, signature: Signature) -> None:
    """Refuse by kind: what remains is widening, float to narrower float, integer to integer."""
    declared, given = np.dtype(spec.dtype), array.dtype
    if given.kind == "c":
        advice = "the imaginary part would be lost; pass its .real or .imag"
        raise _dtype_error(array, spec, signature, advice)
    if given.kind == "f" and declared.kind in "iub":
        raise _dtype_error(
            array, spec, signature, "fractions would be lost; round and convert it with .astype()"
        )
    both_integers = given.kind in "iu" and declared.kind in "iu"
    is_number = given.kind not in "mMOSUT"
    if not both_integers and not (is_number and np.can_cast(given, declared, "same_kind")):
        raise _dtype_error(array, spec, signature, "there is no conversion without loss")


def _dtype_error(
    array: np.ndarray, spec: ArraySpec, signature: Signature, reason: str
) -> DtypeError:
    return DtypeError(
        f"{signature}: argument {spec.name!r} must have dtype {spec.dtype}, "
        f"got {array.dtype}: {reason}"
    )
