#pragma once

// All of the dense linear algebra; a module that needs one family names its header alone.

#include "cholesky.hpp"
#include "eigen.hpp"
#include "lu.hpp"
#include "qr.hpp"
#include "triangular.hpp"
