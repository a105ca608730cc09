#include "backend/cpu/linear_cross_entropy_amx.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/product.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kMostRows = 128,
                  kColumns = 256;  // of a block of logits, which stays in the cache
constexpr int64_t kChunk = 2048;   // columns that are packed at once

// Where what stands in scratch memory, in bytes.
struct Places {
  size_t active, rows, statistics, sums, logits_w, dh_w, bytes;
};

// A token's logits so far; total: of what is relative to the largest, in lanes.
struct Statistics {
  Vec<float> total;
  float largest, target;
};

struct Loss {
  int64_t width, vocab;
  amx::Source w;  // [V, D]
  const int32_t* labels;
  const float* weights;
  const int32_t* active;  // the tokens with weight
  int64_t tokens;         // how many
  const bf16* rows;       // h of these tokens
  Statistics* statistics;
  float* sums;            // softmax(z) W of these tokens but for their labels, or null
  bf16 *logits_w, *dh_w;  // packed W of a chunk: its transpose, and block by block as it is

  int64_t padded(int64_t n) const { return rounded_up(n, amx::kDepth); }
  amx::Source w_from(int64_t column) const {
    const size_t offset = static_cast<size_t>(column * width) * size_of(w.dtype);
    return {static_cast<const std::byte*>(w.data) + offset, w.dtype, width, 1.0f};
  }

  // body(tiles, first row, rows, first column, block) for the blocks of every chunk of W, after it
  // was packed; panels of rows are tasks.
  template <class Body>
  void for_chunks(const Body& body) const {
    const int64_t panel = panel_rows(), panels = pieces(tokens, panel);
    for (int64_t begin = 0; begin < vocab; begin += kChunk) {
      const int64_t blocks = pieces(std::min(kChunk, vocab - begin), kColumns);
      parallel_for(blocks, [&](int64_t i) { pack(begin + i * kColumns, i); });
      parallel_for(panels, [&](int64_t p) {
        amx::Tiles tiles;
        for (int64_t i = 0; i < blocks; ++i)
          body(tiles, p * panel, std::min(panel, tokens - p * panel), begin + i * kColumns, i);
      });
    }
  }
  int64_t panel_rows() const {
    const int64_t even = pieces(tokens / (4 * thread_count()), amx::kBlock);
    return std::clamp(even * amx::kBlock, amx::kBlock, kMostRows);
  }
  int64_t columns_at(int64_t column) const { return std::min(kColumns, vocab - column); }
  bf16* logits_block(int64_t i) const {
    return logits_w + amx::packed_elements(width, kColumns) * i;
  }
  bf16* dh_block(int64_t i) const { return dh_w + amx::packed_elements(kColumns, width) * i; }

  void pack(int64_t column, int64_t block) const {
    const int64_t n = columns_at(column);
    amx::pack_b(w_from(column), Transpose::yes, width, n, logits_block(block));
    if (sums != nullptr) amx::pack_b(w_from(column), Transpose::no, n, width, dh_block(block));
  }

  // Logits of rows [row, row + m) in rows of kColumns; columns behind the vocabulary are -infinity.
  void logits(amx::Tiles& tiles, int64_t row, int64_t m, int64_t column, int64_t block,
              float* z) const {
    const int64_t n = columns_at(column);
    amx::multiply(tiles, m, n, {width, {rows + row * width, width}, logits_block(block)}, z,
                  kColumns, Store::assign);
    for (int64_t i = 0; n < kColumns && i < m; ++i)
      std::fill(z + i * kColumns + n, z + (i + 1) * kColumns,
                -std::numeric_limits<float>::infinity());
  }

  void sum_up() const {
    std::fill_n(statistics, tokens, Statistics{{}, -std::numeric_limits<float>::infinity(), 0});
    if (sums != nullptr) std::fill_n(sums, tokens * width, 0.0f);
    for_chunks([&](amx::Tiles& tiles, int64_t row, int64_t m, int64_t column, int64_t block) {
      alignas(64) float z[kMostRows * kColumns];
      alignas(64) bf16 p[kMostRows * kColumns];
      logits(tiles, row, m, column, block, z);
      for (int64_t i = 0; i < m; ++i) absorb(row + i, column, z + i * kColumns, p + i * kColumns);
      if (sums == nullptr) return;
      amx::multiply(tiles, m, width, {padded(columns_at(column)), {p, kColumns}, dh_block(block)},
                    sums + row * width, width, Store::add);
    });
  }

  // p = e^(z - the largest logit so far), which what was summed before shrinks to; that of the
  // label is left out of p, as its factor is close to 1 and p is rounded.
  void absorb(int64_t row, int64_t column, const float* z, bf16* p) const {
    Statistics& s = statistics[row];
    Vec<float> tops = load(z);
    for (int64_t j = kLanes<float>; j < kColumns; j += kLanes<float>) {
      const Vec<float> v = load(z + j);
      tops = v > tops ? v : tops;
    }
    const float top = std::max(s.largest, lane_max<float>(tops));
    if (top > s.largest) shrink(row, exponential(s.largest - top));
    s.largest = top;
    Vec<float> even{}, odd{};
    for (int64_t j = 0; j < kColumns; j += 2 * kLanes<float>) {
      const Vec<float> first = exponential_of_negative(load(z + j) - top),
                       second = exponential_of_negative(load(z + j + kLanes<float>) - top);
      store(p + j, first);
      store(p + j + kLanes<float>, second);
      even += first;
      odd += second;
    }
    s.total += even + odd;
    const int64_t label = labels[active[row]] - column;
    if (label < 0 || label >= columns_at(column)) return;
    s.target = z[label];
    p[label] = bf16(0.0f);
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
  template <class W>
  void differentiate(int64_t row, bf16* dh) const {
    const Statistics& s = statistics[row];
    const float weight = weights[active[row]], scale = weight / lane_sum<float>(s.total),
                own = weight * (exponential(s.target - log_sum(s)) - 1.0f);
    const W* label = static_cast<const W*>(w.data) + labels[active[row]] * width;
    for (int64_t d = 0; d < width; d += kLanes<float>)
      store(dh + d, scale * load(sums + row * width + d) + own * load(label + d));
  }
};

}  // namespace

bool takes_amx_loss(const OpCall& call, MatmulProvider provider) {
  return call.in[0].dtype == DType::bf16 && provider == MatmulProvider::automatic &&
         call.in[0].shape.last() % amx::kTile == 0 && !call.read[3] && multiplies_by_amx();
}

Prepared prepare_loss_amx(const OpCall& call) {
  const int64_t tokens = call.in[0].shape[0], width = call.in[0].shape.last();
  auto places = std::make_shared<Places>();
  auto take = [at = size_t{0}](size_t bytes) mutable {
    return std::exchange(at, at + (bytes + 63) / 64 * 64);
  };
  places->active = take(static_cast<size_t>(tokens) * sizeof(int32_t));
  places->rows = take(static_cast<size_t>(tokens * width) * sizeof(bf16));
  places->statistics = take(static_cast<size_t>(tokens) * sizeof(Statistics));
  places->sums = take(call.read[2] ? static_cast<size_t>(tokens * width) * sizeof(float) : 0);
  const int64_t blocks = kChunk / kColumns;
  places->logits_w =
      take(static_cast<size_t>(blocks * amx::packed_elements(width, kColumns)) * sizeof(bf16));
  places->dh_w =
      take(static_cast<size_t>(blocks * amx::packed_elements(kColumns, width)) * sizeof(bf16));
  places->bytes = take(0);
  return {places->bytes, places};
}

void loss_amx(const KernelArgs& args, const void* state) {
  const auto& places = *static_cast<const Places*>(state);
  const auto* h = ptr<const bf16>(args.in[0]);
  const auto* weights = ptr<const float>(args.in[3]);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last();
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* active = reinterpret_cast<int32_t*>(scratch + places.active);
  auto* rows = reinterpret_cast<bf16*>(scratch + places.rows);
  int64_t count = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    if (weights[t] != 0.0f) active[count++] = static_cast<int32_t>(t);
  }
  parallel_pieces(count, rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::copy_n(h + active[i] * width, width, rows + i * width);
  });
  const Loss loss{.width = width,
                  .vocab = args.in[1].shape()[0],
                  .w = {args.in[1].data, args.in[1].dtype(), width, 1.0f},
                  .labels = ptr<const int32_t>(args.in[2]),
                  .weights = weights,
                  .active = active,
                  .tokens = count,
                  .rows = rows,
                  .statistics = reinterpret_cast<Statistics*>(scratch + places.statistics),
                  .sums = args.out[2] ? reinterpret_cast<float*>(scratch + places.sums) : nullptr,
                  .logits_w = reinterpret_cast<bf16*>(scratch + places.logits_w),
                  .dh_w = reinterpret_cast<bf16*>(scratch + places.dh_w)};
  loss.sum_up();
  auto* nll = ptr<float>(args.out[1]);
  if (nll != nullptr) std::fill_n(nll, tokens, 0.0f);
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Statistics& s = loss.statistics[i];
    const float own = Loss::log_sum(s) - s.target;
    if (nll != nullptr) nll[active[i]] = own;
    total += static_cast<double>(weights[active[i]]) * static_cast<double>(own);
  }
  if (args.out[0]) ptr<float>(args.out[0])[0] = static_cast<float>(total);
  auto* dh = ptr<bf16>(args.out[2]);
  if (dh == nullptr) return;
  std::fill_n(dh, tokens * width, bf16(0.0f));
  parallel_pieces(count, rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      bf16* to = dh + active[i] * width;
      loss.w.dtype == DType::bf16 ? loss.differentiate<bf16>(i, to)
                                  : loss.differentiate<float>(i, to);
    }
  });
}

}  // namespace mora::cpu
