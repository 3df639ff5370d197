"""Finds CUDA: headers to compile against, and the two libraries that generated code calls.

Searched in this order: the folder in ANVIL_JAX_CUDA_ROOT, CUDA_HOME, CUDA_PATH, the toolkit of the
nvcc on the PATH, /usr/local/cuda, and NVIDIA's wheels from the package index. The driver comes with
the operating system.
"""

import ctypes
import os
import shutil
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from anvil_jax.errors import DeviceError, ToolchainError

ROOT_VARIABLE = "ANVIL_JAX_CUDA_ROOT"
_ROOT_VARIABLES = (ROOT_VARIABLE, "CUDA_HOME", "CUDA_PATH")
_USUAL = Path("/usr/local/cuda")
_WHEELS = Path(sysconfig.get_path("purelib")) / "nvidia"

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76

_HINT = """\
Install the CUDA toolkit (12 or newer), or its headers and run-time compiler alone:
    pip install nvidia-cuda-runtime-cu12 nvidia-cuda-nvrtc-cu12
or name the folder of a toolkit in ANVIL_JAX_CUDA_ROOT."""


@dataclass(frozen=True, slots=True)
class CudaToolkit:
    """Where CUDA is.

    Attributes:
        includes: folders with ``cuda.h`` and ``nvrtc.h``.
        nvrtc: the run-time compiler's library.
    """

    includes: tuple[Path, ...]
    nvrtc: Path

    @property
    def compile_arguments(self) -> tuple[str, ...]:
        """What the C++ compiler is told; the libraries are found when the process has them."""
        return tuple(word for path in self.includes for word in ("-isystem", str(path)))


def find_cuda_toolkit() -> CudaToolkit:
    """The first CUDA found; kept for as long as the variables do not change.

    Raises:
        ToolchainError: headers or NVRTC are missing, or ANVIL_JAX_CUDA_ROOT names no toolkit.
    """
    variables = tuple(os.environ.get(name) for name in _ROOT_VARIABLES)
    return _find(variables, os.environ.get("PATH"))


@cache
def _find(variables: tuple[str | None, ...], search_path: str | None) -> CudaToolkit:
    roots = list(_roots(variables, search_path))
    if variables[0] and not _has_any(roots[0]):
        raise ToolchainError(
            f"{ROOT_VARIABLE}={variables[0]!r} has neither CUDA's headers nor libnvrtc.\n{_HINT}"
        )
    folders = [folder for root in roots for folder in _includes(root)]
    includes = []
    for header in ("cuda.h", "nvrtc.h"):
        found = next((folder for folder in folders if (folder / header).is_file()), None)
        if found is None:
            raise ToolchainError(f"CUDA's header {header} was not found.\n{_HINT}")
        includes.append(found)
    libraries = (file for root in roots for file in _nvrtc_libraries(root))
    nvrtc = next(libraries, None)
    if nvrtc is None:
        raise ToolchainError(f"CUDA's run-time compiler libnvrtc was not found.\n{_HINT}")
    return CudaToolkit(tuple(dict.fromkeys(includes)), nvrtc)


def _roots(variables: Sequence[str | None], search_path: str | None) -> Iterator[Path]:
    yield from (Path(value) for value in variables if value)
    nvcc = shutil.which("nvcc", path=search_path)
    if nvcc is not None:
        yield Path(nvcc).resolve().parents[1]
    yield _USUAL
    yield from (_WHEELS / "cuda_runtime", _WHEELS / "cuda_nvrtc")
    yield from sorted(_WHEELS.glob("cu[0-9]*"))


def _has_any(root: Path) -> bool:
    headers = (folder / "cuda.h" for folder in _includes(root))
    return any(header.is_file() for header in headers) or any(_nvrtc_libraries(root))


def _includes(root: Path) -> tuple[Path, ...]:
    return root / "include", root / "targets/x86_64-linux/include"


def _nvrtc_libraries(root: Path) -> Iterator[Path]:
    for folder in (root, root / "lib64", root / "lib"):
        # The highest version first; alternative builds have other names behind the number.
        yield from sorted(folder.glob("libnvrtc.so.[0-9]*"), reverse=True)


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A device that the driver knows.

    Attributes:
        number: as programs count them.
        name: the manufacturer's.
        architecture: 80 for sm_80.
    """

    number: int
    name: str
    architecture: int


def driver_version() -> str:
    """The version of CUDA that the driver is for, ``12.9``.

    Raises:
        ToolchainError: there is no driver.
        DeviceError: it does not say.
    """
    version = ctypes.c_int()
    _check(load_driver(), "cuDriverGetVersion", ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def find_devices() -> tuple[CudaDevice, ...]:
    """The devices of this machine.

    Raises:
        ToolchainError: there is no driver.
        DeviceError: the driver does not work, or finds no device.
    """
    driver = load_driver()
    count = ctypes.c_int()
    _check(driver, "cuInit", 0)
    _check(driver, "cuDeviceGetCount", ctypes.byref(count))
    return tuple(_describe(driver, number) for number in range(count.value))


def _describe(driver: ctypes.CDLL, number: int) -> CudaDevice:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(driver, "cuDeviceGet", ctypes.byref(device), number)
    _check(driver, "cuDeviceGetName", name, len(name), device)
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int()
        _check(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability.append(value.value)
    major, minor = capability
    return CudaDevice(number, name.value.decode(errors="replace"), 10 * major + minor)


def _check(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    result = getattr(driver, function)(*arguments)
    if result != 0:
        name = ctypes.c_char_p()
        driver.cuGetErrorName(result, ctypes.byref(name))
        raise DeviceError(f"{function}: {(name.value or str(result).encode()).decode()}")


@cache
def load_libraries(toolkit: CudaToolkit) -> ctypes.CDLL:
    """Load driver and NVRTC into the process, for generated libraries to find; gives the driver.

    Raises:
        ToolchainError: there is no driver, or a library cannot be loaded.
    """
    driver = load_driver()
    try:
        ctypes.CDLL(str(toolkit.nvrtc), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ToolchainError(f"{toolkit.nvrtc} cannot be loaded: {error}.\n{_HINT}") from error
    return driver


def load_driver() -> ctypes.CDLL:
    """Load the driver into the process, for generated libraries to find.

    Raises:
        ToolchainError: there is none.
    """
    try:
        return ctypes.CDLL(str(_driver()), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ToolchainError(
            f"there is no NVIDIA driver on this machine ({error}); functions for CUDA can be "
            "generated and exported here, but not called."
        ) from error


def _driver() -> str | Path:
    root = os.environ.get(ROOT_VARIABLE)
    if root and (Path(root) / "libcuda.so.1").is_file():
        return Path(root) / "libcuda.so.1"
    return "libcuda.so.1"
