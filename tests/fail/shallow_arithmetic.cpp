// expect: polymac: an atom must not take more k in a step than max_depth allows
// Sums of this arithmetic overflow before one product is in: no atom can run it.
#include <polymac/polymac.hpp>

#include <cstdint>
#include <vector>

struct overflowing : polymac::mac::int8 {
  static constexpr std::size_t max_depth = 0;
};

auto layer = polymac::linear<overflowing, polymac::isa::scalar>(polymac::matrix_view<const std::int8_t>{},
                                                                std::vector<std::int32_t>{});
