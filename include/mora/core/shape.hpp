// Shape: up to four dimensions, a plain value. Tensors are contiguous and row-major everywhere; the
// last dimension is the feature, and all leading dimensions flatten to rows.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "mora/core/dtype.hpp"

namespace mora {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }

  int64_t elements() const;  // product of all; 1 for rank 0; Error(memory) beyond 63 bits
  int64_t last() const;      // the feature dimension; 1 for rank 0
  int64_t rows() const;      // product of all but the last; 1 for rank 0
  Shape with_last(int64_t last) const;

  bool operator==(const Shape& other) const;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);  // "[4, 128, 512]"

// What a tensor is, without its bytes.
struct Type {
  DType dtype = DType::f32;
  Shape shape;

  size_t bytes() const;  // Error(memory) beyond 63 bits
  bool operator==(const Type&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Type& type);  // "f32[4, 128]"

}  // namespace mora
