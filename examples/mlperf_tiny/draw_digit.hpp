// SPDX-License-Identifier: MIT
// Draws handwritten-looking digits, so that the example has something to classify without any data.
//
// A digit is one of two ways to write it: pen strokes on a 64 x 96 sheet, smoothed as quadratic B-splines. Each picture
// moves the control points a little, slants, turns, scales and shifts the sheet, chooses pen and contrast, and adds a
// stray line and noise. All arithmetic is on integers: the same (seed, index) gives the same bytes with every
// compiler, CPU and flag. Everything is constexpr, so a picture can be checked in a static_assert.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace digits {

inline constexpr int side = 16;  ///< rows and columns of a picture

/// One drawn digit.
struct picture {
  int label = 0;                                   ///< the digit, 0..9
  std::array<std::uint8_t, side * side> pixels{};  ///< [row][column], 0 = paper, 255 = ink
};

/// Random numbers with a fixed sequence (std::uniform_int_distribution differs between standard libraries).
/// Generator: SplitMix64 (Steele, Lea, Flood 2014).
class random_source {
 public:
  constexpr explicit random_source(std::uint64_t seed) noexcept : state_(seed) {}

  /// 64 random bits.
  constexpr std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// Uniform in [low, high], with high - low < 2^31; the bias is below 2^-32.
  constexpr int between(int low, int high) noexcept {
    const auto choices = static_cast<std::uint64_t>(high - low) + 1;
    return low + static_cast<int>(((next() >> 32) * choices) >> 32);
  }
  /// In [-reach, reach], small values more often (triangle).
  constexpr int around_zero(int reach) noexcept { return between(0, reach) - between(0, reach); }

 private:
  std::uint64_t state_;
};

namespace detail {

struct point {
  int x = 0, y = 0;
  constexpr bool operator==(const point&) const noexcept = default;
};

inline constexpr point lift{1000, 1000};  // ends a stroke; the pen goes on elsewhere
inline constexpr int max_points = 16;

// Control points of all strokes of one way to write a digit: x in about [-32, 32], y in [-48, 48], downwards. The curve
// starts and ends on its outer points and runs along the others; a point given twice is a corner.
struct glyph {
  int count = 0;
  std::array<point, max_points> points{};
};

constexpr glyph pen(std::initializer_list<point> points) {
  glyph g;
  for (const point p : points) g.points[static_cast<std::size_t>(g.count++)] = p;
  return g;
}

// clang-format off
inline constexpr std::array<std::array<glyph, 2>, 10> glyphs{{
    {pen({{0, -48}, {-30, -48}, {-30, 48}, {30, 48}, {30, -48}, {0, -48}}),
     pen({{12, -44}, {-24, -58}, {-34, 48}, {26, 54}, {34, -40}, {-2, -42}})},
    {pen({{0, -48}, {1, 0}, {0, 48}}),
     pen({{-20, -26}, {4, -48}, {4, -48}, {4, 48}, lift, {-16, 48}, {4, 48}, {22, 48}})},
    {pen({{-26, -26}, {-22, -50}, {26, -54}, {30, -12}, {-6, 18}, {-28, 48}, {-28, 48}, {30, 48}}),
     pen({{-24, -34}, {0, -56}, {32, -44}, {22, 4}, {-26, 46}, {-26, 46}, {-4, 34}, {8, 54}, {30, 42}})},
    {pen({{-26, -36}, {-14, -52}, {26, -54}, {28, -6}, {-6, -4}, {-6, -4}, {34, -4}, {32, 50}, {-18, 54}, {-28, 32}}),
     pen({{-24, -47}, {24, -47}, {24, -47}, {-6, -8}, {-6, -8}, {36, -12}, {32, 50}, {-18, 54}, {-28, 34}})},
    {pen({{-14, -48}, {-28, 14}, {-28, 14}, {30, 14}, lift, {14, -20}, {14, 10}, {10, 48}}),
     pen({{12, 48}, {12, -48}, {12, -48}, {-30, 18}, {-30, 18}, {30, 18}})},
    {pen({{24, -48}, {-20, -48}, {-20, -48}, {-24, -8}, {-24, -8},
          {0, -18}, {34, -18}, {34, 50}, {-16, 54}, {-28, 34}}),
     pen({{-18, -46}, {-20, -8}, {-20, -8}, {36, -24}, {36, 52}, {-14, 52}, {-26, 38}, lift,
          {-18, -46}, {4, -46}, {28, -48}})},
    {pen({{20, -48}, {-10, -44}, {-34, 4}, {-30, 52}, {28, 56}, {32, -2}, {-10, -8}, {-28, 22}}),
     pen({{0, -48}, {-28, -10}, {-32, 48}, {0, 50}, {30, 46}, {26, 4}, {-4, 2}, {-26, 18}})},
    {pen({{-28, -46}, {28, -46}, {28, -46}, {4, -4}, {-8, 48}}),
     pen({{-26, -40}, {-26, -46}, {26, -46}, {26, -46}, {4, 0}, {0, 48}, lift, {-16, 0}, {4, 0}, {22, -2}})},
    {pen({{0, -48}, {-26, -48}, {-24, -4}, {24, -4}, {26, -48}, {0, -48}, lift,
          {0, -4}, {-32, -4}, {-32, 48}, {32, 48}, {32, -4}, {0, -4}}),
     pen({{22, -36}, {10, -56}, {-32, -48}, {-28, -10}, {36, 8}, {32, 52}, {-34, 52}, {-34, 8}, {28, -12}, {22, -36}})},
    {pen({{24, -28}, {14, -52}, {-28, -54}, {-30, -2}, {10, 0}, {26, -32}, lift, {26, -40}, {24, 0}, {14, 48}}),
     pen({{-20, 48}, {10, 44}, {34, -4}, {30, -52}, {-28, -56}, {-32, 2}, {10, 8}, {28, -22}})},
}};
// clang-format on

// Straight pieces of the strokes in picture coordinates, 1/256 pixel.
struct segments {
  static constexpr int capacity = 96;
  int count = 0;
  std::array<point, capacity> from{}, to{};

  constexpr void add(point a, point b) noexcept {
    if (count == capacity) return;
    from[static_cast<std::size_t>(count)] = a;
    to[static_cast<std::size_t>(count++)] = b;
  }
};

constexpr std::int64_t square_root(std::int64_t value) noexcept {
  std::int64_t root = 0;
  for (std::int64_t bit = std::int64_t{1} << 30; bit > 0; bit >>= 1) {
    const std::int64_t trial = root + bit;
    if (trial * trial <= value) root = trial;
  }
  return root;
}

// Sheet to picture: a matrix in 2^-16 of 1/256 pixel per sheet unit, then an offset in 1/256 pixel.
struct transform {
  std::int64_t xx = 0, xy = 0, yx = 0, yy = 0;
  int x0 = 0, y0 = 0;

  constexpr point operator()(point p) const noexcept {
    return {static_cast<int>((xx * p.x + xy * p.y) >> 16) + x0, static_cast<int>((yx * p.x + yy * p.y) >> 16) + y0};
  }
};

// 12 pixels for 96 units would be 32/256 pixel per unit.
constexpr transform draw_transform(random_source& random) noexcept {
  const std::int64_t wide = random.between(20, 35), high = random.between(24, 35);
  const std::int64_t slant = random.around_zero(28000) - 4000;  // in 2^-16; most hands lean to the right
  const std::int64_t sine = random.around_zero(17000);          // in 2^-16: up to 15 degrees
  const std::int64_t cosine = square_root((std::int64_t{1} << 32) - sine * sine);
  const std::int64_t lean = (slant * high) >> 16;
  transform t;
  t.xx = wide * cosine;
  t.yx = wide * sine;
  t.xy = lean * cosine - high * sine;
  t.yy = lean * sine + high * cosine;
  t.x0 = side * 128 + random.around_zero(384);
  t.y0 = side * 128 + random.around_zero(384);
  return t;
}

// A quadratic Bezier curve in six straight pieces.
constexpr void add_curve(segments& out, point a, point b, point c) noexcept {
  constexpr int pieces = 6;
  point last = a;
  for (int i = 1; i <= pieces; ++i) {
    const int u = pieces - i, whole = pieces * pieces;
    const point p{(u * u * a.x + 2 * u * i * b.x + i * i * c.x) / whole,
                  (u * u * a.y + 2 * u * i * b.y + i * i * c.y) / whole};
    out.add(last, p);
    last = p;
  }
}

// One stroke of at least three control points: knots lie halfway between the inner ones.
constexpr void add_stroke(segments& out, const point* p, int count) noexcept {
  const auto middle = [](point a, point b) { return point{(a.x + b.x) / 2, (a.y + b.y) / 2}; };
  for (int i = 1; i + 1 < count; ++i) {
    const point first = i == 1 ? p[0] : middle(p[i - 1], p[i]);
    const point last = i + 2 == count ? p[count - 1] : middle(p[i], p[i + 1]);
    add_curve(out, first, p[i], last);
  }
}

constexpr void add_glyph(segments& out, const glyph& g, random_source& random) noexcept {
  const transform place = draw_transform(random);
  const int reach = random.between(5, 13);  // unsteadiness of this hand, sheet units
  std::array<point, max_points> moved{};
  int count = 0;
  for (int i = 0; i < g.count; ++i) {
    const point p = g.points[static_cast<std::size_t>(i)];
    if (p == lift) {
      add_stroke(out, moved.data(), count);
      count = 0;
      continue;
    }
    // A corner is one point given twice: it moves as one.
    const bool corner = i > 0 && p == g.points[static_cast<std::size_t>(i - 1)];
    moved[static_cast<std::size_t>(count)] =
        corner ? moved[static_cast<std::size_t>(count - 1)]
               : place({p.x + random.around_zero(reach), p.y + random.around_zero(reach)});
    ++count;
  }
  add_stroke(out, moved.data(), count);
}

// Squared distance of p to a segment, in (1/256 pixel)^2. Coordinates stay below 2^14, so cross^2 stays below 2^60.
constexpr std::int64_t distance_squared(point p, point a, point b) noexcept {
  const std::int64_t dx = b.x - a.x, dy = b.y - a.y, px = p.x - a.x, py = p.y - a.y;
  const std::int64_t length = dx * dx + dy * dy, along = px * dx + py * dy;
  if (along <= 0) return px * px + py * py;
  if (along >= length) return (px - dx) * (px - dx) + (py - dy) * (py - dy);
  const std::int64_t cross = px * dy - py * dx;
  return cross * cross / length;
}

// How much of the pixel the pen covers, 0..256: full inside the radius, then a soft edge one pixel wide.
constexpr int coverage(const segments& lines, point centre, int radius) noexcept {
  std::int64_t nearest = std::int64_t{1} << 40;
  for (int i = 0; i < lines.count; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const std::int64_t d = distance_squared(centre, lines.from[k], lines.to[k]);
    if (d < nearest) nearest = d;
  }
  const std::int64_t cover = radius + 128 - square_root(nearest);
  return static_cast<int>(std::clamp<std::int64_t>(cover, 0, 256));
}

}  // namespace detail

/// Draws picture number `index` of the endless series `seed`. Any index can be drawn alone. About 0.1 ms.
constexpr picture draw_digit(std::uint64_t seed, std::uint64_t index) {
  // Pictures must not share their random numbers: each starts at a hash of both numbers, in which they do not commute.
  random_source random(random_source(random_source(seed).next() ^ index).next());

  picture out;
  out.label = random.between(0, 9);
  const auto& styles = detail::glyphs[static_cast<std::size_t>(out.label)];
  detail::segments lines, stray;
  detail::add_glyph(lines, styles[static_cast<std::size_t>(random.between(0, 1))], random);
  const int radius = random.between(60, 250);  // of the pen, 1/256 pixel

  // A stray line, as where paper is ruled or a neighbour's stroke ends.
  const detail::point start{random.between(0, side * 256), random.between(0, side * 256)};
  stray.add(start, {start.x + random.around_zero(1800), start.y + random.around_zero(1800)});
  const int stray_ink = random.between(0, 1) * random.between(40, 200);

  const int paper = random.between(0, 50), ink = random.between(110, 250);
  const int noise = random.between(4, 80);
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const detail::point centre{x * 256 + 128, y * 256 + 128};
      const int pen_level = detail::coverage(lines, centre, radius) * (ink - paper) / 256;
      const int stray_level = stray_ink == 0 ? 0 : detail::coverage(stray, centre, 90) * stray_ink / 256;
      // Four bytes added: nearly Gaussian, standard deviation 148 before scaling.
      const std::uint64_t bits = random.next();
      const int sum = static_cast<int>((bits & 255u) + (bits >> 8 & 255u) + (bits >> 16 & 255u) + (bits >> 24 & 255u));
      const int level = paper + (pen_level > stray_level ? pen_level : stray_level) + (sum - 510) * noise / 256;
      out.pixels[static_cast<std::size_t>(y * side + x)] = static_cast<std::uint8_t>(std::clamp(level, 0, 255));
    }
  }
  return out;
}

/// Adds a picture to a checksum (FNV-1a, 64 bits), to show that a series is the one a net was measured on.
constexpr std::uint64_t checksum(const picture& p, std::uint64_t before = 0xCBF29CE484222325u) noexcept {
  std::uint64_t sum = (before ^ static_cast<std::uint64_t>(p.label)) * 0x100000001B3u;
  for (const std::uint8_t pixel : p.pixels) sum = (sum ^ pixel) * 0x100000001B3u;
  return sum;
}

}  // namespace digits
