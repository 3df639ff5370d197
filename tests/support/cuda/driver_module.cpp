// Modules, functions and launches of the emulated driver. A "cubin" or "PTX" of the emulated NVRTC
// carries a shared library, which is loaded here.
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.hpp"
#include "payload.hpp"

namespace anvil_emulated {

namespace {

constexpr unsigned kMaxDynamicShared = 48 << 10;

// Loads a library that no file names afterwards; null after a message.
void* load_library(const std::vector<char>& bytes) {
  const char* folder = std::getenv("TMPDIR");
  std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/anvil-module-XXXXXX";
  const int file = mkstemp(path.data());
  if (file < 0) return nullptr;
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t step = write(file, bytes.data() + written, bytes.size() - written);
    if (step <= 0) break;
    written += static_cast<std::size_t>(step);
  }
  close(file);
  void* library = written == bytes.size() ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (library == nullptr) {
    const char* message = dlerror();
    refuse(CUDA_ERROR_INVALID_IMAGE, "module: %s", message != nullptr ? message : "not written");
  }
  unlink(path.c_str());
  return library;
}

// The values of a launch's parameters, which the caller may change after the call.
struct Arguments {
  std::vector<std::vector<unsigned char>> values;

  Arguments(const AnvilEmulatedKernel& kernel, void** parameters) {
    for (unsigned k = 0; k < kernel.parameter_count; ++k) {
      const auto* first = static_cast<const unsigned char*>(parameters[k]);
      values.emplace_back(first, first + kernel.parameter_sizes[k]);
    }
  }

  // Pointers must be null or point into memory that a device can reach; one past an end passes.
  CUresult check(const AnvilEmulatedKernel& kernel) const {
    for (unsigned k = 0; k < kernel.parameter_count; ++k) {
      if (!kernel.parameter_is_pointer[k]) continue;
      CUdeviceptr address = 0;
      std::memcpy(&address, values[k].data(), sizeof address);
      if (address == 0 || find_allocation(address) || find_allocation(address - 1)) continue;
      return refuse(CUDA_ERROR_ILLEGAL_ADDRESS,
                    "kernel '%s': parameter %u (counted from 0) is %p, which is no device memory",
                    kernel.name, k, reinterpret_cast<void*>(address));
    }
    return CUDA_SUCCESS;
  }
};

struct Launch {
  std::shared_ptr<Module> module;  // stays loaded while the launch waits
  const AnvilEmulatedKernel* kernel;
  unsigned grid[3], block[3], shared;
  Arguments arguments;

  CUresult execute() const {
    if (const CUresult result = arguments.check(*kernel)) return result;
    Arguments copy = arguments;
    std::vector<void*> addresses;
    for (auto& value : copy.values) addresses.push_back(value.data());
    kernel->launch(grid, block, shared, addresses.data());
    return CUDA_SUCCESS;
  }
};

CUresult check_shape(const char* kernel, const unsigned* grid, const unsigned* block) {
  const unsigned grid_limit[] = {0x7fffffffu, 65535u, 65535u}, block_limit[] = {1024, 1024, 64};
  unsigned long threads = 1;
  bool fits = true;
  for (int k = 0; k < 3; ++k) {
    fits = fits && 1 <= grid[k] && grid[k] <= grid_limit[k];
    fits = fits && 1 <= block[k] && block[k] <= block_limit[k];
    threads *= block[k];
  }
  if (fits && threads <= 1024) return CUDA_SUCCESS;
  return refuse(CUDA_ERROR_INVALID_VALUE,
                "kernel '%s': a grid of (%u, %u, %u) blocks of (%u, %u, %u) threads", kernel,
                grid[0], grid[1], grid[2], block[0], block[1], block[2]);
}

// Pointer and size of a symbol that the module exports.
void* find_symbol(const Module& module, const char* name, std::size_t& size) {
  void* address = dlsym(module.library, name);
  Dl_info information;
  ElfW(Sym)* symbol = nullptr;
  if (address == nullptr ||
      dladdr1(address, &information, reinterpret_cast<void**>(&symbol), RTLD_DL_SYMENT) == 0 ||
      symbol == nullptr) {
    return nullptr;
  }
  link_map* map = nullptr;
  dlinfo(module.library, RTLD_DI_LINKMAP, &map);
  // What another library exports under that name is not the module's.
  if (reinterpret_cast<ElfW(Addr)>(information.dli_fbase) != map->l_addr) return nullptr;
  size = symbol->st_size;
  return address;
}

}  // namespace

Module::~Module() {
  if (library != nullptr) dlclose(library);
}

}  // namespace anvil_emulated

using namespace anvil_emulated;

extern "C" {

CUresult CUDAAPI cuModuleLoadData(CUmodule* out, const void* image) {
  ANVIL_ENTER("cuModuleLoadData", context);
  if (const CUresult result = refuse_in_capture("cuModuleLoadData")) return result;
  if (out == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Payload payload;
  if (!read_payload(image, payload)) {
    return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData: not made by the emulated NVRTC");
  }
  const int device = compute_capability();
  if (payload.is_ptx && payload.architecture > device) {
    return refuse(CUDA_ERROR_INVALID_PTX, "PTX for compute_%d, device sm_%d", payload.architecture,
                  device);
  }
  const bool same_major = payload.architecture / 10 == device / 10;
  if (!payload.is_ptx && (!same_major || payload.architecture > device)) {
    return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "cubin for sm_%d, device sm_%d",
                  payload.architecture, device);
  }
  auto module = std::make_shared<Module>();
  module->context = current_context();
  module->library = load_library(payload.bytes);
  if (module->library == nullptr) return CUDA_ERROR_INVALID_IMAGE;
  *out = make_handle<CUmodule>();
  driver().modules[*out] = std::move(module);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleUnload(CUmodule handle) {
  ANVIL_ENTER("cuModuleUnload", context);
  const auto found = driver().modules.find(handle);
  if (found == driver().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult result = refuse_in_capture("cuModuleUnload")) return result;
  drain_all(current_context());
  const auto module = found->second;
  for (auto entry = driver().functions.begin(); entry != driver().functions.end();) {
    entry = entry->second.module == module ? driver().functions.erase(entry) : std::next(entry);
  }
  for (const CUdeviceptr begin : module->globals) driver().allocations.erase(begin);
  driver().modules.erase(found);
  return current_context()->sticky;
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction* out, CUmodule handle, const char* name) {
  ANVIL_ENTER("cuModuleGetFunction", context);
  if (out == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto found = driver().modules.find(handle);
  if (found == driver().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  std::size_t size = 0;
  const std::string symbol = std::string("anvil_kernel_") + name;
  void* kernel = find_symbol(*found->second, symbol.c_str(), size);
  if (kernel == nullptr) return CUDA_ERROR_NOT_FOUND;
  for (const auto& entry : driver().functions) {
    if (entry.second.kernel != kernel) continue;
    *out = entry.first;
    return CUDA_SUCCESS;
  }
  *out = make_handle<CUfunction>();
  driver().functions[*out] = {found->second, static_cast<const AnvilEmulatedKernel*>(kernel)};
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleGetGlobal(CUdeviceptr* out, std::size_t* bytes, CUmodule handle,
                                   const char* name) {
  ANVIL_ENTER("cuModuleGetGlobal", context);
  const auto found = driver().modules.find(handle);
  if (found == driver().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  std::size_t size = 0;
  void* address = find_symbol(*found->second, name, size);
  if (address == nullptr) return CUDA_ERROR_NOT_FOUND;
  const auto begin = reinterpret_cast<CUdeviceptr>(address);
  driver().allocations[begin] = {begin, size, Allocation::Kind::global, found->second->context};
  found->second->globals.push_back(begin);
  if (out != nullptr) *out = begin;
  if (bytes != nullptr) *bytes = size;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y,
                                unsigned grid_z, unsigned block_x, unsigned block_y,
                                unsigned block_z, unsigned shared, CUstream stream,
                                void** parameters, void** extra) {
  ANVIL_ENTER("cuLaunchKernel", context);
  const auto found = driver().functions.find(handle);
  if (found == driver().functions.end()) return CUDA_ERROR_INVALID_HANDLE;
  const Function& function = found->second;
  if (function.module->context != current_context()) return CUDA_ERROR_INVALID_HANDLE;
  if (extra != nullptr) return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuLaunchKernel: `extra`");
  if (parameters == nullptr && function.kernel->parameter_count != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
  if (const CUresult result = check_shape(function.kernel->name, grid, block)) return result;
  if (block_x * block_y * block_z > function.kernel->max_threads) {
    return refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "kernel '%s': more threads than its bound",
                  function.kernel->name);
  }
  if (shared > kMaxDynamicShared) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "kernel '%s': %u bytes of shared memory",
                  function.kernel->name, shared);
  }
  auto launch = std::make_shared<Launch>(Launch{function.module,
                                                function.kernel,
                                                {grid_x, grid_y, grid_z},
                                                {block_x, block_y, block_z},
                                                shared,
                                                Arguments(*function.kernel, parameters)});
  return enqueue(stream, [launch] { return launch->execute(); });
}
}
