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

// `rows` rows in pieces; the last piece of many overlaps its neighbour instead of being short.
template <int Vectors, class Write>
static inline void multiply_rows(int rows, const float* a, ptrdiff_t stride, const ptrdiff_t* taps, int tap_count,
                                 int depth, const float* b, const Write& write) {
  auto piece = [&](int m0) {
    return [&write, m0](int m, int v, V x) { write(m0 + m, v, x); };
  };
  int m = 0;
  for (; m + kRows <= rows; m += kRows)
    multiply<kRows, Vectors>(a + m * stride, stride, taps, tap_count, depth, b, piece(m));
  if (m < rows && rows >= kRows) {
    m = rows - kRows;
    multiply<kRows, Vectors>(a + m * stride, stride, taps, tap_count, depth, b, piece(m));
    return;
  }
  for (; m + 4 <= rows; m += 4)
    multiply<4, Vectors>(a + m * stride, stride, taps, tap_count, depth, b, piece(m));
  for (; m < rows; m++) multiply<1, Vectors>(a + m * stride, stride, taps, tap_count, depth, b, piece(m));
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
