"""An array library that is not there: arrays on the emulated device that speak DLPack."""

import ctypes
from typing import Any

import numpy as np

from anvil_jax.jit.dlpack import CUDA, _Tensor, make_capsule, type_code


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", _Deleter)]

_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", ctypes.pythonapi)
)
_USED = b"used_dltensor"


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _delete_capsule(capsule: int) -> None:
    """What a producer's capsule does when nobody has consumed it."""
    if _is_valid(capsule, b"dltensor"):
        managed = _Managed.from_address(_pointer(capsule, b"dltensor"))
        managed.deleter(ctypes.pointer(managed))


def _call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    status = getattr(driver, name)(*arguments)
    assert status == 0, f"{name}: {status}"


def enter_primary_context(driver: ctypes.CDLL) -> None:
    """Makes the primary context current for this thread, and keeps it for good."""
    context = ctypes.c_void_p()
    _call(driver, "cuInit", 0)
    _call(driver, "cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    _call(driver, "cuCtxSetCurrent", context)


class Foreign:
    """A copy of `values` on the device.

    Attributes:
        streams: those that consumers asked for.
        deleted: how many capsules' deleters have run.
    """

    def __init__(
        self,
        driver: ctypes.CDLL,
        values: np.ndarray,
        *,
        strides: tuple[int, ...] | None = None,
        number: int = 0,
        type_: tuple[int, int] | None = None,
        offset: int = 0,
        lanes: int = 1,
    ) -> None:
        enter_primary_context(driver)
        self.driver, self.shape, self.number, self.offset = driver, values.shape, number, offset
        self.type = (*(type_ or type_code(values.dtype.name)), lanes)
        self.strides = strides
        self.streams: list[Any] = []
        self.deleted = 0
        self.address = ctypes.c_uint64()
        _call(driver, "cuMemAlloc_v2", ctypes.byref(self.address),
              ctypes.c_size_t(max(values.nbytes + offset, 1)))  # fmt: skip
        host = np.ascontiguousarray(values)
        _call(driver, "cuMemcpyHtoD_v2", ctypes.c_uint64(self.address.value + offset),
              ctypes.c_void_p(host.ctypes.data), ctypes.c_size_t(host.nbytes))  # fmt: skip
        self._kept: list[Any] = []

    def free(self) -> None:
        _call(self.driver, "cuMemFree_v2", self.address)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise AssertionError("an array of the device was read by the host")

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.number

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> object:
        self.streams.append(stream)
        managed = _Managed()
        tensor = managed.tensor
        tensor.data = self.address.value
        tensor.device.type, tensor.device.number = CUDA, self.number
        tensor.ndim = len(self.shape)
        tensor.type.code, tensor.type.bits, tensor.type.lanes = self.type
        extents = (ctypes.c_int64 * max(len(self.shape), 1))(*self.shape)
        tensor.shape = extents
        if self.strides is not None:
            tensor.strides = (ctypes.c_int64 * max(len(self.strides), 1))(*self.strides)
        tensor.offset = self.offset

        def delete(_: Any) -> None:
            self.deleted += 1

        managed.deleter = _Deleter(delete)
        self._kept += [managed, extents]
        destructor = ctypes.cast(_delete_capsule, ctypes.c_void_p).value or 0
        return make_capsule(ctypes.addressof(managed), destructor)


class Consumed:
    """What another library makes of an array: it holds the memory until it is closed."""

    def __init__(self, array: Any, **options: Any) -> None:
        self.capsule = array.__dlpack__(**options)
        self.managed = _Managed.from_address(_pointer(id(self.capsule), b"dltensor"))
        _rename(self.capsule, _USED)
        tensor = self.managed.tensor
        self.shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
        self.type = (tensor.type.code, tensor.type.bits, tensor.type.lanes)
        self.device = (tensor.device.type, tensor.device.number)
        self.address = tensor.data

    def close(self) -> None:
        self.managed.deleter(ctypes.pointer(self.managed))
