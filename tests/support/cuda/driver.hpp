// State of the emulated driver (libcuda.so.1), which executes on the host what it is given.
//
//   driver.cpp         entry, errors, devices, contexts, what tests ask for
//   driver_memory.cpp  allocations and copies
//   driver_stream.cpp  streams, events, capture and graphs
//   driver_module.cpp  modules, functions and launches
//
// Work on a stream is deferred to the latest moment that CUDA allows: until somebody synchronises
// with it. A missing synchronisation therefore shows as a wrong result. ANVIL_EMULATED_EAGER=1
// executes at once.
#pragma once

// The entry points are what the library exports; everything else is hidden.
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "module.hpp"

namespace anvil_emulated {

using Operation = std::function<CUresult()>;

struct Context;

// Freed memory is forgotten, so that each later use of it is an error.
struct Allocation {
  enum class Kind { device, pinned, global };
  CUdeviceptr begin;
  std::size_t size;
  Kind kind;
  Context* context;
};

struct Graph {
  std::vector<Operation> operations;
};

// What a stream records instead of executing it.
struct Capture {
  CUstreamCaptureMode mode;
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  bool invalidated = false;
};

struct Stream {
  Context* context;
  bool blocking;
  std::deque<Operation> queue;
  std::shared_ptr<Capture> capture;
};

struct Event {
  Context* context;
  bool timing;
  std::uint64_t recorded = 0, completed = 0;
  double time = 0;
  std::weak_ptr<Stream> stream;
};

struct Module {
  Context* context;
  void* library = nullptr;
  std::vector<CUdeviceptr> globals;
  ~Module();
};

struct Function {
  std::shared_ptr<Module> module;
  const AnvilEmulatedKernel* kernel;
};

struct Context {
  CUdevice device;
  unsigned references = 0;
  bool alive = true;
  // The first error of deferred work; every later call returns it.
  CUresult sticky = CUDA_SUCCESS;
  std::shared_ptr<Stream> default_stream;
};

struct Driver {
  std::recursive_mutex mutex;
  bool initialized = false;
  std::map<CUcontext, std::unique_ptr<Context>> contexts;  // never shrinks
  std::map<CUdevice, CUcontext> primary;
  std::map<CUdeviceptr, Allocation> allocations;
  std::map<CUmodule, std::shared_ptr<Module>> modules;
  std::map<CUfunction, Function> functions;
  std::map<CUstream, std::shared_ptr<Stream>> streams;
  std::map<CUevent, std::shared_ptr<Event>> events;
  std::map<CUgraph, std::shared_ptr<Graph>> graphs;
  std::map<CUgraphExec, std::shared_ptr<Graph>> executables;
  std::vector<std::shared_ptr<Capture>> captures;
  std::map<std::string, int> calls;
};

// Never destroyed: programs may call the driver while they exit.
Driver& driver();

// Handles are numbers that are used once, so that a stale one is always recognised.
std::uintptr_t next_handle();
template <class Handle> Handle make_handle() { return reinterpret_cast<Handle>(next_handle()); }

// What a call needs before its own checks.
enum class Needs { nothing, initialization, context };

// Counts the call, injects a failure that the environment asks for, and checks what it needs.
CUresult enter(const char* name, Needs needs);

// Says on stderr why a call is refused, and returns `result`.
[[gnu::format(printf, 2, 3)]] CUresult refuse(CUresult result, const char* format, ...);

Context* current_context();
CUcontext current_handle();
int device_count();
// Ten times the major plus the minor compute capability.
int compute_capability();

// The allocation that holds the address, or null.
const Allocation* find_allocation(CUdeviceptr address);

// The stream behind a handle, or null after setting `result`.
std::shared_ptr<Stream> find_stream(CUstream handle, CUresult& result);
// Queues or captures one operation.
CUresult enqueue(CUstream handle, Operation operation);
// Executes what is queued.
CUresult drain(const std::shared_ptr<Stream>& stream);
// Executes what a synchronous call waits for: the default stream and those that block on it.
CUresult drain_blocking(Context* context);
CUresult drain_all(Context* context);
// An error while a capture forbids calls that synchronise or allocate; it ends that capture.
CUresult refuse_in_capture(const char* name);

}  // namespace anvil_emulated

// The beginning of every entry point.
#define ANVIL_ENTER(name, needs)                                                      \
  const std::lock_guard<std::recursive_mutex> guard(anvil_emulated::driver().mutex);  \
  if (const CUresult entry = anvil_emulated::enter(name, anvil_emulated::Needs::needs)) return entry
