// expect: polymac: dynamic fixed point is stored in std::int8_t or std::int16_t
#include <polymac/mac/dfp.hpp>

#include <cstdint>

constexpr auto chain = polymac::mac::dfp<std::int32_t, 2, 1>::chain;
