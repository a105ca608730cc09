// The header is read as events into a small state machine: no tree is built, so memory stays within
// what the header's own bytes justify, and a key that comes twice cannot hide.
#include "io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "io/json.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxName = 512;
constexpr uint64_t kMaxDimension = uint64_t{1} << 48;

class HeaderReader : public JsonHandler {
 public:
  HeaderReader(JsonText& text, SafetensorsHeader& header) : JsonHandler(text), header_(header) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(int64_t) override { unexpected("a negative number"); }
  bool number_float(double, const std::string&) override {
    unexpected("a number that is not an integer below 2^64");
  }

  bool number_unsigned(uint64_t value) override {
    if (at_ == At::shape) {
      if (info_.shape.size() == kMaxRank) wrong(str("has more than ", kMaxRank, " dimensions"));
      if (value > kMaxDimension) wrong(str("has a dimension of ", value));
      info_.shape.push_back(static_cast<int64_t>(value));
    } else if (at_ == At::offsets) {
      if (offsets_ == 2) wrong("has more than two data_offsets");
      (offsets_ == 0 ? info_.begin : info_.end) = value;
      ++offsets_;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool string(std::string& value) override {
    if (at_ == At::metadata) {
      header_.metadata.emplace(key_, std::move(value));
    } else if (at_ == At::tensor && key_ == "dtype") {
      if (safetensors_bits(value) == 0) wrong(str("has unknown dtype \"", value, "\""));
      info_.dtype = std::move(value);
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_object(size_t) override {
    if (at_ == At::start) {
      at_ = At::root;
    } else if (at_ == At::root && name_ == "__metadata__") {
      at_ = At::metadata;
    } else if (at_ == At::root) {
      at_ = At::tensor;
      info_ = {};
      seen_.clear();
      offsets_ = 0;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool start_array(size_t) override {
    if (at_ == At::tensor && key_ == "shape") {
      at_ = At::shape;
    } else if (at_ == At::tensor && key_ == "data_offsets") {
      at_ = At::offsets;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (at_ == At::offsets && offsets_ != 2) wrong("needs two data_offsets");
    at_ = At::tensor;
    return true;
  }

  bool end_object() override {
    if (at_ == At::tensor) {
      if (seen_.size() != 3) wrong("needs dtype, shape and data_offsets");
      header_.tensors.emplace(name_, std::move(info_));
    }
    at_ = at_ == At::root ? At::done : At::root;
    return true;
  }

  bool key(std::string& name) override {
    if (at_ == At::root) {
      take_name(name);
    } else if (at_ == At::metadata) {
      if (header_.metadata.contains(name)) {
        text().reject(str("duplicate key \"", printable(name), "\" in __metadata__"));
      }
    } else {
      if (name != "dtype" && name != "shape" && name != "data_offsets") {
        wrong(str("has unknown field \"", printable(name), "\""));
      }
      if (std::ranges::find(seen_, name) != seen_.end()) wrong(str("has ", name, " twice"));
      seen_.push_back(name);
    }
    key_ = std::move(name);
    return true;
  }

 private:
  enum class At { start, root, metadata, tensor, shape, offsets, done };

  void take_name(const std::string& name) {
    if (name == "__metadata__") {
      if (has_metadata_) text().reject("duplicate key \"__metadata__\"");
      has_metadata_ = true;
    } else if (!is_safetensors_name(name)) {
      text().reject(str("tensor name \"", printable(name),
                        "\" is empty, longer than 512 bytes or holds control characters"));
    } else if (header_.tensors.contains(name)) {
      text().reject(str("duplicate tensor \"", printable(name), "\""));
    } else if (header_.tensors.size() == kMaxTensors) {
      text().reject(str("more than ", kMaxTensors, " tensors"));
    }
    name_ = name;
  }

  [[noreturn]] void wrong(std::string_view problem) {
    text().reject(str("tensor \"", printable(name_), "\" ", problem));
  }

  [[noreturn]] void unexpected(std::string_view what) {
    if (at_ == At::start) text().reject(str("expected an object, got ", what));
    if (at_ == At::root) {
      text().reject(str("\"", printable(name_), "\": expected an object, got ", what));
    }
    if (at_ == At::metadata) {
      text().reject(str("__metadata__ \"", printable(key_), "\": expected a string, got ", what));
    }
    wrong(str("has ", what, " in ", key_));
  }

  SafetensorsHeader& header_;
  At at_ = At::start;
  bool has_metadata_ = false;
  std::string name_;  // key in the root
  std::string key_;   // key in the tensor or in __metadata__
  TensorInfo info_;
  std::vector<std::string> seen_;
  int offsets_ = 0;
};

// Bytes of a tensor by its shape and type; false if they overflow or are no whole number.
bool bytes_by_shape(const TensorInfo& info, uint64_t& bytes) {
  bytes = 0;
  if (std::ranges::find(info.shape, 0) != info.shape.end()) return true;
  uint64_t bits = safetensors_bits(info.dtype);
  for (int64_t dimension : info.shape) {
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(dimension), &bits)) return false;
  }
  bytes = bits / 8;
  return bits % 8 == 0;
}

void check_layout(const SafetensorsHeader& header, uint64_t data_size, const std::string& source) {
  std::vector<const std::pair<const std::string, TensorInfo>*> order;
  order.reserve(header.tensors.size());
  for (const auto& entry : header.tensors) order.push_back(&entry);
  std::ranges::sort(order, [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t previous_end = 0;
  for (const auto* entry : order) {
    const auto& [name, info] = *entry;
    const auto wrong = [&, &n = name, &i = info](const auto&... problem) {
      fail(ErrorKind::data, source, ": tensor \"", printable(n), "\" at data_offsets [", i.begin,
           ", ", i.end, "] ", problem...);
    };
    if (info.begin != previous_end) {
      wrong(info.begin < previous_end ? "overlaps the tensor before it" : "leaves a gap before it",
            ", which ends at ", previous_end);
    }
    if (info.end < info.begin) wrong("ends before it begins");
    if (info.end > data_size) {
      wrong("goes beyond the ", data_size, " bytes of data that the file holds; it is truncated");
    }
    uint64_t bytes = 0;
    if (!bytes_by_shape(info, bytes)) wrong("is ", info, ", which has no size in whole bytes");
    if (bytes != info.end - info.begin) wrong("is ", info, ", which needs ", bytes, " bytes");
    previous_end = info.end;
  }
  if (previous_end != data_size) {
    fail(ErrorKind::data, source, ": ", data_size - previous_end,
         " bytes after the last tensor belong to none");
  }
}

}  // namespace

uint64_t safetensors_bits(std::string_view dtype) {
  struct Entry {
    std::string_view name;
    uint64_t bits;
  };
  static constexpr std::array<Entry, 22> kTypes = {{
      {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
      {"I64", 64},        {"U64", 64},
  }};
  const auto* found = std::ranges::find(kTypes, dtype, &Entry::name);
  return found == kTypes.end() ? 0 : found->bits;
}

bool is_safetensors_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && printable(name, 4 * kMaxName) == name;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_size,
                                           const std::string& source) {
  JsonOptions options;
  options.max_bytes = kMaxSafetensorsHeader;
  JsonText text(json, source + " (header)", options);
  // The library skips a byte-order mark; the format allows JSON's white space only.
  if (json.starts_with("\xEF\xBB\xBF")) text.reject("byte-order mark before the header");
  SafetensorsHeader header;
  HeaderReader reader(text, header);
  parse_json_events(text, reader);
  check_layout(header, data_size, source);
  return header;
}

}  // namespace mora
