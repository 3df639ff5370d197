"""Compiles CUDA text with NVRTC, NVIDIA's compiler as a library: no toolkit and no GPU needed.

The library comes from the wheel nvidia-cuda-nvrtc-cu12 (or its successors) or from a toolkit.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path

_SUCCESS = 0


def compile_cubin(source: str, arch: str = "sm_80", options: Sequence[str] = ()) -> bytes:
    """Machine code of `source`.

    Args:
        source: CUDA text; it finds no header but those named by `options`.
        arch: the architecture, with its number of a real device.
        options: further options of NVRTC.

    Raises:
        AssertionError: it does not compile; the log says why.
        FileNotFoundError: there is no NVRTC on this machine.
    """
    return _compiled(source, arch, options)[0]


def compile_log(source: str, arch: str = "sm_80", options: Sequence[str] = ()) -> str:
    """What the compiler says; see `compile_cubin`."""
    return _compiled(source, arch, options)[1]


def _compiled(source: str, arch: str, options: Sequence[str]) -> tuple[bytes, str]:
    nvrtc = _library()
    program = ctypes.c_void_p()
    text = source.encode()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"kernel.cu", 0, None, None))
    try:
        flags = [b"--std=c++17", f"--gpu-architecture={arch}".encode()]
        flags += [option.encode() for option in options]
        status = nvrtc.nvrtcCompileProgram(
            program, len(flags), (ctypes.c_char_p * len(flags))(*flags)
        )
        log = _output(nvrtc, "ProgramLog", program).decode()
        assert status == _SUCCESS, log[:8000]
        return _output(nvrtc, "CUBIN", program), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def compile_seconds(source: str, arch: str = "sm_80", options: Sequence[str] = ()) -> float:
    """How long `compile_cubin` takes, once the library is loaded."""
    _library()
    start = time.perf_counter()
    compile_cubin(source, arch, options)
    return time.perf_counter() - start


@functools.cache
def find_nvrtc() -> Path | None:
    """The library's file, or None where there is none."""
    folders: list[Path] = []
    packages = importlib.util.find_spec("nvidia")
    if packages is not None and packages.submodule_search_locations is not None:
        for place in packages.submodule_search_locations:
            folders += sorted(Path(place).glob("*/lib"))
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if value := os.environ.get(variable):
            folders += [Path(value) / "lib64", Path(value) / "lib"]
    folders.append(Path("/usr/local/cuda/lib64"))
    for folder in folders:
        for pattern in ("libnvrtc.so.[0-9]*", "libnvrtc.so"):
            if found := sorted(folder.glob(pattern)):
                return found[-1]
    name = ctypes.util.find_library("nvrtc")
    return None if name is None else Path(name)


@functools.cache
def _library() -> ctypes.CDLL:
    path = find_nvrtc()
    if path is None:
        raise FileNotFoundError("no libnvrtc: install nvidia-cuda-nvrtc-cu12 or the CUDA toolkit")
    # NVRTC opens it by name, which succeeds once it is loaded.
    for builtins in sorted(path.parent.glob("libnvrtc-builtins.so*")):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(path))


def _output(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    # A log ends in a zero byte, a cubin may.
    return buffer.raw.rstrip(b"\0") if what == "ProgramLog" else buffer.raw


def _check(status: int) -> None:
    assert status == _SUCCESS, f"NVRTC failed with status {status}"
