// Direct convolution of channels-last images with packed weights, and what all convolutions share.
#pragma once
#include <algorithm>
#include <cmath>

#include "api.h"
#include "gemm.h"
#include "threads.h"

using mssg::buffer;
using mssg::parallel;

static int panels(int channels) { return (round_up(channels, kChannelBlock) + kPanel - 1) / kPanel; }
static int panel_vectors(int channels, int panel) {
  return std::min(2, (round_up(channels, kChannelBlock) - panel * kPanel) / kLanes);
}
// Floats from pixel to pixel of a buffer: neighbours a multiple of 2 KiB apart would share a few lines of the cache.
static int spread(int channels) { return channels % 512 == 0 ? channels + kChannelBlock : channels; }

// ---- Modulation and epilogue ----------------------------------------------------------------------------------

struct Modulated : Convolution {
  const float* in_scale;   // [batch, round_up(in, 16)]
  const float* out_scale;  // [batch, round_up(out, 16)] or null
};

static Modulated modulate(const Convolution& c) {
  const int in_padded = round_up(c.in_channels, kChannelBlock), out_padded = round_up(c.out_channels, kChannelBlock);
  float* in_scale = buffer(mssg::kStyles, (size_t)c.batch * (in_padded + out_padded));
  float* out_scale = in_scale + (size_t)c.batch * in_padded;
  std::fill(in_scale, out_scale, 0.f);
  for (int image = 0; image < c.batch; image++)
    for (int i = 0; i < c.in_channels; i++)
      in_scale[image * in_padded + i] = c.styles[image * c.in_channels + i] * c.input_gain;
  constexpr int kSlice = 4 * kChannelBlock;  // output channels of one task
  if (c.energy) parallel((out_padded + kSlice - 1) / kSlice, c.threads, [&](int task) {
    const int first = task * kSlice, end = std::min(out_padded, first + kSlice);
    for (int image = 0; image < c.batch; image++) {
      float sum[kSlice] = {};
      for (int i = 0; i < c.in_channels; i++) {
        const float style = c.styles[image * c.in_channels + i], *energy = c.energy + (size_t)i * out_padded;
        for (int o = first; o < end; o++) sum[o - first] += style * style * energy[o];
      }
      for (int o = first; o < end; o++) out_scale[image * out_padded + o] = 1 / std::sqrt(sum[o - first] + c.eps);
    }
  });
  return {c, in_scale, c.energy ? out_scale : c.scale};
}

struct Finish {  // the epilogue of one image's pixels in one vector of channels
  V scale, bias, gain, slope, low, high;
  const float* noise;
  bool has_act, has_clamp;

  Finish(const Modulated& c, int image, int channel, int padded) {
    const Epilogue& e = c.epilogue;
    scale = c.out_scale ? load(c.out_scale + (size_t)image * padded + channel) : splat(1);
    bias = e.bias ? load(e.bias + channel) : V{};
    noise = e.noise ? e.noise + image * e.noise_stride : nullptr;
    gain = splat(e.gain), slope = splat(e.slope), low = splat(-e.clamp), high = splat(e.clamp);
    has_act = e.slope != 1 || e.gain != 1, has_clamp = e.clamp >= 0;
  }
  V operator()(V y, ptrdiff_t pixel) const {
    y = y * scale + bias;
    if (noise) y += splat(noise[pixel]);
    if (has_act) y = leaky(y, slope) * gain;
    if (has_clamp) y = limit(y, low, high);
    return y;
  }
};

// ---- Weights: [panel][tap][in][kPanel]; missing output channels are zero ---------------------------------------

struct Kernels {  // [out, in, taps] as they lie in memory
  const float* at;
  ptrdiff_t out, in;
  int taps;
  bool turned;  // by half a turn
  float operator()(int o, int i, int t) const { return at[o * out + i * in + (turned ? taps - 1 - t : t)]; }
};

static int64_t direct_packed_size(int out_channels, int in_channels, int kernel) {
  return (int64_t)kernel * kernel * panels(out_channels) * in_channels * kPanel;
}

// order[t]: which tap of the kernel comes at place t; null = as they are
static void pack_direct(const Kernels& w, float* packed, int out_channels, int in_channels, const int* order, int threads) {
  const int taps = w.taps;
  parallel(panels(out_channels), threads, [&](int panel) {
    float* at = packed + (size_t)panel * taps * in_channels * kPanel;
    for (int t = 0; t < taps; t++)
      for (int i = 0; i < in_channels; i++)
        for (int lane = 0; lane < kPanel; lane++, at++) {
          const int o = panel * kPanel + lane;
          *at = o < out_channels ? w(o, i, order ? order[t] : t) : 0;
        }
  });
}

// ---- The product ----------------------------------------------------------------------------------------------

struct Picture {
  const float* at;  // what the first output pixel's first tap reads
  ptrdiff_t batch, row, pixel;
};
struct Weights {
  const float* at;
  size_t panel, image;  // floats from panel to panel, from one image's to the next's
};

// For every pixel of batch x height x width: sums over taps (offsets in x) and input channels, by panels of output
// channels. write(image, y, x, channel, sums).
template <class Write>
static void multiply_picture(const Modulated& c, const Picture& x, int height, int width, const ptrdiff_t* taps,
                             int tap_count, const Weights& w, const Write& write) {
  constexpr int kStrip = 8 * kRows;  // pixels that stay in the second-level cache while all panels pass; short rows share it
  const int segments = (width + kStrip - 1) / kStrip, segment = (width + segments - 1) / segments;
  const int rows = std::max(1, kStrip / width), row_count = c.batch * height;
  const int strips = (row_count + rows - 1) / rows * segments, panel_count = panels(c.out_channels);
  int groups = 1;  // of panels: where strips are few, threads share them
  while (strips * groups < 4 * c.threads && groups < panel_count) groups++;
  parallel(strips * groups, c.threads, [&](int task) {
    const int strip = task / groups, group = task % groups;
    const int x0 = strip % segments * segment, some = std::min(segment, width - x0);
    const int r0 = strip / segments * rows, r1 = std::min(row_count, r0 + rows);
    for (int panel = panel_count * group / groups; panel < panel_count * (group + 1) / groups; panel++)
      for (int r = r0; r < r1; r++) {
        const int image = r / height, y = r % height;
        multiply_panel(panel_vectors(c.out_channels, panel), some, x.at + image * x.batch + y * x.row + x0 * x.pixel,
                       x.pixel, taps, tap_count, c.in_channels, w.at + image * w.image + panel * w.panel,
                       [&](int m, int v, V sum) { write(image, y, x0 + m, panel * kPanel + v * kLanes, sum); });
      }
  });
}

// x * in_scale with zeros around it, so that the product needs no bounds.
static Picture padded_input(const Modulated& c, int padding) {
  const int in_padded = round_up(c.in_channels, kChannelBlock), pixel = spread(in_padded);
  const int high = c.height + 2 * padding, wide = c.width + 2 * padding;
  float* out = buffer(mssg::kPadded, (size_t)c.batch * high * wide * pixel);
  parallel(c.batch * high, c.threads, [&](int task) {
    const int image = task / high, y = task % high - padding;
    float* row = out + (size_t)task * wide * pixel;
    for (int x = -padding; x < c.width + padding; x++, row += pixel) {
      const bool there = y >= 0 && y < c.height && x >= 0 && x < c.width;
      const float* src = c.x + image * c.x_batch + y * c.x_row + x * c.x_pixel;
      for (int k = 0; k < in_padded; k += kLanes) {
        const float* scale = c.in_scale + (size_t)image * in_padded + k;
        store(row + k, there ? load(src + k) * load(scale) : V{});
      }
    }
  });
  return {out, (ptrdiff_t)high * wide * pixel, (ptrdiff_t)wide * pixel, pixel};
}

// A 1x1 kernel's weights with each image's in_scale in them: cheaper than to scale the image.
static Weights scaled_weights(const Modulated& c) {
  const int count = panels(c.out_channels), in_padded = round_up(c.in_channels, kChannelBlock);
  const size_t size = (size_t)count * c.in_channels * kPanel;
  float* out = buffer(mssg::kPadded, size * c.batch);
  parallel(c.batch * count, c.threads, [&](int task) {
    const float *scale = c.in_scale + task / count * in_padded, *from = c.weight + task % count * (size / count);
    float* to = out + task * (size / count);
    for (int i = 0; i < c.in_channels; i++)
      for (int k = 0; k < kPanel; k += kLanes) store(to + i * kPanel + k, load(from + i * kPanel + k) * scale[i]);
  });
  return {out, size / count, size};
}

// ---- Direct convolution ---------------------------------------------------------------------------------------

static Status direct(const Modulated& c) {
  const int out_padded = round_up(c.out_channels, kChannelBlock), taps = c.kernel * c.kernel;
  const int out_height = c.height + 2 * c.padding - c.kernel + 1, out_width = c.width + 2 * c.padding - c.kernel + 1;
  Picture x{c.x, c.x_batch, c.x_row, c.x_pixel};
  Weights w{c.weight, (size_t)taps * c.in_channels * kPanel, 0};
  if (taps == 1 && c.padding == 0)
    w = scaled_weights(c);
  else
    x = padded_input(c, c.padding);
  ptrdiff_t offsets[9];
  for (int i = 0; i < taps; i++) offsets[i] = (i / c.kernel) * x.row + (i % c.kernel) * x.pixel;
  // A 1x1 kernel sees one long row.
  const bool flat = taps == 1 && x.row == out_width * x.pixel && c.y_row == out_width * c.y_pixel;
  const int height = flat ? 1 : out_height, width = flat ? out_height * out_width : out_width;
  multiply_picture(c, x, height, width, offsets, taps, w, [&](int image, int row, int column, int channel, V sum) {
    const Finish finish(c, image, channel, out_padded);
    store(c.y + image * c.y_batch + row * c.y_row + column * c.y_pixel + channel,
          finish(sum, (ptrdiff_t)row * out_width + column));
  });
  return kOk;
}
