// A dense layer, y = x w with x [B, F] and w [F, O], its two gradients, and its step of gradient
// descent, in which the weight is read and written once and its gradient is never stored.
//
// All are the product of product.h with other factors:
//   forward           y[b, o]  = sum over f of x[b, f] w[f, o]
//   kernel gradient   dw[f, o] = sum over b of x[b, f] dy[b, o]
//   input gradient    dx[b, f] = sum over o of dy[b, o] w[f, o], computed as its transpose
//                     [f, b] from dy transposed, so that a vector holds a batch, and turned
//                     round at the end; by scalar products if a batch would leave too much of its
//                     vectors empty.

#include "dots.h"
#include "product.h"
#include "transpose.h"
#include "xla/ffi/api/ffi.h"

namespace fedjax_kd {
namespace {

namespace ffi = xla::ffi;
using Matrix = ffi::Buffer<ffi::F32, 2>;
using Result = ffi::ResultBuffer<ffi::F32, 2>;
using Numbers = ffi::Buffer<ffi::F32, 1>;

constexpr int64_t kPairWidth = 2 * kLanes;  // examples in a tall tile
constexpr int64_t kLongRow = 256;           // outputs from which scalar products pay

// The input gradient of one weight, made band by band of its rows.
class InputGradient {
 public:
  InputGradient(const float* dy, int64_t batch, int64_t features, int64_t outputs, float* dx)
      : dy_(dy), batch_(batch), features_(features), outputs_(outputs), dx_(dx) {
    const int64_t padded = round_up(batch, kLanes);
    by_dots_ = 2 * padded >= 3 * batch && outputs >= kLongRow;
    if (by_dots_) return;
    static thread_local Scratch right, result;
    right_ = right.take(padded * outputs);
    result_ = result.take(padded * features);
    for (int64_t b = 0; b < batch; b += kPairWidth) {
      transpose(dy + b * outputs, outputs, std::min(kPairWidth, batch - b), outputs,
                right_ + b * outputs, width(b), width(b));
    }
  }

  // Rows `first` and following of the weight, at most kTallTileRows.
  void band(const float* w, int64_t first, int64_t rows) const {
    by_dots_ ? band_of_dots(w, first, rows) : band_of_products(w, first, rows);
  }

  // After the last band.
  void finish() const {
    if (by_dots_) return;
    for (int64_t b = 0; b < batch_; b += kPairWidth) {
      const int64_t there = std::min(kPairWidth, batch_ - b);
      transpose(result_ + b * features_, width(b), features_, there, dx_ + b * features_, features_,
                features_);
    }
  }

 private:
  int64_t width(int64_t b) const { return std::min(kPairWidth, round_up(batch_ - b, kLanes)); }

  void band_of_products(const float* w, int64_t first, int64_t rows) const {
    for (int64_t b = 0; b < batch_; b += kPairWidth) {
      const int64_t columns = width(b);
      const Factors f{w + first * outputs_, outputs_, 1, right_ + b * outputs_, columns, outputs_};
      run_tile<2, kTallTileRows>(f, result_ + b * features_ + first * columns, columns, rows,
                                 columns, Assign{});
    }
  }

  void band_of_dots(const float* w, int64_t first, int64_t rows) const {
    for (int64_t f = first; f < first + rows; f += kDotColumns) {
      const int64_t columns = std::min<int64_t>(kDotColumns, first + rows - f);
      cut_evenly(batch_, kDotRows, [&](int64_t b, int64_t examples) {
        run_dot_tile(dy_ + b * outputs_, examples, w + f * outputs_, columns, outputs_,
                     dx_ + b * features_ + f, features_);
      });
    }
  }

  const float* dy_;
  int64_t batch_, features_, outputs_;
  float* dx_;
  bool by_dots_;
  // dy transposed, for each kPairWidth examples [O, width] with zeros for those that are missing,
  // and dx transposed, for each [F, width].
  float* right_ = nullptr;
  float* result_ = nullptr;
};

ffi::Error forward(Matrix x, Matrix w, Result y) {
  const int64_t batch = x.dimensions()[0], features = x.dimensions()[1];
  const int64_t outputs = w.dimensions()[1];
  constexpr int64_t width = kTileVectors * kLanes;
  for (int64_t o = 0; o < outputs; o += width) {
    const Factors f{x.typed_data(), features, 1, w.typed_data() + o, outputs, features};
    multiply_column_band(f, y->typed_data() + o, outputs, batch, std::min(width, outputs - o),
                         Assign{});
  }
  return ffi::Error::Success();
}

ffi::Error input_gradient(Matrix dy, Matrix w, Result dx) {
  const int64_t features = w.dimensions()[0], outputs = w.dimensions()[1];
  const InputGradient gradient(dy.typed_data(), dy.dimensions()[0], features, outputs,
                               dx->typed_data());
  cut_evenly(features, kTallTileRows, [&](int64_t first, int64_t rows) {
    gradient.band(w.typed_data(), first, rows);
  });
  gradient.finish();
  return ffi::Error::Success();
}

// Rows `first` and following of `x^T dy`, at most kTallTileRows, finished into those of `c`.
template <class Finish>
void kernel_rows(const Matrix& x, const Matrix& dy, float* c, int64_t first, int64_t rows,
                 const Finish& finish) {
  const int64_t batch = x.dimensions()[0], features = x.dimensions()[1];
  const int64_t outputs = dy.dimensions()[1];
  cut_evenly(rows, kTileRows, [&](int64_t start, int64_t length) {
    const int64_t row = first + start;
    const Factors f{x.typed_data() + row, 1, features, dy.typed_data(), outputs, batch};
    multiply_band(f, c + row * outputs, outputs, length, outputs, finish);
  });
}

ffi::Error kernel_gradient(Matrix x, Matrix dy, Result dw) {
  cut_evenly(x.dimensions()[1], kTileRows, [&](int64_t first, int64_t rows) {
    kernel_rows(x, dy, dw->typed_data(), first, rows, Assign{});
  });
  return ffi::Error::Success();
}

// `w` and `new_w` are the same memory wherever the compiler could arrange it.
float* start_from(const Matrix& w, Result& new_w) {
  if (new_w->typed_data() != w.typed_data()) {
    std::memcpy(new_w->typed_data(), w.typed_data(), w.size_bytes());
  }
  return new_w->typed_data();
}

// new_w = decay * w - learning_rate * x^T dy; rates = [learning_rate, decay].
ffi::Error descend(Matrix x, Matrix dy, Matrix w, Numbers rates, Result new_w) {
  float* weight = start_from(w, new_w);
  const Descend finish{rates.typed_data()[0], rates.typed_data()[1]};
  cut_evenly(x.dimensions()[1], kTileRows, [&](int64_t first, int64_t rows) {
    kernel_rows(x, dy, weight, first, rows, finish);
  });
  return ffi::Error::Success();
}

// As `descend`, and dx from the old weight: each band of rows is read once for both.
ffi::Error descend_with_input_gradient(Matrix x, Matrix dy, Matrix w, Numbers rates, Result dx,
                                       Result new_w) {
  const int64_t features = w.dimensions()[0], outputs = w.dimensions()[1];
  float* weight = start_from(w, new_w);
  const Descend finish{rates.typed_data()[0], rates.typed_data()[1]};
  const InputGradient gradient(dy.typed_data(), dy.dimensions()[0], features, outputs,
                               dx->typed_data());
  cut_evenly(features, kTallTileRows, [&](int64_t first, int64_t rows) {
    gradient.band(weight, first, rows);
    kernel_rows(x, dy, weight, first, rows, finish);
  });
  gradient.finish();
  return ffi::Error::Success();
}

}  // namespace
}  // namespace fedjax_kd

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    fedjax_kd_dense_forward, fedjax_kd::forward,
    xla::ffi::Ffi::Bind()
        .Arg<fedjax_kd::Matrix>()
        .Arg<fedjax_kd::Matrix>()
        .Ret<fedjax_kd::Matrix>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    fedjax_kd_dense_input_gradient, fedjax_kd::input_gradient,
    xla::ffi::Ffi::Bind()
        .Arg<fedjax_kd::Matrix>()
        .Arg<fedjax_kd::Matrix>()
        .Ret<fedjax_kd::Matrix>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    fedjax_kd_dense_kernel_gradient, fedjax_kd::kernel_gradient,
    xla::ffi::Ffi::Bind()
        .Arg<fedjax_kd::Matrix>()
        .Arg<fedjax_kd::Matrix>()
        .Ret<fedjax_kd::Matrix>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_dense_descend, fedjax_kd::descend,
                              xla::ffi::Ffi::Bind()
                                  .Arg<fedjax_kd::Matrix>()
                                  .Arg<fedjax_kd::Matrix>()
                                  .Arg<fedjax_kd::Matrix>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Matrix>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_dense_descend_with_input_gradient,
                              fedjax_kd::descend_with_input_gradient,
                              xla::ffi::Ffi::Bind()
                                  .Arg<fedjax_kd::Matrix>()
                                  .Arg<fedjax_kd::Matrix>()
                                  .Arg<fedjax_kd::Matrix>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Matrix>()
                                  .Ret<fedjax_kd::Matrix>());
