// SPDX-License-Identifier: MIT
// Memory with an unmapped page on either side: a read or write past the end stops the program at the very instruction.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace polymac_test {

/// Which end of a guarded buffer lies on the border. Both ends touch only where the size fills whole pages, so a test
/// runs once with each placement.
enum class placement {
  before_guard,  ///< the byte after the last element is unmapped
  after_guard,   ///< the byte before the first element is unmapped
};

inline constexpr placement both_placements[] = {placement::before_guard, placement::after_guard};

/// `count` elements between two unmapped pages. The mapped bytes that belong to no element hold a pattern;
/// `slack_untouched` says whether somebody wrote there. Elements begin as zero. No element is aligned better than T
/// needs (for sizes that are no multiple of a page, `before_guard` gives odd addresses, as users do).
template <class T>
class guarded_buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  guarded_buffer(std::size_t count, placement where) : size_(count) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t bytes = count * sizeof(T);
    mapped_ = std::max<std::size_t>(1, (bytes + page - 1) / page) * page;
    total_ = mapped_ + 2 * page;
    void* base = ::mmap(nullptr, total_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<unsigned char*>(base);
    inner_ = base_ + page;
    if (::mprotect(inner_, mapped_, PROT_READ | PROT_WRITE) != 0) {
      ::munmap(base_, total_);
      throw std::bad_alloc();
    }
    std::memset(inner_, slack_pattern, mapped_);
    first_ = where == placement::before_guard ? inner_ + (mapped_ - bytes) : inner_;
    std::memset(first_, 0, bytes);
  }
  guarded_buffer(const std::vector<T>& values, placement where) : guarded_buffer(values.size(), where) {
    std::copy(values.begin(), values.end(), data());
  }
  guarded_buffer(guarded_buffer&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)),
        inner_(other.inner_),
        first_(other.first_),
        total_(other.total_),
        mapped_(other.mapped_),
        size_(other.size_) {}
  guarded_buffer(const guarded_buffer&) = delete;
  guarded_buffer& operator=(const guarded_buffer&) = delete;
  guarded_buffer& operator=(guarded_buffer&&) = delete;
  ~guarded_buffer() {
    if (base_ != nullptr) ::munmap(base_, total_);
  }

  T* data() noexcept { return reinterpret_cast<T*>(first_); }
  const T* data() const noexcept { return reinterpret_cast<const T*>(first_); }
  std::size_t size() const noexcept { return size_; }
  T* begin() noexcept { return data(); }
  T* end() noexcept { return data() + size_; }
  const T* begin() const noexcept { return data(); }
  const T* end() const noexcept { return data() + size_; }
  T& operator[](std::size_t i) noexcept { return data()[i]; }
  const T& operator[](std::size_t i) const noexcept { return data()[i]; }
  std::vector<T> values() const { return std::vector<T>(begin(), end()); }

  /// From now on a write stops the program.
  void make_read_only() noexcept { ::mprotect(inner_, mapped_, PROT_READ); }
  void make_writable() noexcept { ::mprotect(inner_, mapped_, PROT_READ | PROT_WRITE); }

  /// Are the mapped bytes beside the elements as they were?
  bool slack_untouched() const noexcept {
    const unsigned char* const last = first_ + size_ * sizeof(T);
    const auto is_pattern = [](unsigned char b) { return b == slack_pattern; };
    return std::all_of(static_cast<const unsigned char*>(inner_), static_cast<const unsigned char*>(first_),
                       is_pattern) &&
           std::all_of(last, static_cast<const unsigned char*>(inner_ + mapped_), is_pattern);
  }

 private:
  static constexpr unsigned char slack_pattern = 0xA5;

  unsigned char* base_ = nullptr;
  unsigned char* inner_ = nullptr;
  unsigned char* first_ = nullptr;
  std::size_t total_ = 0;
  std::size_t mapped_ = 0;
  std::size_t size_ = 0;
};

}  // namespace polymac_test
