// Entry, errors, devices and contexts of the emulated driver.
//
// In the environment: ANVIL_EMULATED_DEVICES (default 1), ANVIL_EMULATED_SM (default 8.0), and
// ANVIL_EMULATED_FAIL="name:count[:code]", a comma between several, which makes the count-th call
// of that function (named as in <cuda.h>, without a version) return the code (default 2, out of
// memory). What tests ask for is at the end.
#include "driver.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace anvil_emulated {

namespace {

thread_local std::vector<CUcontext> context_stack;

int number_in_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? otherwise : std::atoi(text);
}

// The failure that the environment asks for at this call, if any.
CUresult injected_failure(const std::string& name, int call) {
  const char* text = std::getenv("ANVIL_EMULATED_FAIL");
  if (text == nullptr) return CUDA_SUCCESS;
  std::stringstream entries(text);
  for (std::string entry; std::getline(entries, entry, ',');) {
    std::stringstream fields(entry);
    std::string wanted, count = "1", code;
    std::getline(fields, wanted, ':');
    std::getline(fields, count, ':');
    std::getline(fields, code, ':');
    if (wanted != name || std::atoi(count.c_str()) != call) continue;
    return code.empty() ? CUDA_ERROR_OUT_OF_MEMORY
                        : static_cast<CUresult>(std::atoi(code.c_str()));
  }
  return CUDA_SUCCESS;
}

Context* find_context(CUcontext handle) {
  const auto found = driver().contexts.find(handle);
  return found == driver().contexts.end() ? nullptr : found->second.get();
}

CUcontext create_context(CUdevice device) {
  const auto handle = make_handle<CUcontext>();
  auto context = std::make_unique<Context>();
  context->device = device;
  context->default_stream = std::make_shared<Stream>();
  context->default_stream->context = context.get();
  context->default_stream->blocking = true;
  driver().contexts[handle] = std::move(context);
  return handle;
}

// Memory stays counted as alive: whoever destroys a context before it freed its memory leaks.
void destroy_context(CUcontext handle) {
  Context* context = find_context(handle);
  drain_all(context);
  context->alive = false;
}

CUresult check_device(CUdevice device) {
  return device < 0 || device >= device_count() ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

}  // namespace

Driver& driver() {
  static Driver* const instance = new Driver;
  return *instance;
}

std::uintptr_t next_handle() {
  static std::uintptr_t last = 0x1000;
  return last += 16;
}

CUresult refuse(CUresult result, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::fputs("emulated CUDA: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
  return result;
}

CUresult enter(const char* name, Needs needs) {
  const int call = ++driver().calls[name];
  if (const CUresult failure = injected_failure(name, call)) return failure;
  if (needs == Needs::nothing) return CUDA_SUCCESS;
  if (!driver().initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (needs == Needs::initialization) return CUDA_SUCCESS;
  const CUcontext handle = current_handle();
  if (handle == nullptr) return refuse(CUDA_ERROR_INVALID_CONTEXT, "%s: no current context", name);
  const Context* context = find_context(handle);
  if (!context->alive) {
    return refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "%s: the context is destroyed", name);
  }
  return context->sticky;
}

CUcontext current_handle() { return context_stack.empty() ? nullptr : context_stack.back(); }
Context* current_context() { return find_context(current_handle()); }
int device_count() { return number_in_environment("ANVIL_EMULATED_DEVICES", 1); }

int compute_capability() {
  const char* text = std::getenv("ANVIL_EMULATED_SM");
  int major = 8, minor = 0;
  if (text != nullptr) std::sscanf(text, "%d.%d", &major, &minor);
  return 10 * major + minor;
}

}  // namespace anvil_emulated

using namespace anvil_emulated;

extern "C" {

CUresult CUDAAPI cuInit(unsigned flags) {
  ANVIL_ENTER("cuInit", nothing);
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (device_count() == 0) return CUDA_ERROR_NO_DEVICE;
  driver().initialized = true;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDriverGetVersion(int* version) {
  ANVIL_ENTER("cuDriverGetVersion", nothing);
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char** name) {
  ANVIL_ENTER("cuGetErrorName", nothing);
  switch (error) {
#define ANVIL_NAME(code) case code: *name = #code; return CUDA_SUCCESS;
    ANVIL_NAME(CUDA_SUCCESS)
    ANVIL_NAME(CUDA_ERROR_INVALID_VALUE)
    ANVIL_NAME(CUDA_ERROR_OUT_OF_MEMORY)
    ANVIL_NAME(CUDA_ERROR_NOT_INITIALIZED)
    ANVIL_NAME(CUDA_ERROR_NO_DEVICE)
    ANVIL_NAME(CUDA_ERROR_INVALID_DEVICE)
    ANVIL_NAME(CUDA_ERROR_INVALID_IMAGE)
    ANVIL_NAME(CUDA_ERROR_INVALID_CONTEXT)
    ANVIL_NAME(CUDA_ERROR_NO_BINARY_FOR_GPU)
    ANVIL_NAME(CUDA_ERROR_INVALID_PTX)
    ANVIL_NAME(CUDA_ERROR_INVALID_HANDLE)
    ANVIL_NAME(CUDA_ERROR_NOT_FOUND)
    ANVIL_NAME(CUDA_ERROR_NOT_READY)
    ANVIL_NAME(CUDA_ERROR_ILLEGAL_ADDRESS)
    ANVIL_NAME(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
    ANVIL_NAME(CUDA_ERROR_LAUNCH_FAILED)
    ANVIL_NAME(CUDA_ERROR_CONTEXT_IS_DESTROYED)
    ANVIL_NAME(CUDA_ERROR_NOT_SUPPORTED)
    ANVIL_NAME(CUDA_ERROR_ILLEGAL_STATE)
    ANVIL_NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
    ANVIL_NAME(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    ANVIL_NAME(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
    ANVIL_NAME(CUDA_ERROR_UNKNOWN)
#undef ANVIL_NAME
    default: *name = nullptr; return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char** text) {
  ANVIL_ENTER("cuGetErrorString", nothing);
  static std::map<CUresult, std::string> texts;
  const char* name = nullptr;
  if (const CUresult result = cuGetErrorName(error, &name)) {
    *text = nullptr;
    return result;
  }
  *text = texts.emplace(error, std::string("emulated ") + name).first->second.c_str();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetCount(int* count) {
  ANVIL_ENTER("cuDeviceGetCount", initialization);
  *count = device_count();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
  ANVIL_ENTER("cuDeviceGet", initialization);
  *device = ordinal;
  return check_device(ordinal);
}

CUresult CUDAAPI cuDeviceGetName(char* name, int length, CUdevice device) {
  ANVIL_ENTER("cuDeviceGetName", initialization);
  if (name == nullptr || length <= 0) return CUDA_ERROR_INVALID_VALUE;
  std::snprintf(name, static_cast<std::size_t>(length), "Emulated CUDA device %d", device);
  return check_device(device);
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  ANVIL_ENTER("cuDeviceGetAttribute", initialization);
  if (const CUresult result = check_device(device)) return result;
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = compute_capability() / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = compute_capability() % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 4; break;
    default: return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuDeviceGetAttribute: not emulated");
  }
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  ANVIL_ENTER("cuDevicePrimaryCtxRetain", initialization);
  if (const CUresult result = check_device(device)) return result;
  CUcontext& handle = driver().primary[device];
  if (handle == nullptr || !find_context(handle)->alive) handle = create_context(device);
  ++find_context(handle)->references;
  *context = handle;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
  ANVIL_ENTER("cuDevicePrimaryCtxRelease", initialization);
  if (const CUresult result = check_device(device)) return result;
  const CUcontext handle = driver().primary[device];
  if (handle == nullptr || !find_context(handle)->alive) return CUDA_ERROR_INVALID_CONTEXT;
  if (--find_context(handle)->references == 0) destroy_context(handle);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  ANVIL_ENTER("cuCtxPushCurrent", initialization);
  const Context* found = find_context(context);
  if (found == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (!found->alive) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  context_stack.push_back(context);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext* context) {
  ANVIL_ENTER("cuCtxPopCurrent", initialization);
  if (context_stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context != nullptr) *context = current_handle();
  context_stack.pop_back();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  ANVIL_ENTER("cuCtxSetCurrent", initialization);
  if (context != nullptr && find_context(context) == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (!context_stack.empty()) context_stack.pop_back();
  if (context != nullptr) context_stack.push_back(context);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSynchronize() {
  ANVIL_ENTER("cuCtxSynchronize", context);
  if (const CUresult result = refuse_in_capture("cuCtxSynchronize")) return result;
  return drain_all(current_context());
}

// ----- For tests -----

#pragma GCC visibility push(default)
int anvil_emulated_live_allocations() {
  int count = 0;
  for (const auto& entry : driver().allocations) {
    count += entry.second.kind != Allocation::Kind::global;
  }
  return count;
}
int anvil_emulated_live_modules() { return static_cast<int>(driver().modules.size()); }
int anvil_emulated_live_streams() { return static_cast<int>(driver().streams.size()); }
int anvil_emulated_live_events() { return static_cast<int>(driver().events.size()); }
int anvil_emulated_live_graphs() {
  return static_cast<int>(driver().graphs.size() + driver().executables.size());
}
int anvil_emulated_live_contexts() {
  int count = 0;
  for (const auto& entry : driver().contexts) count += entry.second->alive;
  return count;
}
int anvil_emulated_calls(const char* name) { return driver().calls[name]; }
#pragma GCC visibility pop
}
