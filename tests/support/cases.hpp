// SPDX-License-Identifier: MIT
// Readers of the golden cases: a text file that names the cases and the bytes of their tensors in cases.bin.
//
// Nothing here knows which cases or operators exist, so a folder of the same layout with other cases reads as well.
// Damaged lines throw case_error with file, line, what was expected and what came.
#pragma once

#include "support/data.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace polymac_test {

/// A case file that cannot be understood, or a case that lacks what its reader asks for.
struct case_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Bytes of one element of a named type; 0 where the name is unknown or elements are smaller than a byte (i4, u4, i2).
inline std::size_t bytes_of_type(std::string_view name) {
  if (name == "i8" || name == "u8" || name == "bool" || name == "f8e4m3fn" || name == "f8e5m2") return 1;
  if (name == "i16" || name == "u16" || name == "f16" || name == "bf16") return 2;
  if (name == "i32" || name == "u32" || name == "f32") return 4;
  if (name == "i64" || name == "u64" || name == "f64") return 8;
  return 0;
}

template <class T>
inline constexpr std::string_view name_of_type = "?";
template <>
inline constexpr std::string_view name_of_type<std::int8_t> = "i8";
template <>
inline constexpr std::string_view name_of_type<std::uint8_t> = "u8";
template <>
inline constexpr std::string_view name_of_type<std::int16_t> = "i16";
template <>
inline constexpr std::string_view name_of_type<std::int32_t> = "i32";
template <>
inline constexpr std::string_view name_of_type<std::int64_t> = "i64";
template <>
inline constexpr std::string_view name_of_type<float> = "f32";

/// A tensor of a case: a view of cases.bin.
struct case_tensor {
  std::string name;
  std::string type;
  std::vector<std::size_t> dims;  ///< empty: a scalar. CMSIS-NN arrays have one extent, their element count.
  std::span<const std::byte> bytes;
  bool present = true;  ///< false for an optional input that is left out

  std::size_t count() const {
    std::size_t n = 1;
    for (const std::size_t d : dims) {
      if (d != 0 && n > static_cast<std::size_t>(-1) / d) throw case_error("tensor " + name + ": absurd extents");
      n *= d;
    }
    return n;
  }
  bool is(std::string_view type_name) const { return type == type_name; }

  /// The elements; T must be the stored type.
  template <class T>
  std::vector<T> values() const {
    if (!present) throw case_error("tensor " + name + ": asked for, but left out in this case");
    if (type != name_of_type<T>)
      throw case_error("tensor " + name + ": expected type " + std::string(name_of_type<T>) + ", got " + type);
    if (bytes.size() / sizeof(T) != count() || bytes.size() % sizeof(T) != 0)
      throw case_error("tensor " + name + ": expected " + std::to_string(count()) + " elements of " +
                       std::to_string(sizeof(T)) + " bytes, got " + std::to_string(bytes.size()) + " bytes");
    std::vector<T> out(count());
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  }
  /// The elements of any integer type of at least 8 bits, widened.
  std::vector<std::int64_t> integers() const {
    const auto widen = [](const auto& v) { return std::vector<std::int64_t>(v.begin(), v.end()); };
    if (is("i8")) return widen(values<std::int8_t>());
    if (is("u8")) return widen(values<std::uint8_t>());
    if (is("i16")) return widen(values<std::int16_t>());
    if (is("i32")) return widen(values<std::int32_t>());
    if (is("i64")) return values<std::int64_t>();
    throw case_error("tensor " + name + ": expected an integer type, got " + type);
  }
};

namespace detail {

/// Walks over one line; knows where it is, for messages.
class line_reader {
 public:
  line_reader(std::string_view text, std::string file, std::size_t number)
      : rest_(text), file_(std::move(file)), number_(number) {}

  [[noreturn]] void fail(const std::string& message) const {
    throw case_error(file_ + ":" + std::to_string(number_) + ": " + message);
  }
  bool at_end() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size()));
    return rest_.empty();
  }
  std::string word(std::string_view what) {
    if (at_end()) fail("expected " + std::string(what) + ", got the end of the line");
    const std::size_t length = std::min(rest_.find_first_of(" \t"), rest_.size());
    std::string result(rest_.substr(0, length));
    rest_.remove_prefix(length);
    return result;
  }
  /// What is left, without blanks at its ends; may be empty.
  std::string remainder() {
    at_end();
    const std::size_t last = rest_.find_last_not_of(" \t");
    std::string result(rest_.substr(0, last == std::string_view::npos ? 0 : last + 1));
    rest_ = {};
    return result;
  }
  std::size_t number(std::string_view what) { return to_size(word(what), what); }
  std::size_t to_size(const std::string& text, std::string_view what) const {
    std::size_t value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc{} || end != text.data() + text.size())
      fail("expected " + std::string(what) + " (a number that is not negative), got '" + text + "'");
    return value;
  }
  /// The value of a word KEY=VALUE.
  std::string value_of(const std::string& pair, std::string_view key) const {
    if (pair.rfind(std::string(key) + "=", 0) != 0) fail("expected " + std::string(key) + "=..., got '" + pair + "'");
    return pair.substr(key.size() + 1);
  }
  void finish() {
    if (!at_end()) fail("expected the end of the line, got '" + std::string(rest_) + "'");
  }
  std::span<const std::byte> slice(const std::vector<std::byte>& all, std::size_t offset, std::size_t size) const {
    if (offset > all.size() || size > all.size() - offset)
      fail("bytes " + std::to_string(offset) + " to " + std::to_string(offset) + "+" + std::to_string(size) +
           " lie outside of cases.bin, which has " + std::to_string(all.size()));
    return std::span<const std::byte>(all).subspan(offset, size);
  }

 private:
  std::string_view rest_;
  std::string file_;
  std::size_t number_;
};

inline std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

}  // namespace detail

/// One kernel case of CMSIS-NN: definitions and arrays by name.
struct kernel_case {
  std::string name;
  std::vector<std::string> operators;
  std::map<std::string, std::string> definitions;
  std::map<std::string, case_tensor> arrays;

  /// Value of the definition that ends in one of `suffixes` behind the upper-case case name (or that is one of them:
  /// the nets of several layers write their layers in front of every name); the first that exists, or nothing.
  std::optional<std::int64_t> find(std::initializer_list<std::string_view> suffixes) const;
  /// The same, or an error that names it.
  std::int64_t get(std::initializer_list<std::string_view> suffixes) const {
    const auto value = find(suffixes);
    if (!value) throw case_error(name + ": no definition that ends in _" + std::string(*suffixes.begin()));
    return *value;
  }
  std::int64_t get(std::string_view suffix) const { return get({suffix}); }
  std::int64_t get_or(std::string_view suffix, std::int64_t otherwise) const {
    return find({suffix}).value_or(otherwise);
  }
  std::size_t extent(std::initializer_list<std::string_view> suffixes) const {
    const std::int64_t value = get(suffixes);
    if (value < 0) throw case_error(name + "_" + std::string(*suffixes.begin()) + ": expected at least 0");
    return static_cast<std::size_t>(value);
  }
  std::size_t extent(std::string_view suffix) const { return extent({suffix}); }
  /// The array whose name is the case name, an underscore and one of `suffixes`; the first that exists, or null.
  const case_tensor* find_array(std::initializer_list<std::string_view> suffixes) const;
  const case_tensor& array(std::initializer_list<std::string_view> suffixes) const {
    const case_tensor* found = find_array(suffixes);
    if (found == nullptr) throw case_error(name + ": no array " + name + "_" + std::string(*suffixes.begin()));
    return *found;
  }
};

namespace detail {
inline std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}
}  // namespace detail

inline std::optional<std::int64_t> kernel_case::find(std::initializer_list<std::string_view> suffixes) const {
  for (const std::string_view suffix : suffixes) {
    auto found = definitions.find(detail::upper(name) + "_" + std::string(suffix));
    if (found == definitions.end()) found = definitions.find(std::string(suffix));
    if (found == definitions.end()) continue;
    const std::string& text = found->second;
    char* end = nullptr;
    errno = 0;
    const long long value = std::strtoll(text.c_str(), &end, 0);  // 0x... too
    if (text.empty() || *end != '\0' || errno != 0)
      throw case_error(name + ": " + found->first + ": expected an integer, got '" + text + "'");
    return value;
  }
  return std::nullopt;
}

inline const case_tensor* kernel_case::find_array(std::initializer_list<std::string_view> suffixes) const {
  for (const std::string_view suffix : suffixes) {
    const auto found = arrays.find(name + "_" + std::string(suffix));
    if (found != arrays.end()) return &found->second;
  }
  return nullptr;
}

/// All cases of a folder in the layout of data/cmsis_nn.
class kernel_cases {
 public:
  explicit kernel_cases(const std::filesystem::path& folder) : bytes_(read_bytes(folder / "cases.bin")) {
    std::size_t number = 0;
    for (const std::string& text : read_lines(folder / "cases.txt"))
      read(detail::line_reader(text, (folder / "cases.txt").string(), ++number));
  }
  kernel_cases(const kernel_cases&) = delete;  // the tensors point into bytes_
  kernel_cases& operator=(const kernel_cases&) = delete;

  const std::vector<kernel_case>& all() const { return cases_; }

 private:
  void read(detail::line_reader line) {
    if (line.at_end()) return;
    const std::string kind = line.word("a kind of line");
    if (kind[0] == '#') return;
    if (kind == "case") {
      kernel_case c;
      c.name = line.word("a case name");
      c.operators = detail::split(line.value_of(line.word("ops=..."), "ops"), ',');
      line.finish();
      cases_.push_back(std::move(c));
      return;
    }
    if (kind != "def" && kind != "arr") line.fail("expected case, def or arr, got '" + kind + "'");
    if (cases_.empty()) line.fail("expected a case line before the first " + kind);
    const std::string name = line.word("a name");
    if (kind == "def") {
      cases_.back().definitions[name] = line.remainder();
      return;
    }
    case_tensor t;
    t.name = name;
    t.type = line.word("a type");
    t.dims = {line.number("an element count")};
    const std::size_t offset = line.number("a byte offset");
    line.finish();
    // A type that we do not know has no size: its bytes stay empty, and only a test that wants them fails. A count
    // beyond the file is cut to "too many", so that the product cannot wrap around.
    const std::size_t count = std::min(t.dims[0], bytes_.size() + 1);
    t.bytes = line.slice(bytes_, offset, count * bytes_of_type(t.type));
    cases_.back().arrays[name] = std::move(t);
  }

  std::vector<std::byte> bytes_;
  std::vector<kernel_case> cases_;
};

}  // namespace polymac_test
