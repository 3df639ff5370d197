// Runs kernels from a file of machine code, as a plan says, on inputs from a file.
//
// Every array is an allocation of its exact size, so that compute-sanitizer sees each access
// outside; outputs and workspace are filled with all-ones bytes (NaN) first, and everything is
// computed twice, so that a result that depends on old memory or on the order of threads shows.
//
// The plan, words between white space: for each function its name, the numbers of inputs and
// outputs, the bytes of each, the bytes of the workspace, the number of launches; for each launch
// the kernel, groups, threads, the number of arguments, and which array each one is, counted from 0
// through inputs, outputs and workspace; -1 and a number for a counter of the host.
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* name = nullptr;
  cuGetErrorName(result, &name);
  std::fprintf(stderr, "\n%s: %s\n", what, name == nullptr ? "unknown error" : name);
  std::exit(3);
}

#define CHECK(call) check(call, #call)

std::vector<char> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

template <class T> T next(std::istream& plan) {
  T value{};
  if (!(plan >> value)) std::abort();
  return value;
}

CUdeviceptr allocate(std::size_t size) {
  CUdeviceptr address = 0;
  if (size == 0) return address;
  CHECK(cuMemAlloc(&address, size));
  CHECK(cuMemsetD8(address, 0xff, size));
  return address;
}

struct Launch {
  CUfunction kernel = nullptr;
  unsigned groups = 0, threads = 0;
  std::vector<void*> arguments;
};

class Program {
 public:
  Program(CUmodule module, std::FILE* in, std::FILE* out) : module_(module), in_(in), out_(out) {}

  void run(std::istream& plan) {
    const auto inputs = next<std::size_t>(plan), outputs = next<std::size_t>(plan);
    std::vector<std::size_t> sizes(inputs + outputs + 1);
    std::vector<CUdeviceptr> arrays(sizes.size());
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      sizes[k] = next<std::size_t>(plan);
      arrays[k] = allocate(sizes[k]);
    }
    std::vector<char> bytes;
    for (std::size_t k = 0; k < inputs; ++k) {
      bytes.resize(sizes[k]);
      if (std::fread(bytes.data(), 1, sizes[k], in_) != sizes[k]) std::abort();
      if (sizes[k] != 0) CHECK(cuMemcpyHtoD(arrays[k], bytes.data(), sizes[k]));
    }
    std::vector<Launch> launches(next<std::size_t>(plan));
    std::deque<int> counters;
    for (Launch& launch : launches) {
      CHECK(cuModuleGetFunction(&launch.kernel, module_, next<std::string>(plan).c_str()));
      launch.groups = next<unsigned>(plan);
      launch.threads = next<unsigned>(plan);
      launch.arguments.resize(next<std::size_t>(plan));
      for (void*& argument : launch.arguments) {
        const auto array = next<long>(plan);
        if (array >= 0) {
          argument = &arrays.at(static_cast<std::size_t>(array));
        } else {
          counters.push_back(next<int>(plan));
          argument = &counters.back();
        }
      }
    }
    for (int time = 0; time < 2; ++time) {
      CHECK(cuCtxSynchronize());
      for (Launch& launch : launches) {
        CHECK(cuLaunchKernel(launch.kernel, launch.groups, 1, 1, launch.threads, 1, 1, 0, nullptr,
                             launch.arguments.data(), nullptr));
      }
      CHECK(cuCtxSynchronize());
      for (std::size_t k = inputs; k < inputs + outputs; ++k) {
        bytes.resize(sizes[k]);
        if (sizes[k] != 0) CHECK(cuMemcpyDtoH(bytes.data(), arrays[k], sizes[k]));
        if (std::fwrite(bytes.data(), 1, sizes[k], out_) != sizes[k]) std::abort();
      }
    }
    for (const CUdeviceptr array : arrays) {
      if (array != 0) CHECK(cuMemFree(array));
    }
  }

 private:
  CUmodule module_;
  std::FILE *in_, *out_;
};

}  // namespace

int main(int, char** argv) {
  const std::vector<char> code = read(argv[1]);
  std::ifstream plan(argv[2]);
  std::FILE* const in = std::fopen(argv[3], "rb");
  std::FILE* const out = std::fopen(argv[4], "wb");
  if (code.empty() || in == nullptr || out == nullptr) return 2;
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CHECK(cuInit(0));
  CHECK(cuDeviceGet(&device, 0));
  CHECK(cuDevicePrimaryCtxRetain(&context, device));
  CHECK(cuCtxSetCurrent(context));
  CHECK(cuModuleLoadData(&module, code.data()));
  Program program(module, in, out);
  std::string name;
  while (plan >> name) {
    std::fprintf(stderr, "running %s\n", name.c_str());
    program.run(plan);
  }
  std::fprintf(stderr, "done\n");
  CHECK(cuModuleUnload(module));
  CHECK(cuDevicePrimaryCtxRelease(device));
  return std::fclose(out) == 0 && std::fclose(in) == 0 ? 0 : 2;
}
