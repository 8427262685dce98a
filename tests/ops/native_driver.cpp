// Runs the native kernels over random shapes in buffers of exactly the promised sizes, and checks the results against
// plain loops. Built with sanitizers by test_native_library.py.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "api.h"

static std::mt19937 generator(1);
static int pick(int low, int high) { return low + (int)(generator() % (unsigned)(high - low + 1)); }
static std::vector<float> noise(size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& v : out) v = normal(generator);
  return out;
}

struct Image {
  int batch, height, width, channels, block;
  std::vector<float> data;
  Image(int n, int h, int w, int c) : batch(n), height(h), width(w), channels(c), block(round_up(c, 16)) {
    data = noise((size_t)n * h * w * block);
  }
  float at(int n, int c, int y, int x) const {
    if (y < 0 || x < 0 || y >= height || x >= width) return 0;
    return data[(((size_t)n * height + y) * width + x) * block + c];
  }
};

template <class Arguments>
static void place(Arguments& a, const Image& x, Image& y) {
  a.x = x.data.data(), a.y = y.data.data();
  a.x_pixel = x.block, a.x_row = (int64_t)x.width * x.block, a.x_batch = a.x_row * x.height;
  a.y_pixel = y.block, a.y_row = (int64_t)y.width * y.block, a.y_batch = a.y_row * y.height;
  a.batch = x.batch, a.height = x.height, a.width = x.width, a.threads = pick(1, 3);
}

static void require(double got, double expected, double scale, const char* what) {
  if (std::fabs(got - expected) <= 2e-4 * (1 + scale)) return;
  std::printf("%s: %g instead of %g\n", what, got, expected);
  std::exit(1);
}

// The same weights [out, in, k k] from memory [in, out, k k] with every kernel turned by half a turn.
static void packing(const std::vector<float>& w, const std::vector<float>& packed, int out, int in, int k, int winograd) {
  const int taps = k * k;
  std::vector<float> turned(w.size()), again(packed.size());
  for (int o = 0; o < out; o++)
    for (int i = 0; i < in; i++)
      for (int t = 0; t < taps; t++) turned[(i * out + o) * taps + t] = w[(o * in + i) * taps + taps - 1 - t];
  mssg_pack_weight(turned.data(), again.data(), out, in, k, taps, out * taps, 1, 1, winograd, 3);
  if (again != packed) require(1, 0, 0, "turned weights");
}

// y is the gradient that arrives at the result.
static void weight_gradient(const Convolution& c, const Image& x, const Image& y, const std::vector<float>& scale) {
  const int in = x.channels, out = y.channels;
  std::vector<float> result((size_t)out * in * 9);
  WeightGradient g{c, y.data.data(), result.data(), c.y_batch, c.y_row, c.y_pixel};
  const auto factor = noise((size_t)x.batch * y.block);
  g.forward.energy = nullptr, g.forward.scale = pick(0, 1) ? factor.data() : nullptr;
  require(mssg_weight_gradient(&g), kOk, 0, "status");
  for (int check = 0; check < 50; check++) {
    const int o = pick(0, out - 1), i = pick(0, in - 1), t = pick(0, 8);
    double s = 0, size = 0;
    for (int n = 0; n < x.batch; n++)
      for (int r = 0; r < y.height; r++)
        for (int q = 0; q < y.width; q++) {
          const double d = g.forward.scale ? factor[n * y.block + o] : 1;
          const double v = d * y.at(n, o, r, q) * scale[n * in + i] * 1.25 *
                           x.at(n, i, r + t / 3 - c.padding, q + t % 3 - c.padding);
          s += v, size += std::fabs(v);
        }
    require(result[((size_t)o * in + i) * 9 + t], s, size, "gradient of the weight");
  }
}

static void convolution() {
  const int k = pick(0, 1) ? 3 : 1, padding = pick(0, 2), in = pick(1, 40), out = pick(1, 40);
  Image x(pick(1, 4), pick(k, 13), pick(k, 13), in);
  Image y(x.batch, x.height + 2 * padding - k + 1, x.width + 2 * padding - k + 1, out);
  const auto w = noise((size_t)out * in * k * k), scale = noise((size_t)x.batch * in), bias = noise(y.block);
  const auto grain = noise((size_t)y.height * y.width);
  auto energy = noise((size_t)in * y.block);
  for (float& e : energy) e = std::fabs(e);
  const auto factor = noise((size_t)x.batch * y.block);
  const bool demodulates = pick(0, 1);
  for (int winograd = 0; winograd <= (k == 3 ? 6 : 0); winograd += 2) {
    std::vector<float> packed(mssg_packed_size(out, in, k, winograd));
    mssg_pack_weight(w.data(), packed.data(), out, in, k, in * k * k, k * k, 0, 1, winograd, 2);
    packing(w, packed, out, in, k, winograd);
    Convolution c{};
    place(c, x, y);
    c.styles = scale.data(), c.input_gain = 1.25f, c.weight = packed.data(), c.in_channels = in, c.out_channels = out;
    c.kernel = k, c.padding = padding, c.winograd = winograd, c.up = 1;
    c.energy = demodulates ? energy.data() : nullptr, c.scale = factor.data(), c.eps = 0.5f;
    c.epilogue = {bias.data(), grain.data(), 0, 1.5f, 0.2f, 6.f};
    require(mssg_convolve(&c), kOk, 0, "status");
    for (int check = 0; check < 200; check++) {
      const int n = pick(0, x.batch - 1), o = pick(0, out - 1), r = pick(0, y.height - 1), q = pick(0, y.width - 1);
      double s = 0, size = 0;
      for (int i = 0; i < in; i++)
        for (int t = 0; t < k * k; t++) {
          const double v = (double)w[((size_t)o * in + i) * k * k + t] * scale[n * in + i] * 1.25 *
                           x.at(n, i, r + t / k - padding, q + t % k - padding);
          s += v, size += std::fabs(v);
        }
      double spread = 0.5;
      for (int i = 0; i < in; i++) spread += (double)scale[n * in + i] * scale[n * in + i] * energy[(size_t)i * y.block + o];
      s = s * (demodulates ? 1 / std::sqrt(spread) : factor[n * y.block + o]) + bias[o] + grain[(size_t)r * y.width + q];
      s = std::fmin(std::fmax((s > 0 ? s : 0.2 * s) * 1.5, -6), 6);
      require(y.at(n, o, r, q), s, size, winograd ? "winograd" : "direct");
    }
    if (winograd == 2 || winograd == 4) weight_gradient(c, x, y, scale);
  }
}

static void doubling() {
  const int in = pick(1, 40), out = pick(1, 40);
  Image x(pick(1, 2), pick(1, 9), pick(1, 9), in), y(x.batch, 2 * x.height, 2 * x.width, out);
  const auto w = noise((size_t)out * in * 9), scale = noise((size_t)x.batch * in), bias = noise(y.block);
  const auto row = noise(4), column = noise(4), grain = noise((size_t)y.height * y.width);
  std::vector<float> packed(mssg_packed_size(out, in, 3, 0));
  mssg_pack_weight(w.data(), packed.data(), out, in, 3, in * 9, 9, 0, 2, 0, 2);
  Convolution c{};
  place(c, x, y);
  c.styles = scale.data(), c.input_gain = 1.25f, c.weight = packed.data(), c.in_channels = in, c.out_channels = out;
  c.kernel = 3, c.padding = 1, c.up = 2, c.up_row = row.data(), c.up_column = column.data();
  c.epilogue = {bias.data(), grain.data(), 0, 1.5f, 0.2f, 6.f};
  require(mssg_convolve(&c), kOk, 0, "status");
  for (int check = 0; check < 60; check++) {
    const int n = pick(0, x.batch - 1), o = pick(0, out - 1), r = pick(0, y.height - 1), q = pick(0, y.width - 1);
    double s = 0, size = 0;
    for (int a = 0; a < 4; a++)
      for (int b = 0; b < 4; b++)
        for (int t = 0; t < 9; t++) {
          const int at_y = r + a - 1 - t / 3, at_x = q + b - 1 - t % 3;  // twice the input pixel this tap spreads
          if (at_y < 0 || at_x < 0 || at_y % 2 || at_x % 2) continue;
          for (int i = 0; i < in; i++) {
            const double v = (double)column[a] * row[b] * w[((size_t)o * in + i) * 9 + t] * scale[n * in + i] * 1.25 *
                             x.at(n, i, at_y / 2, at_x / 2);
            s += v, size += std::fabs(v);
          }
        }
    s += bias[o] + grain[(size_t)r * y.width + q];
    s = std::fmin(std::fmax((s > 0 ? s : 0.2 * s) * 1.5, -6), 6);
    require(y.at(n, o, r, q), s, size, "doubling");
  }
}

// y is the gradient that arrives at the result.
static void gradient(const FilteredLrelu& p, const Image& x, const Image& y, const std::vector<float>& bias) {
  Image gx(1, x.height, x.width, x.channels);
  FilteredLreluGradient g{};
  g.forward = p, g.forward.y = gx.data.data(), g.grad = y.data.data();
  g.forward.y_pixel = p.x_pixel, g.forward.y_row = p.x_row, g.forward.y_batch = p.x_batch;
  g.grad_pixel = p.y_pixel, g.grad_row = p.y_row, g.grad_batch = p.y_batch;
  require(mssg_filtered_lrelu_gradient(&g), kOk, 0, "status");
  for (int check = 0; check < 6; check++) {
    const int c = pick(0, x.channels - 1), r = pick(0, x.height - 1), q = pick(0, x.width - 1);
    double sum = 0, size = 0, unsure = 0;  // samples at a kink may count either way
    for (int i = 0; i < p.up_column_taps; i++)
      for (int j = 0; j < p.up_row_taps; j++) {
        const int ty = r * p.up + p.pad_y - i, tx = q * p.up + p.pad_x - j;
        double s = 0, arrives = 0;
        for (int a = 0; a < p.up_column_taps; a++)
          for (int b = 0; b < p.up_row_taps; b++) {
            const int v = ty + a - p.pad_y, w = tx + b - p.pad_x;
            if (v < 0 || w < 0 || v % p.up || w % p.up || v / p.up >= x.height || w / p.up >= x.width) continue;
            s += (double)p.up_column[a] * p.up_row[b] * (x.at(0, c, v / p.up, w / p.up) + bias[c]);
          }
        for (int a = 0; a < p.down_column_taps; a++)
          for (int b = 0; b < p.down_row_taps; b++)
            if (ty >= a && tx >= b && (ty - a) % p.down == 0 && (tx - b) % p.down == 0)
              arrives += (double)p.down_column[a] * p.down_row[b] * y.at(0, c, (ty - a) / p.down, (tx - b) / p.down);
        const double term = arrives * p.up_column[i] * p.up_row[j], v = s > 0 ? s : 0.1 * s;
        const bool clamped = p.clamp >= 0 && std::fabs(v) > p.clamp;
        size += std::fabs(term), sum += clamped ? 0 : s > 0 ? term : 0.1 * term;
        if (std::fabs(s) < 1e-4 || std::fabs(std::fabs(v) - p.clamp) < 1e-4) unsure += std::fabs(term);
      }
    require(gx.at(0, c, r, q), sum, size + 1e4 * unsure, "gradient");
  }
}

static void resampling() {
  FilteredLrelu p{};
  const bool six = pick(0, 1);
  p.up = six ? 2 * pick(1, 2) : pick(1, 4), p.down = six ? 2 : pick(1, 4), p.terms = std::max(1, pick(-2, 5));
  p.up_row_taps = six ? 6 * p.up : pick(1, 9), p.up_column_taps = six ? 6 * p.up : pick(1, 9);
  p.down_row_taps = six ? 12 : pick(1, 9), p.down_column_taps = six ? 12 : pick(1, 9);
  p.pad_x = pick(-2, 14), p.pad_y = pick(-2, 14), p.channels = pick(1, 20);
  Image x(1, pick(1, 20), pick(1, 20), p.channels), y(1, pick(1, 30), pick(1, 60), p.channels);
  const auto bias = noise(x.block);
  auto ur = noise(p.up_row_taps), uc = noise(p.up_column_taps);
  auto dr = noise((size_t)p.terms * p.down_row_taps), dc = noise((size_t)p.terms * p.down_column_taps);
  if (six && pick(0, 3))
    for (auto* f : {&dr, &dc, &ur, &uc}) {
      const int n = f == &dr || f == &dc ? 12 : 6 * p.up;
      for (size_t i = 0; i < f->size(); i++) (*f)[i] = (*f)[i / n * n + std::min(i % n, n - 1 - i % n)];
    }
  place(p, x, y);
  p.out_height = y.height, p.out_width = y.width, p.bias = bias.data();
  p.up_row = ur.data(), p.up_column = uc.data(), p.down_row = dr.data(), p.down_column = dc.data();
  p.slope = 0.1f, p.clamp = pick(0, 1) ? 2.f : -1.f;
  if (p.terms == 1) gradient(p, x, y, bias);
  require(mssg_filtered_lrelu(&p), kOk, 0, "status");
  for (int check = 0; check < 60; check++) {
    const int c = pick(0, p.channels - 1), r = pick(0, y.height - 1), q = pick(0, y.width - 1);
    double s = 0, size = 0;
    for (int a = 0; a < p.down_column_taps; a++)
      for (int b = 0; b < p.down_row_taps; b++) {
        double f = 0, v = 0;
        for (int t = 0; t < p.terms; t++) f += (double)dc[t * p.down_column_taps + a] * dr[t * p.down_row_taps + b];
        for (int i = 0; i < p.up_column_taps; i++)
          for (int j = 0; j < p.up_row_taps; j++) {
            const int ty = r * p.down + a + i - p.pad_y, tx = q * p.down + b + j - p.pad_x;
            if (ty < 0 || tx < 0 || ty % p.up || tx % p.up) continue;
            if (ty / p.up >= x.height || tx / p.up >= x.width) continue;
            v += (double)uc[i] * ur[j] * (x.at(0, c, ty / p.up, tx / p.up) + bias[c]);
          }
        v = v > 0 ? v : 0.1 * v;
        if (p.clamp >= 0) v = std::fmin(std::fmax(v, -p.clamp), p.clamp);
        s += f * v, size += std::fabs(f * v);
      }
    require(y.at(0, c, r, q), s, size, six ? "six taps" : "any taps");
  }
}

// A layer is its two halves, one after the other.
static void layer() {
  const int in = pick(1, 20), out = pick(1, 40);
  Image x(pick(1, 3), pick(3, 12), pick(3, 12), in), between(x.batch, x.height + 2, x.width + 2, out);
  Image y(x.batch, pick(1, 20), pick(1, 20), out), z = y;
  const auto w = noise((size_t)out * in * 9), styles = noise((size_t)x.batch * in), taps = noise(12);
  std::vector<float> packed(mssg_packed_size(out, in, 3, 4));
  mssg_pack_weight(w.data(), packed.data(), out, in, 3, in * 9, 9, 0, 1, 4, 2);
  Convolution c{};
  place(c, x, between);
  c.styles = styles.data(), c.input_gain = 1, c.weight = packed.data(), c.in_channels = in, c.out_channels = out;
  c.kernel = 3, c.padding = 2, c.winograd = 4, c.up = 1, c.epilogue = {nullptr, nullptr, 0, 1, 1, -1};
  FilteredLrelu p{};
  place(p, between, y);
  p.channels = out, p.out_height = y.height, p.out_width = y.width, p.up = p.down = 2, p.pad_x = p.pad_y = 9;
  p.up_row = p.up_column = p.down_row = p.down_column = taps.data(), p.terms = 1, p.slope = 0.2f, p.clamp = -1;
  p.up_row_taps = p.up_column_taps = p.down_row_taps = p.down_column_taps = 12;
  require(mssg_convolve(&c), kOk, 0, "status");
  require(mssg_filtered_lrelu(&p), kOk, 0, "status");
  c.y = nullptr, p.x = nullptr, p.y = z.data.data();
  require(mssg_layer(&c, &p), kOk, 0, "status");
  for (int n = 0; n < y.batch; n++)
    for (int o = 0; o < out; o++)
      for (int i = 0; i < y.height * y.width; i++)
        require(z.at(n, o, i / y.width, i % y.width), y.at(n, o, i / y.width, i % y.width), 0, "layer");
}

int main(int, char** arguments) {
  for (int i = 0; i < std::atoi(arguments[1]); i++) convolution(), doubling(), resampling(), layer();
  std::puts("fine");
}
