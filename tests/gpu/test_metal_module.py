"""Generated modules for Metal, without a Mac: parsed as Objective-C++, and their kernels as Metal.

Nothing here runs: the frameworks are stubs (``tests/support/metal``).
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import anvil_jax as av
from anvil_jax import Arg
from anvil_jax.emit.views import DeviceFunctionView
from anvil_jax.errors import ArgumentError
from tests.gpu.plant import heat
from tests.support import metal_shim
from tests.support.command import run
from tests.support.emulated import kernels_text

pytestmark = pytest.mark.compile

_PIECE = re.compile(r'text \+= R"anvil\((.*?)\)anvil";', re.DOTALL)

_USE = """
#include "plant.hpp"
#include "second/second.hpp"

static bool host(const plant::steps::IN0_t& x, const plant::steps::IN1_t& u,
                 const plant::steps::OUT0_t& y) {
  auto ws = plant::steps::init_ws();
  if (!ws) return std::printf("%s", ws.status().text()) < 0;
  const plant::Status status = plant::steps::call(x, u, y, ws);
  ws.free();
  return static_cast<bool>(status);
}

static bool device(id<MTLDevice> device, id<MTLCommandQueue> queue, id<MTLBuffer> memory) {
  @autoreleasepool {
    plant::steps::WS_t steps = plant::steps::init_ws(device);
    plant::product::WS_t product = plant::product::init_ws(device);
    if (!steps || !product) return false;
    plant::Status status = plant::steps::call_device({memory, 0}, {memory, 8000}, {memory, 12000},
                                                     steps, queue);
    if (!status) return false;
    id<MTLCommandBuffer> commands = [product.queue() commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    status = plant::product::encode({memory, 0}, {memory, 16384}, {memory, 65536}, product,
                                    encoder);
    [encoder endEncoding];
    [commands commit];
    return static_cast<bool>(status);
  }
}

int main() {
  static_assert(plant::N == 40);
  static_assert(plant::slope::nnz == 8 && plant::slope::rows == 4);
  auto x = plant::steps::IN0_t::alloc();
  const bool done = second::product::init_ws() && host(plant::steps::IN0_t(x.data), {}, {}) &&
                    device(nil, nil, nil);
  return done ? 0 : 1;
}
"""


def step(x, u):
    return x + 0.01 * jnp.stack([x[1], 9.81 * jnp.sin(x[0]) + u])


def functions() -> list:
    single = "float32"
    plant = av.NumericalFunction("step", step, (Arg(2, single), Arg((), single)), "METAL")
    product = av.NumericalFunction(
        "product", lambda a, b: jnp.tanh(a @ b), (Arg((70, 33), single), Arg((33, 90), single)),
        "METAL",
    )  # fmt: skip
    loop = av.NumericalFunction(
        "loop", lambda x, n: jax.lax.fori_loop(0, n, lambda _, s: jnp.sin(s) + x, x),
        (Arg(40, single), Arg((), "int64")), "METAL",
    )  # fmt: skip
    pairs = av.NumericalFunction(
        "pairs", lambda x: x[::2] * x[1::2] ** 2, (Arg(8, single),), "METAL"
    )
    nothing = av.NumericalFunction(
        "nothing", lambda nil, id, queue: (), (Arg(3, single),) * 3, "METAL"
    )
    steps = av.vmap(plant, 1000, name="steps")
    rod = av.NumericalFunction("rod", heat, (Arg(600, single),), "METAL")
    return [steps, product, loop, av.spjacobian(pairs, name="slope"), nothing, rod]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metal")
    made = functions()
    constants = [av.CodegenIntConstant("N", 40)]
    av.generate_module("plant", made, constants, path=path, self_test=True)
    av.generate_module("second", made[1], path=path / "second")
    return path


def check(folder: Path, text: str, *flags: str) -> None:
    source = folder / "use.mm"
    source.write_text(text, encoding="utf-8")
    metal_shim.check_host(source, *flags)


@pytest.mark.parametrize("counting", ["-fobjc-arc", "-fno-objc-arc"])
@pytest.mark.parametrize("sdk", [140000, 150000])
def test_header_is_objective_cpp(folder: Path, counting: str, sdk: int):
    check(folder, _USE, counting, f"-D__MAC_OS_X_VERSION_MAX_ALLOWED={sdk}")


def test_self_test_is_objective_cpp(folder: Path):
    check(folder, (folder / "plant_self_test.cpp").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("{memory, 8000}, ", ""),
        ("steps, queue)", "steps, memory)"),
        ("{memory, 65536}, product,", "{memory, 65536}, steps,"),
        ("call(x, u, y, ws)", "call(u, x, y, ws)"),
    ],
)
def test_wrong_calls_are_refused(folder: Path, right: str, wrong: str):
    with pytest.raises(AssertionError, match="error: "):
        check(folder, _USE.replace(right, wrong))


def test_header_says_what_it_is(folder: Path):
    source = folder / "use.cpp"
    source.write_text('#include "plant.hpp"\n', encoding="utf-8")
    said = run(["clang++", "-std=c++17", "-fsyntax-only", source], status=1).stderr
    assert "plant.hpp is Objective-C++: include it in a file that ends in .mm" in said


def test_header_holds_the_kernels(folder: Path):
    text = kernels_text(f.view for f in functions())
    header = (folder / "plant.hpp").read_text(encoding="utf-8")
    assert "".join(_PIECE.findall(header)) == text
    metal_shim.check(text, folder)
    listed = re.search(r"kernel_names\[\] = \{(.*?)\};", header, re.DOTALL)
    assert listed is not None
    names = re.findall(r'"(\w+)"', listed[1])
    assert names == re.findall(r"kernel void (\w+)\(", text)


def test_launches_number_kernels_and_places(folder: Path):
    header = (folder / "plant.hpp").read_text(encoding="utf-8")
    for f in functions():
        view = f.view
        assert isinstance(view, DeviceFunctionView)
        start = header.index(f"namespace {f.name} {{")
        body = header[start : header.index(f"}}  // namespace {f.name}", start)]
        found = re.findall(
            r"launch\((\d+), (\d+), (\d+), anvil_places, \{(.*?)\}, \{(.*?)\}, encoder\);", body
        )
        assert len(found) == len(view.launches)
        names = [f"in{k}" for k in range(len(view.inputs))]
        names += [*(f"out{k}" for k in range(len(view.outputs))), "ws"]
        for (_, groups, threads, places, counts), launch in zip(found, view.launches, strict=True):
            assert (int(groups), int(threads)) == (launch.groups, launch.threads)
            arrays = [names[int(k)] for k in places.split(", ") if k]
            counters = [name.removeprefix("anvil_") for name in counts.split(", ") if name]
            assert (*arrays, *counters) == launch.arguments


def test_names_of_the_language_are_left_alone(folder: Path):
    header = (folder / "plant.hpp").read_text(encoding="utf-8")
    assert "const IN0_t& nil_, const IN1_t& id_, const IN2_t& queue_" in header


def test_cmake_says_that_metal_is_needed(cmake: str, folder: Path, tmp_path: Path):
    command = [cmake, "-S", folder, "-B", tmp_path / "build"]
    said = run(command, status=1).stderr
    assert "plant needs Metal, which only Apple's systems have" in said
    command += ["-DAPPLE=TRUE", "-DPLANT_BUILD_SELF_TEST=ON"]
    run([*command, "-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_OBJCXX_COMPILER=clang++"])


def test_reserved_name_is_refused():
    f = av.NumericalFunction("DeviceBuffer", lambda x: x, (Arg(2, "float32"),), "METAL")
    with pytest.raises(ArgumentError, match="DeviceBuffer"):
        _ = f.header
