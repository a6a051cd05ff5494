// Convolution, group normalisation, an optional addition and an optional ReLU, as one operation:
//
//   z = convolution(x, w)
//   u = (z - mean) * inverse          mean and inverse deviation of an image's group of channels
//   y = relu(scale * u + offset + residual)
//
// Each image goes through all steps while it is in the core's own cache, forwards and backwards;
// apart, each step would read and write a whole batch in a more distant one. Kept for the gradient
// are z, y (which the next layer keeps anyway) and the statistics.
//
// Backwards, with g the gradient of the sum under the ReLU (dy where y > 0) and means over a group:
//   doffset = sum of g      dscale = sum of g * u      dresidual = g
//   dz = inverse * (g * scale - mean(g * scale) - u * mean(g * scale * u))
// after which dz takes the two ways back through the convolution without leaving the cache.

#include <cmath>

#include "conv_passes.h"
#include "norm_sweeps.h"
#include "xla/ffi/api/ffi.h"

namespace fedjax_kd {
namespace {

namespace ffi = xla::ffi;
using Numbers = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

Convolution convolution(ffi::Span<const int64_t> x, ffi::Span<const int64_t> w,
                        ffi::Span<const int64_t> y, int64_t row_stride, int64_t column_stride,
                        int64_t top, int64_t left) {
  return {x[0], {x[1], x[2], x[3]}, {w[0], w[1], w[2], w[3]}, {y[1], y[2], y[3]},
          row_stride, column_stride, top, left};
}

// Sums of each channel to means of each group: [channels] to [groups].
void group_means(const float* sums, int64_t channels, int64_t groups, int64_t pixels,
                 float* means) {
  const int64_t members = channels / groups;
  for (int64_t g = 0; g < groups; ++g) {
    float sum = 0.0f;
    for (int64_t c = g * members; c < (g + 1) * members; ++c) sum += sums[c];
    means[g] = sum / static_cast<float>(pixels * members);
  }
}

// Room for a few numbers per channel, [n][channels], and for their repetitions, [n][period].
class Coefficients {
 public:
  Coefficients(Scratch& scratch, const Period& period, int64_t n)
      : period_(period), step_(round_up(period.floats(), 16)) {
    memory_ = scratch.take(2 * n * step_);
    repeated_ = memory_ + n * step_;
  }
  float* channel(int64_t n) const { return memory_ + n * step_; }
  float* repeat(int64_t n) const {
    period_.write_out(channel(n), repeated_ + n * step_);
    return repeated_ + n * step_;
  }

 private:
  const Period& period_;
  int64_t step_;
  float* memory_;
  float* repeated_;
};

Scratch& coefficient_memory() {
  thread_local Scratch scratch;
  return scratch;
}
Scratch& image_memory() {
  thread_local Scratch scratch;
  return scratch;
}

class Normalisation {
 public:
  Normalisation(const ImageShape& shape, int64_t groups, float epsilon, const float* scale,
                const float* offset)
      : size_(shape.size()),
        pixels_(shape.rows * shape.columns),
        channels_(shape.channels),
        groups_(groups),
        epsilon_(epsilon),
        scale_(scale),
        offset_(offset),
        period_(shape.channels),
        coefficients_(coefficient_memory(), period_, 6) {}

  // Mean and inverse deviation of each group of one image; the variance in a second sweep.
  void statistics(const float* z, float* mean, float* inverse) const {
    float* sums = coefficients_.channel(0);
    sum_by_channel<1>(period_, size_,
                      [&](int64_t at, int64_t, auto count, Vector (&v)[1]) {
                        v[0] = load_some(z + at, count);
                      },
                      {sums});
    group_means(sums, channels_, groups_, pixels_, mean);
    const float* centre = spread_groups(1, mean);
    sum_by_channel<1>(period_, size_,
                      [&](int64_t at, int64_t place, auto count, Vector (&v)[1]) {
                        const Vector deviation = load_some(z + at, count) - load(centre + place);
                        v[0] = deviation * deviation;
                      },
                      {sums});
    group_means(sums, channels_, groups_, pixels_, inverse);
    for (int64_t g = 0; g < groups_; ++g) inverse[g] = 1.0f / std::sqrt(inverse[g] + epsilon_);
  }

  template <bool Add, bool Relu>
  void apply(const float* z, const float* mean, const float* inverse, const float* residual,
             float* y) const {
    const float* centre = spread_groups(0, mean);
    float* gains = coefficients_.channel(1);
    for_channels([&](int64_t c, int64_t g) { gains[c] = inverse[g] * scale_[c]; });
    std::memcpy(coefficients_.channel(2), offset_, channels_ * sizeof(float));
    const float* gain = coefficients_.repeat(1);
    const float* shift = coefficients_.repeat(2);
    for_line(period_, size_, [&](int64_t at, int64_t place, auto count) {
      const Vector deviation = load_some(z + at, count) - load(centre + place);
      Vector out = deviation * load(gain + place) + load(shift + place);
      if constexpr (Add) out += load_some(residual + at, count);
      if constexpr (Relu) out = relu(out);
      store_some(y + at, out, count);
    });
  }

  // Adds to dscale and doffset, and writes dz, its rows `dz_row_step` apart, and dresidual.
  template <bool Add, bool Relu>
  void gradient(const float* dy, const float* y, const float* z, const float* mean,
                const float* inverse, int64_t row_size, float* dz, int64_t dz_row_step,
                float* dresidual, float* dscale, float* doffset) const {
    const float* centre = spread_groups(0, mean);
    float* g_sums = coefficients_.channel(1);
    float* gu_sums = coefficients_.channel(2);  // of g * (z - mean), then of g * u
    sum_by_channel<2>(period_, size_,
                      [&](int64_t at, int64_t place, auto count, Vector (&v)[2]) {
                        const Vector g = slope<Relu>(dy, y, at, count);
                        if constexpr (Add) store_some(dresidual + at, g, count);
                        v[0] = g;
                        v[1] = g * (load_some(z + at, count) - load(centre + place));
                      },
                      {g_sums, gu_sums});
    float* g_means = coefficients_.channel(4);
    float* gu_means = coefficients_.channel(5);
    group_gradient_means(inverse, g_sums, gu_sums, dscale, doffset, g_means, gu_means);
    // By channel, dz = gain * g - pull * (z - mean) - level; the sums make room for them.
    float* levels = coefficients_.channel(3);
    for_channels([&](int64_t c, int64_t g) {
      g_sums[c] = inverse[g] * scale_[c];
      gu_sums[c] = inverse[g] * inverse[g] * gu_means[g];
      levels[c] = inverse[g] * g_means[g];
    });
    const float* gain = coefficients_.repeat(1);
    const float* pull = coefficients_.repeat(2);
    const float* level = coefficients_.repeat(3);
    for (int64_t row = 0, start = 0; start < size_; ++row, start += row_size) {
      float* dz_row = dz + row * dz_row_step;
      for_line(period_, row_size, [&](int64_t at, int64_t place, auto count) {
        const Vector g = slope<Relu>(dy, y, start + at, count);
        const Vector deviation = load_some(z + start + at, count) - load(centre + place);
        store_some(dz_row + at,
                   load(gain + place) * g - load(pull + place) * deviation - load(level + place),
                   count);
      });
    }
  }

 private:
  int64_t members() const { return channels_ / groups_; }  // channels of a group

  // Calls `use(channel, its group)`.
  template <typename Use>
  void for_channels(Use use) const {
    for (int64_t g = 0, c = 0; g < groups_; ++g) {
      for (const int64_t end = c + members(); c < end; ++c) use(c, g);
    }
  }

  const float* spread_groups(int64_t n, const float* per_group) const {
    float* per_channel = coefficients_.channel(n);
    for_channels([&](int64_t c, int64_t g) { per_channel[c] = per_group[g]; });
    return coefficients_.repeat(n);
  }

  // dy where the ReLU let its input through. A NaN in y passes dy on as it is not <= 0.
  template <bool Relu, typename Count>
  static Vector slope(const float* dy, const float* y, int64_t at, Count count) {
    const Vector g = load_some(dy + at, count);
    if constexpr (!Relu) return g;
    const Vector out = load_some(y + at, count);
    return out <= Vector{} ? Vector{} : g;
  }

  void group_gradient_means(const float* inverse, const float* g_sums, const float* gu_sums,
                            float* dscale, float* doffset, float* g_means,
                            float* gu_means) const {
    const float values = static_cast<float>(pixels_ * members());
    for (int64_t g = 0; g < groups_; ++g) {
      float g_total = 0.0f, gu_total = 0.0f;
      for (int64_t c = g * members(); c < (g + 1) * members(); ++c) {
        const float gu = gu_sums[c] * inverse[g];
        doffset[c] += g_sums[c];
        dscale[c] += gu;
        g_total += g_sums[c] * scale_[c];
        gu_total += gu * scale_[c];
      }
      g_means[g] = g_total / values;
      gu_means[g] = gu_total / values;
    }
  }

  int64_t size_, pixels_, channels_, groups_;
  float epsilon_;
  const float* scale_;
  const float* offset_;
  Period period_;
  Coefficients coefficients_;
};

// Calls `use` with the two flags as constants.
template <typename Use>
void with_flags(bool add, bool relu, Use use) {
  if (add && relu) return use(std::true_type{}, std::true_type{});
  if (add) return use(std::true_type{}, std::false_type{});
  if (relu) return use(std::false_type{}, std::true_type{});
  use(std::false_type{}, std::false_type{});
}

// `residual` has no elements if there is none; neither has z if it is not to be kept.
ffi::Error forward(Numbers x, Numbers w, Numbers scale, Numbers offset, Numbers residual, Result y,
                   Result z, Result mean, Result inverse, int64_t row_stride,
                   int64_t column_stride, int64_t top, int64_t left, int64_t groups, float epsilon,
                   bool relu) {
  const Convolution c = convolution(x.dimensions(), w.dimensions(), y->dimensions(), row_stride,
                                    column_stride, top, left);
  const int64_t size = c.y.size();
  const bool keep = z->element_count() > 0;
  float* one = keep ? nullptr : image_memory().take(size);
  ForwardPass pass(c, w.typed_data());
  const Normalisation norm(c.y, groups, epsilon, scale.typed_data(), offset.typed_data());
  with_flags(residual.element_count() > 0, relu, [&](auto add, auto rectify) {
    for (int64_t b = 0; b < c.batch; ++b) {
      float* image = keep ? z->typed_data() + b * size : one;
      float* image_mean = mean->typed_data() + b * groups;
      float* image_inverse = inverse->typed_data() + b * groups;
      pass.run(x.typed_data() + b * c.x.size(), image);
      norm.statistics(image, image_mean, image_inverse);
      norm.apply<add, rectify>(image, image_mean, image_inverse,
                               add ? residual.typed_data() + b * size : nullptr,
                               y->typed_data() + b * size);
    }
  });
  return ffi::Error::Success();
}

// dx has no elements if it is not wanted, neither has dresidual without a residual.
ffi::Error backward(Numbers dy, Numbers x, Numbers w, Numbers scale, Numbers y, Numbers z,
                    Numbers mean, Numbers inverse, Result dx, Result dw, Result dscale,
                    Result doffset, Result dresidual, int64_t row_stride, int64_t column_stride,
                    int64_t top, int64_t left, int64_t groups, bool relu) {
  const Convolution c = convolution(x.dimensions(), w.dimensions(), dy.dimensions(), row_stride,
                                    column_stride, top, left);
  const int64_t size = c.y.size(), channels = c.y.channels, row_size = c.y.columns * channels;
  std::memset(dscale->typed_data(), 0, channels * sizeof(float));
  std::memset(doffset->typed_data(), 0, channels * sizeof(float));
  std::optional<InputGradientPass> to_input;
  if (dx->element_count() > 0) to_input.emplace(c, w.typed_data(), true);
  KernelGradientPass to_kernel(c);
  float* dz = to_input ? to_input->dy() : image_memory().take(size);
  const int64_t dz_row_step = to_input ? to_input->dy_row_step() : row_size;
  const Normalisation norm(c.y, groups, 0.0f, scale.typed_data(), nullptr);
  with_flags(dresidual->element_count() > 0, relu, [&](auto add, auto rectify) {
    for (int64_t b = 0; b < c.batch; ++b) {
      norm.gradient<add, rectify>(dy.typed_data() + b * size, y.typed_data() + b * size,
                                  z.typed_data() + b * size, mean.typed_data() + b * groups,
                                  inverse.typed_data() + b * groups, row_size, dz, dz_row_step,
                                  add ? dresidual->typed_data() + b * size : nullptr,
                                  dscale->typed_data(), doffset->typed_data());
      to_kernel.add(x.typed_data() + b * c.x.size(), dz, dz_row_step);
      if (to_input) to_input->run_written(dx->typed_data() + b * c.x.size());
    }
  });
  to_kernel.finish(dw->typed_data());
  return ffi::Error::Success();
}

}  // namespace
}  // namespace fedjax_kd

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_conv_group_norm_forward, fedjax_kd::forward,
                              fedjax_kd::ffi::Ffi::Bind()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Attr<int64_t>("row_stride")
                                  .Attr<int64_t>("column_stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left")
                                  .Attr<int64_t>("groups")
                                  .Attr<float>("epsilon")
                                  .Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_conv_group_norm_backward, fedjax_kd::backward,
                              fedjax_kd::ffi::Ffi::Bind()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Arg<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Ret<fedjax_kd::Numbers>()
                                  .Attr<int64_t>("row_stride")
                                  .Attr<int64_t>("column_stride")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left")
                                  .Attr<int64_t>("groups")
                                  .Attr<bool>("relu"));
