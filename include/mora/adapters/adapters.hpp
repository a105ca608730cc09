// The fine-tuning methods: which there are, how one is attached to a model's linear layers, and
// their sizes.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "mora/config/run_config.hpp"
#include "mora/nn/linear.hpp"

namespace mora {

// MoRA's square size: int(sqrt((in + out) r) + 0.5), made even (at least 2) for rotation. Authors'
// layer.py:111-114.
int64_t mora_rank(int64_t in, int64_t out, int64_t r, std::string_view mora_operator);

// Trainable numbers that the method adds to a layer of this shape.
int64_t adapter_parameters(const AdapterConfig& config, int64_t in, int64_t out);

// Attaches an adapter to every layer that the configuration means: whose path ends in a target
// module ("q_proj", or a longer "self_attn.q_proj"), and, when it was read from a folder, as PEFT's
// rules there say, with ranks and alphas of its own. Parameters are declared in `store` as
// <path>.lora_A.weight ... Throws Error(usage) when a target of a run's configuration matches
// nothing; for a folder Error(data) when nothing matches or its tensors do not fit (check_adapter).
void attach_adapters(const AdapterConfig& config, ParameterStore& store,
                     std::span<Linear* const> linears);

// Initial values from the seed, once the store is allocated and has the weights of the model: of
// the adapters' parameters, and nothing else.
void initialise_adapters(ParameterStore& store, uint64_t seed, std::span<Linear* const> linears);

// Makes the modules that modules_to_save names trainable. Before memory is given. Error(usage) for
// a name that matches nothing, or an embedding that is also the model's output.
void train_saved_modules(const AdapterConfig& config, ParameterStore& store);

// LoRA+ (Hayou et al. 2024), with PEFT's groups (create_loraplus_optimizer): the learning rate of
// lora_B and of trained vectors (norms, DoRA's magnitudes) is `ratio` times the run's. Before
// memory is given.
void set_loraplus_ratio(ParameterStore& store, double ratio);

// A single adapter: what attach_adapters makes for one layer, for tests and tools.
std::unique_ptr<Adapter> make_adapter(const AdapterConfig& config, const Scope& scope, int64_t in,
                                      int64_t out);

}  // namespace mora
