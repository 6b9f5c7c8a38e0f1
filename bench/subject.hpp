// SPDX-License-Identifier: MIT
// A computation by polymac or by a peer, ready to be timed.
#pragma once

#include "bench/problem.hpp"

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
      const auto& problem = problem_of<X>(shape_);
      who_ = std::make_unique<Who>(problem);
      (*who_)();
      error_ = check(problem, kind_, who_->y.data());
    } catch (const std::exception& e) {
      error_ = e.what();
    }
    return error_;
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
