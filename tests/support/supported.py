"""docs/supported.md, written from the registry: ``python -m tests.support.supported --write``."""

import argparse
from pathlib import Path

from anvil_jax.lowering import families
from anvil_jax.lowering.registry import RULES, Rule

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "supported.md"

# What differs from "scalar and tensor kernels", by family or primitive.
_KERNELS = {
    "linalg": "native call",
    "sort": "native call",
    "control_flow": "loop or branch; unrolled or selected when short",
    "calls": "inlined",
    "derivatives": "scalar, blocks in a loop, or coloured passes",
    "contraction": "scalar, or native blocked product",
}
_NOTES = {
    "scatter": "modes clip, fill, promise; `x.at[i].apply` too",
    "gather": "modes clip, fill, promise; batching dimensions",
    "qr": "without pivoting",
    "while": "also batched by `jax.vmap`",
    "random_bits": "threefry keys, bit for bit JAX's",
    "random_seed": "threefry keys",
    "convert_element_type": "float to integer saturates, NaN becomes 0",
    "sparse_derivative": "made by `spjacobian`, `sphessian` and their relatives",
    "sort": "any number of keys and passengers; stable",
    "argmax": "the first of equal ones; NaN counts as the largest",
    "argmin": "the first of equal ones; NaN counts as the smallest",
    "div": "integer division truncates and never traps",
    "dot_general": "any dimension numbers; sums in the result's dtype",
}

_HEAD = """\
# Supported primitives

<!-- Written by `python -m tests.support.supported --write`; a test compares it. -->

Every JAX primitive that anvil_jax turns into native code by a rule of its own. A primitive that is
not listed is lowered through its implementation if JAX can trace that; otherwise lowering fails
with an `UnsupportedPrimitiveError` that names the line in your file. Rules for your own primitives
are added with `anvil_jax.lowering.register`.
"""


def rules_by_family() -> dict[str, dict[str, Rule]]:
    """Rules by the name of their primitive, grouped by the module they are written in."""
    families.load()
    grouped: dict[str, dict[str, Rule]] = {family: {} for family in families.FAMILIES}
    for primitive, rule in RULES.items():
        name = primitive if isinstance(primitive, str) else primitive.name
        family = rule.__module__.rpartition(".")[2]
        if family in grouped:
            grouped[family][name] = rule
    return grouped


def render() -> str:
    """The text of the document."""
    parts = [_HEAD]
    for family, rules in rules_by_family().items():
        parts.append(f"## {family}\n")
        parts.append("| primitive | kernels | notes |\n|---|---|---|")
        rows = [
            f"| `{name}` | {_KERNELS.get(name, _KERNELS.get(family, 'scalar, tensor'))} "
            f"| {_NOTES.get(name, '')} |".replace("|  |", "| |")
            for name in sorted(rules)
        ]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Writes the document, or says whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="overwrite docs/supported.md")
    if parser.parse_args().write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(render(), encoding="utf-8", newline="")
    elif not DOCUMENT.is_file() or DOCUMENT.read_text(encoding="utf-8") != render():
        raise SystemExit("docs/supported.md is out of date: run with --write")


if __name__ == "__main__":
    main()
