// GGUF: the values of every block type as the reference computes them, and files that come back as
// they were written.
#include "mora/io/gguf.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "gguf_bytes.hpp"
#include "golden.hpp"
#include "mora/io/tensor_rows.hpp"
#include "temporary_folder.hpp"

using namespace mora;
using namespace mora::testing;

TEST_SUITE_BEGIN("gguf");

namespace {

SafetensorsFile golden() {
  return SafetensorsFile(golden_folder() / "gguf_blocks.safetensors");
}

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

}  // namespace

TEST_CASE("blocks of every type have the reference's values") {
  const SafetensorsFile file = golden();
  for (const char* name :
       {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q6_K"}) {
    INFO(name);
    const GgmlType& type = ggml_type(name);
    const OwnedTensor expected = read_tensor(file, str(name, ".values"), DType::f32);
    std::vector<float> values(static_cast<size_t>(expected.view().elements()));
    REQUIRE(expected.view().shape().last() == type.block_values);
    dequantize(type, file.bytes(str(name, ".blocks")), values);
    size_t wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) wrong += !same(values[i], expected.as<float>()[i]);
    CHECK(wrong == 0);
    CHECK(std::ranges::any_of(values, [](float v) { return std::isnan(v); }));
    CHECK(find_ggml_type(type.id) == &type);
  }
}

TEST_CASE("quantisation gives the reference's bytes") {
  const SafetensorsFile file = golden();
  const OwnedTensor values = read_tensor(file, "quantize.values", DType::f32);
  for (const char* name : {"Q8_0", "F16", "BF16"}) {
    INFO(name);
    const auto expected = file.bytes(str("quantize.", name));
    std::vector<std::byte> blocks(expected.size());
    CHECK(quantize(ggml_type(name), values.as<float>(), blocks));
    CHECK(std::ranges::equal(blocks, expected));
  }
}

TEST_CASE("what a type cannot hold is not quantised") {
  const auto fits = [](const char* name, float value) {
    std::vector<float> values(32, 1.0f);
    values[7] = value;
    const GgmlType& type = ggml_type(name);
    std::vector<std::byte> blocks(type.bytes(values.size()));
    return quantize(type, values, blocks);
  };
  for (const char* name : {"F32", "F16", "BF16", "Q8_0"}) {
    INFO(name);
    CHECK(fits(name, 1000.0f));
    CHECK_FALSE(fits(name, std::nanf("")));
    CHECK_FALSE(fits(name, INFINITY));
    CHECK_FALSE(fits(name, -INFINITY));
  }
  CHECK_FALSE(fits("F16", 65520.0f));
  CHECK(fits("F16", 65519.0f));
  CHECK_FALSE(fits("BF16", std::numeric_limits<float>::max()));
  CHECK(fits("F32", std::numeric_limits<float>::max()));
  CHECK_FALSE(fits("Q8_0", 127.0f * 65520.0f));
  CHECK(fits("Q8_0", 127.0f * 65504.0f));
}

TEST_CASE("metadata and tensors come back as they were written") {
  const TemporaryFolder folder;
  GgufMetadata metadata;
  metadata.add_u32("a.number", 7);
  metadata.add_f32("a.real", 0.25f);
  metadata.add_bool("a.flag", true);
  metadata.add_text("a.text", "with \"quotes\"\nand lines");
  metadata.add_i32s("list.i32", std::vector<int32_t>{1, -2});
  metadata.add_f32s("list.f32", std::vector<float>{0.5f});
  metadata.add_texts("list.text", std::vector<std::string>{"", "x", "\xC3\xA9"});
  std::vector<float> values(3 * 64);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 90.0f;
  const TensorRows rows = {"values", 3, 64, [&](int64_t row, std::span<float> into) {
                             std::copy_n(values.begin() + row * 64, 64, into.begin());
                           }};
  std::vector<StoredGgufTensor> tensors;
  for (const char* name : {"F32", "F16", "BF16", "Q8_0"}) {
    const GgmlType& type = ggml_type(name);
    tensors.push_back({str("t.", name), &type, {3, 64}, [&rows, &type](const ByteSink& sink) {
                         write_rows(rows, type, sink);
                       }});
  }
  tensors.push_back({"bias", &ggml_type("F32"), {3}, [](const ByteSink& sink) {
                       const float three[] = {1, 2, 3};
                       for (const float& v : three) sink(std::as_bytes(std::span(&v, 1)));
                     }});
  write_gguf(folder / "m.gguf", metadata, tensors);
  const GgufFile file(folder / "m.gguf");
  CHECK(file.version() == 3);
  CHECK(file.integer("a.number") == 7);
  CHECK(file.real("a.real") == 0.25);
  CHECK(file.boolean("a.flag"));
  CHECK(file.text("a.text") == "with \"quotes\"\nand lines");
  CHECK(file.integers("list.i32") == std::vector<int64_t>{1, -2});
  CHECK(file.reals("list.f32") == std::vector<double>{0.5});
  CHECK(file.texts("list.text") == std::vector<std::string_view>{"", "x", "\xC3\xA9"});
  CHECK(file.tensors().size() == 5);
  CHECK(str(file.tensor("t.Q8_0")) == "Q8_0[3, 64]");
  CHECK(file.bytes("bias").size() == 12);
  for (const char* name : {"F32", "F16", "BF16"}) {  // the integers up to 102 are exact in each
    std::vector<float> back(64);
    file.read_row(file.tensor(str("t.", name)), 2, back);
    CHECK(std::equal(back.begin(), back.end(), values.begin() + 128));
  }
  std::vector<float> back(64);
  file.read_row(file.tensor("t.Q8_0"), 0, back);
  for (size_t i = 0; i < back.size(); ++i) CHECK(std::fabs(back[i] - values[i]) < 0.5);
}

TEST_CASE("values of every type, and of both versions") {
  const TemporaryFolder folder;
  for (uint32_t version : {2u, 3u}) {
    GgufBytes bytes = with_all_types();
    bytes.version = version;
    const GgufFile file(folder.file("m.gguf", bytes.bytes()));
    CHECK(file.version() == version);
    CHECK(file.integer("u8") == 200);
    CHECK(file.integer("i8") == -100);
    CHECK(file.integer("u16") == 60000);
    CHECK(file.integer("i16") == -30000);
    CHECK(file.integer("u32") == 4000000000);
    CHECK(file.integer("i32") == -2000000000);
    CHECK(file.integer("u64") == int64_t{1} << 62);
    CHECK(file.integer("i64") == int64_t{-1} * (int64_t{1} << 62));
    CHECK(file.real("f32") == 0.5);
    CHECK(file.real("f64") == 0.1);
    CHECK(file.boolean("yes"));
    CHECK(file.texts("texts") == std::vector<std::string_view>{"a", "", "c d"});
    CHECK(file.texts("none").empty());
    CHECK(file.tensor("a").shape == std::vector<int64_t>{2, 4});
  }
}

TEST_CASE("a value of another type is refused by key") {
  const TemporaryFolder folder;
  const GgufFile file(folder.file("m.gguf", with_all_types().bytes()));
  const auto refused = [&](const std::string& key, const auto& get) {
    const std::string message = message_of(ErrorKind::data, [&] { get(key); });
    CHECK_MESSAGE(message.find("key \"" + key + "\"") != std::string::npos, message);
  };
  for (const char* key : {"f32", "text", "i32s", "yes", "u64 beyond", "absent"}) {
    refused(key, [&](const std::string& k) { file.integer(k); });
  }
  for (const char* key : {"u32", "text", "f32s", "nan", "absent"}) {
    refused(key, [&](const std::string& k) { file.real(k); });
  }
  for (const char* key : {"u8", "text", "absent"}) {
    refused(key, [&](const std::string& k) { file.boolean(k); });
  }
  for (const char* key : {"u8", "texts", "absent"}) {
    refused(key, [&](const std::string& k) { file.text(k); });
  }
  for (const char* key : {"u8", "texts", "f32s", "absent"}) {
    refused(key, [&](const std::string& k) { file.integers(k); });
  }
  for (const char* key : {"f32", "i32s", "texts"}) {
    refused(key, [&](const std::string& k) { file.reals(k); });
  }
  for (const char* key : {"text", "i32s"}) {
    refused(key, [&](const std::string& k) { file.texts(k); });
  }
  message_of(ErrorKind::data, [&] { file.tensor("absent"); });
}

TEST_SUITE_END();
