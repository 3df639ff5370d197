// Makes the text of CUDA kernels compile and run with a C++17 compiler for the host.
//
// Include it before the kernels, and run a whole grid with
//
//   anvil_host::launch({blocks}, {threads}, [&] { kernel(arguments...); }, "kernel");
//
// The blocks of a grid run one after the other. The threads of a block are fibers, each of which
// runs until a barrier or its end; a block whose first thread meets no barrier costs plain calls.
// What CUDA leaves undefined about barriers ends the program with a message. In the environment,
// ANVIL_EMULATED_ORDER = forward | reverse | shuffled chooses the order of threads and blocks, so
// that a barrier that is missing shows as a result that depends on it.
//
// Not seen here: races between blocks that run in any order, accesses outside of a buffer (compile
// with -fsanitize=address,undefined for these; fibers are announced to the address sanitizer), and
// the memory model below the granularity of a barrier.
#pragma once
#pragma GCC system_header  // what includes it may be compiled under strict warnings

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The words of the language that mean nothing on the host.
#define __global__
#define __device__
#define __host__
#define __constant__ __attribute__((visibility("default")))
#define __shared__ static
#define __managed__
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __align__(n) __attribute__((aligned(n)))

// Vectors, aligned as on the device.
#define ANVIL_HOST_VECTORS(T, name, align2, align4)                                       \
  struct __align__(align2) name##2 { T x, y; };                                           \
  struct name##3 { T x, y, z; };                                                          \
  struct __align__(align4) name##4 { T x, y, z, w; };                                     \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                              \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                      \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
ANVIL_HOST_VECTORS(int, int, 8, 16)
ANVIL_HOST_VECTORS(unsigned, uint, 8, 16)
ANVIL_HOST_VECTORS(long long, longlong, 16, 16)
ANVIL_HOST_VECTORS(float, float, 8, 16)
ANVIL_HOST_VECTORS(double, double, 16, 16)
#undef ANVIL_HOST_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#include "fibers.hpp"
#include "intrinsics.hpp"
