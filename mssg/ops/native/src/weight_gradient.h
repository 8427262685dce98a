// The gradient of a 3x3 convolution with respect to its weights: Winograd's convolution read backwards. Every tile is
// from_points(to_points(x) * weight_to_points(w)), linear in w; the gradient is therefore the transposed of
// weight_to_points, applied to the sum over tiles of to_points(x) * the transposed of from_points, applied to y's gradient.
// At each position these sums are a matrix product [in x tiles] x [tiles x out].
//
// Blocks of tiles have one size and are summed in order: the number of threads changes nothing.
#pragma once
#include "winograd.h"

// sums[m][kPanel] = or += the sum over k of a[k * step + m] * b[k][kPanel].
template <int Rows, int Vectors>
static inline void accumulate(const float* a, ptrdiff_t step, const float* b, int depth, bool add, float* sums) {
  V acc[Rows][Vectors] = {};
  for (int k = 0; k < depth; k++, a += step, b += kPanel) {
    V w[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; v++) w[v] = load(b + v * kLanes);
#pragma GCC unroll 12
    for (int m = 0; m < Rows; m++) {
      const V x = splat(a[m]);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; v++) acc[m][v] += x * w[v];
    }
  }
  for (int m = 0; m < Rows; m++)
    for (int v = 0; v < Vectors; v++) {
      float* sum = sums + m * kPanel + v * kLanes;
      store(sum, add ? load(sum) + acc[m][v] : acc[m][v]);
    }
}

// Exactly `rows` rows, 1 … Most.
template <int Vectors, int Most = kRows>
static inline void accumulate_few(int rows, const float* a, ptrdiff_t step, const float* b, int depth, bool add, float* sums) {
  if constexpr (Most > 1)
    if (rows < Most) return accumulate_few<Vectors, Most - 1>(rows, a, step, b, depth, add, sums);
  accumulate<Most, Vectors>(a, step, b, depth, add, sums);
}

// Any number of rows, in pieces of nearly equal size.
static inline void accumulate_rows(int vectors, int rows, const float* a, ptrdiff_t step, const float* b, int depth, bool add,
                                   float* sums) {
  for (int m = 0, pieces = (rows + kRows - 1) / kRows; pieces > 0; pieces--) {
    const int some = (rows - m + pieces - 1) / pieces;
    if (vectors > 1)
      accumulate_few<2>(some, a + m, step, b, depth, add, sums + m * kPanel);
    else
      accumulate_few<1>(some, a + m, step, b, depth, add, sums + m * kPanel);
    m += some;
  }
}

template <int Pairs>
struct WinogradWeights {
  using Forward = Winograd<Pairs>;
  using Block = typename Forward::Block;
  static constexpr int kTile = Forward::kTile, kSide = Forward::kSide, kPositions = Forward::kPositions;
  static constexpr int kTiles = 128;  // of a block: a panel of its gradients stays in the first-level cache

  const Modulated& c;
  const WeightGradient& g;
  const Forward forward{c};
  const int panel_count = forward.panel_count;
  const int most = std::max(kRows, std::min(kTiles, (int)(Forward::kSharedBlock / kPositions / (forward.in_pixel + forward.out_pixel))));

  static inline void gradient_to_points(const V g[kTile], V out[kSide]) {
    out[0] = g[0], out[kSide - 1] = g[kTile - 1];
#pragma GCC unroll 3
    for (int k = 0; k < Pairs; k++) {
      V even = g[0], odd{};
#pragma GCC unroll 6
      for (int i = 1; i < kTile; i++) (i % 2 ? odd : even) += (float)Forward::power(Forward::at[k], i) * g[i];
      out[2 * k + 1] = even + odd, out[2 * k + 2] = even - odd;
    }
  }

  // The gradients at the points: [position][panel][tile][kPanel], planes apart by an odd number of blocks of channels.
  size_t plane(int tiles) const { return (size_t)panel_count * tiles * kPanel + kChannelBlock; }

  void transform_gradient(const Block& block, int i) const {
    const auto tile = forward.place(block.first + i);
    const int high = std::min(kTile, forward.out_height - tile.y), wide = std::min(kTile, forward.out_width - tile.x);
    const float* src = g.grad + tile.image * g.grad_batch + tile.y * g.grad_row + tile.x * g.grad_pixel;
    const size_t step = plane(block.count);
    for (int k = 0; k < forward.out_padded; k += kLanes) {
      const V scale = c.out_scale ? load(c.out_scale + (size_t)tile.image * forward.out_padded + k) : splat(1);
      V half[kTile][kSide];
      for (int j = 0; j < kTile; j++) {
        V d[kTile];
        for (int r = 0; r < kTile; r++) {
          const bool there = r < high && j < wide;
          const float* pixel = src + r * g.grad_row + j * g.grad_pixel + k;
          d[r] = there ? load(pixel) * scale : V{};
          if (there) __builtin_prefetch(pixel + kTile * g.grad_pixel);
        }
        gradient_to_points(d, half[j]);
      }
      float* out = block.products + ((size_t)(k / kPanel) * block.count + i) * kPanel + k % kPanel;
      for (int r = 0; r < kSide; r++) {
        V d[kTile], points[kSide];
        for (int j = 0; j < kTile; j++) d[j] = half[j][r];
        gradient_to_points(d, points);
        for (int j = 0; j < kSide; j++) store(out + (r * kSide + j) * step, points[j]);
      }
    }
  }

  // sums: [position][panel][in][kPanel]
  float* sum(float* sums, int position, int panel) const {
    return sums + ((size_t)position * panel_count + panel) * c.in_channels * kPanel;
  }

  void accumulate_position(const Block& block, int position, int panel, float* sums) const {
    accumulate_rows(panel_vectors(c.out_channels, panel), c.in_channels,
                    block.points + position * Forward::plane(block.count, forward.in_pixel), forward.in_pixel,
                    block.products + position * plane(block.count) + (size_t)panel * block.count * kPanel, block.count,
                    block.first > 0, sum(sums, position, panel));
  }

  // One input channel and one vector of output channels; whether every result is finite.
  bool finish(const float* sums, int panel, int v, int i) const {
    V half[3][kSide];
    for (int j = 0; j < kSide; j++) {
      V m[kSide], o[3];
      for (int r = 0; r < kSide; r++)
        m[r] = load(sum(const_cast<float*>(sums), r * kSide + j, panel) + (size_t)i * kPanel + v * kLanes);
      Forward::points_to_weight(m, o);
      for (int r = 0; r < 3; r++) half[r][j] = o[r];
    }
    V out[9];
    for (int r = 0; r < 3; r++) Forward::points_to_weight(half[r], out + 3 * r);
    float poison = 0;
    const int first = panel * kPanel + v * kLanes;
    for (int lane = 0; lane < std::min(kLanes, c.out_channels - first); lane++)
      for (int t = 0; t < 9; t++) {
        poison += out[t][lane] * 0.f;
        g.result[((size_t)(first + lane) * c.in_channels + i) * 9 + t] = out[t][lane];
      }
    return poison == 0;
  }

  Status run() const {
    float* sums = buffer(mssg::kPadded, (size_t)kPositions * panel_count * c.in_channels * kPanel);
    for (int first = 0; first < forward.total; first += most) {
      const int count = std::min(most, forward.total - first);
      const Block block{first, count, buffer(mssg::kTransformed, kPositions * Forward::plane(count, forward.in_pixel)),
                        buffer(mssg::kProducts, kPositions * plane(count))};
      constexpr int kGrain = 4;
      parallel((count + kGrain - 1) / kGrain, c.threads, [&](int task) {
        for (int i = task * kGrain; i < std::min(count, (task + 1) * kGrain); i++)
          forward.transform(block, i), transform_gradient(block, i);
      });
      parallel(kPositions * panel_count, c.threads,
               [&](int task) { accumulate_position(block, task / panel_count, task % panel_count, sums); });
    }
    std::atomic<bool> finite{true};
    constexpr int kChannels = 8;  // of one task
    const int tasks = (c.in_channels + kChannels - 1) / kChannels;
    parallel(panel_count * tasks, c.threads, [&](int task) {
      const int panel = task / tasks, first = task % tasks * kChannels;
      for (int i = first; i < std::min(c.in_channels, first + kChannels); i++)
        for (int v = 0; v < panel_vectors(c.out_channels, panel); v++)
          if (!finish(sums, panel, v, i)) finite = false;
    });
    return finite ? kOk : kNotFinite;
  }
};

static Status weight_gradient(const WeightGradient& g) {
  const Convolution& f = g.forward;
  if (f.kernel != 3 || f.up != 1 || f.padding < 0 || f.height + 2 * f.padding < 3 || f.width + 2 * f.padding < 3 || f.energy)
    return kBadArgument;
  const Modulated c = modulate(f);
  if (f.winograd == 2) return WinogradWeights<1>{c, g}.run();
  if (f.winograd == 4) return WinogradWeights<2>{c, g}.run();
  return kBadArgument;
}
