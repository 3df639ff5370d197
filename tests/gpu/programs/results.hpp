// Runs functions of a module on inputs from a file: `call` twice, then `call_device` on a stream of
// our own, then `call` again; writes the outputs of each.
#pragma once

#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <tuple>

inline std::FILE* in_file;
inline std::FILE* out_file;

template <class Status> void check(const Status& status, const char* name) {
  if (status) return;
  std::printf("%s: %s\n", name, status.text());
  std::exit(3);
}

inline void check(CUresult result, const char* name) {
  if (result == CUDA_SUCCESS) return;
  std::printf("%s: driver error %d\n", name, static_cast<int>(result));
  std::exit(3);
}

inline void enter_primary_context() {
  CUcontext context = nullptr;
  check(cuInit(0), "cuInit");
  check(cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
  check(cuCtxPushCurrent(context), "cuCtxPushCurrent");
}

template <class... Arrays> struct Types {
  static auto allocate() { return std::make_tuple(Arrays::alloc()...); }
};

// The same array on the device.
template <class Array> Array to_device(const Array& host) {
  CUdeviceptr address = 0;
  if (Array::nbytes == 0) return Array();
  check(cuMemAlloc(&address, Array::nbytes), "cuMemAlloc");
  check(cuMemcpyHtoD(address, host.data, Array::nbytes), "cuMemcpyHtoD");
  return Array(reinterpret_cast<typename Array::value_type*>(address));
}

template <class Array> CUdeviceptr address_of(const Array& array) {
  return reinterpret_cast<CUdeviceptr>(array.data);
}

template <class Array> void write(const Array& array) {
  if (std::fwrite(array.data, 1, Array::nbytes, out_file) != Array::nbytes) std::abort();
}

template <class... In, class... Out, class Call, class CallDevice>
void run(const char* name, Types<In...>, Types<Out...>, Call call, CallDevice call_device) {
  auto inputs = Types<In...>::allocate();
  auto outputs = Types<Out...>::allocate();
  const auto arrays = [&] { return std::tuple_cat(inputs, outputs); };
  const auto write_all = [&] { std::apply([](auto&... out) { (write(out), ...); }, outputs); };
  std::apply(
      [](auto&... in) {
        ((std::fread(in.data, 1, in.nbytes, in_file) == in.nbytes ? void() : std::abort()), ...);
      },
      inputs);
  for (int k = 0; k < 2; ++k) {
    check(std::apply(call, arrays()), name);
    write_all();
  }

  CUstream stream = nullptr;
  check(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  auto host = arrays();
  auto device = std::apply([](auto&... all) { return std::make_tuple(to_device(all)...); }, host);
  std::apply([&](auto&... all) { check(call_device(stream, all...), name); }, device);
  check(cuStreamSynchronize(stream), "cuStreamSynchronize");
  const auto fetch = [](auto& to, const auto& from) {
    if (to.nbytes != 0) check(cuMemcpyDtoH(to.data, address_of(from), to.nbytes), "cuMemcpyDtoH");
  };
  std::apply(
      [&](auto&... to) { std::apply([&](auto&... from) { (fetch(to, from), ...); }, device); }, host);
  write_all();
  check(std::apply(call, arrays()), name);
  write_all();

  std::apply([](auto&... all) { (check(cuMemFree(address_of(all)), "cuMemFree"), ...); }, device);
  std::apply([](auto&... all) { (all.free(), ...); }, inputs);
  std::apply([](auto&... all) { (all.free(), ...); }, outputs);
  check(cuStreamDestroy(stream), "cuStreamDestroy");
}
