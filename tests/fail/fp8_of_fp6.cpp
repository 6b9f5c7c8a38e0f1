// expect: polymac: fp8 multiplies floats of 8 bits
#include <polymac/mac/fp8.hpp>

const auto sum = polymac::mac::fp8<polymac::e3m2>::multiply_add(0.0f, {}, {});
