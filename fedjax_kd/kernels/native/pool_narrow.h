// Max pooling, bias and ReLU for images of few channels and windows of two columns.
//
// Where a pixel's channels fill half a vector or less, a vector holds several neighbouring outputs
// instead. Their windows are contiguous in each row of the image: two loads read them, and two
// shuffles sort them into left and right columns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vector.h"

namespace fedjax_kd {

typedef uint8_t ByteVector __attribute__((vector_size(kLanes)));

constexpr int kCut = 127;  // winner of an output that ReLU cut to zero

class NarrowPool {
 public:
  static bool fits(int64_t channels, int64_t columns) {
    return columns == 2 && 2 * channels <= kLanes;
  }

  NarrowPool(int64_t width, int64_t channels, int64_t rows, int64_t out_width)
      : row_(width * channels), channels_(channels), rows_(rows), out_(out_width * channels) {
    const int c = static_cast<int>(channels);
    group_ = kLanes / c * c;
    for (int lane = 0; lane < kLanes; ++lane) {
      const int output = lane / c, channel = lane % c;
      left_[lane] = std::min(2 * output * c + channel, 2 * kLanes - 1);
      right_[lane] = std::min(left_[lane] + c, 2 * kLanes - 1);
      low_[lane] = source(lane);
      high_[lane] = source(lane + kLanes);
    }
  }

  // The bias of each lane.
  Vector spread(const float* bias) const {
    Vector v = {};
    for (int64_t lane = 0; lane < group_; ++lane) v[lane] = bias[lane % channels_];
    return v;
  }

  // Adds the lanes of each channel.
  void gather(Vector total, float* dbias) const {
    for (int64_t lane = 0; lane < group_; ++lane) dbias[lane % channels_] += total[lane];
  }

  // One row of outputs; kLanes winners are written for each group of outputs.
  void forward(const float* images, Vector shift, float* out, uint8_t* winners) const {
    const NarrowPool p = *this;  // local, so that no store can be suspected to change it
    for (int64_t done = 0; done < p.out_; done += p.group_, winners += kLanes) {
      const int64_t count = std::min(p.group_, p.out_ - done);
      const int64_t low = std::min<int64_t>(2 * count, kLanes);
      const int64_t high = 2 * count - low;
      const float* from = images + 2 * done;
      Vector best = {};
      IntVector winner = {};
      for (int row = 0; row < p.rows_; ++row, from += p.row_) {
        const Vector a = load_first(from, low), b = load_first(from + kLanes, high);
        const Vector left = __builtin_shuffle(a, b, p.left_);
        const Vector right = __builtin_shuffle(a, b, p.right_);
        if (row == 0) {
          best = left;
        } else {
          take(left, 2 * row, &best, &winner);
        }
        take(right, 2 * row + 1, &best, &winner);
      }
      const Vector value = best + shift;
      winner = value > Vector{} ? winner : IntVector{} + kCut;
      store_first(out + done, relu(value), count);
      const ByteVector bytes = __builtin_convertvector(winner, ByteVector);
      std::memcpy(winners, &bytes, kLanes);
    }
  }

  // Adds to `total` the gradients that ReLU let through.
  void backward(const float* dout, const uint8_t* winners, float* dimages, Vector* total) const {
    const NarrowPool p = *this;
    Vector sum = *total;
    for (int64_t done = 0; done < p.out_; done += p.group_, winners += kLanes) {
      const int64_t count = std::min(p.group_, p.out_ - done);
      const int64_t low = std::min<int64_t>(2 * count, kLanes);
      const int64_t high = 2 * count - low;
      const Vector gradient = load_first(dout + done, count);
      ByteVector bytes;
      std::memcpy(&bytes, winners, kLanes);
      const IntVector winner = __builtin_convertvector(bytes, IntVector);
      sum += winner == kCut ? Vector{} : gradient;
      float* to = dimages + 2 * done;
      for (int row = 0; row < p.rows_; ++row, to += p.row_) {
        const Vector left = winner == 2 * row ? gradient : Vector{};
        const Vector right = winner == 2 * row + 1 ? gradient : Vector{};
        store_first(to, __builtin_shuffle(left, right, p.low_), low);
        store_first(to + kLanes, __builtin_shuffle(left, right, p.high_), high);
      }
    }
    *total = sum;
  }

  // The next place of a window: it wins if it is greater; not a number stays once it is there.
  static void take(Vector other, int place, Vector* best, IntVector* winner) {
    const Vector b = *best;
    *winner = other > b ? IntVector{} + place : *winner;
    *best = b >= other ? b : (b != b ? b : other);
  }

 private:
  // Where the number at a place of the image comes from: a lane of the left column or, behind
  // those, of the right one.
  int source(int place) const {
    const int c = static_cast<int>(channels_), pixel = place / c;
    const int lane = std::min(pixel / 2 * c + place % c, kLanes - 1);
    return pixel % 2 * kLanes + lane;
  }

  int64_t row_, channels_, rows_, out_, group_;
  IntVector left_, right_, low_, high_;
};

}  // namespace fedjax_kd
