// Chooses a provider and deals with the cases that no provider should have to know.
#include "backend/cpu/product.hpp"

#include <cstring>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
#include "backend/cpu/simd.hpp"
#include "backend/cpu/thin_gradient.hpp"
#include "mora/core/parallel.hpp"

namespace mora {

std::string_view multiplier_of_bf16() {
  if (cpu::multiplies_by_amx()) return "AMX";
  return cpu::onednn_multiplies_bf16() ? "oneDNN" : "";
}

namespace cpu {

namespace {

// No elements to sum: the result is zero, or unchanged.
class EmptyProduct final : public Product {
 public:
  explicit EmptyProduct(const ProductShape& s) : bytes_(0) {
    if (s.addend == Addend::none) bytes_ = static_cast<size_t>(s.m * s.n) * size_of(s.c_dtype);
  }
  void run(const void*, const void*, void* c, void*) const override {
    if (bytes_ > 0) std::memset(c, 0, bytes_);
  }

 private:
  size_t bytes_;
};

// Elements of a narrow type in a row.
void widen_all(const void* from, DType narrow, int64_t elements, float* to) {
  const auto* data = static_cast<const std::byte*>(from);
  parallel_pieces(elements, kStreamPiece, [&](int64_t begin, int64_t end) {
    widen({data + static_cast<size_t>(begin) * size_of(narrow), narrow, 1, end - begin, 0},
          to + begin, 0);
  });
}

// B is narrow and no larger than A (m >= n): widened as a whole into scratch.
class WideningProduct final : public Product {
 public:
  WideningProduct(ProductShape s, MatmulProvider provider) : k_(s.k), n_(s.n), narrow_(s.b_dtype) {
    s.b_dtype = s.dtype;
    inner_ = prepare_product(s, provider);
    b_bytes_ = scratch_room(k_ * n_, DType::f32);
  }
  size_t scratch_bytes() const override { return b_bytes_ + inner_->scratch_bytes(); }
  void run(const void* a, const void* b, void* c, void* scratch) const override {
    auto* wide = static_cast<float*>(scratch);
    widen_all(b, narrow_, k_ * n_, wide);
    inner_->run(a, wide, c, static_cast<std::byte*>(scratch) + b_bytes_);
  }

 private:
  int64_t k_, n_;
  DType narrow_;
  size_t b_bytes_;
  std::unique_ptr<Product> inner_;
};

// A is bf16 and B is f32: B is rounded as a whole into scratch.
class NarrowingProduct final : public Product {
 public:
  NarrowingProduct(ProductShape s, MatmulProvider provider) : elements_(s.k * s.n) {
    s.b_dtype = DType::bf16;
    inner_ = prepare_product(s, provider);
    b_bytes_ = scratch_room(elements_, DType::bf16);
  }
  size_t scratch_bytes() const override { return b_bytes_ + inner_->scratch_bytes(); }
  void run(const void* a, const void* b, void* c, void* scratch) const override {
    round_to_bf16(static_cast<const float*>(b), elements_, static_cast<bf16*>(scratch));
    inner_->run(a, scratch, c, static_cast<std::byte*>(scratch) + b_bytes_);
  }

 private:
  int64_t elements_;
  size_t b_bytes_;
  std::unique_ptr<Product> inner_;
};

// bf16 times bf16 where nothing multiplies that: in f32, over storage in bf16.
class EmulatedProduct final : public Product {
 public:
  EmulatedProduct(ProductShape s, MatmulProvider provider) : s_(s) {
    s.dtype = s.b_dtype = s.c_dtype = DType::f32;
    inner_ = prepare_product(s, provider);
    a_bytes_ = scratch_room(s.m * s.k, DType::f32);
    b_bytes_ = scratch_room(s.k * s.n, DType::f32);
    c_bytes_ = s_.c_dtype == DType::bf16 ? scratch_room(s.m * s.n, DType::f32) : 0;
  }
  size_t scratch_bytes() const override {
    return a_bytes_ + b_bytes_ + c_bytes_ + inner_->scratch_bytes();
  }
  void run(const void* a, const void* b, void* c, void* scratch) const override {
    auto* at = static_cast<std::byte*>(scratch);
    auto *wide_a = reinterpret_cast<float*>(at), *wide_b = reinterpret_cast<float*>(at + a_bytes_),
         *wide_c = reinterpret_cast<float*>(at + a_bytes_ + b_bytes_);
    auto* rest = at + a_bytes_ + b_bytes_ + c_bytes_;
    widen_all(a, DType::bf16, s_.m * s_.k, wide_a);
    widen_all(b, DType::bf16, s_.k * s_.n, wide_b);
    if (c_bytes_ == 0) return inner_->run(wide_a, wide_b, c, rest);
    if (s_.addend == Addend::result) widen_all(c, DType::bf16, s_.m * s_.n, wide_c);
    inner_->run(wide_a, wide_b, wide_c, rest);
    round_to_bf16(wide_c, s_.m * s_.n, static_cast<bf16*>(c));
  }

 private:
  ProductShape s_;
  size_t a_bytes_, b_bytes_, c_bytes_;
  std::unique_ptr<Product> inner_;
};

template <class T>
void widen_rows(const NarrowRows& from, float* to, int64_t to_stride) {
  const auto* data = static_cast<const T*>(from.data);
  for (int64_t r = 0; r < from.rows; ++r) {
    for (int64_t i = 0; i < from.columns; ++i)
      to[r * to_stride + i] = static_cast<float>(data[r * from.stride + i]);
  }
}

bool suits_thin_gradient(const ProductShape& s, MatmulProvider provider) {
  return s.dtype == DType::f32 && s.b_dtype == s.dtype && provider == MatmulProvider::automatic &&
         s.ta == Transpose::yes && s.tb == Transpose::no && std::min(s.m, s.n) <= kMostThin;
}

// Of fewer rows or columns packing takes longer than Eigen needs (docs/performance.md).
bool suits_fma(const ProductShape& s, MatmulProvider provider) {
  return s.dtype == DType::f32 && provider == MatmulProvider::automatic && s.m >= 16 && s.n >= 4;
}

bool suits_amx(const ProductShape& s, MatmulProvider provider) {
  return multiplies_by_amx(s.dtype, provider);
}

// One after the other.
class TwoProducts final : public ProductSum {
 public:
  TwoProducts(const ProductShape& first, ProductShape second, MatmulProvider provider)
      : first_(prepare_product(first, provider)) {
    second.addend = Addend::result;
    second_ = prepare_product(second, provider);
  }
  size_t scratch_bytes() const override {
    return std::max(first_->scratch_bytes(), second_->scratch_bytes());
  }
  void run(const ProductOperands& first, const ProductOperands& second, void* c,
           void* scratch) const override {
    first_->run(first.a, first.b, c, scratch);
    second_->run(second.a, second.b, c, scratch);
  }

 private:
  std::unique_ptr<Product> first_, second_;
};

// For providers that do not ask for panels: in f32 those cost more than they save
// (docs/performance.md).
class FillThenMultiply final : public FilledProduct {
 public:
  FillThenMultiply(const ProductShape& s, const FillNeeds& needs, MatmulProvider provider)
      : whole_(needs, s.m, s.n), product_(prepare_product(s, provider)) {}
  size_t scratch_bytes() const override {
    return std::max(whole_.scratch_bytes(), product_->scratch_bytes());
  }
  void run(const ProductOperands& operands, const PanelFill& fill, void* c,
           void* scratch) const override {
    whole_.run(fill, scratch);
    product_->run(operands.a, operands.b, c, scratch);
  }

 private:
  WholeFill whole_;
  std::unique_ptr<Product> product_;
};

constexpr int64_t kFilledRows = 64;

}  // namespace

WholeFill::WholeFill(const FillNeeds& needs, int64_t m, int64_t n)
    : room_bytes_(needs.room_bytes),
      m_(m),
      n_(n),
      slots_(std::min<int64_t>(pieces(m, kFilledRows), thread_count())) {}

void WholeFill::run(const PanelFill& fill, void* scratch) const {
  for_panels(pieces(m_, kFilledRows), slots_, [&](int64_t panel, int64_t slot) {
    const int64_t row = panel * kFilledRows;
    fill.fill({row, std::min(kFilledRows, m_ - row), 0, n_},
              static_cast<std::byte*>(scratch) + static_cast<size_t>(slot) * room_bytes_);
  });
}

std::unique_ptr<FilledProduct> prepare_filled_product(const ProductShape& shape,
                                                      const FillNeeds& needs,
                                                      MatmulProvider provider) {
  ProductShape s = shape;
  s.addend = Addend::result;
  const bool empty = s.m * s.n == 0 || s.k == 0;
  if (!empty && suits_amx(s, provider)) return amx_filled_product(s, needs);
  return std::make_unique<FillThenMultiply>(s, needs, provider);
}

std::unique_ptr<ProductSum> prepare_product_sum(const ProductShape& first,
                                                const ProductShape& second,
                                                MatmulProvider provider) {
  std::unique_ptr<ProductSum> sum;
  const bool empty = first.m * first.n == 0 || first.k == 0 || second.k == 0;
  if (!empty && suits_amx(first, provider)) sum = amx_product_sum(first, second);
  if (!empty && suits_fma(first, provider)) sum = fma_product_sum(first, second);
  if (!sum) sum = std::make_unique<TwoProducts>(first, second, provider);
  return sum;
}

bool multiplies_by_amx() {
  return amx::available() && onednn_leaves_amx();
}

bool multiplies_by_amx(DType dtype, MatmulProvider provider) {
  return dtype == DType::bf16 && provider == MatmulProvider::automatic && multiplies_by_amx();
}

void round_to_bf16(const float* from, int64_t elements, bf16* to) {
  parallel_pieces(elements, kStreamPiece, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes<float> <= end; i += kLanes<float>) store(to + i, load(from + i));
    for (; i < end; ++i) to[i] = bf16(from[i]);
  });
}

void widen(const NarrowRows& from, float* to, int64_t to_stride) {
  if (from.dtype == DType::f32) return widen_rows<float>(from, to, to_stride);
  if (from.dtype == DType::bf16) return widen_rows<bf16>(from, to, to_stride);
  widen_rows<f16>(from, to, to_stride);
}

std::unique_ptr<Product> prepare_product(const ProductShape& s, MatmulProvider provider) {
  if (s.m * s.n == 0 || s.k == 0) return std::make_unique<EmptyProduct>(s);
  if (s.dtype == DType::bf16) {
    if (suits_amx(s, provider)) return amx_product(s);
    if (s.b_dtype != s.dtype) return std::make_unique<NarrowingProduct>(s, provider);
    if (provider != MatmulProvider::eigen && onednn_multiplies_bf16()) return onednn_product(s);
    return std::make_unique<EmulatedProduct>(s, provider);
  }
  if (suits_thin_gradient(s, provider)) return thin_gradient(s);
  if (suits_fma(s, provider)) return fma_product(s);
  if (s.b_dtype != s.dtype && s.m >= s.n) return std::make_unique<WideningProduct>(s, provider);
  std::unique_ptr<Product> product;
  if (provider == MatmulProvider::onednn) product = onednn_product(s);
  if (!product) product = eigen_product(s);
  return product;
}

}  // namespace cpu

}  // namespace mora
