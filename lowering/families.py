"""The list of primitive families; importing one registers its rules."""

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
    "derivatives",
)


def load() -> None:
    """Registers every rule of anvil_jax."""
    for family in FAMILIES:
        importlib.import_module(f"anvil_jax.lowering.{family}")
