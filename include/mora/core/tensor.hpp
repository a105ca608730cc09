// Tensor: a view of contiguous row-major bytes owned by somebody else (a Buffer, a mapped file, a
// plan's arena).
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "mora/core/error.hpp"
#include "mora/core/shape.hpp"

namespace mora {

struct Tensor {
  void* data = nullptr;
  Type type;

  const Shape& shape() const { return type.shape; }
  DType dtype() const { return type.dtype; }
  int64_t elements() const { return type.shape.elements(); }
  size_t bytes() const { return type.bytes(); }
  explicit operator bool() const { return data != nullptr; }

  // The elements as T; T must be the tensor's own type.
  template <class T>
  std::span<T> as() const {
    ensure(dtype_of<T>() == type.dtype, "tensor is ", type, ", not ", dtype_of<T>());
    return {static_cast<T*>(data), static_cast<size_t>(elements())};
  }
};

// Error(memory) when the system has not got so many bytes. Asked before a large block is touched:
// the system would grant more than it has, and end the process later.
void require_memory(size_t bytes);

// none: for what is written at once; its pages are not touched before that, so that the threads
// which write them share the cost.
enum class Fill { zeros, none };

// Owned memory, 64-byte aligned (a cache line and an AVX-512 register).
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes,
                  Fill fill = Fill::zeros);  // throws Error(memory) when the system has not got it

  void* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  size_t bytes_ = 0;
};

// A tensor that owns its bytes: parameters, batches, test data.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  explicit OwnedTensor(Type type, Fill fill = Fill::zeros)
      : buffer_(type.bytes(), fill), type_(type) {}

  Tensor view() const { return {buffer_.data(), type_}; }
  template <class T>
  std::span<T> as() const {
    return view().as<T>();
  }

 private:
  Buffer buffer_;
  Type type_;
};

// Converts element by element between f32, bf16, f16 and f64 (through double; exact where the
// target can hold the value).
void convert(const Tensor& from, const Tensor& to);

}  // namespace mora
