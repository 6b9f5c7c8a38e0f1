// SPDX-License-Identifier: MIT
// Where the real models and golden vectors live, and how a test says that they are not there.
//
// tests/launcher.cpp takes a program that succeeds and prints a line that begins with SKIPPED as skipped, so a program
// that needs the data folder holds only tests that need it.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#ifndef POLYMAC_SOURCE_DIR
#error "polymac tests: define POLYMAC_SOURCE_DIR as the path of the source tree (tests/CMakeLists.txt does)"
#endif

namespace polymac_test {

/// The folder that data is looked for in: the environment variable POLYMAC_DATA, else ../shared/data beside the
/// sources. It need not exist.
inline std::filesystem::path data_folder() {
  const char* chosen = std::getenv("POLYMAC_DATA");
  if (chosen != nullptr && *chosen != '\0') return std::filesystem::path(chosen);
  return (std::filesystem::path(POLYMAC_SOURCE_DIR) / ".." / "shared" / "data").lexically_normal();
}

/// Prints the line that ctest takes as "skipped", once for each reason.
inline void report_skipped(std::string_view reason) {
  static std::vector<std::string> told;
  for (const std::string& old : told)
    if (old == reason) return;
  told.emplace_back(reason);
  std::cout << "SKIPPED: " << reason << std::endl;
}

/// Path of a file or folder below the data folder; nothing, and a SKIPPED line, where it is missing.
inline std::optional<std::filesystem::path> find_data(std::string_view relative) {
  std::filesystem::path path = data_folder() / std::filesystem::path(relative);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return path;
  report_skipped("no test data at " + path.string() + " (set POLYMAC_DATA to the folder that holds it)");
  return std::nullopt;
}

/// All bytes of a file that exists. Throws std::runtime_error with the path where it cannot be read.
inline std::vector<std::byte> read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) throw std::runtime_error("cannot open " + path.string());
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!file && size > 0)
    throw std::runtime_error("cannot read " + std::to_string(size) + " bytes from " + path.string());
  return bytes;
}

/// The lines of a text file without their line ends (\n or \r\n).
inline std::vector<std::string> read_lines(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path.string());
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

}  // namespace polymac_test
