"""How a function looks in the files of a module: parameters, types, comments."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from operator import eq

from anvil_jax.emit.views import (
    BufferView,
    FunctionView,
    InterfaceView,
    LaunchView,
    ParameterView,
)

_SPARSE_NAMES = ("rows", "cols", "nnz", "innerIndices", "outerStarts")
_SIGNATURE_WIDTH = 80


def interface_view(function: FunctionView, taken: set[str]) -> InterfaceView:
    """A function as files show it; its parameters keep clear of the names in `taken`."""
    if function.sparsity is not None:
        taken = {*taken, *_SPARSE_NAMES}
    inputs = tuple(
        _parameter(buffer, f"IN{i}_t", "const ", taken) for i, buffer in enumerate(function.inputs)
    )
    outputs = tuple(
        _parameter(buffer, f"OUT{i}_t", "", taken) for i, buffer in enumerate(function.outputs)
    )
    parameters = (*inputs, *outputs)
    return InterfaceView(
        name=function.name,
        source=_one_line(function.source),
        inputs=inputs,
        outputs=outputs,
        signature=parameter_list(
            [*(f"const {p.type}& {p.name}" for p in parameters), "const WS_t& ws"]
        ),
        arguments=", ".join((*(f"{p.name}.data" for p in parameters), "ws.data")),
        code=function.code.strip("\n"),
        workspace_nbytes=function.workspace_nbytes,
        operations=function.operations,
        notes=tuple(_one_line(note) for note in function.notes),
        is_sparse=function.sparsity is not None,
        sparsity=function.sparsity,
    )


def parameter_list(parameters: Sequence[str]) -> str:
    """Parameters in one line if they fit, else one per line."""
    one_line = ", ".join(parameters)
    if len(one_line) <= _SIGNATURE_WIDTH:
        return one_line
    return "".join(f"\n    {p}," for p in parameters).removesuffix(",")


def _parameter(buffer: BufferView, type_name: str, const: str, taken: set[str]) -> ParameterView:
    return ParameterView(
        name=f"{buffer.name}_" if buffer.name in taken else buffer.name,
        type=type_name,
        buffer=", ".join((f"{const}{buffer.ctype}", *map(str, buffer.shape))),
        text=f"{buffer.name}: {buffer.dtype}" + (str(list(buffer.shape)) if buffer.shape else ""),
    )


def _one_line(text: str) -> str:
    # A backslash at the end would continue the comment into the next line.
    return " ".join(text.split()).rstrip("\\ ")


def argument_places(function: InterfaceView) -> dict[str, int]:
    """Positions in a call of the arrays that kernels name ``in0``, ``out0`` and ``ws``."""
    names = [f"in{k}" for k in range(len(function.inputs))]
    names += [f"out{k}" for k in range(len(function.outputs))]
    return {name: k for k, name in enumerate((*names, "ws"))}


def host_arrays(function: InterfaceView) -> tuple[str, ...]:
    """Initialisers of ``HostArray``: what is copied to the device, then what is copied back."""
    inputs = (f"{{{p.name}.data, nullptr, {p.type}::nbytes}}" for p in function.inputs)
    outputs = (f"{{nullptr, {p.name}.data, {p.type}::nbytes}}" for p in function.outputs)
    return (*inputs, *outputs)


def loop_lines(
    launches: Sequence[LaunchView], prefix: str = ""
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each launch the lines that open the host's loops in front of it and close them behind it.

    Args:
        launches: in order.
        prefix: of the counters' names.
    """
    # How many loops go on from one launch to the next.
    kept = [_common(a, b) for a, b in pairwise([(), *(x.loops for x in launches), ()])]
    lines = []
    for launch, before, behind in zip(launches, kept[:-1], kept[1:], strict=True):
        begins = tuple(
            f"for (int {prefix}{name} = 0; {prefix}{name} < {trips}; ++{prefix}{name}) {{"
            for name, trips in launch.repeats[before:]
        )
        lines.append((begins, ("}",) * (len(launch.loops) - behind)))
    return lines


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many leading elements are the same."""
    return sum(takewhile(bool, map(eq, a, b)))
