#include "backend/cpu/fma.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "backend/cpu/product.hpp"
#include "backend/cpu/simd.hpp"

namespace mora::cpu::fma {

namespace {

constexpr int64_t kBlock = 16;  // rows and columns that are transposed at once

// Numbers from row i and column j on where they are no whole block in f32: zeros where rows x
// columns end.
void fetch_widened(const Source& from, int64_t i, int64_t j, int64_t rows, int64_t columns,
                   Vec<float> (&block)[kBlock]) {
  alignas(64) float room[kBlock * kBlock] = {};
  const auto* first = static_cast<const std::byte*>(from.data) +
                      static_cast<size_t>(i * from.stride + j) * size_of(from.dtype);
  widen({first, from.dtype, std::clamp<int64_t>(rows - i, 0, kBlock),
         std::clamp<int64_t>(columns - j, 0, kBlock), from.stride},
        room, kBlock);
  for (int64_t r = 0; r < kBlock; ++r) block[r] = load(room + r * kBlock);
}

template <class S>
inline void fetch_whole(const Source& from, int64_t i, int64_t j, Vec<float> (&block)[kBlock]) {
  const S* at = static_cast<const S*>(from.data) + i * from.stride + j;
#pragma GCC unroll 16
  for (int64_t r = 0; r < kBlock; ++r) block[r] = load(at + r * from.stride);
}

inline void fetch(const Source& from, int64_t i, int64_t j, int64_t rows, int64_t columns,
                  Vec<float> (&block)[kBlock]) {
  const bool whole = i + kBlock <= rows && j + kBlock <= columns;
  if (whole && from.dtype == DType::f32) return fetch_whole<float>(from, i, j, block);
  if (whole && from.dtype == DType::bf16) return fetch_whole<bf16>(from, i, j, block);
  fetch_widened(from, i, j, rows, columns, block);
}

void pack_transposed(const Source& b, float scale, int64_t k, int64_t n, const Place& place,
                     float* to) {
  Vec<float> block[kBlock];
  for (int64_t j = 0; j < rounded_up(n, kColumns); j += kBlock) {
    float* column = to + (j / kColumns * place.depth + place.at) * kColumns + j % kColumns;
    for (int64_t p = 0; p < k; p += kBlock) {
      fetch(b, j, p, n, k, block);
      transpose(block);
      for (int64_t r = 0; r < std::min(kBlock, k - p); ++r)
        store(column + (p + r) * kColumns, scale * block[r]);
    }
  }
}

// Rows of A that follow, as memory has them: so many bytes are asked for every few steps.
struct Ahead {
  const std::byte* from;
  int64_t bytes;
};

using TileOfSums = void (*)(std::span<const PartOfA> a, const float* b, float* c, int64_t c_stride,
                            Store store_as, Ahead& ahead);

using Register = cpu::Register<float>;
constexpr int64_t kLane = kRegisterBytes / sizeof(float);
constexpr int64_t kHalf = kColumns / 2, kSteps = 4;

inline Register load_register(const float* p) {
  return *reinterpret_cast<const Register*>(p);
}
inline void store_register(float* p, Register x) {
  *reinterpret_cast<Register*>(p) = x;
}

template <Layout kLayout, size_t kHeight, int64_t kRegisters>
inline void add_step(const PartOfA& a, int64_t p, const float* b,
                     Register (&sums)[kHeight][kRegisters]) {
  constexpr int64_t step = kLayout == Layout::rows ? 1 : kRows;
  const int64_t row_step = kLayout == Layout::rows ? a.row : 1;
  Register row[kRegisters];
  for (int64_t v = 0; v < kRegisters; ++v) row[v] = load_register(b + p * kColumns + v * kLane);
#pragma GCC unroll 16
  for (size_t i = 0; i < kHeight; ++i) {
    const float x = a.data[static_cast<int64_t>(i) * row_step + p * step];
    for (int64_t v = 0; v < kRegisters; ++v) sums[i][v] += x * row[v];
  }
}

template <Layout kLayout, size_t kHeight, int64_t kRegisters>
inline void add_part(const PartOfA& a, const float* b, Ahead& ahead,
                     Register (&sums)[kHeight][kRegisters]) {
  int64_t p = 0;
  for (; p + kSteps <= a.depth; p += kSteps) {
    if constexpr (kLayout == Layout::rows) {
      __builtin_prefetch(ahead.from);
      ahead.from += ahead.bytes;
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < kSteps; ++i) add_step<kLayout>(a, p + i, b, sums);
  }
  for (; p < a.depth; ++p) add_step<kLayout>(a, p, b, sums);
}

// kHeight x kWidth sums, the first columns of packed B.
template <Layout kLayout, int64_t kWidth, size_t kHeight>
void tile_of_sums(std::span<const PartOfA> a, const float* b, float* c, int64_t c_stride,
                  Store store_as, Ahead& ahead) {
  constexpr int64_t kRegisters = kWidth / kLane;
  for (size_t i = 0; i < kHeight; ++i) {
    for (int64_t v = 0; v < kWidth; v += 16)
      __builtin_prefetch(c + static_cast<int64_t>(i) * c_stride + v, 1);
  }
  Register sums[kHeight][kRegisters] = {};
  Ahead next = ahead;  // in registers
  for (const PartOfA& part : a) {
    add_part<kLayout>(part, b, next, sums);
    b += part.depth * kColumns;
  }
  ahead = next;
#pragma GCC unroll 16
  for (size_t i = 0; i < kHeight; ++i) {
    for (int64_t v = 0; v < kRegisters; ++v) {
      float* to = c + static_cast<int64_t>(i) * c_stride + v * kLane;
      store_register(to, store_as == Store::add ? load_register(to) + sums[i][v] : sums[i][v]);
    }
  }
}

// For 1, 2, ... rows.
template <Layout kLayout, int64_t kWidth, size_t... kIndex>
constexpr std::array<TileOfSums, kRows> tiles_of(std::index_sequence<kIndex...>) {
  return {tile_of_sums<kLayout, kWidth, kIndex + 1>...};
}
constexpr std::make_index_sequence<kRows> kHeights;
struct Tiles {
  std::array<TileOfSums, kRows> whole, half;
};
constexpr Tiles kOfRows{tiles_of<Layout::rows, kColumns>(kHeights),
                        tiles_of<Layout::rows, kHalf>(kHeights)},
    kOfTiles{tiles_of<Layout::tiles, kColumns>(kHeights), tiles_of<Layout::tiles, kHalf>(kHeights)};

// c (+)= sums of m x n, where fewer columns are wanted than a tile has.
void store_part(const float* sums, int64_t m, int64_t n, float* c, int64_t c_stride,
                Store store_as) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      float& to = c[i * c_stride + j];
      to = store_as == Store::add ? to + sums[i * kColumns + j] : sums[i * kColumns + j];
    }
  }
}

}  // namespace

void pack_b(const Source& b, Transpose transposed, float scale, int64_t k, int64_t n,
            const Place& place, float* to) {
  if (transposed == Transpose::yes) return pack_transposed(b, scale, k, n, place, to);
  Vec<float> block[kBlock];
  for (int64_t p = 0; p < k; p += kBlock) {
    for (int64_t j = 0; j < rounded_up(n, kColumns); j += kBlock) {
      fetch(b, p, j, k, n, block);
      float* column = to + (j / kColumns * place.depth + place.at + p) * kColumns + j % kColumns;
      for (int64_t r = 0; r < std::min(kBlock, k - p); ++r)
        store(column + r * kColumns, scale * block[r]);
    }
  }
}

void pack_rows(const Source& a, int64_t m, int64_t k, float* to) {
  for (int64_t i = 0; i < m; ++i) {
    const float* from = static_cast<const float*>(a.data) + i * a.stride;
    float* row = to + i * kRowStride;
    int64_t p = 0;
    for (; p + kBlock <= k; p += kBlock) {
      __builtin_prefetch(from + a.stride + p);
      store(row + p, load(from + p));
    }
    for (; p < k; ++p) row[p] = from[p];
  }
}

void pack_tiles(const Source& a, int64_t m, int64_t k, const Place& place, float* to) {
  for (int64_t p = 0; p < k; ++p) {
    const float* from = static_cast<const float*>(a.data) + p * a.stride;
    float* column = to + (place.at + p) * kRows;
    for (int64_t i = 0; i < m; i += kRows, column += tile_elements(place.depth)) {
      // Where more numbers follow in both, whole vectors: the next column writes over the excess.
      if (p + 1 < k && i + kBlock <= m) {
        store(column, load(from + i));
      } else {
        std::copy_n(from + i, std::min(kRows, m - i), column);
      }
    }
  }
}

void multiply(int64_t m, int64_t n, Layout layout, std::span<const PartOfA> a, const float* b,
              float* c, int64_t c_stride, Store store_as) {
  const Tiles& tiles = layout == Layout::rows ? kOfRows : kOfTiles;
  const TileOfSums whole = tiles.whole[static_cast<size_t>(m - 1)],
                   half = tiles.half[static_cast<size_t>(m - 1)];
  Ahead ahead{reinterpret_cast<const std::byte*>(a[0].data + kRows * a[0].row),
              pieces(kSteps * kRows * kColumns * 4, std::max(n, kColumns))};
  int64_t depth = 0, j = 0;
  for (const PartOfA& part : a) depth += part.depth;
  for (; j + kColumns <= n; j += kColumns)
    whole(a, b + j * depth, c + j, c_stride, store_as, ahead);
  if (j == n) return;
  if (n - j == kHalf) return half(a, b + j * depth, c + j, c_stride, store_as, ahead);
  alignas(64) float rest[kRows * kColumns];
  (n - j < kHalf ? half : whole)(a, b + j * depth, rest, kColumns, Store::assign, ahead);
  store_part(rest, m, n - j, c + j, c_stride, store_as);
}

}  // namespace mora::cpu::fma
