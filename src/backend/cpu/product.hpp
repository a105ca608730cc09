// Matrix products behind one interface with several providers. A product is prepared once (a
// library's primitive, its scratch memory) and run many times without allocating.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>

#include "backend/cpu/panel_fill.hpp"
#include "mora/backend/backend.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

enum class Addend { none, result };  // result: C is added to what C holds

// C[m, n] = alpha * op(A) * op(B) (+ C), row-major and contiguous.
struct ProductShape {
  int64_t m, k, n;
  Transpose ta = Transpose::no;
  Transpose tb = Transpose::no;
  double alpha = 1.0;
  Addend addend = Addend::none;
  DType dtype = DType::f32;    // of A
  DType b_dtype = DType::f32;  // may be narrow when A is f32: B is widened, which is exact; and
                               // f32 when A is bf16: B is rounded
  DType c_dtype = DType::f32;  // as A, or f32 when A is bf16
  LastRead last_read = LastRead::soon;
};

class Product {
 public:
  virtual ~Product() = default;
  virtual size_t scratch_bytes() const { return 0; }
  virtual void run(const void* a, const void* b, void* c, void* scratch) const = 0;
};

// C[m, n] = alpha_1 op(A_1) op(B_1) + alpha_2 op(A_2) op(B_2) (+ C)
struct ProductOperands {
  const void *a, *b;
};
class ProductSum {
 public:
  virtual ~ProductSum() = default;
  virtual size_t scratch_bytes() const { return 0; }
  virtual void run(const ProductOperands& first, const ProductOperands& second, void* c,
                   void* scratch) const = 0;
};

// Both of the same m, n, types of A and C, and addend.
std::unique_ptr<ProductSum> prepare_product_sum(const ProductShape& first,
                                                const ProductShape& second,
                                                MatmulProvider provider);

// C[m, n] = fill + alpha op(A) op(B)
class FilledProduct {
 public:
  virtual ~FilledProduct() = default;
  virtual size_t scratch_bytes() const = 0;
  virtual void run(const ProductOperands& operands, const PanelFill& fill, void* c,
                   void* scratch) const = 0;
};
std::unique_ptr<FilledProduct> prepare_filled_product(const ProductShape& shape,
                                                      const FillNeeds& needs,
                                                      MatmulProvider provider);

// Fills all of C[m, n] by itself, in parallel.
class WholeFill {
 public:
  WholeFill(const FillNeeds& needs, int64_t m, int64_t n);
  size_t scratch_bytes() const { return room_bytes_ * static_cast<size_t>(slots_); }
  void run(const PanelFill& fill, void* scratch) const;

 private:
  size_t room_bytes_;
  int64_t m_, n_, slots_;
};

// Never null; empty dimensions, widening and the choice of the provider are handled here.
std::unique_ptr<Product> prepare_product(const ProductShape& shape, MatmulProvider provider);

// The providers. Dimensions are positive. Where m < n they cut C into panels of columns, and B may
// be narrow where A is f32: each panel of it is widened when its turn comes. Elsewhere b_dtype
// equals dtype. onednn_product returns null for what it does not do.
std::unique_ptr<Product> eigen_product(const ProductShape& shape);
std::unique_ptr<Product> onednn_product(const ProductShape& shape);

// Our own. fma_product is for A in f32 and any B; amx_product for A in bf16 where
// multiplies_by_amx(), and B in bf16 or f32, which it rounds.
std::unique_ptr<Product> fma_product(const ProductShape& shape);
std::unique_ptr<Product> amx_product(const ProductShape& shape);
// As amx_product, with a fill.
std::unique_ptr<FilledProduct> amx_filled_product(const ProductShape& shape,
                                                  const FillNeeds& needs);
// Null unless both are stored alike, or unless one has little depth: then they cost what the
// product of both depths costs.
std::unique_ptr<ProductSum> fma_product_sum(const ProductShape& first, const ProductShape& second);
std::unique_ptr<ProductSum> amx_product_sum(const ProductShape& first, const ProductShape& second);

// What of bf16 the processor and ONEDNN_MAX_CPU_ISA leave: instructions for oneDNN, and AMX.
bool onednn_multiplies_bf16();
bool onednn_leaves_amx();
bool multiplies_by_amx();
bool multiplies_by_amx(DType dtype, MatmulProvider provider);  // products of this type

// Rows of values that are narrow, or already floats, `stride` apart, as rows of floats.
struct NarrowRows {
  const void* data;
  DType dtype;
  int64_t rows, columns, stride;
};
void widen(const NarrowRows& from, float* to, int64_t to_stride);

void round_to_bf16(const float* from, int64_t elements, bf16* to);  // in parallel

// Columns [begin, begin + columns) of op(B), widened. Like B the panel is transposed or not; its
// rows are s.k apart, or `panel`, the largest number of columns.
inline void widen_panel(const ProductShape& s, const void* b, int64_t begin, int64_t columns,
                        int64_t panel, float* to) {
  const bool tb = s.tb == Transpose::yes;
  const auto* first = static_cast<const std::byte*>(b) +
                      static_cast<size_t>(begin * (tb ? s.k : 1)) * size_of(s.b_dtype);
  widen({first, s.b_dtype, tb ? columns : s.k, tb ? s.k : columns, tb ? s.k : s.n}, to,
        tb ? s.k : panel);
}

// body(panel, slot) for every panel, in a parallel region. Panels of the same slot follow each
// other, so that a slot can own scratch memory.
template <class Body>
void for_panels(int64_t panels, int64_t slots, const Body& body) {
  std::atomic<int64_t> next = 0;
  parallel_for(std::max<int64_t>(slots, 2), [&](int64_t slot) {
    if (slot >= slots) return;
    for (int64_t panel = next++; panel < panels; panel = next++) body(panel, slot);
  });
}

}  // namespace mora::cpu
