// mora-convert adapter --to gguf-lora: what llama.cpp makes of the file, B A alpha / r, is what
// PEFT adds to each matrix; and adapters that such a file cannot express are refused by name.
#include <algorithm>
#include <cmath>
#include <random>

#include "command.hpp"
#include "io/json.hpp"
#include "mora/io/gguf.hpp"
#include "mora/io/safetensors.hpp"
#include "worse.hpp"

TEST_SUITE_BEGIN("gguf lora");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kQ = "model.layers.0.self_attn.q_proj";  // 128 x 128, heads of 32
constexpr const char* kDown = "model.layers.5.mlp.down_proj";  // 128 x 352

struct Matrix {
  int64_t rows, columns;
  std::vector<float> values;
};

Matrix random_matrix(int64_t rows, int64_t columns, std::mt19937& random) {
  Matrix m{rows, columns, std::vector<float>(static_cast<size_t>(rows * columns))};
  for (float& v : m.values) v = static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 1000;
  return m;
}

// A PEFT folder for the embedded base, in `adapter`; its B and A by module.
struct PeftFolder : TemporaryFolder {
  std::map<std::string, Matrix> a, b;
  Json config = {{"peft_type", "LORA"},
                 {"r", 4},
                 {"rank_pattern", {{"down_proj", 2}}},
                 {"lora_alpha", 16},
                 {"bias", "none"},
                 {"target_modules", {"0.self_attn.q_proj", "5.mlp.down_proj"}}};

  PeftFolder() {
    std::mt19937 random(5);
    a = {{kQ, random_matrix(4, 128, random)}, {kDown, random_matrix(2, 352, random)}};
    b = {{kQ, random_matrix(128, 4, random)}, {kDown, random_matrix(128, 2, random)}};
  }

  Finished convert(const std::string& base = kBase) const {
    fs::create_directories(path() / "adapter");
    write_file_atomically(path() / "adapter" / "adapter_config.json", dump_json(config));
    std::vector<StoredTensor> tensors;
    for (const auto& [half, list] : {std::pair{"A", &a}, {"B", &b}}) {
      for (const auto& [module, m] : *list) {
        tensors.push_back({str("base_model.model.", module, ".lora_", half, ".weight"),
                           "F32",
                           {m.rows, m.columns},
                           [&values = m.values](const ByteSink& sink) {
                             sink(std::as_bytes(std::span(values)));
                           }});
      }
    }
    write_safetensors(path() / "adapter" / "adapter_model.safetensors",
                      std::span<const StoredTensor>(tensors));
    return run(path(), {MORA_BINARY_DIR "/mora-convert", "adapter", "--to", "gguf-lora",
                        "--adapter", "adapter", "--model", base, "--out", "lora.gguf"});
  }

  void check_refused(const std::string& part) const {
    const Finished finished = convert();
    CHECK_MESSAGE(finished.code == 3, finished.err);
    CHECK_MESSAGE(finished.err.find(part) != std::string::npos, finished.err);
    CHECK(std::ranges::count(finished.err, '\n') == 1);
    CHECK_FALSE(fs::exists(path() / "lora.gguf"));
  }
};

// Row `row` of what the file adds to the base's tensor `name`.
std::vector<double> update_row(const GgufFile& file, const std::string& name, int64_t row) {
  const GgufTensor &a = file.tensor(name + ".lora_a"), &b = file.tensor(name + ".lora_b");
  const auto rank = static_cast<size_t>(a.shape[0]), width = static_cast<size_t>(a.shape[1]);
  std::vector<float> left(rank), right(width);
  std::vector<double> sum(width);
  file.read_row(b, row, left);
  for (size_t k = 0; k < rank; ++k) {
    file.read_row(a, static_cast<int64_t>(k), right);
    for (size_t j = 0; j < width; ++j)
      sum[j] += static_cast<double>(left[k]) * static_cast<double>(right[j]);
  }
  for (double& s : sum) s *= file.real("adapter.lora.alpha") / static_cast<double>(rank);
  return sum;
}

// The file's update equals scale * B A, rows taken in the order that `ours(row)` says.
template <class Order>
void check_update(const PeftFolder& folder, const std::string& module, const std::string& name,
                  double scale, const Order& ours) {
  const GgufFile file(folder / "lora.gguf");
  const Matrix &a = folder.a.at(module), &b = folder.b.at(module);
  for (int64_t row = 0; row < b.rows; ++row) {
    const std::vector<double> got = update_row(file, name, row);
    double worst = 0;
    for (size_t j = 0; j < got.size(); ++j) {
      double expected = 0;
      for (size_t k = 0; k < static_cast<size_t>(a.rows); ++k) {
        expected += static_cast<double>(b.values[static_cast<size_t>(ours(row) * b.columns) + k]) *
                    static_cast<double>(a.values[k * static_cast<size_t>(a.columns) + j]);
      }
      worst = worse(worst, std::fabs(got[j] - scale * expected));
    }
    CHECK(worst < 1e-5 * scale);
  }
}

// GGUF's row 2 i + h of a head is our row 16 h + i.
int64_t rotated(int64_t row) {
  return row / 32 * 32 + row % 2 * 16 + row % 32 / 2;
}
int64_t straight(int64_t row) {
  return row;
}

}  // namespace

TEST_CASE("the update of every matrix is PEFT's") {
  struct Case {
    const char* config;
    double q, down;  // PEFT's scale of each
  };
  const Case cases[] = {
      {R"({"r": 4, "lora_alpha": 16})", 4, 8},  // the ranks are 4 and 2
      {R"({"r": 4, "lora_alpha": 16, "use_rslora": true})", 8, 16 / std::sqrt(2.0)},
      {R"({"alpha_pattern": {"down_proj": 3}, "lora_alpha": 16})", 4, 1.5},
      {R"({"alpha_pattern": {"layers.0.self_attn.q_proj": 1, "q_proj": 2}, "lora_alpha": 8})", 0.25,
       4},
      {R"({"alpha_pattern": {"proj": 1}, "lora_alpha": 8})", 2, 4},
      {R"({"alpha_pattern": {"q_.*": 3}, "target_modules": ".*(0.self_attn.q|5.mlp.down)_proj"})",
       0.75, 8},
      {R"({"use_rslora": true, "alpha_pattern": {"down_proj": 6}, "lora_alpha": 2})", 1,
       6 / std::sqrt(2.0)}};
  for (const Case& each : cases) {
    INFO(each.config);
    PeftFolder folder;
    folder.config.update(parse_json(each.config, "case"));
    const Finished finished = folder.convert();
    REQUIRE_MESSAGE(finished.code == 0, finished.err);
    check_update(folder, kQ, "blk.0.attn_q.weight", each.q, rotated);
    check_update(folder, kDown, "blk.5.ffn_down.weight", each.down, straight);
  }
  const PeftFolder plain;
  REQUIRE(plain.convert().code == 0);
  const GgufFile file(plain / "lora.gguf");
  CHECK(file.text("general.type") == "adapter");
  CHECK(file.text("general.architecture") == "llama");
  CHECK(file.text("adapter.type") == "lora");
  CHECK(file.real("adapter.lora.alpha") == 16);
  CHECK(str(file.tensor("blk.0.attn_q.weight.lora_a")) == "F32[4, 128]");
  CHECK(str(file.tensor("blk.0.attn_q.weight.lora_b")) == "F32[128, 4]");
}

TEST_CASE("adapters that a LoRA in GGUF cannot express are refused") {
  const std::pair<const char*, Json> settings[] = {
      {"use_dora", true},
      {"use_mora", true},
      {"fan_in_fan_out", true},
      {"lora_bias", true},
      {"modules_to_save", Json::array({"lm_head"})},
      {"bias", "all"},
      {"peft_type", "LOHA"},
      {"init_lora_weights", "pissa"},
      {"trainable_token_indices", Json::array({1})},
      {"target_parameters", Json::array({"x"})},
      {"layer_replication", Json::array({Json::array({0, 1})})},
      {"alpha_pattern", Json({{"q_(", 3}})},
      {"rank_pattern", Json({{"down_proj", 3}})},
      {"target_modules", Json::array({"0.self_attn.q_proj"})},
      {"lora_alpha", 0},
      {"lora_alpha", "16"}};
  for (const auto& setting : settings) {
    const std::string key = setting.first;
    INFO(key);
    PeftFolder folder;
    folder.config[key] = setting.second;
    folder.check_refused(key == "lora_alpha"     ? "alpha"
                         : key == "rank_pattern" ? "the configuration says 3"
                                                 : key);
  }
  for (const char* key : {"use_dora", "use_mora"}) {  // off is fine
    PeftFolder folder;
    folder.config[key] = false;
    CHECK(folder.convert().code == 0);
  }
}

TEST_CASE("tensors that are no pairs for matrices of the base are refused") {
  std::mt19937 random(1);
  const auto refused = [](const auto& spoil, const std::string& part) {
    PeftFolder folder;
    spoil(folder);
    folder.check_refused(part);
  };
  refused([](PeftFolder& f) { f.b.erase(kQ); }, "q_proj.lora_B.weight");
  refused([](PeftFolder& f) { f.a.erase(kQ); }, "q_proj.lora_A.weight");
  refused([&](PeftFolder& f) { f.a[kQ] = random_matrix(4, 127, random); }, "does not fit");
  refused([&](PeftFolder& f) { f.a[kQ] = random_matrix(3, 128, random); }, "does not fit");
  refused([&](PeftFolder& f) { f.b[kQ] = random_matrix(64, 4, random); }, "does not fit");
  refused([](PeftFolder& f) { f.b[kQ].values[3] = NAN; }, "holds a value");
  refused([](PeftFolder& f) { f.a.erase(kQ), f.b.erase(kQ); }, "q_proj.lora_A.weight");
  refused(
      [](PeftFolder& f) {
        f.config["target_modules"] = Json::array({"nothing"});
        f.a.clear(), f.b.clear();
      },
      "no LoRA");
  for (const char* name :
       {"model.layers.6.self_attn.q_proj", "lm_head", "model.embed_tokens", "x"}) {
    INFO(name);
    refused(
        [&](PeftFolder& f) {
          f.a[name] = random_matrix(4, 128, random);
          f.b[name] = random_matrix(1024, 4, random);
        },
        name);
  }
  const PeftFolder folder;  // the base that it names must be one
  CHECK(folder.convert("absent").code == 3);
}

TEST_SUITE_END();

}  // namespace mora::testing
