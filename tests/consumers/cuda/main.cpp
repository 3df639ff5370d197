// One call of a function on the device.
#include <copy.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
    namespace product = copy::product;
    const std::vector<double> a(product::IN0_t::size, 0.5), b(product::IN1_t::size, 0.25);
    std::vector<double> out(product::OUT0_t::size);
    const auto ws = product::init_ws();
    const copy::Status status = product::call(product::IN0_t{a.data()}, product::IN1_t{b.data()},
                                              product::OUT0_t{out.data()}, ws);
    const bool is_right = std::fabs(out.back() - std::tanh(33 * 0.125)) < 1e-12;
    std::printf("%s\n", !status ? status.text() : is_right ? "ok" : "wrong");
    return status && is_right ? 0 : 1;
}
