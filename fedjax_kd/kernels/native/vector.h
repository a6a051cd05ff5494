// Vectors of single-precision numbers, as long as the instruction set has them, and scratch memory.
//
// The vector length must be that of the instruction set: longer vectors are emulated by the
// compiler, piece by piece through memory, and were 40 times slower.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace fedjax_kd {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntVector __attribute__((vector_size(kLanes * sizeof(int32_t))));
typedef float LooseVector
    __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const LooseVector*>(from); }
inline void store(float* to, Vector v) { *reinterpret_cast<LooseVector*>(to) = v; }
inline Vector spread(float value) { return value - Vector{}; }

// The first `count` lanes, from 0 to all of them; the others are zero, or are not written. No memory
// beyond them is touched.
#if defined(__AVX512F__)
inline __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
inline Vector load_first(const float* from, int64_t count) {
  return (Vector)_mm512_maskz_loadu_ps(first_lanes(count), from);
}
inline void store_first(float* to, Vector v, int64_t count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), (__m512)v);
}
#elif defined(__AVX2__)
inline __m256i first_lanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
}
inline Vector load_first(const float* from, int64_t count) {
  return (Vector)_mm256_maskload_ps(from, first_lanes(count));
}
inline void store_first(float* to, Vector v, int64_t count) {
  _mm256_maskstore_ps(to, first_lanes(count), (__m256)v);
}
#else
inline Vector load_first(const float* from, int64_t count) {
  Vector v = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    if (lane < count) v[lane] = from[lane];
  }
  return v;
}
inline void store_first(float* to, Vector v, int64_t count) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (lane < count) to[lane] = v[lane];
  }
}
#endif

// max(v, 0) that keeps NaN: a comparison with NaN is false, so NaN is not replaced.
inline Vector relu(Vector v) { return v < Vector{} ? Vector{} : v; }

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Memory that a thread keeps from one call to the next, aligned to cache lines. It only grows.
// Each use in a file has a `thread_local` one of its own, so that concurrent calls share nothing.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  // At least `floats` numbers; their values are left over from earlier uses.
  float* take(int64_t floats) {
    if (floats > size_) {
      std::free(memory_);
      memory_ = nullptr;
      size_ = 0;
      const size_t bytes = static_cast<size_t>(round_up(floats, 64)) * sizeof(float);
      memory_ = static_cast<float*>(std::aligned_alloc(64, bytes));
      if (memory_ == nullptr) throw std::bad_alloc();
      size_ = floats;
    }
    return memory_;
  }

 private:
  float* memory_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace fedjax_kd
