// Direct and Winograd convolution of channels-last images with packed weights.
#pragma once
#include <algorithm>
#include <atomic>
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

// ---- Epilogue -------------------------------------------------------------------------------------------------

struct Finish {  // the epilogue of one image's pixels in one vector of channels
  V scale, bias, gain, slope, low, high;
  const float* noise;
  bool has_act, has_clamp;

  Finish(const Epilogue& e, int image, int channel, int padded) {
    scale = e.scale ? load(e.scale + (size_t)image * padded + channel) : splat(1);
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

// ---- Winograd F(4x4, 3x3) -------------------------------------------------------------------------------------
// Lavin & Gray 2016, with interpolation at 0, ±5/8, ±3/2 and infinity instead of 0, ±1, ±2: the errors of float32
// are a seventh, because the powers of the points stay near one. All constants of the transforms of images are exact.

constexpr double kA = 0.625, kB = 1.5, kA2 = kA * kA, kB2 = kB * kB;
constexpr int kPositions = 36, kTile = 4;

static inline void to_points(const V d[6], V out[6]) {
  const float a = kA, b = kB, a2 = kA2, b2 = kB2, sum = kA2 + kB2, product = kA2 * kB2;
  const V ea = d[4] - b2 * d[2], oa = a * (d[3] - b2 * d[1]);
  const V eb = d[4] - a2 * d[2], ob = b * (d[3] - a2 * d[1]);
  out[0] = product * d[0] - sum * d[2] + d[4];
  out[1] = ea + oa, out[2] = ea - oa;
  out[3] = eb + ob, out[4] = eb - ob;
  out[5] = product * d[1] - sum * d[3] + d[5];
}

static inline void from_points(const V m[6], V out[4]) {
  const float a = kA, b = kB, a2 = kA2, b2 = kB2, a3 = kA2 * kA, b3 = kB2 * kB;
  const V sa = m[1] + m[2], da = m[1] - m[2], sb = m[3] + m[4], db = m[3] - m[4];
  out[0] = m[0] + sa + sb;
  out[1] = a * da + b * db;
  out[2] = a2 * sa + b2 * sb;
  out[3] = a3 * da + b3 * db + m[5];
}

static void weight_to_points(const float* w, double out[6][6]) {  // w [3, 3]
  const double at[5] = {0, kA, -kA, kB, -kB};
  const double norm[5] = {kA2 * kB2, 2 * kA2 * (kA2 - kB2), 2 * kA2 * (kA2 - kB2), 2 * kB2 * (kB2 - kA2),
                          2 * kB2 * (kB2 - kA2)};
  auto line = [&](double g0, double g1, double g2, double* o, int step) {
    for (int i = 0; i < 5; i++) o[i * step] = (g0 + at[i] * (g1 + at[i] * g2)) / norm[i];
    o[5 * step] = g2;
  };
  double half[6][3];
  for (int j = 0; j < 3; j++) line(w[j], w[3 + j], w[6 + j], &half[0][j], 3);
  for (int i = 0; i < 6; i++) line(half[i][0], half[i][1], half[i][2], out[i], 1);
}

// ---- Weights --------------------------------------------------------------------------------------------------
// Direct: [panel][tap][in][kPanel]. Winograd: [position][panel][in][kPanel]. Missing output channels are zero.

static int64_t packed_size(int out_channels, int in_channels, int kernel, int winograd) {
  return (int64_t)(winograd ? kPositions : kernel * kernel) * panels(out_channels) * in_channels * kPanel;
}

static void pack_weight(const float* w, float* packed, int out_channels, int in_channels, int kernel, int winograd,
                        int threads) {
  const int taps = kernel * kernel, count = panels(out_channels);
  const size_t panel_size = (size_t)in_channels * kPanel;
  parallel(count, threads, [&](int panel) {
    for (int i = 0; i < in_channels; i++)
      for (int lane = 0; lane < kPanel; lane++) {
        const int o = panel * kPanel + lane;
        const float* kernel_of = o < out_channels ? w + ((size_t)o * in_channels + i) * taps : nullptr;
        float* at = packed + (size_t)i * kPanel + lane;
        if (!winograd) {
          for (int t = 0; t < taps; t++) at[((size_t)panel * taps + t) * panel_size] = kernel_of ? kernel_of[t] : 0;
          continue;
        }
        double points[6][6] = {};
        if (kernel_of) weight_to_points(kernel_of, points);
        for (int p = 0; p < kPositions; p++) at[((size_t)p * count + panel) * panel_size] = (float)points[p / 6][p % 6];
      }
  });
}

// ---- Winograd convolution -------------------------------------------------------------------------------------

struct Tiling {
  int rows, columns, per_image, total, out_height, out_width, in_padded, out_padded;
};

static bool transform_tile(const Convolution& c, const Tiling& t, int tile, float* out, size_t position_stride) {
  const int image = tile / t.per_image, ty = tile % t.per_image / t.columns, tx = tile % t.columns;
  const int y0 = ty * kTile - c.padding, x0 = tx * kTile - c.padding;
  const float* src = c.x + image * c.x_batch + y0 * c.x_row + x0 * c.x_pixel;
  const bool inside = y0 >= 0 && x0 >= 0 && y0 + 6 <= c.height && x0 + 6 <= c.width;
  V poison{};
  for (int k = 0; k < c.in_channels; k += kLanes) {
    const V scale = c.in_scale ? load(c.in_scale + (size_t)image * t.in_padded + k) : splat(1);
    V columns[6][6];
    for (int j = 0; j < 6; j++) {
      V d[6];
      for (int i = 0; i < 6; i++) {
        const bool there = inside || ((unsigned)(y0 + i) < (unsigned)c.height && (unsigned)(x0 + j) < (unsigned)c.width);
        d[i] = there ? load(src + i * c.x_row + j * c.x_pixel + k) * scale : V{};
        poison += d[i] * 0.f;
      }
      to_points(d, columns[j]);
    }
    for (int i = 0; i < 6; i++) {
      V d[6], points[6];
      for (int j = 0; j < 6; j++) d[j] = columns[j][i];
      to_points(d, points);
      for (int j = 0; j < 6; j++) store(out + (i * 6 + j) * position_stride + k, points[j]);
    }
  }
  for (int lane = 0; lane < kLanes; lane++)
    if (poison[lane] != 0) return false;  // true of not-a-number alone
  return true;
}

static void finish_tile(const Convolution& c, const Tiling& t, int tile, const float* products, size_t position_stride) {
  const int image = tile / t.per_image, ty = tile % t.per_image / t.columns, tx = tile % t.columns;
  const int high = std::min(kTile, t.out_height - ty * kTile), wide = std::min(kTile, t.out_width - tx * kTile);
  for (int k = 0; k < t.out_padded; k += kLanes) {
    const Finish finish(c.epilogue, image, k, t.out_padded);
    V rows[4][6];
    for (int j = 0; j < 6; j++) {
      V m[6], o[4];
      for (int i = 0; i < 6; i++) m[i] = load(products + (i * 6 + j) * position_stride + k);
      from_points(m, o);
      for (int i = 0; i < 4; i++) rows[i][j] = o[i];
    }
    for (int i = 0; i < high; i++) {
      V o[4];
      from_points(rows[i], o);
      const int y = ty * kTile + i, x = tx * kTile;
      float* dst = c.y + image * c.y_batch + y * c.y_row + x * c.y_pixel + k;
      for (int j = 0; j < wide; j++) store(dst + j * c.y_pixel, finish(o[j], (ptrdiff_t)y * t.out_width + x + j));
    }
  }
}

// Blocks of tiles such that transformed inputs and products stay in a last-level cache.
static Status winograd(const Convolution& c) {
  constexpr size_t kBlockFloats = (size_t)16 << 18;  // 16 MiB
  Tiling t;
  t.out_height = c.height + 2 * c.padding - 2, t.out_width = c.width + 2 * c.padding - 2;
  t.rows = (t.out_height + kTile - 1) / kTile, t.columns = (t.out_width + kTile - 1) / kTile;
  t.per_image = t.rows * t.columns, t.total = t.per_image * c.batch;
  t.in_padded = round_up(c.in_channels, kChannelBlock), t.out_padded = round_up(c.out_channels, kChannelBlock);
  const size_t per_tile = (size_t)kPositions * (t.in_padded + t.out_padded);
  const int most = std::max<int>(kRows, (int)(kBlockFloats / per_tile) / kRows * kRows);
  const int blocks = (t.total + most - 1) / most, block = (t.total + blocks - 1) / blocks;
  float* transformed = buffer(mssg::kTransformed, (size_t)block * kPositions * t.in_padded);
  float* products = buffer(mssg::kProducts, (size_t)block * kPositions * t.out_padded);
  const int panel_count = panels(c.out_channels);
  const size_t panel_size = (size_t)c.in_channels * kPanel;
  std::atomic<bool> finite{true};
  constexpr int kGrain = 4;  // tiles of one task
  for (int first = 0; first < t.total && finite; first += block) {
    const int count = std::min(block, t.total - first), tasks = (count + kGrain - 1) / kGrain;
    const size_t in_stride = (size_t)count * t.in_padded, out_stride = (size_t)count * t.out_padded;
    parallel(tasks, c.threads, [&](int task) {
      for (int i = task * kGrain; i < std::min(count, (task + 1) * kGrain); i++)
        if (!transform_tile(c, t, first + i, transformed + (size_t)i * t.in_padded, in_stride)) finite = false;
    });
    if (!finite) break;
    const int splits = panel_count > 4 ? 2 : 1;
    parallel(kPositions * splits, c.threads, [&](int task) {
      const int position = task / splits, split = task % splits;
      const ptrdiff_t origin = 0;
      for (int p = panel_count * split / splits; p < panel_count * (split + 1) / splits; p++) {
        float* out = products + position * out_stride + p * kPanel;
        multiply_panel(panel_vectors(c.out_channels, p), count, transformed + position * in_stride, t.in_padded, &origin,
                       1, c.in_channels, c.weight + ((size_t)position * panel_count + p) * panel_size,
                       [=](int m, int v, V x) { store(out + (size_t)m * t.out_padded + v * kLanes, x); });
      }
    });
    parallel(tasks, c.threads, [&](int task) {
      for (int i = task * kGrain; i < std::min(count, (task + 1) * kGrain); i++)
        finish_tile(c, t, first + i, products + (size_t)i * t.out_padded, out_stride);
    });
  }
  return finite ? kOk : kNotFinite;
}

// ---- Direct convolution ---------------------------------------------------------------------------------------

// x * in_scale with zeros around it, so that the product needs no bounds: [batch, height + 2 p, width + 2 p, in].
static float* padded_input(const Convolution& c, int in_padded) {
  const int high = c.height + 2 * c.padding, wide = c.width + 2 * c.padding;
  float* out = buffer(mssg::kPadded, (size_t)c.batch * high * wide * in_padded);
  parallel(c.batch * high, c.threads, [&](int task) {
    const int image = task / high, y = task % high - c.padding;
    float* row = out + (size_t)task * wide * in_padded;
    for (int x = -c.padding; x < c.width + c.padding; x++, row += in_padded) {
      const bool there = y >= 0 && y < c.height && x >= 0 && x < c.width;
      const float* src = c.x + image * c.x_batch + y * c.x_row + x * c.x_pixel;
      for (int k = 0; k < in_padded; k += kLanes) {
        V v = there ? load(src + k) : V{};
        if (c.in_scale && there) v *= load(c.in_scale + (size_t)image * in_padded + k);
        store(row + k, v);
      }
    }
  });
  return out;
}

static Status direct(const Convolution& c) {
  const int in_padded = round_up(c.in_channels, kChannelBlock), out_padded = round_up(c.out_channels, kChannelBlock);
  const int high = c.height + 2 * c.padding, wide = c.width + 2 * c.padding;
  const int out_height = high - c.kernel + 1, out_width = wide - c.kernel + 1, taps = c.kernel * c.kernel;
  const float* x = c.x;
  ptrdiff_t batch_stride = c.x_batch, row_stride = c.x_row, pixel_stride = c.x_pixel;
  if (c.padding > 0 || c.in_scale) {
    x = padded_input(c, in_padded);
    pixel_stride = in_padded, row_stride = (ptrdiff_t)wide * in_padded, batch_stride = high * row_stride;
  }
  ptrdiff_t offsets[9];
  for (int i = 0; i < taps; i++) offsets[i] = (i / c.kernel) * row_stride + (i % c.kernel) * pixel_stride;
  const int panel_count = panels(c.out_channels), rows = c.batch * out_height;
  const size_t panel_size = (size_t)taps * c.in_channels * kPanel;
  constexpr int kGrain = 4;  // rows of one task, which share a panel of weights in the cache
  const int strips = (rows + kGrain - 1) / kGrain;
  parallel(strips * panel_count, c.threads, [&](int task) {
    const int panel = task / strips, vectors = panel_vectors(c.out_channels, panel);
    for (int r = task % strips * kGrain; r < std::min(rows, (task % strips + 1) * kGrain); r++) {
      const int image = r / out_height, y = r % out_height, channel = panel * kPanel;
      const Finish finish[2] = {Finish(c.epilogue, image, channel, out_padded),
                                Finish(c.epilogue, image, channel + (vectors - 1) * kLanes, out_padded)};
      float* out = c.y + image * c.y_batch + y * c.y_row + channel;
      multiply_panel(vectors, out_width, x + image * batch_stride + y * row_stride, pixel_stride, offsets, taps,
                     c.in_channels, c.weight + panel * panel_size, [&](int m, int v, V a) {
                       store(out + m * c.y_pixel + v * kLanes, finish[v](a, (ptrdiff_t)y * out_width + m));
                     });
    }
  });
  return kOk;
}

static Status convolve(const Convolution& c) {
  const bool known = c.kernel == 1 || c.kernel == 3;
  if (!known || c.padding < 0 || c.height + 2 * c.padding < c.kernel || c.width + 2 * c.padding < c.kernel)
    return kBadArgument;
  if (c.winograd) return c.kernel == 3 ? winograd(c) : kBadArgument;
  return direct(c);
}
