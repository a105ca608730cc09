// Trainer: one optimizer step after another over packed batches. It owns the graphs and plans of a
// step; a step allocates nothing once the first has run, or the first after a restart.
//
// A step is: for each micro-batch, forward and backward, adding into the flat gradient; then the
// global norm, clipping and AdamW over the flat blocks. Losses are weighted by tokens over the
// whole step, so that 8 micro-batches of 1 equal 1 of 8 up to rounding. The data of a step are a
// pure function of (seed, step).
#pragma once

#include <memory>

#include "mora/backend/backend.hpp"
#include "mora/config/run_config.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"
#include "mora/train/example_source.hpp"
#include "mora/train/restarts.hpp"

namespace mora {

struct StepMetrics {
  int64_t step = 0;      // optimizer steps finished, this one included
  double loss = 0;       // mean over the step's weighted tokens
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;  // tokens computed in this step, without unused slots
};

class Trainer {
 public:
  // Everything referred to must outlive the trainer; the store is allocated and filled. `restarts`:
  // null for a run without.
  Trainer(const Llama& model, ParameterStore& store, const ExampleSource& data,
          const TrainConfig& config, uint64_t seed, const Backend& backend, Workspace& workspace,
          Restarts* restarts = nullptr);
  ~Trainer();

  int64_t total_steps() const;
  int64_t finished_steps() const;
  int64_t capacity() const;  // token slots of a micro-batch
  double epoch() const;      // passes over the data so far
  double fill() const;       // share of the slots that hold a token, in the first epoch

  // One optimizer step, and the restart that is due after it. Throws Error(numerical), with the
  // weights as they were, when the loss or the gradient is not finite; the message names the first
  // operation that made such a value.
  StepMetrics step();

  // From now on steps run one operation after another and `visit` sees each; empty: as usual.
  void observe(Plan::Visitor visit);

  // Goes on after `finished` steps of an earlier run; the optimizer's state is restored by the
  // caller.
  void resume_at(int64_t finished);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mora
