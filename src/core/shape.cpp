#include "mora/core/shape.hpp"

#include <algorithm>

#include "mora/core/error.hpp"

namespace mora {

size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::f64:
      return 8;
    case DType::i32:
      return 4;
  }
  return 0;
}

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
  }
  return "?";
}

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  ensure(dims.size() <= kMaxRank, "a shape has at most ", kMaxRank, " dimensions, got ",
         dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

namespace {

[[noreturn]] void fail_too_large(const Shape& shape) {
  fail(ErrorKind::memory, "out of memory: a tensor of shape ", shape, " fits no memory");
}

}  // namespace

int64_t Shape::elements() const {
  int64_t n = 1;
  for (int64_t d : dims()) {
    if (__builtin_mul_overflow(n, d, &n)) fail_too_large(*this);
  }
  return n;
}

int64_t Shape::last() const {
  return rank_ == 0 ? 1 : dims_[static_cast<size_t>(rank_ - 1)];
}

int64_t Shape::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
  return n;
}

Shape Shape::with_last(int64_t last) const {
  Shape s = *this;
  ensure(rank_ > 0, "a scalar has no last dimension");
  s.dims_[static_cast<size_t>(rank_ - 1)] = last;
  return s;
}

size_t Type::bytes() const {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(shape.elements(), static_cast<int64_t>(size_of(dtype)), &bytes))
    fail_too_large(shape);
  return static_cast<size_t>(bytes);
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(dims(), other.dims());
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (int i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ']';
}

std::ostream& operator<<(std::ostream& out, const Type& type) {
  return out << type.dtype << type.shape;
}

}  // namespace mora
