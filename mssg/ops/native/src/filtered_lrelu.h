// bias -> polyphase upsampling -> leaky ReLU, clamp -> downsampling, one cache-sized tile of one vector of channels at
// a time, and the gradient of that. Along each column, upsampling, activation and downsampling follow each other in a
// first-level cache: the signal at the high sampling rate, four or sixteen times as large as the input, never reaches
// memory.
#pragma once
#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "api.h"
#include "threads.h"
#include "vector.h"

using mssg::buffer;
using mssg::parallel;

static inline int floor_mod(int a, int b) { return (a % b + b) % b; }

struct Filter {
  const float* taps;  // [count], or [terms, count] of a downsampling filter
  int count, factor;
};

// What happens along one axis: output o is made of the upsampled samples start + o * down.factor, ….
struct Axis {
  Filter up, down;
  int pad, start;
};

// A tile along one axis: `lead` upsampled samples, then those that its outputs are made of, then perhaps some more,
// and the inputs that they are made of.
struct Span {
  int lead, samples, inputs;
  int input;  // first of the inputs, in pixels of the image
  int first;  // taps first, first + up, … of the upsampling filter make the first sample; one less makes the next

  static int needed(const Axis& a, int outputs) { return (outputs - 1) * a.down.factor + a.down.count; }

  Span(const Axis& a, int output, int outputs, bool groups) {
    const int t = a.start + output * a.down.factor, up = a.up.factor;
    first = floor_mod(a.pad - t, up);
    input = (t + first - a.pad) / up;
    lead = groups ? up - 1 - first : 0;  // whole groups of samples that are made of the same inputs
    first += lead;
    samples = lead + needed(a, outputs);
    if (groups) samples = round_up(samples, up);
    inputs = (samples - 1 + up - 1 - first) / up + (a.up.count - 1) / up + 1;
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

// Filters of any length and factor. What comes out goes to use(sample, v) or use(output, term, v).
struct AnyTaps {
  static constexpr bool kSix = false;

  template <class Use>
  static void upsample(const Filter& f, const Span& span, Line in, const Use& use) {
    for (int t = 0, first = span.first, i = 0; t < span.samples; t++) {
      V s{};
      for (int k = first, j = i; k < f.count; k += f.factor, j++) s += in[j] * f.taps[k];
      use(t, s);
      if (first-- == 0) first = f.factor - 1, i++;
    }
  }

  template <int Terms, class Use>
  static void downsample(const Filter& f, int term, int outputs, Line in, const Use& use) {
    static_assert(Terms == 1);
    const float* taps = f.taps + term * f.count;
    for (int o = 0; o < outputs; o++) {
      V s{};
      for (int d = 0; d < f.count; d++) s += in[o * f.factor + d] * taps[d];
      use(o, term, s);
    }
  }
};

template <int N>
static inline V dot(const V* a, const V* b) {
  V s = a[0] * b[0];
  for (int k = 1; k < N; k++) s += a[k] * b[k];
  return s;
}

// StyleGAN3's usual design: symmetric filters, six taps for each sample of the lower rate that meets one. Every input is
// loaded once and moves through a window of registers.
template <int Factor>
struct SixTaps {
  static constexpr bool kSix = true;
  static constexpr int kTaps = 6 * Factor, kPairs = 3 * Factor;

  static bool fits(const Filter& f, int terms = 1) {
    if (f.factor != Factor || f.count != kTaps) return false;
    for (const float* t = f.taps; t < f.taps + kTaps * terms; t += kTaps) {
      float largest = 0, difference = 0;
      for (int d = 0; d < kTaps; d++) {
        largest = std::max(largest, std::fabs(t[d]));
        difference = std::max(difference, std::fabs(t[d] - t[kTaps - 1 - d]));
      }
      if (!(difference <= 1e-6f * largest)) return false;  // more than rounding
    }
    return true;
  }

  // One sample's taps are another's in reverse: from sums and differences of opposite inputs, both cost the
  // multiplications of one. An Inf would not pass as it should: see `Image::raise`.
  template <class Use>
  static void upsample(const Filter& f, const Span& span, Line in, const Use& use) {
    constexpr int kHalf = Factor / 2;
    V even[kHalf][3], odd[kHalf][3], window[6], sums[3], differences[3];
    for (int q = 0; q < kHalf; q++)
      for (int k = 0; k < 3; k++) {
        const float a = f.taps[Factor - 1 - q + k * Factor], b = f.taps[Factor - 1 - q + (5 - k) * Factor];
        even[q][k] = splat((a + b) / 2), odd[q][k] = splat((a - b) / 2);
      }
    for (int k = 0; k < 5; k++) window[k + 1] = in[k];
    for (int g = 0; g * Factor < span.samples; g++) {
      for (int k = 0; k < 5; k++) window[k] = window[k + 1];
      window[5] = in[g + 5];
      for (int k = 0; k < 3; k++) sums[k] = window[k] + window[5 - k], differences[k] = window[k] - window[5 - k];
      for (int q = 0; q < kHalf; q++) {
        const V e = dot<3>(sums, even[q]), o = dot<3>(differences, odd[q]);
        use(g * Factor + q, e + o), use(g * Factor + Factor - 1 - q, e - o);
      }
    }
  }

  // Equal taps share a multiplication; an Inf or NaN passes as it would without.
  template <int Terms, class Use>
  static void downsample(const Filter& f, int term, int outputs, Line in, const Use& use) {
    V taps[Terms][kPairs], window[12], pairs[kPairs];
    for (int r = 0; r < Terms; r++)
      for (int d = 0; d < kPairs; d++) taps[r][d] = splat(f.taps[(term + r) * kTaps + d]);
    for (int d = 0; d < 10; d++) window[d + 2] = in[d];
    for (int o = 0; o < outputs; o++, in = in.from(Factor)) {
      if constexpr (Factor == 2) {
        for (int d = 0; d < 10; d++) window[d] = window[d + 2];
        window[10] = in[10], window[11] = in[11];
        for (int d = 0; d < kPairs; d++) pairs[d] = window[d] + window[11 - d];
      } else {  // more than the registers hold
        for (int d = 0; d < kPairs; d++) pairs[d] = in[d] + in[kTaps - 1 - d];
      }
      for (int r = 0; r < Terms; r++) use(o, term + r, dot<kPairs>(pairs, taps[r]));
    }
  }
};

// The activation between the filters and its derivative. Convex: a slope from 0 (without) to 1.
template <bool Convex>
struct Activation {
  const V slope, largest;
  const bool clamped;

  explicit Activation(const FilteredLrelu& p)
      : slope(splat(p.slope)), largest(splat(p.clamp >= 0 ? p.clamp : __builtin_inff())), clamped(p.clamp >= 0) {}

  V unclamped(V s) const { return Convex ? larger(s, s * slope) : leaky(s, slope); }
  V value(V s) const { return limit(unclamped(s), -largest, largest); }
  V times_derivative(V s, V grad) const {
    grad = s > V{} ? grad : grad * slope;
    const V y = unclamped(s);
    return !clamped ? grad : larger(y, -y) <= largest ? grad : V{};
  }
};

struct Area {
  int x, y, width, height;  // a tile's outputs
};

// Runs kernel.run(image, channel, area, buffer) for every tile of the output.
template <class Kernel>
static void each_tile(const Kernel& kernel, const FilteredLrelu& p, int height, int width) {
  constexpr size_t kCacheFloats = (size_t)1000 << 8;  // 1000 KiB: the tile stays in a second-level cache
  int tile = 48;
  while (tile > 8 && kernel.floats({0, 0, tile, tile}) > kCacheFloats) tile -= 8;
  const int nx = (width + tile - 1) / tile, ny = (height + tile - 1) / tile;
  const int tx = (width + nx - 1) / nx, ty = (height + ny - 1) / ny;
  const int vectors = round_up(p.channels, kChannelBlock) / kLanes;
  parallel(p.batch * ny * nx * vectors, p.threads, [&](int task) {
    const int x = task / vectors % nx * tx, y = task / vectors / nx % ny * ty;
    const Area area{x, y, std::min(tx, width - x), std::min(ty, height - y)};
    kernel.run(task / vectors / nx / ny, task % vectors * kLanes, area, buffer(mssg::kTile, kernel.floats(area)));
  });
}

template <class Kernel>
static void with_any(const Kernel& kernel, int image, int channel, const Area& area) {
  kernel.run(image, channel, area, buffer(mssg::kTile, kernel.floats(area)));
}

// Brings pixels into the second-level cache while arithmetic keeps the memory idle. (As calls, GCC takes these for
// without effect and removes them.)
template <bool Write>
__attribute__((always_inline)) static inline void fetch(const float* first, int64_t pixel, int count) {
  for (int i = 0; i < count; i++) __builtin_prefetch(first + i * pixel, Write, 2);
}

// One vector of channels of an image.
struct Image {
  const float* data;
  int64_t row, pixel;
  int height, width;

  // Row r of what the vector `ahead` floats further needs: this thread's next task, most likely.
  __attribute__((always_inline)) void fetch_row(const Span& sx, const Span& sy, int r, int ahead) const {
    if (r < sy.inputs) fetch<false>(data + (sy.input + r) * row + sx.input * pixel + ahead, pixel, sx.inputs);
  }

  // Upsamples along x the rows that sy needs: raised [sy.inputs, sx.samples]. Outside of the image is zero. Whether every
  // input was finite: if not, `AnyTaps` has to do the tile, which spread an Inf or NaN as the definition does.
  template <class Up>
  bool raise(const Filter& f, const Span& sx, const Span& sy, V bias, Line line, Line raised) const {
    V poison{};
    for (int r = 0; r < sy.inputs; r++, raised = raised.from(sx.samples)) {
      const int y = sy.input + r;
      if (y < 0 || y >= height) {
        for (int t = 0; t < sx.samples; t++) raised.set(t, V{});
        continue;
      }
      for (int i = 0; i < sx.inputs; i++) {
        const int x = sx.input + i;
        const float* here = data + y * row + x * pixel;
        const bool inside = x >= 0 && x < width;
        const V v = inside ? load(here) + bias : V{};
        line.set(i, v), poison += v * 0.f;
        if (inside) __builtin_prefetch(here + row);
      }
      Up::upsample(f, sx, line, [&](int t, V s) { raised.set(t, s); });
    }
    for (int lane = 0; lane < kLanes; lane++)
      if (poison[lane] != 0) return false;  // true of not-a-number alone
    return true;
  }
};

// Downsamples finished [terms, area.height, wide] along x and adds the terms up.
template <class Down>
static void lower(const Filter& f, int terms, Line finished, int wide, const Area& area, Line line, float* out, int64_t row,
                  int64_t pixel) {
  for (int j = 0; j < area.height; j++, out += row) {
    for (int r = 0; r < terms; r++) {
      const Line target = r == terms - 1 ? Line{out, pixel} : line;
      Down::template downsample<1>(f, r, area.width, finished.from(((ptrdiff_t)r * area.height + j) * wide),
                                   [&](int o, int, V s) { target.set(o, r == 0 ? s : line[o] + s); });
    }
  }
}

template <class Up, class Down, int Terms>
struct Forward {
  const FilteredLrelu& p;
  const Axis x, y;

  size_t floats(const Area& a) const {
    const Span sx(x, a.x, a.width, Up::kSix), sy(y, a.y, a.height, Up::kSix);
    const size_t raised = (size_t)sy.inputs * sx.samples, finished = (size_t)p.terms * a.height * Span::needed(x, a.width);
    return (raised + finished + std::max({sx.inputs, sy.samples, a.width})) * kLanes;
  }

  void run(int image, int channel, const Area& a, float* memory) const {
    const Span sx(x, a.x, a.width, Up::kSix), sy(y, a.y, a.height, Up::kSix);
    const int wide = Span::needed(x, a.width);
    const Line raised{memory, kLanes};                                     // [sy.inputs, sx.samples]
    const Line finished = raised.from((ptrdiff_t)sy.inputs * sx.samples);  // [terms, a.height, wide]
    const Line line = finished.from((ptrdiff_t)p.terms * a.height * wide);
    const Image in{p.x + image * p.x_batch + channel, p.x_row, p.x_pixel, p.height, p.width};
    if (!in.raise<Up>(x.up, sx, sy, p.bias ? load(p.bias + channel) : V{}, line, raised) && Up::kSix)
      return with_any(Forward<AnyTaps, AnyTaps, 1>{p, x, y}, image, channel, a);
    const Activation<Up::kSix> activation(p);
    float* out = p.y + image * p.y_batch + a.y * p.y_row + a.x * p.y_pixel + channel;
    for (int c = 0; c < wide; c++) {
      in.fetch_row(sx, sy, c, p.threads * kLanes);
      if (c < a.height) fetch<true>(out + c * p.y_row, p.y_pixel, a.width);
      Up::upsample(y.up, sy, raised.from(sx.lead + c).every(sx.samples),
                   [&](int t, V s) { line.set(t, activation.value(s)); });
      for (int r = 0; r < p.terms; r += Terms)
        Down::template downsample<Terms>(y.down, r, a.height, line.from(sy.lead), [&](int o, int term, V s) {
          finished.set(((ptrdiff_t)term * a.height + o) * wide + c, s);
        });
    }
    lower<Down>(x.down, p.terms, finished, wide, a, line, out, p.y_row, p.y_pixel);
  }
};

// The gradient reaches x through both filters backwards and through the activation's derivative, for which the signal at
// the high sampling rate is computed anew. x, y: how the outputs' gradient is resampled; again_x, again_y: how x is, to
// the same samples.
template <class Up, class Down>
struct Backward {
  static constexpr int kMargin = 4;  // more than a lead: groups of the gradient's and the signal's samples may not meet
  const FilteredLreluGradient& g;
  const Axis x, y, again_x, again_y;

  size_t floats(const Area& a) const {
    const Span gx(x, a.x, a.width, Down::kSix), gy(y, a.y, a.height, Down::kSix);
    const Span sx(again_x, a.x, a.width, Up::kSix), sy(again_y, a.y, a.height, Up::kSix);
    const size_t raised = (size_t)gy.inputs * gx.samples + (size_t)sy.inputs * sx.samples;
    const size_t finished = (size_t)a.height * Span::needed(x, a.width), signal = Span::needed(y, a.height) + 2 * kMargin;
    return (raised + finished + signal + std::max({gx.inputs, sx.inputs, gy.samples})) * kLanes;
  }

  void run(int image, int channel, const Area& a, float* memory) const {
    const FilteredLrelu& p = g.forward;
    const Span gx(x, a.x, a.width, Down::kSix), gy(y, a.y, a.height, Down::kSix);
    const Span sx(again_x, a.x, a.width, Up::kSix), sy(again_y, a.y, a.height, Up::kSix);
    const int wide = Span::needed(x, a.width);
    const Line raised{memory, kLanes};                                         // [gy.inputs, gx.samples]
    const Line raised_again = raised.from((ptrdiff_t)gy.inputs * gx.samples);  // [sy.inputs, sx.samples]
    const Line finished = raised_again.from((ptrdiff_t)sy.inputs * sx.samples);  // [a.height, wide]
    const Line signal = finished.from((ptrdiff_t)a.height * wide + kMargin);
    const Line line = signal.from(Span::needed(y, a.height) + kMargin);
    const Image grad{g.grad + image * g.grad_batch + channel, g.grad_row, g.grad_pixel, p.out_height, p.out_width};
    const Image in{p.x + image * p.x_batch + channel, p.x_row, p.x_pixel, p.height, p.width};
    const bool finite = grad.raise<Down>(x.up, gx, gy, V{}, line, raised);
    const bool also = in.raise<Up>(again_x.up, sx, sy, p.bias ? load(p.bias + channel) : V{}, line, raised_again);
    if (!(finite && also) && Up::kSix)
      return with_any(Backward<AnyTaps, AnyTaps>{g, x, y, again_x, again_y}, image, channel, a);
    const Activation<Up::kSix> activation(p);
    float* out = p.y + image * p.y_batch + a.y * p.y_row + a.x * p.y_pixel + channel;
    for (int c = 0; c < wide; c++) {
      in.fetch_row(sx, sy, c, p.threads * kLanes);
      grad.fetch_row(gx, gy, c, p.threads * kLanes);
      if (c < a.height) fetch<true>(out + c * p.y_row, p.y_pixel, a.width);
      Up::upsample(again_y.up, sy, raised_again.from(sx.lead + c).every(sx.samples),
                   [&](int t, V s) { signal.set(t - sy.lead, s); });
      Down::upsample(y.up, gy, raised.from(gx.lead + c).every(gx.samples),
                     [&](int t, V s) { line.set(t, activation.times_derivative(signal[t - gy.lead], s)); });
      Up::template downsample<1>(y.down, 0, a.height, line.from(gy.lead),
                                 [&](int o, int, V s) { finished.set((ptrdiff_t)o * wide + c, s); });
    }
    lower<Up>(x.down, 1, finished, wide, a, line, out, p.y_row, p.y_pixel);
  }
};

static bool convex(const FilteredLrelu& p) { return p.slope > 0 && p.slope <= 1; }

template <int Up, int Terms>
static bool six_forward(const FilteredLrelu& p, const Axis& x, const Axis& y) {
  const bool up = SixTaps<Up>::fits(x.up) && SixTaps<Up>::fits(y.up);
  const bool down = SixTaps<2>::fits(x.down, p.terms) && SixTaps<2>::fits(y.down, p.terms);
  const bool fits = p.terms == Terms && convex(p) && up && down;
  if (fits) each_tile(Forward<SixTaps<Up>, SixTaps<2>, Terms>{p, x, y}, p, p.out_height, p.out_width);
  return fits;
}

template <int Up>
static bool six_backward(const FilteredLreluGradient& g, const Axis& x, const Axis& y, const Axis& again_x,
                         const Axis& again_y) {
  const bool up = SixTaps<2>::fits(x.up) && SixTaps<2>::fits(y.up);
  const bool down = SixTaps<Up>::fits(x.down) && SixTaps<Up>::fits(y.down);
  const bool fits = convex(g.forward) && up && down;
  if (fits)
    each_tile(Backward<SixTaps<Up>, SixTaps<2>>{g, x, y, again_x, again_y}, g.forward, g.forward.height, g.forward.width);
  return fits;
}

static bool meaningful(const FilteredLrelu& p) {
  return p.up > 0 && p.down > 0 && p.terms > 0 && p.up_row_taps > 0 && p.up_column_taps > 0 && p.down_row_taps > 0 &&
         p.down_column_taps > 0;
}

static Status filtered_lrelu(const FilteredLrelu& p) {
  if (!meaningful(p)) return kBadArgument;
  const Axis x{{p.up_row, p.up_row_taps, p.up}, {p.down_row, p.down_row_taps, p.down}, p.pad_x, 0};
  const Axis y{{p.up_column, p.up_column_taps, p.up}, {p.down_column, p.down_column_taps, p.down}, p.pad_y, 0};
  if (!(six_forward<2, 1>(p, x, y) || six_forward<2, 2>(p, x, y) || six_forward<2, 3>(p, x, y) ||
        six_forward<2, 4>(p, x, y) || six_forward<4, 1>(p, x, y) || six_forward<4, 2>(p, x, y) ||
        six_forward<4, 3>(p, x, y) || six_forward<4, 4>(p, x, y)))
    each_tile(Forward<AnyTaps, AnyTaps, 1>{p, x, y}, p, p.out_height, p.out_width);
  return kOk;
}

static Status filtered_lrelu_gradient(const FilteredLreluGradient& g) {
  const FilteredLrelu& p = g.forward;
  if (!meaningful(p) || p.terms != 1) return kBadArgument;
  const auto reversed = [](const float* taps, int count) {
    return std::vector<float>(std::reverse_iterator(taps + count), std::reverse_iterator(taps));
  };
  const auto up_row = reversed(p.up_row, p.up_row_taps), up_column = reversed(p.up_column, p.up_column_taps);
  const auto down_row = reversed(p.down_row, p.down_row_taps), down_column = reversed(p.down_column, p.down_column_taps);
  const auto axis = [&](const std::vector<float>& up, const std::vector<float>& down, int pad) {
    const int count = (int)up.size();
    return Axis{{down.data(), (int)down.size(), p.down}, {up.data(), count, p.up}, (int)down.size() - 1, pad - count + 1};
  };
  const Axis x = axis(up_row, down_row, p.pad_x), y = axis(up_column, down_column, p.pad_y);
  const Axis again_x{{p.up_row, p.up_row_taps, p.up}, x.down, p.pad_x, x.start};
  const Axis again_y{{p.up_column, p.up_column_taps, p.up}, y.down, p.pad_y, y.start};
  if (!six_backward<2>(g, x, y, again_x, again_y) && !six_backward<4>(g, x, y, again_x, again_y))
    each_tile(Backward<AnyTaps, AnyTaps>{g, x, y, again_x, again_y}, p, p.height, p.width);
  return kOk;
}
