// Sweeps over an image [pixels, channels] that treat every channel in its own way.
//
// The channels' coefficients are written out side by side until they fill whole vectors (`Period`).
// An image is then a flat line of numbers along which the same few vectors of coefficients come
// round again and again, whatever the number of channels.
#pragma once

#include <numeric>
#include <type_traits>

#include "vector.h"

namespace fedjax_kd {

class Period {
 public:
  explicit Period(int64_t channels) : channels_(channels), floats_(std::lcm(channels, kLanes)) {}
  int64_t floats() const { return floats_; }
  int64_t channels() const { return channels_; }

  // One value for each channel, repeated over a period.
  void write_out(const float* per_channel, float* to) const {
    for (int64_t n = 0; n < floats_; n += channels_) {
      std::memcpy(to + n, per_channel, channels_ * sizeof(float));
    }
  }

 private:
  int64_t channels_, floats_;
};

// Calls `use(offset, place, count)` for each vector of a line of `size` numbers that starts with
// channel 0: its offset in the line, its place in the period, and how many numbers it has. `count`
// is the constant kLanes for all whole vectors, so that inlined code has no masks.
template <typename Use>
inline void for_line(const Period& period, int64_t size, Use use) {
  int64_t offset = 0;
  for (; offset + period.floats() <= size; offset += period.floats()) {
    for (int64_t place = 0; place < period.floats(); place += kLanes) {
      use(offset + place, place, std::integral_constant<int64_t, kLanes>{});
    }
  }
  const int64_t start = offset;
  for (; offset + kLanes <= size; offset += kLanes) {
    use(offset, offset - start, std::integral_constant<int64_t, kLanes>{});
  }
  if (offset < size) use(offset, offset - start, size - offset);
}

// Whole vectors by a plain load or store, others by their first lanes.
template <typename Count>
inline Vector load_some(const float* from, Count count) {
  if constexpr (std::is_same_v<Count, int64_t>) return load_first(from, count);
  else return load(from);
}
template <typename Count>
inline void store_some(float* to, Vector v, Count count) {
  if constexpr (std::is_same_v<Count, int64_t>) store_first(to, v, count);
  else store(to, v);
}

// Sums of `Sums` quantities over all pixels, for each channel, into `totals[s][channel]`.
// `values(offset, place, count, out)` writes a vector of each quantity into `out[Sums]`.
//
// Four running sums for each place of the period hide the latency of addition and round less.
template <int Sums, typename Values>
inline void sum_by_channel(const Period& period, int64_t size, Values values,
                           float* const (&totals)[Sums]) {
  constexpr int64_t kWays = 4;
  constexpr std::integral_constant<int64_t, kLanes> whole{};
  for (int s = 0; s < Sums; ++s) std::memset(totals[s], 0, period.channels() * sizeof(float));
  const auto add = [&](int64_t place, int s, Vector v, int64_t count) {
    float lanes[kLanes];
    store(lanes, v);
    int64_t channel = place % period.channels();
    for (int64_t lane = 0; lane < count; ++lane) {
      totals[s][channel] += lanes[lane];
      if (++channel == period.channels()) channel = 0;
    }
  };
  const int64_t repeats = size / period.floats();
  for (int64_t place = 0; place < period.floats(); place += kLanes) {
    Vector running[kWays][Sums] = {};
    int64_t n = 0;
    for (; n + kWays <= repeats; n += kWays) {
#pragma GCC unroll 4
      for (int64_t way = 0; way < kWays; ++way) {
        Vector v[Sums];
        values((n + way) * period.floats() + place, place, whole, v);
#pragma GCC unroll 4
        for (int s = 0; s < Sums; ++s) running[way][s] += v[s];
      }
    }
    for (; n < repeats; ++n) {
      Vector v[Sums];
      values(n * period.floats() + place, place, whole, v);
      for (int s = 0; s < Sums; ++s) running[0][s] += v[s];
    }
    for (int s = 0; s < Sums; ++s) {
      add(place, s, (running[0][s] + running[1][s]) + (running[2][s] + running[3][s]), kLanes);
    }
  }
  const int64_t start = repeats * period.floats();
  for_line(period, size - start, [&](int64_t offset, int64_t place, auto count) {
    Vector v[Sums];
    values(start + offset, place, count, v);
    for (int s = 0; s < Sums; ++s) add(place, s, v[s], count);
  });
}

}  // namespace fedjax_kd
