// Winograd convolution F(m x m, 3 x 3) of channels-last images (Lavin & Gray 2016, "Fast algorithms for convolutional
// neural networks"): tiles of m + 2 pixels are evaluated as polynomials at m + 1 points and infinity, multiplied there
// with the weights, and interpolated.
//
// The points are 0 and pairs ±a, which the transforms share. Those of m = 4 keep the powers nearer one than the usual
// ±1, ±2: float32's errors are a third. m = 2 only adds and halves.
#pragma once
#include <algorithm>
#include <atomic>

#include "direct.h"

template <int Pairs>
struct Points;
template <>
struct Points<1> {
  static constexpr double at[] = {1};
};
template <>
struct Points<2> {
  static constexpr double at[] = {0.625, 1.5};
};
template <>
struct Points<3> {
  static constexpr double at[] = {0.5, 1, 2};
};

template <int Pairs>
struct Winograd {
  static constexpr int kTile = 2 * Pairs, kSide = kTile + 2, kPositions = kSide * kSide;
  static constexpr auto& at = Points<Pairs>::at;

  // ---- Transforms along one axis ------------------------------------------------------------------------------

  struct Coefficients {
    double c[Pairs + 1] = {};
  };
  // The product of (z - a_j²) over all j but `skip`, by powers of z.
  static constexpr Coefficients product(int skip) {
    Coefficients out;
    out.c[0] = 1;
    for (int j = 0, degree = 0; j < Pairs; j++) {
      if (j == skip) continue;
      degree++;
      for (int i = degree; i >= 0; i--) out.c[i] = (i > 0 ? out.c[i - 1] : 0) - at[j] * at[j] * (i < degree ? out.c[i] : 0);
    }
    return out;
  }
  static constexpr double power(double a, int exponent) { return exponent == 0 ? 1 : a * power(a, exponent - 1); }

  static inline void to_points(const V d[kSide], V out[kSide]) {
    constexpr Coefficients all = product(-1);
    out[0] = d[kTile], out[kSide - 1] = d[kTile + 1];
#pragma GCC unroll 3
    for (int i = 0; i < Pairs; i++) out[0] += (float)all.c[i] * d[2 * i], out[kSide - 1] += (float)all.c[i] * d[2 * i + 1];
#pragma GCC unroll 3
    for (int k = 0; k < Pairs; k++) {
      const Coefficients q = product(k);
      V even = d[kTile], odd = d[kTile - 1];
#pragma GCC unroll 3
      for (int i = 0; i < Pairs - 1; i++) even += (float)q.c[i] * d[2 * i + 2], odd += (float)q.c[i] * d[2 * i + 1];
      odd *= (float)at[k];
      out[2 * k + 1] = even + odd, out[2 * k + 2] = even - odd;
    }
  }

  static inline void from_points(const V m[kSide], V out[kTile]) {
    V sum[Pairs], difference[Pairs];
#pragma GCC unroll 3
    for (int k = 0; k < Pairs; k++) sum[k] = m[2 * k + 1] + m[2 * k + 2], difference[k] = m[2 * k + 1] - m[2 * k + 2];
#pragma GCC unroll 6
    for (int i = 0; i < kTile; i++) {
      V o = i == 0 ? m[0] : i == kTile - 1 ? m[kSide - 1] : V{};
#pragma GCC unroll 3
      for (int k = 0; k < Pairs; k++) o += (float)power(at[k], i) * (i % 2 ? difference : sum)[k];
      out[i] = o;
    }
  }

  static constexpr double point(int i) { return i == 0 ? 0 : (i % 2 ? at[(i - 1) / 2] : -at[(i - 1) / 2]); }

  // What tap t of three takes part with at each point: [t][kSide].
  struct Lagrange {
    double c[3][kSide] = {};
  };
  static constexpr Lagrange lagrange() {
    Lagrange out;
    for (int i = 0; i < kSide - 1; i++) {
      double norm = 1;
      for (int j = 0; j < kSide - 1; j++) norm *= j == i ? 1 : point(i) - point(j);
      for (int t = 0; t < 3; t++) out.c[t][i] = power(point(i), t) / norm;
    }
    out.c[2][kSide - 1] = 1;
    return out;
  }

  // The transposed of what `pack` does along one axis: gradients at the points to those of three taps.
  static inline void points_to_weight(const V m[kSide], V out[3]) {
    constexpr Lagrange at_points = lagrange();
#pragma GCC unroll 3
    for (int t = 0; t < 3; t++) {
      out[t] = V{};
#pragma GCC unroll 8
      for (int i = 0; i < kSide; i++) out[t] += (float)at_points.c[t][i] * m[i];
    }
  }

  // ---- Weights: [position][panel][in][kPanel]; missing output channels are zero ---------------------------------

  static void pack(const Kernels& w, float* packed, int out_channels, int in_channels, int threads) {
    constexpr Lagrange at_points = lagrange();
    const int count = panels(out_channels);
    constexpr int kChannels = 16;  // of one task
    const int tasks = (in_channels + kChannels - 1) / kChannels;
    parallel(count * tasks, threads, [&](int task) {
      const int panel = task / tasks, first = task % tasks * kChannels;
      for (int i = first; i < std::min(in_channels, first + kChannels); i++) {
        double taps[9][kPanel] = {}, half[kSide][3][kPanel];
        for (int lane = 0; lane < std::min(kPanel, out_channels - panel * kPanel); lane++)
          for (int t = 0; t < 9; t++) taps[t][lane] = w(panel * kPanel + lane, i, t);
        for (int r = 0; r < kSide; r++)
          for (int j = 0; j < 3; j++)
            for (int lane = 0; lane < kPanel; lane++)
              half[r][j][lane] = at_points.c[0][r] * taps[j][lane] + at_points.c[1][r] * taps[3 + j][lane] +
                                 at_points.c[2][r] * taps[6 + j][lane];
        for (int p = 0; p < kPositions; p++) {
          const auto& h = half[p / kSide];
          float* out = packed + (((size_t)p * count + panel) * in_channels + i) * kPanel;
          for (int lane = 0; lane < kPanel; lane++)
            out[lane] = (float)(at_points.c[0][p % kSide] * h[0][lane] + at_points.c[1][p % kSide] * h[1][lane] +
                                at_points.c[2][p % kSide] * h[2][lane]);
        }
      }
    });
  }

  // ---- The convolution ------------------------------------------------------------------------------------------

  const Modulated& c;
  const int in_padded = round_up(c.in_channels, kChannelBlock), out_padded = round_up(c.out_channels, kChannelBlock);
  const int in_pixel = spread(in_padded), out_pixel = spread(out_padded), panel_count = panels(c.out_channels);
  const int out_height = c.height + 2 * c.padding - 2, out_width = c.width + 2 * c.padding - 2;
  const int rows = (out_height + kTile - 1) / kTile, columns = (out_width + kTile - 1) / kTile;
  const int total = rows * columns * c.batch;
  std::atomic<bool> finite{true};

  explicit Winograd(const Modulated& convolution) : c(convolution) {}

  struct Block {  // some consecutive tiles: [position][tile][channel]
    int first, count;
    float *points, *products;
  };

  static size_t plane(int tiles, int pixel) { return (size_t)tiles * pixel | kChannelBlock; }
  struct Place {
    int image, y, x;  // of a tile's first output pixel
  };
  Place place(int tile) const {
    const int in_image = tile % (rows * columns);
    return {tile / (rows * columns), in_image / columns * kTile, in_image % columns * kTile};
  }

  void transform(const Block& block, int i) const {
    const Place tile = place(block.first + i);
    const int y0 = tile.y - c.padding, x0 = tile.x - c.padding;
    const float* src = c.x + tile.image * c.x_batch + y0 * c.x_row + x0 * c.x_pixel;
    const bool inside = y0 >= 0 && x0 >= 0 && y0 + kSide <= c.height && x0 + kSide <= c.width;
    const size_t step = plane(block.count, in_pixel);
    for (int k = 0; k < c.in_channels; k += kLanes) {
      const V scale = load(c.in_scale + (size_t)tile.image * in_padded + k);
      V half[kSide][kSide];
      for (int j = 0; j < kSide; j++) {
        V d[kSide];
        for (int r = 0; r < kSide; r++) {
          const bool there = inside || ((unsigned)(y0 + r) < (unsigned)c.height && (unsigned)(x0 + j) < (unsigned)c.width);
          const float* pixel = src + r * c.x_row + j * c.x_pixel + k;
          d[r] = there ? load(pixel) * scale : V{};
          if (there) __builtin_prefetch(pixel + kTile * c.x_pixel);
        }
        to_points(d, half[j]);
      }
      float* out = block.points + (size_t)i * in_pixel + k;
      for (int r = 0; r < kSide; r++) {
        V d[kSide], points[kSide];
        for (int j = 0; j < kSide; j++) d[j] = half[j][r];
        to_points(d, points);
        for (int j = 0; j < kSide; j++) store(out + (r * kSide + j) * step, points[j]);
      }
    }
  }

  void multiply_position(const Block& block, int position, int first_panel, int last_panel) const {
    const ptrdiff_t origin = 0;
    const float* points = block.points + position * plane(block.count, in_pixel);
    for (int p = first_panel; p < last_panel; p++) {
      float* out = block.products + position * plane(block.count, out_pixel) + p * kPanel;
      multiply_panel(panel_vectors(c.out_channels, p), block.count, points, in_pixel, &origin, 1, c.in_channels,
                     c.weight + ((size_t)position * panel_count + p) * c.in_channels * kPanel,
                     [=](int m, int v, V x) { store(out + (size_t)m * out_pixel + v * kLanes, x); });
    }
  }

  // Whether every result was finite.
  bool finish(const Block& block, int i) const {
    const Place tile = place(block.first + i);
    const int high = std::min(kTile, out_height - tile.y), wide = std::min(kTile, out_width - tile.x);
    const size_t step = plane(block.count, out_pixel);
    V poison{};
    for (int k = 0; k < out_padded; k += kLanes) {
      const Finish finish(c, tile.image, k, out_padded);
      const float* in = block.products + (size_t)i * out_pixel + k;
      V half[kTile][kSide];
      for (int j = 0; j < kSide; j++) {
        V m[kSide], o[kTile];
        for (int r = 0; r < kSide; r++) m[r] = load(in + (r * kSide + j) * step);
        from_points(m, o);
        for (int r = 0; r < kTile; r++) half[r][j] = o[r];
      }
      float* dst = c.y + tile.image * c.y_batch + tile.y * c.y_row + tile.x * c.y_pixel + k;
      for (int r = 0; r < high; r++) {
        V o[kTile];
        from_points(half[r], o);
        for (int j = 0; j < wide; j++) {
          poison += o[j] * 0.f;
          __builtin_prefetch(dst + r * c.y_row + (j + kTile) * c.y_pixel, 1);
          store(dst + r * c.y_row + j * c.y_pixel, finish(o[j], (ptrdiff_t)(tile.y + r) * out_width + tile.x + j));
        }
      }
    }
    for (int lane = 0; lane < kLanes; lane++)
      if (poison[lane] != 0) return false;  // true of not-a-number alone
    return true;
  }

  Block block(int first, int count) const {
    return {first, count, buffer(mssg::kTransformed, kPositions * plane(count, in_pixel)),
            buffer(mssg::kProducts, kPositions * plane(count, out_pixel))};
  }

  // Weights that fit a cache are read again by every thread for its own blocks, which stay in its second-level cache.
  // Large ones are read once: all threads work on the same large block, step by step.
  Status run() {
    const size_t per_tile = (size_t)kPositions * (in_pixel + out_pixel);
    const bool few_weights = (size_t)kPositions * c.in_channels * panel_count * kPanel <= kFewWeights;
    const int fitting = (int)((few_weights ? kOwnBlock : kSharedBlock) / per_tile) / kRows * kRows;
    const int most = std::max(kRows, fitting);
    int blocks = (total + most - 1) / most;
    if (few_weights) blocks = round_up(blocks, std::min(std::max(c.threads, 1), total));
    const int size = (total + blocks - 1) / blocks;
    if (few_weights)
      parallel(blocks, c.threads, [&](int b) {
        if (b * size >= total || !finite) return;
        const Block own = block(b * size, std::min(size, total - b * size));
        for (int i = 0; i < own.count; i++) transform(own, i);
        for (int p = 0; p < kPositions; p++) multiply_position(own, p, 0, panel_count);
        for (int i = 0; i < own.count; i++)
          if (!finish(own, i)) finite = false;
      });
    else
      for (int first = 0; first < total && finite; first += size) {
        const Block shared = block(first, std::min(size, total - first));
        const int tasks = (shared.count + kGrain - 1) / kGrain;
        auto tiles = [&](int task, auto&& work) {
          for (int i = task * kGrain; i < std::min(shared.count, (task + 1) * kGrain); i++) work(i);
        };
        parallel(tasks, c.threads, [&](int task) { tiles(task, [&](int i) { transform(shared, i); }); });
        const int splits = panel_count > 4 ? 2 : 1;
        parallel(kPositions * splits, c.threads, [&](int task) {
          const int split = task % splits;
          multiply_position(shared, task / splits, panel_count * split / splits, panel_count * (split + 1) / splits);
        });
        parallel(tasks, c.threads, [&](int task) {
          tiles(task, [&](int i) {
            if (!finish(shared, i)) finite = false;
          });
        });
      }
    return finite ? kOk : kNotFinite;
  }

  static constexpr size_t kFewWeights = 4 << 20, kOwnBlock = 400 << 10, kSharedBlock = 4 << 20;  // floats
  static constexpr int kGrain = 4;  // tiles of one task on a shared block
};

static int64_t winograd_packed_size(int out_channels, int in_channels, int tile) {
  return (int64_t)(tile + 2) * (tile + 2) * panels(out_channels) * in_channels * kPanel;
}
