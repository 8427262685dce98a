// bias -> polyphase upsampling -> leaky ReLU, clamp -> downsampling, one cache-sized tile of one vector of channels at
// a time. Along each column, upsampling, activation and downsampling follow each other in a first-level cache: the
// signal at the high sampling rate, four or sixteen times as large as the input, never reaches memory.
#pragma once
#include <algorithm>
#include <cmath>

#include "api.h"
#include "threads.h"
#include "vector.h"

using mssg::buffer;
using mssg::parallel;

static inline int floor_mod(int a, int b) { return (a % b + b) % b; }

// What a filtered leaky ReLU does along one axis.
struct Axis {
  int up, down, pad, up_count, down_count;
  const float *up_taps, *down_taps;  // [up_count], [terms, down_count]
};

// A tile along one axis: its outputs, the upsampled samples they are made of, the inputs that those are made of.
struct Span {
  int outputs, samples, inputs;
  int input;  // first of the inputs, in pixels of the image
  int first;  // taps first, first + up, … of the upsampling filter make the first sample; one less makes the next
  int lead;   // samples before the first output's

  Span(const Axis& a, int start, int count, bool groups) : outputs(count) {
    const int t = start * a.down;
    first = floor_mod(a.pad - t, a.up);
    input = (t + first - a.pad) / a.up;
    lead = groups ? a.up - 1 - first : 0;  // whole groups of samples that are made of the same inputs
    first += lead;
    samples = lead + (count - 1) * a.down + a.down_count;
    if (groups) samples = round_up(samples, a.up);
    inputs = (samples - 1 + a.up - 1 - first) / a.up + (a.up_count - 1) / a.up + 1;
  }
};

// Vectors in memory, `step` floats apart.
struct Line {
  float* data;
  ptrdiff_t step;
  V operator[](ptrdiff_t i) const { return load(data + i * step); }
  void set(ptrdiff_t i, V v) const { store(data + i * step, v); }
  Line from(ptrdiff_t i) const { return {data + i * step, step}; }
  Line every(ptrdiff_t n) const { return {data, step * n}; }
};

// Filters of any geometry. What comes out goes to use(sample, v) or use(output, term, v).
struct AnyFilters {
  static constexpr bool kGroups = false;
  static constexpr int kTerms = 1;  // terms of the downsampling filter that one pass computes

  static V activate(V x, V slope) { return leaky(x, slope); }

  template <class Use>
  static void upsample(const Axis& a, const Span& span, Line in, const Use& use) {
    for (int t = 0, first = span.first, i = 0; t < span.samples; t++) {
      V s{};
      for (int k = first, j = i; k < a.up_count; k += a.up, j++) s += in[j] * a.up_taps[k];
      use(t, s);
      if (first-- == 0) first = a.up - 1, i++;
    }
  }

  template <int Terms, class Use>
  static void downsample(const Axis& a, int term, int outputs, Line in, const Use& use) {
    const float* taps = a.down_taps + term * a.down_count;
    for (int o = 0; o < outputs; o++) {
      V s{};
      for (int d = 0; d < a.down_count; d++) s += in[o * a.down + d] * taps[d];
      use(o, term, s);
    }
  }
};

static inline V dot_six(const V* a, const V* b) {
  V s = a[0] * b[0];
  for (int k = 1; k < 6; k++) s += a[k] * b[k];
  return s;
}

// StyleGAN3's usual design: six taps for each upsampled sample, twelve symmetric ones to halve the sampling rate, a
// slope from 0 (without) to 1. Every input is loaded once and moves through a window of registers.
template <int Up, int DownTerms>
struct SixTaps {
  static constexpr bool kGroups = true;
  static constexpr int kTerms = DownTerms;

  static bool fit(const Axis& a) {
    if (a.up != Up || a.down != 2 || a.up_count != 6 * Up || a.down_count != 12) return false;
    for (const float* f = a.down_taps; f < a.down_taps + 12 * DownTerms; f += 12) {
      float largest = 0, difference = 0;
      for (int d = 0; d < 12; d++) {
        largest = std::max(largest, std::fabs(f[d]));
        difference = std::max(difference, std::fabs(f[d] - f[11 - d]));
      }
      if (!(difference <= 1e-6f * largest)) return false;  // more than rounding
    }
    return true;
  }

  static V activate(V x, V slope) { return larger(x, x * slope); }

  template <class Use>
  static void upsample(const Axis& a, const Span& span, Line in, const Use& use) {
    V taps[Up][6], window[6];
    for (int q = 0; q < Up; q++)
      for (int k = 0; k < 6; k++) taps[q][k] = splat(a.up_taps[Up - 1 - q + k * Up]);
    for (int k = 0; k < 5; k++) window[k + 1] = in[k];
    for (int g = 0; g * Up < span.samples; g++) {
      for (int k = 0; k < 5; k++) window[k] = window[k + 1];
      window[5] = in[g + 5];
      for (int q = 0; q < Up; q++) use(g * Up + q, dot_six(window, taps[q]));
    }
  }

  // Equal taps share a multiplication; an Inf or NaN passes as it would without.
  template <int Terms, class Use>
  static void downsample(const Axis& a, int term, int outputs, Line in, const Use& use) {
    V taps[Terms][6], window[12], pairs[6];
    for (int r = 0; r < Terms; r++)
      for (int d = 0; d < 6; d++) taps[r][d] = splat(a.down_taps[(term + r) * 12 + d]);
    for (int d = 0; d < 10; d++) window[d + 2] = in[d];
    for (int o = 0; o < outputs; o++) {
      for (int d = 0; d < 10; d++) window[d] = window[d + 2];
      window[10] = in[2 * o + 10], window[11] = in[2 * o + 11];
      for (int d = 0; d < 6; d++) pairs[d] = window[d] + window[11 - d];
      for (int r = 0; r < Terms; r++) use(o, term + r, dot_six(pairs, taps[r]));
    }
  }
};

template <class Filters>
struct Fused {
  const FilteredLrelu& p;
  const Axis x, y;

  Span across(int start, int count) const { return {x, start, count, Filters::kGroups}; }
  Span along(int start, int count) const { return {y, start, count, Filters::kGroups}; }
  int columns(const Span& sx) const { return sx.lead + (sx.outputs - 1) * x.down + x.down_count; }
  size_t floats(const Span& sx, const Span& sy) const {
    const size_t raised = (size_t)sy.inputs * sx.samples, finished = (size_t)p.terms * sy.outputs * columns(sx);
    return (raised + finished + std::max({sx.inputs, sy.samples, sx.outputs})) * kLanes;
  }

  void run() const {
    constexpr size_t kCacheFloats = (size_t)1000 << 8;  // 1000 KiB: the tile stays in a second-level cache
    int tile = 48;
    while (tile > 8 && floats(across(0, tile), along(0, tile)) > kCacheFloats) tile -= 8;
    const int nx = (p.out_width + tile - 1) / tile, ny = (p.out_height + tile - 1) / tile;
    const int tx = (p.out_width + nx - 1) / nx, ty = (p.out_height + ny - 1) / ny;
    const int vectors = round_up(p.channels, kChannelBlock) / kLanes;
    parallel(p.batch * ny * nx * vectors, p.threads, [&](int task) {
      const int channel = task % vectors * kLanes, i = task / vectors % nx * tx, j = task / vectors / nx % ny * ty;
      const int image = task / vectors / nx / ny;
      const Span sx = across(i, std::min(tx, p.out_width - i)), sy = along(j, std::min(ty, p.out_height - j));
      float* out = p.y + image * p.y_batch + j * p.y_row + i * p.y_pixel + channel;
      one(sx, sy, p.x + image * p.x_batch + channel, channel, out, buffer(mssg::kTile, floats(sx, sy)));
    });
  }

  void one(const Span& sx, const Span& sy, const float* in, int channel, float* out, float* memory) const {
    const int wide = columns(sx);
    const Line raised{memory, kLanes};                                     // [sy.inputs, sx.samples]
    const Line finished = raised.from((ptrdiff_t)sy.inputs * sx.samples);  // [terms, sy.outputs, wide]
    const Line line = finished.from((ptrdiff_t)p.terms * sy.outputs * wide);
    const V bias = p.bias ? load(p.bias + channel) : V{};
    for (int r = 0; r < sy.inputs; r++) {
      const int row = sy.input + r;
      const Line target = raised.from((ptrdiff_t)r * sx.samples);
      if (row < 0 || row >= p.height) {
        for (int t = 0; t < sx.samples; t++) target.set(t, V{});
        continue;
      }
      for (int i = 0; i < sx.inputs; i++) {
        const int column = sx.input + i;
        const float* pixel = in + row * p.x_row + column * p.x_pixel;
        const bool inside = column >= 0 && column < p.width;
        line.set(i, inside ? load(pixel) + bias : V{});
        if (inside) __builtin_prefetch(pixel + p.x_row);
      }
      Filters::upsample(x, sx, line, [&](int t, V s) { target.set(t, s); });
    }
    const V slope = splat(p.slope), low = splat(p.clamp >= 0 ? -p.clamp : -__builtin_inff());
    const V high = splat(p.clamp >= 0 ? p.clamp : __builtin_inff());
    for (int c = sx.lead; c < wide; c++) {
      Filters::upsample(y, sy, raised.from(c).every(sx.samples),
                        [&](int t, V s) { line.set(t, limit(Filters::activate(s, slope), low, high)); });
      for (int r = 0; r < p.terms; r += Filters::kTerms)
        Filters::template downsample<Filters::kTerms>(y, r, sy.outputs, line.from(sy.lead), [&](int o, int term, V s) {
          finished.set(((ptrdiff_t)term * sy.outputs + o) * wide + c, s);
        });
    }
    for (int j = 0; j < sy.outputs; j++, out += p.y_row) {
      for (int o = 0; o < sx.outputs; o++) __builtin_prefetch(out + p.y_row + o * p.y_pixel, 1);
      for (int r = 0; r < p.terms; r++) {
        const Line source = finished.from(((ptrdiff_t)r * sy.outputs + j) * wide + sx.lead);
        const Line target = r == p.terms - 1 ? Line{out, p.y_pixel} : line;
        Filters::template downsample<1>(x, r, sx.outputs, source,
                                        [&](int o, int, V s) { target.set(o, r == 0 ? s : line[o] + s); });
      }
    }
  }
};

template <class Filters>
static bool taken(const FilteredLrelu& p, const Axis& x, const Axis& y) {
  const bool fits = p.terms == Filters::kTerms && p.slope > 0 && p.slope <= 1 && Filters::fit(x) && Filters::fit(y);
  if (fits) Fused<Filters>{p, x, y}.run();
  return fits;
}

static Status filtered_lrelu(const FilteredLrelu& p) {
  if (p.up < 1 || p.down < 1 || p.terms < 1 || p.up_row_taps < 1 || p.up_column_taps < 1) return kBadArgument;
  const Axis x{p.up, p.down, p.pad_x, p.up_row_taps, p.down_row_taps, p.up_row, p.down_row};
  const Axis y{p.up, p.down, p.pad_y, p.up_column_taps, p.down_column_taps, p.up_column, p.down_column};
  if (!(taken<SixTaps<2, 1>>(p, x, y) || taken<SixTaps<2, 2>>(p, x, y) || taken<SixTaps<2, 3>>(p, x, y) ||
        taken<SixTaps<2, 4>>(p, x, y) || taken<SixTaps<4, 1>>(p, x, y) || taken<SixTaps<4, 2>>(p, x, y) ||
        taken<SixTaps<4, 3>>(p, x, y) || taken<SixTaps<4, 4>>(p, x, y)))
    Fused<AnyFilters>{p, x, y}.run();
  return kOk;
}
