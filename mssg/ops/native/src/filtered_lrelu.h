// bias -> polyphase upsampling -> leaky ReLU, clamp -> downsampling, one cache-sized tile of one vector of channels at
// a time. Along each column, upsampling, activation and downsampling run together: the signal at the high sampling
// rate, four or sixteen times as large as the input, never reaches memory.
#pragma once
#include <algorithm>

#include "api.h"
#include "threads.h"
#include "vector.h"

using mssg::buffer;
using mssg::parallel;

static inline int floor_mod(int a, int b) { return (a % b + b) % b; }
static inline int ceil_div(int a, int b) { return a >= 0 ? (a + b - 1) / b : -((-a) / b); }

// The taps that make sample t of the upsampled signal: taps first, first + up, … meet inputs input, input + 1, …
struct Phase {
  int first, input;
  Phase(int t, int up, int pad) : first(floor_mod(pad - t, up)), input((t + first - pad) / up) {}
};

// Sizes of one tile's intermediate signals; sample (0, 0) of it is sample (t_x, t_y) of the whole upsampled signal.
template <int Up>
struct Tile {
  int image, channel, x0, x1, y0, y1;          // output pixels
  int t_x, t_y, wide, high;                    // upsampled samples
  int in_x, in_y, in_wide, in_high;            // input pixels
  int out_high;                                // rows of the buffer before the last pass
};

struct Geometry {
  int up, down, up_row, up_column, down_row, down_column, terms;
};

// Template arguments: 0 = any. The usual six-tap design has them all fixed, which lets the compiler unroll everything.
template <int Up, int Down, int Taps, int Terms>
struct Fused {
  static constexpr bool kFixed = Up > 0;
  static constexpr int kPerPhase = 6, kDownTaps = 12;
  const FilteredLrelu& p;
  const int up = kFixed ? Up : p.up, down = kFixed ? Down : p.down;
  const int terms = kFixed ? Terms : p.terms;
  const int row_taps = kFixed ? kDownTaps : p.down_row_taps, column_taps = kFixed ? kDownTaps : p.down_column_taps;

  // Upsampled rows come in groups of `unit` so that the accumulators of `column_fixed` return to their places.
  int unit() const { return kFixed ? 12 : 1; }
  int high_of(int out_rows) const { return round_up((out_rows - 1) * down + column_taps, unit()); }
  int wide_of(int out_columns) const { return round_up((out_columns - 1) * down + row_taps, up); }
  int in_rows_of(int out_rows) const { return high_of(out_rows) / up + p.up_column_taps / up + 3; }
  int in_columns_of(int out_columns) const { return wide_of(out_columns) / up + p.up_row_taps / up + 3; }
  int out_rows_of(int out_rows) const { return kFixed ? high_of(out_rows) / 2 : out_rows; }

  size_t floats(int tile) const {
    const size_t h = (size_t)wide_of(tile) * in_rows_of(tile), v = (size_t)terms * wide_of(tile) * out_rows_of(tile);
    return (h + v + in_columns_of(tile) + high_of(tile)) * kLanes;
  }

  void run() const {
    constexpr size_t kCacheFloats = (size_t)700 << 8;  // 700 KiB: the tile stays in a second-level cache
    int tile = 48;
    while (tile > 8 && floats(tile) > kCacheFloats) tile -= 8;
    const int nx = (p.out_width + tile - 1) / tile, ny = (p.out_height + tile - 1) / tile;
    const int tx = (p.out_width + nx - 1) / nx, ty = (p.out_height + ny - 1) / ny;
    const int vectors = round_up(p.channels, kChannelBlock) / kLanes;
    parallel(p.batch * ny * nx * vectors, p.threads, [&](int task) {
      const int channel = task % vectors * kLanes, x = task / vectors % nx, y = task / vectors / nx % ny;
      const int x0 = x * tx, y0 = y * ty;
      one(task / vectors / nx / ny, channel, x0, std::min(p.out_width, x0 + tx), y0, std::min(p.out_height, y0 + ty),
          buffer(mssg::kTile, floats(tile)));
    });
  }

  void one(int image, int channel, int x0, int x1, int y0, int y1, float* memory) const {
    const int wide = wide_of(x1 - x0), high = high_of(y1 - y0);
    const int in_high = in_rows_of(y1 - y0), out_high = out_rows_of(y1 - y0);
    float* h = memory;                                       // [wide][in_high] upsampled along x
    float* v = h + (size_t)wide * in_high * kLanes;          // [terms][wide][out_high] finished along y
    float* line = v + (size_t)terms * wide * out_high * kLanes;
    const Phase left(x0 * down, up, p.pad_x), top(y0 * down, up, p.pad_y);
    along_x(image, channel, left.input, top.input, x0 * down, wide, in_high, line, h);
    for (int j = 0; j < wide; j++) {
      const float* source = h + (size_t)j * in_high * kLanes;
      float* target = v + (size_t)j * out_high * kLanes;
      const size_t term = (size_t)wide * out_high * kLanes;
      if constexpr (kFixed)
        column_fixed(source, top.input, y0 * down, high, target, term);
      else
        column_any(source, top.input, y0 * down, high, y1 - y0, line, target, term);
    }
    along_x_down(image, channel, x0, x1, y0, y1, v, wide, out_high);
  }

  void along_x(int image, int channel, int in_x, int in_y, int t_x, int wide, int in_high, float* line, float* h) const {
    const int in_wide = in_columns_of_samples(wide);
    const V bias = p.bias ? load(p.bias + channel) : V{};
    for (int r = 0; r < in_high; r++) {
      float* out = h + (size_t)r * kLanes;
      const int y = in_y + r;
      if (y < 0 || y >= p.height) {
        for (int j = 0; j < wide; j++) store(out + (size_t)j * in_high * kLanes, V{});
        continue;
      }
      const float* src = p.x + image * p.x_batch + y * p.x_row + channel;
      for (int i = 0; i < in_wide; i++) {
        const int x = in_x + i;
        store(line + i * kLanes, x < 0 || x >= p.width ? V{} : load(src + x * p.x_pixel) + bias);
      }
      for (int q = 0; q < up; q++) {
        const Phase phase(t_x + q, up, p.pad_x);
        const float* in = line + (phase.input - in_x) * kLanes;
        float* to = out + (size_t)q * in_high * kLanes;
        const bool any = kFixed || phase.first < p.up_row_taps;  // factors above the filter's length leave gaps
        for (int j = q; j < wide; j += up, in += kLanes, to += (size_t)up * in_high * kLanes)
          store(to, any ? fir(in, p.up_row + phase.first, p.up_row_taps - phase.first) : V{});
      }
    }
  }

  int in_columns_of_samples(int wide) const { return wide / up + p.up_row_taps / up + 3; }

  // sum_k in[k] taps[k * up], while k * up < left
  V fir(const float* in, const float* taps, int left) const {
    V s = load(in) * taps[0];
    if constexpr (kFixed) {
#pragma GCC unroll 6
      for (int k = 1; k < kPerPhase; k++) s += load(in + k * kLanes) * taps[k * Up];
    } else {
      for (int k = 1; k * up < left; k++) s += load(in + k * kLanes) * taps[k * up];
    }
    return s;
  }

  // Any geometry: the upsampled column is short enough for a first-level cache.
  void column_any(const float* h, int in_y, int t_y, int high, int out_rows, float* column, float* v, size_t term) const {
    const V slope = splat(p.slope), gain = splat(p.gain), low = splat(-p.clamp), top = splat(p.clamp);
    for (int t = 0; t < high; t++) {
      const Phase phase(t_y + t, up, p.pad_y);
      V s = V{};
      if (phase.first < p.up_column_taps)
        s = fir(h + (phase.input - in_y) * kLanes, p.up_column + phase.first, p.up_column_taps - phase.first);
      s = leaky(s, slope) * gain;
      store(column + t * kLanes, p.clamp >= 0 ? limit(s, low, top) : s);
    }
    for (int r = 0; r < terms; r++)
      for (int y = 0; y < out_rows; y++) {
        V s = V{};
        for (int d = 0; d < column_taps; d++) s += load(column + (y * down + d) * kLanes) * p.down_column[r * column_taps + d];
        store(v + r * term + (size_t)y * kLanes, s);
      }
  }

  // Six outputs are under way at any time, each in an accumulator: output o takes samples 2 o … 2 o + 11.
  void column_fixed(const float* h, int in_y, int t_y, int high, float* v, size_t term) const {
    if constexpr (kFixed) {
      const V slope = splat(p.slope), low = splat(p.clamp >= 0 ? -p.clamp : -__builtin_inff());
      const V top = splat(p.clamp >= 0 ? p.clamp : __builtin_inff());
      float taps[Up][kPerPhase];
      int offset[Up];
      for (int q = 0; q < Up; q++) {
        const Phase phase(t_y + q, Up, p.pad_y);
        offset[q] = (phase.input - in_y) * kLanes;
        for (int k = 0; k < kPerPhase; k++) taps[q][k] = p.up_column[phase.first + Up * k] * p.gain;
      }
      V acc[Terms][6] = {};
      for (int t = 0; t < high; t += 12) {
#pragma GCC unroll 6
        for (int m = 0; m < 6; m++) {  // samples t + 2 m and t + 2 m + 1
          V s[2];
#pragma GCC unroll 2
          for (int e = 0; e < 2; e++) {
            const int q = (2 * m + e) % Up;
            const float* in = h + (ptrdiff_t)((t + 2 * m + e) / Up) * kLanes + offset[q];
            V a = load(in) * taps[q][0], b = load(in + 3 * kLanes) * taps[q][3];
            a += load(in + kLanes) * taps[q][1], b += load(in + 4 * kLanes) * taps[q][4];
            a += load(in + 2 * kLanes) * taps[q][2], b += load(in + 5 * kLanes) * taps[q][5];
            s[e] = limit(leaky(a + b, slope), low, top);
          }
#pragma GCC unroll 3
          for (int r = 0; r < Terms; r++) {
            const float* f = p.down_column + r * kDownTaps;
            acc[r][m] = s[0] * f[0] + s[1] * f[1];
#pragma GCC unroll 5
            for (int d = 1; d < 6; d++) acc[r][(m - d + 6) % 6] += s[0] * f[2 * d] + s[1] * f[2 * d + 1];
            const int o = t / 2 + m - 5;
            if (o >= 0) store(v + r * term + (size_t)o * kLanes, acc[r][(m + 1) % 6]);
          }
        }
      }
    }
  }

  void along_x_down(int image, int channel, int x0, int x1, int y0, int y1, const float* v, int wide, int out_high) const {
    const size_t column = (size_t)out_high * kLanes;
    for (int x = x0; x < x1; x++) {
      float* out = p.y + image * p.y_batch + y0 * p.y_row + x * p.y_pixel + channel;
      for (int y = 0; y < y1 - y0; y++) {
        V a = V{}, b = V{};
        for (int r = 0; r < terms; r++) {
          const float* in = v + ((size_t)r * wide + (x - x0) * down) * column + (size_t)y * kLanes;
          const float* f = p.down_row + r * row_taps;
          if constexpr (kFixed) {
#pragma GCC unroll 6
            for (int d = 0; d < kDownTaps; d += 2) a += load(in + d * column) * f[d], b += load(in + (d + 1) * column) * f[d + 1];
          } else {
            for (int d = 0; d < row_taps; d++) a += load(in + d * column) * f[d];
          }
        }
        store(out + y * p.y_row, a + b);
      }
    }
  }
};

static Status filtered_lrelu(const FilteredLrelu& p) {
  if (p.up < 1 || p.down < 1 || p.terms < 1 || p.up_row_taps < 1 || p.up_column_taps < 1) return kBadArgument;
  const bool six = p.down == 2 && p.up_row_taps == 6 * p.up && p.up_column_taps == 6 * p.up && p.down_row_taps == 12 &&
                   p.down_column_taps == 12;
  if (six && p.up == 2 && p.terms == 1) Fused<2, 2, 6, 1>{p}.run();
  else if (six && p.up == 4 && p.terms == 1) Fused<4, 2, 6, 1>{p}.run();
  else if (six && p.up == 2 && p.terms == 3) Fused<2, 2, 6, 3>{p}.run();
  else if (six && p.up == 4 && p.terms == 3) Fused<4, 2, 6, 3>{p}.run();
  else Fused<0, 0, 0, 0>{p}.run();
  return kOk;
}
