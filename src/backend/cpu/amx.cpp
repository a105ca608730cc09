#include "backend/cpu/amx.hpp"

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "backend/cpu/simd.hpp"
#include "mora/core/error.hpp"

namespace mora::cpu::amx {

namespace {

// Two rows of 16 halves as 16 pairs.
Words pairs(const bf16* first, const bf16* second) {
  return widen(first) | widen(second) << 16;
}

// Up to `rows` x `columns` numbers copied into room for a whole tile among zeros, where they do not
// fill it.
Rows whole(Rows from, int64_t rows, int64_t columns, int64_t whole_rows, int64_t whole_columns,
           bf16* room) {
  if (rows >= whole_rows && columns >= whole_columns) return from;
  std::fill_n(room, whole_rows * whole_columns, bf16(0.0f));
  for (int64_t i = 0; i < std::min(rows, whole_rows); ++i)
    std::copy_n(from.data + i * from.stride, std::min(columns, whole_columns),
                room + i * whole_columns);
  return {room, whole_columns};
}

// A tile of `rows` x `columns` from (row, column) on: where it is, or copied into room.
Rows tile_of(const Source& from, int64_t row, int64_t column, int64_t rows, int64_t columns,
             int64_t whole_rows, int64_t whole_columns, bf16* room) {
  const int64_t at = row * from.stride + column;
  if (from.dtype == DType::bf16) {
    const Rows narrow{static_cast<const bf16*>(from.data) + at, from.stride};
    return whole(narrow, rows, columns, whole_rows, whole_columns, room);
  }
  const float* wide = static_cast<const float*>(from.data) + at;
  const int64_t height = std::min(rows, whole_rows), width = std::min(columns, whole_columns);
  if (height < whole_rows || width < whole_columns)
    std::fill_n(room, whole_rows * whole_columns, bf16(0.0f));
  for (int64_t i = 0; i < height; ++i) {
    const float* in = wide + i * from.stride;
    bf16* out = room + i * whole_columns;
    int64_t j = 0;
    for (; j + kLanes<float> <= width; j += kLanes<float>)
      store(out + j, from.scale * load(in + j));
    for (; j < width; ++j) out[j] = bf16(from.scale * in[j]);
  }
  return {room, whole_columns};
}

// A tile of B: kDepth rows of kTile numbers as kTile rows of pairs.
void pack_tile(Rows from, bf16* to) {
  for (int64_t i = 0; i < kTile; ++i) {
    const bf16* row = from.data + 2 * i * from.stride;
    store_words(to + i * kDepth, pairs(row, row + from.stride));
  }
}

// The same of B stored as its transpose, kTile rows of kDepth numbers.
void pack_transposed_tile(Rows from, bf16* to) {
  Words words[16];
  for (int64_t i = 0; i < kTile; ++i) words[i] = load_words(from.data + i * from.stride);
  transpose(words);
  for (int64_t i = 0; i < kTile; ++i) store_words(to + i * kDepth, words[i]);
}

}  // namespace

void pack_b(const Source& b, Transpose transposed, int64_t k, int64_t n, bf16* to) {
  bf16 room[kDepth * kTile];
  const int64_t column = packed_elements(k, kTile);
  // Along the rows of memory, as it is fetched.
  if (transposed == Transpose::yes) {
    for (int64_t j = 0; j < n; j += kTile) {
      for (int64_t p = 0; p < k; p += kDepth)
        pack_transposed_tile(tile_of(b, j, p, n - j, k - p, kTile, kDepth, room),
                             to + j / kTile * column + p * kTile);
    }
    return;
  }
  for (int64_t p = 0; p < k; p += kDepth) {
    for (int64_t j = 0; j < n; j += kTile)
      pack_tile(tile_of(b, p, j, k - p, n - j, kDepth, kTile, room),
                to + j / kTile * column + p * kTile);
  }
}

void transpose_a(Rows a, int64_t m, int64_t k, bf16* to, int64_t to_stride) {
  bf16 room[kDepth * kTile];
  for (int64_t i = 0; i < m; i += kTile) {
    for (int64_t p = 0; p < k; p += kDepth) {
      const Rows from =
          whole({a.data + p * a.stride + i, a.stride}, k - p, m - i, kDepth, kTile, room);
      Words words[16];
      for (int64_t row = 0; row < kTile; ++row) {
        const bf16* at = from.data + 2 * row * from.stride;
        words[row] = pairs(at, at + from.stride);
      }
      transpose(words);
      for (int64_t row = 0; row < std::min(kTile, m - i); ++row)
        store_words(to + (i + row) * to_stride + p, words[row]);
    }
  }
}

void multiply(Tiles& tiles, int64_t m, int64_t n, const Factors& factors, float* c,
              int64_t c_stride, Store store_as) {
  for (int64_t i = 0; i < m; i += kBlock) {
    for (int64_t j = 0; j < n; j += kBlock)
      multiply_block(tiles, std::min(kBlock, m - i), std::min(kBlock, n - j), factors.block(i, j),
                     nullptr, c + i * c_stride + j, c_stride, store_as);
  }
}

#if defined(__x86_64__)

namespace {

#define MORA_AMX __attribute__((target("amx-tile,amx-bf16")))

bool processor_has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24;
  return (d & kBf16) != 0 && (d & kTiles) != 0;
}

// Linux gives a process the room for its tiles only when asked.
bool system_allows_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// To stand before the instructions that read memory: the compiler does not see them do it, and
// would leave out what only they read.
inline void settle(const void* memory) {
  asm volatile("" ::"r"(memory) : "memory");
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 to 3 are sums, 4 and 5 rows of A, 6 and 7 columns of B.
MORA_AMX void configure(int64_t rows) {
  TileConfig config;
  const auto first = static_cast<uint8_t>(std::min(rows, kTile)),
             second = static_cast<uint8_t>(std::max<int64_t>(rows - kTile, 0));
  const uint8_t of_tile[8] = {first, first, second, second, first, second, kTile, kTile};
  for (int i = 0; i < 8; ++i) {
    config.rows[i] = of_tile[i];
    config.row_bytes[i] = of_tile[i] > 0 ? 64 : 0;
  }
  settle(&config);
  _tile_loadconfig(&config);
}

MORA_AMX void release() {
  _tile_release();
}

// kRows x kColumns tiles of sums over `steps` tiles of depth.
template <int kRows, int kColumns>
MORA_AMX inline void step(const bf16* a, int64_t a_bytes, const bf16* b, int64_t b_column) {
  _tile_loadd(6, b, 64);
  if constexpr (kColumns == 2) _tile_loadd(7, b + b_column, 64);
  _tile_loadd(4, a, a_bytes);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (kColumns == 2) _tile_dpbf16ps(1, 4, 7);
  if constexpr (kRows == 2) {
    _tile_loadd(5, reinterpret_cast<const std::byte*>(a) + kTile * a_bytes, a_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (kColumns == 2) _tile_dpbf16ps(3, 5, 7);
  }
}

template <int kRows, int kColumns>
MORA_AMX inline void steps(int64_t m, const Factors& f) {
  const int64_t a_bytes = f.a.stride * static_cast<int64_t>(sizeof(bf16)), b_column = f.column();
  int64_t p = 0;
  for (; p + kDepth <= f.k; p += kDepth)
    step<kRows, kColumns>(f.a.data + p, a_bytes, f.b + p * kTile, b_column);
  if (p == f.k) return;
  alignas(64) bf16 room[kBlock * kDepth];
  const Rows last = whole({f.a.data + p, f.a.stride}, m, f.k - p, kBlock, kDepth, room);
  settle(room);
  step<kRows, kColumns>(last.data, kDepth * static_cast<int64_t>(sizeof(bf16)), f.b + p * kTile,
                        b_column);
}

template <int kRows, int kColumns>
MORA_AMX __attribute__((noinline)) void tiles_of_sums(int64_t m, const Factors& first,
                                                      const Factors* second, float* c,
                                                      int64_t c_stride, Store store_as) {
  settle(c);
  const int64_t c_bytes = c_stride * static_cast<int64_t>(sizeof(float));
  float* lower = c + kTile * c_stride;
  if (store_as == Store::add) {
    _tile_loadd(0, c, c_bytes);
    if constexpr (kColumns == 2) _tile_loadd(1, c + kTile, c_bytes);
    if constexpr (kRows == 2) _tile_loadd(2, lower, c_bytes);
    if constexpr (kRows == 2 && kColumns == 2) _tile_loadd(3, lower + kTile, c_bytes);
  } else {
    _tile_zero(0);
    if constexpr (kColumns == 2) _tile_zero(1);
    if constexpr (kRows == 2) _tile_zero(2);
    if constexpr (kRows == 2 && kColumns == 2) _tile_zero(3);
  }
  steps<kRows, kColumns>(m, first);
  if (second != nullptr) steps<kRows, kColumns>(m, *second);
  _tile_stored(0, c, c_bytes);
  if constexpr (kColumns == 2) _tile_stored(1, c + kTile, c_bytes);
  if constexpr (kRows == 2) _tile_stored(2, lower, c_bytes);
  if constexpr (kRows == 2 && kColumns == 2) _tile_stored(3, lower + kTile, c_bytes);
}

}  // namespace

bool available() {
  static const bool yes = processor_has_amx() && system_allows_tiles();
  return yes;
}

namespace {

// Of this thread: how many hold its tiles, and the rows they are configured for.
thread_local int64_t holders = 0, configured_rows = 0;

}  // namespace

Tiles::Tiles() {
  ++holders;
  expect(kBlock);
}

Tiles::~Tiles() {
  if (--holders > 0) return;
  release();
  configured_rows = 0;
}

void Tiles::expect(int64_t rows) {
  if (rows == configured_rows) return;
  configure(rows);
  configured_rows = rows;
}

void multiply_block(Tiles& tiles, int64_t m, int64_t n, const Factors& first, const Factors* second,
                    float* c, int64_t c_stride, Store store_as) {
  tiles.expect(m);
  if (m > kTile && n > kTile) return tiles_of_sums<2, 2>(m, first, second, c, c_stride, store_as);
  if (m > kTile) return tiles_of_sums<2, 1>(m, first, second, c, c_stride, store_as);
  if (n > kTile) return tiles_of_sums<1, 2>(m, first, second, c, c_stride, store_as);
  tiles_of_sums<1, 1>(m, first, second, c, c_stride, store_as);
}

#else

bool available() {
  return false;
}
Tiles::Tiles() {}
Tiles::~Tiles() {}
void Tiles::expect(int64_t) {}
void multiply_block(Tiles&, int64_t, int64_t, const Factors&, const Factors*, float*, int64_t,
                    Store) {
  ensure(false, "AMX on another processor");
}

#endif

}  // namespace mora::cpu::amx
