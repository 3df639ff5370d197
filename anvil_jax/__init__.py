"""Lower JAX functions to standalone C++: for calls from Python, and for programs without Python.

    import anvil_jax as av

    @av.numerical_function("f", 3)
    def f(x):
        return jnp.sin(x) * 2.0

    f(np.zeros(3))                       # compiled at the first call
    av.export(model, params, x, path="cpp/model")

Names are imported when they are first used, so that parts that need no JAX (`anvil_jax.jit`, an
unpickled function) never load it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anvil_jax.ad import gradient as gradient
    from anvil_jax.ad import hessian as hessian
    from anvil_jax.ad import jacobian as jacobian
    from anvil_jax.ad import jvp as jvp
    from anvil_jax.ad import lagrangian_hessian as lagrangian_hessian
    from anvil_jax.ad import sphessian as sphessian
    from anvil_jax.ad import spjacobian as spjacobian
    from anvil_jax.ad import vjp as vjp
    from anvil_jax.arguments import Arg as Arg
    from anvil_jax.constants import CodegenIntConstant as CodegenIntConstant
    from anvil_jax.decorator import numerical_function as numerical_function
    from anvil_jax.errors import AnvilError as AnvilError
    from anvil_jax.errors import ArgumentError as ArgumentError
    from anvil_jax.errors import DeviceError as DeviceError
    from anvil_jax.errors import DtypeError as DtypeError
    from anvil_jax.errors import ExportError as ExportError
    from anvil_jax.errors import LoweringError as LoweringError
    from anvil_jax.errors import SolverError as SolverError
    from anvil_jax.errors import SparsityError as SparsityError
    from anvil_jax.errors import ToolchainError as ToolchainError
    from anvil_jax.errors import TracingError as TracingError
    from anvil_jax.errors import UnsupportedPrimitiveError as UnsupportedPrimitiveError
    from anvil_jax.exporting import Exported as Exported
    from anvil_jax.exporting import export as export
    from anvil_jax.exporting import generate_module as generate_module
    from anvil_jax.function import NumericalFunction as NumericalFunction
    from anvil_jax.jit.cuda_function import DeviceArray as DeviceArray
    from anvil_jax.sparse_function import SparseNumericalFunction as SparseNumericalFunction
    from anvil_jax.sparse_function import sparse_numerical_function as sparse_numerical_function
    from anvil_jax.transforms import DynamicBatch as DynamicBatch
    from anvil_jax.transforms import dvmap as dvmap
    from anvil_jax.transforms import svmap as svmap
    from anvil_jax.transforms import vmap as vmap

__version__: str

_HOMES = {
    "constants": ("CodegenIntConstant",),
    "errors": (
        "AnvilError",
        "ArgumentError",
        "DeviceError",
        "DtypeError",
        "ExportError",
        "LoweringError",
        "SolverError",
        "SparsityError",
        "ToolchainError",
        "TracingError",
        "UnsupportedPrimitiveError",
    ),
    "exporting": ("Exported", "export", "generate_module"),
    "arguments": ("Arg",),
    "jit.cuda_function": ("DeviceArray",),
    "decorator": ("numerical_function",),
    "function": ("NumericalFunction",),
    "sparse_function": ("SparseNumericalFunction", "sparse_numerical_function"),
    "ad": (
        "gradient",
        "hessian",
        "jacobian",
        "jvp",
        "lagrangian_hessian",
        "sphessian",
        "spjacobian",
        "vjp",
    ),
    "transforms": ("DynamicBatch", "dvmap", "svmap", "vmap"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AnvilError",
    "Arg",
    "ArgumentError",
    "CodegenIntConstant",
    "DeviceArray",
    "DeviceError",
    "DtypeError",
    "DynamicBatch",
    "ExportError",
    "Exported",
    "LoweringError",
    "NumericalFunction",
    "SolverError",
    "SparseNumericalFunction",
    "SparsityError",
    "ToolchainError",
    "TracingError",
    "UnsupportedPrimitiveError",
    "dvmap",
    "export",
    "generate_module",
    "gradient",
    "hessian",
    "jacobian",
    "jvp",
    "lagrangian_hessian",
    "numerical_function",
    "sparse_numerical_function",
    "sphessian",
    "spjacobian",
    "svmap",
    "vjp",
    "vmap",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        return _version()
    if name == "lowering":
        return importlib.import_module("anvil_jax.lowering")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'anvil_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"anvil_jax.{home}"), name)
    globals()[name] = value
    return value


def _version() -> str:
    """Of the installed package; a checkout that is merely on the path has none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("anvil_jax")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *__all__})
