"""The one place that touches tinygrad.

tinygrad supplies the intermediate representation: hash-consed `UOp` nodes with an operation, a
dtype, sources and an argument. No Tensor is made, no Device is opened, no rewrite rule runs, so
none of tinygrad's value-changing simplifications can apply. Its API moves monthly; hence the exact
pin and the check below.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from anvil_jax.errors import AnvilError

SUPPORTED_VERSION = "0.14.0"

if version("tinygrad") != SUPPORTED_VERSION:
    raise AnvilError(
        f"anvil_jax needs tinygrad {SUPPORTED_VERSION}, found {version('tinygrad')}: its graph "
        f"representation changes between releases. Run: pip install tinygrad=={SUPPORTED_VERSION}"
    )

from tinygrad.dtype import dtypes  # noqa: E402
from tinygrad.uop import Ops  # noqa: E402
from tinygrad.uop.ops import UOp  # noqa: E402

if TYPE_CHECKING:
    from tinygrad.dtype import DType

INDEX = dtypes.weakint
"""dtype of index arithmetic; printed as plain ``int`` (buffers hold fewer than 2**31 elements)."""

_BY_NAME = {
    "float64": dtypes.float64,
    "float32": dtypes.float32,
    "int64": dtypes.int64,
    "int32": dtypes.int32,
    "int16": dtypes.int16,
    "int8": dtypes.int8,
    "uint64": dtypes.uint64,
    "uint32": dtypes.uint32,
    "uint16": dtypes.uint16,
    "uint8": dtypes.uint8,
    "bool": dtypes.bool,
    "index": INDEX,
}
# tinygrad interns dtypes, so identity is enough and much faster than their structural hash.
_NAMES = {id(dtype): name for name, dtype in _BY_NAME.items()}


def dtype_of(name: str) -> "DType":
    """The tinygrad dtype for a NumPy dtype name (or ``"index"``)."""
    return _BY_NAME[name]


def dtype_name(node: UOp) -> str:
    """NumPy dtype name (or ``"index"``) of a node's value."""
    return _NAMES[id(node.dtype)]


__all__ = ["INDEX", "SUPPORTED_VERSION", "Ops", "UOp", "dtype_name", "dtype_of"]
