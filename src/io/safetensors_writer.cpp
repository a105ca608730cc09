// Writing safetensors: the header first, so every tensor's size is known before its bytes are asked
// for.
#include <algorithm>
#include <cstring>
#include <set>

#include "io/json.hpp"
#include "io/safetensors_header.hpp"
#include "mora/io/safetensors.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

std::string file_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::f64:
      return "F64";
    case DType::i32:
      return "I32";
  }
  return "";
}

std::string header_text(std::span<const StoredTensor* const> order,
                        const std::map<std::string, std::string>& metadata) {
  auto all_metadata = metadata;
  all_metadata.insert_or_assign("format", "pt");
  std::string text = "{\"__metadata__\":{";
  for (const auto& [key, value] : all_metadata) {
    ensure(is_valid_utf8(key) && is_valid_utf8(value), "safetensors metadata is not UTF-8");
    if (!text.ends_with('{')) text += ',';
    text += dump_json(key) + ":" + dump_json(value);
  }
  text += '}';
  uint64_t offset = 0;
  std::set<std::string_view> names;
  for (const StoredTensor* t : order) {
    ensure(
        is_safetensors_name(t->name) && t->name != "__metadata__" && names.insert(t->name).second,
        "bad or duplicate tensor name \"", printable(t->name), "\"");
    const uint64_t end = offset + stored_bytes(*t);
    text += str(",", dump_json(t->name), ":{\"dtype\":\"", t->dtype,
                "\",\"shape\":", dump_json(Json(t->shape)), ",\"data_offsets\":[", offset, ",", end,
                "]}");
    offset = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  ensure(text.size() <= kMaxSafetensorsHeader, "safetensors header of ", text.size(), " bytes");
  return text;
}

}  // namespace

uint64_t stored_bytes(const StoredTensor& tensor) {
  uint64_t bits = safetensors_bits(tensor.dtype);
  ensure(bits != 0, "no safetensors type \"", printable(tensor.dtype), "\"");
  for (int64_t d : tensor.shape) bits *= static_cast<uint64_t>(d);
  return bits / 8;
}

StoredTensor stored(const NamedTensor& named) {
  const auto dims = named.tensor.shape().dims();
  return {.name = named.name,
          .dtype = file_dtype(named.tensor.dtype()),
          .shape = {dims.begin(), dims.end()},
          .write = [tensor = named.tensor](const ByteSink& sink) {
            sink({static_cast<const std::byte*>(tensor.data), tensor.bytes()});
          }};
}

void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const StoredTensor*> order;
  for (const StoredTensor& t : tensors) order.push_back(&t);
  std::ranges::sort(order, [](const StoredTensor* a, const StoredTensor* b) {
    const uint64_t a_bits = safetensors_bits(a->dtype), b_bits = safetensors_bits(b->dtype);
    return a_bits != b_bits ? a_bits > b_bits : a->name < b->name;
  });
  const std::string header = header_text(order, metadata);
  const uint64_t length = header.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const StoredTensor* t : order) {
    uint64_t written = 0;
    t->write([&](std::span<const std::byte> bytes) {
      written += bytes.size();
      file.write(bytes);
    });
    ensure(written == stored_bytes(*t), "tensor ", t->name, " wrote ", written,
           " bytes instead of ", stored_bytes(*t));
  }
  file.commit();
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<StoredTensor> list;
  for (const NamedTensor& named : tensors) list.push_back(stored(named));
  write_safetensors(path, std::span<const StoredTensor>(list), metadata);
}

}  // namespace mora
