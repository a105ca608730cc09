// Restarts: what ReLoRA (Lialin et al. 2023) and ReMoRA do between two steps of a run. Every
// merge_steps the adapters' changes become part of the weights, and the adapters begin anew, in the
// next grouping; the optimizer forgets what it knew of them. The function that the model computes
// stays the same.
//
// When this happens, which grouping is next and what is drawn are pure functions of the step and
// the run's seed, so that nothing but the step needs to be saved.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mora/config/run_config.hpp"
#include "mora/core/random.hpp"
#include "mora/nn/linear.hpp"

namespace mora {

// Gives the adapters' parameters a step count of AdamW of their own. Before memory is given.
void count_adapter_steps_apart(ParameterStore& store);

// The adapter's configuration after so many merges: MoRA's sharing changes its grouping.
AdapterConfig regrouped(const AdapterConfig& start, const std::string& regroup, uint64_t seed,
                        int64_t merges);

// Sets each element to 0 with probability `ratio`, by the numbers of one stream.
void prune_randomly(const Tensor& tensor, double ratio, const Random& random);
// Sets elements to 0 whose size is not above the `ratio` quantile (torch's, linear) of all sizes.
void prune_by_magnitude(const Tensor& tensor, double ratio);

// W += delta_weight, whatever W is stored in; the sum is made in `working` (f32 or f64).
void merge_into_weight(const Linear& linear, DType working);

class Restarts {
 public:
  // The store must be allocated and outlive this, as must the layers.
  Restarts(const RestartConfig& config, const AdapterConfig& adapter, uint64_t seed,
           ParameterStore& store, std::vector<Linear*> linears);

  // Does what is due after `finished` of `total` steps; true when adapters began anew, so that
  // graphs that contain them must be written again.
  bool after_step(int64_t finished, int64_t total);
  // Goes on after `finished` steps of an earlier run; weights and moments are restored by the
  // caller. True as of after_step.
  bool resume_at(int64_t finished, int64_t total);

  int64_t merges() const { return merges_; }
  const AdapterConfig& adapter() const { return adapter_; }  // with the present grouping
  // AdamW's step count of the adapters after `finished` steps.
  int64_t clock(int64_t finished) const;

  // For the end of a run: all changes become part of the weights; the adapters are left as they
  // are, so that the model must not be run with them.
  void merge_all() const;

 private:
  int64_t delay() const;
  int64_t reset_steps() const;
  int64_t due(int64_t every, int64_t finished, int64_t total) const;
  void reset(const Tensor& moments, const std::string& name) const;
  void regroup();

  RestartConfig config_;
  AdapterConfig start_, adapter_;
  uint64_t seed_;
  ParameterStore& store_;
  std::vector<Linear*> linears_;
  int64_t merges_ = 0, resets_ = 0;
};

}  // namespace mora
