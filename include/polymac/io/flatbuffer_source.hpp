// SPDX-License-Identifier: MIT
// Reads tables of a flatbuffer from memory that nobody has checked, without generated code.
//
// The flatbuffers library's verifier checks a table, field, vector or string just before it is read, so nothing is read
// that was not verified, and a text can name the field and its byte. The first mistake is kept; after it every read
// gives the default. A loop over what was read therefore ends, and the caller asks once.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/model/tensor.hpp"

#include <flatbuffers/flatbuffers.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

POLYMAC_BEGIN
namespace io {

/// A field of a table: its place in the vtable, 4 + 2 * (number in the schema), and its name for the texts.
struct flatbuffer_field {
  flatbuffers::voffset_t slot;
  const char* name;
};

/// A table that has been verified, and what to call it in a text. Null: absent.
struct flatbuffer_table {
  const flatbuffers::Table* table = nullptr;
  const char* kind = "";
  std::size_t index = 0;

  explicit operator bool() const noexcept { return table != nullptr; }
};

/// A verified vector of little-endian numbers at any alignment. Empty where it is absent.
template <class T>
struct flatbuffer_vector {
  const std::byte* elements = nullptr;
  std::size_t count = 0;

  std::size_t size() const noexcept { return count; }
  T operator[](std::size_t i) const noexcept { return model::load_little_endian<T>(elements + i * sizeof(T)); }
};

/// A verified vector of offsets to tables; the tables are verified when they are taken.
struct flatbuffer_tables {
  const std::uint8_t* offsets = nullptr;
  std::size_t count = 0;

  std::size_t size() const noexcept { return count; }
};

/// Bytes of a file as a flatbuffer. O(1) per read apart from vectors and strings, whose elements cost what they read.
class flatbuffer_source {
 public:
  /// `format` begins every text.
  explicit flatbuffer_source(const char* format) noexcept : format_(format) {}
  flatbuffer_source(const flatbuffer_source&) = delete;
  flatbuffer_source& operator=(const flatbuffer_source&) = delete;

  /// The root table of `file`, whose bytes 4..7 are `identifier`. `file` may have any alignment: where the library
  /// could not read it in place it is copied once. Nothing behind the first 2 GB can be a table.
  flatbuffer_table open(std::span<const std::byte> file, std::string_view identifier, const char* root_kind) {
    file_ = file;
    size_ = std::min<std::size_t>(file.size(), static_cast<std::size_t>(FLATBUFFERS_MAX_BUFFER_SIZE) - 1);
    if (size_ < smallest_file) {
      fail(errc::corrupt, "expected a file of at least ", smallest_file, " bytes, got ", size_);
      return {};
    }
    const std::byte* bytes = file.data();
    if (reinterpret_cast<std::uintptr_t>(bytes) % alignof(std::uint64_t) != 0) {
      if (status s = aligned_.resize(size_); !s) {
        failure_ = s;
        return {};
      }
      std::memcpy(aligned_.data(), bytes, size_);
      bytes = aligned_.data();
    }
    base_ = reinterpret_cast<const std::uint8_t*>(bytes);
    if (std::memcmp(base_ + 4, identifier.data(), identifier.size()) != 0) {
      fail(errc::corrupt, "byte 4: expected the identifier ", identifier, ", got something else");
      return {};
    }
    verifier_.emplace(base_, size_, flatbuffers::Verifier::Options{});
    // A file in which no two tables share a vector reads each byte once. A crafted one could share a long vector
    // thousands of times; it must not cost more than a few times its own size.
    budget_ = 8 * static_cast<std::uint64_t>(size_) + 65536;
    return table_behind(base_, root_kind, 0);
  }

  bool ok() const noexcept { return failure_.ok(); }
  /// The first mistake.
  const status& failure() const noexcept { return failure_; }
  /// Keeps a mistake of the caller's own, if it is the first.
  template <class... Pieces>
  void fail(errc code, const Pieces&... pieces) noexcept {
    if (failure_.ok()) failure_ = status::make(code, format_, ": ", pieces...);
  }
  /// The same for a table, named with its index and its place in the file.
  template <class... Pieces>
  void fail_at(const flatbuffer_table& t, errc code, const Pieces&... pieces) noexcept {
    fail(code, t.kind, ' ', t.index, " (byte ", t.table == nullptr ? 0 : position(t.table), "): ", pieces...);
  }

  /// A number, or `fallback` where the field is absent.
  template <class T>
  T scalar(const flatbuffer_table& t, flatbuffer_field f, T fallback) {
    if (!ok() || !t) return fallback;
    if (!t.table->VerifyField<T>(*verifier_, f.slot, sizeof(T))) {
      fail_at(t, errc::corrupt, "field '", f.name, "': expected ", sizeof(T), " aligned bytes inside the file");
      return fallback;
    }
    return t.table->GetField<T>(f.slot, fallback);
  }
  bool present(const flatbuffer_table& t, flatbuffer_field f) const noexcept {
    return ok() && t && t.table->CheckField(f.slot);
  }

  /// A table that the field points to.
  flatbuffer_table table(const flatbuffer_table& t, flatbuffer_field f) {
    if (!present(t, f)) return {};
    if (!t.table->VerifyField<flatbuffers::uoffset_t>(*verifier_, f.slot, sizeof(flatbuffers::uoffset_t))) {
      fail_at(t, errc::corrupt, "field '", f.name, "': expected an offset inside the file");
      return {};
    }
    const auto* where = reinterpret_cast<const std::uint8_t*>(t.table) + t.table->GetOptionalFieldOffset(f.slot);
    const flatbuffer_table child = table_behind(where, t.kind, t.index);
    return child;
  }

  /// A vector of numbers.
  template <class T>
  flatbuffer_vector<T> vector(const flatbuffer_table& t, flatbuffer_field f) {
    const auto* v = vector_at<T>(t, f);
    if (v == nullptr || !spend(t, f, std::uint64_t{v->size()} * sizeof(T))) return {};
    return {reinterpret_cast<const std::byte*>(v->Data()), v->size()};
  }

  /// A vector of tables; take each with `element`.
  flatbuffer_tables tables(const flatbuffer_table& t, flatbuffer_field f) {
    const auto* v = vector_at<flatbuffers::uoffset_t>(t, f);
    if (v == nullptr || !spend(t, f, std::uint64_t{v->size()} * sizeof(flatbuffers::uoffset_t))) return {};
    return {v->Data(), v->size()};
  }
  /// Table `i` of the vector, i < size().
  flatbuffer_table element(const flatbuffer_tables& v, std::size_t i, const char* kind) {
    if (!ok()) return {};
    return table_behind(v.offsets + i * sizeof(flatbuffers::uoffset_t), kind, i);
  }

  /// A string; empty where it is absent.
  std::string_view string(const flatbuffer_table& t, flatbuffer_field f) {
    const auto* v = vector_at<std::uint8_t>(t, f);
    if (v == nullptr || !spend(t, f, v->size())) return {};
    return {reinterpret_cast<const char*>(v->Data()), v->size()};
  }

  /// A vector of bytes as a piece of the caller's file.
  std::span<const std::byte> bytes(const flatbuffer_table& t, flatbuffer_field f) {
    const auto* v = vector_at<std::uint8_t>(t, f);
    if (v == nullptr || v->size() == 0) return {};
    return file_.subspan(position(v->Data()), v->size());
  }

 private:
  // Offset of the root, identifier, and a root table with its vtable.
  static constexpr std::size_t smallest_file = 16;

  std::size_t position(const void* p) const noexcept {
    return static_cast<std::size_t>(static_cast<const std::uint8_t*>(p) - base_);
  }

  /// The table that the offset at `where` (inside the file) leads to.
  flatbuffer_table table_behind(const std::uint8_t* where, const char* kind, std::size_t index) {
    const std::size_t from = position(where);
    const auto offset = verifier_->VerifyOffset(from);
    if (offset == 0) {
      fail(errc::corrupt, kind, ' ', index, ": expected at byte ", from, " an offset to a table inside the ", size_,
           " bytes of the file");
      return {};
    }
    const auto* table = reinterpret_cast<const flatbuffers::Table*>(where + offset);
    const bool sound = table->VerifyTableStart(*verifier_);
    verifier_->EndTable();
    if (!sound) {
      fail(errc::corrupt, kind, ' ', index, ": expected a table inside the ", size_,
           " bytes of the file, got a damaged one at byte ", from + offset);
      return {};
    }
    return {table, kind, index};
  }

  template <class T>
  const flatbuffers::Vector<T>* vector_at(const flatbuffer_table& t, flatbuffer_field f) {
    if (!present(t, f)) return nullptr;
    const flatbuffers::Vector<T>* v = nullptr;
    if (t.table->VerifyOffset(*verifier_, f.slot)) {
      v = t.table->GetPointer<const flatbuffers::Vector<T>*>(f.slot);
      if (verifier_->VerifyVector(v)) return v;
    }
    fail_at(t, errc::corrupt, "field '", f.name, "': expected a vector inside the ", size_, " bytes of the file",
            v == nullptr ? ", got a bad offset" : ", got one that is damaged or reaches past the end");
    return nullptr;
  }

  bool spend(const flatbuffer_table& t, flatbuffer_field f, std::uint64_t amount) noexcept {
    if (amount <= budget_) {
      budget_ -= amount;
      return true;
    }
    fail_at(t, errc::corrupt, "field '", f.name, "': the tables of the file share so much data that they read ",
            "more than 8 times its size");
    return false;
  }

  const char* format_;
  std::span<const std::byte> file_;
  const std::uint8_t* base_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t budget_ = 0;
  buffer<std::byte> aligned_;
  std::optional<flatbuffers::Verifier> verifier_;
  status failure_;
};

}  // namespace io
POLYMAC_END
