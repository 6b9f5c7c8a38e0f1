// expect: polymac: codes have 1, 2, 3, 4 or 8 bits
#include <polymac/mac/bit_weights.hpp>

constexpr auto name = polymac::mac::bit_weights<5>::name;
