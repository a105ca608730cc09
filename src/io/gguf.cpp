// Reading GGUF. Every count is checked against the bytes that are left before anything is done with
// it, and sizes are compared by division, so that no product can overflow.
#include "mora/io/gguf.hpp"

#include <algorithm>
#include <bit>

#include "io/gguf_parse.hpp"
#include "io/system.hpp"
#include "mora/io/text.hpp"

namespace mora {

static_assert(std::endian::native == std::endian::little, "GGUF files are read little-endian");

namespace {

constexpr uint32_t kOldest = 2, kNewest = 3;
constexpr uint64_t kLeastValue = 8 + 1 + 4 + 1;       // an empty-as-can-be key, a type, one byte
constexpr uint64_t kLeastTensor = 8 + 1 + 4 + 4 + 8;  // a name, no dimension, type, offset

constexpr std::string_view kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};

bool is_clean(std::string_view name, size_t longest) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; };
  return !name.empty() && name.size() <= longest && is_valid_utf8(name) &&
         std::ranges::none_of(name, control);
}

GgufType read_type(GgufCursor& in, const std::string& what) {
  const auto number = in.number<uint32_t>(what);
  if (number >= std::size(kTypeNames)) in.reject(what, " has the unknown type ", number);
  return static_cast<GgufType>(number);
}

void check_booleans(GgufCursor& in, const GgufValue& value, const std::string& what) {
  if (value.element != GgufType::boolean) return;
  for (std::byte b : value.bytes) {
    if (b > std::byte{1}) in.reject(what, " is no boolean: ", std::to_integer<int>(b));
  }
}

GgufValue read_value(GgufCursor& in, const std::string& what) {
  GgufValue value;
  value.type = value.element = read_type(in, what);
  if (value.type == GgufType::array) {
    value.element = read_type(in, what);
    if (value.element == GgufType::array) in.reject(what, " is an array of arrays");
    const size_t each = size_of(value.element);
    value.count = in.counted(each > 0 ? each : sizeof(uint64_t), what);
  }
  const size_t each = size_of(value.element);
  if (each > 0) {
    value.bytes = in.take(value.count * each, what);
  } else {
    GgufCursor start = in;
    const uint64_t begin = in.at();
    for (uint64_t i = 0; i < value.count; ++i) in.text(what);
    value.bytes = start.take(in.at() - begin, what);
  }
  check_booleans(in, value, what);
  return value;
}

uint64_t read_alignment(GgufCursor& in, const GgufValue& value) {
  uint32_t alignment = 0;
  if (value.type != GgufType::u32) in.reject(kGgufAlignmentKey, " is ", value.type, ", not u32");
  std::memcpy(&alignment, value.bytes.data(), sizeof alignment);
  if (!std::has_single_bit(alignment)) {
    in.reject(kGgufAlignmentKey, " is ", alignment, ", which is no power of two");
  }
  return alignment;
}

// The shape in our order, and the bytes, which are known to fit into the file.
GgufTensor read_tensor(GgufCursor& in, const std::string& what, uint64_t file_size) {
  GgufTensor tensor;
  const auto rank = in.number<uint32_t>(what);
  if (rank > kMaxGgufDims) in.reject(what, " has ", rank, " dimensions, expected at most 4");
  int64_t values = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const auto size = in.number<int64_t>(what);
    if (size < 0 || __builtin_mul_overflow(values, size, &values)) {
      in.reject(what, " has dimensions that are negative or too large");
    }
    tensor.shape.insert(tensor.shape.begin(), size);
  }
  const auto type = in.number<uint32_t>(what);
  tensor.type = find_ggml_type(type);
  if (tensor.type == nullptr) {
    in.reject(what, " has the unknown type ", type, "; this program reads ", readable_ggml_types());
  }
  if (tensor.row() % tensor.type->block_values != 0) {
    in.reject(what, " has rows of ", tensor.row(), " values, which are no whole number of ",
              *tensor.type, " blocks of ", tensor.type->block_values);
  }
  const auto blocks = static_cast<uint64_t>(values / tensor.type->block_values);
  if (blocks > file_size / static_cast<uint64_t>(tensor.type->block_bytes)) {
    in.reject(what, " is ", tensor, ", more than the whole file of ", file_size, " bytes");
  }
  tensor.bytes = tensor.type->bytes(static_cast<uint64_t>(values));
  tensor.begin = in.number<uint64_t>(what);
  return tensor;
}

void check_version(GgufCursor& in, uint32_t version) {
  if ((version & 0xffffu) == 0) in.reject("big-endian GGUF is not supported");
  if (version < kOldest || version > kNewest) {
    in.reject("GGUF version ", version, " is not supported, only 2 and 3");
  }
}

}  // namespace

size_t size_of(GgufType type) {
  constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kSizes[static_cast<size_t>(type)];
}

std::ostream& operator<<(std::ostream& out, GgufType type) {
  return out << kTypeNames[static_cast<size_t>(type)];
}

std::ostream& operator<<(std::ostream& out, const GgufTensor& tensor) {
  return out << TensorInfo{std::string(tensor.type->name), tensor.shape, 0, 0};
}

std::span<const std::byte> GgufCursor::take(uint64_t size, std::string_view what) {
  if (size > left()) {
    reject(what, " needs ", size, " bytes at ", at_, ", ", left(),
           " are left; the file is truncated or damaged");
  }
  const auto piece = bytes_.subspan(at_, size);
  at_ += size;
  return piece;
}

std::string_view GgufCursor::text(std::string_view what) {
  const auto piece = take(number<uint64_t>(what), what);
  return {reinterpret_cast<const char*>(piece.data()), piece.size()};
}

uint64_t GgufCursor::counted(uint64_t least, std::string_view what) {
  const auto count = number<uint64_t>(what);
  if (count > left() / least) {
    reject(what, " claims ", count, " entries, ", left(),
           " bytes are left; the file is truncated or damaged");
  }
  return count;
}

GgufFile::GgufFile(const std::filesystem::path& path) : path_(path), map_(path) {
  const auto bytes = map_.bytes();
  GgufCursor in(bytes, shown(path));
  if (in.left() < 4 || std::memcmp(in.take(4, "magic").data(), "GGUF", 4) != 0) {
    in.reject("no GGUF file; it does not begin with \"GGUF\"");
  }
  version_ = in.number<uint32_t>("the version");
  check_version(in, version_);
  const auto tensors = in.number<uint64_t>("the number of tensors");
  const auto values = in.counted(kLeastValue, "the metadata");
  if (tensors > in.left() / kLeastTensor) {
    in.reject("claims ", tensors, " tensors, ", in.left(),
              " bytes are left; the file is truncated or damaged");
  }
  uint64_t alignment = kGgufAlignment;
  for (uint64_t i = 0; i < values; ++i) {
    const std::string_view key = in.text("a key");
    if (!is_clean(key, kMaxGgufKey)) in.reject("bad key \"", printable(key), "\"");
    const GgufValue value = read_value(in, str("key \"", printable(key), "\""));
    if (!metadata_.emplace(key, value).second)
      in.reject("key \"", printable(key), "\" stands twice");
    if (key == kGgufAlignmentKey) alignment = read_alignment(in, value);
  }
  uint64_t next = 0, end = 0;
  for (uint64_t i = 0; i < tensors; ++i) {
    const std::string_view name = in.text("a tensor's name");
    if (!is_clean(name, kMaxGgufName)) in.reject("bad tensor name \"", printable(name), "\"");
    const std::string what = str("tensor \"", printable(name), "\"");
    const GgufTensor tensor = read_tensor(in, what, bytes.size());
    if (tensor.begin != next) in.reject(what, " begins at ", tensor.begin, ", expected ", next);
    end = next + tensor.bytes;
    next = round_up(end, alignment);
    if (next > bytes.size() + alignment) in.reject(what, " ends beyond the file; it is truncated");
    if (!tensors_.emplace(name, tensor).second) in.reject(what, " stands twice");
  }
  data_begin_ = std::min<uint64_t>(round_up(in.at(), alignment), bytes.size());
  const uint64_t have = bytes.size() - data_begin_;
  if (end > have || have > next) {
    in.reject("has ", have, " bytes of tensor data, expected ", end, " or, padded, ", next);
  }
}

const GgufTensor& GgufFile::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    fail(ErrorKind::data, shown(path_), ": no tensor \"", printable(name), "\"");
  }
  return found->second;
}

std::span<const std::byte> GgufFile::bytes(std::string_view name) const {
  const GgufTensor& t = tensor(name);
  return map_.bytes().subspan(data_begin_ + t.begin, t.bytes);
}

void GgufFile::require_readable(std::string_view name) const {
  const GgufTensor& t = tensor(name);
  if (t.type->unpack != nullptr) return;
  fail(ErrorKind::data, shown(path_), ": tensor \"", printable(name), "\" is ", t,
       ", a type that this program does not read; it reads ", readable_ggml_types());
}

void GgufFile::read_row(const GgufTensor& tensor, int64_t row, std::span<float> into) const {
  const uint64_t size = tensor.type->bytes(into.size());
  ensure(static_cast<int64_t>(into.size()) == tensor.row(), "a row of ", tensor);
  const uint64_t begin = tensor.begin + static_cast<uint64_t>(row) * size;
  ensure(row >= 0 && begin + size <= tensor.begin + tensor.bytes, "row ", row, " of ", tensor);
  dequantize(*tensor.type, map_.bytes().subspan(data_begin_ + begin, size), into);
}

}  // namespace mora
