#include "mora/core/tensor.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/memory.hpp"

namespace mora {

namespace {

constexpr size_t kAlignment = 64;

// Smaller blocks are not worth asking the system for each, nor large pages, of which the last is
// rarely full.
constexpr size_t kSmall = size_t{16} << 20, kLargePage = size_t{2} << 20;

std::string gibibytes(size_t bytes) {
  const size_t tenths = (bytes >> 20) * 10 / 1024;
  return str(tenths / 10, ".", tenths % 10, " GiB");
}

template <class From, class To>
void convert_elements(const Tensor& from, const Tensor& to) {
  auto source = from.as<From>();
  auto target = to.as<To>();
  for (size_t i = 0; i < source.size(); ++i) target[i] = value_as<To>(source[i]);
}

template <class From>
void convert_from(const Tensor& from, const Tensor& to) {
  switch (to.dtype()) {
    case DType::f32:
      return convert_elements<From, float>(from, to);
    case DType::bf16:
      return convert_elements<From, bf16>(from, to);
    case DType::f16:
      return convert_elements<From, f16>(from, to);
    case DType::f64:
      return convert_elements<From, double>(from, to);
    case DType::i32:
      break;
  }
  ensure(false, "cannot convert ", from.type, " to ", to.type);
}

}  // namespace

void require_memory(size_t bytes) {
  if (bytes <= kSmall) return;
  if (const size_t available = available_memory(); bytes > available) {
    fail(ErrorKind::memory, "out of memory: ", gibibytes(bytes), " are needed, ",
         gibibytes(available), " are available; use a smaller model, batch or sequence length");
  }
}

Buffer::Buffer(size_t bytes, Fill fill) : bytes_(bytes) {
  require_memory(bytes);
  const size_t alignment = bytes < kSmall ? kAlignment : kLargePage;
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  data_.reset(std::aligned_alloc(alignment, (rounded + alignment - 1) / alignment * alignment));
  if (!data_) {
    fail(ErrorKind::memory, "out of memory: the system refused a block of ", bytes >> 20, " MiB");
  }
  // Fewer addresses to translate: a matter of speed, and no error when refused.
  if (alignment == kLargePage) ::madvise(data_.get(), rounded, MADV_HUGEPAGE);
  if (fill == Fill::zeros) std::memset(data_.get(), 0, rounded);
}

void Buffer::Free::operator()(void* p) const {
  std::free(p);
}

void convert(const Tensor& from, const Tensor& to) {
  ensure(from.elements() == to.elements(), "convert: ", from.type, " to ", to.type);
  switch (from.dtype()) {
    case DType::f32:
      return convert_from<float>(from, to);
    case DType::bf16:
      return convert_from<bf16>(from, to);
    case DType::f16:
      return convert_from<f16>(from, to);
    case DType::f64:
      return convert_from<double>(from, to);
    case DType::i32:
      break;
  }
  ensure(false, "cannot convert ", from.type, " to ", to.type);
}

}  // namespace mora
