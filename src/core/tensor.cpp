#include "mora/core/tensor.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/memory.hpp"

namespace mora {

namespace {

constexpr size_t kAlignment = 64;

// Smaller blocks are not worth asking the system for each, nor large pages, of which the last is
// rarely full.
constexpr size_t kSmall = size_t{16} << 20, kLargePage = size_t{2} << 20;

thread_local std::shared_ptr<MemorySource> current_source;

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
  const size_t available = current_source ? current_source->available() : available_memory();
  if (bytes <= available) return;
  fail(ErrorKind::memory, "out of memory: ", gibibytes(bytes), " are needed, ",
       gibibytes(available), " are available",
       current_source ? str(" in ", current_source->name()) : "",
       "; use a smaller model, batch or sequence length");
}

UseMemory::UseMemory(std::shared_ptr<MemorySource> source)
    : before_(std::exchange(current_source, std::move(source))) {}
UseMemory::~UseMemory() {
  current_source = std::move(before_);
}

namespace {

void* system_memory(size_t bytes, Fill fill) {
  const size_t alignment = bytes < kSmall ? kAlignment : kLargePage;
  void* data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (data == nullptr) {
    fail(ErrorKind::memory, "out of memory: the system refused a block of ", bytes >> 20, " MiB");
  }
  // Fewer addresses to translate: a matter of speed, and no error when refused.
  if (alignment == kLargePage) ::madvise(data, bytes, MADV_HUGEPAGE);
  if (fill == Fill::zeros) std::memset(data, 0, bytes);
  return data;
}

}  // namespace

Buffer::Buffer(size_t bytes, Fill fill) : bytes_(bytes) {
  require_memory(bytes);
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  data_ = {current_source ? current_source->allocate(rounded, fill) : system_memory(rounded, fill),
           Free{current_source}};
}

void Buffer::Free::operator()(void* p) const {
  if (source) return source->release(p);
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
