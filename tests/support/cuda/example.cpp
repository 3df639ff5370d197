// A host program of tests/gpu/test_emulation.py: compiled against NVIDIA's headers, it runs one
// case by name and prints what it sees. Nothing in it knows the emulator except `leaks`, so that
// it can also be linked to the real libraries.
#include <cuda.h>
#include <dlfcn.h>
#include <nvrtc.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

const char* name_of(CUresult result) {
  const char* name = nullptr;
  return cuGetErrorName(result, &name) == CUDA_SUCCESS ? name : "unnamed";
}

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  std::printf("failed: %s: %s\n", what, name_of(result));
  std::exit(3);
}
#define CHECK(call) check(call, #call)
// Prints the code that a call gives.
#define SHOW(call) std::printf("%s %s\n", name_of(call), #call)

struct Compiled {
  nvrtcResult result;
  std::string log;
  std::vector<char> cubin, ptx;
};

Compiled compile(const std::string& source, const std::vector<const char*>& options) {
  Compiled out;
  nvrtcProgram program = nullptr;
  nvrtcCreateProgram(&program, source.c_str(), "kernels.cu", 0, nullptr, nullptr);
  out.result = nvrtcCompileProgram(program, static_cast<int>(options.size()), options.data());
  std::size_t size = 0;
  nvrtcGetProgramLogSize(program, &size);
  std::vector<char> log(size);
  nvrtcGetProgramLog(program, log.data());
  out.log = log.data();
  nvrtcGetCUBINSize(program, &size);
  out.cubin.resize(size);
  if (size != 0) nvrtcGetCUBIN(program, out.cubin.data());
  nvrtcGetPTXSize(program, &size);
  out.ptx.resize(size);
  if (size > 1) nvrtcGetPTX(program, out.ptx.data());
  nvrtcDestroyProgram(&program);
  return out;
}

std::string read(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

CUcontext begin() {
  CHECK(cuInit(0));
  CUdevice device = 0;
  CHECK(cuDeviceGet(&device, 0));
  CUcontext context = nullptr;
  CHECK(cuDevicePrimaryCtxRetain(&context, device));
  CHECK(cuCtxPushCurrent(context));
  return context;
}

CUmodule load(const char* path) {
  const Compiled compiled =
      compile(read(path), {"--gpu-architecture=compute_80", "--std=c++17", "-default-device"});
  if (compiled.result != NVRTC_SUCCESS) {
    std::printf("failed: %s\n%s", nvrtcGetErrorString(compiled.result), compiled.log.c_str());
    std::exit(3);
  }
  CUmodule module = nullptr;
  CHECK(cuModuleLoadData(&module, compiled.ptx.data()));
  return module;
}

CUfunction get(CUmodule module, const char* name) {
  CUfunction function = nullptr;
  CHECK(cuModuleGetFunction(&function, module, name));
  return function;
}

constexpr unsigned kThreads = 64;
constexpr int kCount = 500;
constexpr unsigned kBlocks = (kCount + kThreads - 1) / kThreads;

struct Vectors {
  CUdeviceptr x = 0, y = 0;
  std::vector<double> host = std::vector<double>(kCount);
  int count = kCount;

  Vectors() {
    for (int k = 0; k < kCount; ++k) host[static_cast<std::size_t>(k)] = 0.5 * k;
    CHECK(cuMemAlloc(&x, kCount * sizeof(double)));
    CHECK(cuMemAlloc(&y, kCount * sizeof(double)));
    CHECK(cuMemcpyHtoD(x, host.data(), kCount * sizeof(double)));
  }
  void free() {
    CHECK(cuMemFree(x));
    CHECK(cuMemFree(y));
  }
  // Launches `kernel(x, y, count)`.
  CUresult launch(CUfunction kernel, CUstream stream = nullptr, unsigned shared = 0) {
    void* parameters[] = {&x, &y, &count};
    return cuLaunchKernel(kernel, kBlocks, 1, 1, kThreads, 1, 1, shared, stream, parameters,
                          nullptr);
  }
  double sum(int n) {
    std::vector<double> out(static_cast<std::size_t>(n));
    CHECK(cuMemcpyDtoH(out.data(), y, out.size() * sizeof(double)));
    double total = 0;
    for (const double value : out) total += value;
    return total;
  }
};

void end(CUmodule module) {
  CHECK(cuModuleUnload(module));
  CHECK(cuDevicePrimaryCtxRelease(0));
}

// One launch of the named kernel; prints the sum of `count` outputs.
void case_launch(const char* path, const char* kernel, int count, unsigned shared = 0) {
  begin();
  CUmodule module = load(path);
  Vectors v;
  CHECK(v.launch(get(module, kernel), nullptr, shared));
  CHECK(cuCtxSynchronize());
  std::printf("%.17g\n", v.sum(count));
  v.free();
  end(module);
}

void case_refusals(const char* path) {
  CUdeviceptr p = 0, q = 0;
  SHOW(cuMemAlloc(&p, 8));
  CHECK(cuInit(0));
  SHOW(cuMemAlloc(&p, 8));
  begin();
  CUmodule module = load(path);
  CUfunction scale = get(module, "scale");
  CUfunction other = nullptr;
  double host[4] = {1, 2, 3, 4};
  CHECK(cuMemAlloc(&p, sizeof host));
  CHECK(cuMemAlloc(&q, sizeof host));
  SHOW(cuMemAlloc(&q, 0));
  SHOW(cuMemcpyHtoD(reinterpret_cast<CUdeviceptr>(host), host, sizeof host));
  SHOW(cuMemcpyHtoD(p, host, sizeof host));
  SHOW(cuModuleGetFunction(&other, module, "missing"));
  SHOW(cuModuleLoadData(&module, "no image"));
  int n = 4;
  void* parameters[] = {&p, &q, &n};
  SHOW(cuLaunchKernel(scale, 0, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
  SHOW(cuLaunchKernel(scale, 1, 70000, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
  SHOW(cuLaunchKernel(scale, 1, 1, 1, 1025, 1, 1, 0, nullptr, parameters, nullptr));
  SHOW(cuLaunchKernel(scale, 1, 1, 1, 32, 33, 1, 0, nullptr, parameters, nullptr));
  SHOW(cuLaunchKernel(scale, 1, 1, 1, 1, 1, 65, 0, nullptr, parameters, nullptr));
  SHOW(cuLaunchKernel(scale, 1, 1, 1, 1, 1, 1, 1 << 20, nullptr, parameters, nullptr));
  SHOW(cuLaunchKernel(scale, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  SHOW(cuLaunchKernel(get(module, "bounded"), 1, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
  SHOW(cuCtxSynchronize());
  SHOW(cuMemFree(p));
  SHOW(cuMemFree(p));
  SHOW(cuMemFree(0));
}

// What a real driver cannot be asked without harm.
void case_strict(const char* path) {
  begin();
  CUmodule module = load(path);
  CUdeviceptr p = 0;
  double host[4] = {1, 2, 3, 4};
  CHECK(cuMemAlloc(&p, sizeof host));
  SHOW(cuMemcpyHtoD(p, reinterpret_cast<void*>(p), 8));
  SHOW(cuMemcpyHtoD(p + 8, host, sizeof host));
  SHOW(cuMemcpyDtoH(host, p + 40, 8));
  SHOW(cuMemFree(p + 8));
  SHOW(cuStreamSynchronize(reinterpret_cast<CUstream>(host)));
  double* wrong = host;
  int n = 4;
  void* parameters[] = {&wrong, &p, &n};
  CUfunction scale = get(module, "scale");
  SHOW(cuLaunchKernel(scale, 1, 1, 1, 4, 1, 1, 0, nullptr, parameters, nullptr));
  SHOW(cuCtxSynchronize());
  SHOW(cuMemFree(p));
}

void case_stream(const char* path) {
  begin();
  CUmodule module = load(path);
  Vectors v;
  CUstream stream = nullptr;
  CUevent event = nullptr;
  void* pinned = nullptr;
  CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CHECK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  CHECK(cuMemHostAlloc(&pinned, kCount * sizeof(double), 0));
  std::memset(pinned, 0, kCount * sizeof(double));
  const double* out = static_cast<const double*>(pinned);
  CHECK(v.launch(get(module, "scale"), stream));
  CHECK(cuMemcpyDtoHAsync(pinned, v.y, kCount * sizeof(double), stream));
  CHECK(cuEventRecord(event, stream));
  std::printf("before %g\n", out[10]);
  CHECK(cuEventSynchronize(event));
  std::printf("after %g\n", out[10]);
  CHECK(cuEventDestroy(event));
  CHECK(cuStreamDestroy(stream));
  CHECK(cuMemFreeHost(pinned));
  v.free();
  end(module);
}

void case_graph(const char* path) {
  begin();
  CUmodule module = load(path);
  CUfunction scale = get(module, "scale"), add = get(module, "add_to");
  Vectors v;
  CUstream stream = nullptr;
  CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECK(v.launch(scale, stream));
  CHECK(v.launch(add, stream));
  const int kept = v.count;
  v.count = 0;  // the graph holds a copy
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  CHECK(cuStreamEndCapture(stream, &graph));
  v.count = kept;
  CHECK(cuMemsetD8(v.y, 0, kCount * sizeof(double)));
  std::printf("captured only %g\n", v.sum(kCount));
  CHECK(cuGraphInstantiate(&executable, graph, 0));
  CHECK(cuGraphDestroy(graph));
  CHECK(cuGraphLaunch(executable, stream));
  CHECK(cuStreamSynchronize(stream));
  std::printf("first %g\n", v.sum(kCount));
  for (double& value : v.host) value = 1;
  CHECK(cuMemcpyHtoD(v.x, v.host.data(), kCount * sizeof(double)));
  CHECK(cuGraphLaunch(executable, stream));
  CHECK(cuStreamSynchronize(stream));
  std::printf("second %g\n", v.sum(kCount));
  CHECK(cuGraphExecDestroy(executable));

  CUdeviceptr p = 0;
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  SHOW(cuStreamSynchronize(stream));
  SHOW(cuStreamEndCapture(stream, &graph));
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  SHOW(cuMemAlloc(&p, 8));
  SHOW(v.launch(scale, stream));
  SHOW(cuStreamEndCapture(stream, &graph));
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  SHOW(cuMemcpyDtoH(v.host.data(), v.x, 8));
  SHOW(cuStreamEndCapture(stream, &graph));
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  SHOW(cuCtxSynchronize());
  SHOW(cuStreamEndCapture(stream, &graph));
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  SHOW(cuMemAlloc(&p, 8));
  SHOW(cuMemcpyDtoH(v.host.data(), v.x, 8));
  SHOW(cuMemFree(p));
  SHOW(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  SHOW(cuStreamEndCapture(stream, &graph));
  CHECK(cuGraphDestroy(graph));
  SHOW(cuStreamEndCapture(stream, &graph));
  SHOW(cuStreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED));
  CHECK(cuStreamDestroy(stream));
  CHECK(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  SHOW(v.launch(scale));
  SHOW(cuStreamEndCapture(stream, &graph));
  CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  SHOW(cuMemcpyDtoH(v.host.data(), v.x, 8));
  SHOW(cuStreamEndCapture(stream, &graph));
  CHECK(cuStreamDestroy(stream));
  v.free();
  end(module);
}

void case_global(const char* path) {
  begin();
  CUmodule module = load(path);
  for (const char* name : {"table", "counter"}) {
    CUdeviceptr address = 0;
    std::size_t size = 0;
    CHECK(cuModuleGetGlobal(&address, &size, module, name));
    std::vector<double> values(size / sizeof(double), 2.0);
    CHECK(cuMemcpyHtoD(address, values.data(), size));
    std::printf("%s %zu\n", name, size);
  }
  CUdeviceptr address = 0;
  SHOW(cuModuleGetGlobal(&address, nullptr, module, "printf"));
  Vectors v;
  CHECK(v.launch(get(module, "use_table")));
  std::printf("%g\n", v.sum(kCount));
  v.free();
  end(module);
}

void case_compile(const char* path, int count, char** words) {
  const Compiled compiled =
      compile(read(path), std::vector<const char*>(words, words + count));
  std::printf("%s\ncubin %d ptx %d\n%s", nvrtcGetErrorString(compiled.result),
              !compiled.cubin.empty(), compiled.ptx.size() > 1, compiled.log.c_str());
  if (compiled.cubin.empty()) return;
  begin();
  CUmodule module = nullptr;
  std::printf("load %s\n", name_of(cuModuleLoadData(&module, compiled.cubin.data())));
}

// Leaves one of each behind, then frees all but the allocation.
void case_leaks(const char* path) {
  begin();
  CUmodule module = load(path);
  CUstream stream = nullptr;
  CUdeviceptr p = 0;
  CHECK(cuMemAlloc(&p, 8));
  CHECK(cuStreamCreate(&stream, 0));
  auto show = [] {
    for (const char* name : {"allocations", "modules", "streams"}) {
      void* found = dlsym(RTLD_DEFAULT, (std::string("anvil_emulated_live_") + name).c_str());
      std::printf("%d ", reinterpret_cast<int (*)()>(found)());
    }
    auto* calls = reinterpret_cast<int (*)(const char*)>(dlsym(RTLD_DEFAULT, "anvil_emulated_calls"));
    std::printf("calls %d\n", calls("cuMemAlloc"));
  };
  show();
  CHECK(cuStreamDestroy(stream));
  end(module);
  show();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string name = argv[1];
  const char* path = argv[2];
  if (name == "launch") case_launch(path, argv[3], std::atoi(argv[4]), argc > 5 ? 512u : 0u);
  if (name == "refusals") case_refusals(path);
  if (name == "strict") case_strict(path);
  if (name == "stream") case_stream(path);
  if (name == "graph") case_graph(path);
  if (name == "global") case_global(path);
  if (name == "compile") case_compile(path, argc - 3, argv + 3);
  if (name == "leaks") case_leaks(path);
  return 0;
}
