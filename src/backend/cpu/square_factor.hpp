// A square matrix as the right factor of small products on one thread, packed once for all of them:
// z = a M, or a M^T. Rows of a have the type A that is multiplied: bf16 by AMX, else the working
// type.
#pragma once

#include <type_traits>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/block_gemm.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

template <class A>
struct SquareFactor {
  using T = Working<A>;
  static constexpr bool kAmx = std::is_same_v<A, bf16>;
  int64_t width;

  // Numbers from row to row: of a, which has zeros behind the width, and of z, where anything may
  // stand there.
  int64_t a_stride() const { return kAmx ? rounded_up(width, amx::kDepth) : width; }
  int64_t z_stride() const { return rounded_up(width, kLanes<T>); }

  size_t packed_bytes() const {
    const int64_t elements = kAmx ? amx::packed_elements(width, width) : width * z_stride();
    return scratch_room(elements, kAmx ? DType::bf16 : dtype_of<T>());
  }

  // alpha M, or alpha M^T; in parallel.
  void pack(const T* m, Transpose transposed, double alpha, std::byte* packed) const {
    parallel_pieces(width, kPackedColumns, [&](int64_t begin, int64_t end) {
      pack_columns(m, transposed, static_cast<T>(alpha), begin, end, packed);
    });
  }

  // z[rows, columns] of a[rows, width], the first columns.
  void multiply(int64_t rows, int64_t columns, const A* a, const std::byte* packed, T* z) const {
    if constexpr (kAmx) {
      amx::Tiles tiles;
      const amx::Factors factors{
          a_stride(), {a, a_stride()}, reinterpret_cast<const bf16*>(packed)};
      amx::multiply(tiles, rows, columns, factors, z, z_stride(), Store::assign);
    } else {
      block_gemm(rows, rounded_up(columns, kLanes<T>), width, Strided<T>{a, a_stride(), 1},
                 reinterpret_cast<const T*>(packed), z_stride(), z, z_stride(), Store::assign);
    }
  }

 private:
  static constexpr int64_t kPackedColumns = 64;

  void pack_columns(const T* m, Transpose transposed, T alpha, int64_t begin, int64_t end,
                    std::byte* packed) const {
    const bool rows = transposed == Transpose::yes;  // of M are its columns
    if constexpr (kAmx) {
      const amx::Source from{m + begin * (rows ? width : 1), DType::f32, width, alpha};
      amx::pack_b(from, transposed, width, end - begin,
                  reinterpret_cast<bf16*>(packed) +
                      begin / amx::kTile * amx::packed_elements(width, amx::kTile));
    } else {
      for (int64_t p = 0; p < width; ++p) {
        T* to = reinterpret_cast<T*>(packed) + p * z_stride();
        for (int64_t j = begin; j < end; ++j)
          to[j] = alpha * (rows ? m[j * width + p] : m[p * width + j]);
        if (end == width) std::fill(to + width, to + z_stride(), T(0));
      }
    }
  }
};

}  // namespace mora::cpu
