// The few neighbouring numbers that a thread works on, in the type that kernels compute in.
//
// Which numbers these are depends on shapes alone: where a tensor begins between two packs, they
// are read and written one by one. So sums have the same bits wherever tensors lie.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cuda/pack.hpp"
#include "backend/cuda/round.hpp"
#include "mora/core/dtype.hpp"

namespace mora::cuda {

enum class Access { packed, single };

// Of all tensors that a kernel reads and writes in packs; null pointers do not count.
template <class... S>
Access access_to(const S*... tensors) {
  return (is_packed(tensors) && ...) ? Access::packed : Access::single;
}

template <int kCountOf, Access kAccessOf>
struct Lanes {
  static constexpr int kCount = kCountOf;
  static constexpr Access kAccess = kAccessOf;
};
using OneLane = Lanes<1, Access::packed>;

// Lanes of a pack of the largest of these types.
template <class... S>
constexpr int kLanes = kPackBytes / static_cast<int>(std::max({sizeof(S)...}));

template <class T, int kCount>
struct Vec {
  T at[kCount];
};

// x(i) in every lane i
template <int kCount, class X>
__device__ auto vec_of(const X& x) {
  Vec<decltype(x(0)), kCount> v;
#pragma unroll
  for (int i = 0; i < kCount; ++i) v.at[i] = x(i);
  return v;
}

template <class S, int kCount, Access kAccess>
__device__ Pack<S, kCount> read_pack(const S* from, Lanes<kCount, kAccess>) {
  if constexpr (kAccess == Access::packed) {
    return load_pack<kCount>(from);
  } else {
    Pack<S, kCount> pack;
#pragma unroll
    for (int i = 0; i < kCount; ++i) pack.v[i] = from[i];
    return pack;
  }
}
template <class S, int kCount, Access kAccess>
__device__ void write_pack(S* to, const Pack<S, kCount>& pack, Lanes<kCount, kAccess>) {
  if constexpr (kAccess == Access::packed) {
    store_pack(to, pack);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = pack.v[i];
  }
}

template <class S, int kCount, Access kAccess>
__device__ Vec<Working<S>, kCount> load(const S* from, Lanes<kCount, kAccess> lanes) {
  const Pack<S, kCount> pack = read_pack(from, lanes);
  return vec_of<kCount>([&](int i) { return value_as<Working<S>>(pack.v[i]); });
}
template <class S, class T, int kCount, Access kAccess>
__device__ void store(S* to, const Vec<T, kCount>& x, Lanes<kCount, kAccess> lanes) {
  Pack<S, kCount> pack;
  round_to(x.at, pack);
  write_pack(to, pack, lanes);
}

template <class T, int kCount>
__device__ Vec<T, kCount> operator+(const Vec<T, kCount>& a, const Vec<T, kCount>& b) {
  return vec_of<kCount>([&](int i) { return a.at[i] + b.at[i]; });
}
template <class T, int kCount>
__device__ Vec<T, kCount> operator-(const Vec<T, kCount>& a, const Vec<T, kCount>& b) {
  return vec_of<kCount>([&](int i) { return a.at[i] - b.at[i]; });
}
template <class T, int kCount>
__device__ Vec<T, kCount> operator*(const Vec<T, kCount>& a, const Vec<T, kCount>& b) {
  return vec_of<kCount>([&](int i) { return a.at[i] * b.at[i]; });
}
template <class T, int kCount>
__device__ Vec<T, kCount> operator/(const Vec<T, kCount>& a, const Vec<T, kCount>& b) {
  return vec_of<kCount>([&](int i) { return a.at[i] / b.at[i]; });
}
template <class T, int kCount>
__device__ Vec<T, kCount> operator-(const Vec<T, kCount>& a, T b) {
  return vec_of<kCount>([&](int i) { return a.at[i] - b; });
}
template <class T, int kCount>
__device__ Vec<T, kCount> operator*(T a, const Vec<T, kCount>& b) {
  return vec_of<kCount>([&](int i) { return a * b.at[i]; });
}

// The sum of its lanes and `sum`, in their order.
template <class T, int kCount>
__device__ T add_lanes(T sum, const Vec<T, kCount>& x) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum += x.at[i];
  return sum;
}

}  // namespace mora::cuda
