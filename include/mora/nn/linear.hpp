// Linear: y = x W^T + b, plus the change of an adapter when one is attached.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "mora/nn/adapter.hpp"

namespace mora {

enum class Bias : uint8_t { no, yes };

class Linear {
 public:
  // Declares <scope>.weight [out, in] and, with a bias, <scope>.bias [out], which starts at 0 and
  // does not decay.
  Linear(const Scope& scope, int64_t in, int64_t out, Init init, Training training,
         Bias bias = Bias::no);

  // y [.., out] of x [.., in]; Remembered::no: the gradient makes y again where it reads it.
  Var operator()(Context& context, Var x, Remembered remembered = Remembered::yes) const;
  void attach(std::unique_ptr<Adapter> adapter) { adapter_ = std::move(adapter); }

  const std::string& path() const { return path_; }
  std::string_view name() const;  // the last part of the path: "q_proj"
  const Parameter& weight() const { return *weight_; }
  const Parameter* bias() const { return bias_; }  // null without one
  const Adapter* adapter() const { return adapter_.get(); }
  Adapter* adapter() { return adapter_.get(); }  // to regroup it
  int64_t in() const { return weight_->shape[1]; }
  int64_t out() const { return weight_->shape[0]; }

 private:
  std::string path_;
  Parameter* weight_;
  Parameter* bias_ = nullptr;
  std::unique_ptr<Adapter> adapter_;
};

// The matrix of a linear map of rows, [T, in] -> [T, out], into `matrix` [out, in] (f32 or f64, the
// type that the map works in).
void matrix_of(const std::function<Var(Context& context, Var x)>& map, const Tensor& matrix);

// The adapter's change of the weight, Delta(I)^T, into `out` [out, in] (f32 or f64): one
// implementation of merging for every linear method. W + delta_weight is the merged weight. The
// second takes the layer's weight from elsewhere (in the type of `out`; empty: not at hand), for
// tools that keep none in memory.
void delta_weight(const Linear& linear, const Tensor& out);
void delta_weight(const Linear& linear, const Tensor& weight, const Tensor& out);

// W + delta_weight into `out` (f32 or f64), for a weight of any storage type.
void merged_weight(const Linear& linear, const Tensor& weight, const Tensor& out);

}  // namespace mora
