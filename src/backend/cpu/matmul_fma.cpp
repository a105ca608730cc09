// Products of f32 by fma.hpp. The result is cut into as many tasks as end first; a task packs
// chunks of its B that stay in the cache and multiplies them with its rows of A. The sum of two
// products is one product whose depth is that of the first and then of the second.
#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "backend/cpu/fma.hpp"
#include "backend/cpu/grid.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
#include "backend/cpu/product.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

using fma::kColumns;
using fma::kRows;
using fma::kRowStride;

constexpr int64_t kMostPacked = int64_t{1} << 18;  // numbers of a chunk of B
constexpr int64_t kDepthStep = 16;
// In multiplications, as measured: packing a number, and waking threads.
constexpr GridCosts kCosts{.a = 9, .b = 20, .threads = 300'000};
// Where A is stored as its transpose: the rows that are packed at once, many, so that long pieces
// of memory are read, and the most of its depth.
constexpr int64_t kTransposedPanel = 24 * kRows;
constexpr int64_t kMostTransposedDepth = 384;
constexpr int64_t kMostThinDepth = 4096;  // of few columns

using Operands = std::span<const ProductOperands>;

class FmaProducts {
 public:
  // All terms have their A transposed, or none.
  explicit FmaProducts(std::vector<ProductShape> terms)
      : terms_(std::move(terms)), transposed_(terms_[0].ta == Transpose::yes) {
    for (const ProductShape& term : terms_) k_ += term.k;
    depth_ = piece(k_, most_depth(), kDepthStep);
    const int64_t m = terms_[0].m, n = terms_[0].n;
    grid_ = make_grid(m, k_, n, {kRows, kColumns}, kCosts);
    tasks_ = pieces(m, grid_.rows) * pieces(n, grid_.columns);
    slots_ = std::min<int64_t>(tasks_, thread_count());
    columns_ = piece(grid_.columns, std::max(kMostPacked / depth_, kColumns), kColumns);
    panel_ = transposed_ ? std::min(kTransposedPanel, grid_.rows) : kRows;
    b_bytes_ = scratch_room(depth_ * columns_, DType::f32);
    a_bytes_ = scratch_room(transposed_ ? fma::packed_tiles(panel_, depth_) : kRows * kRowStride,
                            DType::f32);
  }

  size_t scratch_bytes() const { return (b_bytes_ + a_bytes_) * static_cast<size_t>(slots_); }

  void run(Operands operands, void* c, void* scratch) const {
    const int64_t m = terms_[0].m, n = terms_[0].n, across = pieces(n, grid_.columns);
    auto run_one = [&](int64_t i, int64_t slot) {
      const int64_t row = i / across * grid_.rows, column = i % across * grid_.columns;
      const Task task{operands, static_cast<float*>(c),
                      row,      std::min(row + grid_.rows, m),
                      column,   std::min(column + grid_.columns, n)};
      run_task(task, static_cast<std::byte*>(scratch) +
                         static_cast<size_t>(slot) * (b_bytes_ + a_bytes_));
    };
    if (tasks_ == 1) return run_one(0, 0);
    for_panels(tasks_, slots_, run_one);
  }

 private:
  struct Task {
    Operands operands;
    float* c;
    int64_t row, end_row, column, end_column;
  };
  // Of B: columns [column, column + n) over the depth [p, p + k).
  struct Chunk {
    int64_t column, n, p, k;
  };

  void run_task(const Task& task, std::byte* room) const {
    auto *b = reinterpret_cast<float*>(room), *a = reinterpret_cast<float*>(room + b_bytes_);
    for (int64_t j = task.column; j < task.end_column; j += columns_) {
      for (int64_t p = 0; p < k_; p += depth_) {
        run_chunk(task, {j, std::min(columns_, task.end_column - j), p, std::min(depth_, k_ - p)},
                  b, a);
      }
    }
  }

  void run_chunk(const Task& task, const Chunk& chunk, float* b, float* a) const {
    pack_b(task.operands, chunk, b);
    const int64_t n = terms_[0].n;
    const Store store_as =
        chunk.p > 0 || terms_[0].addend == Addend::result ? Store::add : Store::assign;
    for (int64_t row = task.row; row < task.end_row; row += panel_) {
      const int64_t rows = std::min(panel_, task.end_row - row);
      float* c = task.c + row * n + chunk.column;
      if (transposed_) {
        pack_tiles(task.operands, chunk, row, rows, a);
        for (int64_t i = 0; i < rows; i += kRows) {
          const fma::PartOfA tile{a + i / kRows * fma::tile_elements(chunk.k), 1, chunk.k};
          fma::multiply(std::min(kRows, rows - i), chunk.n, fma::Layout::tiles, {&tile, 1}, b,
                        c + i * n, n, store_as);
        }
      } else {
        const auto [parts, count] = parts_of_a(task.operands, chunk, row, rows, a);
        fma::multiply(rows, chunk.n, fma::Layout::rows, {parts.data(), count}, b, c, n, store_as);
      }
    }
  }

  // Few columns need no more of A than once.
  int64_t most_depth() const {
    if (transposed_) return kMostTransposedDepth;
    const bool packs =
        std::ranges::any_of(terms_, [](const ProductShape& term) { return fma::collides(term.k); });
    return terms_[0].n <= kColumns && !packs ? kMostThinDepth : fma::kMostDepth;
  }

  // body(term, operands, p, k, place): the depth [p, p + k) of a term and its place in the chunk.
  template <class Body>
  void for_parts(Operands operands, const Chunk& chunk, const Body& body) const {
    int64_t begin = 0;
    for (size_t i = 0; i < terms_.size(); ++i) {
      const int64_t first = std::max(chunk.p, begin),
                    last = std::min(chunk.p + chunk.k, begin + terms_[i].k);
      if (first < last) {
        body(terms_[i], operands[i], first - begin, last - first,
             fma::Place{chunk.k, first - chunk.p});
      }
      begin += terms_[i].k;
    }
  }

  void pack_b(Operands operands, const Chunk& chunk, float* packed) const {
    for_parts(operands, chunk,
              [&](const ProductShape& s, const ProductOperands& data, int64_t p, int64_t k,
                  const fma::Place& place) {
                const bool tb = s.tb == Transpose::yes;
                const fma::Source b{data.b, s.b_dtype, tb ? s.k : s.n};
                fma::pack_b(tb ? b.from(chunk.column, p) : b.from(p, chunk.column), s.tb,
                            static_cast<float>(s.alpha), k, chunk.n, place, packed);
              });
  }

  void pack_tiles(Operands operands, const Chunk& chunk, int64_t row, int64_t rows,
                  float* packed) const {
    for_parts(operands, chunk,
              [&](const ProductShape& s, const ProductOperands& data, int64_t p, int64_t k,
                  const fma::Place& place) {
                fma::pack_tiles(fma::Source{data.a, DType::f32, s.m}.from(p, row), rows, k, place,
                                packed);
              });
  }

  // Where they are, or in `room`.
  std::pair<std::array<fma::PartOfA, 2>, size_t> parts_of_a(Operands operands, const Chunk& chunk,
                                                            int64_t row, int64_t rows,
                                                            float* room) const {
    std::array<fma::PartOfA, 2> parts;
    size_t count = 0;
    for_parts(operands, chunk,
              [&](const ProductShape& s, const ProductOperands& data, int64_t p, int64_t k,
                  const fma::Place& place) {
                const float* a = static_cast<const float*>(data.a) + row * s.k + p;
                if (fma::collides(s.k)) {
                  fma::pack_rows({a, DType::f32, s.k}, rows, k, room + place.at);
                  parts[count++] = {room + place.at, kRowStride, k};
                } else {
                  parts[count++] = {a, s.k, k};
                }
              });
    return {parts, count};
  }

  std::vector<ProductShape> terms_;
  bool transposed_;
  int64_t k_ = 0, depth_ = 0, columns_ = 0, panel_ = 0;
  Grid grid_{};
  int64_t tasks_ = 0, slots_ = 0;
  size_t b_bytes_ = 0, a_bytes_ = 0;
};

class FmaProduct final : public Product {
 public:
  explicit FmaProduct(const ProductShape& s) : products_({s}) {}
  size_t scratch_bytes() const override { return products_.scratch_bytes(); }
  void run(const void* a, const void* b, void* c, void* scratch) const override {
    const ProductOperands operands[] = {{a, b}};
    products_.run(operands, c, scratch);
  }

 private:
  FmaProducts products_;
};

class FmaSum final : public ProductSum {
 public:
  FmaSum(const ProductShape& first, const ProductShape& second) : products_({first, second}) {}
  size_t scratch_bytes() const override { return products_.scratch_bytes(); }
  void run(const ProductOperands& first, const ProductOperands& second, void* c,
           void* scratch) const override {
    const ProductOperands operands[] = {first, second};
    products_.run(operands, c, scratch);
  }

 private:
  FmaProducts products_;
};

}  // namespace

std::unique_ptr<Product> fma_product(const ProductShape& s) {
  return std::make_unique<FmaProduct>(s);
}

std::unique_ptr<ProductSum> fma_product_sum(const ProductShape& first, const ProductShape& second) {
  if (first.ta != second.ta || first.tb != second.tb) return nullptr;
  return std::make_unique<FmaSum>(first, second);
}

}  // namespace mora::cpu
