// What a compiled module tells the emulated driver about each kernel: the contract between the
// text that nvrtc.cpp generates (through launch.hpp) and driver_module.cpp, which reads it.
#pragma once

#include <stddef.h>

extern "C" {

// Found in the module as `anvil_kernel_<name>`.
struct AnvilEmulatedKernel {
  const char* name;
  // One entry per parameter: its size in bytes, and whether it is a pointer.
  unsigned parameter_count;
  const unsigned* parameter_sizes;
  const bool* parameter_is_pointer;
  // The first argument of __launch_bounds__, or 1024.
  unsigned max_threads;
  // Runs the whole grid; `arguments` are the addresses of the parameters' values.
  void (*launch)(const unsigned* grid, const unsigned* block, size_t dynamic_shared,
                 void** arguments);
};
}
