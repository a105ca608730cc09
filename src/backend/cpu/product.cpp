// Chooses a provider and deals with the cases that no provider should have to know.
#include "backend/cpu/product.hpp"

#include <cstring>

#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

// No elements to sum: the result is zero, or unchanged.
class EmptyProduct final : public Product {
 public:
  explicit EmptyProduct(const ProductShape& s) : bytes_(0) {
    if (s.addend == Addend::none) bytes_ = static_cast<size_t>(s.m * s.n) * size_of(s.dtype);
  }
  void run(const void*, const void*, void* c, void*) const override {
    if (bytes_ > 0) std::memset(c, 0, bytes_);
  }

 private:
  size_t bytes_;
};

// B is stored in 16 bits and widened, exactly, into scratch.
template <class Stored>
class WideningProduct final : public Product {
 public:
  WideningProduct(ProductShape s, MatmulProvider provider) : elements_(s.k * s.n) {
    s.b_dtype = s.dtype;
    inner_ = prepare_product(s, provider);
    b_bytes_ = (static_cast<size_t>(elements_) * sizeof(float) + 63) / 64 * 64;
  }
  size_t scratch_bytes() const override { return b_bytes_ + inner_->scratch_bytes(); }
  void run(const void* a, const void* b, void* c, void* scratch) const override {
    const auto* narrow = static_cast<const Stored*>(b);
    auto* wide = static_cast<float*>(scratch);
    parallel_pieces(elements_, kStreamPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) wide[i] = static_cast<float>(narrow[i]);
    });
    inner_->run(a, wide, c, static_cast<std::byte*>(scratch) + b_bytes_);
  }

 private:
  int64_t elements_;
  size_t b_bytes_;
  std::unique_ptr<Product> inner_;
};

// oneDNN wins except where one side is so thin that its blocking has nothing to work on
// (docs/performance.md).
bool suits_onednn(const ProductShape& s) {
  return std::min(s.m, s.n) >= 16;
}

}  // namespace

std::unique_ptr<Product> prepare_product(const ProductShape& s, MatmulProvider provider) {
  if (s.m * s.n == 0 || s.k == 0) return std::make_unique<EmptyProduct>(s);
  if (s.b_dtype == DType::bf16) return std::make_unique<WideningProduct<bf16>>(s, provider);
  if (s.b_dtype == DType::f16) return std::make_unique<WideningProduct<f16>>(s, provider);
  const bool try_onednn = provider == MatmulProvider::onednn ||
                          (provider == MatmulProvider::automatic && suits_onednn(s));
  std::unique_ptr<Product> product;
  if (try_onednn) product = onednn_product(s);
  if (!product) product = eigen_product(s);
  return product;
}

}  // namespace mora::cpu
