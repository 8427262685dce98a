// StyleGAN2's layer onto twice the resolution: a 3x3 convolution of the image with zeros between its pixels, then a
// smoothing filter of 4x4 taps. No zero is multiplied: the pixels of either parity of row and column see 2x2, 2x1, 1x2
// or 1x1 of the kernel's taps.
#pragma once
#include "direct.h"

constexpr int kSmooth = 4;  // taps of the smoothing filter
constexpr int kParityOrder[9] = {0, 2, 6, 8, 1, 7, 3, 5, 4};  // the kernel's taps, those of one parity together

// y = epilogue(smoothed between): between holds the image and one pixel of zeros around it.
static void smooth(const Modulated& c, const float* between, int between_wide, int pixel) {
  constexpr int kStrip = 8;  // rows
  const int high = 2 * c.height, wide = 2 * c.width, out_padded = round_up(c.out_channels, kChannelBlock);
  const ptrdiff_t row = (ptrdiff_t)between_wide * pixel, image_size = (high + kSmooth - 1) * row;
  const int strips = (high + kStrip - 1) / kStrip;
  V across[kSmooth], down[kSmooth];
  for (int i = 0; i < kSmooth; i++) across[i] = splat(c.up_row[i]), down[i] = splat(c.up_column[i]);
  parallel(c.batch * strips, c.threads, [&](int task) {
    const int image = task / strips, y0 = task % strips * kStrip, rows = std::min(kStrip, high - y0);
    for (int x = 0; x < wide; x++)
      for (int k = 0; k < out_padded; k += kLanes) {
        const Finish finish(c, image, k, out_padded);
        const float* in = between + image * image_size + y0 * row + x * pixel + k;
        float* out = c.y + image * c.y_batch + y0 * c.y_row + x * c.y_pixel + k;
        auto line = [&](int r) {
          const float* p = in + r * row;
          return load(p) * across[0] + load(p + pixel) * across[1] + load(p + 2 * pixel) * across[2] +
                 load(p + 3 * pixel) * across[3];
        };
        V first = line(0), second = line(1), third = line(2);
        for (int r = 0; r < rows; r++) {
          const V fourth = line(r + 3), sum = first * down[0] + second * down[1] + third * down[2] + fourth * down[3];
          store(out + r * c.y_row, finish(sum, (ptrdiff_t)(y0 + r) * wide + x));
          first = second, second = third, third = fourth;
        }
      }
  });
}

static Status transposed(const Modulated& c) {
  if (c.kernel != 3 || c.padding != 1 || !c.up_row || !c.up_column) return kBadArgument;
  const int pixel = spread(round_up(c.out_channels, kChannelBlock));
  const int high = 2 * c.height + 3, wide = 2 * c.width + 3;  // 2 n + 1 pixels of the convolution, zeros around
  float* between = buffer(mssg::kConvolved, (size_t)c.batch * high * wide * pixel);
  parallel(c.batch * high, c.threads, [&](int task) {
    float* line = between + (size_t)task * wide * pixel;
    const bool edge = task % high == 0 || task % high == high - 1;
    std::fill(line, line + (edge ? wide : 1) * pixel, 0.f);
    std::fill(line + (wide - 1) * pixel, line + wide * pixel, 0.f);
  });
  const Picture x = padded_input(c, 1);
  const ptrdiff_t offsets[9] = {x.row + x.pixel, x.row, x.pixel, 0, x.row + x.pixel, x.pixel, x.row + x.pixel, x.row, x.row + x.pixel};
  const size_t panel = (size_t)9 * c.in_channels * kPanel;
  for (int parity = 0, tap = 0; parity < 4; parity++) {
    const int y = parity / 2, x_parity = parity % 2, taps = (2 - y) * (2 - x_parity);
    const Weights w{c.weight + (size_t)tap * c.in_channels * kPanel, panel, 0};
    multiply_picture(c, x, c.height + 1 - y, c.width + 1 - x_parity, offsets + tap, taps, w,
                     [&](int image, int row, int column, int channel, V sum) {
                       const ptrdiff_t at = ((ptrdiff_t)image * high + 2 * row + y + 1) * wide + 2 * column + x_parity + 1;
                       store(between + at * pixel + channel, sum);
                     });
    tap += taps;
  }
  smooth(c, between, wide, pixel);
  return kOk;
}
