// The exported functions. Every instruction set gets a library of its own, compiled whole with its flags: in a shared
// one, the linker would merge equal inline functions of different instruction sets.
#include "api.h"

#include <new>

#include "layer.h"
#include "threads.h"
#include "weight_gradient.h"

template <class Call>
static int32_t guarded(const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}

int32_t mssg_abi() { return MSSG_NATIVE_ABI; }

const char* mssg_processor() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx2) return avx512 ? "avx512" : "avx2";
#endif
  return "plain";
}

void mssg_yield_openmp(void* pause) { mssg::yield_openmp(reinterpret_cast<mssg::PauseOpenMp>(pause)); }

int64_t mssg_buffered_bytes() { return (int64_t)mssg::buffered_bytes(); }

int64_t mssg_packed_size(int32_t out_channels, int32_t in_channels, int32_t kernel, int32_t winograd) {
  return packed_size(out_channels, in_channels, kernel, winograd);
}

void mssg_pack_weight(const float* w, float* packed, int32_t out_channels, int32_t in_channels, int32_t kernel,
                      int64_t out_stride, int64_t in_stride, int32_t turned, int32_t up, int32_t winograd, int32_t threads) {
  const Kernels kernels{w, (ptrdiff_t)out_stride, (ptrdiff_t)in_stride, kernel * kernel, turned != 0};
  pack_weight(kernels, packed, out_channels, in_channels, up, winograd, threads);
}

int32_t mssg_convolve(const Convolution* c) {
  return guarded([=] { return convolve(*c); });
}

int32_t mssg_layer(const Convolution* c, const FilteredLrelu* p) {
  return guarded([=] { return layer(*c, *p); });
}

int32_t mssg_weight_gradient(const WeightGradient* g) {
  return guarded([=] { return weight_gradient(*g); });
}

int32_t mssg_filtered_lrelu(const FilteredLrelu* p) {
  return guarded([=] { return filtered_lrelu(*p); });
}

int32_t mssg_filtered_lrelu_gradient(const FilteredLreluGradient* g) {
  return guarded([=] { return filtered_lrelu_gradient(*g); });
}
