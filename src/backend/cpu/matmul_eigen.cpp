// The portable provider: Eigen's product on panels of rows or columns, one panel per thread at a
// time. The panels depend on the shape only, so the bits do not depend on the number of threads.
//
// Eigen packs into stack memory up to the limit below and would call malloc beyond it; its own
// threads allocate, too.
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_STACK_ALLOCATION_LIMIT (4 << 20)
#include <Eigen/Core>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
#include "backend/cpu/product.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Input = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;
template <class T>
using Output = Eigen::Map<Matrix<T>, 0, Eigen::OuterStride<>>;

int64_t panel_size(int64_t side) {
  return std::clamp<int64_t>(rounded_up(pieces(side, 8), 16), 32, 256);
}

template <class T>
class EigenProduct final : public Product {
 public:
  explicit EigenProduct(const ProductShape& s) : s_(s) {
    if (!is_narrow(s.b_dtype)) return;
    slot_bytes_ = scratch_room(panel_size(s.n) * s.k, DType::f32);
  }

  size_t scratch_bytes() const override { return slot_bytes_ * static_cast<size_t>(slots_); }

  void run(const void* a, const void* b, void* c, void* scratch) const override {
    const auto* pa = static_cast<const T*>(a);
    auto* pc = static_cast<T*>(c);
    if (is_narrow(s_.b_dtype)) return run_narrow(pa, b, pc, static_cast<std::byte*>(scratch));
    const auto* pb = static_cast<const T*>(b);
    if (s_.m >= s_.n) {
      parallel_pieces(s_.m, panel_size(s_.m), [&](int64_t begin, int64_t end) {
        const int64_t rows = end - begin;
        Output<T> out(pc + begin * s_.n, rows, s_.n, Eigen::OuterStride<>(s_.n));
        if (s_.ta == Transpose::no) {
          multiply(Input<T>(pa + begin * s_.k, rows, s_.k, Eigen::OuterStride<>(s_.k)), whole_b(pb),
                   out);
        } else {
          multiply(Input<T>(pa + begin, s_.k, rows, Eigen::OuterStride<>(s_.m)), whole_b(pb), out);
        }
      });
    } else {
      parallel_pieces(s_.n, panel_size(s_.n), [&](int64_t begin, int64_t end) {
        const bool tb = s_.tb == Transpose::yes;
        column_panel(pa, pb + begin * (tb ? s_.k : 1), tb ? s_.k : s_.n, pc, begin, end - begin);
      });
    }
  }

 private:
  // `b`: the panel's part of B, its rows `stride` apart.
  void column_panel(const T* a, const T* b, int64_t stride, T* c, int64_t begin,
                    int64_t columns) const {
    Output<T> out(c + begin, s_.m, columns, Eigen::OuterStride<>(s_.n));
    const bool tb = s_.tb == Transpose::yes;
    multiply(whole_a(a),
             Input<T>(b, tb ? columns : s_.k, tb ? s_.k : columns, Eigen::OuterStride<>(stride)),
             out);
  }

  void run_narrow(const T* a, const void* b, T* c, std::byte* scratch) const {
    const int64_t size = panel_size(s_.n);
    for_panels(pieces(s_.n, size), slots_, [&](int64_t i, int64_t slot) {
      auto* wide = reinterpret_cast<float*>(scratch + static_cast<size_t>(slot) * slot_bytes_);
      const int64_t begin = i * size, columns = std::min(size, s_.n - begin);
      widen_panel(s_, b, begin, columns, size, wide);
      if constexpr (std::is_same_v<T, float>)
        column_panel(a, wide, s_.tb == Transpose::yes ? s_.k : size, c, begin, columns);
    });
  }

  Input<T> whole_a(const T* a) const {
    return s_.ta == Transpose::no ? Input<T>(a, s_.m, s_.k, Eigen::OuterStride<>(s_.k))
                                  : Input<T>(a, s_.k, s_.m, Eigen::OuterStride<>(s_.m));
  }
  Input<T> whole_b(const T* b) const {
    return s_.tb == Transpose::no ? Input<T>(b, s_.k, s_.n, Eigen::OuterStride<>(s_.n))
                                  : Input<T>(b, s_.n, s_.k, Eigen::OuterStride<>(s_.k));
  }

  void multiply(const Input<T>& a, const Input<T>& b, Output<T>& out) const {
    if (s_.addend == Addend::none) out.setZero();
    const T alpha = static_cast<T>(s_.alpha);
    const bool ta = s_.ta == Transpose::yes, tb = s_.tb == Transpose::yes;
    if (!ta && !tb) out.noalias() += alpha * a * b;
    if (!ta && tb) out.noalias() += alpha * a * b.transpose();
    if (ta && !tb) out.noalias() += alpha * a.transpose() * b;
    if (ta && tb) out.noalias() += alpha * a.transpose() * b.transpose();
  }

  ProductShape s_;
  int64_t slots_ = thread_count();
  size_t slot_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Product> eigen_product(const ProductShape& s) {
  if (s.dtype == DType::f64) return std::make_unique<EigenProduct<double>>(s);
  return std::make_unique<EigenProduct<float>>(s);
}

}  // namespace mora::cpu
