// expect: polymac: this chain of dynamic fixed point can overflow
// 33 products of 8191 x 8191 are more than 32 bits hold; whoever wants that says mac::dfp_statistical.
#include <polymac/mac/dfp.hpp>

#include <cstdint>

constexpr auto chain = polymac::mac::dfp<std::int16_t, 2, 33>::chain;
