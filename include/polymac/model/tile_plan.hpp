// SPDX-License-Identifier: MIT
// Layers in a row, computed tile by tile: which part of every tensor a tile needs, and how much memory and work that
// is. Shapes only; model/chain.hpp runs it.
//
//     tensor 0 --step 1--> tensor 1 --step 2--> ... --step n--> tensor n
//     (the input)                                               (the output)
//
// From a tile of tensor n backwards: for [lo, hi) of its output step i reads [lo * stride - before, (hi - 1) * stride -
// before + reach) of its input, cut at the border of the image. What is cut off is padding of this very layer, which is
// put around the part when the layer runs: what a layer further back makes of its own padding is something else. A
// tensor that several steps read (a residual) needs the smallest rectangle around all they need.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/model/arena.hpp"
#include "polymac/policy/tiling.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// One layer of a chain, as far as shapes go.
struct chain_step {
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  window taps{};                  ///< 1 x 1 for what works pixel by pixel
  std::size_t channels = 0;       ///< of the output
  std::size_t element_bytes = 1;  ///< of the output
  std::size_t macs = 0;           ///< multiply-accumulates of an output pixel
  std::size_t added = none;       ///< the tensor that is added: 0 is the input of the chain, i the output of step i
};

/// The part of a tensor that a tile needs.
struct tensor_part {
  policy::pixel_range lines{}, columns{};
  std::size_t first_new = 0;  ///< lines before it are there from the strip before

  constexpr std::size_t pixels() const noexcept { return lines.size() * columns.size(); }
  /// Is there a line to compute?
  constexpr bool is_made() const noexcept { return first_new < lines.end; }
};

/// How a chain of layers runs over one image of `input`, tile by tile of its output.
class tile_plan {
 public:
  static constexpr std::size_t alignment = 64;

  tile_plan() = default;
  /// Errors: a window that does not fit, padding as large as a kernel, a residual of another shape. O(tiles * steps).
  tile_plan(std::vector<chain_step> steps, extent2d input, std::size_t input_channels, const policy::tile_grid& grid)
      : steps_(std::move(steps)), grid_(grid) {
    status_ = construct(input, input_channels);
  }

  const polymac::status& status() const noexcept { return status_; }
  std::span<const chain_step> steps() const noexcept { return steps_; }
  /// Of tensor i of a whole image.
  extent2d extent(std::size_t tensor) const noexcept { return extents_[tensor]; }
  std::size_t channels(std::size_t tensor) const noexcept { return channels_[tensor]; }
  std::size_t tiles() const noexcept { return tiles_; }
  bool keeps_lines() const noexcept { return grid_.keeps_lines; }

  /// Bytes of the tensors between input and output that are alive at once, at most.
  std::size_t map_bytes() const noexcept { return map_bytes_; }
  /// The same, layer by layer.
  std::size_t map_bytes_by_layer() const noexcept { return map_bytes_by_layer_; }
  /// Of the output as a whole, which collects the tiles.
  std::size_t output_bytes() const noexcept {
    return extents_.back().height * extents_.back().width * channels_.back() * steps_.back().element_bytes;
  }
  /// What the chain keeps in memory besides its input.
  std::size_t peak_bytes() const noexcept { return map_bytes_ + output_bytes(); }
  /// Multiply-accumulates, padding counted in (as the field counts); halos as often as they are computed.
  std::size_t macs() const noexcept { return macs_; }
  std::size_t macs_by_layer() const noexcept { return macs_by_layer_; }

  /// Pixels of the input that `size` neighbouring ones of the output depend on, borders left aside:
  /// g -> (g - 1) * stride + reach, from the last layer to the first. Down.
  std::size_t receptive_field(std::size_t size = 1) const noexcept {
    for (std::size_t i = steps_.size(); i > 0; --i) {
      const window& w = steps_[i - 1].taps;
      size = (size - 1) * w.stride.height + effective_kernel(w.kernel.height, w.dilation.height);
    }
    return size;
  }

  /// The parts of all tensors for a tile: steps + 1 of them. `before`: those of the strip before, where lines are kept
  /// and there is one; else null.
  void parts_of(std::size_t tile, const tensor_part* before, tensor_part* parts) const noexcept {
    const std::size_t n = steps_.size();
    for (std::size_t i = 0; i <= n; ++i) parts[i] = {};
    parts[n].lines = grid_.lines_of(tile, extents_[n]);
    parts[n].columns = grid_.columns_of(tile, extents_[n]);
    for (std::size_t i = n;; --i) {
      tensor_part& p = parts[i];
      // What nobody reads this time, or only in part, may be read next time.
      if (p.lines.empty() && before != nullptr) p = before[i];
      p.first_new = p.lines.begin;
      if (before != nullptr && before[i].lines.end > p.lines.begin) {
        p.first_new = before[i].lines.end;
        p.lines.end = std::max(p.lines.end, p.first_new);
      }
      if (i == 0) break;
      if (!p.is_made()) continue;
      const part_of_input in = input_of(i, {p.first_new, p.lines.end}, p.columns);
      // Strips take whole lines, or those that are kept would have to be laid out anew.
      include(parts[i - 1], in.lines, grid_.keeps_lines ? whole_line(i - 1) : in.columns);
      if (steps_[i - 1].added != chain_step::none)
        include(parts[steps_[i - 1].added], {p.first_new, p.lines.end}, p.columns);
    }
  }

  /// What step i (from 1 on) reads for those lines and columns of its output: a part of its input, and the padding
  /// around it.
  struct part_of_input {
    policy::pixel_range lines, columns;
    padding2d padding{};
  };
  part_of_input input_of(std::size_t step, policy::pixel_range lines, policy::pixel_range columns) const noexcept {
    const window& w = steps_[step - 1].taps;
    const padding2d& p = paddings_[step - 1];
    const extent2d size = extents_[step - 1];
    const axis_part y = part_of_axis(lines.begin, lines.end, w.kernel.height, w.stride.height, w.dilation.height, p.top,
                                     p.bottom, size.height);
    const axis_part x = part_of_axis(columns.begin, columns.end, w.kernel.width, w.stride.width, w.dilation.width,
                                     p.left, p.right, size.width);
    return {{y.begin, y.end}, {x.begin, x.end}, {y.before, x.before, y.after, x.after}};
  }

  /// Is there anything of tensor i in memory while a step runs?
  bool is_alive(std::size_t tensor, std::size_t step) const noexcept {
    const arena_request life = life_of(tensor, 0);
    return life.first <= step && step <= life.last;
  }
  std::size_t bytes_of(std::size_t tensor, const tensor_part& p) const noexcept {
    return p.pixels() * channels_[tensor] * steps_[tensor - 1].element_bytes;
  }

  /// Where everything lies in the workspace: tensors between input and output, and what steps need besides.
  /// scratch: bytes for each step.
  polymac::status place(std::span<const std::size_t> scratch) {
    if (!status_.ok()) return status_;
    const std::size_t n = steps_.size();
    std::vector<arena_request> requests;
    for (std::size_t i = 1; i < n; ++i) requests.push_back(life_of(i, most_bytes_[i]));
    for (std::size_t i = 1; i <= n; ++i) requests.push_back({scratch[i - 1], i, i});
    auto plan = plan_arena(requests, alignment);
    if (!plan.ok()) return status_ = plan.status();
    arena_bytes_ = plan->peak_bytes;
    offsets_ = std::move(plan->offsets);
    scratch_.assign(scratch.begin(), scratch.end());
    return {};
  }
  /// After place(): bytes of the whole workspace, aligned to `alignment`.
  std::size_t arena_bytes() const noexcept { return arena_bytes_; }
  std::size_t offset_of(std::size_t tensor) const noexcept { return offsets_[tensor - 1]; }
  workspace scratch_of(std::size_t step, std::byte* arena) const noexcept {
    return {arena + offsets_[steps_.size() - 1 + step - 1], scratch_[step - 1]};
  }

 private:
  policy::pixel_range whole_line(std::size_t tensor) const noexcept { return {0, extents_[tensor].width}; }
  static void include(tensor_part& p, policy::pixel_range lines, policy::pixel_range columns) noexcept {
    if (p.lines.empty()) {
      p.lines = lines;
      p.columns = columns;
      return;
    }
    p.lines = {std::min(p.lines.begin, lines.begin), std::max(p.lines.end, lines.end)};
    p.columns = {std::min(p.columns.begin, columns.begin), std::max(p.columns.end, columns.end)};
  }
  /// Tensors of which lines are kept live through the whole sweep.
  arena_request life_of(std::size_t tensor, std::size_t bytes) const noexcept {
    return kept_[tensor] ? arena_request{bytes, 1, steps_.size()} : arena_request{bytes, tensor, last_readers_[tensor]};
  }
  /// Most bytes of tensors that live at one step.
  template <class Life>
  std::size_t most_alive(const Life& life) const {
    std::size_t most = 0;
    for (std::size_t step = 1; step <= steps_.size(); ++step) {
      std::size_t sum = 0;
      for (std::size_t i = 1; i < steps_.size(); ++i)
        if (const arena_request r = life(i); r.first <= step && step <= r.last) sum += r.bytes;
      most = std::max(most, sum);
    }
    return most;
  }

  polymac::status construct(extent2d input, std::size_t input_channels) {
    const std::size_t n = steps_.size();
    if (n == 0) return polymac::status::make(errc::shape, "chain: expected at least one layer");
    extents_.push_back(input);
    channels_.push_back(input_channels);
    last_readers_.assign(n + 1, 0);
    for (std::size_t i = 1; i <= n; ++i) {
      const chain_step& step = steps_[i - 1];
      window_geometry g{};
      if (auto s = resolve(step.taps, extents_[i - 1], g); !s.ok()) {
        auto text = polymac::status::make(s.code(), "chain: layer ", i, ": ");
        text.append(s.text());
        return text;
      }
      const std::size_t down = effective_kernel(step.taps.kernel.height, step.taps.dilation.height);
      const std::size_t across = effective_kernel(step.taps.kernel.width, step.taps.dilation.width);
      if (std::max(g.padding.top, g.padding.bottom) >= down || std::max(g.padding.left, g.padding.right) >= across)
        return polymac::status::make(errc::unsupported, "chain: layer ", i, ": expected padding of fewer pixels than ",
                                     "the ", down, " x ", across, " of a window");
      extents_.push_back(g.output);
      channels_.push_back(step.channels);
      paddings_.push_back(g.padding);
      last_readers_[i - 1] = i;
      if (step.added == chain_step::none) continue;
      if (step.added >= i)
        return polymac::status::make(errc::parameter, "chain: layer ", i, " adds tensor ", step.added,
                                     ", but only those up to ", i - 1, " are there");
      if (extents_[step.added] != g.output || channels_[step.added] != step.channels)
        return polymac::status::make(errc::shape, "chain: layer ", i, " adds tensor ", step.added, " of ",
                                     extents_[step.added].height, " x ", extents_[step.added].width, " x ",
                                     channels_[step.added], " to one of ", g.output.height, " x ", g.output.width,
                                     " x ", step.channels);
      last_readers_[step.added] = i;
    }
    const extent2d count = grid_.count(extents_[n]);
    tiles_ = count.height * count.width;
    most_bytes_.assign(n + 1, 0);
    kept_.assign(n + 1, false);
    std::vector<tensor_part> parts(n + 1), before(n + 1);
    for (std::size_t t = 0; t < tiles_; ++t) {
      parts_of(t, grid_.keeps_lines && t > 0 ? before.data() : nullptr, parts.data());
      for (std::size_t i = 1; i <= n; ++i) {
        const tensor_part& p = parts[i];
        most_bytes_[i] = std::max(most_bytes_[i], bytes_of(i, p));
        if (p.first_new > p.lines.begin) kept_[i] = true;
        macs_ += (p.lines.end - p.first_new) * p.columns.size() * steps_[i - 1].macs;
      }
      std::swap(parts, before);
    }
    map_bytes_ = most_alive([&](std::size_t i) { return life_of(i, most_bytes_[i]); });
    const auto whole = [&](std::size_t i) { return tensor_part{{0, extents_[i].height}, {0, extents_[i].width}, 0}; };
    map_bytes_by_layer_ = most_alive([&](std::size_t i) {
      return arena_request{bytes_of(i, whole(i)), i, last_readers_[i]};
    });
    for (std::size_t i = 1; i <= n; ++i) macs_by_layer_ += whole(i).pixels() * steps_[i - 1].macs;
    return {};
  }

  std::vector<chain_step> steps_;
  policy::tile_grid grid_{};
  std::size_t tiles_ = 0;
  std::vector<extent2d> extents_;               // of tensors
  std::vector<std::size_t> channels_;           // of tensors
  std::vector<std::size_t> last_readers_;       // of tensors
  std::vector<std::size_t> most_bytes_;         // of tensors
  std::vector<bool> kept_;                      // tensors that outlive a strip
  std::vector<padding2d> paddings_;             // of steps
  std::vector<std::size_t> offsets_, scratch_;  // of tensors 1 .. n - 1, then of steps; of steps
  std::size_t map_bytes_ = 0, map_bytes_by_layer_ = 0, arena_bytes_ = 0, macs_ = 0, macs_by_layer_ = 0;
  polymac::status status_;
};

}  // namespace model
POLYMAC_END
