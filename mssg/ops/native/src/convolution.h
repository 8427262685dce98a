// Which convolution runs.
#pragma once
#include "direct.h"
#include "transposed.h"
#include "winograd.h"

static int64_t packed_size(int out_channels, int in_channels, int kernel, int winograd) {
  return winograd ? winograd_packed_size(out_channels, in_channels, winograd)
                  : direct_packed_size(out_channels, in_channels, kernel);
}

static void pack_weight(const Kernels& w, float* packed, int out_channels, int in_channels, int up, int winograd, int threads) {
  if (winograd == 2) return Winograd<1>::pack(w, packed, out_channels, in_channels, threads);
  if (winograd == 4) return Winograd<2>::pack(w, packed, out_channels, in_channels, threads);
  if (winograd == 6) return Winograd<3>::pack(w, packed, out_channels, in_channels, threads);
  pack_direct(w, packed, out_channels, in_channels, up == 2 ? kParityOrder : nullptr, threads);
}

static Status convolve(const Convolution& plain) {
  const bool known = plain.kernel == 1 || plain.kernel == 3;
  if (!known || plain.padding < 0 || plain.height + 2 * plain.padding < plain.kernel ||
      plain.width + 2 * plain.padding < plain.kernel)
    return kBadArgument;
  const Modulated c = modulate(plain);
  if (c.up == 2) return c.winograd ? kBadArgument : transposed(c);
  if (c.winograd == 0) return direct(c);
  if (c.kernel != 3) return kBadArgument;
  if (c.winograd == 2) return Winograd<1>(c).run();
  if (c.winograd == 4) return Winograd<2>(c).run();
  if (c.winograd == 6) return Winograd<3>(c).run();
  return kBadArgument;
}
