// Another translation unit with the same module, and a second module with the same contents.
#include "copy.hpp"
#include "plant.hpp"

#include <cmath>
#include <vector>

double product_from_elsewhere(double a, double b);

// An element of a product of matrices full of `a` and `b`, once from each module: atanh undoes tanh.
double product_from_elsewhere(double a, double b) {
  namespace first = plant::product;
  namespace second = copy::product;
  const std::vector<double> left(first::IN0_t::size, a), right(first::IN1_t::size, b);
  std::vector<double> one(first::OUT0_t::size), two(first::OUT0_t::size);
  const auto first_ws = first::init_ws();
  const auto second_ws = second::init_ws();
  const bool right_result =
      first::call(first::IN0_t{left.data()}, first::IN1_t{right.data()}, first::OUT0_t{one.data()},
                  first_ws) &&
      second::call(second::IN0_t{left.data()}, second::IN1_t{right.data()},
                   second::OUT0_t{two.data()}, second_ws);
  return right_result && one == two ? std::atanh(one[0]) : 0.0;
}
