"""`CudaFunction`: kernels and what launches them, compiled, as a Python callable.

NumPy in, NumPy out: copied to the device and back by the generated `call`.
An array on the device among the arguments: pointers through DLPack, results on the device too,
as arrays of the same library; nothing is copied but arguments that come as NumPy arrays.
"""

import ctypes
import hashlib
import importlib
import os
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from anvil_jax.jit.cache import cached_library
from anvil_jax.jit.cuda_toolkit import find_cuda_toolkit, load_libraries
from anvil_jax.jit.device_function import DeviceFunction, DeviceLibrary
from anvil_jax.jit.dlpack import CUDA, Borrowed, borrow, device_of, make_capsule, type_code
from anvil_jax.jit.signature import ArraySpec, Signature, as_declared, ordered_arguments

SHIM_ABI = 1
"""Version of what templates/cuda/shim.cpp.j2 exports; part of the cache key."""

_DIGEST_SIZE = 32
_CONVERTERS = {"jax": "jax.dlpack", "jaxlib": "jax.dlpack", "torch": "torch", "cupy": "cupy"}


class _Library(DeviceLibrary):
    """The functions of a shim for CUDA."""

    def __init__(self, name: str, source: str) -> None:
        """Compile `source`, unless the cache has it, and load the result."""
        toolkit = find_cuda_toolkit()
        load_libraries(toolkit)
        path = cached_library(name, source, SHIM_ABI, arguments=toolkit.compile_arguments)
        super().__init__(name, path, "anvil_cuda", SHIM_ABI)
        for function in ("stream", "new_array", "share_array"):
            self.symbol(function).restype = ctypes.c_void_p
        self.symbol("array_address").restype = ctypes.c_uint64
        for ours, theirs in (("is_valid", "IsValid"), ("pointer", "GetPointer")):
            function = getattr(ctypes.pythonapi, f"PyCapsule_{theirs}")
            slot = ctypes.c_void_p.in_dll(self._functions, f"anvil_cuda_capsule_{ours}")
            slot.value = ctypes.cast(function, ctypes.c_void_p).value

    def is_lack_of_memory(self, message: str) -> bool:
        """Whether the driver named this as its error."""
        return "ERROR_OUT_OF_MEMORY" in message


class DeviceArray:
    """A C-contiguous array on a CUDA device, a result of a `CudaFunction`.

    Other libraries take it without a copy (``jax.dlpack.from_dlpack(array)``, ``torch`` and
    ``cupy`` alike); ``numpy.asarray(array)`` copies it to the host.

    Attributes:
        shape: extents.
        dtype: NumPy dtype.
        device: number of the device.
    """

    def __init__(
        self, library: DeviceLibrary, workspace: int, spec: ArraySpec, device: int
    ) -> None:
        """Allocate memory; its contents are undefined."""
        self.shape = spec.shape
        self.dtype = np.dtype(spec.dtype)
        self.device = device
        self._library = library
        self._handle: int = library.checked(
            "new_array",
            ctypes.c_void_p(workspace),
            ctypes.c_size_t(self.nbytes),
            is_pointer=True,
        )
        weakref.finalize(self, library, "drop_array", ctypes.c_void_p(self._handle))

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def address(self) -> int:
        """Where the elements are on the device."""
        return self._library("array_address", ctypes.c_void_p(self._handle))

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's number for CUDA, and the device's."""
        return CUDA, self.device

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule with the elements, which are complete whatever the `stream`.

        Raises:
            BufferError: a copy is asked for, or another device.
        """
        del stream, max_version  # version 0.8, which every consumer has to take
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"{self!r} hands out its own memory only, without a copy")
        code, bits = type_code(self.dtype.name)
        extents = (ctypes.c_int64 * max(len(self.shape), 1))(*self.shape)
        tensor = self._library(
            "share_array", ctypes.c_void_p(self._handle), self.device, code, bits,
            len(self.shape), extents,
        )  # fmt: skip
        destructor = ctypes.cast(self._library.symbol("delete_capsule"), ctypes.c_void_p)
        return make_capsule(tensor, destructor.value or 0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A copy on the host."""
        if copy is False:
            raise ValueError("an array on a device cannot be read without a copy")
        array = np.empty(self.shape, self.dtype)
        if array.nbytes:
            self._library.checked(
                "read_array",
                ctypes.c_void_p(self._handle),
                ctypes.c_void_p(array.ctypes.data),
                ctypes.c_size_t(array.nbytes),
            )
        return array if dtype is None else array.astype(dtype)

    def __repr__(self) -> str:
        """Type, shape and device."""
        return f"<DeviceArray {self.dtype.name}{list(self.shape)} on CUDA device {self.device}>"


class CudaFunction(DeviceFunction):
    """A function whose kernels run on a CUDA device, as a Python callable.

    Making one is cheap: C++ and kernels are compiled, or found in the cache, at the first call or
    by `load`. Calls from several threads take turns. Pickles as text.

    A call raises what `NativeFunction` raises, and

    * `DeviceError`: the driver or its compiler refused, with what it said;
    * `ToolchainError`: there is no CUDA toolkit, driver or C++ compiler.

    Attributes:
        signature: what it takes and returns.
        source: the C++ text, complete.
        device: number of the device.
    """

    def __init__(self, signature: Signature, source: str, device: int = 0) -> None:
        """Keep the text; nothing is compiled yet."""
        super().__init__(signature, source)
        self.device = device

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as text, to be compiled or found in the cache where it is unpickled."""
        return CudaFunction, (self.signature, self.source, self.device)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function of arrays on the host or, if any argument is there, on the device."""
        if any(device_of(value) is not None for value in (*args, *kwargs.values())):
            return self._call_device(ordered_arguments(self.signature, args, kwargs))
        return super().__call__(*args, **kwargs)

    def _call_device(self, values: Sequence[Any]) -> Any:
        hosts = [
            as_declared(value, spec, self.signature) if device_of(value) is None else None
            for value, spec in zip(values, self.signature.inputs, strict=True)
        ]
        library = self._loaded()
        with self._lock:
            workspace = ctypes.c_void_p(self._workspace)
            stream = library("stream", workspace)
            inputs: list[Borrowed | DeviceArray] = []
            try:
                for value, host, spec in zip(values, hosts, self.signature.inputs, strict=True):
                    if host is None:
                        inputs.append(borrow(value, spec, self.signature, self.device, stream))
                    else:
                        inputs.append(self._uploaded(library, host, spec))
                outputs = [
                    DeviceArray(library, self._workspace, spec, self.device)
                    for spec in self.signature.outputs
                ]
                addresses = [array.address for array in (*inputs, *outputs)]
                self._run("call_device", addresses, ctypes.c_void_p(stream))
            finally:
                # Only now may the arguments be changed or freed, and the results be read.
                library.checked("wait", workspace)
        likeness = next(value for value in values if device_of(value) is not None)
        results = tuple(_as_array_of(likeness, array) for array in outputs)
        return results[0] if len(results) == 1 else results

    def _uploaded(self, library: DeviceLibrary, host: np.ndarray, spec: ArraySpec) -> DeviceArray:
        array = DeviceArray(library, self._workspace, spec, self.device)
        if host.nbytes:
            library.checked(
                "write_array",
                ctypes.c_void_p(self._workspace),
                ctypes.c_void_p(array._handle),
                ctypes.c_void_p(host.ctypes.data),
                ctypes.c_size_t(host.nbytes),
            )
        return array

    def _open(self) -> None:
        library = _Library(self.signature.name, self.source)
        number = ctypes.c_int()
        library.checked("architecture", self.device, ctypes.byref(number))
        path = self._code_path(library, number.value)
        code = _kept_code(path)
        if code is not None:
            library("put_code", number.value, code, ctypes.c_size_t(len(code)))
        self._attach(library, self.device)
        if code is None:
            _keep_code(library, number.value, path)

    def _code_path(self, library: DeviceLibrary, architecture: int) -> Path:
        """Where the compiled kernels are kept: beside the library, by architecture and compiler."""
        nvrtc = find_cuda_toolkit().nvrtc
        facts = (str(nvrtc), os.stat(nvrtc).st_mtime_ns, architecture)
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
        return library.path.with_name(f"{library.path.stem}-sm_{architecture}_{digest}.code")


def _kept_code(path: Path) -> bytes | None:
    """Machine code that `_keep_code` left, None if there is none or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    return code if code and hashlib.sha256(code).digest() == digest else None


def _keep_code(library: DeviceLibrary, architecture: int, path: Path) -> None:
    """Leave machine code for later processes, behind its digest."""
    pointer, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.checked("get_code", architecture, ctypes.byref(pointer), ctypes.byref(size))
    code = ctypes.string_at(pointer.value or 0, size.value)
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="build-", dir=path.parent) as folder:
        draft = Path(folder, path.name)
        draft.write_bytes(hashlib.sha256(code).digest() + code)
        os.replace(draft, path)


def _as_array_of(likeness: Any, array: DeviceArray) -> Any:
    """`array` as an array of the library that `likeness` belongs to, without a copy."""
    package = type(likeness).__module__.partition(".")[0]
    if package not in _CONVERTERS:
        return array
    return importlib.import_module(_CONVERTERS[package]).from_dlpack(array)
