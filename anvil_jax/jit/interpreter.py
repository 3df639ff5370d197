"""What a compiled library must know of this Python: function addresses and two verified layouts.

templates/jit/python_call.hpp reads NumPy arrays in native code, without Python's headers. That is
right only if arrays and scalars look in memory as it says, so `interpreter_record` first compares
the layout with the public API on live arrays. Where anything differs (PyPy, a free-threaded build,
a NumPy with another ABI) it returns None and calls take the slower path through plain pointers.
"""

import ctypes
import importlib
import sys
from functools import cache

import numpy as np

from anvil_jax.dtypes import ELEMENT_TYPES

# Positions in NumPy's C API table (numpy/__multiarray_api.h); stable within one ABI version.
_ABI_VERSION, _NDARRAY_TYPE, _SCALAR, _NEW_FROM_DESCR = 0, 2, 60, 94
_SUPPORTED_ABI = 0x02000000

_FUNCTIONS = {
    "vectorcall": "PyObject_Vectorcall",
    "new_function": "PyCFunction_NewEx",
    "new_tuple": "PyTuple_New",
    "set_tuple_item": "PyTuple_SetItem",
    "float_as_double": "PyFloat_AsDouble",
    "no_memory": "PyErr_NoMemory",
    "release_gil": "PyEval_SaveThread",
    "acquire_gil": "PyEval_RestoreThread",
    "add_reference": "Py_IncRef",
    "drop_reference": "Py_DecRef",
}


class Interpreter(ctypes.Structure):
    """The C++ struct of the same name in python_call.hpp: same fields, same order."""

    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            *_FUNCTIONS,
            "new_array",
            "new_scalar",
            "ndarray_type",
            "float_type",
            "float64_type",
            *(f"dtype_{name}" for name in ELEMENT_TYPES),
        )
    )


class _ArrayObject(ctypes.Structure):
    """The C++ struct of the same name in python_call.hpp."""

    _fields_ = (
        ("references", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_int),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("base", ctypes.c_void_p),
        ("dtype", ctypes.c_void_p),
        ("flags", ctypes.c_int),
    )


@cache
def interpreter_record() -> Interpreter | None:
    """The record handed to every library, or None when the layouts cannot be relied upon."""
    if sys.implementation.name != "cpython" or object.__basicsize__ != 2 * _pointer_size():
        return None
    if not all(_has_expected_layout(array) for array in _sample_arrays()):
        return None
    table = _numpy_api()
    if table is None:
        return None
    addresses = {
        field: ctypes.cast(getattr(ctypes.pythonapi, symbol), ctypes.c_void_p).value
        for field, symbol in _FUNCTIONS.items()
    }
    addresses |= {f"dtype_{name}": id(np.dtype(name)) for name in ELEMENT_TYPES}
    return Interpreter(
        **addresses,
        new_array=table[_NEW_FROM_DESCR],
        new_scalar=table[_SCALAR],
        ndarray_type=id(np.ndarray),
        float_type=id(float),
        float64_type=id(np.float64),
    )


def _pointer_size() -> int:
    return ctypes.sizeof(ctypes.c_void_p)


def _sample_arrays() -> list[np.ndarray]:
    """Arrays that differ in every field the C++ side reads."""
    table = np.arange(24.0).reshape(2, 3, 4)
    packed = np.zeros(3, dtype=np.dtype([("pad", "i1"), ("value", "f8")]))
    return [
        *(np.ones((2, 3), dtype=name) for name in ELEMENT_TYPES),
        np.array(1.0),
        np.empty((0, 5)),
        table,
        table.T,
        table[:, 1:],
        packed["value"],
    ]


def _has_expected_layout(array: np.ndarray) -> bool:
    raw = _ArrayObject.from_address(id(array))
    return (
        raw.type == id(np.ndarray)
        and raw.data == array.ctypes.data
        and raw.ndim == array.ndim
        and tuple(raw.shape[: array.ndim]) == array.shape
        and tuple(raw.strides[: array.ndim]) == array.strides
        and raw.dtype == id(array.dtype)
        and bool(raw.flags & 0x1) == array.flags.c_contiguous
        and bool(raw.flags & 0x100) == array.flags.aligned
    )


def _numpy_api() -> "ctypes.Array[ctypes.c_void_p] | None":
    """NumPy's table of C functions, or None when it is not the one we know."""
    try:
        capsule = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API
    except (ImportError, AttributeError):
        return None
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    table = (ctypes.c_void_p * (_NEW_FROM_DESCR + 1)).from_address(get_pointer(capsule, None))
    abi_version = ctypes.CFUNCTYPE(ctypes.c_uint)(table[_ABI_VERSION])
    if table[_NDARRAY_TYPE] != id(np.ndarray) or abi_version() != _SUPPORTED_ABI:
        return None
    return table
