"""Modules for graphics processors: one header with the kernels as text and what launches them.

`render_kernels` gives what the device's compiler takes. `device_module_view` decides what a module
of functions for one device says, `render_device_header` and `render_device_cmake` print its files.
"""

from collections.abc import Iterable, Mapping, Sequence

from anvil_jax.emit.cuda_text import collect_cuda_runtime, cuda_dialect
from anvil_jax.emit.environment import render_template
from anvil_jax.emit.interface import (
    argument_places,
    host_arrays,
    interface_view,
    loop_lines,
    parameter_list,
)
from anvil_jax.emit.metal_module import metal_interface
from anvil_jax.emit.metal_text import collect_metal_runtime, metal_dialect
from anvil_jax.emit.views import (
    ConstantView,
    DeviceFunctionView,
    DeviceInterfaceView,
    DeviceLaunchView,
    DeviceModuleView,
    ImageView,
)
from anvil_jax.errors import ArgumentError

_PIECE = 15_000
"""Characters of one string literal; Microsoft's compiler takes 16,380."""

_TAKEN = ("stream", "ws", "Status", "CUstream", "CUdeviceptr")
# What the templates declare beside the functions.
_DECLARED = (
    "Status", "detail", "DeviceBuffer",
    "BOOL", "Class", "IMP", "NO", "Nil", "SEL", "YES", "id", "nil",  # Objective-C's
)  # fmt: skip

_KERNEL_TEXT = {
    "CUDA": ("cuda/kernels.cu.j2", collect_cuda_runtime, cuda_dialect),
    "METAL": ("metal/kernels.metal.j2", collect_metal_runtime, metal_dialect),
}


def render_kernels(functions: Sequence[DeviceFunctionView]) -> str:
    """One self-contained source with the kernels of `functions`, which are for one device."""
    tables = {table.name: table for function in functions for table in function.tables}
    headers = {header for function in functions for header in function.runtime}
    template, collect_runtime, dialect = _KERNEL_TEXT[functions[0].device]
    code = render_template(template, tables=tuple(tables.values()), functions=tuple(functions))
    return f"{collect_runtime(headers)}\n{dialect(code)}"


def render_device_header(view: DeviceModuleView) -> str:
    """The one file of C++ that a module is."""
    return render_template(f"{view.room}/module.hpp.j2", module=view)


def render_device_cmake(view: DeviceModuleView) -> str:
    """``CMakeLists.txt``."""
    return render_template(f"{view.room}/CMakeLists.txt.j2", module=view)


def device_module_view(
    name: str,
    generator: str,
    functions: Sequence[DeviceFunctionView],
    constants: Sequence[ConstantView] = (),
    images: Mapping[int, str] | None = None,
    *,
    has_self_test: bool = False,
) -> DeviceModuleView:
    """What the templates print.

    Args:
        name: C++ identifier, the namespace.
        generator: first line of every file.
        functions: for one device, in the order in which they shall appear.
        constants: dependencies first.
        images: PTX by architecture, 80 for sm_80.
        has_self_test: whether a program that tests the module belongs to it.

    Raises:
        ArgumentError: a function has a name that every module declares.
    """
    numbers: dict[str, int] = {}
    for function in functions:
        check_device_name(function.name, "function")
        for launch in function.launches:
            numbers.setdefault(launch.kernel, len(numbers))
    taken = {constant.name for constant in constants} | set(_TAKEN)
    return DeviceModuleView(
        name=name,
        room=functions[0].device.lower(),
        generator=generator,
        functions=tuple(_interface(function, taken, numbers) for function in functions),
        constants=tuple(constants),
        has_floor_div=any(constant.uses_floor_div for constant in constants),
        cmake_option=name.upper(),
        has_self_test=has_self_test,
        pieces=tuple(_pieces(render_kernels(functions))),
        kernels=tuple(numbers),
        images=tuple(
            ImageView(architecture, tuple(_pieces(text)))
            for architecture, text in sorted((images or {}).items(), reverse=True)
        ),
    )


def check_device_name(name: str, kind: str) -> None:
    """Refuse a name that modules for a device, or Objective-C, declare themselves."""
    if name in _DECLARED:
        raise ArgumentError(
            f"the {kind} name {name!r} is reserved in modules for graphics processors; use for "
            f"example {name + '_'!r}"
        )


def _interface(
    function: DeviceFunctionView, taken: set[str], numbers: Mapping[str, int]
) -> DeviceInterfaceView:
    if function.device == "METAL":
        return metal_interface(function, taken, numbers)
    common = interface_view(function, taken)
    arrays = (*common.inputs, *common.outputs)
    place = argument_places(common)
    launches = tuple(
        DeviceLaunchView(
            numbers[launch.kernel],
            launch.groups,
            launch.threads,
            ", ".join(_address(name, place) for name in launch.arguments) or "nullptr",
            begins,
            ends,
        )
        for launch, (begins, ends) in zip(
            function.launches, loop_lines(function.launches, "anvil_"), strict=True
        )
    )
    return DeviceInterfaceView(
        **{name: getattr(common, name) for name in common.__dataclass_fields__},
        device_signature=parameter_list(
            [*(f"const {p.type}& {p.name}" for p in arrays), "const WS_t& ws", "CUstream stream"]
        ),
        addresses=tuple(f"reinterpret_cast<CUdeviceptr>({p.name}.data)" for p in arrays),
        host_arrays=host_arrays(common),
        copies=", ".join(
            f"{p.type}(reinterpret_cast<{p.type}::value_type*>(anvil_p[{k}]))"
            for k, p in enumerate(arrays)
        ),
        launches=launches,
    )


def _address(name: str, place: Mapping[str, int]) -> str:
    return f"&anvil_p[{place[name]}]" if name in place else f"&anvil_{name}"


def _pieces(text: str) -> Iterable[str]:
    piece: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        if piece and size + len(line) > _PIECE:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield "".join(piece)
