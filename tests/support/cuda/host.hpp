// Makes the text of CUDA kernels compile and run with a C++17 compiler for the host.
//
// Include it before the kernels, and run a whole grid with
//
//   anvil_host::launch({blocks}, {threads}, [&] { kernel(arguments...); }, "kernel");
//
// fibers.hpp says how that runs. What CUDA has and no kernel has needed yet is missing here.
#pragma once
#pragma GCC system_header  // what includes it may be compiled under strict warnings

#include <math.h>

#include "fibers.hpp"

// The words of the language that mean nothing on the host.
#define __global__
#define __device__
#define __constant__ __attribute__((visibility("default")))
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

// The value that the thread `source` of the own warp shows.
template <class T> inline T __shfl_sync(unsigned, T value, int source) {
  anvil_host::Grid& grid = anvil_host::grid;
  static_assert(sizeof value <= sizeof grid.slots[0], "shuffles move at most 16 bytes");
  memcpy(grid.slots[grid.current], &value, sizeof value);
  __syncwarp();
  const unsigned lane = static_cast<unsigned>(source) % anvil_host::kWarp;
  const unsigned from = grid.current / anvil_host::kWarp * anvil_host::kWarp + lane;
  if (from < anvil_host::thread_count()) memcpy(&value, grid.slots[from], sizeof value);
  __syncwarp();
  return value;
}
