// What a user's program does with generated solvers: fit a model, then control it, in two threads
// with workspaces of their own. With COUNT_ALLOCATIONS (glibc) every allocation while solvers work
// is counted.
//
// Prints one line per result: its name and numbers.
#include <robot.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

namespace {
std::atomic<long> allocations{0};
}  // namespace

#ifdef COUNT_ALLOCATIONS
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) {
    ++allocations;
    return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
    ++allocations;
    return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
    ++allocations;
    return __libc_realloc(memory, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
    ++allocations;
    return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
    ++allocations;
    *memory = __libc_memalign(alignment, size);
    return *memory == nullptr ? 12 : 0;
}
}  // extern "C"
#endif

namespace {

namespace mpc = robot::mpc;
namespace fit = robot::fit;
namespace advance = robot::advance;

constexpr int steps = 5;
constexpr int stages = robot::N + 1;

static_assert(mpc::variables == 3 * stages && mpc::equalities == 2 * stages);
static_assert(mpc::inequalities == robot::N && mpc::parameters == 1 + stages);
static_assert(mpc::measured == 2);
static_assert(fit::variables == 3 && fit::equalities == 1 && fit::inequalities == 1);

// All results of one run.
struct Results {
    double status[4];
    double iterations[2];
    double x[mpc::variables], lam_eq[mpc::equalities], lam_ineq[mpc::inequalities];
    double lam_box[mpc::variables];
    double warm_x[mpc::variables];
    double states[2 * steps], inputs[steps];
    double fit_x[fit::variables], fit_lam_eq[fit::equalities], fit_lam_ineq[fit::inequalities];
    double fit_lam_box[fit::variables];
};

template <int Size>
void print(const char* name, const double (&numbers)[Size]) {
    std::printf("%s", name);
    for (const double number : numbers) std::printf(" %.17g", number);
    std::printf("\n");
}

void print(const Results& results) {
    print("status", results.status);
    print("iterations", results.iterations);
    print("x", results.x);
    print("lam_eq", results.lam_eq);
    print("lam_ineq", results.lam_ineq);
    print("lam_box", results.lam_box);
    print("warm_x", results.warm_x);
    print("states", results.states);
    print("inputs", results.inputs);
    print("fit_x", results.fit_x);
    print("fit_lam_eq", results.fit_lam_eq);
    print("fit_lam_ineq", results.fit_lam_ineq);
    print("fit_lam_box", results.fit_lam_box);
}

// Counts the iterates that a solver reports.
void count(void* context, const robot::SQPIteration*) { ++*static_cast<int*>(context); }

robot::SQPSettings precise() {
    robot::SQPSettings settings;
    settings.tolerance_stationarity = 1e-9;
    settings.tolerance_feasibility = 1e-9;
    settings.tolerance_complementarity = 1e-9;
    settings.qp_tolerance = 1e-11;
    return settings;
}

void solve(const mpc::WS_t& ws, Results& results) {
    const double start[mpc::variables] = {};
    double p[mpc::parameters];
    p[0] = 0.05;
    for (int k = 0; k < stages; ++k) p[1 + k] = 1.0;

    robot::SQPSettings settings = precise();
    robot::SQPStatistics statistics;
    int iterates = 0;
    mpc::Inputs inputs;
    inputs.x = start;
    inputs.p = p;
    const mpc::Outputs outputs{results.x, results.lam_eq, results.lam_ineq, results.lam_box};
    const auto cold = mpc::call(inputs, outputs, settings, ws, &statistics, count, &iterates);
    if (iterates != statistics.iterations + 1) std::abort();

    // Another initial state; everything else is where the last call left it.
    double right[mpc::equalities] = {0.1, -0.2};
    mpc::Inputs moved;
    moved.eq_rhs = right;
    mpc::Outputs only_x;
    only_x.x = results.warm_x;
    settings.warm_start = 1;
    const auto warm = mpc::call(moved, only_x, settings, ws);
    results.status[0] = static_cast<double>(cold);
    results.status[1] = static_cast<double>(warm);
    results.iterations[0] = statistics.iterations;
}

void control(const mpc::WS_t& ws, const advance::WS_t& model_ws, Results& results) {
    const robot::SQPSettings settings = precise();
    double state[2] = {0.1, -0.2};
    double next[2];
    double plan[mpc::variables];
    mpc::Outputs outputs;
    outputs.x = plan;
    results.status[2] = 0.0;
    for (int k = 0; k < steps; ++k) {
        const auto prepared = mpc::prepare({}, settings, ws);
        const auto status = mpc::feedback(state, outputs, ws);
        if (prepared != robot::SQPStatus::SOLVED || status != prepared) results.status[2] = 1.0;
        advance::call(advance::IN0_t{state}, advance::IN1_t{plan + 2}, advance::OUT0_t{next},
                      model_ws);
        std::memcpy(state, next, sizeof state);
        std::memcpy(results.states + 2 * k, state, sizeof state);
        results.inputs[k] = plan[2];
        mpc::shift(ws);
    }
}

void solve(const fit::WS_t& ws, Results& results) {
    const double start[fit::variables] = {};
    const double p[fit::parameters] = {10.0};
    robot::SQPStatistics statistics;
    fit::Inputs inputs;
    inputs.x = start;
    inputs.p = p;
    const fit::Outputs outputs{results.fit_x, results.fit_lam_eq, results.fit_lam_ineq,
                               results.fit_lam_box};
    const auto status = fit::call(inputs, outputs, precise(), ws, &statistics);
    results.status[3] = static_cast<double>(status);
    results.iterations[1] = statistics.iterations;
}

void run(Results& results) {
    auto controller = mpc::init_ws();
    auto fitter = fit::init_ws();
    auto model = advance::init_ws();
    if (controller.data == nullptr || fitter.data == nullptr) std::abort();
    const long before = allocations;
    solve(fitter, results);
    solve(controller, results);
    control(controller, model, results);
    if (allocations != before) std::printf("allocated %ld\n", allocations - before);
    model.free();
    fitter.free();
    controller.free();
    controller.free();  // nothing happens
}

}  // namespace

int main() {
#ifdef COUNT_ALLOCATIONS
    // That counting works: new, its aligned form, malloc.
    const long before = allocations;
    delete new std::array<double, 100>;
    ::operator delete(::operator new(100, std::align_val_t{64}), std::align_val_t{64});
    void* volatile memory = std::malloc(100);
    std::free(memory);
    if (allocations - before < 2) std::abort();
    Results results{};
    std::printf("counting\n");
    run(results);
    print(results);
#else
    Results alone{}, first{}, second{};
    run(alone);
    std::thread thread([&second] { run(second); });
    run(first);
    thread.join();
    const bool same = std::memcmp(&alone, &first, sizeof alone) == 0 &&
                      std::memcmp(&alone, &second, sizeof alone) == 0;
    std::printf("threads %d\n", same ? 1 : 0);
    print(alone);
#endif
    return 0;
}
