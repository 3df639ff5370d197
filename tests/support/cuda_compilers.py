"""Compiles CUDA text with NVIDIA's compilers, NVRTC (a library) and nvcc; a GPU is not needed.

NVRTC runs in a process of its own: in that of the tests, the emulated one has the same name.
"""

import ctypes
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from anvil_jax.jit.cuda_toolkit import find_cuda_toolkit
from tests.support.command import run


def compile_text(source: str, architecture: int, options: Sequence[str] = ()) -> tuple[bytes, str]:
    """Machine code for ``sm_<architecture>`` by NVRTC, and what the compiler said.

    Args:
        source: CUDA text; it finds no header but those named by `options`.
        architecture: of a real device, 80 for sm_80.
        options: of NVRTC, in addition to those of generated modules.

    Raises:
        AssertionError: it does not compile; the log says why.
        ToolchainError: there is no NVRTC on this machine.
    """
    return _elsewhere(_compile, source, architecture, options)


@functools.cache
def _other_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _elsewhere[T](function: Callable[..., T], *arguments: Any) -> T:
    """``function(nvrtc, *arguments)`` in the other process, `nvrtc` being the library's path."""
    return _other_process().submit(function, str(find_cuda_toolkit().nvrtc), *arguments).result()


def _compile(
    library: str, source: str, architecture: int, options: Sequence[str]
) -> tuple[bytes, str]:
    nvrtc = ctypes.CDLL(library)
    program = ctypes.c_void_p()
    text = source.encode()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None))
    try:
        flags = [f"--gpu-architecture=sm_{architecture}", "--std=c++17", *options]
        words = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        status = nvrtc.nvrtcCompileProgram(program, len(flags), words)
        log = _output(nvrtc, "ProgramLog", program).rstrip(b"\0").decode(errors="replace")
        _check(status, log[:8000])
        return _output(nvrtc, "CUBIN", program), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def compile_seconds(source: str, architecture: int) -> float:
    """How long NVRTC takes for a text, once it is loaded."""
    compile_text('extern "C" __global__ void nothing() {}', architecture)
    start = time.perf_counter()
    compile_text(source, architecture)
    return time.perf_counter() - start


def nvrtc_version() -> str:
    """For example ``12.9``."""
    return _elsewhere(_version)


def _version(library: str) -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(ctypes.CDLL(library).nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"{major.value}.{minor.value}"


def compile_with_nvcc(
    source: str, architecture: int, folder: Path, options: Sequence[str] = ()
) -> str:
    """What nvcc, which is on the PATH, says when it makes machine code.

    Raises:
        AssertionError: it does not compile, with what it says.
    """
    text = folder / "kernels.cu"
    text.write_text(source, encoding="utf-8")
    command = ["nvcc", "-cubin", f"-arch=sm_{architecture}", "-std=c++17", *options]
    return run([*command, text, "-o", text.with_suffix(".cubin")]).stderr


def _output(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(max(size.value, 1))
    _check(getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw[: size.value]


def _check(status: int, why: str = "") -> None:
    assert status == 0, f"NVRTC failed with status {status}: {why}"
