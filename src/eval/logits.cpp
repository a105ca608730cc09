#include "mora/eval/logits.hpp"

#include <array>

#include "mora/plan/plan.hpp"
#include "mora/train/batch_tensors.hpp"

namespace mora {

OwnedTensor sequence_logits(const Llama& model, const ParameterStore& store,
                            std::span<const int32_t> ids, const Backend& backend) {
  Batch batch(static_cast<int64_t>(ids.size()));
  ExampleView example;
  example.tokens = ids;
  batch.append(example);
  BatchTensors tensors(batch.capacity(), store.working());
  tensors.fill(batch, 1.0);
  Graph graph;
  Context context(graph);
  auto bind = [&](const OwnedTensor& t, const char* name) { return graph.bind(t.view(), name); };
  const Var h =
      model.hidden(context, bind(tensors.tokens, "tokens"), bind(tensors.positions, "positions"),
                   model.packed_attention(bind(tensors.segment_start, "segment_start")));
  const Var logits = matmul(h, model.output_weight(context), {.tb = Transpose::yes});
  Workspace workspace;
  Plan plan(graph, std::array{logits}, backend, workspace);
  plan.run();
  OwnedTensor copy({DType::f32, plan[logits].shape()});
  convert(plan[logits], copy.view());
  return copy;
}

}  // namespace mora
