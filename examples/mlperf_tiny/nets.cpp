// SPDX-License-Identifier: MIT
#include "nets.hpp"

#include "compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace example {

namespace fs = std::filesystem;
using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

result<bytes> as_it_is(const bytes& content, const loaded_net&, const fs::path&) { return bytes(content); }

/// Pixels 0..255 as codes -128..127.
result<bytes> codes_of_pixels(const bytes& content, const loaded_net&, const fs::path&) {
  bytes codes = content;
  for (std::byte& b : codes) b ^= std::byte{0x80};
  return codes;
}

result<bytes> reals_of_pixels(const bytes& content, const loaded_net&, const fs::path&) {
  std::vector<float> pixels;
  for (const std::byte b : content) pixels.push_back(static_cast<float>(std::to_integer<int>(b)));
  return bytes_of(pixels);
}

/// Codes -128..127 as 0..1.
result<bytes> reals_of_pixel_codes(const bytes& content, const loaded_net&, const fs::path&) {
  std::vector<float> pixels;
  for (const std::byte b : content)
    pixels.push_back(static_cast<float>(std::to_integer<int>(b ^ std::byte{0x80})) / 255.0F);
  return bytes_of(pixels);
}

/// Codes as the reals they stand for in the int8 keyword net.
result<bytes> reals_of_keyword_codes(const bytes& content, const loaded_net&, const fs::path& data) {
  const auto model = read_file(data / "mlperf_tiny" / "kws_dscnn_int8.tflite");
  if (!model.ok()) return model.status();
  const auto int8_net = loaded_net::load(*model, false, false);
  if (!int8_net.ok()) return int8_net.status();
  return bytes_of(reals(content, int8_net->inputs()[0]));
}

/// Frames of 128 log-mel values as windows of 5 consecutive frames.
result<bytes> windows_of_frames(const bytes& content, const loaded_net&, const fs::path&) {
  constexpr std::size_t frame = 128 * sizeof(float), together = 5;
  if (content.size() < together * frame || content.size() % frame != 0)
    return status::make(errc::corrupt, "expected at least ", together, " whole frames of ", frame, " bytes, got ",
                        content.size(), " bytes");
  bytes windows;
  for (auto first = content.begin(); content.end() - first >= std::ptrdiff_t{together * frame}; first += frame)
    windows.insert(windows.end(), first, first + together * frame);
  return windows;
}

/// Real spectrograms as codes of the net's input: round half away from zero. Where the data folder also holds the codes
/// that its references were made with, they must be the same.
result<bytes> codes_of_spectrograms(const bytes& content, const loaded_net& net, const fs::path& data) {
  const polymac::affine q = net.inputs()[0].quantized;
  bytes codes;
  for (const float x : reals(content, tensor{})) {
    const float code = std::round(x / q.scale) + static_cast<float>(q.zero_point);
    codes.push_back(static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(code, -128.0F, 127.0F))));
  }
  const fs::path reference = data / "mlperf_tiny/litert_ref/sww_dscnn1d_int8_input_i8_45x30x1x40.bin";
  std::error_code ignored;
  if (!fs::exists(reference, ignored)) return codes;
  const auto expected = read_file(reference, codes.size());
  if (!expected.ok()) return expected.status();
  const auto [ours, theirs] = std::mismatch(codes.begin(), codes.end(), expected->begin());
  if (ours != codes.end())
    return status::make(errc::corrupt, "the quantised spectrograms differ from the reference inputs, first at ",
                        ours - codes.begin(), ": expected ", static_cast<std::int8_t>(*theirs), ", got ",
                        static_cast<std::int8_t>(*ours));
  return codes;
}

constexpr const char* cifar = "cifar10/cifar10_test1000_u8_nhwc.bin";
constexpr const char* cifar_labels = "cifar10/cifar10_test1000_labels_u8.bin";
constexpr const char* kws = "mlperf_tiny/litert_ref/kws_dscnn_int8_input_i8_256x49x10x1.bin";
constexpr const char* vww = "mlperf_tiny/litert_ref/vww_mobilenet_int8_input_i8_24x96x96x3.bin";
constexpr const char* ad_codes = "mlperf_tiny/litert_ref/ad_autoencoder_int8_input_i8_196x640.bin";
constexpr const char* ad_frames = "mlperf_tiny/ad_normal_id_01_00000000_logmel_f32_200x128.bin";
constexpr const char* sww = "mlperf_tiny/sww_specs_f32_45x30x40.bin";
constexpr const char* sww_labels = "mlperf_tiny/sww_labels_u8_45.bin";
constexpr const char* resnet8_classic = "cifar10/ic_resnet8_int8_ref_logits_i8_1000x10.bin";
constexpr const char* large_classic = "cifar10/ic_resnet_large_int8_ref_logits_i8_1000x10.bin";

constexpr net_entry entries[] = {
    {"ic_resnet8_int8", cifar, codes_of_pixels, "i8_1000x10", resnet8_classic, cifar_labels, false, "85 %"},
    {"ic_resnet8_fp32", cifar, reals_of_pixels, "f32_1000x10", nullptr, cifar_labels, false, "85 %"},
    {"ic_resnet_large_int8", cifar, codes_of_pixels, "i8_1000x10", large_classic, cifar_labels, false, "85 %"},
    {"kws_dscnn_int8", kws, as_it_is, "i8_256x12", nullptr, nullptr, false, "90 %"},
    {"kws_dscnn_fp32", kws, reals_of_keyword_codes, "f32_256x12", nullptr, nullptr, false, "90 %"},
    {"vww_mobilenet_int8", vww, as_it_is, "i8_24x2", nullptr, nullptr, false, "80 %"},
    {"vww_mobilenet_fp32", vww, reals_of_pixel_codes, "f32_24x2", nullptr, nullptr, false, "80 %"},
    {"ad_autoencoder_int8", ad_codes, as_it_is, "i8_196x640", nullptr, nullptr, true, "AUC 0.85"},
    {"ad_autoencoder_fp32", ad_frames, windows_of_frames, "f32_196x640", nullptr, nullptr, true, "AUC 0.85"},
    {"sww_dscnn1d_int8", sww, codes_of_spectrograms, "i8_45x3", nullptr, sww_labels, false, ""},
};

}  // namespace

std::span<const net_entry> net_entries() { return entries; }

}  // namespace example
