"""Targets: how a program is spelled for one kind of machine.

`cpu.py` prints C++17, the room `gpu` prints kernels in CUDA C++ and in the Metal Shading Language.
"""

from anvil_jax.emit.views import FunctionView
from anvil_jax.kernels.program import Program
from anvil_jax.targets import cpu, gpu
from anvil_jax.targets.signature import SignatureNames

DEVICES = ("CPU", "CUDA", "METAL")


def render(program: Program, name: str, signature: SignatureNames, device: str) -> FunctionView:
    """Text of `program` for `device`, one of `DEVICES`."""
    if device == "CPU":
        return cpu.render(program, name, signature)
    return gpu.render(program, name, signature, device)
