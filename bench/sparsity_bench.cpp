// SPDX-License-Identifier: MIT
// Sparse weights against polymac's own dense kernel, one thread, int8 to raw sums:
//
//   sparse/int8/<policy>/<work>
//
// policy: dense; dense_vector (the same without matrix registers); nm_N_M and nm_N_M_tile, the kernel for such weights
// whatever is predicted; with _auto what the library chooses; block_25 and block_25_16, a quarter of the blocks of 4 x 32
// and of 4 x 16; list_dense, a list of all blocks. Of the one row, whose time is that of reading the weights,
// places are packed. GMAC counts what a dense product would multiply.
//
// Counter x_dense: time of the dense kernel on the same weights / time of this one, the median of nine pairs, of medians
// of nine calls each.
#include "bench/paired.hpp"
#include "bench/problem.hpp"
#include "bench/report.hpp"
#include "bench/sparsity_pixels.hpp"
#include "bench/sparsity_streams.hpp"

#include "polymac/sparsity.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace {

namespace pm = polymac;
namespace policy = polymac::policy;
using policy::positions;
using policy::share;

struct work {
  const char* name;
  std::size_t rows, columns, depth;  ///< of the product
  std::size_t side = 0;              ///< of an image: a convolution of 3 x 3, one pixel of padding; 0: none
  std::size_t channels() const { return side > 0 ? depth / 9 : depth; }
  /// Products with padding do not count.
  double macs() const {
    const auto taps = static_cast<double>(side > 0 ? 9 * side * side - 12 * side + 4 : rows);
    return taps * static_cast<double>(columns * channels());
  }
};
constexpr work gemm{"gemm_784x256x2304", 784, 256, 2304};
constexpr work convolution{"conv_28x28x128", 784, 128, 1152, 28};
constexpr work row{"row_1x4096x4096", 1, 4096, 4096};

/// 25 % of the blocks of 4 x 32, a register tile's columns; and a list of all blocks.
using quarter_of_blocks = policy::block_list<1, 32>;

/// Weights as W's policy has them, multiplied by a layer with the policy P on the instruction set I.
template <class W, class P, class I>
class product {
 public:
  explicit product(const work& w)
      : work_(w), x_(w.side > 0 ? w.side * w.side * w.channels() : w.rows * w.depth), y_(w.rows * w.columns) {
    std::vector<std::int8_t> weights(w.columns * w.depth);
    std::uint32_t state = 1;
    const auto next = [&] { return static_cast<std::int8_t>((state = state * 1664525u + 1013904223u) >> 24); };
    for (auto& v : x_) v = next();
    for (auto& v : weights) v = next();
    const std::vector<std::int32_t> bias(w.columns, 7);
    if (w.side > 0) {
      const pm::image_view<std::int8_t> view(weights.data(), w.columns, 3, 3, w.channels());
      prune(view);
      conv_ = std::make_unique<conv>(pm::conv2d<pm::mac::int8, P, I>({.padding = pm::same}, view, bias));
      memory_.resize(conv_->workspace_bytes({w.side, w.side}));
    } else {
      const pm::matrix_view<std::int8_t> view(weights.data(), w.columns, w.depth);
      prune(view);
      linear_ = std::make_unique<linear>(pm::linear<pm::mac::int8, P, I>(view, bias));
    }
  }
  void operator()() {
    const std::size_t side = work_.side;
    ok_ = side > 0 ? (*conv_)({x_.data(), 1, side, side, work_.channels()}, {y_.data(), 1, side, side, work_.columns},
                              pm::workspace(memory_))
                         .ok()
                   : (*linear_)({x_.data(), work_.rows, work_.depth}, {y_.data(), work_.rows, work_.columns}).ok();
  }
  bool ok() const { return ok_; }
  const auto& sums() const { return y_; }
  std::size_t weight_bytes() const { return conv_ ? conv_->weight_bytes() : linear_->weight_bytes(); }
  std::string label() const { return conv_ ? conv_->explain().c_str() : linear_->explain().c_str(); }

 private:
  template <class View>
  static void prune(const View& weights) {
    if constexpr (requires { W::channels; })
      policy::prune<W>(weights, 0.25);
    else if constexpr (!std::is_same_v<W, policy::dense>)
      policy::prune<W>(weights);
  }
  using conv = decltype(pm::conv2d<pm::mac::int8, P, I>({}, pm::image_view<std::int8_t>(), std::vector<int>()));
  using linear = decltype(pm::linear<pm::mac::int8, P, I>(pm::matrix_view<std::int8_t>(), std::vector<int>()));
  work work_;
  std::vector<std::int8_t> x_;
  std::vector<std::int32_t> y_;
  std::vector<std::byte> memory_;
  std::unique_ptr<conv> conv_;
  std::unique_ptr<linear> linear_;
  bool ok_ = false;
};

template <class W, class P, class I = pm::isa::native>
void add(const std::string& name, const work& w) {
  benchmark::RegisterBenchmark(("sparse/int8/" + name + "/" + w.name).c_str(), [w](benchmark::State& state) {
    product<W, P, I> ours(w);
    product<W, policy::dense, pm::isa::native> dense(w);
    ours();
    dense();
    if (!ours.ok() || !dense.ok() || ours.sums() != dense.sums())
      return state.SkipWithError("its sums are not those of the dense kernel");
    state.counters["x_dense"] = bench::times_as_fast(dense, ours);
    const auto bytes = static_cast<double>(ours.weight_bytes() + w.rows * (w.depth + 4 * w.columns));
    const std::size_t of_memory = w.rows < 16 ? ours.weight_bytes() : 0;
    bench::run(state, {bench::arithmetic::int8, w.macs(), bytes, of_memory}, ours.label(), ours);
  });
}

template <std::size_t N, std::size_t M>
void add_pattern() {
  const std::string name = "nm_" + std::to_string(N) + "_" + std::to_string(M);
  using bytes = policy::n_of_m<N, M>;
  using packed = policy::n_of_m<N, M, share::column, positions::packed>;
  for (const work& w : {gemm, convolution}) {
    add<bytes, policy::always<bytes>>(name, w);
    add<bytes, bytes>(name + "_auto", w);
  }
  add<packed, policy::always<packed>>(name, row);
  add<packed, packed>(name + "_auto", row);
}

template <std::size_t N, std::size_t M>
void add_shared() {
  const std::string name = "nm_" + std::to_string(N) + "_" + std::to_string(M) + "_tile";
  using tile = policy::n_of_m<N, M, share::tile>;
  for (const work& w : {gemm, convolution, row}) {
    add<tile, policy::always<tile>>(name, w);
    add<tile, tile>(name + "_auto", w);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const work& w : {gemm, convolution, row}) {
    add<policy::dense, policy::dense>("dense", w);
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    add<policy::dense, policy::dense, pm::isa::avx512_vnni>("dense_vector", w);
#else
    add<policy::dense, policy::dense>("dense_vector", w);
#endif
  }
  add_pattern<2, 4>();
  add_pattern<1, 4>();
  add_pattern<2, 8>();
  add_pattern<1, 8>();
  add_pattern<1, 16>();
  add_shared<2, 4>();
  for (const work& w : {gemm, convolution, row}) {
    add<quarter_of_blocks, quarter_of_blocks>("block_25", w);
    add<policy::block_list<1, 16>, policy::block_list<1, 16>>("block_25_16", w);
    add<policy::dense, quarter_of_blocks>("list_dense", w);
  }
  bench::add_streams();
  bench::add_pixels();
  return bench::run_all(argc, argv);
}
