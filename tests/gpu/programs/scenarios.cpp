// What a program does with a generated module beyond calling it: `scenarios <name>` prints what
// happens. plant.hpp is the module of tests/gpu/plant.py; second.cpp uses it as well.
#include "plant.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "counted.hpp"

double product_from_elsewhere(double a, double b);

namespace {

namespace newton = plant::newton;
namespace product = plant::product;

using Values = std::array<double, 5>;
constexpr Values kSquares{4.0, 9.0, 16.0, 25.0, 2.25};

void print(const char* what, const plant::Status& status) {
  std::printf("%s %s\n", what, status ? "ok" : status.text());
}

// Square roots by `call`.
plant::Status roots(const Values& squares, const newton::WS_t& ws, Values& out) {
  std::int64_t steps = 0;
  return newton::call(newton::IN0_t{squares.data()}, newton::OUT0_t{out.data()},
                      newton::OUT1_t{&steps}, ws);
}

bool are_roots(const Values& squares, const Values& out) {
  for (std::size_t k = 0; k < out.size(); ++k) {
    if (!(std::fabs(out[k] * out[k] - squares[k]) < 1e-8)) return false;
  }
  return true;
}

// Memory for a call of `newton` on the device, in the primary context, and a stream.
struct OnDevice {
  CUcontext context = nullptr;
  CUdeviceptr x = 0, root = 0, steps = 0;
  CUstream stream = nullptr;

  OnDevice() {
    cuInit(0);
    cuDevicePrimaryCtxRetain(&context, 0);
    cuCtxPushCurrent(context);
    cuMemAlloc(&x, sizeof(Values));
    cuMemAlloc(&root, sizeof(Values));
    cuMemAlloc(&steps, sizeof(std::int64_t));
    cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
    set(kSquares);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() {
    cuStreamSynchronize(stream);
    cuStreamDestroy(stream);
    for (const CUdeviceptr address : {x, root, steps}) cuMemFree(address);
    CUcontext popped = nullptr;
    cuCtxPopCurrent(&popped);
    cuDevicePrimaryCtxRelease(0);
  }
  void set(const Values& squares) const { cuMemcpyHtoD(x, squares.data(), sizeof(Values)); }
  Values get() const {
    Values out{};
    cuMemcpyDtoH(out.data(), root, sizeof(Values));
    return out;
  }
  plant::Status call(const newton::WS_t& ws) const {
    return newton::call_device(newton::IN0_t{reinterpret_cast<const double*>(x)},
                               newton::OUT0_t{reinterpret_cast<double*>(root)},
                               newton::OUT1_t{reinterpret_cast<std::int64_t*>(steps)}, ws, stream);
  }
};

// ---- scenarios ----

// `call_device` returns before anything is computed.
void stream() {
  const OnDevice memory;
  const auto ws = newton::init_ws();
  print("call_device", memory.call(ws));
  std::printf("before %d\n", are_roots(kSquares, memory.get()));
  cuStreamSynchronize(memory.stream);
  std::printf("after %d\n", are_roots(kSquares, memory.get()));
}

void graph() {
  const OnDevice memory;
  const auto ws = newton::init_ws();
  CUgraph recorded = nullptr;
  CUgraphExec executable = nullptr;
  cuStreamBeginCapture(memory.stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
  print("captured", memory.call(ws));
  std::printf("ended %d\n", cuStreamEndCapture(memory.stream, &recorded));
  std::printf("instantiated %d\n", cuGraphInstantiate(&executable, recorded, 0));
  for (const double scale : {1.0, 4.0, 0.25}) {
    Values squares = kSquares;
    for (double& value : squares) value *= scale;
    memory.set(squares);
    cuGraphLaunch(executable, memory.stream);
    cuStreamSynchronize(memory.stream);
    std::printf("replayed %d\n", are_roots(squares, memory.get()));
  }
  cuGraphExecDestroy(executable);
  cuGraphDestroy(recorded);
}

// Workspaces that cannot be used say so.
void stale() {
  Values out{};
  const auto everything = [&](const char* what, const newton::WS_t& ws) {
    std::printf("%s: usable %d stream %d\n", what, static_cast<bool>(ws), ws.stream() != nullptr);
    print(" call", roots(kSquares, ws, out));
    print(" call_device", newton::call_device({}, {}, {}, ws, nullptr));
  };
  newton::WS_t made;
  everything("default", made);
  made = newton::init_ws();
  everything("other device", newton::init_ws(7));
  newton::WS_t moved = std::move(made);
  everything("moved from", made);
  std::printf("moved to: usable %d correct %d\n", static_cast<bool>(moved),
              roots(kSquares, moved, out) && are_roots(kSquares, out));
  made = std::move(moved);
  everything("assigned from", moved);
  newton::WS_t& same = made;
  made = std::move(same);
  print("assigned to itself", roots(kSquares, made, out));
  made.free();
  everything("freed", made);
  made.free();
  made = newton::init_ws();
  print("again", roots(kSquares, made, out));
}

void threads() {
  std::array<int, 2> right{};
  const auto work = [](double scale, int& count) {
    const auto ws = newton::init_ws();
    Values squares = kSquares, out{};
    for (int k = 0; k < 50; ++k) {
      for (double& value : squares) value *= scale;
      if (roots(squares, ws, out) && are_roots(squares, out)) ++count;
    }
  };
  std::thread first(work, 1.01, std::ref(right[0]));
  std::thread second(work, 0.99, std::ref(right[1]));
  first.join();
  second.join();
  std::printf("right %d %d\n", right[0], right[1]);
}

// One workspace from beginning to end, where the environment makes a call fail; then another one.
void failures() {
  static std::vector<double> a(product::IN0_t::size, 0.5), b(product::IN1_t::size, 0.25);
  static std::vector<double> out(product::OUT0_t::size);
  for (const char* which : {"first", "second"}) {
    std::printf("%s\n", which);
    OnDevice* const memory = std::strcmp(which, "second") == 0 ? new OnDevice : nullptr;
    auto ws = product::init_ws();
    print(" init", ws.status());
    for (int k = 0; k < 2; ++k) {
      print(" call", product::call(product::IN0_t{a.data()}, product::IN1_t{b.data()},
                                   product::OUT0_t{out.data()}, ws));
    }
    if (ws) std::printf(" result %d\n", std::fabs(out[0] - std::tanh(33 * 0.125)) < 1e-12);
    ws.free();
    delete memory;
  }
}

// Nothing is taken from the heap once a workspace is there.
void quiet() {
  const OnDevice memory;
  const auto ws = newton::init_ws();
  print("call_device", memory.call(ws));
  Values out{};
  print("call", roots(kSquares, ws, out));
  const long before = counted::allocations();
  bool right = true;
  for (int k = 0; k < 10; ++k) right &= static_cast<bool>(memory.call(ws));
  for (int k = 0; k < 10; ++k) right &= static_cast<bool>(roots(kSquares, ws, out));
  const long after = counted::allocations();
  std::printf("right %d allocations %ld\n", right, after - before);
  const auto* const proof = new std::string(100, 'x');  // that they are counted at all
  std::printf("counted %d\n", counted::allocations() > after);
  delete proof;
}

void twice() {
  std::printf("elsewhere %d\n", std::fabs(product_from_elsewhere(0.5, 0.25) - 4.125) < 1e-9);
  Values out{};
  print("here", roots(kSquares, newton::init_ws(), out));
}

}  // namespace

int main(int, char** argv) {
  const std::string name = argv[1];
  const std::pair<const char*, void (*)()> all[] = {
      {"stream", stream},     {"graph", graph}, {"stale", stale}, {"threads", threads},
      {"failures", failures}, {"quiet", quiet}, {"twice", twice}};
  for (const auto& [known, scenario] : all) {
    if (name == known) scenario();
  }
  counted::print_live();
}
