// Neighbouring elements that a thread reads or writes at once, in accesses of up to 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace mora::cuda {

constexpr int kPackBytes = 16;

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth < kPackBytes ? sizeof(T) * kWidth : kPackBytes) Pack {
  T v[kWidth];
};

template <int kWidth, class T>
__device__ Pack<T, kWidth> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kWidth>*>(from);
}
template <int kWidth, class T>
__device__ void store_pack(T* to, const Pack<T, kWidth>& x) {
  *reinterpret_cast<Pack<T, kWidth>*>(to) = x;
}

// Whether packs may start there.
inline bool is_packed(const void* at) {
  return reinterpret_cast<uintptr_t>(at) % kPackBytes == 0;
}

}  // namespace mora::cuda
