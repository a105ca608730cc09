#include "model_parity.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "mora/data/batch.hpp"
#include "mora/eval/generator.hpp"
#include "mora/io/safetensors.hpp"
#include "mora/train/batch_tensors.hpp"

namespace mora::testing {

namespace {

template <class T>
std::vector<T> values_of(const SafetensorsFile& file, const std::string& name) {
  OwnedTensor tensor({dtype_of<T>(), Shape(std::span<const int64_t>(file.info(name).shape))});
  file.read(name, tensor.view());
  return {tensor.template as<T>().begin(), tensor.template as<T>().end()};
}

// [T, V] for one sequence.
OwnedTensor logits_of(const Llama& model, const std::vector<int32_t>& ids, const Backend& backend) {
  const auto count = static_cast<int64_t>(ids.size());
  const Example example{.tokens = ids, .weights = std::vector<float>(ids.size())};
  BatchTensors tensors(count, DType::f32);
  tensors.fill(pack(std::array{&example}, count), 1.0);
  Graph graph;
  Context context(graph);
  const Var h =
      model.hidden(context, graph.bind(tensors.tokens.view(), "tokens"),
                   graph.bind(tensors.positions.view(), "positions"),
                   model.packed_attention(graph.bind(tensors.segment_start.view(), "start")));
  const Var logits = matmul(h, model.output_weight(context), {.tb = Transpose::yes});
  Workspace workspace;
  Plan plan(graph, std::array{logits}, backend, workspace);
  plan.run();
  OwnedTensor copy({DType::f32, plan[logits].shape()});
  convert(plan[logits], copy.view());
  return copy;
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
    error = std::max(error, std::fabs(static_cast<double>(got[row * vocab + column]) -
                                      static_cast<double>(expected[i])));
  }
  return error / static_cast<double>(values_of<float>(golden, "largest_logit")[0]);
}

}  // namespace

ModelParity compare_with_golden(const std::filesystem::path& folder,
                                const std::filesystem::path& golden_file) {
  const SafetensorsFile golden(golden_file);
  const LlamaConfig config = read_llama_config(folder / "config.json");
  ParameterStore store;
  const Llama model(config, store, Training::frozen);
  store.allocate();
  load_weights(store, config, folder);
  const auto backend = make_cpu_backend(MatmulProvider::automatic);
  const auto ids = values_of<int32_t>(golden, "input_ids");
  const OwnedTensor logits = logits_of(model, ids, *backend);
  const auto prompt = values_of<int32_t>(golden, "greedy.prompt"),
             expected = values_of<int32_t>(golden, "greedy.continuation");
  const auto length = static_cast<int64_t>(expected.size());
  Workspace workspace;
  Generator generator(model, store, {1, static_cast<int64_t>(prompt.size()) + length}, *backend,
                      workspace);
  const auto made = generator.greedy(std::array{prompt}, {.max_new_tokens = length})[0];
  const auto differs = std::ranges::mismatch(made, expected).in1 - made.begin();
  return {.logits_error = logits_error(golden, logits.view()),
          .tokens = static_cast<int64_t>(ids.size()),
          .equal = differs,
          .continuation = length};
}

}  // namespace mora::testing
