// SPDX-License-Identifier: MIT
// A computation by polymac or by a peer, ready to be timed.
#pragma once

#include "bench/problem.hpp"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace bench {

/// `Who` computes a problem of activations X: constructed from the problem, which packs its weights; called, it leaves
/// its result in `y`; label() says what ran. Made when it is first asked for, and held against the plain loop once.
template <class Who, class X, class Shape>
class subject {
 public:
  subject(Shape s, result kind) : shape_(std::move(s)), kind_(kind) {}
  /// Empty, or why it cannot be timed: it refused, or its result is wrong.
  const std::string& error() {
    if (tried_) return error_;
    tried_ = true;
    try {
      who_ = std::make_unique<Who>(problem_of<X>(shape_));
      error_ = verify();
    } catch (const std::exception& e) {
      error_ = e.what();
    }
    return error_;
  }
  /// Computes once more and compares; empty if the result is right.
  std::string verify() {
    std::fill(who_->y.begin(), who_->y.end(), typename decltype(who_->y)::value_type{});
    (*who_)();
    return check(problem_of<X>(shape_), kind_, who_->y.data());
  }
  Who& who() { return *who_; }
  const Shape& shape() const { return shape_; }

 private:
  Shape shape_;
  result kind_;
  bool tried_ = false;
  std::unique_ptr<Who> who_;
  std::string error_;
};

}  // namespace bench
