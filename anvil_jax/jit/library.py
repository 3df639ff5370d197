"""`NativeFunction`: a compiled function that Python calls in a fraction of a microsecond.

The shared library makes its own built-in function (a CPython vectorcall) when it is loaded. That
function checks in native code that every argument is exactly the array `evaluate` takes, allocates
the results through NumPy's C API and calls `evaluate`: no ctypes, no loop and no Python frame per
call. What it does not recognise (lists, JAX arrays, other dtypes or layouts, keyword arguments,
mistakes) goes back to Python, which converts or explains.

    __call__ = built-in(fallback=_convert_and_call)
    _convert_and_call = bind_arguments, then built-in(fallback=_call_plainly)
    _call_plainly = pointers through ctypes: correct wherever Python runs
"""

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anvil_jax.errors import ToolchainError
from anvil_jax.jit.cache import cached_library
from anvil_jax.jit.interpreter import Interpreter, interpreter_record
from anvil_jax.jit.signature import (
    ArraySpec,
    Signature,
    as_result,
    bind_arguments,
    empty_outputs,
)

__all__ = ["RELEASE_GIL_OPERATIONS", "SHIM_ABI", "ArraySpec", "NativeFunction", "Signature"]

SHIM_ABI = 1
"""Version of what templates/jit/shim.cpp.j2 exports and expects; part of the cache key."""

RELEASE_GIL_OPERATIONS = 20_000
"""From here on (some 10 us) other Python threads may run during a call; below, the switch costs
more than it gives."""


class NativeFunction:
    """A function in C++ as a Python callable: ``fn(*arrays)``, or by argument name.

    Making one is cheap: the library is compiled, or found in the cache, at the first call or by
    `load`. Calls may come from several threads at once; every call returns fresh arrays. Instances
    can be pickled and then work in processes that have neither JAX nor the code generator loaded.

    A call takes array-likes of exactly the declared shapes, converted to the declared dtypes where
    that loses nothing. It returns a C-contiguous array, a NumPy scalar for rank 0, a tuple of them
    unless there is exactly one result. It raises

    * `ArgumentError`: wrong number, name or shape of arguments;
    * `DtypeError`: a conversion would lose data;
    * `MemoryError`: no memory for results or workspace;
    * `ToolchainError`: the library cannot be compiled or loaded (first call only).

    Attributes:
        signature: what it takes and returns.
        source: the C++ text, complete.
    """

    # `__call__` is a slot, so calling an instance goes from CPython's call protocol straight to the
    # library's built-in function: about 35 ns, where a method that forwards *args takes 110.
    __slots__ = (
        "__call__",
        "__weakref__",
        "_call_converted",
        "_library_path",
        "_lock",
        "_run",
        "signature",
        "source",
    )
    __call__: Callable[..., Any]

    def __init__(self, signature: Signature, source: str) -> None:
        """Keep the text; nothing is compiled yet."""
        self.signature = signature
        self.source = source
        self._lock = threading.Lock()
        self._library_path: Path | None = None
        self._run: Callable[[Any], int] | None = None
        self._call_converted: Callable[..., Any] = self._call_plainly
        self.__call__ = self._load_and_call

    @property
    def entry(self) -> Callable[..., Any]:
        """The built-in function behind `__call__`, loaded: what wrappers should keep and call."""
        self.load()
        return self.__call__

    @property
    def library_path(self) -> Path:
        """The shared library, compiled if need be."""
        self.load()
        assert self._library_path is not None  # set by load
        return self._library_path

    def load(self) -> "NativeFunction":
        """Compile, unless the cache has it, and load the library; returns self.

        Raises:
            ToolchainError: the library cannot be compiled or loaded.
        """
        with self._lock:
            if self._run is None:
                self._load()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as text, to be compiled or found in the cache where it is unpickled."""
        return NativeFunction, (self.signature, self.source)

    def __repr__(self) -> str:
        """Signature, results and whether the library is loaded."""
        results = ", ".join(spec.type_text for spec in self.signature.outputs)
        if len(self.signature.outputs) != 1:
            results = f"({results})"
        state = "not loaded" if self._run is None else "loaded"
        return f"<NativeFunction {self.signature} -> {results}, {state}>"

    def _load(self) -> None:
        path = self._cached()
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            # Sound by its digest and yet not loadable: made for a system that has changed since.
            path = self._cached(rebuild=True)
            try:
                library = ctypes.CDLL(str(path))
            except OSError as error:
                raise ToolchainError(
                    f"{self.signature.name} was compiled but cannot be loaded: {error}",
                    source_path=str(path.with_suffix(".cpp")),
                ) from error
        if library.anvil_jit_abi() != SHIM_ABI:
            raise ToolchainError(
                f"{self.signature.name} was generated (and perhaps pickled) by another version of "
                "anvil_jax, which calls it differently; generate it again"
            )
        run = library.anvil_jit_run
        run.argtypes, run.restype = (ctypes.c_void_p,), ctypes.c_int
        record = interpreter_record()
        if record is None:
            call_converted, call = self._call_plainly, self._convert_and_call
        else:
            call_converted = _bind(path, record, self._call_plainly)
            call = _bind(path, record, self._convert_and_call)
        # `__call__` last: from then on other threads call without the lock.
        self._library_path = path
        self._run = run
        self._call_converted = call_converted
        self.__call__ = call

    def _cached(self, rebuild: bool = False) -> Path:
        return cached_library(self.signature.name, self.source, SHIM_ABI, rebuild)

    def _load_and_call(self, *args: Any, **kwargs: Any) -> Any:
        return self.entry(*args, **kwargs)

    def _convert_and_call(self, *args: Any, **kwargs: Any) -> Any:
        """Any acceptable arguments."""
        return self._call_converted(*bind_arguments(self.signature, args, kwargs))

    def _call_plainly(self, *inputs: np.ndarray) -> Any:
        """Converted arguments, through plain pointers, whatever the interpreter."""
        run = self._run
        assert run is not None  # only a loaded library calls this
        outputs = empty_outputs(self.signature)
        arrays = (*inputs, *outputs)
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        if run(pointers) != 0:
            raise MemoryError(
                f"no memory for the {self.signature.workspace_nbytes} bytes of workspace of "
                f"{self.signature.name}"
            )
        return as_result(outputs)


def _bind(path: Path, record: Interpreter, fallback: Callable[..., Any]) -> Callable[..., Any]:
    """The library's own built-in function; PyDLL because making it needs the GIL."""
    bind = ctypes.PyDLL(str(path)).anvil_jit_bind
    bind.argtypes, bind.restype = (ctypes.POINTER(Interpreter), ctypes.py_object), ctypes.py_object
    return bind(ctypes.byref(record), fallback)
