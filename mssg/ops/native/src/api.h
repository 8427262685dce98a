// The C interface of the native kernels. Python fills these structures through ctypes (mssg/ops/native/library.py),
// so their fields may only change together with it and with MSSG_NATIVE_ABI.
//
// Layout of activations: float32, channels innermost. A pixel holds `round_up(channels, 16)` floats that may all be
// read and written; what the padding lanes hold never reaches a real channel. Strides count floats.
#pragma once
#include <cstdint>

#if defined(_WIN32)
#define MSSG_EXPORT extern "C" __declspec(dllexport)
#else
#define MSSG_EXPORT extern "C" __attribute__((visibility("default")))
#endif

constexpr int MSSG_NATIVE_ABI = 5;
constexpr int kChannelBlock = 16;  // channels are padded to a multiple of this, whatever the vector length

static constexpr int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// What happens to a convolution's result: clamp(gain * lrelu(y + noise + bias)); slope 1 = linear.
struct Epilogue {
  const float* bias;     // [round_up(out, 16)] or null
  const float* noise;    // [height, width] of every image, or null
  int64_t noise_stride;  // from one image's noise to the next; 0 = shared
  float gain, slope, clamp;  // clamp < 0: none
};

// out = epilogue(d * correlation of x * styles * input_gain with a k x k kernel), zero padding on every side, where
// d = 1 / sqrt(sum over in of styles² energy + eps), or scale without energy, or 1 without both. With up = 2 the transposed
// convolution with a 3x3 kernel at stride 2, smoothed by 4x4 taps, of twice the size: padding is 1 then.
struct Convolution {
  const float* x;
  float* y;
  const float* styles;    // [batch, in]
  const float* energy;    // [in, round_up(out, 16)] sums of squared weights, or null
  const float* scale;     // [batch, round_up(out, 16)] or null
  const float* weight;    // as mssg_pack_weight wrote it
  const float *up_row, *up_column;  // [4] correlation taps along x and y; null where up = 1
  Epilogue epilogue;
  int64_t x_batch, x_row, x_pixel, y_batch, y_row, y_pixel;
  float input_gain, eps;
  int32_t batch, height, width, in_channels, out_channels, kernel, padding;
  int32_t up;
  int32_t winograd;  // 0: direct; 2, 4, 6: pixels of a tile
  int32_t threads;
};

// The gradient of a 3x3 convolution with respect to its plain weights [out, in, 3, 3], from that with respect to its
// result, by Winograd with tiles of 2 or 4: of `forward`, only how it reads x and its scale count.
struct WeightGradient {
  Convolution forward;
  const float* grad;  // of the size of the result
  float* result;
  int64_t grad_batch, grad_row, grad_pixel;
};

// Filters are correlation taps: already flipped where a convolution is meant.
struct FilteredLrelu {
  const float* x;
  float* y;
  const float* bias;               // [round_up(channels, 16)] or null
  const float* up_row;             // [up_row_taps], along x
  const float* up_column;          // [up_column_taps], along y; a gain > 0 before the clamp rides on these
  const float* down_row;           // [terms, down_row_taps]; the down filter is sum_r column_r x row_r
  const float* down_column;        // [terms, down_column_taps]
  int64_t x_batch, x_row, x_pixel, y_batch, y_row, y_pixel;
  int32_t batch, height, width, channels, out_height, out_width;
  int32_t up, down, pad_x, pad_y;  // padding before the image, after upsampling
  int32_t up_row_taps, up_column_taps, down_row_taps, down_column_taps, terms;
  float slope, clamp;              // clamp < 0: none
  int32_t threads;
};

// The gradient of a filtered leaky ReLU with one term with respect to x, from that with respect to its result:
// `forward` as in that call, but y is where the gradient of x goes, of the size of x.
struct FilteredLreluGradient {
  FilteredLrelu forward;
  const float* grad;               // of the size of the result
  int64_t grad_batch, grad_row, grad_pixel;
};

enum Status : int32_t { kOk = 0, kBadArgument = 1, kNotFinite = 2, kNoMemory = 3 };

MSSG_EXPORT int32_t mssg_abi();
MSSG_EXPORT const char* mssg_processor();  // the best variant that this processor runs
MSSG_EXPORT void mssg_yield_openmp(void* pause);  // omp_pause_resource_all, see threads.h
MSSG_EXPORT int64_t mssg_buffered_bytes();
MSSG_EXPORT int64_t mssg_packed_size(int32_t out_channels, int32_t in_channels, int32_t kernel, int32_t winograd);
// w[o * out_stride + i * in_stride + t] for tap t of k x k, or the last but t where kernels are turned by half a turn.
MSSG_EXPORT void mssg_pack_weight(const float* w, float* packed, int32_t out_channels, int32_t in_channels, int32_t kernel,
                                  int64_t out_stride, int64_t in_stride, int32_t turned, int32_t up, int32_t winograd,
                                  int32_t threads);
MSSG_EXPORT int32_t mssg_convolve(const Convolution* c);
MSSG_EXPORT int32_t mssg_layer(const Convolution* c, const FilteredLrelu* p);  // see layer.h
MSSG_EXPORT int32_t mssg_weight_gradient(const WeightGradient* g);
MSSG_EXPORT int32_t mssg_filtered_lrelu(const FilteredLrelu* p);
MSSG_EXPORT int32_t mssg_filtered_lrelu_gradient(const FilteredLreluGradient* g);
