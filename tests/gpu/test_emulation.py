"""The emulation of CUDA on the CPU that other tests rely on: what it computes and what it refuses.

One host program (`tests/support/cuda/example.cpp`) and one text of kernels serve all cases.
"""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cuda.emulator import Emulator
from tests.support.native import SANITIZERS

pytestmark = pytest.mark.compile

SUPPORT = Path(__file__).resolve().parent.parent / "support" / "cuda"
PROGRAM = SUPPORT / "example.cpp"
KERNELS = SUPPORT / "example.cu"

type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a case of the host program."""
    program = emulator.build(tmp_path_factory.mktemp("emulation") / "example", PROGRAM)

    def call(case: str, *words: str, kernels: Path = KERNELS, **environment: str):
        variables = {f"ANVIL_EMULATED_{name}": value for name, value in environment.items()}
        return subprocess.run(
            [str(program), case, str(kernels), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=emulator.environment(**variables),
        )

    return call


def codes(output: str) -> list[tuple[str, str]]:
    """The pairs of result and called function that a case prints."""
    lines = [line.partition(" ") for line in output.splitlines() if line.startswith("CUDA_")]
    return [(code.removeprefix("CUDA_ERROR_"), call.split("(")[0]) for code, _, call in lines]


# Sum of 0, 0.5, 1, ... over the 500 elements.
TOTAL = 0.5 * 499 * 500 / 2

RIGHT = [
    ("scale", "500", 2 * TOTAL),
    ("block_sum", "8", TOTAL),
    ("warp_sum", "8", TOTAL),  # with shared memory given by the launch
]


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@pytest.mark.parametrize(("kernel", "count", "expected"), RIGHT)
def test_right_kernels_compute_the_same_in_every_order(
    run: Run, kernel: str, count: str, expected: float, order: str
) -> None:
    shared = ("shared",) if kernel == "warp_sum" else ()
    done = run("launch", kernel, count, *shared, ORDER=order)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == expected


def test_missing_barrier_shows_as_a_result_that_depends_on_the_order(run: Run) -> None:
    results = {
        run("launch", "missing_barrier", "500", ORDER=order).stdout
        for order in ("forward", "reverse", "shuffled")
    }
    assert len(results) == 3


def test_shared_memory_of_another_block_is_not_read(run: Run) -> None:
    assert run("launch", "stale_shared", "64").stdout == "64\n"
    assert "nan" in run("launch", "stale_shared", "65").stdout


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@pytest.mark.parametrize("kernel", ["divergent", "divergent_late"])
def test_divergent_barrier_aborts_and_names_the_kernel(run: Run, kernel: str, order: str) -> None:
    done = run("launch", kernel, "8", ORDER=order)
    assert done.returncode == -signal.SIGABRT
    assert f"divergent barrier in kernel '{kernel}', block (" in done.stderr


def test_refusals_of_calls(run: Run) -> None:
    done = run("refusals")
    assert done.returncode == 0, done.stdout
    assert codes(done.stdout) == [
        ("NOT_INITIALIZED", "cuMemAlloc"),
        ("INVALID_CONTEXT", "cuMemAlloc"),
        ("INVALID_VALUE", "cuMemAlloc"),  # no bytes
        ("INVALID_VALUE", "cuMemcpyHtoD"),  # to a host pointer
        ("CUDA_SUCCESS", "cuMemcpyHtoD"),
        ("NOT_FOUND", "cuModuleGetFunction"),
        ("INVALID_IMAGE", "cuModuleLoadData"),
        *[("INVALID_VALUE", "cuLaunchKernel")] * 7,  # shapes, shared memory, no parameters
        ("LAUNCH_OUT_OF_RESOURCES", "cuLaunchKernel"),  # more threads than the kernel's bound
        ("CUDA_SUCCESS", "cuCtxSynchronize"),
        ("CUDA_SUCCESS", "cuMemFree"),
        ("INVALID_VALUE", "cuMemFree"),  # twice
        ("CUDA_SUCCESS", "cuMemFree"),  # null
    ]


def test_refusals_beyond_those_of_a_driver(run: Run) -> None:
    done = run("strict")
    assert codes(done.stdout) == [
        ("INVALID_VALUE", "cuMemcpyHtoD"),  # from a device pointer
        ("INVALID_VALUE", "cuMemcpyHtoD"),  # over the end of the allocation
        ("INVALID_VALUE", "cuMemcpyDtoH"),
        ("INVALID_VALUE", "cuMemFree"),  # inside of an allocation
        ("INVALID_HANDLE", "cuStreamSynchronize"),
        ("CUDA_SUCCESS", "cuLaunchKernel"),  # with a host pointer, which shows later ...
        ("ILLEGAL_ADDRESS", "cuCtxSynchronize"),
        ("ILLEGAL_ADDRESS", "cuMemFree"),  # ... and stays
    ]
    assert "kernel 'scale': parameter 0 (counted from 0) is" in done.stderr


def test_work_on_a_stream_is_done_when_it_is_waited_for(run: Run) -> None:
    assert run("stream").stdout == "before 0\nafter 10\n"
    assert run("stream", EAGER="1").stdout == "before 10\nafter 10\n"


def test_graphs_replay_what_was_captured(run: Run) -> None:
    done = run("graph")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[:3] == [
        "captured only 0",
        f"first {3 * TOTAL:g}",
        f"second {3 * 500:g}",
    ]
    assert codes(done.stdout) == [
        ("STREAM_CAPTURE_UNSUPPORTED", "cuStreamSynchronize"),
        ("STREAM_CAPTURE_INVALIDATED", "cuStreamEndCapture"),
        ("STREAM_CAPTURE_UNSUPPORTED", "cuMemAlloc"),
        ("STREAM_CAPTURE_INVALIDATED", "v.launch"),
        ("STREAM_CAPTURE_INVALIDATED", "cuStreamEndCapture"),
        ("STREAM_CAPTURE_UNSUPPORTED", "cuMemcpyDtoH"),
        ("STREAM_CAPTURE_INVALIDATED", "cuStreamEndCapture"),
        ("STREAM_CAPTURE_UNSUPPORTED", "cuCtxSynchronize"),
        ("STREAM_CAPTURE_INVALIDATED", "cuStreamEndCapture"),
        # A relaxed capture allows these.
        ("CUDA_SUCCESS", "cuMemAlloc"),
        ("CUDA_SUCCESS", "cuMemcpyDtoH"),
        ("CUDA_SUCCESS", "cuMemFree"),
        ("ILLEGAL_STATE", "cuStreamBeginCapture"),
        ("CUDA_SUCCESS", "cuStreamEndCapture"),
        ("ILLEGAL_STATE", "cuStreamEndCapture"),
        ("STREAM_CAPTURE_UNSUPPORTED", "cuStreamBeginCapture"),
        # The default stream waits for the stream that captures.
        ("STREAM_CAPTURE_IMPLICIT", "v.launch"),
        ("STREAM_CAPTURE_INVALIDATED", "cuStreamEndCapture"),
        ("STREAM_CAPTURE_IMPLICIT", "cuMemcpyDtoH"),
        ("STREAM_CAPTURE_INVALIDATED", "cuStreamEndCapture"),
    ]


def test_variables_of_a_module(run: Run) -> None:
    lines = run("global").stdout.splitlines()
    assert lines[:2] == ["table 32", "counter 8"]
    assert lines[2].startswith("CUDA_ERROR_NOT_FOUND")
    assert float(lines[3]) == 500 * 4


FAILURES = [
    ("cuMemAlloc:2", "cuMemAlloc(&y, kCount * sizeof(double)): CUDA_ERROR_OUT_OF_MEMORY"),
    ("cuLaunchKernel", "v.launch(get(module, kernel), nullptr, shared): CUDA_ERROR_OUT_OF_MEMORY"),
    ("cuInit:1:100", "cuInit(0): CUDA_ERROR_NO_DEVICE"),
    ("cuMemFree:9,cuMemFree:1:719", "cuMemFree(x): CUDA_ERROR_LAUNCH_FAILED"),
]


@pytest.mark.parametrize(("failure", "message"), FAILURES)
def test_injected_failures(run: Run, failure: str, message: str) -> None:
    done = run("launch", "scale", "500", FAIL=failure)
    assert done.returncode == 3
    assert f"failed: {message}\n" in done.stdout


def test_no_device(run: Run) -> None:
    done = run("launch", "scale", "500", DEVICES="0")
    assert done.stdout == "failed: cuInit(0): CUDA_ERROR_NO_DEVICE\n"


def test_counters_show_leaks(run: Run) -> None:
    assert run("leaks").stdout == "1 1 1 calls 1\n1 0 0 calls 1\n"


# Text, options of NVRTC, result, and what is in the log.
COMPILATIONS = [
    ("", ["--gpu-architecture=sm_80"], "NVRTC_SUCCESS\ncubin 1 ptx 1\nload CUDA_SUCCESS"),
    ("", ["-arch=sm_90"], "load CUDA_ERROR_NO_BINARY_FOR_GPU"),
    ("", ["-arch=compute_80", "-lineinfo"], "NVRTC_SUCCESS\ncubin 0 ptx 1"),
    ("", ["-arch=sm_81"], "NVRTC_ERROR_INVALID_OPTION\ncubin 0 ptx 0\nnvrtc: error: invalid"),
    ("", ["--default-device"], "unrecognized option --default-device found"),
    ("", ["-O3"], "unrecognized option -O3 found"),
    ("__global__ void f() { g(); }", [], "NVRTC_ERROR_COMPILATION"),
    ("__global__ void f() { g(); }", [], "kernels.cu:1:23: error: 'g' was not declared"),
    ("#include <math.h>", [], "math.h: No such file"),
    ("uint64_t x;", [], "uint64_t_is_unknown_to_nvrtc"),
    ("__device__ double f() { return INFINITY; }", [], "'INFINITY' was not declared"),
    ("__device__ double f(double x) { return std::sin(x); }", [], "NVRTC_ERROR_COMPILATION"),
    ("__device__ void f() { threadIdx.x = 1; }", [], "read-only"),
    ("__device__ void f() { __shared__ double x[7000]; }", [], "uses too much shared data"),
    ("void f(double x) { rsqrt(sincospi); }", [], "NVRTC_ERROR_COMPILATION"),
    ("#if N != 3\n#error no\n#endif", ["-DN=3"], "NVRTC_SUCCESS"),
]


@pytest.mark.parametrize(("text", "options", "expected"), COMPILATIONS)
def test_compilations(
    run: Run, tmp_path: Path, text: str, options: list[str], expected: str
) -> None:
    path = tmp_path / "kernels.cu"
    path.write_text(text)
    done = run("compile", *options, kernels=path)
    output = done.stdout.replace("\u2018", "'").replace("\u2019", "'")
    assert expected in output


def test_address_sanitizer_sees_an_access_outside_of_an_allocation(
    emulator: Emulator, tmp_path: Path
) -> None:
    program = emulator.build(tmp_path / "example", PROGRAM, *SANITIZERS)
    environment = emulator.environment(
        ANVIL_EMULATED_CXX=" ".join(["g++", "-O1", *SANITIZERS]), ASAN_OPTIONS="detect_leaks=1"
    )

    def call(kernel: str, count: str) -> subprocess.CompletedProcess[str]:
        command = [str(program), "launch", str(KERNELS), kernel, count]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    done = call("block_sum", "8")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == TOTAL
    assert "heap-buffer-overflow" in call("beyond", "8").stderr
