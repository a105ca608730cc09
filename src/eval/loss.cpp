#include "mora/eval/loss.hpp"

#include <algorithm>

#include "mora/train/batch_tensors.hpp"

namespace mora {

MeanLoss mean_loss(const Llama& model, const ParameterStore& store, const ExampleSource& data,
                   int64_t count, int64_t batch_size, const Backend& backend,
                   Workspace& workspace) {
  const int64_t n = count > 0 ? std::min(count, data.size()) : data.size();
  int64_t longest = 1, tokens = 0;
  const auto length = [&](int64_t i) {
    return static_cast<int64_t>(data.example(i).tokens.size());
  };
  for (int64_t i = 0; i < n; ++i) {
    longest = std::max(longest, length(i));
    tokens += length(i);
  }
  Batch batch(std::clamp<int64_t>(longest * batch_size, 1, std::max<int64_t>(tokens, 1)));
  BatchTensors tensors(batch.capacity(), store.working());
  Graph graph;
  Context context(graph);
  auto bind = [&](const OwnedTensor& t, const char* name) { return graph.bind(t.view(), name); };
  const Var h =
      model.hidden(context, bind(tensors.tokens, "tokens"), bind(tensors.positions, "positions"),
                   model.packed_attention(bind(tensors.segment_start, "segment_start")));
  const Var loss =
      linear_cross_entropy(h, model.output_weight(context), bind(tensors.labels, "labels"),
                           bind(tensors.weights, "weights"))
          .loss;
  Plan plan(graph, std::array{loss}, backend, workspace);
  MeanLoss result;
  for (int64_t i = 0; i < n;) {
    batch.clear();
    do {
      batch.append(data.example(i++));
    } while (i < n && batch.tokens_used + length(i) <= batch.capacity());
    tensors.fill(batch, 1.0);
    plan.run();
    const Tensor value = plan[loss];
    result.loss += value.dtype() == DType::f64 ? value.as<double>()[0]
                                               : static_cast<double>(value.as<float>()[0]);
    result.tokens += batch.weight_sum;
  }
  if (result.tokens > 0) result.loss /= result.tokens;
  return result;
}

}  // namespace mora
