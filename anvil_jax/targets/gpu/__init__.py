"""Programs as kernels for graphics processors.

`partition` decides what the threads share out, `layout` where the data lie, `printer` writes the
text, in the dialect of one language (`dialects`).
"""

from anvil_jax.targets.gpu.printer import render

__all__ = ["render"]
