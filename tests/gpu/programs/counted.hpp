// What the program has taken from the heap outside of driver and compiler, and what is alive.
#pragma once

namespace counted {

long allocations();
void print_live();

}  // namespace counted
