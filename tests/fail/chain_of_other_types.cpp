// expect: polymac: chain: each layer must take the type that the one before it gives
#include <polymac/model/chain.hpp>
#include <polymac/polymac.hpp>

#include <vector>

int main() {
  using namespace polymac;
  const std::vector<std::int8_t> w(9);
  const std::vector<std::int32_t> bias(1);
  const auto raw = conv2d<mac::int8>({}, image_view<const std::int8_t>(w.data(), 1, 3, 3, 1), bias);  // gives sums
  const auto c = chain<policy::patch<2>>({8, 8}, raw, raw);
  return static_cast<int>(c.tiles());
}
