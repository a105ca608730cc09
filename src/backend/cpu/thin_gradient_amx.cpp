// C (+)= alpha * L^T R for an L of few columns, or the transpose of that: the gradient of a thin
// weight. The depth is cut into chunks by its length; each is read once as it lies in memory, and
// their sums are added in order.
#include <algorithm>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

using amx::kTile;
using amx::piece;
using amx::pieces;

constexpr int64_t kMostChunks = 16, kLeastDepth = 256;
constexpr int64_t kMostWide = 1024;  // columns that are packed at once

class AmxThinGradient final : public Product {
 public:
  explicit AmxThinGradient(const ProductShape& s)
      : s_(s),
        transposed_(s.n < s.m),
        thin_(std::min(s.m, s.n)),
        wide_(std::max(s.m, s.n)),
        depth_(std::max(kLeastDepth, piece(s.k, pieces(s.k, kMostChunks), amx::kDepth))),
        columns_(piece(wide_, kMostWide, kTile)) {
    stride_ = pieces(wide_, kTile) * kTile;
    sums_bytes_ = scratch_room(pieces(s.k, depth_) * thin_ * stride_, DType::f32);
    packed_bytes_ = scratch_room(amx::packed_elements(depth_, columns_), DType::bf16);
    slot_bytes_ = packed_bytes_ + scratch_room(thin_ * depth_, DType::bf16);
  }
  size_t scratch_bytes() const override {
    return sums_bytes_ + slot_bytes_ * static_cast<size_t>(slots_);
  }
  void run(const void* a, const void* b, void* c, void* scratch) const override {
    const auto* left = static_cast<const bf16*>(transposed_ ? b : a);
    const auto* right = static_cast<const bf16*>(transposed_ ? a : b);
    auto* sums = static_cast<float*>(scratch);
    auto* slots = static_cast<std::byte*>(scratch) + sums_bytes_;
    const int64_t chunks = pieces(s_.k, depth_);
    for_panels(chunks, slots_, [&](int64_t i, int64_t slot) {
      chunk(left + i * depth_ * thin_, right + i * depth_ * wide_,
            std::min(depth_, s_.k - i * depth_), sums + i * thin_ * stride_,
            slots + static_cast<size_t>(slot) * slot_bytes_);
    });
    if (s_.c_dtype == DType::bf16) return add_up(sums, chunks, static_cast<bf16*>(c));
    add_up(sums, chunks, static_cast<float*>(c));
  }

 private:
  void chunk(const bf16* left, const bf16* right, int64_t k, float* sums, std::byte* room) const {
    auto* packed = reinterpret_cast<bf16*>(room);
    auto* rows = reinterpret_cast<bf16*>(room + packed_bytes_);
    amx::transpose_a({left, thin_}, thin_, k, rows, depth_);
    amx::Tiles tiles;
    for (int64_t j = 0; j < wide_; j += columns_) {
      const int64_t n = std::min(columns_, wide_ - j);
      amx::pack_b(amx::Rows{right + j, wide_}, Transpose::no, k, n, packed);
      amx::multiply(tiles, thin_, n, {k, {rows, depth_}, packed}, sums + j, stride_, Store::assign);
    }
  }

  template <class C>
  void add_up(const float* sums, int64_t chunks, C* c) const {
    const auto alpha = static_cast<float>(s_.alpha);
    const bool adds = s_.addend == Addend::result;
    parallel_pieces(stride_, kTile, [&](int64_t begin, int64_t) {
      for (int64_t i = 0; i < thin_; ++i) {
        Vec<float> sum{};
        for (int64_t n = 0; n < chunks; ++n) sum += load(sums + (n * thin_ + i) * stride_ + begin);
        for (int64_t j = begin; j < std::min(begin + kTile, wide_); ++j) {
          C& to = c[transposed_ ? j * thin_ + i : i * wide_ + j];
          const float x = alpha * sum[j - begin];
          to = value_as<C>(adds ? value_as<float>(to) + x : x);
        }
      }
    });
  }

  ProductShape s_;
  bool transposed_;
  int64_t thin_, wide_, depth_, columns_, stride_ = 0;
  size_t sums_bytes_ = 0, packed_bytes_ = 0, slot_bytes_ = 0;
  int64_t slots_ = thread_count();
};

}  // namespace

std::unique_ptr<Product> amx_thin_gradient(const ProductShape& s) {
  return std::make_unique<AmxThinGradient>(s);
}

}  // namespace mora::cpu
