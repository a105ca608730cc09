// Safetensors: what is written comes back in any type, from pieces and from unaligned places, and
// mistakes of a writer and damage are refused (crafted files: safetensors_hostile_test.cpp).
#include "mora/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "mora/core/random.hpp"
#include "safetensors_bytes.hpp"
#include "temporary_folder.hpp"

using namespace mora;
using namespace mora::testing;

TEST_SUITE_BEGIN("safetensors");

namespace {

template <class T>
OwnedTensor tensor_of(const Shape& shape, const std::vector<T>& values) {
  OwnedTensor tensor({dtype_of<T>(), shape});
  std::copy(values.begin(), values.end(), tensor.as<T>().begin());
  return tensor;
}

template <class T>
std::vector<T> read_as(const SafetensorsFile& file, const std::string& name, const Shape& shape) {
  const OwnedTensor tensor({dtype_of<T>(), shape});
  file.read(name, tensor.view());
  return {tensor.as<T>().begin(), tensor.as<T>().end()};
}

}  // namespace

TEST_CASE("tensors and metadata come back as they were written") {
  const TemporaryFolder folder;
  const auto f32 = tensor_of<float>({2, 3}, {1, -0.0f, 3.5f, INFINITY, 5, 1e-40f});
  const auto bf = tensor_of<bf16>({2}, {bf16(1.5f), bf16(-2.0f)});
  const auto f64 = tensor_of<double>({1, 1, 1, 2}, {0.1, -1e300});
  const auto i32 = tensor_of<int32_t>({}, {-7});
  const auto none = tensor_of<float>({0, 5}, {});
  const std::vector<NamedTensor> tensors{{"b", bf.view()},
                                         {"w.\xC3\xA9 \"quoted\"", f32.view()},
                                         {"d", f64.view()},
                                         {"i", i32.view()},
                                         {"none", none.view()}};
  const auto path = folder / "m.safetensors";
  write_safetensors(path, tensors, {{"step", "12"}, {"note", "line\nbreak"}});
  const SafetensorsFile file(path);
  CHECK(file.tensors().size() == 5);
  CHECK(file.metadata() == std::map<std::string, std::string>{
                               {"format", "pt"}, {"note", "line\nbreak"}, {"step", "12"}});
  for (const NamedTensor& written : tensors) {
    CAPTURE(written.name);
    const Tensor& tensor = written.tensor;
    const OwnedTensor back(tensor.type);
    file.read(written.name, back.view());
    CHECK(file.bytes(written.name).size() == tensor.bytes());
    CHECK(std::memcmp(back.view().data, tensor.data, tensor.bytes()) == 0);
  }
  CHECK(str(file.info("d")) == "F64[1, 1, 1, 2]");
  CHECK(file.info("d").begin == 0);  // the widest elements come first, so that all are aligned
  CHECK(file.info("b").end == 16 + 4 + 24 + 4);
  uint64_t header = 0;
  std::memcpy(&header, bytes_of(path).data(), 8);
  CHECK(header % 8 == 0);
  CHECK(!file.contains("z"));
  CHECK(message_of(ErrorKind::data, [&] { file.info("z\x1B"); }) ==
        path.string() + ": no tensor \"z\\x1b\"");
}

TEST_CASE("the bytes of a small file are those of the format") {
  const TemporaryFolder folder;
  const auto tensor = tensor_of<int32_t>({1}, {0x01020304});
  write_safetensors(folder / "a", std::vector<NamedTensor>{{"x", tensor.view()}});
  std::string header =
      "{\"__metadata__\":{\"format\":\"pt\"},"
      "\"x\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(bytes_of(folder / "a") == file_of(header, std::string("\4\3\2\1")));
}

TEST_CASE("a writer's mistakes are internal errors") {
  const TemporaryFolder folder;
  const auto tensor = tensor_of<float>({1}, {1});
  using Tensors = std::vector<NamedTensor>;
  for (const Tensors& bad :
       {Tensors{{"x", tensor.view()}, {"x", tensor.view()}}, Tensors{{"", tensor.view()}},
        Tensors{{"__metadata__", tensor.view()}}, Tensors{{"\xFF", tensor.view()}}}) {
    message_of(ErrorKind::internal, [&] { write_safetensors(folder / "a", bad); });
  }
  message_of(ErrorKind::internal, [&] {
    write_safetensors(folder / "a", Tensors{}, {{"k", "\xFF"}});
  });
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("tensors of any type are written from pieces") {
  const TemporaryFolder folder;
  const std::string halves("\x00\x3c\x00\xc0", 4);  // 1, -2
  const auto in_pieces = [&](const ByteSink& sink) {
    for (const char& byte : halves) sink(std::as_bytes(std::span(&byte, 1)));
  };
  const StoredTensor good{"half", "F16", {2}, in_pieces};
  const StoredTensor none{"none", "I64", {0, 3}, [](const ByteSink&) {}};
  CHECK(stored_bytes(good) == 4);
  write_safetensors(folder / "f.safetensors", std::vector{good, none});
  const SafetensorsFile file(folder / "f.safetensors");
  CHECK(file.info("none").dtype == "I64");
  OwnedTensor values({DType::f32, {2}});
  file.read("half", values.view());
  CHECK(values.as<float>()[0] == 1.0f);
  CHECK(values.as<float>()[1] == -2.0f);

  const StoredTensor little{"half", "F16", {3}, in_pieces}, unknown{"half", "F17", {2}, in_pieces};
  for (const StoredTensor& bad : {little, unknown}) {
    CHECK_THROWS_AS(write_safetensors(folder / "bad.safetensors", std::vector{bad}), Error);
    CHECK_FALSE(std::filesystem::exists(folder / "bad.safetensors"));
  }
}

TEST_CASE("elements convert, from unaligned places too") {
  const TemporaryFolder folder;
  // "a" takes one byte, so that everything after it lies at odd addresses.
  const std::vector<float> values{1.0f, -2.5f, 3.1415927f};
  std::string data(1, '\0');
  data.append(reinterpret_cast<const char*>(values.data()), 12);
  const std::vector<double> doubles{0.1, 2.0};
  data.append(reinterpret_cast<const char*>(doubles.data()), 16);
  data += std::string("\x80\x3F", 2);  // 1.0 as BF16
  const SafetensorsFile file(folder.file(
      "a",
      file_of("{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("f", "F32", "[3]", "[1,13]") +
                  "," + entry("d", "F64", "[2]", "[13,29]") + "," +
                  entry("b", "BF16", "[]", "[29,31]") + "}",
              data)));
  CHECK(read_as<float>(file, "f", {3}) == values);
  CHECK(read_as<double>(file, "f", {3}) == std::vector<double>{1.0, -2.5, double{values[2]}});
  CHECK(static_cast<float>(read_as<bf16>(file, "f", {3})[2]) == 3.140625f);
  CHECK(read_as<float>(file, "d", {2}) == std::vector<float>{0.1f, 2.0f});
  CHECK(read_as<float>(file, "b", {})[0] == 1.0f);
  const auto refused = [&](const std::string& name, const Type& type) {
    const OwnedTensor into(type);
    return message_of(ErrorKind::data, [&] { file.read(name, into.view()); });
  };
  const std::string path = (folder / "a").string();
  CHECK(refused("f", {DType::f32, {3, 1}}) ==
        path + ": tensor \"f\" is F32[3], expected shape [3, 1]");
  CHECK(refused("a", {DType::f32, {1}}) ==
        path + ": tensor \"a\" is U8[1], a type that this program does not read");
  CHECK(refused("f", {DType::i32, {3}}) ==
        path + ": tensor \"f\" is F32[3], which does not convert to i32");
}

TEST_CASE("all 65536 half-precision values decode to their definition") {
  const TemporaryFolder folder;
  std::string data;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    data += {static_cast<char>(bits & 255), static_cast<char>(bits >> 8)};
  }
  const SafetensorsFile file(
      folder.file("h", file_of("{" + entry("h", "F16", "[65536]", "[0,131072]") + "}", data)));
  const auto values = read_as<double>(file, "h", {65536});
  for (int bits = 0; bits < 65536; ++bits) {
    const int exponent = (bits >> 10) & 31;
    const int mantissa = bits & 1023;
    double expected =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) expected = mantissa == 0 ? INFINITY : NAN;
    if (bits >= 0x8000) expected = -expected;
    const double value = values[static_cast<size_t>(bits)];
    const bool same = std::isnan(expected)
                          ? std::isnan(value)
                          : value == expected && std::signbit(value) == std::signbit(expected);
    if (!same) FAIL_CHECK("half ", bits, " is ", value, ", expected ", expected);
  }
}

TEST_CASE("large tensors convert piece by piece to the same values") {
  const TemporaryFolder folder;
  constexpr int64_t kCount = 200'003;
  std::vector<float> values(kCount);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.25f;
  const auto tensor = tensor_of<float>({kCount}, values);
  write_safetensors(folder / "a", std::vector<NamedTensor>{{"x", tensor.view()}});
  const SafetensorsFile file(folder / "a");
  CHECK(read_as<float>(file, "x", {kCount}) == values);
  const auto doubles = read_as<double>(file, "x", {kCount});
  CHECK(std::equal(doubles.begin(), doubles.end(), values.begin()));
}

TEST_CASE("legal files that a writer of ours would not make") {
  const TemporaryFolder folder;
  const std::string x = entry("x", "F32", "[1]", "[0,4]");
  const std::vector<std::string> good{
      file_of("{}", 0),
      file_of(" \t\r\n{" + x + "}\n  ", 4),
      file_of("{\"__metadata__\":{}," + x + "}", 4),
      file_of("{" + entry("x", "I64", "[2]", "[0,16]") + "}", 16),
      file_of("{" + entry("x", "F8_E4M3", "[3]", "[0,3]") + "}", 3),
      file_of("{" + entry("x", "F4", "[2,3]", "[0,3]") + "}", 3),
      file_of("{" + entry("x", "F32", "[1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4),
      file_of("{" + entry("x", "F32", "[0,281474976710656,281474976710656]", "[0,0]") + "}", 0),
      file_of("{" + entry("z", "F32", "[0]", "[4,4]") + "," + entry("y", "F32", "[0]", "[0,0]") +
                  "," + x + "}",
              4),
  };
  for (const std::string& bytes : good) {
    CAPTURE(bytes);
    CHECK_NOTHROW(SafetensorsFile(folder.file("g", bytes)));
  }
}

TEST_CASE("a file cut at any length is refused") {
  const TemporaryFolder folder;
  const OwnedTensor a({DType::f32, {2, 2}}), b({DType::bf16, {3}});
  write_safetensors(folder / "whole", std::vector<NamedTensor>{{"a", a.view()}, {"b", b.view()}});
  const std::string bytes = bytes_of(folder / "whole");
  for (size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    const auto path = folder.file("cut", bytes.substr(0, length));
    message_of(ErrorKind::data, [&] { SafetensorsFile file(path); });
  }
}

TEST_CASE("damaged files are read in bounds or refused") {
  const TemporaryFolder folder;
  const OwnedTensor a({DType::f32, {2, 2}}), b({DType::bf16, {3}});
  write_safetensors(folder / "whole", std::vector<NamedTensor>{{"a", a.view()}, {"b", b.view()}},
                    {{"key", "value"}});
  const std::string whole = bytes_of(folder / "whole");
  const Random random(1, Purpose::test);
  int refused = 0;
  for (uint64_t round = 0; round < 5000; ++round) {
    std::string bytes = whole;
    const uint64_t flips = 1 + random.below(16 * round, 3);
    for (uint64_t i = 1; i <= flips; ++i) {
      const auto draw = random.block(16 * round + i);
      bytes[draw[0] % bytes.size()] ^= static_cast<char>(1u << (draw[1] % 8));
    }
    try {
      const SafetensorsFile file(folder.file("damaged", bytes));
      for (const auto& [name, info] : file.tensors()) {
        unsigned sum = 0;
        for (std::byte byte : file.bytes(name)) sum += static_cast<unsigned>(byte);
        CHECK(sum < 1'000'000);
      }
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::data);
      ++refused;
    }
  }
  CHECK(refused > 2500);
}

TEST_SUITE_END();
