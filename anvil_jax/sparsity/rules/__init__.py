"""Rules of sparsity propagation, one module per family of primitives.

The families are those of `anvil_jax.lowering`. Start with `registry`, then `elementwise`.
"""

import importlib

FAMILIES = (
    "elementwise",
    "structural",
    "reductions",
    "cumulative",
    "contraction",
    "indexing",
    "control_flow",
    "calls",
    "linalg",
    "sorting",
    "random",
    "windows",
)


def load() -> None:
    """Registers every rule."""
    for family in FAMILIES:
        importlib.import_module(f"anvil_jax.sparsity.rules.{family}")
