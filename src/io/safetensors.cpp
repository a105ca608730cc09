// Safetensors: the map is only touched through spans that the checked header has placed inside it,
// and elements are copied out bytewise because the format does not align them.
#include "mora/io/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "io/safetensors_header.hpp"
#include "io/system.hpp"
#include "mora/core/half.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/text.hpp"

namespace mora {

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian");

namespace {

constexpr size_t kLengthBytes = 8;
constexpr int64_t kGrain = 1 << 16;  // elements that one thread converts at a time
constexpr size_t kScratch = 1024;    // elements on the stack

// One element type of a file: its size and the core type that its elements unpack to.
struct Source {
  std::string_view name;
  size_t size;
  DType unpacked;
};

const Source* find_source(std::string_view dtype) {
  static constexpr std::array<Source, 5> kSources = {{{"F32", 4, DType::f32},
                                                      {"F16", 2, DType::f32},
                                                      {"BF16", 2, DType::bf16},
                                                      {"F64", 8, DType::f64},
                                                      {"I32", 4, DType::i32}}};
  const auto* found = std::ranges::find(kSources, dtype, &Source::name);
  return found == kSources.end() ? nullptr : found;
}

void unpack(const Source& source, const std::byte* from, size_t n, void* to) {
  if (source.name != "F16") {
    std::memcpy(to, from, n * source.size);
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, from + i * sizeof half, sizeof half);
    const float value = float_of_half(half);
    std::memcpy(static_cast<std::byte*>(to) + i * sizeof value, &value, sizeof value);
  }
}

// Elements [begin, end) of `into` from the file's bytes, by way of an aligned scratch.
void convert_piece(const Source& source, const std::byte* from, const Tensor& into, int64_t begin,
                   int64_t end) {
  alignas(64) std::array<std::byte, kScratch * sizeof(double)> scratch;
  for (int64_t at = begin; at < end; at += static_cast<int64_t>(kScratch)) {
    const int64_t n = std::min(static_cast<int64_t>(kScratch), end - at);
    const auto first = static_cast<size_t>(at);
    unpack(source, from + first * source.size, static_cast<size_t>(n), scratch.data());
    std::byte* to = static_cast<std::byte*>(into.data) + first * size_of(into.dtype());
    convert({scratch.data(), {source.unpacked, Shape{n}}}, {to, {into.dtype(), Shape{n}}});
  }
}

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
  const bool same = source->unpacked == into.dtype() && source->size == size_of(into.dtype());
  const bool integer = source->unpacked == DType::i32 || into.dtype() == DType::i32;
  if (integer && !same) wrong(", which does not convert to ", into.dtype());
  const std::byte* from = bytes(name).data();
  parallel_pieces(into.elements(), kGrain, [&](int64_t begin, int64_t end) {
    if (!same) return convert_piece(*source, from, into, begin, end);
    const size_t offset = static_cast<size_t>(begin) * source->size;
    std::memcpy(static_cast<std::byte*>(into.data) + offset, from + offset,
                static_cast<size_t>(end - begin) * source->size);
  });
}

}  // namespace mora
