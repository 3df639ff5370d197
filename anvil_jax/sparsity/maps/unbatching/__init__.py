"""Undoing vmap one operation at a time, one module per family of primitives.

Start with `registry`.
"""

import importlib

FAMILIES = ("structural", "contraction", "indexing", "nested", "custom")


def load() -> None:
    """Registers every rule."""
    for family in FAMILIES:
        importlib.import_module(f"anvil_jax.sparsity.maps.unbatching.{family}")
