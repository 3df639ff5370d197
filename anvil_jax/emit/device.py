"""The text of all kernels of a module, as the device's compiler takes it."""

from collections.abc import Sequence

from anvil_jax.emit.cuda_text import collect_cuda_runtime, cuda_dialect
from anvil_jax.emit.environment import render_template
from anvil_jax.emit.views import DeviceFunctionView


def render_kernels(functions: Sequence[DeviceFunctionView]) -> str:
    """One self-contained source with the kernels of `functions`, which are for one device."""
    tables = {table.name: table for function in functions for table in function.tables}
    headers = {header for function in functions for header in function.runtime}
    code = render_template(
        "cuda/kernels.cu.j2", tables=tuple(tables.values()), functions=tuple(functions)
    )
    return f"{collect_cuda_runtime(headers)}\n{cuda_dialect(code)}"
