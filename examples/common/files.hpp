// SPDX-License-Identifier: MIT
// Whole files in and out, with errors that say what was expected.
#pragma once

#include "polymac/core/error.hpp"

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace example {

using bytes = std::vector<std::byte>;

/// All bytes of a file or pipe of at most 4 GiB.
polymac::result<bytes> read_file(const std::filesystem::path& path);

/// The same for a file whose size is known.
polymac::result<bytes> read_file(const std::filesystem::path& path, std::size_t expected_size);

/// The data folder to use. `chosen` (may be empty) comes from the command line: an error where it is no folder.
/// Else the environment variable POLYMAC_DATA if it is set, else ../shared/data beside the working directory or the
/// sources. No folder: nothing.
polymac::result<std::optional<std::filesystem::path>> find_data(const std::filesystem::path& chosen);

/// A file that appears under its name only when it is complete: written as NAME.part, renamed by `commit`. Without a
/// commit nothing is left of it. A device or pipe is written in place.
class output_file {
 public:
  output_file() = default;
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;
  ~output_file();

  polymac::status open(const std::filesystem::path& path);
  polymac::status write(std::span<const std::byte> content);
  polymac::status commit();

 private:
  polymac::status failure(const char* what) const;

  std::FILE* file_ = nullptr;
  std::filesystem::path path_;    ///< the name in the end
  std::filesystem::path opened_;  ///< the name it is written under
};

}  // namespace example
