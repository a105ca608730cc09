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

// A token's logits so far, by the lane that they stand in.
struct Statistics {
  Vec<float> largest, total;
  float target;
};

enum class Packed : uint8_t { logits, both };  // W for which products

struct Loss {
  int64_t width, vocab;
  amx::Source w;  // [V, D]
  const int32_t* labels;
  const float* weights;
  const int32_t* active;  // the tokens with weight
  int64_t tokens;         // how many
  const bf16* rows;       // h of these tokens
  Statistics* statistics;
  float* sums;            // dh of these tokens
  bf16 *logits_w, *dh_w;  // packed W of a chunk: its transpose, and block by block as it is

  int64_t padded(int64_t n) const { return rounded_up(n, amx::kDepth); }
  amx::Source w_from(int64_t column) const {
    const size_t offset = static_cast<size_t>(column * width) * size_of(w.dtype);
    return {static_cast<const std::byte*>(w.data) + offset, w.dtype, width, 1.0f};
  }

  // body(first column, columns, block) for the blocks of every chunk of W, after it was packed;
  // panels of rows are tasks.
  template <class Body>
  void for_chunks(Packed what, const Body& body) const {
    const int64_t panel = panel_rows(), panels = pieces(tokens, panel);
    for (int64_t begin = 0; begin < vocab; begin += kChunk) {
      const int64_t blocks = pieces(std::min(kChunk, vocab - begin), kColumns);
      parallel_for(blocks, [&](int64_t i) { pack(begin + i * kColumns, i, what); });
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

  void pack(int64_t column, int64_t block, Packed what) const {
    const int64_t n = columns_at(column);
    amx::pack_b(w_from(column), Transpose::yes, width, n, logits_block(block));
    if (what == Packed::both) amx::pack_b(w_from(column), Transpose::no, n, width, dh_block(block));
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
    std::fill_n(statistics, tokens,
                Statistics{Vec<float>{} - std::numeric_limits<float>::infinity(), {}, 0});
    for_chunks(Packed::logits,
               [&](amx::Tiles& tiles, int64_t row, int64_t m, int64_t column, int64_t block) {
                 alignas(64) float z[kMostRows * kColumns];
                 logits(tiles, row, m, column, block, z);
                 for (int64_t i = 0; i < m; ++i)
                   absorb(statistics[row + i], z + i * kColumns, labels[active[row + i]] - column);
               });
  }

  // label: where the token's own stands, if it is among these.
  static void absorb(Statistics& s, const float* z, int64_t label) {
    Vec<float> top = s.largest;
    for (int64_t j = 0; j < kColumns; j += kLanes<float>) {
      const Vec<float> v = load(z + j);
      top = v > top ? v : top;
    }
    // A lane that has seen no number yet has none to shrink, and none to add.
    const auto seen = top > -std::numeric_limits<float>::infinity();
    const Vec<float> from = seen ? top : Vec<float>{};
    Vec<float> even{}, odd{};
    for (int64_t j = 0; j < kColumns; j += 2 * kLanes<float>) {
      even += exponential_of_negative(load(z + j) - from);
      odd += exponential_of_negative(load(z + j + kLanes<float>) - from);
    }
    s.total = s.total * exponential_of_negative(s.largest - from) + (even + odd);
    s.largest = top;
    if (label >= 0 && label < kColumns) s.target = z[label];
  }

  // Of a token, over its lanes; nll is the difference to its own logit.
  static float log_sum(const Statistics& s) {
    float top = s.largest[0];
    for (int64_t i = 1; i < kLanes<float>; ++i) top = std::max(top, s.largest[i]);
    const Vec<float> total = s.total * exponential_of_negative(s.largest - top);
    return top + std::log(lane_sum<float>(total));
  }

  void add_gradients() const {
    std::fill_n(sums, tokens * width, 0.0f);
    for_chunks(Packed::both, [&](amx::Tiles& tiles, int64_t row, int64_t m, int64_t column,
                                 int64_t block) {
      alignas(64) float z[kMostRows * kColumns];
      alignas(64) bf16 dz[kMostRows * kColumns];
      logits(tiles, row, m, column, block, z);
      for (int64_t i = 0; i < m; ++i)
        differentiate(row + i, column, z + i * kColumns, dz + i * kColumns);
      amx::multiply(tiles, m, width, {padded(columns_at(column)), {dz, kColumns}, dh_block(block)},
                    sums + row * width, width, Store::add);
    });
  }

  // dz = weight * (softmax(z) - [v = label]); statistics hold the log of the sum in `target`.
  void differentiate(int64_t row, int64_t column, const float* z, bf16* dz) const {
    const float shift = statistics[row].target, weight = weights[active[row]];
    for (int64_t j = 0; j < kColumns; j += kLanes<float>)
      store(dz + j, weight * exponential_of_negative(load(z + j) - shift));
    const int64_t label = labels[active[row]] - column;
    if (label >= 0 && label < columns_at(column))
      dz[label] = bf16(weight * (exponential(z[label] - shift) - 1.0f));
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
                  .sums = reinterpret_cast<float*>(scratch + places.sums),
                  .logits_w = reinterpret_cast<bf16*>(scratch + places.logits_w),
                  .dh_w = reinterpret_cast<bf16*>(scratch + places.dh_w)};
  loss.sum_up();
  auto* nll = ptr<float>(args.out[1]);
  if (nll != nullptr) std::fill_n(nll, tokens, 0.0f);
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    Statistics& s = loss.statistics[i];
    const float log_sum = Loss::log_sum(s), own = log_sum - s.target;
    if (nll != nullptr) nll[active[i]] = own;
    total += static_cast<double>(weights[active[i]]) * static_cast<double>(own);
    s.target = log_sum;
  }
  if (args.out[0]) ptr<float>(args.out[0])[0] = static_cast<float>(total);
  auto* dh = ptr<bf16>(args.out[2]);
  if (dh == nullptr) return;
  loss.add_gradients();
  std::fill_n(dh, tokens * width, bf16(0.0f));
  parallel_pieces(count, rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t d = 0; d < width; d += kLanes<float>)
        store(dh + active[i] * width + d, load(loss.sums + i * width + d));
    }
  });
}

}  // namespace mora::cpu
