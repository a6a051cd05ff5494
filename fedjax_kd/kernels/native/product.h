// A matrix product for batches of tens of rows: C[m, n] = sum over k of A[m, k] B[k, n].
//
// General libraries copy ("pack") both factors into contiguous blocks before they multiply, which
// pays when each block is used hundreds of times. In a dense layer on a batch of 10 to 32 examples
// the weights are used that often and no more, so here both factors are read where they lie.
//
// Register tile. A tile of M rows by N vectors of C stays in registers while k runs over its whole
// range. Each step of k loads N vectors of B and, for each of the M rows, one scalar of A that the
// processor spreads over a vector on the way: M + N loads for M * N multiply-adds. A core does two
// loads and two multiply-adds per cycle, and a multiply-add is ready after four, so at least eight
// accumulators keep it busy, and with M * N >= M + N the loads stay in their shadow. The tile is as
// large as the registers allow: 24 accumulators of 32 registers with AVX-512 (8 x 3 or 12 x 2), 12
// of 16 otherwise (4 x 3 or 6 x 2), which leaves room for the row of B and a scalar.
//
// A is addressed by two strides, so that A transposed (the weight gradient) needs no copy either.
// Every element of C is one sum in the order of k, whatever the tile that it falls into.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "vector.h"

namespace fedjax_kd {

constexpr int kAccumulators = kLanes == 16 ? 24 : 12;
constexpr int kTileVectors = 3;                             // of B, in the widest tile
constexpr int kTileRows = kAccumulators / kTileVectors;     // of A, in the widest tile
constexpr int kTallTileRows = kAccumulators / 2;            // of A, in a tile of two vectors

// One tile's factors; element (m, k) of A is a[m * row + k * step], row k of B is b + k * b_row.
struct Factors {
  const float* a;
  int64_t row;
  int64_t step;
  const float* b;
  int64_t b_row;
  int64_t depth;  // of k
};

// What becomes of the finished sums, `c = sums`.
struct Assign {
  void whole(float* c, Vector sums) const { store(c, sums); }
  void part(float* c, Vector sums, int64_t count) const { store_first(c, sums, count); }
};

// What becomes of the sums of a weight gradient: `c = decay * c - rate * sums`.
struct Descend {
  float rate;
  float decay;
  void whole(float* c, Vector sums) const { store(c, decay * load(c) - rate * sums); }
  void part(float* c, Vector sums, int64_t count) const {
    store_first(c, decay * load_first(c, count) - rate * sums, count);
  }
};

// One tile of M rows by N vectors of C, whose rows are `c_row` apart; `last` is the number of
// columns in the last vector if that is not whole.
template <int M, int N, bool kPart, class Finish>
__attribute__((noinline)) void tile(const Factors& f, float* c, int64_t c_row, int last,
                                    const Finish& finish) {
  Vector sums[M][N];
#pragma GCC unroll 32
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[m][n] = Vector{};
  }
  const float* a = f.a;
  const float* b = f.b;
  const int64_t row = f.row, step = f.step, b_row = f.b_row;
  for (int64_t k = 0; k < f.depth; ++k, a += step, b += b_row) {
    Vector right[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      right[n] = kPart && n == N - 1 ? load_first(b + n * kLanes, last) : load(b + n * kLanes);
    }
#pragma GCC unroll 32
    for (int m = 0; m < M; ++m) {
      const float left = a[m * row];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[m][n] += left * right[n];
    }
  }
#pragma GCC unroll 32
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      float* to = c + m * c_row + n * kLanes;
      if (kPart && n == N - 1) {
        finish.part(to, sums[m][n], last);
      } else {
        finish.whole(to, sums[m][n]);
      }
    }
  }
}

template <class Finish>
using TileFunction = void (*)(const Factors&, float*, int64_t, int, const Finish&);

template <int N, bool kPart, class Finish, int... Rows>
constexpr auto tiles_of_width(std::integer_sequence<int, Rows...>) {
  return std::array<TileFunction<Finish>, sizeof...(Rows)>{tile<Rows + 1, N, kPart, Finish>...};
}

// The tile of `rows` rows and `columns` columns, at most kMaxRows and N vectors.
template <int N, int kMaxRows, class Finish>
void run_tile(const Factors& f, float* c, int64_t c_row, int64_t rows, int64_t columns,
              const Finish& finish) {
  if constexpr (N > 1) {
    if (columns <= (N - 1) * kLanes) {
      return run_tile<N - 1, kMaxRows>(f, c, c_row, rows, columns, finish);
    }
  }
  using AllRows = std::make_integer_sequence<int, kMaxRows>;
  static constexpr auto whole = tiles_of_width<N, false, Finish>(AllRows{});
  static constexpr auto part = tiles_of_width<N, true, Finish>(AllRows{});
  const int last = static_cast<int>(columns - (N - 1) * kLanes);
  (last == kLanes ? whole : part)[rows - 1](f, c, c_row, last, finish);
}

// Cuts `size` into pieces of at most `most`, as equal as can be, and calls `piece(start, length)`.
template <class Piece>
void cut_evenly(int64_t size, int64_t most, const Piece& piece) {
  const int64_t pieces = (size + most - 1) / most;
  int64_t start = 0;
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t length = (size - start) / (pieces - i);
    piece(start, length);
    start += length;
  }
}

// A band of rows of C, all columns: the rows of A stay in the first cache while B streams past.
template <class Finish>
void multiply_band(Factors f, float* c, int64_t c_row, int64_t rows, int64_t columns,
                   const Finish& finish) {
  constexpr int64_t width = kTileVectors * kLanes;
  for (int64_t n = 0; n < columns; n += width) {
    Factors at = f;
    at.b += n;
    run_tile<kTileVectors, kTileRows>(at, c + n, c_row, rows, std::min(width, columns - n), finish);
  }
}

// A band of columns of C, at most one tile wide, all rows: the columns of B are used by all rows
// while they are in cache.
template <class Finish>
void multiply_column_band(Factors f, float* c, int64_t c_row, int64_t rows, int64_t columns,
                          const Finish& finish) {
  cut_evenly(rows, kTileRows, [&](int64_t m, int64_t length) {
    Factors at = f;
    at.a += m * f.row;
    run_tile<kTileVectors, kTileRows>(at, c + m * c_row, c_row, length, columns, finish);
  });
}

}  // namespace fedjax_kd
