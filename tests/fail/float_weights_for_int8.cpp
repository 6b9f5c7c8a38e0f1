// expect: polymac: give an arithmetic with integer sums weights of an integer type
#include <polymac/polymac.hpp>

#include <cstdint>
#include <vector>

auto layer = polymac::linear<polymac::mac::int8>(polymac::matrix_view<const float>{}, std::vector<std::int32_t>{});
