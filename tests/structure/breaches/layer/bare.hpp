// No licence line, and the guard is missing.
#include "polymac/core/view.hpp"
