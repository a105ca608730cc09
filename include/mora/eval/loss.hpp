// Losses of held-out examples, without gradients or dropout.
#pragma once

#include <span>
#include <vector>

#include "mora/backend/backend.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"
#include "mora/train/example_source.hpp"

namespace mora {

struct MeanLoss {
  double loss = 0;    // nats per weighted token
  double tokens = 0;  // sum of weights
};

// Of each of the first `count` examples (0: all), read as many at a time as fit the tokens of
// `batch_size` of the longest. Error(data) where one is longer than the model has positions.
std::vector<MeanLoss> example_losses(const Llama& model, const ParameterStore& store,
                                     const ExampleSource& data, int64_t count, int64_t batch_size,
                                     const Backend& backend, Workspace& workspace);

// Over all tokens of these.
MeanLoss mean_loss(std::span<const MeanLoss> examples);

}  // namespace mora
