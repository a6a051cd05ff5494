// Max pooling over windows that do not overlap, a bias per channel and ReLU, in one pass each way.
//
// The forward pass keeps one byte per output: the place of the window's first maximum, in row-major
// order, or kCut if ReLU cut the output to zero. That is all that the backward pass needs. The
// bytes of a pixel are padded to a multiple of kBytes, so that whole vectors of them can be
// written. A vector holds neighbouring channels of one pixel, or, where there are few of them, of
// several (pool_narrow.h).

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pool_narrow.h"
#include "vector.h"
#include "xla/ffi/api/ffi.h"

namespace fedjax_kd {
namespace {

namespace ffi = xla::ffi;
using Images = ffi::Buffer<ffi::F32, 4>;
using Channels = ffi::Buffer<ffi::F32, 1>;
using Winners = ffi::Buffer<ffi::U8, 4>;

constexpr int64_t kBytes = 16;

struct Shape {
  int64_t batch, height, width, channels;  // of the images that are pooled
  int64_t rows, columns;                   // of a window
  int64_t out_height, out_width;
  int64_t winner_channels;

  Shape(ffi::Span<const int64_t> images, int64_t rows, int64_t columns)
      : batch(images[0]),
        height(images[1]),
        width(images[2]),
        channels(images[3]),
        rows(rows),
        columns(columns),
        out_height(height / rows),
        out_width(width / columns),
        winner_channels(round_up(channels, kBytes)) {}

  // The distances of a window's places from its first.
  std::vector<int64_t> places() const {
    std::vector<int64_t> found;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) found.push_back((i * width + j) * channels);
    }
    return found;
  }
};

// One row of outputs and one vector of channels.
struct Place {
  int64_t image, out, winner;  // offsets of the row's first window, output and winner
  int64_t first, width;        // first channel, and how many there are
};

template <class Work>
void for_each_whole_row(const Shape& s, const Work& work) {
  for (int64_t row = 0; row < s.batch * s.out_height; ++row) {
    const int64_t image_row = row / s.out_height * s.height + row % s.out_height * s.rows;
    work(image_row * s.width * s.channels, row * s.out_width * s.channels,
         row * s.out_width * s.winner_channels);
  }
}

template <class Work>
void for_each_row(const Shape& s, const Work& work) {
  for_each_whole_row(s, [&](int64_t image, int64_t out, int64_t winner) {
    for (int64_t first = 0; first < s.channels; first += kLanes) {
      const int64_t width = std::min<int64_t>(kLanes, s.channels - first);
      work(Place{image + first, out + first, winner + first, first, width});
    }
  });
}

// The work on one row of outputs and one vector of channels. kPlaces is the number of places of a
// window, 0 if it is not known at compile time. Everything is a local variable here: the compiler
// must assume that a store of a vector could change whatever else is in memory.
template <int kPlaces>
void forward_row(const Shape& s, const int64_t* places, const float* images, Vector shift,
                 int64_t width, float* out, uint8_t* winners) {
  const int count = kPlaces > 0 ? kPlaces : static_cast<int>(s.rows * s.columns);
  const int64_t image_step = s.columns * s.channels, out_step = s.channels;
  const int64_t winner_step = s.winner_channels;
  int64_t known[kPlaces + 1];
  for (int i = 0; i < kPlaces; ++i) known[i] = places[i];
  const float* const end = out + s.out_width * out_step;
  for (; out != end; images += image_step, out += out_step, winners += winner_step) {
    Vector best = load_first(images, width);
    IntVector winner = {};
#pragma GCC unroll 4
    for (int place = 1; place < count; ++place) {
      const Vector other = load_first(images + (kPlaces > 0 ? known[place] : places[place]), width);
      NarrowPool::take(other, place, &best, &winner);
    }
    const Vector value = best + shift;
    winner = value > Vector{} ? winner : IntVector{} + kCut;
    store_first(out, relu(value), width);
    const ByteVector bytes = __builtin_convertvector(winner, ByteVector);
    std::memcpy(winners, &bytes, kLanes);
  }
}

// Returns the sum of the gradients that ReLU let through.
template <int kPlaces>
Vector backward_row(const Shape& s, const int64_t* places, const float* dout,
                    const uint8_t* winners, int64_t width, float* dimages) {
  const int count = kPlaces > 0 ? kPlaces : static_cast<int>(s.rows * s.columns);
  const int64_t image_step = s.columns * s.channels, out_step = s.channels;
  const int64_t winner_step = s.winner_channels;
  int64_t known[kPlaces + 1];
  for (int i = 0; i < kPlaces; ++i) known[i] = places[i];
  const float* const end = dout + s.out_width * out_step;
  Vector total = {};
  for (; dout != end; dimages += image_step, dout += out_step, winners += winner_step) {
    const Vector gradient = load_first(dout, width);
    ByteVector bytes;
    std::memcpy(&bytes, winners, kLanes);
    const IntVector winner = __builtin_convertvector(bytes, IntVector);
    total += winner == kCut ? Vector{} : gradient;
#pragma GCC unroll 4
    for (int place = 0; place < count; ++place) {
      store_first(dimages + (kPlaces > 0 ? known[place] : places[place]),
                  winner == place ? gradient : Vector{}, width);
    }
  }
  return total;
}

// Zero where no window reaches.
void clear_edges(const Shape& s, float* dimages) {
  const int64_t covered_rows = s.out_height * s.rows, covered = s.out_width * s.columns;
  const auto clear = [&](int64_t row, int64_t column, int64_t pixels) {
    std::memset(dimages + (row * s.width + column) * s.channels, 0,
                pixels * s.channels * sizeof(float));
  };
  for (int64_t image = 0; image < s.batch; ++image) {
    const int64_t top = image * s.height;
    if (covered < s.width) {
      for (int64_t row = 0; row < covered_rows; ++row) clear(top + row, covered, s.width - covered);
    }
    clear(top + covered_rows, 0, (s.height - covered_rows) * s.width);
  }
}

ffi::Error forward(Images images, Channels bias, ffi::Result<Images> out,
                   ffi::Result<Winners> winners, int64_t rows, int64_t columns) {
  const Shape s(images.dimensions(), rows, columns);
  if (NarrowPool::fits(s.channels, columns)) {
    const NarrowPool narrow(s.width, s.channels, rows, s.out_width);
    const Vector shift = narrow.spread(bias.typed_data());
    for_each_whole_row(s, [&](int64_t image, int64_t to, int64_t winner) {
      narrow.forward(images.typed_data() + image, shift, out->typed_data() + to,
                     winners->typed_data() + winner);
    });
    return ffi::Error::Success();
  }
  const std::vector<int64_t> places = s.places();
  const auto run = places.size() == 4   ? forward_row<4>
                   : places.size() == 2 ? forward_row<2>
                                        : forward_row<0>;
  for_each_row(s, [&](const Place& at) {
    const Vector shift = load_first(bias.typed_data() + at.first, at.width);
    run(s, places.data(), images.typed_data() + at.image, shift, at.width,
        out->typed_data() + at.out, winners->typed_data() + at.winner);
  });
  return ffi::Error::Success();
}

ffi::Error backward(Images dout, Winners winners, ffi::Result<Images> dimages,
                    ffi::Result<Channels> dbias, int64_t rows, int64_t columns) {
  const Shape s(dimages->dimensions(), rows, columns);
  const std::vector<int64_t> places = s.places();
  const auto run = places.size() == 4   ? backward_row<4>
                   : places.size() == 2 ? backward_row<2>
                                        : backward_row<0>;
  std::memset(dbias->typed_data(), 0, dbias->size_bytes());
  clear_edges(s, dimages->typed_data());
  if (NarrowPool::fits(s.channels, columns)) {
    const NarrowPool narrow(s.width, s.channels, rows, s.out_width);
    Vector total = {};
    for_each_whole_row(s, [&](int64_t image, int64_t from, int64_t winner) {
      narrow.backward(dout.typed_data() + from, winners.typed_data() + winner,
                      dimages->typed_data() + image, &total);
    });
    narrow.gather(total, dbias->typed_data());
    return ffi::Error::Success();
  }
  for_each_row(s, [&](const Place& at) {
    const Vector total = run(s, places.data(), dout.typed_data() + at.out,
                             winners.typed_data() + at.winner, at.width,
                             dimages->typed_data() + at.image);
    float* sum = dbias->typed_data() + at.first;
    store_first(sum, load_first(sum, at.width) + total, at.width);
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace fedjax_kd

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_pool_forward, fedjax_kd::forward,
                              xla::ffi::Ffi::Bind()
                                  .Arg<fedjax_kd::Images>()
                                  .Arg<fedjax_kd::Channels>()
                                  .Ret<fedjax_kd::Images>()
                                  .Ret<fedjax_kd::Winners>()
                                  .Attr<int64_t>("rows")
                                  .Attr<int64_t>("columns"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fedjax_kd_pool_backward, fedjax_kd::backward,
                              xla::ffi::Ffi::Bind()
                                  .Arg<fedjax_kd::Images>()
                                  .Arg<fedjax_kd::Winners>()
                                  .Ret<fedjax_kd::Images>()
                                  .Ret<fedjax_kd::Channels>()
                                  .Attr<int64_t>("rows")
                                  .Attr<int64_t>("columns"));
