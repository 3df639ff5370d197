"""The C++ end of a call from Python: renders templates/jit/shim.cpp.j2.

The rendered text is appended to a generated module and makes it a complete source for
`NativeFunction`. It takes decided values only; the fixed part of the call is an ordinary header,
templates/jit/python_call.hpp.
"""

from dataclasses import dataclass
from functools import cache

import jinja2

from anvil_jax.emit.views import BufferView, FunctionView
from anvil_jax.jit.library import RELEASE_GIL_OPERATIONS, SHIM_ABI, ArraySpec, Signature

LARGEST_STATIC_WORKSPACE = 256 * 1024
"""Bytes up to which a workspace is a thread-local array; larger ones are allocated when needed."""


@dataclass(frozen=True, slots=True)
class _ShimBuffer:
    """One argument or result as the template prints it.

    Attributes:
        ctype: C++ element type.
        dtype: NumPy name of the element type.
        parameters: template parameters, element type and extents: ``double, 13, 4``.
        accepts_float: a float64 of rank 0, for which Python floats are taken too.
    """

    ctype: str
    dtype: str
    parameters: str
    accepts_float: bool


def signature_of(function: FunctionView) -> Signature:
    """The signature under which Python calls `function`."""
    return Signature(
        name=function.name,
        inputs=tuple(ArraySpec(b.name, b.dtype, b.shape) for b in function.inputs),
        outputs=tuple(ArraySpec(b.name, b.dtype, b.shape) for b in function.outputs),
        workspace_nbytes=function.workspace_nbytes,
        operations=function.operations,
    )


def render_shim(function: FunctionView, qualified_evaluate: str) -> str:
    """The Python interface of `function`, to be appended to the text that defines it.

    Args:
        function: what is called; only its name, buffers, workspace and operation count are read.
        qualified_evaluate: how global scope names its entry point, ``module::step::evaluate``.
    """
    inputs, outputs = function.inputs, function.outputs
    is_static = 0 < function.workspace_nbytes <= LARGEST_STATIC_WORKSPACE
    is_heap = function.workspace_nbytes > LARGEST_STATIC_WORKSPACE
    scratch = "scratch" if is_heap else "anvil_jit::workspace" if is_static else "nullptr"
    arity, results = len(inputs), [f"out{i}" for i in range(len(outputs))]
    return (
        _environment()
        .get_template("jit/shim.cpp.j2")
        .render(
            abi=SHIM_ABI,
            name=function.name,
            arity=arity,
            evaluate=qualified_evaluate,
            inputs=[_shim_buffer(b) for b in inputs],
            outputs=[_shim_buffer(b) for b in outputs],
            workspace_nbytes=function.workspace_nbytes,
            static_workspace=is_static,
            heap_workspace=is_heap,
            releases_gil=str(function.operations >= RELEASE_GIL_OPERATIONS).lower(),
            fast_arguments=[
                *(f"in{i}" for i in range(arity)),
                *(f"{result}.data()" for result in results),
                scratch,
            ],
            plain_arguments=[
                *(f"static_cast<const {b.ctype}*>(buffers[{i}])" for i, b in enumerate(inputs)),
                *(f"static_cast<{b.ctype}*>(buffers[{arity + i}])" for i, b in enumerate(outputs)),
                scratch,
            ],
            results=results,
        )
    )


def _shim_buffer(buffer: BufferView) -> _ShimBuffer:
    return _ShimBuffer(
        ctype=buffer.ctype,
        dtype=buffer.dtype,
        parameters=", ".join((buffer.ctype, *map(str, buffer.shape))),
        accepts_float=buffer.dtype == "float64" and buffer.shape == (),
    )


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("anvil_jax", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
