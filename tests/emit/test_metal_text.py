"""Metal text parses with address spaces as types, and the judge of it is strict.

There is no Metal compiler here: ``tests/support/metal`` stands for Apple's headers.
"""

import subprocess
from pathlib import Path

import pytest

from anvil_jax.emit.environment import environment
from anvil_jax.emit.metal_text import collect_metal_runtime, metal_dialect
from anvil_jax.errors import ExportError
from tests.support import metal_shim

pytestmark = pytest.mark.compile

PORTABLE = [
    "cholesky.hpp", "convert.hpp", "eigen.hpp", "elementary.hpp", "exchange.hpp", "extrema.hpp",
    "integer.hpp", "lu.hpp", "qr.hpp", "row_product.hpp", "sorting.hpp", "triangular.hpp",
]  # fmt: skip
SHADOWS = [
    name.removeprefix("metal/runtime/")
    for name in environment().list_templates(["hpp"])
    if name.startswith("metal/runtime/")
]
HEADERS = sorted([*PORTABLE, *SHADOWS])


@pytest.mark.parametrize("header", HEADERS)
def test_every_header_stands_alone(header: str, tmp_path: Path):
    text = collect_metal_runtime([header])
    assert text.count("#include") == 1
    metal_shim.check(text, tmp_path)
    command = [*metal_shim.CHECK, "-std=c++17", str(tmp_path / "checked.metal")]
    assert subprocess.run(command, check=False).returncode == 0


def test_all_headers_together(tmp_path: Path):
    metal_shim.check(collect_metal_runtime(HEADERS), tmp_path)


def test_a_header_is_shadowed_or_portable():
    assert not set(PORTABLE) & set(SHADOWS)
    general = set(environment().list_templates(["hpp"]))
    assert all(f"runtime/{name}" in general for name in HEADERS)


def test_headers_without_a_form_for_metal_are_named():
    with pytest.raises(ExportError, match=r"sqp\.hpp has no form for Metal"):
        collect_metal_runtime(["sqp.hpp"])


@pytest.mark.parametrize(
    ("general", "metal"),
    [
        ("std::int32_t x = ::std::sqrt(y);", "anvil_std::int32_t x = anvil_std::sqrt(y);"),
        ("void f(device float* __restrict__ x) noexcept {", "void f(device float* x) {"),
        ("unsigned long long n;", "unsigned long n;"),
        ("__builtin_clzll(x)", "anvil_std::clzll(x)"),
        ("anvil_std::exp(x) + my_std::y", "anvil_std::exp(x) + my_std::y"),
    ],
)
def test_dialect(general: str, metal: str):
    assert metal_dialect(general) == metal


_GOOD = """
#include <metal_stdlib>
constant float table[2] = {1.0f, 2.0f};
template <class X> inline float first(X x) { return x[0]; }
kernel void good(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                 constant int& count [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  ANVIL_THREADGROUP float shared[4];
  float local[2] = {x[i] * 2.0f, table[1]};
  thread float* p = local;
  if (static_cast<int>(i) < count) y[i] = first(p) + first(x) + first(local);
  shared[i % 4] = y[i];
  @
}
"""


@pytest.mark.parametrize(
    "statement",
    [
        "thread float* q = y;",
        "threadgroup float* q = local; (void)q;",
        "device float* q = shared;",
        "table[0] = 1.0f;",
        "double d = 1.0;",
        "y[i] = std::sqrt(1.0f);",
        "float* q = local; (void)q;",
        "const auto f = [=](int j) { return j; };",
        "long long n = 1; (void)n;",
        "try { y[i] = 1.0f; } catch (...) {}",
    ],
)
def test_the_shim_refuses(statement: str, tmp_path: Path):
    metal_shim.check(_GOOD.replace("@", ""), tmp_path)
    with pytest.raises(AssertionError):
        metal_shim.check(_GOOD.replace("@", statement), tmp_path)


_HOST = """
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

int run(const char* text, void* in, unsigned long count);
int run(const char* text, void* in, unsigned long count) {
  @autoreleasepool {
    id<MTLDevice> device = MTLCreateSystemDefaultDevice();
    if (device == nil) return 1;
    MTLCompileOptions* options = [[MTLCompileOptions alloc] init];
    options.fastMathEnabled = NO;
    NSError* error = nil;
    id<MTLLibrary> library = [device newLibraryWithSource:[NSString stringWithUTF8String:text]
                                                  options:options
                                                    error:&error];
    if (library == nil) return error.localizedDescription.UTF8String == nullptr ? 2 : 3;
    id<MTLFunction> function = [library newFunctionWithName:@"evaluate"];
    id<MTLComputePipelineState> state = [device newComputePipelineStateWithFunction:function
                                                                              error:&error];
    id<MTLBuffer> memory = [device newBufferWithLength:count options:MTLResourceStorageModeShared];
    id<MTLBuffer> shared = [device newBufferWithBytesNoCopy:in
                                                     length:count
                                                    options:MTLResourceStorageModeShared
                                                deallocator:nil];
    id<MTLCommandBuffer> commands = [[device newCommandQueue] commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:state];
    [encoder setBuffer:memory offset:0 atIndex:0];
    [encoder setBuffer:shared offset:0 atIndex:1];
    [encoder setBytes:&count length:sizeof(count) atIndex:2];
    [encoder dispatchThreadgroups:MTLSizeMake(4, 1, 1)
            threadsPerThreadgroup:MTLSizeMake(256, 1, 1)];
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    const bool done = commands.status == MTLCommandBufferStatusCompleted && commands.error == nil;
    return done && [memory contents] != nullptr && [memory length] == count ? 0 : 4;
  }
}
"""


def test_host_code_parses_against_the_stubs(tmp_path: Path):
    source = tmp_path / "host.mm"
    source.write_text(_HOST, encoding="utf-8")
    metal_shim.check_host(source)
    source.write_text(_HOST.replace("commandBuffer]", "commandBufer]"), encoding="utf-8")
    with pytest.raises(AssertionError):
        metal_shim.check_host(source)
