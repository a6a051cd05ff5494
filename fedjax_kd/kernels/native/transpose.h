// Transposing matrices in blocks of one vector by one vector.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vector.h"

namespace fedjax_kd {

// One stage: of every two vectors that are kStep apart, the lanes are exchanged whose numbers
// differ from the vectors' in the bit of kStep.
template <int kStep>
inline __attribute__((always_inline)) void exchange(Vector (&v)[kLanes]) {
  IntVector low, high;
  for (int lane = 0; lane < kLanes; ++lane) {
    low[lane] = lane & kStep ? kLanes + lane - kStep : lane;
    high[lane] = lane & kStep ? kLanes + lane : lane + kStep;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if (i & kStep) continue;
    const Vector a = v[i], b = v[i + kStep];
    v[i] = __builtin_shuffle(a, b, low);
    v[i + kStep] = __builtin_shuffle(a, b, high);
  }
  if constexpr (kStep > 1) exchange<kStep / 2>(v);
}

// One block of at most kLanes by kLanes; rows of `to` are written up to `width` columns.
inline void transpose_block(const float* from, int64_t from_row, int64_t rows, int64_t columns,
                            float* to, int64_t to_row, int64_t width) {
  Vector v[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    v[i] = i < rows ? load_first(from + i * from_row, columns) : Vector{};
  }
  exchange<kLanes / 2>(v);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if (i < columns) store_first(to + i * to_row, v[i], width);
  }
}

// to[j, i] = from[i, j] for i < rows, j < columns; to[j, i] = 0 for rows <= i < width.
inline void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                      int64_t to_row, int64_t width) {
  for (int64_t i = 0; i < width; i += kLanes) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      transpose_block(from + i * from_row + j, from_row, std::clamp<int64_t>(rows - i, 0, kLanes),
                      std::min<int64_t>(columns - j, kLanes), to + j * to_row + i, to_row,
                      std::min<int64_t>(width - i, kLanes));
    }
  }
}

}  // namespace fedjax_kd
