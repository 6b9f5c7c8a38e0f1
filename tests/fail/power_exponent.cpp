// expect: polymac: the exponent of power is a ratio from 1/8 to 8
#include <polymac/mac/power.hpp>

const auto value = polymac::mac::power<std::ratio<1, 9>>::value(1);
