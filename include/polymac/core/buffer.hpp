// SPDX-License-Identifier: MIT
// Memory that a layer owns: an array inside the object where the extent is known, else the heap or lent memory.
#pragma once

#include "polymac/core/error.hpp"

#include <array>
#include <cstddef>
#include <new>
#include <type_traits>

POLYMAC_BEGIN

/// An extent that is known at run time only.
inline constexpr std::size_t dynamic = static_cast<std::size_t>(-1);

/// Elements of trivial type T on a cache-line boundary. A static `Extent` keeps them inside the object (no heap,
/// usable in constant expressions); a dynamic one allocates in `resize` once, at construction of its owner, never in a
/// kernel.
template <class T, std::size_t Extent = dynamic>
class buffer {
  static_assert(std::is_trivially_copyable_v<T>, "polymac: a buffer holds plain values");

 public:
  /// Sets the number of elements; fails where it is more than the static extent. New elements are zero.
  constexpr status resize(std::size_t count) noexcept {
    if (count > Extent) return status::make(errc::shape, "buffer: expected at most ", Extent, " elements, got ", count);
    size_ = count;
    return {};
  }
  /// The same for an owner that writes every element before it reads one.
  constexpr status resize_for_overwrite(std::size_t count) noexcept { return resize(count); }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr T* data() noexcept { return elements_.data(); }
  constexpr const T* data() const noexcept { return elements_.data(); }
  constexpr T& operator[](std::size_t i) noexcept { return elements_[i]; }
  constexpr const T& operator[](std::size_t i) const noexcept { return elements_[i]; }

 private:
  alignas(64) std::array<T, (Extent > 0 ? Extent : 1)> elements_{};
  std::size_t size_ = 0;
};

template <class T>
class buffer<T, dynamic> {
  static_assert(std::is_trivially_copyable_v<T>, "polymac: a buffer holds plain values");

 public:
  constexpr buffer() noexcept = default;
  constexpr buffer(buffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  constexpr buffer(const buffer& other) { copy(other); }
  constexpr buffer& operator=(buffer&& other) noexcept {
    if (this != &other) {
      release();
      data_ = other.data_;
      size_ = other.size_;
      other.data_ = nullptr;
      other.size_ = 0;
    }
    return *this;
  }
  constexpr buffer& operator=(const buffer& other) {
    if (this != &other) copy(other);
    return *this;
  }
  constexpr ~buffer() { release(); }

  /// Allocates `count` zero elements, or says how many bytes could not be had.
  constexpr status resize(std::size_t count) noexcept { return allocate(count, true); }
  /// The same without the zeros, for an owner that writes every element before it reads one.
  constexpr status resize_for_overwrite(std::size_t count) noexcept { return allocate(count, false); }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr T* data() noexcept { return data_; }
  constexpr const T* data() const noexcept { return data_; }
  constexpr T& operator[](std::size_t i) noexcept { return data_[i]; }
  constexpr const T& operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  static constexpr std::size_t alignment = 64;

  constexpr status allocate(std::size_t count, bool zeros) noexcept {
    release();
    if (count == 0) return {};
    if (count > static_cast<std::size_t>(-1) / sizeof(T) / 2)
      return status::make(errc::shape, "buffer: ", count, " elements exceed the address space");
    if (std::is_constant_evaluated()) {
      data_ = new T[count]{};
    } else {
      data_ = static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{alignment}, std::nothrow));
      if (data_ == nullptr)
        return status::make(errc::short_buffer, "buffer: no memory for ", count * sizeof(T), " bytes");
      if (zeros)
        for (std::size_t i = 0; i < count; ++i) ::new (static_cast<void*>(data_ + i)) T{};
    }
    size_ = count;
    return {};
  }
  constexpr void copy(const buffer& other) {
    detail::raise_unless_ok(resize_for_overwrite(other.size_));
    for (std::size_t i = 0; i < size_; ++i) data_[i] = other.data_[i];
  }
  constexpr void release() noexcept {
    if (std::is_constant_evaluated())
      delete[] data_;
    else if (data_ != nullptr)
      ::operator delete (static_cast<void*>(data_), std::align_val_t{alignment});
    data_ = nullptr;
    size_ = 0;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Elements of trivial type T in memory that somebody else owns: `capacity` of them.
template <class T>
class lent_buffer {
  static_assert(std::is_trivially_copyable_v<T>, "polymac: a buffer holds plain values");

 public:
  constexpr lent_buffer() noexcept = default;
  constexpr lent_buffer(T* data, std::size_t capacity) noexcept : data_(data), capacity_(capacity) {}

  /// As buffer::resize_for_overwrite; fails where it is more than was lent.
  constexpr status resize_for_overwrite(std::size_t count) noexcept {
    if (count > capacity_)
      return status::make(errc::short_buffer, "buffer: expected at most ", capacity_, " elements, got ", count);
    size_ = count;
    return {};
  }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr T* data() noexcept { return data_; }
  constexpr const T* data() const noexcept { return data_; }
  constexpr T& operator[](std::size_t i) noexcept { return data_[i]; }
  constexpr const T& operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::size_t capacity_ = 0, size_ = 0;
};

/// A buffer of parameters, one per column, that may be read 16 at a time: memory goes on for 16 elements (zeros) behind
/// the last one. A static `Extent` of 1 is one parameter for every column, and has nothing behind it.
template <class T, std::size_t Extent = dynamic>
class padded_buffer {
  static constexpr std::size_t padding = Extent == 1 ? 0 : 16;

 public:
  /// As buffer::resize.
  constexpr status resize(std::size_t count) noexcept {
    if (count > Extent) return status::make(errc::shape, "buffer: expected at most ", Extent, " elements, got ", count);
    size_ = count;
    return elements_.resize(count > static_cast<std::size_t>(-1) - padding ? count : count + padding);
  }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr T* data() noexcept { return elements_.data(); }
  constexpr const T* data() const noexcept { return elements_.data(); }
  constexpr T& operator[](std::size_t i) noexcept { return elements_[i]; }
  constexpr const T& operator[](std::size_t i) const noexcept { return elements_[i]; }

 private:
  buffer<T, Extent == dynamic ? dynamic : Extent + padding> elements_;
  std::size_t size_ = 0;
};

POLYMAC_END
