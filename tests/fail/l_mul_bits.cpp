// expect: polymac: l_mul keeps 1 to 23 bits of mantissa
#include <polymac/mac/l_mul.hpp>

const auto product = polymac::mac::l_mul<24, 4>::product(1.0f, 1.0f);
