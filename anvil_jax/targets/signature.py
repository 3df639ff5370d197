"""What a function's arguments and results are called."""

from dataclasses import dataclass

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.emit.views import BufferView
from anvil_jax.kernels.program import Buffer


@dataclass(frozen=True, slots=True)
class SignatureNames:
    """Names of arguments and results, their shapes, and what the function was in Python."""

    source: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]


def buffer_views(
    names: tuple[tuple[str, tuple[int, ...]], ...], buffers: tuple[Buffer, ...]
) -> tuple[BufferView, ...]:
    """Arguments or results as templates see them."""
    return tuple(
        BufferView(name, ELEMENT_TYPES[b.dtype].cpp, b.dtype, shape)
        for (name, shape), b in zip(names, buffers, strict=True)
    )
