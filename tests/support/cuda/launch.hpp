// Behind the kernels of a module: describes each to the emulated driver (see module.hpp).
#pragma once
#pragma GCC system_header  // what includes it may be compiled under strict warnings

#include "module.hpp"

namespace anvil_host {

template <class T> struct IsPointer { static constexpr bool value = false; };
template <class T> struct IsPointer<T*> { static constexpr bool value = true; };
template <class T> struct Plain { using type = T; };
template <class T> struct Plain<const T> { using type = T; };

constexpr unsigned first_of(unsigned first, unsigned = 0, unsigned = 0) { return first; }

template <size_t... Index> struct Indices {};
template <size_t N, size_t... Index> struct Count : Count<N - 1, N - 1, Index...> {};
template <size_t... Index> struct Count<0, Index...> { using type = Indices<Index...>; };

template <auto kernel> struct Describe;

template <class... Parameters, void (*kernel)(Parameters...)> struct Describe<kernel> {
  static constexpr unsigned count = sizeof...(Parameters);
  // One entry too many: an array has at least one.
  static constexpr unsigned sizes[] = {sizeof(Parameters)..., 0};
  static constexpr bool pointers[] = {IsPointer<typename Plain<Parameters>::type>::value..., false};

  template <size_t... Index>
  static void call(const unsigned* g, const unsigned* b, size_t shared, void** arguments,
                   const char* name, Indices<Index...>) {
    (void)arguments;
    launch(dim3(g[0], g[1], g[2]), dim3(b[0], b[1], b[2]),
           [&] { kernel(*static_cast<typename Plain<Parameters>::type*>(arguments[Index])...); },
           name, shared);
  }

  static void run(const unsigned* grid_size, const unsigned* block_size, size_t shared,
                  void** arguments, const char* name) {
    call(grid_size, block_size, shared, arguments, name, typename Count<count>::type{});
  }
};

}  // namespace anvil_host

#define ANVIL_DESCRIBE_KERNEL(name, threads)                                                    \
  extern "C" void anvil_launch_##name(const unsigned* grid_size, const unsigned* block_size,    \
                                      size_t shared, void** arguments) {                        \
    anvil_host::Describe<name>::run(grid_size, block_size, shared, arguments, #name);           \
  }                                                                                             \
  extern "C" __attribute__((visibility("default"))) const AnvilEmulatedKernel                   \
      anvil_kernel_##name = {#name, anvil_host::Describe<name>::count,                          \
                             anvil_host::Describe<name>::sizes,                                 \
                             anvil_host::Describe<name>::pointers, threads, anvil_launch_##name};
