// Memory of the emulated driver: each allocation is a block of its exact size on the heap, filled
// with all-ones bytes (NaN).
#include <cstdlib>
#include <cstring>

#include "driver.hpp"

namespace anvil_emulated {

namespace {

using Kind = Allocation::Kind;

constexpr std::size_t kTotalMemory = std::size_t{8} << 30;
constexpr std::size_t kAlignment = 256;

template <class T> void* pointer(T address) { return reinterpret_cast<void*>(address); }
CUdeviceptr address(const void* p) { return reinterpret_cast<CUdeviceptr>(p); }

std::size_t used_memory() {
  std::size_t used = 0;
  for (const auto& entry : driver().allocations) used += entry.second.size;
  return used;
}

CUresult allocate(std::size_t size, Kind kind, CUdeviceptr* out) {
  if (size == 0 || out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (size > kTotalMemory - used_memory()) return CUDA_ERROR_OUT_OF_MEMORY;
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, size) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  std::memset(memory, 0xff, size);
  *out = address(memory);
  driver().allocations[*out] = {*out, size, kind, current_context()};
  return CUDA_SUCCESS;
}

CUresult release(const char* name, CUdeviceptr begin, Kind kind) {
  auto& allocations = driver().allocations;
  const auto found = allocations.find(begin);
  if (found == allocations.end() || found->second.kind != kind) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %p is not the begin of an allocation", name,
                  pointer(begin));
  }
  std::free(pointer(begin));
  allocations.erase(found);
  return CUDA_SUCCESS;
}

bool is_on_device(const Allocation* allocation) {
  return allocation != nullptr && allocation->kind != Kind::pinned;
}

// The device's side of a copy lies inside one allocation of the current context.
CUresult check_device_side(const char* name, CUdeviceptr begin, std::size_t size) {
  if (size == 0) return CUDA_SUCCESS;
  const Allocation* found = find_allocation(begin);
  if (!is_on_device(found)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %p is not device memory", name, pointer(begin));
  }
  if (found->context != current_context()) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %p belongs to another context", name,
                  pointer(begin));
  }
  if (size > found->begin + found->size - begin) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "%s: %zu bytes at offset %zu of an allocation of %zu",
                  name, size, static_cast<std::size_t>(begin - found->begin), found->size);
  }
  return CUDA_SUCCESS;
}

// The host's side neither begins nor ends inside of device memory.
CUresult check_host_side(const char* name, const void* begin, std::size_t size) {
  if (size == 0) return CUDA_SUCCESS;
  if (begin == nullptr) return refuse(CUDA_ERROR_INVALID_VALUE, "%s: null host pointer", name);
  if (is_on_device(find_allocation(address(begin))) ||
      is_on_device(find_allocation(address(begin) + size - 1))) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "%s: the host pointer %p is device memory", name,
                  begin);
  }
  return CUDA_SUCCESS;
}

struct Copy {
  const char* name;
  void* to;
  const void* from;
  std::size_t size;
  bool to_device, from_device;

  CUresult check() const {
    CUresult result = to_device ? check_device_side(name, address(to), size)
                                : check_host_side(name, to, size);
    if (result != CUDA_SUCCESS) return result;
    result = from_device ? check_device_side(name, address(from), size)
                         : check_host_side(name, from, size);
    if (result != CUDA_SUCCESS) return result;
    const bool disjoint = address(to) + size <= address(from) || address(from) + size <= address(to);
    if (size != 0 && !disjoint) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "%s: source and destination overlap", name);
    }
    return CUDA_SUCCESS;
  }

  // Checks again: a stream may execute it after the memory was freed.
  CUresult execute() const {
    if (check() != CUDA_SUCCESS) return CUDA_ERROR_ILLEGAL_ADDRESS;
    if (size != 0) std::memcpy(to, from, size);
    return CUDA_SUCCESS;
  }
};

CUresult copy_now(const Copy& copy) {
  if (const CUresult result = refuse_in_capture(copy.name)) return result;
  if (const CUresult result = copy.check()) return result;
  if (const CUresult result = drain_blocking(current_context())) return result;
  return copy.execute();
}

CUresult copy_later(const Copy& copy, CUstream stream) {
  if (const CUresult result = copy.check()) return result;
  return enqueue(stream, [copy] { return copy.execute(); });
}

}  // namespace

const Allocation* find_allocation(CUdeviceptr where) {
  const auto& allocations = driver().allocations;
  auto next = allocations.upper_bound(where);
  if (next == allocations.begin()) return nullptr;
  const Allocation& found = std::prev(next)->second;
  return where - found.begin < found.size ? &found : nullptr;
}

}  // namespace anvil_emulated

using namespace anvil_emulated;

extern "C" {

CUresult CUDAAPI cuMemAlloc(CUdeviceptr* out, std::size_t size) {
  ANVIL_ENTER("cuMemAlloc", context);
  if (const CUresult result = refuse_in_capture("cuMemAlloc")) return result;
  return allocate(size, Kind::device, out);
}

CUresult CUDAAPI cuMemFree(CUdeviceptr begin) {
  ANVIL_ENTER("cuMemFree", context);
  if (begin == 0) return CUDA_SUCCESS;
  if (const CUresult result = refuse_in_capture("cuMemFree")) return result;
  if (const CUresult result = drain_all(current_context())) return result;
  return release("cuMemFree", begin, Kind::device);
}

CUresult CUDAAPI cuMemHostAlloc(void** out, std::size_t size, unsigned) {
  ANVIL_ENTER("cuMemHostAlloc", context);
  if (const CUresult result = refuse_in_capture("cuMemHostAlloc")) return result;
  CUdeviceptr begin = 0;
  const CUresult result = allocate(size, Kind::pinned, &begin);
  if (result == CUDA_SUCCESS) *out = pointer(begin);
  return result;
}

CUresult CUDAAPI cuMemFreeHost(void* begin) {
  ANVIL_ENTER("cuMemFreeHost", context);
  if (const CUresult result = refuse_in_capture("cuMemFreeHost")) return result;
  if (const CUresult result = drain_all(current_context())) return result;
  return release("cuMemFreeHost", address(begin), Kind::pinned);
}

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void* from, std::size_t size) {
  ANVIL_ENTER("cuMemcpyHtoD", context);
  return copy_now({"cuMemcpyHtoD", pointer(to), from, size, true, false});
}

CUresult CUDAAPI cuMemcpyDtoH(void* to, CUdeviceptr from, std::size_t size) {
  ANVIL_ENTER("cuMemcpyDtoH", context);
  return copy_now({"cuMemcpyDtoH", to, pointer(from), size, false, true});
}

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t size,
                                   CUstream stream) {
  ANVIL_ENTER("cuMemcpyHtoDAsync", context);
  return copy_later({"cuMemcpyHtoDAsync", pointer(to), from, size, true, false}, stream);
}

CUresult CUDAAPI cuMemcpyDtoHAsync(void* to, CUdeviceptr from, std::size_t size, CUstream stream) {
  ANVIL_ENTER("cuMemcpyDtoHAsync", context);
  return copy_later({"cuMemcpyDtoHAsync", to, pointer(from), size, false, true}, stream);
}

CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, std::size_t size,
                                   CUstream stream) {
  ANVIL_ENTER("cuMemcpyDtoDAsync", context);
  return copy_later({"cuMemcpyDtoDAsync", pointer(to), pointer(from), size, true, true}, stream);
}

CUresult CUDAAPI cuMemsetD8(CUdeviceptr to, unsigned char value, std::size_t count) {
  ANVIL_ENTER("cuMemsetD8", context);
  if (const CUresult result = refuse_in_capture("cuMemsetD8")) return result;
  if (const CUresult result = check_device_side("cuMemsetD8", to, count)) return result;
  if (const CUresult result = drain_blocking(current_context())) return result;
  if (count != 0) std::memset(pointer(to), value, count);
  return CUDA_SUCCESS;
}

}
