// SPDX-License-Identifier: MIT
#include "files.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

namespace example {

namespace fs = std::filesystem;
using polymac::errc;
using polymac::result;
using polymac::status;

// Paths stand last in every text: a status cuts what is too long.

result<bytes> read_file(const fs::path& path) {
  constexpr std::uint64_t largest = std::uint64_t{4} << 30;
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    return status::make(errc::corrupt, "expected a file, got a folder: ", path.string());
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return status::make(errc::corrupt, "cannot open (", std::strerror(errno), "): ", path.string());
  bytes content;
  std::size_t size = 0;
  for (std::size_t got = 1; got > 0 && size <= largest; size += got) {
    if (content.size() == size) content.resize(size < 65536 ? 65536 : 2 * size);
    got = std::fread(content.data() + size, 1, content.size() - size, file);
  }
  const bool failed = std::ferror(file) != 0;
  const int reason = errno;
  std::fclose(file);
  if (failed) return status::make(errc::corrupt, "cannot read (", std::strerror(reason), "): ", path.string());
  if (size > largest)
    return status::make(errc::corrupt, "expected at most ", largest, " bytes, got more: ", path.string());
  content.resize(size);
  return content;
}

result<bytes> read_file(const fs::path& path, std::size_t expected_size) {
  auto content = read_file(path);
  if (content.ok() && content->size() != expected_size)
    return status::make(errc::corrupt, "expected ", expected_size, " bytes, got ", content->size(), ": ",
                        path.string());
  return content;
}

result<std::optional<fs::path>> find_data(const fs::path& chosen) {
  using found = std::optional<fs::path>;
  std::error_code ignored;
  if (!chosen.empty()) {
    if (fs::is_directory(chosen, ignored)) return found(chosen);
    return status::make(errc::parameter, "--data: expected a folder that holds mlperf_tiny/*.tflite, ",
                        fs::exists(chosen, ignored) ? "got a file: " : "but there is none at: ", chosen.string());
  }
  if (const char* set = std::getenv("POLYMAC_DATA"); set != nullptr && *set != '\0') {
    if (fs::is_directory(set, ignored)) return found(set);
    std::fprintf(stderr, "mlperf_tiny: POLYMAC_DATA names no folder, going on without data: %s\n", set);
    return found();
  }
  for (const char* base : {".", POLYMAC_SOURCE_DIR}) {
    const fs::path folder = (fs::path(base) / ".." / "shared" / "data").lexically_normal();
    if (fs::is_directory(folder, ignored)) return found(folder);
  }
  return found();
}

output_file::~output_file() {
  if (file_ != nullptr) std::fclose(file_);
  std::error_code ignored;
  if (!opened_.empty() && opened_ != path_) fs::remove(opened_, ignored);
}

status output_file::failure(const char* what) const {
  return status::make(errc::parameter, "cannot ", what, " the output (", std::strerror(errno), "): ", path_.string());
}

status output_file::open(const fs::path& path) {
  std::error_code ignored;
  path_ = path;
  // A link stays a link: its target is replaced.
  if (const fs::path target = fs::canonical(path, ignored); !target.empty()) path_ = target;
  const fs::file_status kind = fs::status(path_, ignored);
  const bool in_place = fs::exists(kind) && !fs::is_regular_file(kind);
  const fs::path name = in_place ? path_ : fs::path(path_) += ".part";
  file_ = std::fopen(name.c_str(), "wb");
  if (file_ == nullptr) return failure("open");
  opened_ = name;
  return {};
}

status output_file::write(std::span<const std::byte> content) {
  if (std::fwrite(content.data(), 1, content.size(), file_) != content.size()) return failure("write");
  return {};
}

status output_file::commit() {
  const int closed = std::fclose(file_);
  file_ = nullptr;
  if (closed != 0) return failure("write");
  if (opened_ != path_ && std::rename(opened_.c_str(), path_.c_str()) != 0) return failure("rename");
  opened_.clear();
  return {};
}

}  // namespace example
