// Tensor: a view of contiguous row-major bytes owned by somebody else (a Buffer, a mapped file, a
// plan's arena).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

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

// none: for what is written at once; its pages are not touched before that, so that the threads
// which write them share the cost.
enum class Fill { zeros, none };

// Where Buffers get their bytes: the system, unless a backend brings memory that its kernels and
// the program both reach at the same address.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual void* allocate(size_t bytes, Fill fill) = 0;  // 64-byte aligned; Error(memory)
  virtual void release(void* data) = 0;
  virtual size_t available() const = 0;       // bytes
  virtual std::string_view name() const = 0;  // whose memory, for messages
};

// What Buffers that this thread makes while it lives are taken from; null: the system. The newest
// counts. Buffers keep the source they came from.
class UseMemory {
 public:
  explicit UseMemory(std::shared_ptr<MemorySource> source);
  ~UseMemory();
  UseMemory(const UseMemory&) = delete;
  UseMemory& operator=(const UseMemory&) = delete;

 private:
  std::shared_ptr<MemorySource> before_;
};

// Error(memory) when there are not so many bytes. Asked before a large block is touched: the system
// would grant more than it has, and end the process later.
void require_memory(size_t bytes);

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
    std::shared_ptr<MemorySource> source;  // null: the system
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
