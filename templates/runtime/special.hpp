#pragma once

// All of the special functions; a module that needs one family names its header alone.

#include "bessel.hpp"
#include "erf_inv.hpp"
#include "gamma.hpp"
