// What kernels do with vectors: narrow types, comparisons, sums over lanes, exponentials.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "backend/cpu/vec.hpp"
#include "mora/core/dtype.hpp"

namespace mora::cpu {

// The larger ones of the lanes; a NaN of b stays.
MORA_INLINE Vec<float> larger(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)  // gcc makes two instructions of the comparison, and warns without a mask
  const __m512 top = _mm512_maskz_max_ps(0xffff, reinterpret_cast<const __m512&>(a),
                                         reinterpret_cast<const __m512&>(b));
  return reinterpret_cast<const Vec<float>&>(top);
#else
  return select(a > b, a, b);
#endif
}
MORA_INLINE Vec<double> larger(Vec<double> a, Vec<double> b) {
  return select(a > b, a, b);
}

// Halves of words: as many as a register has words.
typedef uint16_t Halves __attribute__((vector_size(kRegisterBytes / 2), aligned(2), may_alias));

// The bits of 16 numbers as words.
MORA_INLINE Words widen(const bf16* p) {
#if defined(__AVX512F__)  // gcc converts half by half, and warns of it without a mask
  const __m512i words =
      _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return reinterpret_cast<const Words&>(words);
#else
  Words words;
  each_part([&](size_t i) {
    // auto would forget how it is aligned
    const Halves* from = reinterpret_cast<const Halves*>(p + i * kRegisterLanes<uint32_t>);
    words.part[i] = __builtin_convertvector(*from, Register<uint32_t>);
  });
  return words;
#endif
}
MORA_INLINE Vec<float> load(const bf16* p) {
  return floats_of(widen(p) << 16);
}

// 32 numbers, or 16 in f32, that fill the cache line at p, written past the caches; after the last
// of them a thread calls finish_streaming().
#if defined(__AVX512F__)
MORA_INLINE void stream(float* p, Vec<float> v) {
  _mm512_stream_ps(p, reinterpret_cast<const __m512&>(v));
}
inline void finish_streaming() {
  _mm_sfence();
}
#else
MORA_INLINE void stream(float* p, Vec<float> v) {
  store(p, v);
}
inline void finish_streaming() {}
#endif
#if defined(__AVX512BF16__)
MORA_INLINE void stream(bf16* p, Vec<float> first, Vec<float> second) {
  const __m512bh rounded = _mm512_cvtne2ps_pbh(reinterpret_cast<const __m512&>(second),
                                               reinterpret_cast<const __m512&>(first));
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), reinterpret_cast<const __m512i&>(rounded));
}
MORA_INLINE void store(bf16* p, Vec<float> v) {  // numbers below the normal ones become zero
  const __m256bh rounded = _mm512_cvtneps_pbh(reinterpret_cast<const __m512&>(v));
  std::memcpy(static_cast<void*>(p), &rounded, sizeof rounded);
}
#else
// The lower halves of words.
MORA_INLINE void store_halves(bf16* p, Words words) {
#if defined(__AVX512F__)
  *reinterpret_cast<Halves*>(p) = __builtin_convertvector(words, Halves);
#else
  each_part([&](size_t i) {
    *reinterpret_cast<Halves*>(p + i * kRegisterLanes<uint32_t>) =
        __builtin_convertvector(words.part[i], Halves);
  });
#endif
}
MORA_INLINE void store(bf16* p, Vec<float> v) {  // as the conversion of a number
  const Words bits = words_of(v), upper = bits >> 16;
  store_halves(p, select(v == v, (bits + 0x7fffu + (upper & 1u)) >> 16, upper | 0x40u));
}
MORA_INLINE void stream(bf16* p, Vec<float> first, Vec<float> second) {
  store(p, first);
  store(p + kLanes<float>, second);
}
#endif

namespace detail {

// Few lanes are rare, so their numbers go through memory, in a call.
template <class S>
[[gnu::noinline]] void load_few(const S* p, int64_t n, Working<S>* lanes) {
  for (int64_t i = 0; i < n; ++i) lanes[i] = value_as<Working<S>>(p[i]);
  std::fill(lanes + n, lanes + kLanes<Working<S>>, Working<S>(0));
}
template <class S>
[[gnu::noinline]] void store_few(S* p, const Working<S>* lanes, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = value_as<S>(lanes[i]);
}

}  // namespace detail

// The first n lanes; the others are zeros, or stay as they are in memory.
template <class S>
MORA_INLINE Vec<Working<S>> load(const S* p, int64_t n) {
  if (n == kLanes<Working<S>>) return load(p);
  Working<S> lanes[kLanes<Working<S>>];
  detail::load_few(p, n, lanes);
  return load(lanes);
}
template <class S>
MORA_INLINE void store(S* p, Vec<Working<S>> v, int64_t n) {
  if (n == kLanes<Working<S>>) return store(p, v);
  Working<S> lanes[kLanes<Working<S>>];
  store(lanes, v);
  detail::store_few(p, lanes, n);
}

// Asks for what a loop over memory reads some lines from now: the processor's own asking ends with
// each page.
template <class S>
inline void ask_ahead(const S* p) {
  constexpr int64_t kBytes = 1024;
  __builtin_prefetch(reinterpret_cast<const std::byte*>(p) + kBytes);
}

// Sum of the lanes as a fixed tree.
template <class T>
inline T lane_sum(Vec<T> v) {
  T lanes[kLanes<T>];
  store(lanes, v);
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

template <class T>
inline T lane_max(Vec<T> v) {
  T lanes[kLanes<T>];
  store(lanes, v);
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] = std::max(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}

// The largest of n >= 1 numbers. A NaN among them may be passed over.
template <class T>
inline T largest(const T* x, int64_t n) {
  const int64_t whole = n / kLanes<T> * kLanes<T>;
  T top = x[0];
  if (whole > 0) {
    Vec<T> lanes = load(x);
    for (int64_t i = kLanes<T>; i < whole; i += kLanes<T>) lanes = larger(load(x + i), lanes);
    top = lane_max<T>(lanes);
  }
  for (int64_t i = whole; i < n; ++i) top = std::max(top, x[i]);
  return top;
}

template <class S>
inline Working<S> dot(const S* a, const S* b, int64_t n) {
  using T = Working<S>;
  Vec<T> s0{}, s1{};
  int64_t i = 0;
  for (; i + 2 * kLanes<T> <= n; i += 2 * kLanes<T>) {
    s0 += load(a + i) * load(b + i);
    s1 += load(a + i + kLanes<T>) * load(b + i + kLanes<T>);
  }
  for (; i + kLanes<T> <= n; i += kLanes<T>) s0 += load(a + i) * load(b + i);
  T s = lane_sum<T>(s0 + s1);
  for (; i < n; ++i) s += value_as<T>(a[i]) * value_as<T>(b[i]);
  return s;
}

// y += alpha * x, for x of any storage
template <class S, class T>
inline void axpy(T alpha, const S* x, T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += alpha * value_as<T>(x[i]);
}

// e^x. In float: 2^n * p(r) with |r| <= ln2/2 and a polynomial of degree 7, within 2 ulp; plain
// arithmetic, so that loops over it vectorise. Below -87.3 the result is 0, above 88.7 infinity;
// NaN stays NaN.
inline float exponential(float x) {
  const float clamped = x < -87.33654f ? -87.33654f : (x > 88.72283f ? 88.72283f : x);
  const float shifted =
      clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23 rounds to the nearest integer
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9841270e-4f;
  p = p * r + 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  const auto exponent = static_cast<uint32_t>(std::bit_cast<int32_t>(shifted)) << 23;
  // 2^n in two factors, because n = 128 alone is not representable.
  const float half = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
  const float result = n > 127.0f ? p * 1.7014118e38f * 2.0f : half;
  const float finite = x < -87.33654f ? 0.0f : (x > 88.72283f ? INFINITY : result);
  return x == x ? finite : x;  // adding to the bits of a NaN may have made a number of it
}
inline double exponential(double x) {
  return std::exp(x);
}

// The same for lanes of x <= 0, as a softmax has them.
MORA_INLINE Vec<float> exponential_of_negative(Vec<float> x) {
  const Vec<float> least = Vec<float>{} - 87.33654f;
  const Vec<float> clamped = larger(least, x);
  const Vec<float> shifted = clamped * 1.44269504f + 12582912.0f;
  const Vec<float> n = shifted - 12582912.0f;
  const Vec<float> r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec<float> p = Vec<float>{} + 1.9841270e-4f;
  p = p * r + 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  const Vec<float> result = floats_of(words_of(p) + (words_of(shifted) << 23));
  return select(x == x, select(least > x, Vec<float>{}, result), x);  // as above
}

// 2^x of lanes of x < 127 for what is rounded to bf16: within 3e-6, 2^n * p(r) with |r| <=
// 1/2 and a polynomial of degree 4. Below -126 the result is 0; a NaN, as arithmetic makes it,
// stays.
MORA_INLINE Vec<float> power_of_two(Vec<float> x) {
  const Vec<float> least = Vec<float>{} - 126.0f, clamped = larger(least, x);
  const Vec<float> shifted = clamped + 12582912.0f;  // 1.5 * 2^23 rounds to the nearest integer
  const Vec<float> r = clamped - (shifted - 12582912.0f);
  Vec<float> p = Vec<float>{} + 9.58285317e-3f;
  p = p * r + 5.59064250e-2f;
  p = p * r + 2.40240986e-1f;
  p = p * r + 6.93124193e-1f;
  p = p * r + 1.0f;
  const Vec<float> result = floats_of(words_of(p) + (words_of(shifted) << 23));
  return select(least > x, Vec<float>{}, result);
}

// e^x of lanes of x <= 0 for results that are rounded to S.
template <class S>
MORA_INLINE Vec<Working<S>> exponential_for(Vec<Working<S>> x) {
  if constexpr (std::is_same_v<S, bf16>) {
    return power_of_two(std::numbers::log2e_v<float> * x);
  } else {
    return exponential_of_negative(x);
  }
}

// Rows and columns of 16 x 16 numbers change places: four times rows i and i + 8 are interleaved.
template <class T>
inline void transpose_words(Vec<T> (&rows)[16]) {
  static_assert(sizeof(T) == 4);
  Vec<T> other[16];
  auto interleave = [](const Vec<T>* from, Vec<T>* to) {
#pragma GCC unroll 8  // or the rows would not stay in registers
    for (int i = 0; i < 8; ++i) {
      to[2 * i] = interleave_low<T>(from[i], from[i + 8]);
      to[2 * i + 1] = interleave_high<T>(from[i], from[i + 8]);
    }
  };
  interleave(rows, other);
  interleave(other, rows);
  interleave(rows, other);
  interleave(other, rows);
}
inline void transpose(Words (&rows)[16]) {
  transpose_words<uint32_t>(rows);
}
inline void transpose(Vec<float> (&rows)[16]) {
  transpose_words<float>(rows);
}

MORA_INLINE Vec<double> exponential_of_negative(Vec<double> x) {
  double lanes[kLanes<double>];
  store(lanes, x);
  for (double& lane : lanes) lane = std::exp(lane);
  return load(lanes);
}

// Turns x into e^(x - largest), none above 1, and returns the sum, in lanes.
template <class T>
inline T exponentials(T* x, int64_t n, T largest) {
  Vec<T> lanes{};
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    const Vec<T> e = exponential_of_negative(load(x + i) - largest);
    store(x + i, e);
    lanes += e;
  }
  T sum = lane_sum<T>(lanes);
  for (; i < n; ++i) sum += x[i] = exponential(x[i] - largest);
  return sum;
}

// 1 / (1 + e^-x) in lanes, by e^-|x|, which does not overflow.
MORA_INLINE Vec<float> sigmoid(Vec<float> x) {
  const auto negative = x < 0.0f;
  const Vec<float> e = exponential_of_negative(select(negative, x, -x));
  return select(negative, e, Vec<float>{} + 1.0f) / (1.0f + e);
}
MORA_INLINE Vec<double> sigmoid(Vec<double> x) {
  return 1.0 / (1.0 + exponential_of_negative(-x));
}

// 1 / x
MORA_INLINE Vec<float> reciprocal(Vec<float> x) {
#if defined(__AVX512F__)  // within 1e-7, in a third of a division's time
  const __m512 estimate = _mm512_maskz_rcp14_ps(0xffff, reinterpret_cast<const __m512&>(x));
  const auto& r = reinterpret_cast<const Vec<float>&>(estimate);
  return r * (2.0f - x * r);
#else
  return 1.0f / x;
#endif
}

// The sigmoid for results that are rounded to S: within 7e-6 of its size where it is bf16,
// and not below e^-87.
template <class S>
MORA_INLINE Vec<Working<S>> sigmoid_for(Vec<Working<S>> x) {
  if constexpr (std::is_same_v<S, bf16>) {
    const Vec<float> least = Vec<float>{} - 87.0f;  // the power is a number
    return reciprocal(1.0f + power_of_two(-std::numbers::log2e_v<float> * larger(least, x)));
  } else {
    return sigmoid(x);
  }
}

}  // namespace mora::cpu
