// Products of bf16 by AMX. The result is cut into as many tasks as end first; a task packs chunks
// of its B that stay in the cache and multiplies them with panels of its rows of A, each block of
// sums to its end over the chunk's depth. Deeper products add chunk to chunk, in f32 also where C
// is bf16.
#include <algorithm>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/grid.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"
#include "backend/cpu/simd.hpp"
#include "backend/cpu/thin_gradient.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

using amx::kBlock;
using amx::kTile;

constexpr int64_t kMostDepth = 2048, kMostPacked = int64_t{1} << 19;  // numbers of a chunk of B
constexpr int64_t kMostThinDepth = 256;            // of the second product of a sum
constexpr int64_t kMostSmall = 256, kLong = 4096;  // a small result of long sums: cut by its depth
// Rows that all columns of a chunk meet: fewer where A is deep or has to be transposed, so that
// they stay in the cache with the chunk.
constexpr int64_t kRowPanel = 128, kDeepPanel = 64, kDeep = 1024;
// In multiplications, as measured: packing a number, and waking threads.
constexpr GridCosts kCosts{.a = 60, .b = 100, .threads = 3'000'000},
    kTransposing{.a = 160, .b = 100, .threads = 3'000'000};

// Part of C, which starts at its first number.
template <class C>
struct Result {
  C* data;
  int64_t stride;
  float alpha;
  bool adds;
  LastRead last_read = LastRead::soon;

  // Whether whole lines of it are to be written past the caches.
  bool streams() const {
    return std::is_same_v<C, bf16> && last_read == LastRead::late && !adds &&
           stride % kBlock == 0 && reinterpret_cast<uintptr_t>(data) % 64 == 0;
  }
  Result at(int64_t i, int64_t j) const {
    return {data + i * stride + j, stride, alpha, adds, last_read};
  }
};

void finish_lines(const float* sums, int64_t m, const Result<bf16>& c) {
  for (int64_t i = 0; i < m; ++i) {
    const float* from = sums + i * kBlock;
    stream(c.data + i * c.stride, c.alpha * load(from), c.alpha * load(from + kLanes<float>));
  }
}

// c = alpha * sums (+ c) of a block
template <class C>
void finish(const float* sums, int64_t m, int64_t n, const Result<C>& c) {
  if constexpr (std::is_same_v<C, bf16>) {
    if (n == kBlock && c.streams()) return finish_lines(sums, m, c);
  }
  for (int64_t i = 0; i < m; ++i) {
    const float* from = sums + i * kBlock;
    C* to = c.data + i * c.stride;
    int64_t j = 0;
    for (; j + kLanes<float> <= n; j += kLanes<float>) {
      const Vec<float> sum = c.alpha * load(from + j);
      store(to + j, c.adds ? load(to + j) + sum : sum);
    }
    for (; j < n; ++j) {
      const float sum = c.alpha * from[j];
      to[j] = value_as<C>(c.adds ? value_as<float>(to[j]) + sum : sum);
    }
  }
}

// Fetches the lines of a block that is written when its sums are made.
template <class C>
void prefetch(const C* block, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; j += 64 / static_cast<int64_t>(sizeof(C)))
      __builtin_prefetch(block + i * stride + j, 1);
  }
}

// body(i, j, m, n) for the blocks of m x n sums, column by column of B.
template <class Body>
void for_blocks(int64_t m, int64_t n, const Body& body) {
  for (int64_t j = 0; j < n; j += kBlock) {
    for (int64_t i = 0; i < m; i += kBlock)
      body(i, j, std::min(kBlock, m - i), std::min(kBlock, n - j));
  }
}

// One product, or the sum of two of the same m x n.
class AmxProducts {
 public:
  // second: null, or of little depth. fill: null, or what makes C.
  AmxProducts(const ProductShape& s, const ProductShape* second, const FillNeeds* fill = nullptr)
      : s_(s),
        rows_(transposes_a() || s.k > kDeep ? kDeepPanel : kRowPanel),
        depth_(piece(s.k, kMostDepth, amx::kDepth)),
        fill_(fill == nullptr ? FillNeeds{} : *fill),
        grid_(make_grid(s.m, s.k, s.n, {kBlock, kBlock},
                        costs_with(fill_, s.k, transposes_a() ? kTransposing : kCosts))),
        columns_(piece(grid_.columns, std::max(kMostPacked / depth_, kBlock), kBlock)) {
    if (second != nullptr) thin_ = *second;
    tasks_ = pieces(s.m, grid_.rows) * pieces(s.n, grid_.columns);
    slots_ = std::min<int64_t>(tasks_, thread_count());
    packed_bytes_ = scratch_room(amx::packed_elements(depth_, columns_), DType::bf16);
    thin_b_bytes_ = scratch_room(amx::packed_elements(thin_.k, columns_), DType::bf16);
    thin_a_bytes_ = scratch_room(kRowPanel * thin_stride(), DType::bf16);
    if (transposes_a()) a_bytes_ = scratch_room(rows_ * depth_, DType::bf16);
    if (s.k > depth_) sums_bytes_ = scratch_room(grid_.rows * columns_, DType::f32);
  }

  size_t scratch_bytes() const { return slot_bytes() * static_cast<size_t>(slots_); }

  void run(const ProductOperands& first, const ProductOperands& second, const PanelFill* fill,
           void* c, void* scratch) const {
    const int64_t across = pieces(s_.n, grid_.columns);
    auto run_one = [&](int64_t i, int64_t slot) {
      const int64_t row = i / across * grid_.rows, column = i % across * grid_.columns;
      const Task task{first,  second,
                      fill,   c,
                      row,    std::min(row + grid_.rows, s_.m),
                      column, std::min(column + grid_.columns, s_.n)};
      run_task(task, room_in(static_cast<std::byte*>(scratch) +
                             static_cast<size_t>(slot) * slot_bytes()));
    };
    if (tasks_ == 1) return run_one(0, 0);
    for_panels(tasks_, slots_, run_one);
  }

 private:
  struct Task {
    ProductOperands first, second;
    const PanelFill* fill;
    void* c;
    int64_t row, end_row, column, end_column;
  };
  // Of B: columns [column, column + n) over the depth [p, p + k).
  struct Chunk {
    int64_t column, n, p, k;
  };
  // In scratch memory: packed columns of both B; of a panel the second A in whole tiles of depth,
  // and the transposed A; of a task the sums of the chunks before; the fill's own.
  struct Room {
    bf16 *packed, *thin_b, *thin_a, *a;
    float* sums;
    std::byte* fill;
  };

  size_t slot_bytes() const {
    return packed_bytes_ + thin_b_bytes_ + thin_a_bytes_ + a_bytes_ + sums_bytes_ +
           fill_.room_bytes;
  }
  Room room_in(std::byte* at) const {
    auto* thin_b = at + packed_bytes_;
    auto* thin_a = thin_b + thin_b_bytes_;
    auto* a = thin_a + thin_a_bytes_;
    return {reinterpret_cast<bf16*>(at),
            reinterpret_cast<bf16*>(thin_b),
            reinterpret_cast<bf16*>(thin_a),
            reinterpret_cast<bf16*>(a),
            reinterpret_cast<float*>(a + a_bytes_),
            a + a_bytes_ + sums_bytes_};
  }
  int64_t thin_stride() const { return rounded_up(thin_.k, amx::kDepth); }
  bool transposes_a() const { return s_.ta == Transpose::yes; }
  bool is_last(const Chunk& chunk) const { return chunk.p + chunk.k == s_.k; }

  void run_task(const Task& task, const Room& room) const {
    amx::Tiles tiles;
    for (int64_t j = task.column; j < task.end_column; j += columns_) {
      const int64_t n = std::min(columns_, task.end_column - j);
      for (int64_t p = 0; p < s_.k; p += depth_)
        run_chunk(task, {j, n, p, std::min(depth_, s_.k - p)}, room, tiles);
    }
  }

  void run_chunk(const Task& task, const Chunk& chunk, const Room& room, amx::Tiles& tiles) const {
    pack(s_, task.first.b, 1.0f, chunk, room.packed);
    if (thin_.k > 0 && is_last(chunk)) {
      const auto scale = static_cast<float>(thin_.alpha / s_.alpha);
      pack(thin_, task.second.b, scale, {chunk.column, chunk.n, 0, thin_.k}, room.thin_b);
    }
    const FillPlace place{fill_.columns, task.column, task.end_column};
    const bool fills = task.fill != nullptr && is_last(chunk) && place.is_due(chunk.column);
    for (int64_t row = task.row; row < task.end_row; row += rows_) {
      const int64_t m = std::min(rows_, task.end_row - row);
      if (fills) task.fill->fill(place.panel(row, m, chunk.column, chunk.n), room.fill);
      multiply_panel(task, chunk, row, m, room, tiles);
    }
  }

  static void pack(const ProductShape& s, const void* b, float scale, const Chunk& chunk,
                   bf16* packed) {
    const bool tb = s.tb == Transpose::yes;
    const int64_t stride = tb ? s.k : s.n,
                  first = tb ? chunk.column * stride + chunk.p : chunk.p * stride + chunk.column;
    const auto* from =
        static_cast<const std::byte*>(b) + static_cast<size_t>(first) * size_of(s.b_dtype);
    amx::pack_b({from, s.b_dtype, stride, scale}, s.tb, chunk.k, chunk.n, packed);
  }

  // Rows of the second A among zeros, once instead of in every block.
  void pad(const bf16* a, int64_t rows, bf16* to) const {
    for (int64_t i = 0; i < rows; ++i) {
      bf16* row = to + i * thin_stride();
      std::copy_n(a + i * thin_.k, thin_.k, row);
      std::fill(row + thin_.k, row + thin_stride(), bf16(0.0f));
    }
  }

  void multiply_panel(const Task& task, const Chunk& chunk, int64_t row, int64_t m,
                      const Room& room, amx::Tiles& tiles) const {
    const auto* a = static_cast<const bf16*>(task.first.a);
    amx::Factors factors{chunk.k, {a + row * s_.k + chunk.p, s_.k}, room.packed};
    if (transposes_a()) {
      amx::transpose_a({a + chunk.p * s_.m + row, s_.m}, m, chunk.k, room.a, depth_);
      factors.a = {room.a, depth_};
    }
    float* sums = room.sums + (row - task.row) * columns_;
    if (is_last(chunk)) {
      const int64_t k = thin_stride();
      if (k > 0) pad(static_cast<const bf16*>(task.second.a) + row * thin_.k, m, room.thin_a);
      const amx::Factors thin{k, {room.thin_a, k}, room.thin_b};
      store_panel(tiles, factors, k > 0 ? &thin : nullptr, chunk.p == 0 ? nullptr : sums, m,
                  chunk.n, task.c, row * s_.n + chunk.column);
    } else {
      const Store store_as = chunk.p == 0 ? Store::assign : Store::add;
      for_blocks(m, chunk.n, [&](int64_t i, int64_t j, int64_t rows, int64_t columns) {
        amx::multiply_block(tiles, rows, columns, factors.block(i, j), nullptr,
                            sums + i * columns_ + j, columns_, store_as);
      });
    }
  }

  // before: the sums of the chunks before, or null.
  void store_panel(amx::Tiles& tiles, const amx::Factors& factors, const amx::Factors* thin,
                   const float* before, int64_t m, int64_t n, void* c, int64_t at) const {
    const auto alpha = static_cast<float>(s_.alpha);
    const bool adds = s_.addend == Addend::result;
    if (s_.c_dtype == DType::bf16)
      return store_blocks(
          tiles, factors, thin, before, m, n,
          Result<bf16>{static_cast<bf16*>(c) + at, s_.n, alpha, adds, s_.last_read});
    const Result<float> result{static_cast<float*>(c) + at, s_.n, alpha, adds};
    // Not by this panel's width: the two ways round differently, and threads move the panels.
    if (before != nullptr || alpha != 1.0f || s_.n % kTile != 0)
      return store_blocks(tiles, factors, thin, before, m, n, result);
    for_blocks(m, n, [&](int64_t i, int64_t j, int64_t rows, int64_t columns) {
      float* to = result.data + i * s_.n + j;
      prefetch(to, s_.n, rows, columns);
      multiply_block(tiles, factors, thin, i, j, rows, columns, to, s_.n,
                     adds ? Store::add : Store::assign);
    });
  }

  static void multiply_block(amx::Tiles& tiles, const amx::Factors& factors,
                             const amx::Factors* thin, int64_t i, int64_t j, int64_t rows,
                             int64_t columns, float* to, int64_t stride, Store store_as) {
    const amx::Factors first = factors.block(i, j);
    if (thin == nullptr)
      return amx::multiply_block(tiles, rows, columns, first, nullptr, to, stride, store_as);
    const amx::Factors second = thin->block(i, j);
    amx::multiply_block(tiles, rows, columns, first, &second, to, stride, store_as);
  }

  // c = alpha * (before + A B + A' B') (+ c)
  template <class C>
  void store_blocks(amx::Tiles& tiles, const amx::Factors& factors, const amx::Factors* thin,
                    const float* before, int64_t m, int64_t n, const Result<C>& c) const {
    alignas(64) float sums[kBlock * kBlock];
    for_blocks(m, n, [&](int64_t i, int64_t j, int64_t rows, int64_t columns) {
      if (!c.streams()) prefetch(c.data + i * c.stride + j, c.stride, rows, columns);
      if (before != nullptr) {
        for (int64_t row = 0; row < rows; ++row)
          std::copy_n(before + (i + row) * columns_ + j, rounded_up(columns, kTile),
                      sums + row * kBlock);
      }
      multiply_block(tiles, factors, thin, i, j, rows, columns, sums, kBlock,
                     before == nullptr ? Store::assign : Store::add);
      finish(sums, rows, columns, c.at(i, j));
    });
    if (c.streams()) finish_streaming();
  }

  ProductShape s_;
  ProductShape thin_{.m = 0, .k = 0, .n = 0};  // the second product, if k > 0
  int64_t rows_, depth_;
  FillNeeds fill_;
  Grid grid_;
  int64_t columns_, tasks_ = 0, slots_ = 0;
  size_t packed_bytes_ = 0, thin_b_bytes_ = 0, thin_a_bytes_ = 0, a_bytes_ = 0, sums_bytes_ = 0;
};

class AmxProduct final : public Product {
 public:
  explicit AmxProduct(const ProductShape& s) : products_(s, nullptr) {}
  size_t scratch_bytes() const override { return products_.scratch_bytes(); }
  void run(const void* a, const void* b, void* c, void* scratch) const override {
    products_.run({a, b}, {nullptr, nullptr}, nullptr, c, scratch);
  }

 private:
  AmxProducts products_;
};

enum class ThinOne : uint8_t { first, second };

class AmxSum final : public ProductSum {
 public:
  AmxSum(const ProductShape& deep, const ProductShape& thin, ThinOne thin_one)
      : products_(deep, &thin), thin_first_(thin_one == ThinOne::first) {}
  size_t scratch_bytes() const override { return products_.scratch_bytes(); }
  void run(const ProductOperands& first, const ProductOperands& second, void* c,
           void* scratch) const override {
    products_.run(thin_first_ ? second : first, thin_first_ ? first : second, nullptr, c, scratch);
  }

 private:
  AmxProducts products_;
  bool thin_first_;
};

class AmxFilled final : public FilledProduct {
 public:
  AmxFilled(const ProductShape& s, const FillNeeds& needs) : products_(s, nullptr, &needs) {}
  size_t scratch_bytes() const override { return products_.scratch_bytes(); }
  void run(const ProductOperands& operands, const PanelFill& fill, void* c,
           void* scratch) const override {
    products_.run(operands, {nullptr, nullptr}, &fill, c, scratch);
  }

 private:
  AmxProducts products_;
};

// Whether the one adds little depth to the other, and nothing is rounded that would not be.
bool thin_beside(const ProductShape& thin, const ProductShape& deep) {
  return thin.k <= std::min(kMostThinDepth, deep.k) && thin.ta == Transpose::no &&
         deep.ta == Transpose::no && deep.alpha != 0 &&
         (thin.alpha == deep.alpha || thin.b_dtype == DType::f32);
}

}  // namespace

std::unique_ptr<Product> amx_product(const ProductShape& s) {
  const bool gradient = s.ta == Transpose::yes && s.tb == Transpose::no && s.b_dtype == DType::bf16;
  const bool thin = std::min(s.m, s.n) <= kBlock, small = std::max(s.m, s.n) <= kMostSmall;
  if (gradient && (thin || (small && s.k >= kLong))) return amx_thin_gradient(s);
  return std::make_unique<AmxProduct>(s);
}

std::unique_ptr<FilledProduct> amx_filled_product(const ProductShape& s, const FillNeeds& needs) {
  return std::make_unique<AmxFilled>(s, needs);
}

std::unique_ptr<ProductSum> amx_product_sum(const ProductShape& first, const ProductShape& second) {
  if (thin_beside(second, first)) return std::make_unique<AmxSum>(first, second, ThinOne::second);
  if (thin_beside(first, second)) return std::make_unique<AmxSum>(second, first, ThinOne::first);
  return nullptr;
}

}  // namespace mora::cpu
