// Safetensors: the map is only touched through spans that the checked header has placed inside it.
// Tensors are read from the file into their place, past the map, so that they are in memory once.
#include "mora/io/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <exception>
#include <mutex>

#include "io/safetensors_header.hpp"
#include "io/system.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/text.hpp"

namespace mora {

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian");

namespace {

constexpr size_t kLengthBytes = 8;
constexpr int64_t kGrain = 1 << 18;  // elements that one thread reads at a time
constexpr size_t kScratch = 4096;    // elements on the stack

// One element type of a file: its size and the core type that its elements unpack to.
struct Source {
  std::string_view name;
  size_t size;
  DType unpacked;
};

const Source* find_source(std::string_view dtype) {
  static constexpr std::array<Source, 5> kSources = {{{"F32", 4, DType::f32},
                                                      {"F16", 2, DType::f16},
                                                      {"BF16", 2, DType::bf16},
                                                      {"F64", 8, DType::f64},
                                                      {"I32", 4, DType::i32}}};
  const auto* found = std::ranges::find(kSources, dtype, &Source::name);
  return found == kSources.end() ? nullptr : found;
}

// Elements [begin, end) of `into` from those of the file at `offset`, by way of aligned scratch.
void convert_piece(const Source& source, const MappedFile& file, size_t offset, const Tensor& into,
                   int64_t begin, int64_t end) {
  alignas(64) std::array<std::byte, kScratch * sizeof(double)> raw;
  for (int64_t at = begin; at < end; at += static_cast<int64_t>(kScratch)) {
    const int64_t n = std::min(static_cast<int64_t>(kScratch), end - at);
    const auto first = static_cast<size_t>(at);
    file.copy(offset + first * source.size,
              std::span(raw).first(static_cast<size_t>(n) * source.size));
    std::byte* to = static_cast<std::byte*>(into.data) + first * size_of(into.dtype());
    convert({raw.data(), {source.unpacked, Shape{n}}}, {to, {into.dtype(), Shape{n}}});
  }
}

// Keeps the first error of a parallel loop, out of which none may be thrown.
class FirstError {
 public:
  template <class Body>
  void guard(const Body& body) {
    try {
      body();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

std::ostream& operator<<(std::ostream& out, const TensorInfo& info) {
  out << info.dtype << '[';
  for (size_t i = 0; i < info.shape.size(); ++i) out << (i > 0 ? ", " : "") << info.shape[i];
  return out << ']';
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), map_(path) {
  const auto bytes = map_.bytes();
  uint64_t length = 0;
  if (bytes.size() < kLengthBytes) {
    fail(ErrorKind::data, shown(path), ": ", bytes.size(),
         " bytes are too few for a safetensors file; it is truncated");
  }
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader || length > bytes.size() - kLengthBytes) {
    fail(ErrorKind::data, shown(path), ": claims a header of ", length, " bytes (the file has ",
         bytes.size(), ", the limit is ", kMaxSafetensorsHeader,
         "); it is truncated or no safetensors file");
  }
  data_begin_ = kLengthBytes + static_cast<size_t>(length);
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                              static_cast<size_t>(length));
  auto header = parse_safetensors_header(json, bytes.size() - data_begin_, shown(path));
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

const TensorInfo& SafetensorsFile::info(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    fail(ErrorKind::data, shown(path_), ": no tensor \"", printable(name), "\"");
  }
  return found->second;
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
  const TensorInfo& tensor = info(name);
  return map_.bytes().subspan(data_begin_ + static_cast<size_t>(tensor.begin),
                              static_cast<size_t>(tensor.end - tensor.begin));
}

void SafetensorsFile::read(const std::string& name, const Tensor& into) const {
  const TensorInfo& tensor = info(name);
  const auto wrong = [&](const auto&... problem) {
    fail(ErrorKind::data, shown(path_), ": tensor \"", printable(name), "\" is ", tensor,
         problem...);
  };
  if (!std::ranges::equal(tensor.shape, into.shape().dims())) {
    wrong(", expected shape ", into.shape());
  }
  const Source* source = find_source(tensor.dtype);
  if (source == nullptr) wrong(", a type that this program does not read");
  const bool same = source->unpacked == into.dtype();
  const bool integer = source->unpacked == DType::i32 || into.dtype() == DType::i32;
  if (integer && !same) wrong(", which does not convert to ", into.dtype());
  const size_t begin_of_tensor = data_begin_ + static_cast<size_t>(tensor.begin);
  FirstError error;
  parallel_pieces(into.elements(), kGrain, [&](int64_t begin, int64_t end) {
    error.guard([&] {
      if (!same) return convert_piece(*source, map_, begin_of_tensor, into, begin, end);
      const auto first = static_cast<size_t>(begin) * source->size,
                 size = static_cast<size_t>(end - begin) * source->size;
      map_.copy(begin_of_tensor + first, {static_cast<std::byte*>(into.data) + first, size});
    });
  });
  error.rethrow();
}

}  // namespace mora
