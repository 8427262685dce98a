// A layer of StyleGAN3: a convolution, then a filtered leaky ReLU.
#pragma once
#include "convolution.h"
#include "filtered_lrelu.h"

// What lies between (c.y, p.x) stays in a buffer, of few images at a time.
static Status layer(Convolution c, FilteredLrelu p) {
  constexpr int64_t kMost = 16 << 20;  // floats of the buffer, unless one image needs more
  if (c.up != 1 || c.batch != p.batch) return kBadArgument;
  const int images = c.batch, some = std::max(1, (int)std::min<int64_t>(kMost / c.y_batch, images));
  float* between = buffer(mssg::kConvolved, (size_t)some * c.y_batch);
  c.y = between, p.x = between, p.x_batch = c.y_batch, p.x_row = c.y_row, p.x_pixel = c.y_pixel;
  for (int done = 0; done < images; done += some) {
    c.batch = p.batch = std::min(some, images - done);
    const Status status = convolve(c);
    if (status != kOk) return status;
    filtered_lrelu(p);
    c.x += some * c.x_batch, c.styles += (ptrdiff_t)some * c.in_channels, p.y += some * p.y_batch;
    if (c.scale) c.scale += (ptrdiff_t)some * round_up(c.out_channels, kChannelBlock);
  }
  return kOk;
}
