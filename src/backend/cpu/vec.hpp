// Vec<T>: 64 bytes of numbers as one value, on every processor, so that the order of every sum is
// the same on all of them. Where registers are that wide it is the compiler's own vector; elsewhere
// some registers side by side, as compilers keep vectors that are wider than a register in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// For what takes vectors by value: a call would pass them through memory.
#define MORA_INLINE [[gnu::always_inline]] inline

namespace mora::cpu {

#if defined(__AVX512F__)
constexpr size_t kRegisterBytes = 64;
#elif defined(__AVX__)
constexpr size_t kRegisterBytes = 32;
#else
constexpr size_t kRegisterBytes = 16;
#endif

// A register of numbers; memory need not be aligned for it.
template <class T>
struct RegisterOf;
#define MORA_REGISTER_OF(T)                                                                     \
  template <>                                                                                   \
  struct RegisterOf<T> {                                                                        \
    typedef T type __attribute__((vector_size(kRegisterBytes), aligned(sizeof(T)), may_alias)); \
  };
MORA_REGISTER_OF(float)
MORA_REGISTER_OF(double)
MORA_REGISTER_OF(int32_t)
MORA_REGISTER_OF(int64_t)
MORA_REGISTER_OF(uint32_t)
MORA_REGISTER_OF(uint64_t)
#undef MORA_REGISTER_OF
template <class T>
using Register = typename RegisterOf<T>::type;

constexpr size_t kVecBytes = 64, kParts = kVecBytes / kRegisterBytes;
template <class T>
constexpr int64_t kLanes = kVecBytes / sizeof(T);

namespace detail {

// a[0], b[0], a[1], b[1], ... from lane `first` of a register on.
template <class T, size_t kFirst, size_t... kIndex>
MORA_INLINE Register<T> interleave(Register<T> a, Register<T> b, std::index_sequence<kIndex...>) {
  return __builtin_shufflevector(a, b, (kFirst + kIndex / 2 + kIndex % 2 * sizeof...(kIndex))...);
}
template <class T>
MORA_INLINE Register<T> interleave_low(Register<T> a, Register<T> b) {
  constexpr size_t n = kRegisterBytes / sizeof(T);
  return interleave<T, 0>(a, b, std::make_index_sequence<n>());
}
template <class T>
MORA_INLINE Register<T> interleave_high(Register<T> a, Register<T> b) {
  constexpr size_t n = kRegisterBytes / sizeof(T);
  return interleave<T, n / 2>(a, b, std::make_index_sequence<n>());
}

}  // namespace detail

#if defined(__AVX512F__)

template <class T>
using Vec = Register<T>;

template <class T>
inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const Vec<T>*>(p);
}
template <class T>
inline void store(T* p, Vec<T> v) {
  *reinterpret_cast<Vec<T>*>(p) = v;
}

// The lanes of a where those of a comparison hold, else those of b.
template <class Mask>
inline Vec<float> select(const Mask& mask, Vec<float> a, Vec<float> b) {
  return mask ? a : b;
}
template <class Mask>
inline Vec<double> select(const Mask& mask, Vec<double> a, Vec<double> b) {
  return mask ? a : b;
}
template <class Mask>
inline Vec<uint32_t> select(const Mask& mask, Vec<uint32_t> a, Vec<uint32_t> b) {
  return mask ? a : b;
}

// The same bits as words, and back.
inline Vec<uint32_t> words_of(Vec<float> v) {
  return reinterpret_cast<const Vec<uint32_t>&>(v);
}
inline Vec<float> floats_of(Vec<uint32_t> v) {
  return reinterpret_cast<const Vec<float>&>(v);
}

// Of a[0], b[0], a[1], b[1], ... the first half and the second.
template <class T>
inline Vec<T> interleave_low(const Vec<T>& a, const Vec<T>& b) {
  return detail::interleave_low<T>(a, b);
}
template <class T>
inline Vec<T> interleave_high(const Vec<T>& a, const Vec<T>& b) {
  return detail::interleave_high<T>(a, b);
}

#else

// f(i) for every register of a Vec.
template <class F>
MORA_INLINE void each_part(const F& f) {
#pragma GCC unroll 4
  for (size_t i = 0; i < kParts; ++i) f(i);
}

template <class T>
struct Vec {
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  using Mask = Vec<Bits>;  // a lane is 0 or all ones

  Register<T> part[kParts];

  Vec() = default;
  Vec(T x) {  // in every lane, as a number beside a vector is
    each_part([&](size_t i) { part[i] = x - Register<T>{}; });
  }

  T operator[](int64_t lane) const {  // of a copy, or the registers would be kept in memory
    T lanes[kLanes<T>];
    std::memcpy(lanes, part, sizeof lanes);
    return lanes[lane];
  }

  Vec operator-() const {
    Vec v;
    each_part([&](size_t i) { v.part[i] = -part[i]; });
    return v;
  }
  Vec operator<<(int bits) const {
    Vec v;
    each_part([&](size_t i) { v.part[i] = part[i] << bits; });
    return v;
  }
  Vec operator>>(int bits) const {
    Vec v;
    each_part([&](size_t i) { v.part[i] = part[i] >> bits; });
    return v;
  }

#define MORA_VEC_OPERATOR(op, Result)                                 \
  friend Result operator op(const Vec& a, const Vec& b) {             \
    Result v;                                                         \
    each_part([&](size_t i) { v.part[i] = a.part[i] op b.part[i]; }); \
    return v;                                                         \
  }
  MORA_VEC_OPERATOR(+, Vec)
  MORA_VEC_OPERATOR(-, Vec)
  MORA_VEC_OPERATOR(*, Vec)
  MORA_VEC_OPERATOR(/, Vec)
  MORA_VEC_OPERATOR(&, Vec)
  MORA_VEC_OPERATOR(|, Vec)
  MORA_VEC_OPERATOR(^, Vec)
  MORA_VEC_OPERATOR(<, Mask)
  MORA_VEC_OPERATOR(>, Mask)
  MORA_VEC_OPERATOR(==, Mask)
  MORA_VEC_OPERATOR(!=, Mask)
#undef MORA_VEC_OPERATOR

  Vec& operator+=(const Vec& b) {
    return *this = *this + b;
  }
  Vec& operator*=(const Vec& b) {
    return *this = *this * b;
  }
};

template <class T>
constexpr int64_t kRegisterLanes = kRegisterBytes / sizeof(T);

template <class T>
MORA_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  each_part([&](size_t i) {
    v.part[i] = *reinterpret_cast<const Register<T>*>(p + i * kRegisterLanes<T>);
  });
  return v;
}
template <class T>
MORA_INLINE void store(T* p, const Vec<T>& v) {
  each_part(
      [&](size_t i) { *reinterpret_cast<Register<T>*>(p + i * kRegisterLanes<T>) = v.part[i]; });
}

template <class T>
MORA_INLINE Vec<T> select(const typename Vec<T>::Mask& mask, const Vec<T>& a, const Vec<T>& b) {
  Vec<T> v;
  each_part([&](size_t i) { v.part[i] = mask.part[i] ? a.part[i] : b.part[i]; });
  return v;
}

namespace detail {

template <class To, class From>
MORA_INLINE Vec<To> same_bits(const Vec<From>& v) {
  using Target = Register<To>;
  Vec<To> same;
  each_part([&](size_t i) { same.part[i] = reinterpret_cast<Target>(v.part[i]); });
  return same;
}

}  // namespace detail

MORA_INLINE Vec<uint32_t> words_of(const Vec<float>& v) {
  return detail::same_bits<uint32_t>(v);
}
MORA_INLINE Vec<float> floats_of(const Vec<uint32_t>& v) {
  return detail::same_bits<float>(v);
}

namespace detail {

// Registers from `first` on become two each.
template <class T>
inline Vec<T> interleave_parts(const Vec<T>& a, const Vec<T>& b, size_t first) {
  Vec<T> v;
#pragma GCC unroll 2
  for (size_t i = 0; i < kParts / 2; ++i) {
    v.part[2 * i] = interleave_low<T>(a.part[first + i], b.part[first + i]);
    v.part[2 * i + 1] = interleave_high<T>(a.part[first + i], b.part[first + i]);
  }
  return v;
}

}  // namespace detail

template <class T>
inline Vec<T> interleave_low(const Vec<T>& a, const Vec<T>& b) {
  return detail::interleave_parts<T>(a, b, 0);
}
template <class T>
inline Vec<T> interleave_high(const Vec<T>& a, const Vec<T>& b) {
  return detail::interleave_parts<T>(a, b, kParts / 2);
}

#endif

using Words = Vec<uint32_t>;

// Words anywhere in memory.
inline Words load_words(const void* from) {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
}
inline void store_words(void* to, const Words& words) {
  std::memcpy(to, &words, sizeof words);
}

}  // namespace mora::cpu
