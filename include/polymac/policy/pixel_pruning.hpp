// SPDX-License-Identifier: MIT
// Pixels that are left out at random, so that an attacker who measures power or radiation does not know which products
// of the first layer were made: MACPruning (Ding, Gongye, Ranney, Ding, Fei, HOST 2025, arXiv 2502.15020).
//
//     important   # . . # . .      a map that never changes: these pixels are always on
//     drawn       . # . . . #      of the others, the droppable ones, exactly `kept` for each inference,
//     active      # # . # . #      every set of so many as likely as every other
//
// How a set is drawn: bits that are 1 with a probability q near kept / droppable, 64 pixels at a time; then places are
// drawn until exactly `kept` bits are set, and each place whose bit is one too many, or is missing, is turned over.
// Given how many bits were set first, every set of so many was as likely as every other, and adding or taking away
// uniformly keeps it so: the drawing is exact, whatever q is. (Fisher-Yates over the pixels takes a bounded draw and a
// swap for each one that is kept, several times as long.) Places are drawn as Lemire does (ACM TOMACS 2019), without
// bias: a word that would add one counts as a try that failed.
//
// What the time of a drawing tells: nothing with constant words and tries, of which there are as many as the map's
// numbers say and not as it turns out. Exceptions: a generator that takes its own time; the addresses of the words that
// are turned over, on a machine with caches; and, once in some 1e9 drawings, tries that go on because the fixed number
// of them was not enough.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/policy/policy.hpp"

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace policy {

/// How products with inactive pixels are left out, and what that hides (policy/README.md).
enum class pruning {
  /// A branch for each product, as in the paper. For reproduction only: important, drawn and inactive pixels take three
  /// ways through the code, which the attack of Double Strike (arXiv 2601.08698, HOST 2026) tells apart in every trace.
  branch_skip,
  /// Active pixels are listed first, and the loop over the list asks nothing of a pixel.
  list_compact,
  /// The same in a random order, drawn anew for each row of products.
  list_shuffled,
  /// Inactive pixels become zero points, without a branch, and a dense layer follows: no time is won, and none tells
  /// anything.
  zero_fixed
};

/// Do sums make up for what is left out?
enum class rescale {
  none,  ///< inactive pixels count as zero points, as in the paper
  unbiased  ///< products of drawn pixels count droppable / kept times: the mean over the maps is the dense sum
};

/// ChaCha20 of libsodium, the default generator. Completed by polymac/adapt/sodium.hpp, for the library must be linked.
class chacha20;

/// Pixel pruning of a first layer. Generator: what the maps are drawn with, a std::uniform_random_bit_generator. It has
/// to be one that cannot be predicted if the maps are to hide anything; std::mt19937_64 is for tests.
template <pruning Form, rescale Rescale = rescale::none, class Generator = chacha20>
struct pixel_pruning : activation_policy {
  static constexpr pruning form = Form;
  static constexpr rescale scale = Rescale;
  using generator = Generator;
  static constexpr const char* name = Form == pruning::branch_skip     ? "pixel_pruning<branch_skip>"
                                      : Form == pruning::list_compact  ? "pixel_pruning<list_compact>"
                                      : Form == pruning::list_shuffled ? "pixel_pruning<list_shuffled>"
                                                                       : "pixel_pruning<zero_fixed>";
};

/// std::uniform_random_bit_generator, whose header brings streams along.
template <class G>
concept BitGenerator = std::invocable<G&> && std::unsigned_integral<std::invoke_result_t<G&>> && requires {
  { G::min() } -> std::same_as<std::invoke_result_t<G&>>;
  { G::max() } -> std::same_as<std::invoke_result_t<G&>>;
  requires G::min()
  < G::max();
};

/// Is P a pixel_pruning?
template <class P>
concept PixelPruning = ActivationPolicy<P> && requires {
  requires std::same_as<std::remove_cvref_t<decltype(P::form)>, pruning>;
  typename P::generator;
};

/// A share of the droppable pixels that stays for each inference, in [0, 1]; rounded to whole pixels.
struct keep_share {
  double of_droppable = 1;
};
/// Or their number.
struct keep_count {
  std::size_t pixels = 0;
};

/// Which pixels are always on, and how many of the others stay. The view is read when a layer is built, and not kept.
struct importance_map {
  matrix_view<const std::uint8_t> important;  ///< height x width; nonzero: always on
  double share = -1;                          ///< of the others; below 0: `count` says how many
  std::size_t count = 0;
  constexpr importance_map(matrix_view<const std::uint8_t> map, keep_share keep) noexcept
      : important(map), share(keep.of_droppable < 0 ? std::numeric_limits<double>::quiet_NaN() : keep.of_droppable) {}
  constexpr importance_map(matrix_view<const std::uint8_t> map, keep_count keep) noexcept
      : important(map), count(keep.pixels) {}
};

namespace detail {

/// The bits of a generator as words, whatever its range is: as many of a draw as are uniform.
template <class Generator>
class random_words {
  using number = typename Generator::result_type;
  static constexpr std::uint64_t reach = static_cast<std::uint64_t>(Generator::max() - Generator::min());
  static_assert(reach > 0);
  /// Bits of a draw, and the draws above which the last, broken round of numbers begins.
  static constexpr unsigned bits =
      reach == ~std::uint64_t{0} ? 64 : static_cast<unsigned>(std::bit_width(reach + 1)) - 1;
  static constexpr bool whole = bits == 64 || reach + 1 == (std::uint64_t{1} << (bits % 64));
  static constexpr std::uint64_t mask = bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (bits % 64)) - 1;

 public:
  explicit random_words(Generator& of) noexcept : of_(of) {}
  template <class Word>
  Word next() noexcept {
    constexpr unsigned wanted = 8 * sizeof(Word);
    if constexpr (bits >= wanted) {
      return static_cast<Word>(draw());
    } else {
      std::uint64_t word = 0;
      for (unsigned have = 0; have < wanted; have += bits) word = (word << bits) | draw();
      return static_cast<Word>(word);
    }
  }

 private:
  std::uint64_t draw() noexcept {
    std::uint64_t drawn = static_cast<std::uint64_t>(of_() - Generator::min());
    if constexpr (!whole)
      while (drawn > mask) drawn = static_cast<std::uint64_t>(of_() - Generator::min());
    return drawn & mask;
  }
  Generator& of_;
};

/// Puts the elements in an order drawn with words of 64 bits: every order as likely as every other. One word serves as
/// many elements as it can (Brackett-Rozinsky, Lemire: batched ranged random integer generation, 2024).
template <class Words, class Element>
void shuffle(Words& words, Element* of, std::size_t count) noexcept {
  while (count > 1) {
    std::uint64_t product = count;
    std::size_t batch = 1;
    while (batch < 16 && batch + 1 < count && product <= (std::uint64_t{1} << 40) / (count - batch)) {
      product *= count - batch;
      ++batch;
    }
    std::size_t places[16];
    const std::uint64_t broken = (std::uint64_t{0} - product) % product;
    std::uint64_t left = 0;
    do {
      left = words.template next<std::uint64_t>();
      for (std::size_t i = 0; i < batch; ++i) {
        const std::uint64_t range = count - i;
        // The 128 bits of left x range, range below 2^32 or alone.
        const std::uint64_t low = (left & 0xFFFFFFFFu) * range, high = (left >> 32) * range + (low >> 32);
        places[i] = static_cast<std::size_t>(high >> 32);
        left = (high << 32) | (low & 0xFFFFFFFFu);
      }
    } while (left < broken);
    for (std::size_t i = 0; i < batch; ++i) std::swap(of[places[i]], of[count - 1 - i]);
    count -= batch;
  }
}

}  // namespace detail

/// The pixels of a layer with a policy of pixels: which are important, how many of the others stay, and how they are
/// drawn. Bits of a line lie in words of 64, each line begins with a word.
class pixel_choice {
 public:
  /// Reads a map for a layer `who`. Errors: no pixels, no memory, a share or a number that is none. O(pixels).
  status construct(const char* who, const importance_map& map) noexcept {
    const auto& view = map.important;
    extent_ = {view.rows, view.columns};
    if (view.rows == 0 || view.columns == 0)
      return status::make(errc::shape, who, ": expected an importance map of at least 1 x 1 pixels, got ", view.rows,
                          " x ", view.columns);
    if (view.data == nullptr || (view.rows > 1 && view.stride < view.columns))
      return status::make(errc::parameter, who, ": the view of the importance map has ",
                          view.data == nullptr ? "no data" : "lines that overlap");
    line_words_ = polymac::detail::divide_up(view.columns, std::size_t{64});
    // Places are 32 bits.
    constexpr std::size_t most_words = (std::size_t{1} << 25) - 1;
    if (line_words_ > most_words || view.rows > most_words / line_words_)
      return status::make(errc::shape, who,
                          ": expected an importance map of less than 2^31 pixels, its lines filled up to "
                          "multiples of 64, got ",
                          view.rows, " x ", view.columns);
    const std::size_t words = view.rows * line_words_;
    droppable_ = 0;
    for (std::size_t y = 0; y < view.rows; ++y)
      for (std::size_t x = 0; x < view.columns; ++x) droppable_ += view(y, x) == 0 ? 1 : 0;
    if (status s = places_.resize_for_overwrite(droppable_); !s.ok()) return s;
    if (status s = can_drop_.resize(words); !s.ok()) return s;
    if (status s = important_bytes_.resize_for_overwrite(view.rows * view.columns); !s.ok()) return s;
    if (status s = important_.resize(words); !s.ok()) return s;
    std::size_t place = 0;
    for (std::size_t y = 0; y < view.rows; ++y)
      for (std::size_t x = 0; x < view.columns; ++x) {
        const std::size_t at = y * line_words_ * 64 + x;
        important_bytes_[y * view.columns + x] = view(y, x) != 0 ? 1 : 0;
        const std::uint64_t bit = std::uint64_t{1} << (at % 64);
        if (view(y, x) != 0) {
          important_[at / 64] |= bit;
        } else {
          can_drop_[at / 64] |= bit;
          places_[place++] = static_cast<std::uint32_t>(at);
        }
      }
    kept_ = map.count;
    if (map.share < 0) {
      if (map.count > droppable_)
        return status::make(errc::parameter, who, ": expected to keep at most the ", droppable_,
                            " pixels of the importance map that are not important, got ", map.count);
    } else {
      if (!(map.share <= 1)) {
        auto s = status::make(errc::parameter, who, ": expected a share of pixels to keep in [0, 1], got ");
        if (map.share < 1e9)
          s.append(static_cast<std::int64_t>(map.share * 1000)), s.append(" thousandths");
        else
          s.append("less than 0, infinity or no number");
        return s;
      }
      kept_ = static_cast<std::size_t>(std::floor(map.share * static_cast<double>(droppable_) + 0.5));
    }
    plan();
    return {};
  }

  constexpr extent2d extent() const noexcept { return extent_; }
  constexpr std::size_t pixels() const noexcept { return extent_.height * extent_.width; }
  /// Pixels that may be left out, how many of them are not, and how many pixels are active in all.
  constexpr std::size_t droppable() const noexcept { return droppable_; }
  constexpr std::size_t kept() const noexcept { return kept_; }
  constexpr std::size_t active() const noexcept { return pixels() - droppable_ + kept_; }
  constexpr std::size_t words() const noexcept { return important_.size(); }
  constexpr std::size_t line_words() const noexcept { return line_words_; }
  constexpr const std::uint64_t* important() const noexcept { return important_.data(); }
  constexpr bool is_important(std::size_t y, std::size_t x) const noexcept {
    return (important_[y * line_words_ + x / 64] >> (x % 64) & 1) != 0;
  }
  /// A line as bytes, 1 for important.
  constexpr const std::uint8_t* important_bytes(std::size_t line) const noexcept {
    return important_bytes_.data() + line * extent_.width;
  }
  /// Bytes that it holds.
  constexpr std::size_t bytes() const noexcept {
    return places_.size() * sizeof(std::uint32_t) + 2 * important_.size() * sizeof(std::uint64_t) +
           important_bytes_.size();
  }

  /// Draws: `drawn` has words() words, of which the bits of droppable pixels that stay become 1.
  template <class Generator>
  void draw(Generator& generator, std::uint64_t* drawn) const noexcept {
    detail::random_words<Generator> words(generator);
    const std::size_t count = important_.size();
    // The digits of q, the lowest first: a 1 halves the probability of 0, a 0 that of 1.
    std::uint64_t set = 0;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t bits = 0;
      for (unsigned d = 0; d < digits_; ++d) {
        const std::uint64_t random = words.template next<std::uint64_t>();
        const std::uint64_t one = std::uint64_t{0} - (numerator_ >> d & 1);
        bits = (bits & random) | (one & (bits | random));
      }
      drawn[i] = bits & can_drop_[i];
      set += static_cast<std::uint64_t>(std::popcount(drawn[i]));
    }
    // As many complemented bits as are wanted: at most half of the pixels are looked for.
    const std::uint64_t wanted = looked_for();
    const auto attempt = [&](std::uint64_t random) {
      const std::uint64_t product = (random & 0xFFFFFFFFu) * droppable_;
      const std::uint64_t fair = static_cast<std::uint32_t>(product) >= broken_ ? 1 : 0;
      const std::uint32_t place = places_[static_cast<std::size_t>(product >> 32)];
      std::uint64_t& word = drawn[place / 64];
      const std::uint64_t is_set = word >> (place % 64) & 1;
      // (a - b) >> 63 is a < b, for both are below 2^63.
      const std::uint64_t missing = (set - wanted) >> 63, surplus = (wanted - set) >> 63;
      const std::uint64_t turned = fair & ((missing & (is_set ^ 1)) | (surplus & is_set));
      word ^= turned << (place % 64);
      set += turned - ((turned & is_set) << 1);
    };
    for (std::size_t i = 0; i < attempts_; i += 2) {
      const auto random = words.template next<std::uint64_t>();
      attempt(random);
      attempt(random >> 32);
    }
    while (set != wanted) attempt(words.template next<std::uint32_t>());
    if (complemented_)
      for (std::size_t i = 0; i < count; ++i) drawn[i] ^= can_drop_[i];
  }

 private:
  constexpr std::size_t looked_for() const noexcept { return complemented_ ? droppable_ - kept_ : kept_; }
  /// Chooses q = numerator / 2^digits and the number of tries that is enough, such that both take little time.
  void plan() noexcept {
    complemented_ = kept_ > droppable_ / 2;
    digits_ = 0;
    numerator_ = 0;
    attempts_ = 0;
    broken_ = droppable_ > 0 ? static_cast<std::uint32_t>((std::uint64_t{1} << 32) % droppable_) : 0;
    const double all = static_cast<double>(droppable_), wanted = static_cast<double>(looked_for());
    if (looked_for() == 0) return;
    double least = std::numeric_limits<double>::max();
    for (unsigned digits = 0; digits <= 8; ++digits) {
      const double scale = static_cast<double>(1u << digits);
      for (const double up : {0.0, 1.0}) {
        const double q = (std::floor(wanted / all * scale) + up) / scale;
        if (q >= 1 || (digits > 0 && q == 0)) continue;
        constexpr double sigmas = 6.5;
        const double spread = sigmas * std::sqrt(all * q * (1 - q)) + (q > 0 ? 4 : 0);
        const double gap = std::abs(wanted - all * q) + spread;
        const double adds = (all - wanted) / all, takes = wanted / all;
        const double hits = all * q + spread <= wanted   ? adds
                            : all * q - spread >= wanted ? takes
                            : adds < takes               ? adds
                                                         : takes;
        // The number of successes in n tries is hits n, give or take its own sigmas.
        const double root = sigmas * std::sqrt(1 - hits) + std::sqrt(sigmas * sigmas * (1 - hits) + 4 * gap);
        const double tries = root * root / (4 * hits) + 1;
        const double time = static_cast<double>(digits) * static_cast<double>(important_.size()) * 12 + tries * 8;
        if (time >= least || tries > 1e9) continue;
        least = time;
        digits_ = digits;
        numerator_ = static_cast<std::uint32_t>(q * scale);
        attempts_ = static_cast<std::size_t>(tries);
      }
    }
  }

  extent2d extent_{0, 0};
  std::size_t line_words_ = 0, droppable_ = 0, kept_ = 0;
  buffer<std::uint32_t> places_;  ///< of the droppable pixels, in bits
  buffer<std::uint64_t> can_drop_, important_;
  buffer<std::uint8_t> important_bytes_;
  bool complemented_ = false;  ///< pixels that do not stay are drawn, for they are fewer
  unsigned digits_ = 0;
  std::uint32_t numerator_ = 0;
  std::uint32_t broken_ = 0;  ///< 2^32 modulo the number of droppable pixels
  std::size_t attempts_ = 0;
};

/// What a layer with pixel pruning remembers: the generator, and the map of its last inference. The caller keeps it,
/// one for each stream of inferences; it can be moved, and not copied, for a copy would draw the same maps again. Both
/// are secret.
template <class Generator>
class pixel_state {
 public:
  explicit pixel_state(Generator generator) noexcept(std::is_nothrow_move_constructible_v<Generator>)
      : generator_(std::move(generator)) {}
  pixel_state(pixel_state&&) noexcept = default;
  pixel_state& operator=(pixel_state&&) noexcept = default;
  pixel_state(const pixel_state&) = delete;
  pixel_state& operator=(const pixel_state&) = delete;

  /// Why there was no memory for it; ok where it can be used.
  const polymac::status& status() const noexcept { return status_; }
  /// Takes another generator; the last map stays what it was.
  void reseed(Generator generator) noexcept(std::is_nothrow_move_assignable_v<Generator>) {
    generator_ = std::move(generator);
  }
  /// The pixels that took part in the last inference (of a batch, in its last image or row): height x width, 1 for
  /// active, none before the first one. Knowing them is what the attack needs: for tests and probes.
  matrix_view<const std::uint8_t> active() const noexcept {
    return {active_.data(), extent_.height, extent_.width, extent_.width};
  }
  std::size_t bytes() const noexcept {
    return sizeof(*this) + active_.size() + drawn_line_.size() + drawn_.size() * sizeof(std::uint64_t);
  }

  /// For layers: memory for the maps of `choice`; is there memory for them; the next map.
  void reserve(const pixel_choice& choice) noexcept {
    status_ = active_.resize(choice.pixels());
    if (status_.ok()) status_ = drawn_.resize(choice.words());
    if (status_.ok()) status_ = drawn_line_.resize(choice.extent().width);
    extent_ = status_.ok() ? choice.extent() : extent2d{0, 0};
  }
  bool is_for(const pixel_choice& choice) const noexcept {
    return extent_ == choice.extent() && drawn_.size() == choice.words();
  }
  void draw(const pixel_choice& choice) noexcept {
    choice.draw(generator_, drawn_.data());
    for (std::size_t y = 0; y < extent_.height; ++y) {
      std::uint8_t* to = active_.data() + y * extent_.width;
      for (std::size_t x = 0; x < extent_.width; x += 64, to += 64) {
        const std::size_t at = y * choice.line_words() + x / 64;
        write_bytes(drawn_[at] | choice.important()[at], to,
                    polymac::detail::smaller(extent_.width - x, std::size_t{64}));
      }
    }
  }
  /// Does the last map keep this pixel although it is not important?
  bool is_drawn(const pixel_choice& choice, std::size_t y, std::size_t x) const noexcept {
    return (drawn_[y * choice.line_words() + x / 64] >> (x % 64) & 1) != 0;
  }
  /// The drawn pixels of a line as bytes; they stand until the next line is asked for.
  const std::uint8_t* drawn_bytes(const pixel_choice& choice, std::size_t line) noexcept {
    std::uint8_t* const bytes = drawn_line_.data();
    for (std::size_t x = 0; x < extent_.width; x += 64)
      write_bytes(drawn_[line * choice.line_words() + x / 64], bytes + x,
                  polymac::detail::smaller(extent_.width - x, std::size_t{64}));
    return bytes;
  }
  detail::random_words<Generator> words() noexcept { return detail::random_words<Generator>(generator_); }

 private:
  /// The lowest `count` bits as bytes.
  static void write_bytes(std::uint64_t bits, std::uint8_t* to, std::size_t count) noexcept {
    std::size_t i = 0;
    if constexpr (std::endian::native == std::endian::little)
      for (; i + 8 <= count; i += 8, bits >>= 8) {
        const std::uint64_t one_each = (bits & 0xFF) * 0x0101010101010101u & 0x8040201008040201u;
        const std::uint64_t bytes = (one_each + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
        std::memcpy(to + i, &bytes, 8);
      }
    for (; i < count; ++i, bits >>= 1) to[i] = static_cast<std::uint8_t>(bits & 1);
  }

  Generator generator_;
  extent2d extent_{0, 0};
  buffer<std::uint8_t> active_, drawn_line_;
  buffer<std::uint64_t> drawn_;
  polymac::status status_;
};

}  // namespace policy
POLYMAC_END
