"""How a function for Metal looks in its module: arrays are pieces of buffers with an offset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anvil_jax.emit.interface import (
    argument_places,
    host_arrays,
    interface_view,
    loop_lines,
    parameter_list,
)
from anvil_jax.emit.views import DeviceFunctionView, DeviceInterfaceView, DeviceLaunchView

# Words of Objective-C, types and variables of the templates; parameters keep clear of them.
_TAKEN = frozenset({
    "BOOL", "Class", "DeviceBuffer", "IMP", "NO", "Nil", "SEL", "YES", "device", "encoder", "id",
    "nil", "queue", "self", "super", "ws",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetalInterfaceView(DeviceInterfaceView):
    """One function for Metal as the module's file shows it.

    `addresses` are initialisers of ``detail::Place``, `copies` are the places in the buffer that
    holds the copies of the host's arrays, and the arguments of a launch are numbers of places, then
    counters of loops.

    Attributes:
        encode_signature: parameter list of ``encode``.
        forwarded: the arrays as ``call_device`` hands them to ``encode``.
    """

    encode_signature: str = ""
    forwarded: str = ""


def metal_interface(
    function: DeviceFunctionView, taken: set[str], numbers: Mapping[str, int]
) -> MetalInterfaceView:
    """What the template prints.

    Args:
        function: for Metal.
        taken: names that parameters must not have.
        numbers: of the kernels in their module, by name.
    """
    common = interface_view(function, taken | _TAKEN)
    arrays = (*common.inputs, *common.outputs)
    place = argument_places(common)
    launches = tuple(
        DeviceLaunchView(
            numbers[launch.kernel],
            launch.groups,
            launch.threads,
            _arguments(launch.arguments, place),
            begins,
            ends,
        )
        for launch, (begins, ends) in zip(
            function.launches, loop_lines(function.launches, "anvil_"), strict=True
        )
    )
    parameters = [*(f"const DeviceBuffer& {p.name}" for p in arrays), "const WS_t& ws"]
    return MetalInterfaceView(
        **{name: getattr(common, name) for name in common.__dataclass_fields__},
        device_signature=parameter_list([*parameters, "id<MTLCommandQueue> queue"]),
        encode_signature=parameter_list([*parameters, "id<MTLComputeCommandEncoder> encoder"]),
        addresses=tuple(
            f'{{"{p.name}", {p.name}, {p.type}::nbytes, sizeof({p.type}::value_type)}}'
            for p in arrays
        ),
        host_arrays=host_arrays(common),
        copies="".join(f"anvil_p[{k}], " for k in range(len(arrays))),
        forwarded="".join(f"{p.name}, " for p in arrays),
        launches=launches,
    )


def _arguments(names: Sequence[str], place: Mapping[str, int]) -> str:
    """The places of arrays and the counters, as two initialisers."""
    places = ", ".join(str(place[name]) for name in names if name in place)
    counters = ", ".join(f"anvil_{name}" for name in names if name not in place)
    return f"{{{places}}}, {{{counters}}}"
