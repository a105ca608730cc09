#include "backend/cpu/thin_gradient.hpp"

#include <algorithm>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
#include "backend/cpu/simd.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kMostChunks = 16, kLeastDepth = 256, kDepthStep = 32;
constexpr int64_t kLane = kLanes<float>;

}  // namespace

ThinGradient::ThinGradient(const ProductShape& s)
    : s_(s),
      transposed_(s.n < s.m),
      thin_(std::min(s.m, s.n)),
      wide_(std::max(s.m, s.n)),
      depth_(std::max(kLeastDepth, rounded_up(pieces(s.k, kMostChunks), kDepthStep))),
      stride_(rounded_up(wide_, kLane)),
      sums_bytes_(scratch_room(pieces(s.k, depth_) * thin_ * stride_, DType::f32)) {}

size_t ThinGradient::scratch_bytes() const {
  return sums_bytes_ + room_bytes() * static_cast<size_t>(slots_);
}

void ThinGradient::run(const void* a, const void* b, void* c, void* scratch) const {
  const auto* left = static_cast<const std::byte*>(transposed_ ? b : a);
  const auto* right = static_cast<const std::byte*>(transposed_ ? a : b);
  auto* sums = static_cast<float*>(scratch);
  auto* rooms = static_cast<std::byte*>(scratch) + sums_bytes_;
  const int64_t chunks = pieces(s_.k, depth_);
  for_panels(chunks, slots_, [&](int64_t i, int64_t slot) {
    const size_t before = static_cast<size_t>(i * depth_) * size_of(s_.dtype);
    chunk(left + before * static_cast<size_t>(thin_), right + before * static_cast<size_t>(wide_),
          std::min(depth_, s_.k - i * depth_), sums + i * thin_ * stride_,
          rooms + static_cast<size_t>(slot) * room_bytes());
  });
  if (s_.c_dtype == DType::bf16) return add_up(sums, chunks, static_cast<bf16*>(c));
  add_up(sums, chunks, static_cast<float*>(c));
}

template <class C>
void ThinGradient::add_up(const float* sums, int64_t chunks, C* c) const {
  const auto alpha = static_cast<float>(s_.alpha);
  const bool adds = s_.addend == Addend::result;
  parallel_pieces(stride_, kLane, [&](int64_t begin, int64_t) {
    for (int64_t i = 0; i < thin_; ++i) {
      Vec<float> sum{};
      for (int64_t n = 0; n < chunks; ++n) sum += load(sums + (n * thin_ + i) * stride_ + begin);
      for (int64_t j = begin; j < std::min(begin + kLane, wide_); ++j) {
        C& to = c[transposed_ ? j * thin_ + i : i * wide_ + j];
        const float x = alpha * sum[j - begin];
        to = value_as<C>(adds ? value_as<float>(to) + x : x);
      }
    }
  });
}

namespace {

// Few tokens at a time, so that they stay in the cache while all blocks of columns of L see them;
// the sums of a block of columns and a vector of R are in registers.
class VectorThinGradient final : public ThinGradient {
 public:
  using ThinGradient::ThinGradient;

 private:
  static constexpr int64_t kTokens = 16, kBlock = 8;

  size_t room_bytes() const override {
    return scratch_room(rounded_up(thin(), kBlock) * depth(), DType::f32);
  }

  void chunk(const void* left, const void* right, int64_t k, float* sums,
             std::byte* room) const override {
    auto* blocks = reinterpret_cast<float*>(room);
    pack(static_cast<const float*>(left), k, blocks);
    std::fill_n(sums, thin() * stride(), 0.0f);
    for (int64_t t = 0; t < k; t += kTokens) {
      const int64_t tokens = std::min(kTokens, k - t);
      const float* rows = static_cast<const float*>(right) + t * wide();
      for (int64_t i = 0; i < thin(); i += kBlock) {
        const float* block = blocks + i * k + t * kBlock;
        const int64_t n = std::min(kBlock, thin() - i);
        for (int64_t j = 0; j < wide(); j += kLane)
          add(block, rows + j, tokens, std::min(kLane, wide() - j), sums + i * stride() + j, n);
      }
    }
  }

  // Blocks of columns of L, each with the numbers of a token side by side, and zeros behind the
  // last.
  void pack(const float* left, int64_t k, float* blocks) const {
    for (int64_t i = 0; i < thin(); i += kBlock) {
      for (int64_t t = 0; t < k; ++t) {
        for (int64_t r = 0; r < kBlock; ++r)
          *blocks++ = i + r < thin() ? left[t * thin() + i + r] : 0.0f;
      }
    }
  }

  // `n` rows of sums and `columns` of a vector.
  void add(const float* block, const float* rows, int64_t tokens, int64_t columns, float* sums,
           int64_t n) const {
    Vec<float> sum[kBlock]{};
    for (int64_t r = 0; r < n; ++r) sum[r] = load(sums + r * stride());
    for (int64_t t = 0; t < tokens; ++t) {
      __builtin_prefetch(rows + (tokens + t) * wide());
      const Vec<float> v = load(rows + t * wide(), columns);
      for (int64_t r = 0; r < kBlock; ++r) sum[r] += block[t * kBlock + r] * v;
    }
    for (int64_t r = 0; r < n; ++r) store(sums + r * stride(), sum[r]);
  }
};

}  // namespace

std::unique_ptr<Product> thin_gradient(const ProductShape& s) {
  return std::make_unique<VectorThinGradient>(s);
}

}  // namespace mora::cpu
