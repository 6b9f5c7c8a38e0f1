// expect: polymac: C++20 is needed
// flags: -std=c++17
#include <polymac/core/config.hpp>
