// Safetensors: the map is only touched through spans that the checked header has placed inside it,
// and elements are copied out bytewise because the format does not align them.
#include "mora/io/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "io/safetensors_header.hpp"
#include "io/system.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/text.hpp"

namespace mora {

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian");

namespace {

constexpr size_t kLengthBytes = 8;
constexpr int64_t kGrain = 1 << 16;  // elements that one thread converts at a time
constexpr size_t kScratch = 1024;    // elements on the stack
constexpr int64_t kTaken = 1 << 22;  // elements that are read before their pages are given back
constexpr size_t kPage = 1 << 16;    // no system has larger ones by default

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

// Elements [begin, end) of `into` from the file's bytes, by way of an aligned scratch.
void convert_piece(const Source& source, const std::byte* from, const Tensor& into, int64_t begin,
                   int64_t end) {
  alignas(64) std::array<std::byte, kScratch * sizeof(double)> scratch;
  for (int64_t at = begin; at < end; at += static_cast<int64_t>(kScratch)) {
    const int64_t n = std::min(static_cast<int64_t>(kScratch), end - at);
    const auto first = static_cast<size_t>(at);
    std::memcpy(scratch.data(), from + first * source.size, static_cast<size_t>(n) * source.size);
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

void SafetensorsFile::check_readable(const std::string& name, const Tensor& into) const {
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
  const bool integer = source->unpacked == DType::i32 || into.dtype() == DType::i32;
  if (integer && source->unpacked != into.dtype())
    wrong(", which does not convert to ", into.dtype());
}

void SafetensorsFile::read_elements(const TensorInfo& tensor, const Tensor& into, int64_t first,
                                    int64_t last) const {
  const Source& source = *find_source(tensor.dtype);
  const std::byte* from = map_.bytes().data() + data_begin_ + tensor.begin;
  parallel_pieces(last - first, kGrain, [&](int64_t begin, int64_t end) {
    begin += first;
    end += first;
    if (source.unpacked != into.dtype()) return convert_piece(source, from, into, begin, end);
    const size_t offset = static_cast<size_t>(begin) * source.size;
    std::memcpy(static_cast<std::byte*>(into.data) + offset, from + offset,
                static_cast<size_t>(end - begin) * source.size);
  });
}

void SafetensorsFile::read(const std::string& name, const Tensor& into) const {
  check_readable(name, into);
  read_elements(info(name), into, 0, into.elements());
}

void SafetensorsFile::take(const std::string& name, const Tensor& into) const {
  check_readable(name, into);
  const auto all = bytes(name);
  const int64_t elements = into.elements();
  const size_t width = elements > 0 ? all.size() / static_cast<size_t>(elements) : 1;
  for (int64_t begin = 0; begin < elements; begin += kTaken) {
    const int64_t end = std::min(elements, begin + kTaken);
    read_elements(info(name), into, begin, end);
    // With the page that the piece shares with the one before it.
    const size_t from = static_cast<size_t>(begin) * width, to = static_cast<size_t>(end) * width;
    map_.release(all.subspan(from - std::min(from, kPage), to - (from - std::min(from, kPage))));
  }
}

}  // namespace mora
