#include "backend/cpu/linear_cross_entropy_blocks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/fma.hpp"
#include "backend/cpu/product.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kMostRows = 128,
                  kColumns = 256;  // of a block of logits, which stays in the cache
constexpr int64_t kChunk = 2048;   // columns that are packed at once

template <class Number>
struct RowsOf {
  const Number* data;
  int64_t stride;
};

// The products of blocks, whose A is of Numbers.
template <class Number>
struct Blocks;

template <>
struct Blocks<bf16> {
  using Workspace = amx::Tiles;
  static constexpr int64_t kRowStep = amx::kBlock;

  static int64_t row_stride(int64_t width) { return width; }
  static int64_t packed_elements(int64_t k, int64_t n) { return amx::packed_elements(k, n); }
  static void pack(const fma::Source& b, Transpose transposed, int64_t k, int64_t n, bf16* to) {
    amx::pack_b({b.data, b.dtype, b.stride, 1.0f}, transposed, k, n, to);
  }
  // c[m, n] (+)= A B
  static void multiply(Workspace& tiles, int64_t m, int64_t k, int64_t n, const RowsOf<bf16>& a,
                       const bf16* b, float* c, int64_t c_stride, Store store_as) {
    amx::multiply(tiles, m, n, {k, {a.data, a.stride}, b}, c, c_stride, store_as);
  }
};

template <>
struct Blocks<float> {
  struct Workspace {};
  static constexpr int64_t kRowStep = 1;

  static int64_t row_stride(int64_t width) { return width + (fma::collides(width) ? 16 : 0); }
  static int64_t packed_elements(int64_t k, int64_t n) { return k * rounded_up(n, fma::kColumns); }
  // Parts of the depth one after the other.
  static void pack(const fma::Source& b, Transpose transposed, int64_t k, int64_t n, float* to) {
    for (int64_t p = 0; p < k; p += fma::kMostDepth) {
      const int64_t depth = std::min(fma::kMostDepth, k - p);
      const fma::Source part = transposed == Transpose::yes ? b.from(0, p) : b.from(p);
      fma::pack_b(part, transposed, 1.0f, depth, n, {depth, 0}, to + packed_elements(p, n));
    }
  }
  static void multiply(Workspace&, int64_t m, int64_t k, int64_t n, const RowsOf<float>& a,
                       const float* b, float* c, int64_t c_stride, Store store_as) {
    const int64_t rows = piece(m, fma::kRows, 1);
    for (int64_t p = 0; p < k; p += fma::kMostDepth) {
      const int64_t depth = std::min(fma::kMostDepth, k - p);
      for (int64_t i = 0; i < m; i += rows) {
        const fma::PartOfA part{a.data + i * a.stride + p, a.stride, depth};
        fma::multiply(std::min(rows, m - i), n, fma::Layout::rows, {&part, 1},
                      b + packed_elements(p, n), c + i * c_stride, c_stride,
                      p > 0 ? Store::add : store_as);
      }
    }
  }
};

// A token's logits so far; total: of what is relative to the largest, in lanes.
struct Statistics {
  Vec<float> total;
  float largest, target;
};

template <class Number>
struct Loss {
  using Product = Blocks<Number>;
  using Workspace = typename Product::Workspace;

  int64_t width, vocab;
  fma::Source w;  // [V, D]
  const int32_t* labels;
  const float* weights;
  const int32_t* active;  // the tokens with weight
  int64_t tokens;         // how many
  const Number* rows;     // h of these tokens
  Statistics* statistics;
  float* sums;              // softmax(z) W of these tokens but for their labels, or null
  Number *logits_w, *dh_w;  // packed W of a chunk: its transpose, and block by block as it is

  int64_t stride() const { return Product::row_stride(width); }

  // body(workspace, first row, rows, first column, block) for the blocks of every chunk of W, after
  // it was packed; panels of rows are tasks.
  template <class Body>
  void for_chunks(const Body& body) const {
    const int64_t panel = panel_rows(), panels = pieces(tokens, panel);
    for (int64_t begin = 0; begin < vocab; begin += kChunk) {
      const int64_t blocks = pieces(std::min(kChunk, vocab - begin), kColumns);
      parallel_for(blocks, [&](int64_t i) { pack(begin + i * kColumns, i); });
      parallel_for(panels, [&](int64_t p) {
        Workspace workspace;
        for (int64_t i = 0; i < blocks; ++i)
          body(workspace, p * panel, std::min(panel, tokens - p * panel), begin + i * kColumns, i);
      });
    }
  }
  int64_t panel_rows() const {
    const int64_t even = rounded_up(tokens / (4 * thread_count()), Product::kRowStep);
    return std::clamp(even, Product::kRowStep, kMostRows);
  }
  int64_t columns_at(int64_t column) const { return std::min(kColumns, vocab - column); }
  Number* logits_block(int64_t i) const {
    return logits_w + Product::packed_elements(width, kColumns) * i;
  }
  Number* dh_block(int64_t i) const { return dh_w + Product::packed_elements(kColumns, width) * i; }

  void pack(int64_t column, int64_t block) const {
    const int64_t n = columns_at(column);
    Product::pack(w.from(column), Transpose::yes, width, n, logits_block(block));
    if (sums != nullptr) Product::pack(w.from(column), Transpose::no, n, width, dh_block(block));
  }

  // Logits of rows [row, row + m) in rows of kColumns; columns behind the vocabulary are -infinity.
  void logits(Workspace& workspace, int64_t row, int64_t m, int64_t column, int64_t block,
              float* z) const {
    const int64_t n = columns_at(column);
    Product::multiply(workspace, m, width, n, {rows + row * stride(), stride()},
                      logits_block(block), z, kColumns, Store::assign);
    for (int64_t i = 0; n < kColumns && i < m; ++i)
      std::fill(z + i * kColumns + n, z + (i + 1) * kColumns,
                -std::numeric_limits<float>::infinity());
  }

  void sum_up() const {
    std::fill_n(statistics, tokens, Statistics{{}, -std::numeric_limits<float>::infinity(), 0});
    if (sums != nullptr) std::fill_n(sums, tokens * width, 0.0f);
    for_chunks([&](Workspace& workspace, int64_t row, int64_t m, int64_t column, int64_t block) {
      constexpr bool narrow = !std::is_same_v<Number, float>;
      alignas(64) float z[kMostRows * kColumns];
      alignas(64) Number beside[narrow ? kMostRows * kColumns : 1];
      auto* p = beside;
      if constexpr (!narrow) p = z;
      logits(workspace, row, m, column, block, z);
      for (int64_t i = 0; i < m; ++i) absorb(row + i, column, z + i * kColumns, p + i * kColumns);
      if (sums == nullptr) return;
      Product::multiply(workspace, m, columns_at(column), width, {p, kColumns}, dh_block(block),
                        sums + row * width, width, Store::add);
    });
  }

  // p = e^(z - the largest logit so far), which what was summed before shrinks to; it may be over
  // z. That of the label is left out of p, as its factor is close to 1 and p may be rounded.
  void absorb(int64_t row, int64_t column, const float* z, Number* p) const {
    Statistics& s = statistics[row];
    const int64_t label = labels[active[row]] - column;
    const bool labelled = label >= 0 && label < columns_at(column);
    if (labelled) s.target = z[label];
    const float top = std::max(s.largest, largest(z, kColumns));
    if (top > s.largest) shrink(row, exponential(s.largest - top));
    s.largest = top;
    Vec<float> even{}, odd{};
    for (int64_t j = 0; j < kColumns; j += 2 * kLanes<float>) {
      const Vec<float> first = exponential_for<Number>(load(z + j) - top),
                       second = exponential_for<Number>(load(z + j + kLanes<float>) - top);
      store(p + j, first);
      store(p + j + kLanes<float>, second);
      even += first;
      odd += second;
    }
    s.total += even + odd;
    if (labelled) p[label] = Number(0.0f);
  }

  void shrink(int64_t row, float factor) const {
    statistics[row].total *= factor;
    for (int64_t d = 0; sums != nullptr && d < width; d += kLanes<float>) {
      float* sum = sums + row * width + d;
      store(sum, factor * load(sum));
    }
  }

  // Of a token: nll is the difference to its own logit.
  static float log_sum(const Statistics& s) {
    return s.largest + std::log(lane_sum<float>(s.total));
  }

  // dh of a token = weight * (softmax(z) W - W[label])
  void differentiate(int64_t row, Number* dh) const {
    const Statistics& s = statistics[row];
    const float weight = weights[active[row]], scale = weight / lane_sum<float>(s.total),
                own = weight * (exponential(s.target - log_sum(s)) - 1.0f);
    alignas(64) float label[kColumns];
    for (int64_t begin = 0; begin < width; begin += kColumns) {
      const int64_t n = std::min(kColumns, width - begin);
      const fma::Source part = w.from(labels[active[row]], begin);
      widen({part.data, part.dtype, 1, n, 0}, label, 0);
      for (int64_t d = 0; d < n; d += kLanes<float>)
        store(dh + begin + d, scale * load(sums + row * width + begin + d) + own * load(label + d));
    }
  }
};

// Where what stands in scratch memory, in bytes.
struct Places {
  size_t active, rows, statistics, sums, logits_w, dh_w, bytes;
};

template <class Number>
Places places_of(const OpCall& call) {
  using Product = Blocks<Number>;
  const int64_t tokens = call.in[0].shape[0], width = call.in[0].shape.last(),
                blocks = kChunk / kColumns;
  auto take = [at = size_t{0}](int64_t elements, size_t size) mutable {
    return std::exchange(at, at + (static_cast<size_t>(elements) * size + 63) / 64 * 64);
  };
  Places places{};
  places.active = take(tokens, sizeof(int32_t));
  places.rows = take(tokens * Product::row_stride(width), sizeof(Number));
  places.statistics = take(tokens, sizeof(Statistics));
  places.sums = take(call.read[2] ? tokens * width : 0, sizeof(float));
  places.logits_w = take(blocks * Product::packed_elements(width, kColumns), sizeof(Number));
  places.dh_w =
      take(call.read[2] ? blocks * Product::packed_elements(kColumns, width) : 0, sizeof(Number));
  places.bytes = take(0, 0);
  return places;
}

// The tokens with weight, and their rows of h side by side; how many.
template <class Number>
int64_t gather(const KernelArgs& args, int32_t* active, Number* rows) {
  const auto* h = ptr<const Number>(args.in[0]);
  const auto* weights = ptr<const float>(args.in[3]);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last(),
                stride = Blocks<Number>::row_stride(width);
  int64_t count = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    if (weights[t] != 0.0f) active[count++] = static_cast<int32_t>(t);
  }
  parallel_pieces(count, rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::copy_n(h + active[i] * width, width, rows + i * stride);
  });
  return count;
}

template <class Number>
void write_results(const KernelArgs& args, const Loss<Number>& loss) {
  const int64_t tokens = args.in[0].shape()[0];
  auto* nll = ptr<float>(args.out[1]);
  if (nll != nullptr) std::fill_n(nll, tokens, 0.0f);
  double total = 0;
  for (int64_t i = 0; i < loss.tokens; ++i) {
    const Statistics& s = loss.statistics[i];
    const float own = Loss<Number>::log_sum(s) - s.target;
    if (nll != nullptr) nll[loss.active[i]] = own;
    total += static_cast<double>(loss.weights[loss.active[i]]) * static_cast<double>(own);
  }
  if (args.out[0]) ptr<float>(args.out[0])[0] = static_cast<float>(total);
  auto* dh = ptr<Number>(args.out[2]);
  if (dh == nullptr) return;
  std::fill_n(dh, tokens * loss.width, Number(0.0f));
  parallel_pieces(loss.tokens, rows_per_piece(loss.width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) loss.differentiate(i, dh + loss.active[i] * loss.width);
  });
}

template <class Number>
void run(const KernelArgs& args, const Places& places) {
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* active = reinterpret_cast<int32_t*>(scratch + places.active);
  auto* rows = reinterpret_cast<Number*>(scratch + places.rows);
  const int64_t count = gather(args, active, rows), width = args.in[0].shape().last();
  const Loss<Number> loss{
      .width = width,
      .vocab = args.in[1].shape()[0],
      .w = {args.in[1].data, args.in[1].dtype(), width},
      .labels = ptr<const int32_t>(args.in[2]),
      .weights = ptr<const float>(args.in[3]),
      .active = active,
      .tokens = count,
      .rows = rows,
      .statistics = reinterpret_cast<Statistics*>(scratch + places.statistics),
      .sums = args.out[2] ? reinterpret_cast<float*>(scratch + places.sums) : nullptr,
      .logits_w = reinterpret_cast<Number*>(scratch + places.logits_w),
      .dh_w = reinterpret_cast<Number*>(scratch + places.dh_w)};
  loss.sum_up();
  write_results(args, loss);
}

}  // namespace

bool takes_loss_by_blocks(const OpCall& call, MatmulProvider provider) {
  const DType dtype = call.in[0].dtype;
  const bool multiplies = dtype == DType::f32 || (dtype == DType::bf16 && multiplies_by_amx());
  return multiplies && provider == MatmulProvider::automatic && !call.read[3] &&
         call.in[0].shape.last() % kLanes<float> == 0;
}

Prepared prepare_loss_by_blocks(const OpCall& call) {
  auto places = std::make_shared<Places>(call.in[0].dtype == DType::bf16 ? places_of<bf16>(call)
                                                                         : places_of<float>(call));
  return {places->bytes, places};
}

void loss_by_blocks(const KernelArgs& args, const void* state) {
  const auto& places = *static_cast<const Places*>(state);
  args.in[0].dtype() == DType::bf16 ? run<bf16>(args, places) : run<float>(args, places);
}

}  // namespace mora::cpu
