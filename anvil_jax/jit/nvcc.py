"""Kernels compiled ahead of time, with the compiler of the CUDA toolkit."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anvil_jax.emit.device import render_kernels
from anvil_jax.emit.views import DeviceFunctionView
from anvil_jax.errors import ArgumentError, ToolchainError
from anvil_jax.jit.toolchain import STDERR_LINES
from anvil_jax.progress import progress

_ARCHITECTURE = re.compile(r"sm_([1-9][0-9]+)")


def compile_ptx(module: str, views: Sequence[Any], architectures: Sequence[str]) -> dict[int, str]:
    """PTX of all kernels of a module.

    Args:
        module: its name, for messages.
        views: its functions.
        architectures: names as ``sm_80``.

    Returns:
        Texts by the number of the architecture.

    Raises:
        ArgumentError: the module is not for CUDA, or a name is none of an architecture.
        ToolchainError: there is no nvcc, or it does not compile for an architecture.
    """
    functions = [v for v in views if isinstance(v, DeviceFunctionView) and v.device == "CUDA"]
    if not functions or len(functions) != len(views):
        raise ArgumentError(f"ptx: module {module} is not for CUDA; leave ptx out")
    names = [architectures] if isinstance(architectures, str) else list(architectures)
    numbers = []
    for name in names:
        match = _ARCHITECTURE.fullmatch(name)
        if match is None:
            raise ArgumentError(f"ptx: {name!r} names no architecture; write for example 'sm_80'")
        numbers.append(int(match[1]))
    compiler = shutil.which("nvcc")
    if compiler is None:
        raise ToolchainError(
            "ptx: nvcc of the CUDA toolkit is not on the PATH. Leave ptx out: the kernels are then "
            "compiled when the program first needs them."
        )
    source = render_kernels(functions)
    return {number: _compiled(compiler, module, source, number) for number in numbers}


def _compiled(compiler: str, module: str, source: str, architecture: int) -> str:
    with tempfile.TemporaryDirectory(prefix="anvil_jax-") as folder:
        text, result = Path(folder, f"{module}.cu"), Path(folder, f"{module}.ptx")
        text.write_text(source, encoding="utf-8")
        command = (
            compiler, "-ptx", f"-arch=compute_{architecture}", "-std=c++17",
            str(text), "-o", str(result),
        )  # fmt: skip
        with progress(f"compiling {module} for sm_{architecture} with nvcc"):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "\n".join((done.stderr or done.stdout).splitlines()[-STDERR_LINES:])
            raise ToolchainError(
                f"nvcc failed on {module} for sm_{architecture} with exit code {done.returncode}. "
                f"The last lines it printed:\n{tail}",
                command=command,
                returncode=done.returncode,
                stderr=tail,
            )
        return result.read_text(encoding="utf-8")
