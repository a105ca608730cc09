// Scaled RoPE on the way to GGUF and back; what GGUF cannot hold is refused, not dropped.
#include <doctest/doctest.h>

#include "command.hpp"
#include "golden.hpp"
#include "mora/io/file.hpp"
#include "mora/models/llama.hpp"
#include "mora/models/llama_gguf.hpp"

TEST_SUITE_BEGIN("gguf rope");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

Finished convert_with(const fs::path& folder, const std::vector<std::string>& options) {
  return run(folder, joined({MORA_BINARY_DIR "/mora-convert"}, options));
}

TEST_CASE("linear and llama3 RoPE go to GGUF and back") {
  for (const RopeScaling& scaling :
       {RopeScaling{RopeType::linear, 4}, RopeScaling{RopeType::llama3, 8, 1, 4, 64}}) {
    const TemporaryFolder folder;
    fs::copy(kBase, folder / "in", fs::copy_options::recursive);
    LlamaConfig config = read_llama_config(folder / "in" / "config.json");
    config.rope_scaling = scaling;
    write_file_atomically(folder / "in" / "config.json", to_json_text(config, DType::f32));
    for (const auto& options :
         {std::vector<std::string>{"hf-to-gguf", "--model", "in", "--out", "m.gguf"},
          std::vector<std::string>{"gguf-to-hf", "--model", "m.gguf", "--out", "out"}}) {
      const Finished finished = convert_with(folder.path(), options);
      CHECK_MESSAGE(finished.code == 0, finished.err);
    }
    const LlamaConfig back = read_llama_config(folder / "out" / "config.json");
    CHECK(back.rope_scaling == scaling);
    CHECK(back.rope_theta == config.rope_theta);
  }
}

TEST_CASE("llama3 RoPE is found again for heads of any size, however few frequencies are blended") {
  int found = 0;
  for (const int64_t head_dim : {4, 6, 8, 16, 32, 64, 128}) {
    for (const double theta : {100.0, 10000.0, 500000.0}) {
      for (const double original : {64.0, 500.0, 8192.0}) {
        for (const double factor : {8.0, 32.0}) {
          const Llama3Rope rope{.factor = factor, .original = original};
          const std::vector<float> divisors = llama3_divisors(rope, theta, head_dim);
          // Where no frequency is divided in full, nothing tells the factor.
          if (divisors.back() != static_cast<float>(factor)) continue;
          CAPTURE(head_dim);
          CAPTURE(theta);
          CAPTURE(original);
          const auto again = find_llama3(divisors, theta, {});
          REQUIRE(again);
          const std::vector<float> those = llama3_divisors(*again, theta, head_dim);
          for (size_t i = 0; i < divisors.size(); ++i)
            CHECK(those[i] == doctest::Approx(divisors[i]).epsilon(1e-5));
          ++found;
        }
      }
    }
  }
  CHECK(found > 80);
}

TEST_CASE("dynamic RoPE and biases are refused by name") {
  for (const auto& [model, part] :
       {std::pair{"llama_dynamic", "\"dynamic\""}, {"llama_bias", "attention_bias"}}) {
    const TemporaryFolder folder;
    const Finished finished = convert_with(
        folder.path(),
        {"hf-to-gguf", "--model", (golden_folder() / model).string(), "--out", "m.gguf"});
    CHECK(finished.code == 3);
    CHECK_MESSAGE(finished.err.find(part) != std::string::npos, finished.err);
    CHECK_MESSAGE(finished.err.find("config.json") != std::string::npos, finished.err);
    CHECK_FALSE(fs::exists(folder / "m.gguf"));
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
