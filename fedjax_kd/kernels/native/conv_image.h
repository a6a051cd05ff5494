// Convolution of one image at a time, by the register tiles of conv_tiles.h.
//
// Three things are arranged here so that the tiles need not know of them:
//
// * Padding. Columns of zeros are put around an image by copying it, row by row and just before the
//   rows are used, into scratch memory (`Framed`). Rows of zeros are not needed: the taps that
//   would reach them are left out. An image whose windows never leave it is used where it is.
// * Channels. Kernels are copied into blocks of one or two vectors of output channels, filled up
//   with zeros (`pack`).
// * Few output channels, which would leave most of a vector empty. A convolution with a window of
//   n columns, computing m neighbouring pixels at once, is a convolution with m times the stride, m
//   times the channels and a window of n + (m - 1) x stride columns, in which each pixel's weights
//   stand at their place among zeros. The output has the same bytes in memory. Six channels fill 12
//   of 16 lanes that way, at 6 columns for two pixels instead of 5 for each (`group_size`). The
//   price: as zero times NaN is NaN, a NaN or an infinity in an image spoils pixels of the same
//   group that do not see it.
#pragma once

#include <algorithm>

#include "conv_tiles.h"

namespace fedjax_kd {

// A kernel [rows][columns][inputs][outputs], made for `group` pixels at once.
struct KernelShape {
  int64_t rows, columns, inputs, outputs;
  int64_t group = 1, group_stride = 1;

  int64_t length() const { return (columns + (group - 1) * group_stride) * inputs; }
  int64_t channels() const { return group * outputs; }
  int64_t vectors() const { return (channels() + kLanes - 1) / kLanes; }
  int64_t packed_size() const { return rows * length() * vectors() * kLanes; }
};

// How many neighbouring pixels to compute at once: the number that costs least per pixel.
inline int64_t group_size(int64_t columns, int64_t stride, int64_t outputs, int64_t pixels) {
  int64_t best = 1;
  for (int64_t m = 2; m * outputs <= kLanes && m <= pixels; ++m) {
    if ((columns + (m - 1) * stride) * best < (columns + (best - 1) * stride) * m) best = m;
  }
  return best;
}

// Vectors are taken in pairs; the last may be alone. Calls `use(first, count)` for each block.
template <typename Use>
inline void for_blocks(int64_t vectors, Use use) {
  for (int64_t v = 0; v < vectors; v += kMaxVectors) {
    use(v, std::min<int64_t>(kMaxVectors, vectors - v));
  }
}

// Real channels in the last vector of a block.
inline int64_t lanes_of_last(int64_t channels, int64_t first_vector, int64_t count) {
  return std::min<int64_t>(kLanes, channels - (first_vector + count - 1) * kLanes);
}

// Calls `use(packed, weight, size)` with the offset of every run of output channels in a packed
// kernel [block][row][k][vectors of the block], its offset in the kernel, and its length.
template <typename Use>
inline void for_packed_runs(const KernelShape& s, Use use) {
  const int64_t length = s.length();
  for_blocks(s.vectors(), [&](int64_t first, int64_t count) {
    const int64_t block = first * kLanes * s.rows * length;
    const int64_t begin = first * kLanes, end = (first + count) * kLanes;
    for (int64_t member = 0; member < s.group; ++member) {
      const int64_t from = std::max(begin, member * s.outputs);
      const int64_t to = std::min(end, (member + 1) * s.outputs);
      if (from >= to) continue;
      const int64_t shift = member * s.group_stride * s.inputs;
      for (int64_t i = 0; i < s.rows; ++i) {
        for (int64_t k = 0; k < s.columns * s.inputs; ++k) {
          const int64_t line = i * length + shift + k;
          use(block + line * count * kLanes + from - begin,
              (i * s.columns * s.inputs + k) * s.outputs + from - member * s.outputs, to - from);
        }
      }
    }
  });
}

inline void pack(const KernelShape& s, const float* weights, float* packed) {
  std::memset(packed, 0, s.packed_size() * sizeof(float));
  for_packed_runs(s, [&](int64_t to, int64_t from, int64_t size) {
    std::memcpy(packed + to, weights + from, size * sizeof(float));
  });
}

// The transpose of `pack`: what the packed places of a weight have gathered is added up.
inline void unpack(const KernelShape& s, const float* packed, float* weights) {
  std::memset(weights, 0, s.rows * s.columns * s.inputs * s.outputs * sizeof(float));
  for_packed_runs(s, [&](int64_t from, int64_t to, int64_t size) {
    for (int64_t n = 0; n < size; ++n) weights[to + n] += packed[from + n];
  });
}

struct ImageShape {
  int64_t rows, columns, channels;
  int64_t size() const { return rows * columns * channels; }
};

// An image with zeros around it.
class Framed {
 public:
  // `above`, `below`, `left`, `right`: rows and columns of zeros, each at least 0. Without any, the
  // image is not copied, unless there is to be a `copy` to write into.
  Framed(Scratch& scratch, ImageShape shape, int64_t above, int64_t below, int64_t left,
         int64_t right, bool copy = false)
      : shape_(shape),
        copy_(copy || above + below + left + right > 0),
        line_(shape.columns * shape.channels) {
    row_step_ = line_ + (left + right) * shape.channels;
    if (!copy_) return;
    const int64_t size = (above + shape.rows + below) * row_step_;
    frame_ = scratch.take(size);
    std::memset(frame_, 0, size * sizeof(float));
    inner_ = frame_ + above * row_step_ + left * shape.channels;
  }

  void start(const float* image) {
    image_ = image;
    ready_ = 0;
  }
  // Rows before `end` are about to be used; it may lie outside the image.
  void need(int64_t end) {
    if (!copy_) return;
    for (; ready_ < std::min(end, shape_.rows); ++ready_) {
      std::memcpy(inner_ + ready_ * row_step_, image_ + ready_ * line_, line_ * sizeof(float));
    }
  }
  // Where a value is; row and column may be outside the image by as much as the frame is wide.
  const float* at(int64_t row, int64_t column) const {
    return (copy_ ? inner_ : image_) + row * row_step_ + column * shape_.channels;
  }
  // Where the caller writes the image's rows, `row_step` apart, instead of calling `start`.
  float* written() {
    ready_ = shape_.rows;
    return inner_;
  }
  int64_t row_step() const { return row_step_; }
  const ImageShape& shape() const { return shape_; }

 private:
  ImageShape shape_;
  bool copy_;
  int64_t line_, row_step_ = 0, ready_ = 0;
  const float* image_ = nullptr;
  float* frame_ = nullptr;
  float* inner_ = nullptr;
};

// The windows of a convolution: output pixel (r, c) sees the image's rows from
// `first_row + r * row_stride` and columns from `first_column + c * column_stride`.
struct Windows {
  int64_t rows, columns;  // of the output
  int64_t first_row, first_column;
  int64_t row_stride, column_stride;
};

// Columns of zeros that the windows of all groups reach on the left and on the right of an image.
inline int64_t reach_left(const Windows& w) { return std::max<int64_t>(0, -w.first_column); }
inline int64_t reach_right(const Windows& w, const KernelShape& k, int64_t columns) {
  const int64_t groups = (w.columns + k.group - 1) / k.group;
  const int64_t span = k.columns + (k.group - 1) * k.group_stride;
  const int64_t end = w.first_column + (groups - 1) * k.group * w.column_stride + span;
  return std::max<int64_t>(0, end - columns);
}

// The kernel's rows that lie within the image when its first is laid on image row `row`.
struct RowRange {
  int64_t begin, end;
};
inline RowRange taps_inside(int64_t row, int64_t taps, int64_t rows) {
  const int64_t begin = std::clamp<int64_t>(-row, 0, taps);
  return {begin, std::clamp<int64_t>(rows - row, begin, taps)};
}

// out[r, c, :] = sum over i, j, ci of image[window row i, window column j, ci] * kernel[i, j, ci, :]
// With a group, the output's pixels must be contiguous: `out_column_step` is the outputs' number.
inline void correlate(Framed& image, const Windows& w, const KernelShape& kernel,
                      const float* packed, float* out, int64_t out_row_step,
                      int64_t out_column_step) {
  const int64_t channels = image.shape().channels, length = kernel.length();
  const int64_t whole = w.columns / kernel.group, rest = w.columns % kernel.group;
  ForwardTile t;
  t.pixel_step = kernel.group * w.column_stride * channels;
  t.row_step = image.row_step();
  t.length = length;
  t.out_step = kernel.group * out_column_step;
  for (int64_t r = 0; r < w.rows; ++r) {
    const int64_t row = w.first_row + r * w.row_stride;
    const RowRange taps = taps_inside(row, kernel.rows, image.shape().rows);
    image.need(row + taps.end);
    t.rows = taps.end - taps.begin;
    const float* line = image.at(row + taps.begin, w.first_column);
    float* out_line = out + r * out_row_step;
    for_blocks(kernel.vectors(), [&](int64_t first, int64_t count) {
      t.kernel = packed + (first * kernel.rows + taps.begin * count) * length * kLanes;
      t.last_lanes = lanes_of_last(kernel.channels(), first, count);
      for_even_pieces(whole, max_pixels(count), [&](int64_t start, int64_t pixels) {
        t.image = line + start * t.pixel_step;
        t.out = out_line + start * t.out_step + first * kLanes;
        forward_of(pixels, count)(t);
      });
      if (rest == 0) return;
      t.image = line + whole * t.pixel_step;
      t.out = out_line + whole * t.out_step;
      t.last_lanes = rest * kernel.outputs;
      forward_of(1, 1)(t);
    });
  }
}

// How many rows of the kernel one gradient tile takes. More than one pays only if a row is too
// short to fill the registers; the frame must then have the rows of zeros above and below.
inline int64_t gradient_rows(const KernelShape& kernel) {
  if (kernel.vectors() != 1 || kernel.length() * 2 > kSums) return 1;
  const int64_t most = std::min<int64_t>(kMaxGradientRows, kSums / kernel.length());
  const int64_t pieces = (kernel.rows + most - 1) / most;
  return (kernel.rows + pieces - 1) / pieces;
}

// Adds to `sums`, in the layout of a packed kernel, what one image and the gradient dy
// [rows, columns, channels out] of its convolution contribute to the gradient of the kernel.
inline void add_kernel_gradient(Framed& image, const Windows& w, const KernelShape& kernel,
                                const float* dy, int64_t dy_row_step, float* sums) {
  constexpr int64_t kBlockFloats = 6 * 1024;  // half of a first-level cache of 48 KiB
  const int64_t channels = image.shape().channels, length = kernel.length();
  const int64_t whole = w.columns / kernel.group, rest = w.columns % kernel.group;
  const int64_t rows_at_once = gradient_rows(kernel);
  const int64_t per_row = w.row_stride * image.row_step() + dy_row_step;
  const int64_t block_rows = std::max<int64_t>(1, kBlockFloats / per_row);
  GradientTile t;
  t.pixel_step = kernel.group * w.column_stride * channels;
  t.image_row_step = w.row_stride * image.row_step();
  t.tap_row_step = image.row_step();
  t.dy_step = kernel.channels();
  t.dy_row_step = dy_row_step;

  for (int64_t block = 0; block < w.rows; block += block_rows) {
    const int64_t block_end = std::min(w.rows, block + block_rows);
    const int64_t last = w.first_row + (block_end - 1) * w.row_stride + kernel.rows;
    image.need(last);
    for_blocks(kernel.vectors(), [&](int64_t first, int64_t count) {
      t.sums_step = count * kLanes;
      t.sums_row_step = length * t.sums_step;
      float* block_sums = sums + first * kernel.rows * length * kLanes;
      for_even_pieces(kernel.rows, rows_at_once, [&](int64_t i, int64_t tap_rows) {
        // Of a single kernel row, leave out the output rows for which it lies outside the image.
        int64_t begin = block, end = block_end;
        if (rows_at_once == 1) {
          while (begin < end && w.first_row + begin * w.row_stride + i < 0) ++begin;
          while (begin < end && w.first_row + (end - 1) * w.row_stride + i >= image.shape().rows) {
            --end;
          }
        }
        if (begin == end) return;
        t.rows = end - begin;
        const float* line = image.at(w.first_row + begin * w.row_stride + i, w.first_column);
        const float* dy_line = dy + begin * dy_row_step + first * kLanes;
        for_even_pieces(length, max_length(count, tap_rows), [&](int64_t k, int64_t some) {
          t.sums = block_sums + (i * length + k) * t.sums_step;
          t.image = line + k;
          t.dy = dy_line;
          t.pixels = whole;
          t.last_lanes = lanes_of_last(kernel.channels(), first, count);
          gradient_of(tap_rows, some, count)(t);
          if (rest == 0) return;
          t.image += whole * t.pixel_step;
          t.dy += whole * t.dy_step;
          t.pixels = 1;
          t.last_lanes = rest * kernel.outputs;
          gradient_of(tap_rows, some, count)(t);
        });
      });
    });
  }
}

}  // namespace fedjax_kd
