// expect: polymac: two's complement needs cells of one bit
#include <polymac/mac/imc.hpp>

constexpr auto name = polymac::mac::imc<64, 8, 2>::name;
