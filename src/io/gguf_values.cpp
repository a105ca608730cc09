// Metadata of a GGUF file by key, decoded when asked for: an array of a hundred thousand tokens is
// a list of views into the map.
#include <algorithm>
#include <cmath>

#include "io/gguf_parse.hpp"
#include "io/system.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

template <class T>
T element(const GgufValue& value, uint64_t index) {
  T number;
  std::memcpy(&number, value.bytes.data() + index * sizeof number, sizeof number);
  return number;
}

// False if the element is no integer, or one beyond 63 bits.
bool integer_at(const GgufValue& value, uint64_t i, int64_t& number) {
  switch (value.element) {
    case GgufType::u8:
      number = element<uint8_t>(value, i);
      return true;
    case GgufType::i8:
      number = element<int8_t>(value, i);
      return true;
    case GgufType::u16:
      number = element<uint16_t>(value, i);
      return true;
    case GgufType::i16:
      number = element<int16_t>(value, i);
      return true;
    case GgufType::u32:
      number = element<uint32_t>(value, i);
      return true;
    case GgufType::i32:
      number = element<int32_t>(value, i);
      return true;
    case GgufType::u64:
    case GgufType::i64:
      number = element<int64_t>(value, i);
      return value.element == GgufType::i64 || number >= 0;
    default:
      return false;
  }
}

bool real_at(const GgufValue& value, uint64_t i, double& number) {
  if (value.element == GgufType::f32) {
    number = element<float>(value, i);
    return true;
  }
  if (value.element != GgufType::f64) return false;
  number = element<double>(value, i);
  return true;
}

}  // namespace

void GgufFile::wrong(std::string_view key, std::string_view problem) const {
  fail(ErrorKind::data, shown(path_), ": key \"", printable(key), "\" ", problem);
}

const GgufValue& GgufFile::value(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) wrong(key, "is missing");
  return found->second;
}

int64_t GgufFile::integer(std::string_view key) const {
  const GgufValue& v = value(key);
  int64_t number = 0;
  if (v.type == GgufType::array || !integer_at(v, 0, number)) {
    wrong(key, str("is ", v.type, ", expected an integer below 2^63"));
  }
  return number;
}

double GgufFile::real(std::string_view key) const {
  const GgufValue& v = value(key);
  double number = 0;
  if (v.type == GgufType::array || !real_at(v, 0, number) || !std::isfinite(number)) {
    wrong(key, str("is ", v.type, ", expected a finite f32 or f64"));
  }
  return number;
}

bool GgufFile::boolean(std::string_view key) const {
  const GgufValue& v = value(key);
  if (v.type != GgufType::boolean) wrong(key, str("is ", v.type, ", expected bool"));
  return v.bytes.front() != std::byte{0};
}

std::string_view GgufFile::text(std::string_view key) const {
  const GgufValue& v = value(key);
  if (v.type != GgufType::string) wrong(key, str("is ", v.type, ", expected string"));
  return GgufCursor(v.bytes, "").text("");
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
  const GgufValue& v = value(key);
  std::vector<int64_t> numbers(v.type == GgufType::array ? v.count : 0);
  bool fine = v.type == GgufType::array;
  for (uint64_t i = 0; fine && i < v.count; ++i) fine = integer_at(v, i, numbers[i]);
  if (!fine) wrong(key, "is no array of integers below 2^63");
  return numbers;
}

std::vector<double> GgufFile::reals(std::string_view key) const {
  const GgufValue& v = value(key);
  std::vector<double> numbers(v.type == GgufType::array ? v.count : 0);
  bool fine = v.type == GgufType::array;
  for (uint64_t i = 0; fine && i < v.count; ++i) {
    fine = real_at(v, i, numbers[i]) && std::isfinite(numbers[i]);
  }
  if (!fine) wrong(key, "is no array of finite f32 or f64");
  return numbers;
}

std::vector<std::string_view> GgufFile::texts(std::string_view key) const {
  const GgufValue& v = value(key);
  if (v.type != GgufType::array || v.element != GgufType::string) {
    wrong(key, "is no array of strings");
  }
  GgufCursor in(v.bytes, "");
  std::vector<std::string_view> list;
  list.reserve(v.count);
  for (uint64_t i = 0; i < v.count; ++i) list.push_back(in.text(""));
  return list;
}

}  // namespace mora
