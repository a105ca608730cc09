// C (+)= alpha * L^T R for an L of few columns, or the transpose of that: the gradient of a thin
// weight. The depth is cut into chunks by its length; each is read once as it lies in memory, and
// their sums are added in order.
#pragma once

#include "backend/cpu/product.hpp"

namespace mora::cpu {

class ThinGradient : public Product {
 public:
  // A of s is transposed, B is not and has A's type.
  explicit ThinGradient(const ProductShape& s);

  size_t scratch_bytes() const override;
  void run(const void* a, const void* b, void* c, void* scratch) const override;

 protected:
  // sums[thin, wide] = L^T R of k tokens, rows of `sums` stride() apart, which may be filled up to
  // there; `room` has room_bytes() of the derived class.
  virtual void chunk(const void* left, const void* right, int64_t k, float* sums,
                     std::byte* room) const = 0;
  virtual size_t room_bytes() const = 0;

  int64_t thin() const { return thin_; }
  int64_t wide() const { return wide_; }
  int64_t depth() const { return depth_; }  // the most tokens of a chunk
  int64_t stride() const { return stride_; }

 private:
  template <class C>
  void add_up(const float* sums, int64_t chunks, C* c) const;

  ProductShape s_;
  bool transposed_;  // C is R^T L
  int64_t thin_, wide_, depth_, stride_;
  size_t sums_bytes_;
  int64_t slots_ = thread_count();
};

// In f32, m or n at most kMostThin; in bf16 by AMX, and where both are small beside the depth.
constexpr int64_t kMostThin = 16;
std::unique_ptr<Product> thin_gradient(const ProductShape& s);
std::unique_ptr<Product> amx_thin_gradient(const ProductShape& s);

}  // namespace mora::cpu
