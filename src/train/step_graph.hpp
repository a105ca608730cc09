// The graphs of one optimizer step and their bound memory.
#pragma once

#include "mora/config/run_config.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"
#include "mora/train/batch_tensors.hpp"

namespace mora {

// How activations are kept, as Context has it.
struct ActivationOptions {
  std::optional<DType> stored = {};
  Recompute recompute = Recompute::none;
};
ActivationOptions activation_options(const TrainConfig& config);

// Forward and backward of one micro-batch: gradients are added to each trained parameter's `grad`.
struct MicroGraph {
  MicroGraph(const Llama& model, const ParameterStore& store, int64_t capacity, uint64_t seed,
             const ActivationOptions& activations = {});

  BatchTensors batch;
  OwnedTensor step;  // [2] i32 {step, micro step}: what dropout's masks depend on
  OwnedTensor one;   // the gradient of the loss
  Graph graph;
  Var loss;
};

// Global norm, clipping and AdamW over the flat blocks; and their clearing for the next step.
struct UpdateGraph {
  UpdateGraph(const ParameterStore& store, const TrainConfig& config);

  // What adamw() wants to know of the step, [3] f64, for the parameters of a clock.
  Tensor hyper(Clock clock) const;

  OwnedTensor hypers;  // [6] f64: of each clock
  Graph clear_graph, graph;
  Var norm2;
};

}  // namespace mora
