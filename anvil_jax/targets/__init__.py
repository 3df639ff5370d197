"""Targets: how a program is spelled for one kind of machine.

`cpu.py` prints C++17. A further target is a further file with a `render` function here.
"""

from anvil_jax.emit.views import FunctionView
from anvil_jax.errors import ArgumentError
from anvil_jax.kernels.program import Program
from anvil_jax.targets import cpu

DEVICES = ("CPU", "CUDA", "METAL")


def render(program: Program, name: str, signature: cpu.SignatureNames, device: str) -> FunctionView:
    """Text of `program` for `device`.

    Raises:
        ArgumentError: the device has no renderer.
    """
    if device != "CPU":
        raise ArgumentError(f"device {device!r} of {name!r} is not available yet; use 'CPU'")
    return cpu.render(program, name, signature)
