"""What a machine may lack: without it a test is skipped, but in CI it fails.

Benchmarks use what tests/support has on machines without pytest, so that is imported when needed.
"""

import os
import shutil
from typing import NoReturn

from anvil_jax.errors import ToolchainError
from anvil_jax.jit.cuda_toolkit import CudaToolkit, find_cuda_toolkit


def missing(what: str) -> NoReturn:
    """Ends a test that cannot run here."""
    import pytest

    if os.environ.get("CI"):
        pytest.fail(f"CI must have {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def require_program(name: str) -> str:
    """The path of a program."""
    return shutil.which(name) or missing(name)


def require_cuda() -> CudaToolkit:
    """CUDA's headers and NVRTC, from a toolkit or from the wheels of the test extra."""
    try:
        return find_cuda_toolkit()
    except ToolchainError as error:
        missing(f"CUDA's headers and NVRTC ({error})")
