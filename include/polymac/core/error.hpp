// SPDX-License-Identifier: MIT
// How a mistake is told: a status with a readable text, without heap, locale or stdio.
//
// Status objects are plain data and may cross translation units, so they live outside the ISA-tagged namespace; their
// functions are always inlined.
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/core/text.hpp"

#include <cstddef>
#include <new>
#include <string_view>
#include <utility>

#if POLYMAC_HAS_EXCEPTIONS
#include <exception>
#endif

namespace polymac {

/// What kind of mistake a status reports.
enum class errc : unsigned char {
  ok,
  shape,         ///< extents that do not fit each other
  parameter,     ///< a value outside its range (scale, zero point, stride ...)
  short_buffer,  ///< memory handed over is smaller than the documented size
  corrupt,       ///< data from outside is damaged
  unsupported,   ///< well formed, but not something polymac runs
};

/// Outcome of something that can fail: a code and a text of at most 247 characters that says what was expected and
/// what came. Trivially copyable; never allocates.
class status {
 public:
  static constexpr std::size_t capacity = 247;

  constexpr status() noexcept {}  // NOLINT: a defaulted one would zero the text in `return {}`

  /// Builds a text from pieces: strings, characters and integers. A text that is too long is cut.
  template <class... Pieces>
  static constexpr status make(errc code, const Pieces&... pieces) noexcept {
    status s;
    s.code_ = code;
    (s.text_.append(pieces), ...);
    return s;
  }

  constexpr bool ok() const noexcept { return code_ == errc::ok; }
  constexpr explicit operator bool() const noexcept { return ok(); }
  constexpr errc code() const noexcept { return code_; }
  constexpr std::string_view text() const noexcept { return text_.view(); }
  /// The text, ended by a zero.
  constexpr const char* c_str() const noexcept { return text_.c_str(); }
  template <class Piece>
  constexpr void append(const Piece& piece) noexcept {
    text_.append(piece);
  }

 private:
  errc code_ = errc::ok;
  polymac::text<capacity> text_;
};

/// A value, or the status that says why there is none. Dereferencing a result without value is a mistake of the caller.
template <class T>
class result {
 public:
  result(T&& value) noexcept : has_value_(true), value_(std::move(value)) {}  // NOLINT: implicit by design
  result(const polymac::status& why) noexcept : status_(why), none_{} {}      // NOLINT: implicit by design
  result(result&& other) noexcept : has_value_(other.has_value_), status_(other.status_), none_{} {
    if (has_value_) ::new (static_cast<void*>(&value_)) T(std::move(other.value_));
  }
  result(const result&) = delete;
  result& operator=(const result&) = delete;
  result& operator=(result&&) = delete;
  ~result() {
    if (has_value_) value_.~T();
  }

  bool ok() const noexcept { return has_value_; }
  explicit operator bool() const noexcept { return has_value_; }
  const polymac::status& status() const noexcept { return status_; }
  T& operator*() noexcept { return value_; }
  const T& operator*() const noexcept { return value_; }
  T* operator->() noexcept { return &value_; }
  const T* operator->() const noexcept { return &value_; }

 private:
  bool has_value_ = false;
  polymac::status status_;
  union {
    char none_;
    T value_;
  };
};

#if POLYMAC_HAS_EXCEPTIONS
/// Thrown by constructors and packing functions; carries the status.
class error : public std::exception {
 public:
  explicit error(const polymac::status& why) noexcept : status_(why) {}
  const char* what() const noexcept override { return status_.c_str(); }
  const polymac::status& status() const noexcept { return status_; }

 private:
  polymac::status status_;
};
#endif

}  // namespace polymac

POLYMAC_BEGIN
namespace detail {

/// Throws `error` where exceptions are on. Elsewhere the caller keeps the status and refuses to run.
constexpr void raise_unless_ok(const status& s) {
#if POLYMAC_HAS_EXCEPTIONS
  if (!s.ok()) throw error(s);
#else
  static_cast<void>(s);
#endif
}

}  // namespace detail
POLYMAC_END
