"""Who can solve quadratic programs on this machine; `python -m anvil_jax doctor` asks."""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from anvil_jax.opti.piqp_native import ROOT_VARIABLE, find_piqp


@dataclass(frozen=True, slots=True)
class Supplier:
    """One way to solve quadratic programs.

    Attributes:
        name: what it is called: the value of ``qp=``, or the name of a library.
        is_available: whether it can be used now.
        text: what it is for and where it was found, or how to add it.
    """

    name: str
    is_available: bool
    text: str


def suppliers() -> tuple[Supplier, ...]:
    """All suppliers of quadratic programs' solutions, those built in first.

    Raises:
        ToolchainError: ANVIL_JAX_PIQP_ROOT names a folder without PIQP's C interface.
    """
    return (
        Supplier("riccati", True, "built in, for multistage problems"),
        Supplier("dense", True, "built in, for dense problems"),
        piqp_package(),
        piqp_library(),
    )


def piqp_package() -> Supplier:
    """The piqp package, which solvers with ``qp="piqp"`` call back from Python."""
    try:
        package = importlib.import_module("piqp")
    except ImportError as error:
        return Supplier(
            "piqp", False, f"the package cannot be imported ({error}): pip install piqp"
        )
    version = getattr(package, "__version__", "of unknown version")
    return Supplier(
        "piqp",
        True,
        f"package {version}{_instructions(package.__file__)}, for calls from Python"
        " that do not link PIQP's C library",
    )


def piqp_library() -> Supplier:
    """PIQP's C library, which solvers with ``qp="piqp"`` are linked to.

    Raises:
        ToolchainError: ANVIL_JAX_PIQP_ROOT names a folder without PIQP's C interface.
    """
    found = find_piqp()
    if found is not None:
        return Supplier("PIQP's C library", True, f"{found.library} ({found.found_by})")
    return Supplier(
        "PIQP's C library",
        False,
        "not found, which exported modules with qp='piqp' need and which takes calls from "
        "Python, 30 us each, out of small problems: build PIQP with CMake and "
        f"Eigen 3, install it and name the folder in {ROOT_VARIABLE} (here) and piqp_ROOT (for "
        "CMake), or configure such a module with -D<MODULE>_FETCH_PIQP=ON",
    )


def _instructions(file: str | None) -> str:
    # The package imports one of piqp_python, piqp_python_avx2, ... in its own place.
    found = re.match(r"piqp_python_([a-z0-9]+)\.", Path(file or "").name)
    return f" with {found[1].upper()} instructions" if found else ""
