// Products of bf16 by AMX, the instructions that multiply tiles: a tile is 16 rows of 64 bytes. A
// block of up to 32 x 32 sums is four tiles that stay in registers while A and B go by. A is read
// where it is; B is packed, pairs of its rows side by side, as the instruction wants them.
//
// Each sum runs over k in order, whatever the blocks are: the bits depend on the operands alone.
// Numbers below the normal ones count as zero.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/block_gemm.hpp"
#include "backend/cpu/pieces.hpp"
#include "mora/core/dtype.hpp"
#include "mora/ops/attrs.hpp"

namespace mora::cpu::amx {

constexpr int64_t kTile = 16;   // rows of a tile, and columns of sums
constexpr int64_t kDepth = 32;  // bf16 in a row of a tile
constexpr int64_t kBlock = 32;  // rows and columns of a block of sums

// Whether the processor has AMX for bf16 and the system lets this process use it.
bool available();

// The tiles of this thread, from construction to destruction. Needs available(). A function that a
// holder of tiles calls may hold them as well; they are released with the last.
class Tiles {
 public:
  Tiles();
  ~Tiles();
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  // Rows of the next blocks of sums, 1 to kBlock; forgets what tiles hold.
  static void expect(int64_t rows);
};

struct Rows {
  const bf16* data;
  int64_t stride;
};

// What k x n numbers take when packed.
inline int64_t packed_elements(int64_t k, int64_t n) {
  return rounded_up(k, kDepth) * rounded_up(n, kTile);
}

// What is packed: numbers in bf16, or in f32 that are scaled and rounded on the way.
struct Source {
  const void* data;
  DType dtype;
  int64_t stride;
  float scale = 1.0f;

  Source(Rows rows) : data(rows.data), dtype(DType::bf16), stride(rows.stride) {}
  Source(const void* numbers, DType type, int64_t row, float factor)
      : data(numbers), dtype(type), stride(row), scale(factor) {}
};

// B[k, n], or its transpose as it is stored, in columns of tiles; a column of kTile takes
// packed_elements(k, kTile) and the rest of it is zeros.
void pack_b(const Source& b, Transpose transposed, int64_t k, int64_t n, bf16* to);

// to[m, k] = a[k, m]^T, rows of `to` a multiple of kDepth apart and filled with zeros.
void transpose_a(Rows a, int64_t m, int64_t k, bf16* to, int64_t to_stride);

// a[m, k] rows of A and packed columns of B, whose depth is k, or more where it is given.
struct Factors {
  int64_t k;
  Rows a;
  const bf16* b;
  int64_t packed_depth = 0;

  int64_t column() const { return packed_elements(std::max(k, packed_depth), kTile); }
  Factors block(int64_t row, int64_t first) const {
    return {k, {a.data + row * a.stride, a.stride}, b + first / kTile * column(), packed_depth};
  }
};

// c[m, n] (+)= A B (+ A' B') of a block, m and n at most kBlock; the second may be null. Columns up
// to the next multiple of kTile are written, rows are not.
void multiply_block(Tiles& tiles, int64_t m, int64_t n, const Factors& first, const Factors* second,
                    float* c, int64_t c_stride, Store store_as);

// c[m, n] (+)= A B for any m and n.
void multiply(Tiles& tiles, int64_t m, int64_t n, const Factors& factors, float* c,
              int64_t c_stride, Store store_as);

}  // namespace mora::cpu::amx
