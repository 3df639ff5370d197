"""From jaxprs to programs: one rule per primitive, one module per family of primitives.

Start reading at `interpreter.py` (what a rule can do), then `values.py` (what arrays are during
lowering) and any family: `elementwise`, `structural`, `reductions`, `cumulative`, `contraction`,
`indexing`, `control_flow`, `calls`, `linalg`, `sorting`, `random`, `windows`. `selection.py`
decides between scalar and tensor kernels.
"""

if __name__ != "anvil_jax.lowering":
    raise ImportError("import anvil_jax.lowering, not lowering: the folder is part of the package")

from typing import TYPE_CHECKING

from anvil_jax.lowering.families import load as _load_families
from anvil_jax.lowering.interpreter import lower_jaxpr as _lower_jaxpr
from anvil_jax.lowering.registry import register as register

if TYPE_CHECKING:
    from anvil_jax.kernels.program import Program
    from anvil_jax.lowering.selection import KernelChoice
    from anvil_jax.tracing import Traced


def lower(
    traced: "Traced", kernel: "KernelChoice" = "auto", *, has_threads: bool = False
) -> "Program":
    """The program of a traced function.

    Args:
        traced: result of `anvil_jax.tracing.trace`.
        kernel: ``auto``, or ``scalar`` / ``tensor`` to override the choice of kernels.
        has_threads: the program is for a graphics processor.

    Returns:
        Statements and expressions, before scheduling.

    Raises:
        LoweringError: an operation has no native form; the message names the user's line.
        ArgumentError: unknown `kernel`.
    """
    jaxpr = traced.jaxpr
    return _lower_jaxpr(jaxpr.jaxpr, jaxpr.consts, kernel, has_threads=has_threads)


_load_families()  # now, so that rules that users register later replace ours and not the reverse
