// Vectors of floats by the compiler's vector extension: the same source serves AVX-512, AVX2, SSE2 and Arm.
#pragma once
#include <cstring>

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 12;  // kRows x 2 accumulators, two weights and a broadcast fit the registers
#elif defined(__AVX__)
constexpr int kLanes = 8, kRows = 6;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRows = 12;
#else
constexpr int kLanes = 4, kRows = 6;
#endif

typedef float V __attribute__((vector_size(kLanes * sizeof(float))));
typedef float Unaligned __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

static inline V load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
static inline void store(float* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }
static inline V splat(float f) { return V{} + f; }

// Not-a-number passes through both: every comparison with it is false.
static inline V leaky(V x, V slope) {
  const V negative = x * slope;
  return x > V{} ? x : negative;
}
static inline V larger(V a, V b) { return b > a ? b : a; }  // a where either is not a number
static inline V limit(V x, V low, V high) {
  x = low > x ? low : x;
  return high < x ? high : x;
}
