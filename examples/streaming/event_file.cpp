// SPDX-License-Identifier: MIT
#include "clipped_line.hpp"
#include "event_net.hpp"
#include "examples/common/files.hpp"

#include <charconv>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace example {

namespace {

using polymac::errc;
using polymac::result;
using polymac::status;
using words = std::vector<std::string_view>;

words split(std::string_view text, char separator) {
  words parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

template <class T>
bool parse(std::string_view text, T& value) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc{} && end == text.data() + text.size();
}

struct node {
  std::string_view op;
  words in;
  std::string_view out;
};

/// Values of a tensor in the second file.
struct tensor {
  std::string_view name, type;
  std::vector<std::size_t> extents;
  std::string_view layout;  ///< or none
  std::span<const std::byte> values;
};

/// The lines of the first file, checked against the size of the second.
class graph {
 public:
  graph(std::string_view text, std::span<const std::byte> values) : values_(values) {
    for (std::size_t number = 1; !text.empty(); ++number) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      const words line = split(text.substr(0, end), ' ');
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.empty() || line[0].front() == '#') continue;
      if (!read(line)) {
        status_ = status::make(errc::corrupt, "line ", number, ": ", what_);
        return;
      }
    }
  }
  const status& problem() const { return status_; }

  std::map<std::size_t, node> nodes;
  std::map<std::pair<std::size_t, std::string_view>, words> attributes;  ///< of a node: its values
  std::map<std::string_view, tensor> initial;
  std::map<std::size_t, tensor> inputs;
  std::map<std::pair<std::size_t, std::string_view>, tensor> goldens;

 private:
  bool fail(const char* what) {
    what_ = what;
    return false;
  }
  /// node K OP in=a,b out=c | attr K NAME KIND VALUES | init K NAME T | in SET NAME T | gold SET NAME T
  /// T: TYPE EXTENTS OFFSET BYTES [layout=L] [...]
  bool read(const words& line) {
    std::size_t number = 0;
    if (line.size() < 3 || !parse(line[1], number))
      return fail("expected a kind of line, a number, and what belongs to it");
    if (line[0] == "node") {
      if (line.size() != 5 || !line[3].starts_with("in=") || !line[4].starts_with("out="))
        return fail("expected `node K OP in=... out=...`");
      return nodes.try_emplace(number, node{line[2], split(line[3].substr(3), ','), line[4].substr(4)}).second ||
             fail("a node is there twice");
    }
    if (line[0] == "attr") {
      if (line.size() != 5) return fail("expected `attr K NAME KIND VALUES`");
      attributes[{number, line[2]}] = split(line[4], ',');
      return true;
    }
    tensor t;
    if (line[0] != "init" && line[0] != "in" && line[0] != "gold") return fail("expected node, attr, init, in or gold");
    if (!read(line, t)) return false;
    if (line[0] == "init") return initial.try_emplace(line[2], t).second || fail("these values are there twice");
    if (line[0] == "in") return inputs.try_emplace(number, t).second || fail("this window is there twice");
    return goldens.try_emplace({number, line[2]}, t).second || fail("this golden is there twice");
  }
  bool read(const words& line, tensor& t) {
    std::size_t offset = 0, size = 0, bytes_of = 1;
    if (line.size() < 7 || !parse(line[5], offset) || !parse(line[6], size))
      return fail("expected a type, extents, an offset and a number of bytes");
    t.name = line[2];
    t.type = line[3];
    if (t.type == "i32")
      bytes_of = 4;
    else if (t.type != "i8" && t.type != "u8")
      return fail("expected the type i8, u8 or i32");
    for (const std::string_view e : split(line[4], ',')) {
      constexpr std::size_t most = std::size_t{1} << 20;
      t.extents.push_back(0);
      if (!parse(e, t.extents.back()) || t.extents.back() == 0 || t.extents.back() > most ||
          bytes_of > (std::size_t{1} << 32))
        return fail("expected extents between 1 and 2^20");
      bytes_of *= t.extents.back();
    }
    for (const std::string_view w : line)
      if (w.starts_with("layout=")) t.layout = w.substr(7);
    if (bytes_of != size) return fail("the extents do not make the number of bytes");
    if (offset > values_.size() || size > values_.size() - offset)
      return fail("these values lie beyond the end of the .bin file");
    t.values = values_.subspan(offset, size);
    return true;
  }

  std::span<const std::byte> values_;
  const char* what_ = "";
  status status_;
};

std::vector<std::int32_t> integers(const tensor& t) {
  std::vector<std::int32_t> v(t.values.size() / 4);
  for (std::size_t i = 0; i < v.size(); ++i) {
    std::uint32_t bits = 0;
    for (std::size_t b = 0; b < 4; ++b) bits |= std::to_integer<std::uint32_t>(t.values[4 * i + b]) << (8 * b);
    v[i] = static_cast<std::int32_t>(bits);
  }
  return v;
}

/// In the order height, width, channels, whatever order the file has; false where a value is not in [least, most].
bool pixels(const tensor& t, std::size_t height, std::size_t width, std::size_t channels, bool channels_first,
            int least, int most, codes& to) {
  to.resize(height * width * channels);
  for (std::size_t p = 0; p < height * width; ++p)
    for (std::size_t c = 0; c < channels; ++c) {
      const std::size_t at = channels_first ? c * height * width + p : p * channels + c;
      const auto v = static_cast<std::int8_t>(t.values[at]);
      if (v < least || v > most) return false;
      to[p * channels + c] = v;
    }
  return true;
}

/// Walks from the input of the net to its end and makes a layer of every Conv ... MaxPool.
class builder {
 public:
  explicit builder(const graph& g) : graph_(g) {
    for (const auto& [number, n] : g.nodes)
      for (const std::string_view in : n.in) readers_.emplace(in, number);
  }

  /// Tensors that have goldens: two for each layer.
  std::vector<std::string_view> golden_names;

  status layers(std::string_view from, std::size_t channels, std::size_t height, std::size_t width,
                std::vector<event_layer>& to) {
    while (true) {
      const auto n = next(from);
      if (!n || n->second->op == "Flatten") break;
      event_layer l;
      l.in = channels, l.height = height, l.width = width;
      if (status s = layer(from, l); !s.ok())
        return status::make(errc::corrupt, "layer ", to.size() + 1, ": ", s.c_str());
      channels = l.out, height = l.out_height() / 2, width = l.out_width() / 2;
      to.push_back(std::move(l));
    }
    return to.empty() ? status::make(errc::corrupt, "no convolution reads the input") : status{};
  }

 private:
  using found = std::optional<std::pair<std::size_t, const node*>>;
  found next(std::string_view of) const {
    const auto at = readers_.find(of);
    if (at == readers_.end()) return std::nullopt;
    return std::pair(at->second, &graph_.nodes.at(at->second));
  }
  /// The operator that reads `from`, which becomes its output.
  status step(std::string_view& from, std::string_view op, found& n) const {
    n = next(from);
    if (!n || n->second->op != op)
      return status::make(errc::corrupt, "expected ", op, " behind tensor ", from, ", got ",
                          n ? n->second->op : "nothing");
    from = n->second->out;
    return {};
  }
  const tensor* other_input(const node& n, std::size_t count, std::string_view type) const {
    if (n.in.size() != 2) return nullptr;
    const auto at = graph_.initial.find(n.in[1]);
    return at != graph_.initial.end() && at->second.type == type && at->second.values.size() == count ? &at->second
                                                                                                      : nullptr;
  }
  bool has(std::size_t number, std::string_view name, const char* values) const {
    const auto at = graph_.attributes.find({number, name});
    return at != graph_.attributes.end() && at->second == split(values, ',');
  }

  status layer(std::string_view& from, event_layer& l) {
    found n;
    if (status s = step(from, "Conv", n); !s.ok()) return s;
    const std::size_t conv = n->first;
    if (!has(conv, "kernel_shape", "3,3") || !has(conv, "strides", "1,1") || !has(conv, "dilations", "1,1") ||
        !has(conv, "group", "1"))
      return status::make(errc::unsupported, "expected a convolution 3 x 3 without stride, dilation and groups");
    l.padding = has(conv, "pads", "1,1,1,1") ? 1 : 0;
    if (l.padding == 0 && !has(conv, "pads", "0,0,0,0"))
      return status::make(errc::unsupported, "expected padding of 0 or 1 on every side");
    if (l.height + 2 * l.padding < 4 || l.width + 2 * l.padding < 4)
      return status::make(errc::corrupt, "the image is smaller than what it is read with");
    const auto weights = n->second->in.size() == 2 ? graph_.initial.find(n->second->in[1]) : graph_.initial.end();
    if (weights == graph_.initial.end() || weights->second.type != "i8" || weights->second.extents.size() != 4 ||
        weights->second.extents[1] != l.in || weights->second.extents[2] != 3 || weights->second.extents[3] != 3)
      return status::make(errc::corrupt, "expected i8 weights of n x ", l.in, " x 3 x 3");
    l.out = weights->second.extents[0];
    // OIHW becomes OHWI.
    l.weights.resize(l.out * 9 * l.in);
    for (std::size_t o = 0; o < l.out; ++o)
      for (std::size_t i = 0; i < l.in; ++i)
        for (std::size_t tap = 0; tap < 9; ++tap) {
          const auto w = static_cast<std::int8_t>(weights->second.values[(o * l.in + i) * 9 + tap]);
          if (w < -1 || w > 1) return status::make(errc::corrupt, "expected weights of -1, 0 and 1, got ", int{w});
          l.weights[(o * 9 + tap) * l.in + i] = w;
        }
    if (status s = step(from, "Mul", n); !s.ok()) return s;
    const tensor* mul = other_input(*n->second, 4 * l.out, "i32");
    if (status s = step(from, "Add", n); !s.ok()) return s;
    const tensor* add = other_input(*n->second, 4 * l.out, "i32");
    if (mul == nullptr || add == nullptr)
      return status::make(errc::corrupt, "expected ", l.out, " i32 factors and as many addends");
    l.mul = integers(*mul), l.add = integers(*add);
    if (status s = step(from, "Div", n); !s.ok()) return s;
    if (n->second->in.size() != 2 || !divisor(n->second->in[1], l.divisor))
      return status::make(errc::corrupt, "expected a constant divisor above 0");
    if (status s = step(from, "Floor", n); !s.ok()) return s;
    if (status s = step(from, "Clip", n); !s.ok()) return s;
    l.top = clipped_line::top;
    if (!has(n->first, "min", "0.0") || !has(n->first, "max", "3.0"))
      return status::make(errc::unsupported, "expected a clip to 0 ... 3");
    golden_names.push_back(from);
    if (status s = step(from, "MaxPool", n); !s.ok()) return s;
    if (!has(n->first, "kernel_shape", "2,2") || !has(n->first, "strides", "2,2") || !has(n->first, "pads", "0,0,0,0"))
      return status::make(errc::unsupported, "expected maxima over 2 x 2 values with stride 2");
    golden_names.push_back(from);
    return {};
  }
  /// The value of a Constant.
  bool divisor(std::string_view of, std::int64_t& value) const {
    for (const auto& [number, n] : graph_.nodes)
      if (n.op == "Constant" && n.out == of) {
        const auto at = graph_.attributes.find({number, "value"});
        return at != graph_.attributes.end() && at->second.size() == 1 && parse(at->second[0], value) && value > 0;
      }
    return false;
  }

  const graph& graph_;
  std::map<std::string_view, std::size_t> readers_;
};

result<event_sequence> build(const graph& g) {
  if (!g.problem().ok()) return g.problem();
  if (g.inputs.empty()) return status::make(errc::corrupt, "no window (`in`)");
  const auto& [name, type, shape, layout, values] = g.inputs.begin()->second;
  if (shape.size() != 4 || shape[0] != 1)
    return status::make(errc::corrupt, "expected windows of 1 x channels x height x width");
  const auto first = g.nodes.find(0);
  if (first == g.nodes.end() || first->second.in.empty() || first->second.in[0] != name)
    return status::make(errc::corrupt, "expected node 0, which reads ", name);
  event_sequence s;
  s.name = "dvs_cnn";
  builder b(g);
  if (status bad = b.layers(name, shape[1], shape[2], shape[3], s.layers); !bad.ok()) return bad;
  for (const auto& [set, in] : g.inputs) {
    if (in.name != name || in.extents != shape || in.type != "i8" || in.layout != "NCHW")
      return status::make(errc::corrupt, "window ", set, ": expected i8, NCHW and the extents of the others");
    s.windows.emplace_back();
    if (!pixels(in, shape[2], shape[3], shape[1], true, -1, 1, s.windows.back()))
      return status::make(errc::corrupt, "window ", set, ": expected -1, 0 and 1");
    s.goldens.emplace_back(b.golden_names.size());
    for (std::size_t i = 0; i < b.golden_names.size(); ++i) {
      const event_layer& l = s.layers[i / 2];
      const std::size_t half = i % 2 == 0 ? 1 : 2, height = l.out_height() / half, width = l.out_width() / half;
      const auto at = g.goldens.find({set, b.golden_names[i]});
      const bool there = at != g.goldens.end() && at->second.type == "u8" &&
                         at->second.values.size() == height * width * l.out &&
                         (at->second.layout == "HWC" || at->second.layout == "CHW");
      if (!there ||
          !pixels(at->second, height, width, l.out, at->second.layout == "CHW", 0, l.top, s.goldens.back()[i]))
        return status::make(errc::corrupt, "window ", set, ": expected a golden of u8 ", height, " x ", width, " x ",
                            l.out, ", in 0 ... ", l.top, ", for tensor ", b.golden_names[i]);
    }
  }
  return s;
}

}  // namespace

result<event_sequence> read_events(const std::filesystem::path& text, const std::filesystem::path& values) {
  const auto lines = read_file(text);
  if (!lines.ok()) return lines.status();
  const auto content = read_file(values);
  if (!content.ok()) return content.status();
  auto s = build(graph({reinterpret_cast<const char*>(lines->data()), lines->size()}, *content));
  if (!s.ok()) return status::make(errc::corrupt, s.status().c_str(), ": ", text.string());
  return s;
}

}  // namespace example
