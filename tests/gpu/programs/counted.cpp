// Counts what the program takes from the heap outside of driver and compiler, makes calls of NVRTC
// fail (ANVIL_TEST_FAIL_NVRTC names the function), and says what is still alive at the end.
// To be linked with -Wl,--wrap for each function below.
#include "counted.hpp"

#include <cuda.h>
#include <nvrtc.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

extern "C" {
int anvil_emulated_live_allocations();
int anvil_emulated_live_modules();
int anvil_emulated_live_streams();
int anvil_emulated_live_graphs();
int anvil_emulated_live_contexts();
int anvil_emulated_live_programs();
}

namespace {

std::atomic<long> count{0};
thread_local int inside = 0;

struct Inside {
  Inside() { ++inside; }
  ~Inside() { --inside; }
};

void* allocate(std::size_t size) {
  if (inside == 0) ++count;
  return std::malloc(size);
}

// The first call of the function that the environment names fails.
bool fails(const char* name) {
  static std::atomic<bool> done{false};
  const char* const wanted = std::getenv("ANVIL_TEST_FAIL_NVRTC");
  return wanted != nullptr && std::strcmp(wanted, name) == 0 && !done.exchange(true);
}

}  // namespace

namespace counted {

long allocations() { return count; }

void print_live() {
  std::printf("live %d %d %d %d %d %d\n", anvil_emulated_live_allocations(),
              anvil_emulated_live_modules(), anvil_emulated_live_streams(),
              anvil_emulated_live_graphs(), anvil_emulated_live_contexts(),
              anvil_emulated_live_programs());
}

}  // namespace counted

void* operator new(std::size_t size) {
  if (void* const found = allocate(size)) return found;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* pointer) noexcept { std::free(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { std::free(pointer); }
void operator delete(void* pointer, const std::nothrow_t&) noexcept { std::free(pointer); }

extern "C" {

#define ANVIL_WRAP(result, name, parameters, arguments) \
  result __real_##name parameters;                      \
  result __wrap_##name parameters {                     \
    const Inside now_inside;                            \
    return __real_##name arguments;                     \
  }
#define ANVIL_WRAP_AGAIN(result, name, parameters, arguments) ANVIL_WRAP(result, name, parameters, arguments)

ANVIL_WRAP_AGAIN(CUresult, cuCtxPushCurrent, (CUcontext context), (context))
ANVIL_WRAP_AGAIN(CUresult, cuCtxPopCurrent, (CUcontext* context), (context))
ANVIL_WRAP_AGAIN(CUresult, cuMemcpyHtoDAsync,
                 (CUdeviceptr to, const void* from, std::size_t size, CUstream stream),
                 (to, from, size, stream))
ANVIL_WRAP_AGAIN(CUresult, cuMemcpyDtoHAsync,
                 (void* to, CUdeviceptr from, std::size_t size, CUstream stream),
                 (to, from, size, stream))
ANVIL_WRAP_AGAIN(CUresult, cuStreamSynchronize, (CUstream stream), (stream))
ANVIL_WRAP_AGAIN(CUresult, cuLaunchKernel,
                 (CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                  unsigned bz, unsigned shared, CUstream stream, void** parameters, void** extra),
                 (f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra))

#define ANVIL_WRAP_NVRTC(name, parameters, arguments)                \
  nvrtcResult __real_##name parameters;                              \
  nvrtcResult __wrap_##name parameters {                             \
    if (fails(#name)) return NVRTC_ERROR_INTERNAL_ERROR;    \
    return __real_##name arguments;                                  \
  }

ANVIL_WRAP_NVRTC(nvrtcVersion, (int* major, int* minor), (major, minor))
ANVIL_WRAP_NVRTC(nvrtcGetNumSupportedArchs, (int* count), (count))
ANVIL_WRAP_NVRTC(nvrtcGetSupportedArchs, (int* out), (out))
ANVIL_WRAP_NVRTC(nvrtcCreateProgram,
                 (nvrtcProgram* program, const char* text, const char* name, int count,
                  const char* const* headers, const char* const* names),
                 (program, text, name, count, headers, names))
ANVIL_WRAP_NVRTC(nvrtcCompileProgram, (nvrtcProgram program, int count, const char* const* options),
                 (program, count, options))
ANVIL_WRAP_NVRTC(nvrtcGetCUBINSize, (nvrtcProgram program, std::size_t* size), (program, size))
ANVIL_WRAP_NVRTC(nvrtcGetCUBIN, (nvrtcProgram program, char* out), (program, out))
ANVIL_WRAP_NVRTC(nvrtcGetPTXSize, (nvrtcProgram program, std::size_t* size), (program, size))
ANVIL_WRAP_NVRTC(nvrtcGetPTX, (nvrtcProgram program, char* out), (program, out))
ANVIL_WRAP_NVRTC(nvrtcGetProgramLogSize, (nvrtcProgram program, std::size_t* size), (program, size))
ANVIL_WRAP_NVRTC(nvrtcGetProgramLog, (nvrtcProgram program, char* out), (program, out))
ANVIL_WRAP_NVRTC(nvrtcDestroyProgram, (nvrtcProgram* program), (program))
}
