// How weights were changed: the singular values of each matrix's update and what they say.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "report/contents.hpp"

namespace mora {

struct Spectrum {
  std::vector<double> values;  // singular values, largest first
  int64_t above = 0;           // how many exceed the threshold
  double spectral = 0, frobenius = 0;
  double stable_rank = 0;  // (Frobenius / spectral norm)^2; 0 for no change
  double effective_rank =
      0;  // exp of the entropy of value / sum (Roy and Vetterli 2007); 0 likewise
};

Spectrum spectrum_of(std::vector<double> values, double threshold);

struct Update {
  std::string module;  // "model.layers.0.self_attn.q_proj"
  int64_t out = 0, in = 0;
  std::optional<Spectrum> spectrum;  // none where a value is not finite
  std::optional<double> base;        // Frobenius norm of the weight before the update
};

// The last name of a module's path that is no number: "q_proj".
std::string module_type(const std::string& module);
std::string module_of_tensor(const std::string& tensor);  // without ".weight"

struct AdapterUpdates {
  std::vector<Update> updates;
  std::vector<std::string> replaced;  // tensors that the adapter has whole
};
AdapterUpdates adapter_updates(const std::filesystem::path& adapter,
                               const std::filesystem::path& model, double threshold);

struct PairUpdates {
  std::vector<Update> updates;  // matrices of both
  std::vector<std::string> only_first, only_second, different_shape, not_read;
  std::vector<std::string> changed_vectors;  // tensors of other ranks that differ
};

// From `first` to `second`. Error(usage) where they have no tensor in common.
PairUpdates pair_updates(const Contents& first, const Contents& second, double threshold);

}  // namespace mora
