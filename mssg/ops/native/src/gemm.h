// The product at the heart of every convolution: rows of pixels times packed weights, in registers.
#pragma once
#include <cstddef>

#include "vector.h"

constexpr int kPanel = 2 * kLanes;  // output channels of one packed panel of weights

// acc[m] = sum over taps and k of a[offset(tap) + m * stride + k] * b[tap][k]: b is walked once, in order.
// write(m, v, vector) receives the results. Rows * Vectors accumulators.
template <int Rows, int Vectors, class Write>
static inline void multiply(const float* a, ptrdiff_t stride, const ptrdiff_t* taps, int tap_count, int depth,
                            const float* b, const Write& write) {
  V acc[Rows][Vectors] = {};
  for (int t = 0; t < tap_count; t++) {
    constexpr int kGroups = (Rows + 2) / 3;  // a pointer for three rows: x86 can address p, p + s, p + 2 s
    const float* p[kGroups];
    for (int g = 0; g < kGroups; g++) p[g] = a + taps[t] + 3 * g * stride;
    for (int k = 0; k < depth; k++, b += kPanel) {
      V w[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; v++) w[v] = load(b + v * kLanes);
#pragma GCC unroll 12
      for (int m = 0; m < Rows; m++) {
        const V x = splat(p[m / 3][(m % 3) * stride + k]);
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; v++) acc[m][v] += x * w[v];
      }
    }
  }
  for (int m = 0; m < Rows; m++)
    for (int v = 0; v < Vectors; v++) write(m, v, acc[m][v]);
}

// Exactly `rows` rows, 1 … Most.
template <int Vectors, int Most = kRows, class Write>
static inline void multiply_few(int rows, const float* a, ptrdiff_t stride, const ptrdiff_t* taps, int tap_count, int depth,
                                const float* b, const Write& write) {
  if constexpr (Most > 1)
    if (rows < Most) return multiply_few<Vectors, Most - 1>(rows, a, stride, taps, tap_count, depth, b, write);
  multiply<Most, Vectors>(a, stride, taps, tap_count, depth, b, write);
}

// Any number of rows, in pieces of nearly equal size.
template <int Vectors, class Write>
static inline void multiply_rows(int rows, const float* a, ptrdiff_t stride, const ptrdiff_t* taps, int tap_count,
                                 int depth, const float* b, const Write& write) {
  for (int m = 0, pieces = (rows + kRows - 1) / kRows; pieces > 0; pieces--) {
    const int some = (rows - m + pieces - 1) / pieces;
    multiply_few<Vectors>(some, a + m * stride, stride, taps, tap_count, depth, b,
                          [&write, m](int r, int v, V x) { write(m + r, v, x); });
    m += some;
  }
}

// One panel of weights: a full one, or one whose second half is padding.
template <class Write>
static inline void multiply_panel(int vectors, int rows, const float* a, ptrdiff_t stride, const ptrdiff_t* taps,
                                  int tap_count, int depth, const float* b, const Write& write) {
  if (vectors > 1)
    multiply_rows<2>(rows, a, stride, taps, tap_count, depth, b, write);
  else
    multiply_rows<1>(rows, a, stride, taps, tap_count, depth, b, write);
}
