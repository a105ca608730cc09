// Parameters: named tensors with the Hugging Face names, and the store that owns their memory.
//
// Life of a store: declare() everything, allocate() once, then initialise() and/or load. All
// trainable parameters lie in one flat block, in the order of their optimizer groups, beside equal
// blocks for gradients and Adam's moments; the views in Parameter carry the names. Frozen
// parameters lie in another block and have no gradient.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "mora/core/tensor.hpp"

namespace mora {

enum class Training : uint8_t { frozen, trained };
enum class Decay : uint8_t {
  no,
  yes
};  // whether weight decay applies (Hugging Face: not for norms and biases)

// By which of AdamW's step counts a parameter is updated: the run's, or one that begins again when
// adapters do.
enum class Clock : uint8_t { run, cycle };

// How a parameter starts: every element from N(0, scale), U(-scale, scale), or a constant. Drawn
// from (seed, name).
struct Init {
  enum class Kind : uint8_t { zeros, ones, normal, uniform } kind = Kind::zeros;
  double scale = 0;
};

// Of a frozen matrix: the store's type for these, or the working type, for values that would lose
// by it (matrices that an adapter brings in place of the model's).
enum class Precision : uint8_t { frozen_matrices, working };

struct Parameter {
  std::string name;  // "model.layers.0.self_attn.q_proj.weight"
  Shape shape;
  Init init;
  Training training = Training::frozen;
  Decay decay = Decay::yes;
  Precision precision = Precision::frozen_matrices;
  double lr_ratio = 1;  // its learning rate, as a multiple of the run's
  Clock clock = Clock::run;
  Tensor value;
  Tensor grad;  // trained parameters only
};

// Whether it belongs to an adapter rather than to the model: adapters' parameters are named
// <layer>.lora_A.weight ...
inline bool is_adapter_parameter(const Parameter& p) {
  return p.name.find(".lora_") != std::string::npos;
}

// A range of the flat blocks that shares optimizer settings.
struct ParameterGroup {
  int64_t begin, count;
  Decay decay;
  double lr_ratio;
  Clock clock;
};

class ParameterStore {
 public:
  // `working` is the type of trained parameters and vectors; frozen matrices are stored as
  // `frozen_matrices`, but for those of Precision::working.
  explicit ParameterStore(DType working = DType::f32, DType frozen_matrices = DType::f32)
      : working_(working), frozen_matrices_(frozen_matrices) {}
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  Parameter& declare(std::string name, const Shape& shape, Init init, Training training,
                     Decay decay = Decay::yes);
  // Error(memory), before anything is touched, when it does not fit. Frozen values are undefined
  // until they are initialised or loaded.
  void allocate();
  void allocate_trained();  // the frozen parameters get no memory: for tools that stream them
  void initialise(uint64_t seed, std::string_view name_contains = "");

  DType working() const { return working_; }
  std::deque<Parameter>& all() { return parameters_; }
  const std::deque<Parameter>& all() const { return parameters_; }
  int64_t count(Training training) const;  // elements

  // The flat blocks, all of the same length.
  Tensor values() const { return flat_values_.view(); }
  Tensor gradients() const { return flat_gradients_.view(); }
  Tensor exp_avg() const { return exp_avg_.view(); }
  Tensor exp_avg_sq() const { return exp_avg_sq_.view(); }
  std::span<const ParameterGroup> groups() const { return groups_; }
  // A trained parameter's part of one of these blocks, in its shape.
  Tensor part_of(const Tensor& block, const Parameter& p) const;

 private:
  DType stored_type(const Parameter& p) const;
  size_t bytes() const;  // of values, gradients and moments
  void place_trained(Decay decay, double lr_ratio, Clock clock, int64_t& offset);

  DType working_, frozen_matrices_;
  std::unordered_set<std::string> names_;
  std::deque<Parameter> parameters_;
  Buffer frozen_;
  OwnedTensor flat_values_, flat_gradients_, exp_avg_, exp_avg_sq_;
  std::vector<ParameterGroup> groups_;
};

// A view of `count` elements of a flat block from `begin` on.
Tensor slice(const Tensor& flat, int64_t begin, int64_t count);

// A place in the tree of names: scope / "layers" / "0" / "self_attn".
class Scope {
 public:
  explicit Scope(ParameterStore& store, std::string path = "")
      : store_(&store), path_(std::move(path)) {}
  Scope operator/(std::string_view child) const;
  Parameter& parameter(std::string_view name, const Shape& shape, Init init, Training training,
                       Decay decay = Decay::yes) const;
  const std::string& path() const { return path_; }
  ParameterStore& store() const { return *store_; }

 private:
  ParameterStore* store_;
  std::string path_;
};

}  // namespace mora
