"""CasADi's external-function form: what ``casadi.external`` and acados load.

CasADi knows matrices of doubles in column-major order. Scalars, vectors and the values of sparse
matrices pass through; dense matrices are copied into scratch memory, which CasADi supplies; arrays
of higher rank become columns in C order. See "Using external functions" in CasADi's user guide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anvil_jax.emit.names import C_LIBRARY
from anvil_jax.emit.views import (
    BufferView,
    CasadiBufferView,
    CasadiFunctionView,
    FunctionView,
    SparsityView,
)
from anvil_jax.errors import ExportError


@dataclass(frozen=True, slots=True)
class BridgeView:
    """A C symbol in the module's source file that calls one ``evaluate``.

    Attributes:
        symbol: C name, different from every C++ name.
        evaluate: qualified name of what is called.
        parameters: parameter list of the symbol.
        arguments: its arguments, handed on.
    """

    symbol: str
    evaluate: str
    parameters: str
    arguments: str


def bridge_view(module: str, function: FunctionView) -> BridgeView:
    """How the C interface reaches `function` of `module`.

    Raises:
        ExportError: `function` has arguments or results that are not float64, or is called like
            a function of the C library.
    """
    for buffer in (*function.inputs, *function.outputs):
        if buffer.dtype != "float64":
            raise ExportError(
                f"c_abi: {buffer.name} of {function.name} has dtype {buffer.dtype}, but CasADi "
                "knows only double; export a function of float64 arrays"
            )
    if function.name in C_LIBRARY:
        raise ExportError(
            f"c_abi: {function.name} is a function of the C library, so it cannot be a symbol of "
            "the module; name the function otherwise"
        )
    arguments = _names(function)
    return BridgeView(
        symbol=f"anvil_{module}_{function.name}_evaluate",
        evaluate=f"{module}::{function.name}::evaluate",
        parameters=", ".join(
            (
                *(f"const double* in{i}" for i in range(len(function.inputs))),
                *(f"double* out{i}" for i in range(len(function.outputs))),
                "unsigned char* ws",
            )
        ),
        arguments=", ".join((*arguments, "ws")),
    )


def casadi_view(function: FunctionView, bridge: BridgeView) -> CasadiFunctionView:
    """`function` with its scratch memory laid out: a copy of each array, then the workspace."""
    inputs, end = _buffers(function.inputs, 0)
    outputs, end = _buffers(function.outputs, end, function.sparsity)
    has_workspace = function.workspace_nbytes > 0
    workspace = f"aligned(w + {end})" if has_workspace else "nullptr"
    # CasADi aligns scratch memory to a double; up to 7 more are needed to reach 64 bytes.
    size = end + (function.workspace_nbytes // 8 + 8 if has_workspace else 0)
    return CasadiFunctionView(
        name=function.name,
        bridge=bridge.symbol,
        bridge_parameters=bridge.parameters,
        inputs=inputs,
        outputs=outputs,
        arguments=", ".join((*_names(function), workspace)),
        scratch_size=size,
    )


def _names(function: FunctionView) -> tuple[str, ...]:
    return (
        *(f"in{i}" for i in range(len(function.inputs))),
        *(f"out{i}" for i in range(len(function.outputs))),
    )


def _buffers(
    buffers: Sequence[BufferView], start: int, sparsity: SparsityView | None = None
) -> tuple[tuple[CasadiBufferView, ...], int]:
    """The views of `buffers`, and where the scratch memory goes on after their copies.

    `sparsity` is that of the first buffer.
    """
    views = []
    for index, buffer in enumerate(buffers):
        size = math.prod(buffer.shape)
        rows, cols = buffer.shape if len(buffer.shape) == 2 else (size, 1)
        pattern = [str(rows), str(cols), "1"]
        if sparsity is not None and index == 0:
            pattern = _compressed_columns(sparsity)
        views.append(
            CasadiBufferView(
                index=index,
                name=buffer.name,
                rows=rows,
                cols=cols,
                size=size,
                is_transposed=rows > 1 and cols > 1,
                scratch=start,
                pattern=", ".join(pattern),
                pattern_size=len(pattern),
            )
        )
        start += size
    return tuple(views), start


def _compressed_columns(sparsity: SparsityView) -> list[str]:
    numbers = [str(sparsity.rows), str(sparsity.cols)]
    # A table of no values still has one element.
    for table in (sparsity.outer, sparsity.inner) if sparsity.nnz else (sparsity.outer,):
        numbers.extend(number for row in table.rows for number in row.split(", "))
    return numbers
