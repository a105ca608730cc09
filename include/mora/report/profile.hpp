// Profile: where the time of steps goes, by operation and by module, from the plan that runs them.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "mora/plan/plan.hpp"

namespace mora {

// What a kind of step cost in all. Bytes are those of all operands, each counted once a run: what
// must at least pass through memory when nothing is still in a cache.
struct Cost {
  int64_t runs = 0;
  double seconds = 0, flops = 0, bytes = 0;
};

class Profile {
 public:
  void add(const StepRun& step);

  // An operation in the forward pass, and in the gradient: "matmul", "matmul (grad)".
  const std::map<std::string, Cost>& by_op() const { return by_op_; }
  // A module's name without the number of its layer: "model.layers.*.self_attn.q_proj".
  const std::map<std::string, Cost>& by_module() const { return by_module_; }

  // Two tables, the most expensive first: share of the time, milliseconds, GFLOP/s, GB/s.
  std::string tables() const;
  // {"ops": {name: {"runs", "seconds", "flops", "bytes"}}, "modules": ...}, one line.
  std::string to_json_text() const;

 private:
  std::map<std::string, Cost> by_op_, by_module_;
};

}  // namespace mora
