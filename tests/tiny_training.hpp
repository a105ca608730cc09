// A trainer over a tiny model, and its state as bytes.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "backend_under_test.hpp"
#include "mora/train/trainer.hpp"
#include "tiny_llama.hpp"

namespace mora::testing {

using StateBytes = std::vector<std::byte>;

struct TrainingSetup {
  AdapterConfig adapter;
  RestartConfig restart = {};
  TinyOptions model = {};
  MatmulProvider provider = MatmulProvider::eigen;
};

struct TinyTraining {
  TinyLlama tiny;
  std::unique_ptr<Backend> backend;
  Workspace workspace;
  std::unique_ptr<Restarts> restarts;  // null: none
  Trainer trainer;

  TinyTraining(const TrainingSetup& setup, const ExampleSource& data, const TrainConfig& config)
      : tiny(setup.adapter, setup.model),
        backend(backend_under_test(setup.provider)),
        restarts(setup.restart.enabled() ? make_restarts(setup) : nullptr),
        trainer(tiny.model, tiny.store, data, config, 5, *backend, workspace, restarts.get()) {}

  // Losses of the next steps.
  std::vector<double> steps(int count) {
    std::vector<double> losses;
    for (int i = 0; i < count; ++i) losses.push_back(trainer.step().loss);
    return losses;
  }
  StateBytes weights() const { return copy({tiny.store.values()}); }
  StateBytes state() const {
    return copy({tiny.store.values(), tiny.store.exp_avg(), tiny.store.exp_avg_sq()});
  }

 private:
  std::unique_ptr<Restarts> make_restarts(const TrainingSetup& setup) {
    return std::make_unique<Restarts>(setup.restart, setup.adapter, 5, tiny.store,
                                      tiny.model.linears());
  }
  static StateBytes copy(std::initializer_list<Tensor> tensors) {
    StateBytes bytes;
    for (const Tensor& t : tensors) {
      const auto* data = static_cast<const std::byte*>(t.data);
      bytes.insert(bytes.end(), data, data + t.bytes());
    }
    return bytes;
  }
};

inline AdapterConfig full_training() {
  AdapterConfig full;
  full.method = "full";
  return full;
}

inline TrainConfig tiny_train_config(int64_t batch, int64_t accumulation = 1) {
  TrainConfig c;
  c.learning_rate = 1e-2;
  c.per_device_train_batch_size = batch;
  c.gradient_accumulation_steps = accumulation;
  c.max_steps = 12;
  c.lr_scheduler_type = "linear";
  c.warmup_steps = 3;
  c.weight_decay = 0.1;
  return c;
}

}  // namespace mora::testing
