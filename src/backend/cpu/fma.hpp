// Products of f32 by fused multiply-adds in vector registers: a tile of kRows x kColumns sums stays
// in registers while rows of A, one number at a time, meet rows of B. Both are packed: A in rows of
// one length, so that its numbers stand at fixed distances; B in columns of tiles.
//
// Each sum runs over the depth in order, whatever the tiles are: the bits depend on the operands
// alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/block_gemm.hpp"
#include "backend/cpu/pieces.hpp"
#include "mora/core/dtype.hpp"
#include "mora/ops/attrs.hpp"

namespace mora::cpu::fma {

#if defined(__AVX512F__)
constexpr int64_t kRows = 14, kColumns = 32;  // 28 of 32 registers
#else
constexpr int64_t kRows = 6, kColumns = 16;  // 12 of 16 registers of 8 lanes
#endif
constexpr int64_t kMostDepth = 768;              // kRows rows of A stay in the first cache
constexpr int64_t kRowStride = kMostDepth + 16;  // of packed A; odd in cache lines

// What is packed: rows of any type, `stride` apart.
struct Source {
  const void* data;
  DType dtype;
  int64_t stride;

  Source from(int64_t row, int64_t column = 0) const {
    const size_t offset = static_cast<size_t>(row * stride + column) * size_of(dtype);
    return {static_cast<const std::byte*>(data) + offset, dtype, stride};
  }
};

// Of a chunk of depth: what is packed begins at row `at` of it.
struct Place {
  int64_t depth, at;
};

// B[k, n] times `scale`, or its transpose as it is stored, in columns of tiles: kColumns numbers of
// each row side by side. What is left of the last column is filled with zeros.
void pack_b(const Source& b, Transpose transposed, float scale, int64_t k, int64_t n,
            const Place& place, float* to);

// Some of the depth of A: numbers of one column are `row` apart, those of one row `step`.
enum class Layout { rows, tiles };  // step is 1; or kRows, and row 1
struct PartOfA {
  const float* data;
  int64_t row, depth;
};

// Rows that begin at the same place in the first cache push each other out of it.
inline bool collides(int64_t row_stride) {
  return row_stride % 1024 == 0;
}
// A[m, k] in f32, rows kRowStride apart.
void pack_rows(const Source& a, int64_t m, int64_t k, float* to);

// A[m, k] in f32, of which the transpose is stored, in tiles: kRows numbers of each column side by
// side.
constexpr int64_t tile_elements(int64_t depth) {
  return kRows * depth + 16;
}
inline int64_t packed_tiles(int64_t m, int64_t depth) {
  return pieces(m, kRows) * tile_elements(depth);
}
void pack_tiles(const Source& a, int64_t m, int64_t k, const Place& place, float* to);

// c[m, n] (+)= A B, m at most kRows, of packed B of the depth of all parts.
void multiply(int64_t m, int64_t n, Layout layout, std::span<const PartOfA> a, const float* b,
              float* c, int64_t c_stride, Store store_as);

}  // namespace mora::cpu::fma
