"""`MetalFunction`: kernels and what launches them, compiled, as a Python callable.

NumPy in, NumPy out: copied to the device and back by the generated `call`. Works on macOS only.
"""

import platform
from typing import Any

import numpy as np

from anvil_jax.errors import ArgumentError, ToolchainError
from anvil_jax.jit.cache import cached_library
from anvil_jax.jit.device_function import DeviceFunction, DeviceLibrary
from anvil_jax.jit.signature import as_declared, ordered_arguments
from anvil_jax.jit.toolchain import find_compiler

SHIM_ABI = 1
"""Version of what templates/metal/shim.mm.j2 exports; part of the cache key."""

_FLAGS = (
    "-framework", "Metal", "-framework", "Foundation", "-framework", "CoreGraphics",
    "-fobjc-arc", "-x", "objective-c++",
)  # fmt: skip
_HOST_MEMORY = (1, 3, 11, 13)
"""DLPack's numbers for memory that the processor reads: its own, pinned, pinned, managed."""


class _Library(DeviceLibrary):
    """The functions of a shim for Metal."""

    def __init__(self, name: str, source: str) -> None:
        """Compile `source`, unless the cache has it, and load the result."""
        _check_system()
        path = cached_library(name, source, SHIM_ABI, flags=_FLAGS)
        super().__init__(name, path, "anvil_metal", SHIM_ABI)

    def is_lack_of_memory(self, message: str) -> bool:
        """Whether an allocation gave nil, or a command buffer failed for this."""
        return message.endswith("no memory") or "OutOfMemory" in message


class MetalFunction(DeviceFunction):
    """A function whose kernels run on Apple's graphics processor, as a Python callable.

    Making one is cheap: Objective-C++ is compiled, or found in the cache, at the first call or by
    `load`, which also has Metal compile the kernels. Calls from several threads take turns. Pickles
    as text.

    A call raises what `NativeFunction` raises, and

    * `ArgumentError`: an argument is on a device; only arrays of the host are taken;
    * `DeviceError`: Metal refused, with what it said;
    * `ToolchainError`: this is not macOS, or there is no clang++.

    Attributes:
        signature: what it takes and returns.
        source: the Objective-C++ text, complete.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as text, to be compiled or found in the cache where it is unpickled."""
        return MetalFunction, (self.signature, self.source)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function of arrays on the host."""
        values = ordered_arguments(self.signature, args, kwargs)
        inputs = []
        for value, spec in zip(values, self.signature.inputs, strict=True):
            if _is_on_device(value):
                raise ArgumentError(
                    f"{self.signature}: argument {spec.name!r} is on a device; functions for METAL "
                    "take arrays of the host, so copy it there, for example with numpy.asarray"
                )
            inputs.append(as_declared(value, spec, self.signature))
        return self._call_host(inputs)

    def _open(self) -> None:
        self._attach(_Library(self.signature.name, self.source))


def _check_system() -> None:
    """Refuse what cannot compile functions for Metal.

    Raises:
        ToolchainError: this is not macOS, or the compiler is not clang++.
    """
    if platform.system() != "Darwin":
        raise ToolchainError(
            "functions for METAL can be generated and exported here, but called on macOS only"
        )
    compiler = find_compiler()
    if compiler.kind != "clang++":
        raise ToolchainError(
            f"functions for METAL are compiled by clang++, not by {compiler.version}; name a "
            "clang++ in the environment variable ANVIL_JAX_CXX, for example /usr/bin/clang++"
        )


def _is_on_device(value: Any) -> bool:
    """Whether `value` is an array that the processor cannot read."""
    ask = getattr(type(value), "__dlpack_device__", None)
    if ask is None or isinstance(value, np.ndarray):
        return False
    try:
        return int(ask(value)[0]) not in _HOST_MEMORY
    except (BufferError, TypeError, ValueError, RuntimeError):  # kept by its library: see NumPy
        return False
