"""Generated modules for CUDA in programs: results, streams, graphs, failures of what they call.

The device is emulated; tests/gpu/plant.py says what is exported and what JAX computes.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import anvil_jax as av
from tests.gpu import plant
from tests.gpu.conftest import locked
from tests.support.cuda.emulator import Emulator
from tests.support.judge import difference
from tests.support.native import SANITIZERS, read_arrays

pytestmark = pytest.mark.compile

PROGRAMS = Path(__file__).parent / "programs"
# Counted, or made to fail, by tests/gpu/programs/counted.cpp.
WRAPPED = (
    "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2",
    "cuStreamSynchronize", "cuLaunchKernel", "nvrtcVersion", "nvrtcGetNumSupportedArchs",
    "nvrtcGetSupportedArchs", "nvrtcCreateProgram", "nvrtcCompileProgram", "nvrtcGetCUBINSize",
    "nvrtcGetCUBIN", "nvrtcGetPTXSize", "nvrtcGetPTX", "nvrtcGetProgramLogSize",
    "nvrtcGetProgramLog", "nvrtcDestroyProgram",
)  # fmt: skip

type Run = Callable[..., str]


@pytest.fixture(scope="session")
def folder(shared_folder: Path) -> Path:
    """Where plant.hpp is, and copy.hpp, which has one of its functions."""
    path = shared_folder / "plant"
    with locked(path):
        if not (path / "copy").exists():
            functions = plant.write(path)
            av.generate_module("copy", functions["product"], path=path / "copy")
    return path


@pytest.fixture(scope="session")
def scenario(emulator: Emulator, folder: Path) -> Run:
    """Runs a scenario under the sanitizers; gives what it prints."""
    wrapped = [f"-Wl,--wrap={name}" for name in WRAPPED]
    sources = [PROGRAMS / f"{name}.cpp" for name in ("scenarios", "second", "counted")]
    words = (f"-I{folder}", f"-I{folder / 'copy'}", *sources, "-O0", *SANITIZERS, *wrapped)
    program = folder / "scenarios"
    with locked(folder):
        if not program.exists():
            emulator.build(program, *words)
    return functools.partial(emulator.run, program)


# ---- results ----


def results_text() -> str:
    """A program that runs every function."""
    lines = ['#include "plant.hpp"', '#include "results.hpp"', "int main(int, char** argv) {"]
    lines += [
        '  in_file = std::fopen(argv[1], "rb");',
        '  out_file = std::fopen(argv[2], "wb");',
        "  enter_primary_context();",
    ]
    for function in plant.functions().values():
        types = [
            f"Types<{', '.join(f'f::{kind}{k}_t' for k in range(len(buffers)))}>{{}}"
            for kind, buffers in (("IN", function.view.inputs), ("OUT", function.view.outputs))
        ]
        lines += [
            f"  {{\n    namespace f = plant::{function.name};\n    const auto ws = f::init_ws();",
            f'    run("{function.name}", {", ".join(types)},',
            "        [&](const auto&... all) { return f::call(all..., ws); },",
            "        [&](CUstream stream, const auto&... all) {",
            "          return f::call_device(all..., ws, stream); });\n  }",
        ]
    return "\n".join([*lines, "  std::fclose(out_file);\n}\n"])


def test_functions_equal_jax(compiler: str, emulator: Emulator, folder: Path, tmp_path: Path):
    source = tmp_path / "results.cpp"
    source.write_text(results_text())
    includes = (f"-I{folder}", f"-I{PROGRAMS}")
    program = emulator.build(tmp_path / "results", source, *includes, compiler=compiler)
    functions = plant.functions()
    inputs = {name: plant.samples(function) for name, function in functions.items()}
    data = b"".join(array.tobytes() for arrays in inputs.values() for array in arrays)
    (tmp_path / "in").write_bytes(data)
    emulator.run(program, tmp_path / "in", tmp_path / "out", ANVIL_EMULATED_ORDER="shuffled")
    calls = ("call", "call again", "call_device", "call after that")
    written = [b for f in functions.values() for b in len(calls) * f.view.outputs]
    found = iter(read_arrays(written, (tmp_path / "out").read_bytes()))
    for name, arrays in inputs.items():
        wanted = plant.expected(functions[name], arrays)
        for how in calls:
            wrong = difference([next(found) for _ in wanted], wanted)
            assert wrong is None, f"{name}: {how}: {wrong}"


def test_self_test_finds_a_changed_number(emulator: Emulator, folder: Path, tmp_path: Path):
    source = folder / "plant_self_test.cpp"
    program = emulator.build(tmp_path / "self_test", source, "-O0", f"-I{folder}")
    assert emulator.run(program) == "plant: all results agree\n"
    printed = emulator.run(program, status=1, ANVIL_EMULATED_FAIL="cuLaunchKernel:2")
    assert "steps: cuLaunchKernel of steps_kernel_0: CUDA_ERROR" in printed
    assert printed.endswith("plant: FAILED\n")
    without = emulator.run(program, status=1, ANVIL_EMULATED_DEVICES="0")
    assert without.startswith("steps: cuInit: CUDA_ERROR_NO_DEVICE emulated CUDA_ERROR_NO_DEVICE\n")

    text = source.read_text()
    assert " 36.0" in text
    changed = tmp_path / "changed.cpp"
    changed.write_text(text.replace(" 36.0", " 37.0"))
    program = emulator.build(tmp_path / "changed", changed, "-O0", f"-I{folder}")
    printed = emulator.run(program, status=1)
    assert "nothing_in.out[6] is 36, JAX gives 37" in printed
    assert printed.endswith("plant: FAILED\n")


# ---- streams, graphs, workspaces, threads ----

NOTHING_LIVE = "live 0 0 0 0 0 0\n"
NOT_INITIALISED = "workspace: not initialised"


def test_call_device_returns_before_its_stream_is_done(scenario: Run):
    assert scenario("stream") == "call_device ok\nbefore 0\nafter 1\n" + NOTHING_LIVE


def test_graph_replays_with_other_inputs(scenario: Run):
    printed = scenario("graph")
    replayed = "replayed 1\n" * 3
    assert printed == f"captured ok\nended 0\ninstantiated 0\n{replayed}{NOTHING_LIVE}"


def test_workspaces_that_cannot_be_used_say_so(scenario: Run):
    def useless(what: str, why: str) -> list[str]:
        return [f"{what}: usable 0 stream 0", f" call {why}", f" call_device {why}"]

    other = "cuDeviceGet: CUDA_ERROR_INVALID_DEVICE emulated CUDA_ERROR_INVALID_DEVICE"
    assert scenario("stale").splitlines() == [
        *useless("default", NOT_INITIALISED),
        *useless("other device", other),
        *useless("moved from", NOT_INITIALISED),
        "moved to: usable 1 correct 1",
        *useless("assigned from", NOT_INITIALISED),
        "assigned to itself ok",
        *useless("freed", NOT_INITIALISED),
        "again ok",
        NOTHING_LIVE.strip(),
    ]


def test_two_threads_with_a_workspace_each(scenario: Run):
    assert scenario("threads") == "right 50 50\n" + NOTHING_LIVE


def test_nothing_is_taken_from_the_heap(scenario: Run):
    assert scenario("quiet") == (
        "call_device ok\ncall ok\nright 1 allocations 0\ncounted 1\n" + NOTHING_LIVE
    )


def test_two_translation_units_and_two_modules(scenario: Run):
    assert scenario("twice") == "elsewhere 1\nhere ok\n" + NOTHING_LIVE


# ---- failures ----

OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY emulated CUDA_ERROR_OUT_OF_MEMORY"

# Call of the driver that fails, stage of the first workspace that says so.
DRIVER_FAILURES = [
    ("cuInit", "init"),
    ("cuDeviceGet", "init"),
    ("cuDevicePrimaryCtxRetain", "init"),
    ("cuDeviceGetAttribute", "init"),
    ("cuDeviceGetAttribute:2", "init"),
    ("cuCtxPushCurrent", "init"),
    ("cuModuleLoadData", "init"),
    ("cuModuleGetFunction", "init"),
    ("cuModuleGetFunction:3", "init"),
    ("cuStreamCreate", "init"),
    ("cuMemAlloc", "init"),  # scratch memory
    ("cuMemAlloc:2", "call"),  # copies of the arguments
    ("cuMemcpyHtoDAsync", "call"),
    ("cuMemcpyHtoDAsync:2", "call"),
    ("cuLaunchKernel", "call"),
    ("cuLaunchKernel:2", "call"),
    ("cuMemcpyDtoHAsync", "call"),
    ("cuStreamSynchronize", "call"),
]

# Their failure has no consequence but, for some, that something stays alive.
UNCHECKED = {
    "cuCtxPopCurrent", "cuDevicePrimaryCtxRelease", "cuModuleUnload", "cuMemFree",
    "cuStreamDestroy", "cuGetErrorName", "cuGetErrorString",
}  # fmt: skip

COMPILER_FAILURES = [
    ("nvrtcVersion", {}),
    ("nvrtcCreateProgram", {}),
    ("nvrtcCompileProgram", {}),
    ("nvrtcGetCUBINSize", {}),
    ("nvrtcGetCUBIN", {}),
    ("nvrtcGetPTXSize", {"ANVIL_EMULATED_SM": "13.5"}),
    ("nvrtcGetPTX", {"ANVIL_EMULATED_SM": "13.5"}),
]

# Without them, sm_80 is assumed, the log is left out, the program stays.
COMPILER_UNCHECKED = {
    "nvrtcGetNumSupportedArchs", "nvrtcGetSupportedArchs", "nvrtcGetProgramLogSize",
    "nvrtcGetProgramLog", "nvrtcDestroyProgram", "nvrtcGetErrorString",
}  # fmt: skip

SECOND = ["second", " init ok", " call ok", " call ok", " result 1"]


def check_failure(printed: str, stage: str, name: str, why: str) -> None:
    """The stage fails with a text that names the call; what follows it works."""
    lines = printed.splitlines()
    assert lines[0] == "first"
    assert lines[-6:-1] == SECOND, printed
    assert lines[-1] == NOTHING_LIVE.strip(), printed
    first = lines[1:-6]
    if stage == "init":
        assert len(first) == 3
        assert len({line.split(" ", 2)[2] for line in first}) == 1  # init, and two calls
        assert first[0].startswith(f" init {name}")
        assert why in first[0]
    else:
        assert first[0] == " init ok"
        assert first[1].startswith(f" call {name}")
        assert why in first[1]
        assert first[2:] == [" call ok", " result 1"]


@pytest.mark.parametrize(("failure", "stage"), DRIVER_FAILURES)
def test_failures_of_the_driver(scenario: Run, failure: str, stage: str):
    count = failure if ":" in failure else f"{failure}:1"
    printed = scenario("failures", ANVIL_EMULATED_FAIL=count)
    check_failure(printed, stage, failure.partition(":")[0], OUT_OF_MEMORY)


@pytest.mark.parametrize("name", sorted(UNCHECKED))
def test_failures_of_what_releases_or_explains(scenario: Run, name: str):
    lines = scenario("failures", ANVIL_EMULATED_FAIL=f"{name}:1").splitlines()
    assert lines[0] == "first"
    assert lines[1:-1] == [*SECOND[1:], *SECOND]


@pytest.mark.parametrize(("name", "variables"), COMPILER_FAILURES)
def test_failures_of_the_compiler(scenario: Run, name: str, variables: dict[str, str]):
    printed = scenario("failures", ANVIL_TEST_FAIL_NVRTC=name, **variables)
    check_failure(printed, "init", name, "NVRTC_ERROR")


@pytest.mark.parametrize("name", sorted(COMPILER_UNCHECKED - {"nvrtcGetErrorString"}))
def test_failures_that_do_not_matter_to_the_compiler(scenario: Run, name: str):
    lines = scenario("failures", ANVIL_TEST_FAIL_NVRTC=name).splitlines()
    assert lines[1:-1] == [*SECOND[1:], *SECOND]


def test_every_call_is_made_to_fail(folder: Path):
    text = (folder / "plant.hpp").read_text()
    called = set(re.findall(r"\b((?:cu|nvrtc)[A-Z]\w+)\(", text))
    driver = {name.partition(":")[0] for name, _ in DRIVER_FAILURES} | UNCHECKED
    compiler = {name for name, _ in COMPILER_FAILURES} | COMPILER_UNCHECKED
    assert called == driver | compiler


def test_compiler_says_what_is_wrong(scenario: Run):
    printed = scenario("failures", ANVIL_EMULATED_CXX="no-such-compiler")
    assert printed.startswith("first\n init nvrtcCompileProgram: NVRTC_ERROR_COMPILATION\n")
    assert "no-such-compiler" in printed
    assert printed.endswith(NOTHING_LIVE)


def test_error_text_may_be_missing(scenario: Run):
    names = "cuInit:1:100,cuGetErrorName:1,cuGetErrorString:1"
    printed = scenario("failures", ANVIL_EMULATED_FAIL=names)
    assert printed.startswith("first\n init cuInit: unknown error \n")


def test_no_device(scenario: Run):
    printed = scenario("failures", ANVIL_EMULATED_DEVICES="0")
    assert printed.count("cuInit: CUDA_ERROR_NO_DEVICE") == 6
    assert printed.endswith(NOTHING_LIVE)


@pytest.mark.parametrize("architecture", ["7.5", "8.6", "9.0", "13.5"])
def test_other_architectures(scenario: Run, architecture: str):
    """NVRTC knows all but the last one, which gets text of the newest that it knows."""
    lines = scenario("failures", ANVIL_EMULATED_SM=architecture).splitlines()
    assert lines[1:-1] == [*SECOND[1:], *SECOND]


# ---- CMake ----

FIND_CUDA = """\
find_path(CUDA_H cuda.h PATHS {includes} REQUIRED)
find_path(NVRTC_H nvrtc.h PATHS {includes} REQUIRED)
set(CUDAToolkit_VERSION 12.9)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUDAToolkit
    REQUIRED_VARS CUDA_H NVRTC_H VERSION_VAR CUDAToolkit_VERSION)
foreach(name cuda_driver nvrtc)
    if(NOT TARGET CUDA::${{name}})
        add_library(CUDA::${{name}} INTERFACE IMPORTED)
        target_include_directories(CUDA::${{name}} SYSTEM INTERFACE ${{CUDA_H}} ${{NVRTC_H}})
    endif()
endforeach()
target_link_libraries(CUDA::cuda_driver INTERFACE {folder}/libcuda.so)
target_link_libraries(CUDA::nvrtc INTERFACE {folder}/libnvrtc.so)
"""
CONSUMER = Path(__file__).parents[1] / "consumers" / "cuda"


@pytest.fixture
def run_cmake(cmake: str, emulator: Emulator, tmp_path: Path) -> Run:
    """Runs cmake where CUDAToolkit is the emulator."""
    modules = tmp_path / "modules"
    modules.mkdir()
    includes = " ".join(map(str, emulator.toolkit.includes))
    text = FIND_CUDA.format(includes=includes, folder=emulator.folder)
    (modules / "FindCUDAToolkit.cmake").write_text(text)

    def call(*words: str | Path) -> str:
        configure = [f"-DCMAKE_MODULE_PATH={modules}"] if words[0] == "-S" else []
        return emulator.run(cmake, *words, *configure)

    return call


def test_installed_module_is_found(
    run_cmake: Run, emulator: Emulator, folder: Path, tmp_path: Path
):
    build, prefix, consumer = tmp_path / "build", tmp_path / "prefix", tmp_path / "consumer"
    module = folder / "copy"
    run_cmake("-S", module, "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}")
    run_cmake("--build", build)
    run_cmake("--install", build)
    found = sorted(p.relative_to(prefix).name for p in prefix.rglob("*") if p.is_file())
    assert found == ["copy.hpp", "copyConfig.cmake", "copyConfigVersion.cmake", "copyTargets.cmake"]
    run_cmake("-S", CONSUMER, "-B", consumer, f"-DCMAKE_PREFIX_PATH={prefix}")
    run_cmake("--build", consumer)
    assert emulator.run(consumer / "consumer") == "ok\n"


def test_consumer_adds_the_folder(run_cmake: Run, emulator: Emulator, folder: Path, tmp_path: Path):
    consumer = tmp_path / "consumer"
    run_cmake("-S", CONSUMER, "-B", consumer, f"-DCOPY_SOURCE_DIR={folder / 'copy'}")
    run_cmake("--build", consumer)
    assert emulator.run(consumer / "consumer") == "ok\n"


def test_cmake_builds_the_self_test(run_cmake: Run, cmake: str, emulator: Emulator, tmp_path: Path):
    module = tmp_path / "robot"
    av.export(plant.functions()["mixed"], path=module, module="robot", self_test=True)
    build = tmp_path / "build"
    run_cmake("-S", module, "-B", build, "-DROBOT_BUILD_SELF_TEST=ON")
    run_cmake("--build", build)
    ctest = Path(cmake).parent / "ctest"
    assert "100% tests passed" in emulator.run(ctest, "--test-dir", build)


# ---- names ----


@pytest.mark.parametrize("name", ["Status", "detail"])
def test_names_that_every_module_declares(name: str, tmp_path: Path):
    function = av.NumericalFunction(name, lambda x: x + 1.0, (av.Arg(2),), "CUDA")
    with pytest.raises(av.ArgumentError, match=f"the function name '{name}' is reserved in mod"):
        av.generate_module("m", function, path=tmp_path / "m")
    with pytest.raises(av.ArgumentError, match="is reserved"):
        function(np.zeros(2))
    other = av.NumericalFunction("other", lambda x: x + 1.0, (av.Arg(2),), "CUDA")
    constants = [av.CodegenIntConstant(name, 1)]
    with pytest.raises(av.ArgumentError, match=f"the constant name '{name}' is reserved"):
        av.generate_module("m", other, constants, path=tmp_path / "m")
    on_cpu = av.NumericalFunction(name, lambda x: x + 1.0, (av.Arg(2),))
    av.generate_module("m", on_cpu, path=tmp_path / "m")


def test_one_module_is_for_one_device(tmp_path: Path):
    functions = [plant.functions()["mixed"], av.NumericalFunction("f", lambda x: x, (av.Arg(2),))]
    with pytest.raises(av.ExportError, match="functions for CPU and CUDA"):
        av.generate_module("m", functions, path=tmp_path)
    with pytest.raises(av.ExportError, match="c_abi: mixed runs on a graphics processor"):
        av.export(functions[0], path=tmp_path, c_abi=True)
