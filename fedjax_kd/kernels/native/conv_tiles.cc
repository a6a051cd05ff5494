// The loops of conv_tiles.h, one instance for each size of tile.

#include "conv_tiles.h"

#include <array>
#include <utility>

namespace fedjax_kd {
namespace {

template <int Pixels, int Vectors>
void forward_tile(const ForwardTile& t) {
  Vector sum[Pixels][Vectors] = {};
  const float* kernel = t.kernel;
  const int64_t step = t.pixel_step;
  for (int64_t i = 0; i < t.rows; ++i) {
    const float* image = t.image + i * t.row_step;
    for (int64_t k = 0; k < t.length; ++k, kernel += Vectors * kLanes) {
      Vector weights[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) weights[v] = load(kernel + v * kLanes);
#pragma GCC unroll 32
      for (int p = 0; p < Pixels; ++p) {
        const Vector value = spread(image[p * step + k]);
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) sum[p][v] += value * weights[v];
      }
    }
  }
#pragma GCC unroll 32
  for (int p = 0; p < Pixels; ++p) {
    float* out = t.out + p * t.out_step;
#pragma GCC unroll 2
    for (int v = 0; v < Vectors - 1; ++v) store(out + v * kLanes, sum[p][v]);
    store_first(out + (Vectors - 1) * kLanes, sum[p][Vectors - 1], t.last_lanes);
  }
}

template <int Rows, int Length, int Vectors>
void gradient_tile(const GradientTile& t) {
  Vector sum[Rows][Length][Vectors] = {};
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* image = t.image + r * t.image_row_step;
    const float* dy = t.dy + r * t.dy_row_step;
    for (int64_t p = 0; p < t.pixels; ++p, image += t.pixel_step, dy += t.dy_step) {
      Vector slope[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors - 1; ++v) slope[v] = load(dy + v * kLanes);
      slope[Vectors - 1] = load_first(dy + (Vectors - 1) * kLanes, t.last_lanes);
#pragma GCC unroll 8
      for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 32
        for (int k = 0; k < Length; ++k) {
          const Vector value = spread(image[i * t.tap_row_step + k]);
#pragma GCC unroll 2
          for (int v = 0; v < Vectors; ++v) sum[i][k][v] += value * slope[v];
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 32
    for (int k = 0; k < Length; ++k) {
      float* to = t.sums + i * t.sums_row_step + k * t.sums_step;
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) {
        store(to + v * kLanes, load(to + v * kLanes) + sum[i][k][v]);
      }
    }
  }
}

// Tables of all instances; entry n is the tile of size n + 1.

template <int Vectors, int... N>
constexpr std::array<Forward, sizeof...(N)> forward_row(std::integer_sequence<int, N...>) {
  return {forward_tile<N + 1, Vectors>...};
}
template <int Rows, int Vectors, int... N>
constexpr std::array<Gradient, sizeof...(N)> gradient_row(std::integer_sequence<int, N...>) {
  return {gradient_tile<Rows, N + 1, Vectors>...};
}

template <int Vectors>
constexpr auto kForward =
    forward_row<Vectors>(std::make_integer_sequence<int, max_pixels(Vectors)>{});
template <int Rows, int Vectors>
constexpr auto kGradient =
    gradient_row<Rows, Vectors>(std::make_integer_sequence<int, max_length(Vectors, Rows)>{});

}  // namespace

Forward forward_of(int64_t pixels, int64_t vectors) {
  return vectors == 1 ? kForward<1>[pixels - 1] : kForward<2>[pixels - 1];
}

Gradient gradient_of(int64_t rows, int64_t length, int64_t vectors) {
  if (vectors == 2) return kGradient<1, 2>[length - 1];
  switch (rows) {
    case 1: return kGradient<1, 1>[length - 1];
    case 2: return kGradient<2, 1>[length - 1];
    case 3: return kGradient<3, 1>[length - 1];
    case 4: return kGradient<4, 1>[length - 1];
    default: return kGradient<5, 1>[length - 1];
  }
}

}  // namespace fedjax_kd
