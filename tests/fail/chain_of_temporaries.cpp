// expect: polymac: chain: it refers to its layers, which must outlive it
#include <polymac/model/chain.hpp>
#include <polymac/polymac.hpp>

#include <vector>

int main() {
  using namespace polymac;
  const std::vector<std::int8_t> w(9);
  const image_view<const std::int8_t> filter(w.data(), 1, 3, 3, 1);
  const auto c = chain<policy::patch<2>>({8, 8}, conv2d<mac::int8>({}, filter, std::vector<std::int32_t>(1)));
  return static_cast<int>(c.tiles());
}
