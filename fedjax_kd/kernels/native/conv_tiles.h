// The two register tiles that all convolutions are made of.
//
// A processor core multiplies and adds two vectors in every cycle, but each product's sum can be
// used again only four or so cycles later, and two vectors can be loaded in a cycle. So a loop runs
// at full speed if it works on at least eight sums that do not depend on each other, keeps all of
// them in registers, and needs fewer loads than multiply-adds. Each tile below is such a loop.
//
// FORWARD. Images are [rows, columns, channels], kernels [rows, columns, channels in, channels
// out]. A tile makes `Pixels` neighbouring pixels of one output row, for `Vectors` vectors of output
// channels:
//
//              k: columns of the kernel x input channels, contiguous in image and kernel alike
//              |
//   image row  [. . . . . . . . . . . .]      sum[p][v] += image[p * step + k] * kernel[k][v]
//   pixel p    \___ k ___/                    for every k, for every row of the kernel
//   pixel p+1       \___ k ___/
//
// For each k it loads the kernel's vectors once and uses them for all pixels; the image's values
// are single numbers, repeated over a vector as they are loaded. With 32 registers, 16 pixels x 1
// vector take 17 loads for 16 multiply-adds, and 13 pixels x 2 vectors take 15 for 26.
//
// KERNEL GRADIENT. The sums are now the kernel's entries, and the loop goes over pixels:
//
//   sum[i][k][v] += image[row + i][pixel * step + k] * dy[pixel][v]
//
// For each pixel it loads the vectors of dy once and uses them for `Rows` x `Length` entries.
//
// In conv_tiles.cc the constants are template arguments, so that the loops over them are unrolled
// and the sums are registers. All instances are kept in tables; callers cut their work into tiles
// of nearly equal size, none larger than the tables have.
#pragma once

#include "vector.h"

namespace fedjax_kd {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kSums = 27;  // of 32 registers
#else
constexpr int kSums = 13;  // of 16 registers
#endif
constexpr int kMaxVectors = 2;
constexpr int kMaxGradientRows = 5;

constexpr int max_pixels(int vectors) { return vectors == 1 ? (kSums > 16 ? 16 : 12) : kSums / 2; }
constexpr int max_length(int vectors, int rows) { return kSums / (vectors * rows); }

struct ForwardTile {
  const float* image;    // first value that the first pixel needs
  int64_t pixel_step;    // from one pixel's values to the next one's, in the image
  int64_t row_step;      // from one row of the image to the next
  int64_t rows;          // of the kernel
  int64_t length;        // of a kernel's row: columns x input channels
  const float* kernel;   // [rows][length][vectors * kLanes]
  float* out;            // first pixel's first channel
  int64_t out_step;      // from one pixel to the next, in the output
  int64_t last_lanes;    // of the last vector, those that are real channels
};

struct GradientTile {
  const float* image;     // first value that the first pixel needs
  int64_t pixel_step;     // between pixels of the image
  int64_t image_row_step; // between the image's rows of neighbouring output rows
  int64_t tap_row_step;   // between the image's rows of neighbouring kernel rows
  const float* dy;        // first pixel's first channel
  int64_t dy_step;        // between pixels of dy
  int64_t dy_row_step;    // between rows of dy
  int64_t rows;           // of dy
  int64_t pixels;         // of each row
  int64_t last_lanes;     // of the last vector of dy, those that are real channels
  float* sums;            // [rows] of [length] of [vectors * kLanes], added to
  int64_t sums_row_step;
  int64_t sums_step;
};

using Forward = void (*)(const ForwardTile&);
using Gradient = void (*)(const GradientTile&);

// The tile for so many pixels, up to `max_pixels(vectors)`, and vectors, one or two.
Forward forward_of(int64_t pixels, int64_t vectors);

// The tile for so many rows of the kernel and values of each row, up to `max_length(vectors, rows)`.
// With two vectors there is one row only.
Gradient gradient_of(int64_t rows, int64_t length, int64_t vectors);

// Cuts `total` into pieces of nearly equal size, none larger than `largest`, and calls
// `use(start, size)` for each.
template <typename Use>
inline void for_even_pieces(int64_t total, int64_t largest, Use use) {
  const int64_t pieces = (total + largest - 1) / largest;
  for (int64_t n = 0, start = 0; n < pieces; ++n) {
    const int64_t size = total / pieces + (n < total % pieces);
    use(start, size);
    start += size;
  }
}

}  // namespace fedjax_kd
