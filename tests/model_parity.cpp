#include "model_parity.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "mora/adapters/adapters.hpp"
#include "mora/adapters/files.hpp"
#include "mora/eval/generator.hpp"
#include "mora/eval/logits.hpp"
#include "mora/io/safetensors.hpp"
#include "worse.hpp"

namespace mora::testing {

namespace {

template <class T>
std::vector<T> values_of(const SafetensorsFile& file, const std::string& name) {
  OwnedTensor tensor({dtype_of<T>(), Shape(std::span<const int64_t>(file.info(name).shape))});
  file.read(name, tensor.view());
  return {tensor.template as<T>().begin(), tensor.template as<T>().end()};
}

double logits_error(const SafetensorsFile& golden, const Tensor& logits) {
  const auto columns = values_of<int32_t>(golden, "columns");
  const auto expected = values_of<float>(golden, "logits");
  const auto vocab = static_cast<size_t>(logits.shape()[1]);
  const auto got = logits.as<float>();
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const size_t row = i / columns.size(),
                 column = static_cast<size_t>(columns[i % columns.size()]);
    error = worse(error, std::fabs(static_cast<double>(got[row * vocab + column]) -
                                   static_cast<double>(expected[i])));
  }
  return error / static_cast<double>(values_of<float>(golden, "largest_logit")[0]);
}

}  // namespace

ModelParity compare_with_golden(const std::filesystem::path& folder,
                                const std::filesystem::path& golden_file,
                                const std::filesystem::path& adapter, DType working) {
  const SafetensorsFile golden(golden_file);
  const LlamaConfig config = read_llama_config(folder / "config.json");
  ParameterStore store(working, working);
  Llama model(config, store, Training::frozen);
  if (!adapter.empty()) attach_adapters(read_adapter_config(adapter), store, model.linears());
  store.allocate();
  load_weights(store, config, folder);
  if (!adapter.empty()) load_adapter(adapter, store);
  const auto backend = make_cpu_backend(MatmulProvider::automatic);
  const auto ids = values_of<int32_t>(golden, "input_ids");
  const OwnedTensor logits = sequence_logits(model, store, ids, *backend);
  const auto prompt = values_of<int32_t>(golden, "greedy.prompt"),
             expected = values_of<int32_t>(golden, "greedy.continuation");
  const auto length = static_cast<int64_t>(expected.size());
  Workspace workspace;
  Generator generator(model, store, {1, static_cast<int64_t>(prompt.size()) + length}, *backend,
                      workspace);
  const auto made = generator.generate(std::array{prompt}, {.max_new_tokens = length})[0];
  const auto differs = std::ranges::mismatch(made, expected).in1 - made.begin();
  return {.logits_error = logits_error(golden, logits.view()),
          .tokens = static_cast<int64_t>(ids.size()),
          .equal = differs,
          .continuation = length};
}

}  // namespace mora::testing
