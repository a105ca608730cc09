// What products need besides the library's: nothing to sum, and operands in other types.
#include <algorithm>

#include "backend/cuda/convert.hpp"
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/product.hpp"

namespace mora::cuda {

namespace {

// No elements to sum: the result is C, or zero.
class EmptyProduct final : public Product {
 public:
  explicit EmptyProduct(const ProductShape& s)
      : bytes_(static_cast<size_t>(s.m * s.n) * size_of(s.c_dtype)) {}
  void run(const ProductOperands& o, void*) const override {
    if (bytes_ == 0 || o.c == o.d) return;
    if (o.c == nullptr) {
      cudaMemsetAsync(o.d, 0, bytes_, stream());
    } else {
      cudaMemcpyAsync(o.d, o.c, bytes_, cudaMemcpyDeviceToDevice, stream());
    }
  }

 private:
  size_t bytes_;
};

// B is stored in another type than A. Panels of columns of op(B) are converted into scratch memory
// one after the other, and each makes its columns of D.
class ConvertingProduct final : public Product {
 public:
  explicit ConvertingProduct(const ProductShape& s) : s_(s), columns_(panel_columns(s)) {
    ProductShape panel = s;
    panel.b_dtype = s.dtype;
    panel.c_stride = s.n;
    panel.n = columns_;
    whole_ = cublas_product(panel);
    panel.n = s.n % columns_;
    if (panel.n > 0) rest_ = cublas_product(panel);
    converted_bytes_ = scratch_room(s.k * columns_, s.dtype);
  }

  size_t scratch_bytes() const override {
    return converted_bytes_ + std::max(whole_->scratch_bytes(), rest_ ? rest_->scratch_bytes() : 0);
  }

  void run(const ProductOperands& o, void* scratch) const override {
    auto* workspace = static_cast<std::byte*>(scratch) + converted_bytes_;
    for (int64_t first = 0; first < s_.n; first += columns_) {
      const int64_t columns = std::min(columns_, s_.n - first);
      convert_panel(o.b, first, columns, scratch);
      const size_t at = static_cast<size_t>(first) * size_of(s_.c_dtype);
      const auto* c = o.c == nullptr ? nullptr : static_cast<const std::byte*>(o.c) + at;
      (columns == columns_ ? whole_ : rest_)
          ->run({o.a, scratch, c, static_cast<std::byte*>(o.d) + at}, workspace);
    }
  }

 private:
  // As equal as can be; multiples of 64 keep panels aligned.
  static int64_t panel_columns(const ProductShape& s) {
    constexpr int64_t kMostElements = int64_t{1} << 24, kMultiple = 64;
    const int64_t most = std::max(kMostElements / s.k, kMultiple), panels = (s.n + most - 1) / most;
    return std::min(((s.n + panels - 1) / panels + kMultiple - 1) / kMultiple * kMultiple, s.n);
  }

  void convert_panel(const void* b, int64_t first, int64_t columns, void* to) const {
    const bool tb = s_.tb == Transpose::yes;
    const auto* from = static_cast<const std::byte*>(b) +
                       static_cast<size_t>(first * (tb ? s_.k : 1)) * size_of(s_.b_dtype);
    convert_rows({from, s_.b_dtype, tb ? columns : s_.k, tb ? s_.k : columns, tb ? s_.k : s_.n},
                 to);
  }

  ProductShape s_;
  int64_t columns_;
  size_t converted_bytes_;
  std::unique_ptr<Product> whole_, rest_;
};

}  // namespace

std::unique_ptr<Product> prepare_product(const ProductShape& s) {
  if (s.m * s.n == 0 || s.k == 0) return std::make_unique<EmptyProduct>(s);
  if (s.b_dtype != s.dtype) return std::make_unique<ConvertingProduct>(s);
  return cublas_product(s);
}

}  // namespace mora::cuda
