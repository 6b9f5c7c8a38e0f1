// SPDX-License-Identifier: MIT
// A layer at work on a sequence, whatever its policy.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace example {

/// How a layer uses what it knows of its input.
enum class mode : unsigned char {
  dense,
  zero_skip,  ///< zeros are left out
  delta,      ///< what has not changed is left out
  both,       ///< so are zeros in the first window, where nothing is known
};

/// Products of a call, and of the dense layer.
struct work {
  double macs = 0, of_macs = 0;
  work& operator+=(const work& other) {
    macs += other.macs, of_macs += other.of_macs;
    return *this;
  }
  double skipped() const { return of_macs > 0 ? 1 - macs / of_macs : 0; }
};

/// A convolution, its output, and what it remembers between calls.
template <class T>
class layer_run {
 public:
  virtual ~layer_run() = default;
  virtual polymac::status run(polymac::image_view<const T> x) = 0;
  virtual polymac::image_view<const T> output() const = 0;
  /// Of the last call.
  virtual work last() const = 0;
  /// What of the input it knows; nothing in a dense layer.
  virtual polymac::image_view<const T> reference() const = 0;
  /// Forgets the input.
  virtual void reset() = 0;
};
template <class T>
using layer_runs = std::vector<std::unique_ptr<layer_run<T>>>;

/// Nothing is remembered.
template <class Conv>
class dense_run : public layer_run<typename Conv::output> {
 public:
  using value = typename Conv::output;
  dense_run(Conv conv, polymac::extent2d input) : conv_(std::move(conv)), input_(input) {
    const polymac::extent2d size = conv_.output_size(input);
    memory_.resize(conv_.workspace_bytes(input));
    values_.resize(size.height * size.width * conv_.out_channels());
    y_ = {values_.data(), 1, size.height, size.width, conv_.out_channels()};
  }
  polymac::status run(polymac::image_view<const value> x) override {
    return conv_(x, y_, {memory_.data(), memory_.size()});
  }
  polymac::image_view<const value> output() const override { return y_; }
  work last() const override {
    const auto macs = static_cast<double>(conv_.macs(input_));
    return {macs, macs};
  }
  polymac::image_view<const value> reference() const override { return {}; }
  void reset() override {}

 private:
  Conv conv_;
  polymac::extent2d input_;
  std::vector<std::byte> memory_;
  std::vector<value> values_;
  polymac::image_view<value> y_;
};

/// With a policy of activations, whose state remembers.
template <class Conv>
class streamed_run : public layer_run<typename Conv::output> {
 public:
  using value = typename Conv::output;
  streamed_run(Conv conv, polymac::extent2d input, unsigned threshold)
      : conv_(std::move(conv)), state_(conv_.make_state(input)) {
    static_cast<void>(state_.set_threshold(threshold));  // any will do
    memory_.resize(conv_.workspace_bytes(input));
  }
  polymac::status run(polymac::image_view<const value> x) override {
    return conv_(x, state_, {memory_.data(), memory_.size()});
  }
  polymac::image_view<const value> output() const override { return state_.output(); }
  work last() const override {
    const auto done = state_.last();
    return {static_cast<double>(done.macs), static_cast<double>(done.of_macs)};
  }
  polymac::image_view<const value> reference() const override { return state_.reference(); }
  void reset() override { state_.reset(); }

 private:
  Conv conv_;
  typename Conv::state state_;
  std::vector<std::byte> memory_;
};

template <class Conv>
std::unique_ptr<layer_run<typename Conv::output>> dense(Conv conv, polymac::extent2d input) {
  return std::make_unique<dense_run<Conv>>(std::move(conv), input);
}
template <class Conv>
std::unique_ptr<layer_run<typename Conv::output>> streamed(Conv conv, polymac::extent2d input, unsigned threshold = 0) {
  return std::make_unique<streamed_run<Conv>>(std::move(conv), input, threshold);
}

}  // namespace example
