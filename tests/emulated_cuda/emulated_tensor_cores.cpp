#include "emulated_tensor_cores.h"

#include <cuda_runtime.h>

#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace emulated {

namespace {

constexpr size_t kLanes = 32;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s\n", what);
  std::abort();
}

float half_of(uint32_t pair, size_t which) {
  return std::bit_cast<float>(which == 0 ? pair << 16 : pair & 0xffff0000u);
}

struct Operands {
  std::array<uint32_t, 4> a;
  std::array<uint32_t, 2> b;
};
using Warp = std::array<Operands, kLanes>;

// a[row, k] and b[k, column], from the lane that holds them.
float element_of_a(const Warp& warp, size_t row, size_t k) {
  return half_of(warp[row % 8 * 4 + k % 8 / 2].a[row / 8 + 2 * (k / 8)], k % 2);
}
float element_of_b(const Warp& warp, size_t k, size_t column) {
  return half_of(warp[column * 4 + k % 8 / 2].b[k / 8], k % 2);
}

std::array<const std::byte*, kLanes> addresses_of(const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) die("a row of a matrix is not aligned");
  const auto* own = static_cast<const std::byte*>(row);
  std::array<const std::byte*, kLanes> all{};
  gather(&own, all.data(), sizeof own);
  return all;
}

uint32_t bits_of(const std::byte* row, size_t column) {
  uint16_t bits = 0;
  std::memcpy(&bits, row + 2 * column, 2);
  return bits;
}

struct Copy {
  void* to;
  const void* from;
  size_t room, bytes;
};
struct Thread {
  uint3 block{};
  std::vector<Copy> copies;
};

Thread& this_thread() {
  static std::vector<Thread> threads(1024);
  Thread& thread =
      threads[threadIdx.x + blockDim.x * (threadIdx.y + size_t{blockDim.y} * threadIdx.z)];
  const bool other = std::memcmp(&thread.block, &blockIdx, sizeof blockIdx) != 0;
  if (other && !thread.copies.empty()) die("a block ended before its copies");
  thread.block = blockIdx;
  return thread;
}

}  // namespace

void mma(float (&d)[4], const uint32_t (&a)[4], PairOfB b) {
  const Operands own{{a[0], a[1], a[2], a[3]}, {b.b0, b.b1}};
  Warp warp{};
  gather(&own, warp.data(), sizeof own);
  const auto g = static_cast<size_t>(lane()) / 4, c = 2 * (static_cast<size_t>(lane()) % 4);
  for (size_t i = 0; i < 4; ++i) {
    for (size_t k = 0; k < 16; ++k)
      d[i] += element_of_a(warp, g + i / 2 * 8, k) * element_of_b(warp, k, c + i % 2);
  }
}

void load_matrices(uint32_t (&out)[4], const void* row) {
  const auto rows = addresses_of(row);
  const auto g = static_cast<size_t>(lane()) / 4, c = 2 * (static_cast<size_t>(lane()) % 4);
  for (size_t i = 0; i < 4; ++i)
    out[i] = bits_of(rows[8 * i + g], c) | bits_of(rows[8 * i + g], c + 1) << 16;
}

void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  const auto rows = addresses_of(row);
  const auto g = static_cast<size_t>(lane()) / 4, c = 2 * (static_cast<size_t>(lane()) % 4);
  for (size_t i = 0; i < 4; ++i)
    out[i] = bits_of(rows[8 * i + c], g) | bits_of(rows[8 * i + c + 1], g) << 16;
}

void begin_copy(void* to, const void* from, int room, int bytes) {
  const auto aligned = [&](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % static_cast<size_t>(room) == 0;
  };
  if (!aligned(to) || !aligned(from)) die("an asynchronous copy is not aligned");
  this_thread().copies.push_back({to, from, static_cast<size_t>(room), static_cast<size_t>(bytes)});
}

void wait_for_copies() {
  for (const Copy& copy : this_thread().copies) {
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(static_cast<std::byte*>(copy.to) + copy.bytes, 0, copy.room - copy.bytes);
  }
  this_thread().copies.clear();
}

}  // namespace emulated
