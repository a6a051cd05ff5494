// The three passes of a convolution, image by image: what is prepared once in a call, and what is
// done for each image. The fused kernels call them too.
#pragma once

#include <vector>

#include "conv_image.h"

namespace fedjax_kd {

struct Convolution {
  int64_t batch;
  ImageShape x;
  KernelShape w;  // not grouped
  ImageShape y;
  int64_t row_stride, column_stride;
  int64_t top, left;  // padding; what it is below and on the right follows from the shapes

  Windows windows() const {
    return {y.rows, y.columns, -top, -left, row_stride, column_stride};
  }
  KernelShape grouped() const {
    KernelShape shape = w;
    shape.group = group_size(w.columns, column_stride, w.outputs, y.columns);
    shape.group_stride = column_stride;
    return shape;
  }
};

inline Framed frame_columns(Scratch& scratch, const ImageShape& image, const Windows& windows,
                            const KernelShape& kernel) {
  return Framed(scratch, image, 0, 0, reach_left(windows),
                reach_right(windows, kernel, image.columns));
}

class ForwardPass {
 public:
  ForwardPass(const Convolution& c, const float* weights)
      : c_(c), kernel_(c.grouped()), image_(frame_columns(frame(), c.x, c.windows(), kernel_)) {
    packed_ = packed().take(kernel_.packed_size());
    pack(kernel_, weights, packed_);
  }

  void run(const float* x, float* y) {
    image_.start(x);
    correlate(image_, c_.windows(), kernel_, packed_, y, c_.y.columns * c_.y.channels,
              c_.y.channels);
  }

 private:
  static Scratch& frame() {
    thread_local Scratch scratch;
    return scratch;
  }
  static Scratch& packed() {
    thread_local Scratch scratch;
    return scratch;
  }
  Convolution c_;
  KernelShape kernel_;
  Framed image_;
  float* packed_;
};

// dx[h, v, ci] = sum over i, j, co of
//   dy[(h + top - i) / row_stride, (v + left - j) / column_stride, co] * w[i, j, ci, co],
// over the taps for which both divisions are exact.
//
// Rows h with the same remainder of (h + top) / row_stride have the same taps; likewise columns. So
// for each pair of remainders (a phase) this is a convolution of dy with stride one and a kernel of
// every row_stride-th row and column_stride-th column of w, turned round, its channels exchanged,
// whose output pixels lie a stride apart in dx.
class InputGradientPass {
 public:
  // `write_dy`: whether images dy are written into the frame, for `run_written`, not given to `run`.
  InputGradientPass(const Convolution& c, const float* weights, bool write_dy = false)
      : c_(c), phases_(find_phases(c)), image_(frame_all(c, phases_, write_dy)) {
    int64_t size = 0;
    for (const Phase& phase : phases_) size += phase.kernel.packed_size();
    float* to = packed().take(size);
    for (Phase& phase : phases_) {
      float* turned = turned_kernel().take(std::max<int64_t>(1, weights_of(phase.kernel)));
      turn(c, phase, weights, turned);
      pack(phase.kernel, turned, to);
      phase.packed = to;
      to += phase.kernel.packed_size();
    }
  }

  void run(const float* dy, float* dx) {
    image_.start(dy);
    run_written(dx);
  }
  // Where to write an image dy, its rows `dy_row_step` apart, before `run_written`.
  float* dy() { return image_.written(); }
  int64_t dy_row_step() const { return image_.row_step(); }
  void run_written(float* dx) {
    const int64_t line = c_.x.columns * c_.x.channels;
    for (const Phase& phase : phases_) {
      correlate(image_, phase.windows, phase.kernel, phase.packed,
                dx + phase.row * line + phase.column * c_.x.channels, c_.row_stride * line,
                c_.column_stride * c_.x.channels);
    }
  }

 private:
  struct Phase {
    int64_t row, column;              // of dx, where it starts
    int64_t first_tap_row, first_tap_column;  // of w
    KernelShape kernel;
    Windows windows;
    const float* packed;
  };

  // One axis of a phase: the taps first, first + stride, ... of `taps`; the first output that has
  // them sees dy from `start`; `count` outputs.
  struct Axis {
    int64_t first, taps, start, count;
  };
  static Axis axis(int64_t begin, int64_t size, int64_t low, int64_t stride, int64_t taps) {
    const int64_t first = (begin + low) % stride;
    const int64_t mine = first < taps ? (taps - first + stride - 1) / stride : 0;
    const int64_t start = (begin + low - first) / stride - (mine - 1);
    return {first, mine, start, (size - begin + stride - 1) / stride};
  }

  static std::vector<Phase> find_phases(const Convolution& c) {
    std::vector<Phase> phases;
    for (int64_t row = 0; row < std::min(c.row_stride, c.x.rows); ++row) {
      const Axis r = axis(row, c.x.rows, c.top, c.row_stride, c.w.rows);
      for (int64_t column = 0; column < std::min(c.column_stride, c.x.columns); ++column) {
        const Axis s = axis(column, c.x.columns, c.left, c.column_stride, c.w.columns);
        KernelShape kernel{r.taps, s.taps, c.w.outputs, c.w.inputs};
        if (c.column_stride == 1) kernel.group = group_size(s.taps, 1, c.w.inputs, s.count);
        const Windows windows{r.count, s.count, r.start, s.start, 1, 1};
        phases.push_back({row, column, r.first, s.first, kernel, windows, nullptr});
      }
    }
    return phases;
  }

  static Framed frame_all(const Convolution& c, const std::vector<Phase>& phases, bool copy) {
    int64_t left = 0, right = 0;
    for (const Phase& phase : phases) {
      left = std::max(left, reach_left(phase.windows));
      right = std::max(right, reach_right(phase.windows, phase.kernel, c.y.columns));
    }
    return Framed(frame(), c.y, 0, 0, left, right, copy);
  }

  static int64_t weights_of(const KernelShape& k) {
    return k.rows * k.columns * k.inputs * k.outputs;
  }

  // The kernel of a phase, [rows][columns][co][ci].
  static void turn(const Convolution& c, const Phase& phase, const float* w, float* turned) {
    const int64_t inputs = c.w.inputs, outputs = c.w.outputs;
    for (int64_t i = 0; i < phase.kernel.rows; ++i) {
      for (int64_t j = 0; j < phase.kernel.columns; ++j, turned += inputs * outputs) {
        const int64_t row = phase.first_tap_row + (phase.kernel.rows - 1 - i) * c.row_stride;
        const int64_t column =
            phase.first_tap_column + (phase.kernel.columns - 1 - j) * c.column_stride;
        const float* tap = w + (row * c.w.columns + column) * inputs * outputs;
        for (int64_t ci = 0; ci < inputs; ++ci) {
          for (int64_t co = 0; co < outputs; ++co) turned[co * inputs + ci] = tap[ci * outputs + co];
        }
      }
    }
  }

  static Scratch& frame() {
    thread_local Scratch scratch;
    return scratch;
  }
  static Scratch& packed() {
    thread_local Scratch scratch;
    return scratch;
  }
  static Scratch& turned_kernel() {
    thread_local Scratch scratch;
    return scratch;
  }
  Convolution c_;
  std::vector<Phase> phases_;
  Framed image_;
};

class KernelGradientPass {
 public:
  explicit KernelGradientPass(const Convolution& c)
      : c_(c), kernel_(c.grouped()), image_(frame_whole(c, kernel_)) {
    sums_ = sums().take(kernel_.packed_size());
    std::memset(sums_, 0, kernel_.packed_size() * sizeof(float));
  }

  void add(const float* x, const float* dy) { add(x, dy, c_.y.columns * c_.y.channels); }
  // As above, for an image dy whose rows are `dy_row_step` apart.
  void add(const float* x, const float* dy, int64_t dy_row_step) {
    image_.start(x);
    add_kernel_gradient(image_, c_.windows(), kernel_, dy, dy_row_step, sums_);
  }
  void finish(float* dw) const { unpack(kernel_, sums_, dw); }

 private:
  static Framed frame_whole(const Convolution& c, const KernelShape& kernel) {
    const Windows w = c.windows();
    int64_t above = 0, below = 0;
    if (gradient_rows(kernel) > 1) {
      above = std::max<int64_t>(0, -w.first_row);
      const int64_t end = w.first_row + (w.rows - 1) * w.row_stride + kernel.rows;
      below = std::max<int64_t>(0, end - c.x.rows);
    }
    return Framed(frame(), c.x, above, below, reach_left(w), reach_right(w, kernel, c.x.columns));
  }
  static Scratch& frame() {
    thread_local Scratch scratch;
    return scratch;
  }
  static Scratch& sums() {
    thread_local Scratch scratch;
    return scratch;
  }
  Convolution c_;
  KernelShape kernel_;
  Framed image_;
  float* sums_;
};

}  // namespace fedjax_kd
