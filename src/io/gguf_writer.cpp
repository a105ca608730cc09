// Writing GGUF: the header first, so every tensor's size is known before its bytes are asked for.
#include <set>

#include "io/gguf_parse.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

template <class T>
void append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& to, std::string_view text) {
  append(to, static_cast<uint64_t>(text.size()));
  to += text;
}

uint64_t bytes_of(const StoredGgufTensor& tensor) {
  ensure(!tensor.shape.empty() && tensor.shape.size() <= kMaxGgufDims &&
             tensor.shape.back() % tensor.type->block_values == 0,
         "tensor ", tensor.name, " does not fit ", *tensor.type);
  uint64_t values = 1;
  for (int64_t size : tensor.shape) values *= static_cast<uint64_t>(size);
  return tensor.type->bytes(values);
}

std::string header_text(const GgufMetadata& metadata, std::span<const StoredGgufTensor> tensors) {
  std::string text = "GGUF";
  append(text, uint32_t{3});
  append(text, static_cast<uint64_t>(tensors.size()));
  append(text, metadata.count());
  text += metadata.bytes();
  uint64_t offset = 0;
  std::set<std::string_view> names;
  for (const StoredGgufTensor& t : tensors) {
    ensure(!t.name.empty() && t.name.size() <= kMaxGgufName && names.insert(t.name).second,
           "bad or duplicate tensor name \"", printable(t.name), "\"");
    append_text(text, t.name);
    append(text, static_cast<uint32_t>(t.shape.size()));
    for (auto size = t.shape.rbegin(); size != t.shape.rend(); ++size) append(text, *size);
    append(text, t.type->id);
    append(text, offset);
    offset = round_up(offset + bytes_of(t), kGgufAlignment);
  }
  text.resize(round_up(text.size(), kGgufAlignment), '\0');
  return text;
}

}  // namespace

void GgufMetadata::key(std::string_view name, GgufType type) {
  append_text(bytes_, name);
  append(bytes_, type);
  ++count_;
}

void GgufMetadata::array(std::string_view name, GgufType element, size_t count) {
  key(name, GgufType::array);
  append(bytes_, element);
  append(bytes_, static_cast<uint64_t>(count));
}

void GgufMetadata::add_u32(std::string_view name, uint32_t value) {
  key(name, GgufType::u32);
  append(bytes_, value);
}

void GgufMetadata::add_f32(std::string_view name, float value) {
  key(name, GgufType::f32);
  append(bytes_, value);
}

void GgufMetadata::add_bool(std::string_view name, bool value) {
  key(name, GgufType::boolean);
  append(bytes_, static_cast<uint8_t>(value));
}

void GgufMetadata::add_text(std::string_view name, std::string_view value) {
  key(name, GgufType::string);
  append_text(bytes_, value);
}

void GgufMetadata::add_i32s(std::string_view name, std::span<const int32_t> values) {
  array(name, GgufType::i32, values.size());
  for (int32_t value : values) append(bytes_, value);
}

void GgufMetadata::add_f32s(std::string_view name, std::span<const float> values) {
  array(name, GgufType::f32, values.size());
  for (float value : values) append(bytes_, value);
}

void GgufMetadata::add_texts(std::string_view name, std::span<const std::string> values) {
  array(name, GgufType::string, values.size());
  for (const std::string& value : values) append_text(bytes_, value);
}

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                std::span<const StoredGgufTensor> tensors) {
  const std::string header = header_text(metadata, tensors);
  AtomicFile file(path);
  file.write(header);
  for (const StoredGgufTensor& t : tensors) {
    uint64_t written = 0;
    t.write([&](std::span<const std::byte> bytes) {
      written += bytes.size();
      file.write(bytes);
    });
    const uint64_t expected = bytes_of(t);
    ensure(written == expected, "tensor ", t.name, " wrote ", written, " bytes instead of ",
           expected);
    file.write(std::string(round_up(written, kGgufAlignment) - written, '\0'));
  }
  file.commit();
}

}  // namespace mora
