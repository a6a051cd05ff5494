// A two-dimensional convolution and its two gradients, for JAX on the CPU.
//
// Images are [batch, rows, columns, channels], kernels [rows, columns, channels in, channels out],
// all float32 and row-major. Each call works in the thread that makes it and shares nothing with
// other calls, so that concurrent calls run side by side and give the same bits as one alone.
// NaN and infinity go wherever the arithmetic takes them.
//
// The three entry points are separate calls, so that a program that does not need the gradient of
// its first layer's input does not compute it.

#include "conv_passes.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using fedjax_kd::Convolution;
using Array = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;

Convolution convolution(ffi::Span<const int64_t> x, ffi::Span<const int64_t> w,
                        ffi::Span<const int64_t> y, int64_t row_stride, int64_t column_stride,
                        int64_t top, int64_t left) {
  return {x[0], {x[1], x[2], x[3]}, {w[0], w[1], w[2], w[3]}, {y[1], y[2], y[3]},
          row_stride, column_stride, top, left};
}

ffi::Error forward(Array x, Array w, Result y, int64_t row_stride, int64_t column_stride,
                   int64_t top, int64_t left) {
  const Convolution c = convolution(x.dimensions(), w.dimensions(), y->dimensions(), row_stride,
                                    column_stride, top, left);
  fedjax_kd::ForwardPass pass(c, w.typed_data());
  for (int64_t b = 0; b < c.batch; ++b) {
    pass.run(x.typed_data() + b * c.x.size(), y->typed_data() + b * c.y.size());
  }
  return ffi::Error::Success();
}

ffi::Error input_gradient(Array dy, Array w, Result dx, int64_t row_stride, int64_t column_stride,
                          int64_t top, int64_t left) {
  const Convolution c = convolution(dx->dimensions(), w.dimensions(), dy.dimensions(), row_stride,
                                    column_stride, top, left);
  fedjax_kd::InputGradientPass pass(c, w.typed_data());
  for (int64_t b = 0; b < c.batch; ++b) {
    pass.run(dy.typed_data() + b * c.y.size(), dx->typed_data() + b * c.x.size());
  }
  return ffi::Error::Success();
}

ffi::Error kernel_gradient(Array x, Array dy, Result dw, int64_t row_stride, int64_t column_stride,
                           int64_t top, int64_t left) {
  const Convolution c = convolution(x.dimensions(), dw->dimensions(), dy.dimensions(), row_stride,
                                    column_stride, top, left);
  fedjax_kd::KernelGradientPass pass(c);
  for (int64_t b = 0; b < c.batch; ++b) {
    pass.add(x.typed_data() + b * c.x.size(), dy.typed_data() + b * c.y.size());
  }
  pass.finish(dw->typed_data());
  return ffi::Error::Success();
}

auto binding() {
  return ffi::Ffi::Bind()
      .Arg<Array>()
      .Arg<Array>()
      .Ret<Array>()
      .Attr<int64_t>("row_stride")
      .Attr<int64_t>("column_stride")
      .Attr<int64_t>("top")
      .Attr<int64_t>("left");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_conv_forward, forward, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_conv_input_gradient, input_gradient, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_conv_kernel_gradient, kernel_gradient, binding());
