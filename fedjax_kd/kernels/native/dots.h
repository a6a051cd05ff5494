// Matrix products by scalar products of rows: C[m, n] = sum over k of A[m, k] B[n, k].
//
// Both rows are read along k, a vector at a time, and the lanes of each sum are added up at the
// end. That addition pays only for long rows. What is gained is that neither the number of rows of
// A nor of B need be a multiple of the vector length: a batch of 10 examples fills 10 of the 16
// lanes of a vector of examples, but two tiles of five rows exactly.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "vector.h"

namespace fedjax_kd {

constexpr int kDotRows = kLanes == 16 ? 5 : 3;  // of A, in the largest tile
constexpr int kDotColumns = 4;                  // rows of B

inline float lane_sum(Vector v) {
  for (int step = kLanes / 2; step > 0; step /= 2) {
    IntVector partner;
    for (int lane = 0; lane < kLanes; ++lane) partner[lane] = lane ^ step;
    v += __builtin_shuffle(v, partner);
  }
  return v[0];
}

// The rows of a are `length` long and follow each other, and so do those of b; the rows of c are
// `c_row` apart.
template <int M, int N>
__attribute__((noinline)) void dot_tile(const float* a, const float* b, int64_t length, float* c,
                                        int64_t c_row) {
  Vector sums[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sums[m][n] = Vector{};
  }
  const auto add = [&](int64_t k, auto read) __attribute__((always_inline)) {
    Vector right[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) right[n] = read(b + n * length + k);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vector left = read(a + m * length + k);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[m][n] += left * right[n];
    }
  };
  int64_t k = 0;
  for (; k + kLanes <= length; k += kLanes) add(k, [](const float* from) { return load(from); });
  if (k < length) {
    add(k, [&](const float* from) { return load_first(from, length - k); });
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) c[m * c_row + n] = lane_sum(sums[m][n]);
  }
}

using DotFunction = void (*)(const float*, const float*, int64_t, float*, int64_t);

template <int... Tiles>
constexpr auto dot_tiles(std::integer_sequence<int, Tiles...>) {
  return std::array<DotFunction, sizeof...(Tiles)>{
      dot_tile<Tiles / kDotColumns + 1, Tiles % kDotColumns + 1>...};
}

// At most kDotRows rows of a and kDotColumns of b.
inline void run_dot_tile(const float* a, int64_t a_rows, const float* b, int64_t b_rows,
                         int64_t length, float* c, int64_t c_row) {
  static constexpr auto tiles =
      dot_tiles(std::make_integer_sequence<int, kDotRows * kDotColumns>{});
  tiles[(a_rows - 1) * kDotColumns + b_rows - 1](a, b, length, c, c_row);
}

}  // namespace fedjax_kd
