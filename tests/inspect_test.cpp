// mora-inspect: what it says of files whose contents are known, singular values that are known by
// construction, the same figures for an adapter and for the models before and after merging it, and
// files that are broken.
#include "mora/report/inspect.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "adapter_folders.hpp"
#include "command.hpp"
#include "gguf_bytes.hpp"
#include "mora/io/sha256.hpp"

TEST_SUITE_BEGIN("inspect");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

const std::string kQ = "model.layers.0.self_attn.q_proj", kUp = "model.layers.0.mlp.up_proj";

Finished program(const TemporaryFolder& folder, const std::vector<std::string>& options) {
  return run(folder.path(), joined({MORA_BINARY_DIR "/mora-inspect"}, options));
}

Json report_of(const InspectOptions& options) {
  return parse_json(inspect(options).json, "report", {.max_bytes = size_t{64} << 20});
}
Json report_of(const fs::path& path) {
  return report_of({.path = path, .other = {}, .model = {}});
}

const Json& entry(const Json& list, const std::string& key, const std::string& value) {
  const auto found =
      std::ranges::find_if(list, [&](const Json& each) { return each.at(key) == value; });
  REQUIRE_MESSAGE(found != list.end(), value);
  return *found;
}

// Tensors of given values, F32.
struct Weights {
  std::deque<OwnedTensor> memory;
  std::vector<NamedTensor> tensors;

  std::span<float> add(const std::string& name, const Shape& shape) {
    memory.emplace_back(Type{DType::f32, shape});
    tensors.push_back({name, memory.back().view()});
    return memory.back().as<float>();
  }
  void write(const fs::path& folder) const {
    fs::create_directories(folder);
    write_safetensors(folder / "model.safetensors", tensors);
  }
};

// u diag(values) v^T with columns of Hadamard matrices: exact in F32 for small powers of two.
void fill_with_values(std::span<float> matrix, int64_t columns, const Numbers& values) {
  const auto sign = [](size_t i, size_t j) { return std::popcount(i & j) % 2 == 0 ? 1.0 : -1.0; };
  const size_t width = static_cast<size_t>(columns), rows = matrix.size() / width;
  const double scale = 1 / std::sqrt(static_cast<double>(rows * width));
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < width; ++j) {
      double sum = 0;
      for (size_t k = 0; k < values.size(); ++k) sum += sign(i, k) * values[k] * sign(j, k);
      matrix[i * width + j] += static_cast<float>(scale * sum);
    }
  }
}

TEST_CASE("a file's tensors, totals, metadata and hash") {
  const TemporaryFolder folder;
  OwnedTensor half({DType::bf16, {3, 4}}), vector({DType::f32, {5}}), ids({DType::i32, {2}});
  write_safetensors(folder / "some.safetensors",
                    std::vector<NamedTensor>{{"model.layers.10.mlp.up_proj.weight", half.view()},
                                             {"model.layers.9.mlp.up_proj.weight", half.view()},
                                             {"model.norm.weight", vector.view()},
                                             {"ids", ids.view()}},
                    {{"origin", "a test"}});
  const Json report = report_of(folder / "some.safetensors");
  CHECK(report.at("kind") == "safetensors file");
  CHECK(report.at("parameters") == 31);
  CHECK(report.at("bytes") == 24 + 24 + 20 + 8);
  const Json& tensors = report.at("tensors");
  REQUIRE(tensors.size() == 4);
  CHECK(tensors[1].at("name") == "model.layers.9.mlp.up_proj.weight");  // 9 before 10
  CHECK(tensors[1].at("shape") == Json::array({3, 4}));
  CHECK(tensors[1].at("dtype") == "BF16");
  CHECK(tensors[1].at("bytes") == 24);
  CHECK(entry(report.at("by_kind"), "kind", "up_proj") ==
        Json({{"kind", "up_proj"}, {"tensors", 2}, {"parameters", 24}, {"bytes", 48}}));
  CHECK(entry(report.at("by_dtype"), "dtype", "I32").at("parameters") == 2);
  const Json& file = report.at("files").at(0);
  CHECK(file.at("sha256") == sha256_of_file(folder / "some.safetensors"));
  CHECK(file.at("bytes") == fs::file_size(folder / "some.safetensors"));
  CHECK(file.at("metadata") == Json({{"format", "pt"}, {"origin", "a test"}}));
  CHECK_FALSE(report.contains("updates"));

  const Finished finished = program(folder, {"some.safetensors", "--json", "report.json"});
  REQUIRE_MESSAGE(finished.code == 0, finished.err);
  CHECK(bytes_of(folder / "report.json").find("\"origin\": \"a test\"") != std::string::npos);
  for (const char* part :
       {"some.safetensors: safetensors file, 4 tensors, 31 parameters, 76 bytes\n",
        "| model.layers.9.mlp.up_proj.weight  | BF16 | 3 x 4 | 24    |\n",
        "| up_proj | 2       | 24         | 48    |\n", "some.safetensors: origin = a test\n"})
    CHECK_MESSAGE(finished.out.find(part) != std::string::npos, part, finished.out);
  CHECK(finished.out.find("NaN") == std::string::npos);
}

TEST_CASE("GGUF files") {
  const TemporaryFolder folder;
  folder.file("model.gguf", GgufBytes().bytes());
  const Json report = report_of(folder / "model.gguf");
  CHECK(report.at("kind") == "GGUF file");
  CHECK(report.at("files")[0].at("metadata") ==
        Json({{"answer", "42"}, {"general.architecture", "llama"}}));
  CHECK(entry(report.at("tensors"), "name", "a").at("shape") == Json::array({2, 4}));
  CHECK(report.at("parameters") == 11);
  folder.file("values.gguf", with_all_types().bytes());
  const Json values = report_of(folder / "values.gguf").at("files")[0].at("metadata");
  const std::pair<const char*, const char*> expected[] = {{"u8", "200"},
                                                          {"i64", "-4611686018427387904"},
                                                          {"u64 beyond", "18446744073709551615"},
                                                          {"f32", "0.5"},
                                                          {"nan", "nan"},
                                                          {"text", "line\\nbreak"},
                                                          {"yes", "true"},
                                                          {"texts", "[3 x string]"}};
  for (const auto& each : expected) CHECK(values.at(each.first) == each.second);
  const Json same =
      report_of({.path = folder / "model.gguf", .other = folder / "model.gguf", .model = {}});
  CHECK(same.at("updates").size() == 1);
  CHECK(same.at("other_changes").empty());
}

TEST_CASE("values that are not finite are counted") {
  const TemporaryFolder folder;
  Weights weights;
  const auto a = weights.add("a", {3, 3}), b = weights.add("b", {2});
  a[1] = NAN;
  a[8] = INFINITY;
  b[0] = 1;
  OwnedTensor wide({DType::f64, {3}}), half({DType::bf16, {2}});
  wide.as<double>()[0] = 1e300;  // finite
  wide.as<double>()[2] = -INFINITY;
  half.as<bf16>()[1] = bf16(NAN);
  weights.tensors.push_back({"wide", wide.view()});
  weights.tensors.push_back({"half", half.view()});
  weights.write(folder.path());
  const Json report = report_of(folder.path());
  const std::pair<const char*, int> counts[] = {{"a", 2}, {"b", 0}, {"wide", 1}, {"half", 1}};
  for (const auto& each : counts)
    CHECK(entry(report.at("tensors"), "name", each.first).at("not_finite") == each.second);
  CHECK(program(folder, {"."}).out.find("| NaN or infinite |") != std::string::npos);
}

TEST_CASE("the difference of two models has the singular values it was given") {
  const TemporaryFolder folder;
  Weights first, second;
  const Numbers values = {2, 1, 0.5, 0.25, 0.0625};
  for (Weights* w : {&first, &second}) {
    fill_with_values(w->add(kQ + ".weight", {16, 16}), 16, {8, 4});
    fill_with_values(w->add(kUp + ".weight", {64, 16}), 16, {4});
    w->add("model.layers.1.mlp.up_proj.weight", {64, 16})[0] = 1;  // stays
    w->add("model.norm.weight", {16})[0] = 1;
    w->add("model.layers.0.input_layernorm.weight", {16})[0] = w == &first ? 1.0f : 2.0f;
  }
  fill_with_values(second.memory[0].as<float>(), 16, values);
  fill_with_values(second.memory[1].as<float>(), 16, {1, 1, 1, 1});
  first.add("only.first", {2});
  second.add("only.second", {2});
  first.add("other.shape", {2, 2});
  second.add("other.shape", {2, 3});
  first.write(folder / "first");
  second.write(folder / "second");
  const Json report = report_of(
      {.path = folder / "first", .other = folder / "second", .model = {}, .threshold = 0.1});
  CHECK(report.at("only_in_first") == Json::array({"only.first"}));
  CHECK(report.at("only_in_second") == Json::array({"only.second"}));
  CHECK(report.at("different_shape") == Json::array({"other.shape"}));
  CHECK(report.at("other_changes") == Json::array({"model.layers.0.input_layernorm.weight"}));
  REQUIRE(report.at("updates").size() == 3);

  const Json& q = entry(report.at("updates"), "module", kQ);
  CHECK(q.at("type") == "q_proj");
  const double norm = std::sqrt(4 + 1 + 0.25 + 0.0625 + 0.00390625);
  REQUIRE(q.at("singular_values").size() == 16);
  for (size_t i = 0; i < 16; ++i) {
    CHECK(std::fabs(q.at("singular_values")[i].get<double>() - (i < 5 ? values[i] : 0)) < 1e-6);
  }
  CHECK(q.at("above_threshold") == 4);
  CHECK(q.at("spectral_norm").get<double>() == doctest::Approx(2));
  CHECK(q.at("frobenius_norm").get<double>() == doctest::Approx(norm));
  CHECK(q.at("stable_rank").get<double>() == doctest::Approx(norm * norm / 4));
  CHECK(q.at("base_norm").get<double>() == doctest::Approx(std::sqrt(80.0)));
  CHECK(q.at("relative_norm").get<double>() == doctest::Approx(norm / std::sqrt(80.0)));

  const Json& up = entry(report.at("updates"), "module", kUp);
  CHECK(up.at("effective_rank").get<double>() == doctest::Approx(4).epsilon(1e-5));
  CHECK(up.at("stable_rank").get<double>() == doctest::Approx(4).epsilon(1e-5));
  const Json& same = entry(report.at("updates"), "module", "model.layers.1.mlp.up_proj");
  for (const char* figure : {"above_threshold", "spectral_norm", "stable_rank", "effective_rank"})
    CHECK(same.at(figure).get<double>() == 0);

  const Json& mean = entry(report.at("updates_by_type"), "type", "up_proj");
  CHECK(mean.at("modules") == 2);
  CHECK(mean.at("above_threshold").get<double>() == doctest::Approx(2));
  CHECK(mean.at("spectral_norm").get<double>() == doctest::Approx(0.5));
  CHECK(report_of(
            {.path = folder / "first", .other = folder / "second", .model = {}, .threshold = 0.05})
            .at("updates")[1]
            .at("above_threshold") == 5);
}

TEST_CASE("an adapter's figures are those of its update's matrix") {
  for (const AdapterKind& kind : adapter_kinds()) {
    INFO(kind.name);
    AdapterConfig config = kind.config;
    config.target_modules = {"q_proj", "up_proj"};
    const AdapterAndBase folders(config, {{kQ, 24, 24}, {kUp, 51, 24}});
    const Json report = report_of(folders.adapter());
    CHECK(report.at("kind") == "adapter folder");
    CHECK(report.at("settings").at("r") == 2);
    // The same update, as the difference of two models.
    Weights before, after;
    for (const auto& [path, update] : folders.updates()) {
      const Shape shape{path == kQ ? 24 : 51, 24};
      const auto b = before.add(path + ".weight", shape), a = after.add(path + ".weight", shape);
      const SafetensorsFile base(folders.base() / "model.safetensors");
      base.read(path + ".weight", before.memory.back().view());
      for (size_t i = 0; i < update.size(); ++i) a[i] = b[i] + static_cast<float>(update[i]);
    }
    before.write(folders / "before");
    after.write(folders / "after");
    const Json pair =
        report_of({.path = folders / "before", .other = folders / "after", .model = {}});
    REQUIRE(report.at("updates").size() == 2);
    for (const Json& u : report.at("updates")) {
      const Json& other = entry(pair.at("updates"), "module", u.at("module").get<std::string>());
      CHECK(u.at("shape") == other.at("shape"));
      for (const char* figure : {"spectral_norm", "frobenius_norm", "stable_rank", "effective_rank",
                                 "base_norm", "relative_norm"}) {
        CHECK_MESSAGE(u.at(figure).get<double>() ==
                          doctest::Approx(other.at(figure).get<double>()).epsilon(1e-4),
                      figure);
      }
      CHECK(u.at("above_threshold") == other.at("above_threshold"));
      CHECK(u.at("spectral_norm").get<double>() > 0.1);
    }
  }
}

TEST_CASE("what is known of an adapter without its base") {
  AdapterConfig lora = adapter_kind("lora").config, mora = adapter_kind("mora", "sharing").config;
  for (AdapterConfig* config : {&lora, &mora}) config->target_modules = {"q_proj"};
  const AdapterAndBase with_lora(lora, {{kQ, 24, 30}}), with_mora(mora, {{kQ, 24, 30}});
  fs::rename(with_lora.base(), with_lora / "elsewhere");
  fs::rename(with_mora.base(), with_mora / "elsewhere");
  const Json report = report_of(with_lora.adapter());
  CHECK(report.at("updates")[0].at("shape") == Json::array({24, 30}));
  CHECK(report.at("updates")[0].at("relative_norm").is_null());
  CHECK(report.at("updates")[0].at("singular_values").size() == 2);
  const Json without = report_of(with_mora.adapter());
  CHECK_FALSE(without.contains("updates"));
  CHECK(without.at("updates_problem").get<std::string>().find("--model") != std::string::npos);
  CHECK(without.at("tensors").size() == 2);
  const Json named =
      report_of({.path = with_mora.adapter(), .other = {}, .model = with_mora / "elsewhere"});
  CHECK(named.at("updates")[0].at("shape") == Json::array({24, 30}));
}

TEST_CASE("shards, runs and checkpoints") {
  const TemporaryFolder folder;
  Weights weights;
  weights.add("a", {4, 4})[0] = 3;
  weights.add("b", {4, 4})[0] = 3;
  std::vector<StoredTensor> tensors;
  for (const NamedTensor& t : weights.tensors) tensors.push_back(stored(t));
  fs::create_directory(folder / "shards");
  write_safetensors_folder(folder / "shards", tensors, 64);
  weights.write(folder / "whole");
  const Json report = report_of(folder / "shards");
  CHECK(report.at("tensors").size() == 2);
  CHECK(report.at("tensors")[1].at("file") == "model-00002-of-00002.safetensors");
  CHECK(report.at("files").size() == 3);
  const Json pair = report_of({.path = folder / "shards", .other = folder / "whole", .model = {}});
  CHECK(pair.at("updates").size() == 2);
  CHECK(pair.at("updates")[0].at("frobenius_norm") == 0.0);

  folder.file("config.json", uuid_config(R"({"method": "lora", "r": 4})"));
  REQUIRE(train(folder.path(), {"--config", "config.json"}).code == 0);
  const Json of_run = report_of(folder / "run");
  CHECK(of_run.at("kind") == "adapter folder");
  CHECK(of_run.at("run").at("checkpoints").size() == 3);
  CHECK(of_run.at("updates").size() == 42);
  CHECK(of_run.at("updates_by_type").size() == 7);
  CHECK_FALSE(of_run.contains("base"));
  const fs::path checkpoint = folder / "run/checkpoints/step-00000003";
  const Json whole = report_of(checkpoint);
  CHECK(whole.at("manifest").get<std::string>().find("whole") != std::string::npos);
  CHECK(entry(whole.at("by_kind"), "kind", "optimizer").at("tensors") == 2 * 84);
  CHECK(whole.at("updates").size() == 42);
  std::ofstream(checkpoint / "state.json", std::ios::app) << " ";
  CHECK(report_of(checkpoint).at("manifest").get<std::string>().find("state.json") !=
        std::string::npos);
}

TEST_CASE("a run with whole weights is compared with what it began with") {
  const TemporaryFolder folder;
  folder.file("text.txt", some_text());
  folder.file("config.json", pretrain_config());
  REQUIRE(train(folder.path(), {"--config", "config.json"}).code == 0);
  const Json since = report_of(folder / "run");
  CHECK(since.at("base") == (folder / "run/initial_model").string());
  const Json pair =
      report_of({.path = folder / "run/initial_model", .other = folder / "run/model", .model = {}});
  CHECK(since.at("updates") == pair.at("updates"));
  CHECK(since.at("updates_by_type") == pair.at("updates_by_type"));
  CHECK(since.at("updates")[0].at("frobenius_norm") > 0.0);
  folder.file("full.json", uuid_config(R"({"method": "full"})"));
  REQUIRE(train(folder.path(), {"--config", "full.json", "--set", "output_dir=full"}).code == 0);
  CHECK(report_of(folder / "full").at("base") == fs::path(kBase).string());
}

TEST_CASE("every singular value is in the JSON, and --top shows some") {
  AdapterConfig config = adapter_kind("mora", "rotation").config;
  config.target_modules = {"q_proj"};
  const AdapterAndBase folders(config, {{kQ, 24, 24}});
  const Finished finished =
      program(folders, {"adapter", "--json", "report.json", "--top", "2", "--threshold", "0.2"});
  REQUIRE_MESSAGE(finished.code == 0, finished.err);
  const Json report = json_of(folders / "report.json");
  CHECK(report.at("threshold") == 0.2);
  const Json& update = report.at("updates")[0];
  REQUIRE(update.at("singular_values").size() == 24);
  CHECK(std::ranges::is_sorted(update.at("singular_values"), std::greater()));
  char line[200];
  std::snprintf(line, sizeof line, "| %.4g %.4g", update.at("singular_values")[0].get<double>(),
                update.at("singular_values")[1].get<double>());
  CHECK_MESSAGE(finished.out.find(line) != std::string::npos, finished.out);
  CHECK(finished.out.find("> 0.2") != std::string::npos);
  // The same again: nothing depends on time or order.
  CHECK(program(folders, {"adapter", "--top", "2", "--threshold", "0.2"}).out == finished.out);
  for (const char* key : {"path", "kind", "run", "files", "settings", "tensors", "by_kind",
                          "by_dtype", "parameters", "bytes", "updates_by_type"})
    CHECK_MESSAGE(report.contains(key), key);
}

TEST_CASE("an update that is not finite is named as such") {
  AdapterConfig config = adapter_kind("lora").config;
  config.target_modules = {"q_proj"};
  const AdapterAndBase folders(config, {{kQ, 8, 8}});
  Weights weights;
  weights.add("base_model.model." + kQ + ".lora_A.weight", {2, 8})[3] = NAN;
  weights.add("base_model.model." + kQ + ".lora_B.weight", {8, 2});
  write_safetensors(folders.adapter() / "adapter_model.safetensors", weights.tensors);
  const Json report = report_of(folders.adapter());
  CHECK(report.at("updates")[0].at("finite") == false);
  CHECK_FALSE(report.at("updates")[0].contains("singular_values"));
  CHECK(report.at("updates_by_type")[0].at("spectral_norm").is_null());
  const Finished finished = program(folders, {"adapter", "--top", "1"});
  CHECK_MESSAGE(finished.out.find("not finite") != std::string::npos, finished.out);
}

TEST_CASE("what cannot be inspected is refused in one line") {
  const AdapterAndBase folders(adapter_kind("lora").config, [] {
    std::vector<LayerShape> layers;
    for (const char* name :
         {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
      layers.push_back({name, 8, 8});
    return layers;
  }());
  const auto refused = [&](int code, const std::vector<std::string>& options,
                           const std::string& part) {
    const Finished finished = program(folders, options);
    INFO(finished.err);
    CHECK(finished.code == code);
    CHECK(finished.err.find(part) != std::string::npos);
    CHECK(std::ranges::count(finished.err, '\n') == 1);
    CHECK(finished.out.empty());
  };
  refused(2, {}, "PATH");
  refused(2, {"base", "--threshold", "-1"}, "--threshold");
  refused(2, {"base", "--top", "-1"}, "--top");
  refused(2, {"base", "adapter"}, "merge");
  refused(2, {"adapter", "base"}, "merge");
  refused(3, {"absent"}, "absent");
  refused(3, {"adapter", "--model", "absent"}, "absent");
  fs::create_directory(folders / "empty");
  refused(3, {"empty"}, "empty");
  folders.file("empty/run_config.json", "{}");
  refused(3, {"empty"}, "checkpoints");
  Weights other;
  other.add("nothing.in.common", {2});
  other.write(folders / "other");
  refused(2, {"base", "other"}, "no tensor of the same name");
  refused(6, {"base", "--json", "absent/report.json"}, "absent");
  folders.file("adapter/adapter_config.json", "{\"r\": ");
  refused(3, {"adapter"}, "adapter_config.json");
}

TEST_CASE("hostile files end with one line and code 3") {
  const TemporaryFolder folder;
  Weights weights;
  weights.add("a", {4, 4});
  weights.write(folder / "good");
  const std::string good = bytes_of(folder / "good/model.safetensors");
  std::vector<std::string> files = {"",
                                    "GGUF",
                                    std::string("GGUF\3\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f", 16),
                                    std::string(8, '\xff'),
                                    good + "x",
                                    good.substr(0, good.size() - 1)};
  for (size_t cut = 1; cut < good.size(); cut += 7) files.push_back(good.substr(0, cut));
  for (const char* header :
       {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})",
        R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}})",
        R"({"a\u001b[2J":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", R"({"a":)",
        R"([])"}) {
    const std::string text = header;
    std::string file(8, '\0');
    file[0] = static_cast<char>(text.size());
    files.push_back(file + text);
  }
  for (size_t i = 0; i < files.size(); ++i) {
    INFO("file ", i);
    folder.file("bad.safetensors", files[i]);
    CHECK(message_of(ErrorKind::data, [&] { report_of(folder / "bad.safetensors"); }) != "");
  }
  const Finished finished = program(folder, {"bad.safetensors"});
  CHECK(finished.code == 3);
  CHECK(std::ranges::count(finished.err, '\n') == 1);
  // An index must not lead out of its folder.
  fs::create_directory(folder / "index");
  folder.file("index/model.safetensors.index.json",
              R"({"weight_map": {"a": "../good/model.safetensors"}})");
  CHECK(message_of(ErrorKind::data, [&] { report_of(folder / "index"); }).find("plain name") !=
        std::string::npos);
}

TEST_CASE("adapters that are not applied here are listed all the same") {
  AdapterConfig config = adapter_kind("lora").config;
  config.target_modules = {"q_proj"};
  const AdapterAndBase folders(config, {{kQ, 8, 8}});
  Json json = json_of(folders.adapter() / "adapter_config.json");
  json["use_dora"] = true;
  folders.file("adapter/adapter_config.json", json.dump());
  const Json report = report_of(folders.adapter());
  CHECK(report.at("tensors").size() == 2);
  CHECK(report.at("updates_problem").get<std::string>().find("lora_magnitude_vector") !=
        std::string::npos);
  CHECK(program(folders, {"adapter"}).out.find("lora_magnitude_vector") != std::string::npos);
}

}  // namespace

TEST_SUITE_END();

}  // namespace mora::testing
