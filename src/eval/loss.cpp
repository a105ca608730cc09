#include "mora/eval/loss.hpp"

#include <algorithm>

#include "mora/train/batch_tensors.hpp"

namespace mora {

namespace {

// Of the tokens [begin, end) of a batch, whose losses are given.
MeanLoss mean_of(const Batch& batch, const Tensor& nll, int64_t begin, int64_t end) {
  MeanLoss mean;
  for (auto t = static_cast<size_t>(begin); t < static_cast<size_t>(end); ++t) {
    const double weight = static_cast<double>(batch.weights[t]);
    const double loss =
        nll.dtype() == DType::f64 ? nll.as<double>()[t] : static_cast<double>(nll.as<float>()[t]);
    mean.loss += weight * loss;
    mean.tokens += weight;
  }
  if (mean.tokens > 0) mean.loss /= mean.tokens;
  return mean;
}

}  // namespace

std::vector<MeanLoss> example_losses(const Llama& model, const ParameterStore& store,
                                     const ExampleSource& data, int64_t count, int64_t batch_size,
                                     const Backend& backend, Workspace& workspace) {
  check_lengths(data, count, model.longest(), "held-out");
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
  const Var nll =
      linear_cross_entropy(h, model.output_weight(context), bind(tensors.labels, "labels"),
                           bind(tensors.weights, "weights"))
          .nll;
  Plan plan(graph, std::array{nll}, backend, workspace);
  std::vector<MeanLoss> result;
  for (int64_t i = 0; i < n;) {
    batch.clear();
    std::vector<int64_t> ends;
    do {
      batch.append(data.example(i++));
      ends.push_back(batch.tokens_used);
    } while (i < n && batch.tokens_used + length(i) <= batch.capacity());
    tensors.fill(batch, 1.0);
    plan.run();
    int64_t begin = 0;
    for (const int64_t end : ends) {
      result.push_back(mean_of(batch, plan[nll], begin, end));
      begin = end;
    }
  }
  return result;
}

MeanLoss mean_loss(std::span<const MeanLoss> examples) {
  MeanLoss mean;
  for (const MeanLoss& e : examples) {
    mean.loss += e.loss * e.tokens;
    mean.tokens += e.tokens;
  }
  if (mean.tokens > 0) mean.loss /= mean.tokens;
  return mean;
}

}  // namespace mora
