// expect: polymac: weights share a scale in groups of 32, 64 or 128
#include <polymac/mac/bit_weights.hpp>

constexpr auto name = polymac::mac::bit_weights<4, polymac::digits::naf, 48>::name;
