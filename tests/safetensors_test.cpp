// Safetensors: what is written comes back, and every file that breaks a rule is refused with a
// clear error.
#include "mora/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "mora/core/random.hpp"
#include "temporary_folder.hpp"

using namespace mora;

TEST_SUITE_BEGIN("safetensors");

namespace {

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header.size(), header + std::string(data_bytes, '\1'));
}

std::string file_of(const std::string& header, const std::string& data) {
  return with_length(header.size(), header + data);
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

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

namespace {

struct Bad {
  const char* what;
  std::string bytes;
  const char* says;
};

const std::string kX = entry("x", "F32", "[1]", "[0,4]");

const std::vector<Bad> kBadFiles{
    {"empty file", "", "too few"},
    {"7 bytes", std::string(7, '\0'), "too few"},
    {"no header", with_length(0, ""), "end of input"},
    {"header beyond the file", with_length(100, "{}"), "claims a header of 100 bytes"},
    {"header length wraps", with_length(~uint64_t{0} - 7, "{}"), "claims a header"},
    {"header above the limit", with_length(100'000'001, "{}"), "claims a header"},
    {"not JSON", file_of("hello", 0), "syntax error"},
    {"array", file_of("[]", 0), "expected an object, got an array"},
    {"number", file_of("12", 0), "expected an object, got a number"},
    {"NUL padding", file_of(std::string("{}\0\0\0\0\0\0", 8), 0), "NUL byte"},
    {"two objects", file_of("{}{}", 0), "syntax error"},
    {"byte-order mark", file_of("\xEF\xBB\xBF{}", 0), "byte-order mark"},
    {"comment", file_of("{}//x", 0), "syntax error"},
    {"bad UTF-8 in a name", file_of("{" + entry("\xC0\x80", "F32", "[1]", "[0,4]") + "}", 4),
     "UTF-8"},
    {"surrogate in a name", file_of("{" + entry("\\ud800", "F32", "[1]", "[0,4]") + "}", 4),
     "surrogate"},
    {"empty name", file_of("{" + entry("", "F32", "[1]", "[0,4]") + "}", 4), "is empty"},
    {"NUL in a name", file_of("{" + entry("a\\u0000", "F32", "[1]", "[0,4]") + "}", 4), "a\\x00"},
    {"escape in a name", file_of("{" + entry("\\u001b[2J", "F32", "[1]", "[0,4]") + "}", 4),
     "\\x1b[2J"},
    {"long name", file_of("{" + entry(std::string(513, 'n'), "F32", "[1]", "[0,4]") + "}", 4),
     "longer than 512"},
    {"duplicate tensor", file_of("{" + kX + "," + kX + "}", 4), "duplicate tensor \"x\""},
    {"duplicate by escape",
     file_of("{" + kX + "," + entry("\\u0078", "F32", "[1]", "[0,4]") + "}", 4),
     "duplicate tensor"},
    {"tensor is an array", file_of(R"({"x":["F32",[1],[0,4]]})", 4),
     "expected an object, got an array"},
    {"tensor is null", file_of(R"({"x":null})", 0), "expected an object, got null"},
    {"tensor is empty", file_of(R"({"x":{}})", 0), "needs dtype, shape and data_offsets"},
    {"no dtype", file_of(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4), "needs dtype"},
    {"no shape", file_of(R"({"x":{"dtype":"F32","data_offsets":[0,4]}})", 4), "needs dtype"},
    {"no offsets", file_of(R"({"x":{"dtype":"F32","shape":[1]}})", 4), "needs dtype"},
    {"unknown field", file_of(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"y":1}})", 4),
     "unknown field \"y\""},
    {"field twice",
     file_of(R"({"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
     "has dtype twice"},
    {"unknown dtype", file_of("{" + entry("x", "F33", "[1]", "[0,4]") + "}", 4),
     "unknown dtype \"F33\""},
    {"dtype in lower case", file_of("{" + entry("x", "f32", "[1]", "[0,4]") + "}", 4),
     "unknown dtype"},
    {"dtype is an object",
     file_of(R"({"x":{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}})", 4),
     "an object in dtype"},
    {"dtype is a number", file_of(R"({"x":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4),
     "a number in dtype"},
    {"shape is a number", file_of("{" + entry("x", "F32", "1", "[0,4]") + "}", 4),
     "a number in shape"},
    {"shape is a string", file_of("{" + entry("x", "F32", "\"1\"", "[0,4]") + "}", 4),
     "a string in shape"},
    {"nested shape", file_of("{" + entry("x", "F32", "[[1]]", "[0,4]") + "}", 4),
     "an array in shape"},
    {"negative dimension", file_of("{" + entry("x", "F32", "[-1]", "[0,4]") + "}", 4),
     "a negative number in shape"},
    {"minus zero", file_of("{" + entry("x", "F32", "[-0]", "[0,0]") + "}", 0), "a negative number"},
    {"dimension 1.0", file_of("{" + entry("x", "F32", "[1.0]", "[0,4]") + "}", 4),
     "not an integer"},
    {"dimension 2^64", file_of("{" + entry("x", "F32", "[18446744073709551616]", "[0,4]") + "}", 4),
     "not an integer below 2^64"},
    {"dimension true", file_of("{" + entry("x", "F32", "[true]", "[0,4]") + "}", 4),
     "a boolean in shape"},
    {"huge dimension beside 0",
     file_of("{" + entry("x", "F32", "[0,9223372036854775808]", "[0,0]") + "}", 0),
     "has a dimension of"},
    {"product overflows",
     file_of("{" + entry("x", "F32", "[4294967296,4294967296]", "[0,4]") + "}", 4),
     "no size in whole bytes"},
    {"product wraps to 4",
     file_of("{" + entry("x", "U8", "[281474976710655,281474976710655,4]", "[0,4]") + "}", 4),
     "no size in whole bytes"},
    {"rank 9", file_of("{" + entry("x", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4),
     "more than 8 dimensions"},
    {"half bytes", file_of("{" + entry("x", "F4", "[3]", "[0,2]") + "}", 2),
     "no size in whole bytes"},
    {"one offset", file_of("{" + entry("x", "F32", "[1]", "[4]") + "}", 4),
     "needs two data_offsets"},
    {"three offsets", file_of("{" + entry("x", "F32", "[1]", "[0,4,4]") + "}", 4),
     "more than two data_offsets"},
    {"negative offset", file_of("{" + entry("x", "F32", "[1]", "[-4,0]") + "}", 4),
     "a negative number in data_offsets"},
    {"float offset", file_of("{" + entry("x", "F32", "[1]", "[0,4e0]") + "}", 4), "not an integer"},
    {"offsets reversed", file_of("{" + entry("x", "F32", "[1]", "[4,0]") + "}", 4), "leaves a gap"},
    {"end before begin", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[4,0]") + "}", 4),
     "ends before it begins"},
    {"size too small", file_of("{" + entry("x", "F32", "[2]", "[0,4]") + "}", 4), "needs 8 bytes"},
    {"size too large", file_of("{" + entry("x", "F32", "[1]", "[0,8]") + "}", 8), "needs 4 bytes"},
    {"overlap", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[2,6]") + "}", 6), "overlaps"},
    {"same place", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[0,4]") + "}", 4),
     "overlaps"},
    {"hole", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[8,12]") + "}", 12),
     "leaves a gap"},
    {"gap at the front", file_of("{" + entry("x", "F32", "[1]", "[4,8]") + "}", 8), "leaves a gap"},
    {"data beyond the file", file_of("{" + kX + "}", 3), "goes beyond the 3 bytes"},
    {"offsets near 2^64",
     file_of("{" + entry("x", "F32", "[1]", "[0,18446744073709551615]") + "}", 4), "goes beyond"},
    {"trailing bytes", file_of("{" + kX + "}", 5), "1 bytes after the last tensor"},
    {"data without tensors", file_of("{}", 1), "1 bytes after"},
    {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0),
     "duplicate key \"__metadata__\""},
    {"metadata key twice", file_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0),
     "duplicate key \"a\""},
    {"metadata null", file_of(R"({"__metadata__":null})", 0), "expected an object, got null"},
    {"metadata number", file_of(R"({"__metadata__":{"a":1}})", 0),
     "expected a string, got a number"},
    {"metadata nested", file_of(R"({"__metadata__":{"a":{}}})", 0), "an object"},
    {"deep nesting", file_of("{\"x\":" + std::string(1'000'000, '['), 0), "got an array"},
};

}  // namespace

TEST_CASE("every rule that a file breaks is an error about that file") {
  const TemporaryFolder folder;
  for (const Bad& bad : kBadFiles) {
    CAPTURE(bad.what);
    const auto path = folder.file("bad.safetensors", bad.bytes);
    const auto message = message_of(ErrorKind::data, [&] { SafetensorsFile file(path); });
    CHECK_MESSAGE(message.find(path.string()) == 0, message);
    CHECK_MESSAGE(message.find(bad.says) != std::string::npos, message);
    CHECK_MESSAGE(message.find('\x1B') == std::string::npos, message);
  }
  message_of(ErrorKind::data, [&] { SafetensorsFile file(folder / "none"); });
  message_of(ErrorKind::data, [&] { SafetensorsFile file(folder.path()); });
}

TEST_CASE("every type's sizes are checked to the byte") {
  struct Width {
    const char* dtype;
    int64_t bits;
  };
  constexpr Width kWidths[] = {{"BOOL", 8},    {"U8", 8},      {"I8", 8},   {"F8_E5M2", 8},
                               {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16}, {"U16", 16},
                               {"F16", 16},    {"BF16", 16},   {"I32", 32}, {"U32", 32},
                               {"F32", 32},    {"F64", 64},    {"I64", 64}, {"U64", 64}};
  const TemporaryFolder folder;
  size_t refused = 0;
  for (const Width& w : kWidths) {
    CAPTURE(w.dtype);
    const int64_t bytes = 6 * w.bits / 8;
    const auto one = [&](const std::string& shape, int64_t begin, int64_t end) {
      const std::string offsets = str("[", begin, ",", end, "]");
      return folder.file(
          "t", file_of("{" + entry("x", w.dtype, shape, offsets) + "}", static_cast<size_t>(end)));
    };
    CHECK_NOTHROW(SafetensorsFile(one("[2,3]", 0, bytes)));
    CHECK_NOTHROW(SafetensorsFile(one("[0,3]", 0, 0)));
    for (const auto& path :
         {one("[2,3]", 0, bytes - 1), one("[2,3]", 0, bytes + 1), one("[2,3]", 1, bytes + 1),
          one("[2,4]", 0, bytes), one("[]", 0, bytes), one("[4611686018427387904,4]", 0, bytes),
          one("[9223372036854775807]", 0, bytes)}) {
      message_of(ErrorKind::data, [&] { SafetensorsFile file(path); });
      ++refused;
    }
  }
  CHECK(refused == 112);
}

TEST_CASE("a file cut at any length is refused") {
  const TemporaryFolder folder;
  const auto a = tensor_of<float>({2, 2}, {1, 2, 3, 4});
  const auto b = tensor_of<bf16>({3}, {bf16(1.0f), bf16(2.0f), bf16(3.0f)});
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
  const auto a = tensor_of<float>({2, 2}, {1, 2, 3, 4});
  const auto b = tensor_of<bf16>({3}, {bf16(1.0f), bf16(2.0f), bf16(3.0f)});
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
