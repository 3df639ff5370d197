"""Arrays of other libraries on a graphics processor, read through DLPack without copying.

Layout after dlpack.h, version 0.8; https://dmlc.github.io/dlpack/latest/python_spec.html says how
producer and consumer agree on a stream.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

from anvil_jax.errors import ArgumentError, DtypeError
from anvil_jax.jit.signature import ArraySpec, Signature

CUDA = 2
"""DLPack's number for memory of a CUDA device."""

_KINDS = {"int": 0, "uint": 1, "float": 2, "bool": 6}


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


# Prototypes of our own: those of `ctypes.pythonapi` belong to whoever sets them last.
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_new_capsule = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", ctypes.pythonapi))


def make_capsule(tensor: int, destructor: int) -> object:
    """The capsule of a DLManagedTensor; `destructor` is called with a capsule that is deleted."""
    return _new_capsule(tensor, b"dltensor", destructor)


def type_code(dtype: str) -> tuple[int, int]:
    """DLPack's code and number of bits of a NumPy dtype name."""
    kind = dtype.rstrip("0123456789")
    return _KINDS[kind], 8 if kind == "bool" else int(dtype[len(kind) :])


def device_of(value: Any) -> int | None:
    """The number of the CUDA device that `value` is an array on, None if it is none."""
    ask = getattr(type(value), "__dlpack_device__", None)
    if ask is None or not hasattr(type(value), "__dlpack__"):
        return None
    try:
        kind, number = ask(value)
    except (BufferError, TypeError, RuntimeError):  # what libraries raise for arrays they keep
        return None
    return int(number) if int(kind) == CUDA else None


@dataclass(frozen=True, slots=True)
class Borrowed:
    """Memory of another library, valid as long as this object lives."""

    address: int
    capsule: object


def borrow(value: Any, spec: ArraySpec, signature: Signature, device: int, stream: int) -> Borrowed:
    """An array of the device as a pointer; its library sees to it that `stream` finds it complete.

    Raises:
        ArgumentError: other device or shape, or not C-contiguous.
        DtypeError: another dtype; arrays on a device are not converted.
    """
    found = device_of(value)
    where = f"{signature}: argument {spec.name!r}"
    if found != device:
        raise ArgumentError(f"{where} is on CUDA device {found}, the function on device {device}")
    capsule = value.__dlpack__(stream=stream)
    tensor = _Tensor.from_address(_pointer_of(capsule, b"dltensor"))
    shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
    if shape != spec.shape:
        raise ArgumentError(f"{where} must have shape {spec.shape}, got {shape}")
    if (tensor.type.code, tensor.type.bits) != type_code(spec.dtype) or tensor.type.lanes != 1:
        raise DtypeError(
            f"{where} must have dtype {spec.dtype}; arrays on a device are not converted "
            f"(its DLPack type is code {tensor.type.code} with {tensor.type.bits} bits)"
        )
    if tensor.strides and not _is_contiguous(shape, tensor.strides):
        raise ArgumentError(f"{where} must be C-contiguous; make a contiguous copy of it")
    return Borrowed((tensor.data or 0) + tensor.offset, capsule)


def _is_contiguous(shape: tuple[int, ...], strides: Any) -> bool:
    step = 1
    for k in range(len(shape) - 1, -1, -1):
        if shape[k] > 1 and strides[k] != step:
            return 0 in shape
        step *= shape[k]
    return True
