// mora-convert adapter --to lora: the file is PEFT's layout of a LoRA of scale 1, its update is the
// adapter's, exactly or as near as the rank allows, and nothing else is pretended.
#include <algorithm>

#include "adapter_folders.hpp"
#include "command.hpp"
#include "mora/adapters/lora_export.hpp"
#include "worse.hpp"

TEST_SUITE_BEGIN("adapter convert");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

const std::string kLayer = "model.layers.0.self_attn.q_proj";

AdapterConfig config_of(const std::string& operation, const std::string& grouping = "strided") {
  AdapterConfig config = adapter_kind("mora", operation, grouping).config;
  config.target_modules = {"q_proj", "up_proj", "down_proj"};
  return config;
}

AdapterConfig lora_config() {
  AdapterConfig config = adapter_kind("lora").config;
  config.target_modules = {"q_proj", "up_proj", "down_proj"};
  return config;
}

const std::vector<LayerShape>& some_layers() {
  static const std::vector<LayerShape> layers = {
      {"model.layers.0.self_attn.q_proj", 24, 24}, {"model.layers.0.mlp.up_proj", 51, 24},
      {"model.layers.0.mlp.down_proj", 24, 51},    {"model.layers.1.self_attn.q_proj", 24, 24},
      {"model.layers.1.mlp.up_proj", 51, 24},      {"model.layers.1.mlp.down_proj", 24, 51}};
  return layers;
}

void convert(const AdapterAndBase& folders, const std::string& to, int64_t rank) {
  const AdapterFolder adapter(folders.adapter(), "");
  fs::create_directory(folders / to);
  save_lora(folders / to, adapter, folders.adapter(), lora_layers(adapter, rank));
}

Numbers tensor(const SafetensorsFile& file, const std::string& name) {
  const OwnedTensor values({DType::f64, Shape(std::span<const int64_t>(file.info(name).shape))});
  file.read(name, values.view());
  return {values.as<double>().begin(), values.as<double>().end()};
}

// The value that PEFT takes for a layer: of the first key that ends its name.
double by_pattern(const Json& pattern, const std::string& path, double otherwise) {
  for (const auto& [key, value] : pattern.items()) {
    if (path == key || path.ends_with("." + key)) return value.get<double>();
  }
  return otherwise;
}

// What PEFT makes of a folder: scale B A of each layer, checking that ranks and shapes agree.
std::map<std::string, Numbers> updates_in(const fs::path& folder,
                                          const std::vector<LayerShape>& layers) {
  const Json config = json_of(folder / "adapter_config.json");
  CHECK(config.at("peft_type") == "LORA");
  CHECK_FALSE(config.contains("use_mora"));
  CHECK(config.at("use_rslora") == false);
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  CHECK(file.tensors().size() == 2 * layers.size());
  std::map<std::string, Numbers> all;
  for (const LayerShape& layer : layers) {
    const std::string name = "base_model.model." + layer.path;
    const auto rank = static_cast<int64_t>(
        by_pattern(config.at("rank_pattern"), layer.path, config.at("r").get<double>()));
    const double alpha =
        by_pattern(config.at("alpha_pattern"), layer.path, config.at("lora_alpha").get<double>());
    CHECK(alpha == static_cast<double>(rank));
    const TensorInfo &a = file.info(name + ".lora_A.weight"),
                     &b = file.info(name + ".lora_B.weight");
    CHECK(a.dtype == "F32");
    REQUIRE(a.shape == std::vector<int64_t>{rank, layer.in});
    REQUIRE(b.shape == std::vector<int64_t>{layer.out, rank});
    all[layer.path] = product(tensor(file, name + ".lora_B.weight"),
                              tensor(file, name + ".lora_A.weight"), layer.out, rank, layer.in);
  }
  return all;
}

void check_equal(const std::map<std::string, Numbers>& got,
                 const std::map<std::string, Numbers>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (const auto& entry : expected) {
    const std::string& path = entry.first;
    const Numbers& update = entry.second;
    double worst = 0;
    const Numbers difference = minus(got.at(path), update);
    for (const double d : difference) worst = worse(worst, std::fabs(d));
    CHECK_MESSAGE(worst <= tolerance, path);
    CHECK(frobenius(update) > 0.01);
  }
}

// Runs the program in the folder: adapter -> out.
Finished program(const TemporaryFolder& folder, const std::vector<std::string>& options) {
  return run(folder.path(),
             joined({MORA_BINARY_DIR "/mora-convert", "adapter", "--out", "out"}, options));
}

TEST_CASE("operators with few numbers inside become a LoRA without loss") {
  for (const AdapterKind& kind : adapter_kinds()) {
    if (full_rank(kind.config)) continue;
    AdapterConfig config = kind.config;
    config.target_modules = {"q_proj"};
    // Square, wide, tall, odd, r_hat above in, above out, above both, above 2 in.
    const int64_t shapes[][2] = {{16, 16}, {10, 24}, {24, 10}, {13, 7}, {40, 6},
                                 {6, 40},  {2, 3},   {60, 3},  {1, 5},  {5, 1}};
    for (const auto& s : shapes) {
      if (config.init_lora_weights == "asymmetric" && s[1] < config.r) continue;  // refused
      INFO(kind.name, " ", s[0], " x ", s[1]);
      const std::vector<LayerShape> layers = {{kLayer, s[0], s[1]}};
      const AdapterAndBase folders(config, layers);
      convert(folders, "out", 0);
      // MoRA's numbers are copied; LoRA's are multiplied by its scale, and rounded to F32 once.
      check_equal(updates_in(folders / "out", layers), folders.updates(),
                  config.method == "mora" ? 1e-15 : 1e-6);
    }
  }
}

TEST_CASE("MoRA's scale is multiplied into the numbers that other programs read") {
  AdapterConfig scaled = config_of("sharing");
  scaled.scale = 0.3;
  const AdapterAndBase folders(scaled, some_layers()), plain(config_of("sharing"), some_layers());
  CHECK(read_adapter_config(folders.adapter()).scale == 1);
  std::map<std::string, Numbers> expected = plain.updates();
  for (auto& [path, update] : expected) {
    for (double& x : update) x *= 0.3;
  }
  check_equal(folders.updates(), expected, 1e-6);
}

TEST_CASE("layers of several shapes get their ranks by pattern") {
  const AdapterAndBase folders(config_of("sharing"), some_layers());
  convert(folders, "out", 0);
  check_equal(updates_in(folders / "out", some_layers()), folders.updates(), 1e-15);
  const Json config = json_of(folders / "out/adapter_config.json");
  const int64_t mlp = mora_rank(24, 51, 2, "sharing"), attention = mora_rank(24, 24, 2, "sharing");
  CHECK(config.at("r") == mlp);  // four layers of six
  CHECK(config.at("rank_pattern") == Json({{"q_proj", attention}}));
  CHECK(config.at("alpha_pattern") == config.at("rank_pattern"));
  CHECK(config.at("target_modules") ==
        json_of(folders.adapter() / "adapter_config.json").at("target_modules"));
  CHECK(config.at("base_model_name_or_path") == folders.base().string());
}

TEST_CASE("layers of one name and several shapes are named in full") {
  const std::vector<LayerShape> layers = {{"model.layers.0.mlp.up_proj", 24, 24},
                                          {"model.layers.1.mlp.up_proj", 51, 24},
                                          {"model.layers.11.mlp.up_proj", 24, 24}};
  AdapterConfig config = config_of("sharing");
  config.target_modules = {"up_proj"};
  const AdapterAndBase folders(config, layers);
  convert(folders, "out", 0);
  check_equal(updates_in(folders / "out", layers), folders.updates(), 1e-15);
  CHECK(json_of(folders / "out/adapter_config.json").at("rank_pattern") ==
        Json({{"model.layers.1.mlp.up_proj", mora_rank(24, 51, 2, "sharing")}}));
}

TEST_CASE("the program's folder loads again") {
  AdapterConfig config = config_of("sharing", "contiguous");
  config.target_modules = {"q_proj"};
  const std::vector<LayerShape> layers = {some_layers()[0], some_layers()[3]};
  const AdapterAndBase folders(config, layers);
  const Finished finished = program(folders, {"--adapter", "adapter", "--to", "lora"});
  REQUIRE_MESSAGE(finished.code == 0, finished.err);
  CHECK(finished.out.find("exactly") != std::string::npos);
  const auto expected = folders.updates();
  check_equal(updates_in(folders / "out", layers), expected, 1e-15);
  fs::remove_all(folders.adapter());
  fs::rename(folders / "out", folders.adapter());
  check_equal(folders.updates(), expected, 1e-9);
  // And is converted as any other: to a lower rank.
  const Finished again = program(folders, {"--adapter", "adapter", "--to", "lora", "--rank", "3"});
  REQUIRE_MESSAGE(again.code == 0, again.err);
  CHECK(json_of(folders / "out/adapter_config.json").at("r") == 3);
}

TEST_CASE("a rank gives the nearest update, and its error is printed") {
  for (const AdapterConfig& config :
       {config_of("rotation"), config_of("decoupling"), config_of("sharing"), lora_config()}) {
    INFO(config.method, " ", config.operation);
    const AdapterAndBase folders(config, some_layers());
    const Finished finished =
        program(folders, {"--adapter", "adapter", "--to", "lora", "--rank", "1"});
    REQUIRE_MESSAGE(finished.code == 0, finished.err);
    const auto expected = folders.updates(), got = updates_in(folders / "out", some_layers());
    double all = 0, left_out = 0;
    for (const LayerShape& layer : some_layers()) {
      const double error = frobenius(minus(got.at(layer.path), expected.at(layer.path))),
                   norm = frobenius(expected.at(layer.path));
      CHECK(error < norm);
      CHECK(error > 0.01 * norm);
      all = std::hypot(all, norm);
      left_out = std::hypot(left_out, error);
      char line[200];
      std::snprintf(line, sizeof line, "%s: rank 1, relative error %.3g\n", layer.path.c_str(),
                    error / norm);
      CHECK_MESSAGE(finished.out.find(line) != std::string::npos, line, finished.out);
    }
    char line[200];
    std::snprintf(line, sizeof line, "all layers: relative error %.3g", left_out / all);
    CHECK_MESSAGE(finished.out.find(line) != std::string::npos, line, finished.out);
  }
}

TEST_CASE("a rank as large as the update's loses nothing") {
  for (const AdapterConfig& config : {config_of("rotation"), config_of("sharing"), lora_config()}) {
    INFO(config.method, " ", config.operation);
    const AdapterAndBase folders(config, some_layers());
    convert(folders, "out", 1000);
    check_equal(updates_in(folders / "out", some_layers()), folders.updates(), 1e-6);
    CHECK(json_of(folders / "out/adapter_config.json").at("r") <= 24);
  }
}

TEST_CASE("what a LoRA cannot express is refused, and nothing is left") {
  const auto refused = [](const TemporaryFolder& folder, int code,
                          const std::vector<std::string>& options, const std::string& part) {
    const Finished finished = program(folder, options);
    CHECK_MESSAGE(finished.code == code, finished.err);
    CHECK_MESSAGE(finished.err.find(part) != std::string::npos, finished.err);
    CHECK(std::ranges::count(finished.err, '\n') == 1);
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      const std::string name = entry.path().filename().string();
      CHECK_MESSAGE((name == "adapter" || name == "base"), name);
    }
  };
  const std::vector<std::string> lora = {"--adapter", "adapter", "--to", "lora"};
  for (const char* operation : {"rotation", "decoupling"}) {
    const AdapterAndBase folders(config_of(operation), some_layers());
    refused(folders, 2, lora, "merge");
    refused(folders, 2, lora, "--rank");
  }
  const AdapterAndBase folders(config_of("sharing"), some_layers());
  refused(folders, 2, joined(lora, {"--rank", "0"}), "--rank");
  refused(folders, 2, {"--adapter", "adapter", "--to", "dora"}, "--to");
  refused(folders, 2, {"--adapter", "adapter", "--to", "gguf-lora"}, "--model");
  refused(folders, 2,
          {"--adapter", "adapter", "--to", "gguf-lora", "--model", "base", "--rank", "2"},
          "--rank");
  refused(folders, 3, joined(lora, {"--model", "absent"}), "absent");
  refused(folders, 3, {"--adapter", "absent", "--to", "lora"}, "absent");
  fs::rename(folders.base(), folders.adapter() / "hidden");  // the base is no longer where it was
  refused(folders, 2, lora, "--model");
}

TEST_CASE("numbers that are not finite are refused") {
  for (const AdapterConfig& config : {config_of("sharing"), config_of("rotation"), lora_config()}) {
    AdapterConfig one = config;
    one.target_modules = {"q_proj"};
    const AdapterAndBase folders(one, {some_layers()[0]});
    const fs::path path = folders.adapter() / "adapter_model.safetensors";
    const SafetensorsFile file(path);
    std::deque<OwnedTensor> memory;
    std::vector<NamedTensor> tensors;
    for (const auto& [name, info] : file.tensors()) {
      memory.emplace_back(Type{DType::f32, Shape(std::span<const int64_t>(info.shape))});
      file.read(name, memory.back().view());
      memory.back().as<float>()[1] = NAN;
      tensors.push_back({name, memory.back().view()});
    }
    write_safetensors(path, tensors, file.metadata());
    for (const char* rank : {"", "2"}) {
      if (config.operation == "rotation" && *rank == '\0') continue;
      std::vector<std::string> options = {"--adapter", "adapter", "--to", "lora"};
      if (*rank != '\0') options = joined(options, {"--rank", rank});
      const Finished finished = program(folders, options);
      CHECK_MESSAGE(finished.code == 3, finished.err);
      CHECK_MESSAGE(finished.err.find("not finite") != std::string::npos, finished.err);
      CHECK_FALSE(fs::exists(folders / "out"));
    }
  }
}

}  // namespace

TEST_SUITE_END();

}  // namespace mora::testing
