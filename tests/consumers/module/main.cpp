// What a user's controller does with a generated module: two threads, one workspace each, no
// allocation inside the loop.
#include <robot.hpp>

#include <cmath>
#include <cstdio>
#include <thread>

namespace {

// Rolls the model out; returns the energy at the end.
double roll_out(double force) {
    namespace step = robot::step;
    namespace energy = robot::energy;
    auto step_ws = step::init_ws();
    auto energy_ws = energy::init_ws();

    double pos[2] = {0.0, 1.0};
    double vel[2] = {0.5, 0.0};
    double next_pos[2];
    double next_vel[2];
    for (int k = 0; k < robot::N; ++k) {
        step::call(step::IN0_t{pos}, step::IN1_t{vel}, step::IN2_t{&force}, step::OUT0_t{next_pos},
                   step::OUT1_t{next_vel}, step_ws);
        for (int i = 0; i < 2; ++i) {
            pos[i] = next_pos[i];
            vel[i] = next_vel[i];
        }
    }
    double result = 0.0;
    energy::call(energy::IN0_t{pos}, energy::IN1_t{vel}, energy::OUT0_t{&result}, energy_ws);
    step_ws.free();
    energy_ws.free();
    return result;
}

}  // namespace

int main() {
    static_assert(robot::step::IN2_t::is_scalar);
    double other = 0.0;
    std::thread thread([&other] { other = roll_out(1.0); });
    const double first = roll_out(0.25);
    thread.join();
    std::printf("%.17g %.17g\n", first, other);
    return 0;
}
