#include "mora/nn/context.hpp"

namespace mora {

Var Context::constant(const Tensor& memory, const std::string& name) {
  auto [at, is_new] = bound_.try_emplace(memory.data);
  if (is_new) at->second = graph_.bind(memory, name);
  return at->second;
}

Var Context::parameter(const Parameter& p) {
  ensure(static_cast<bool>(p.value), "parameter ", p.name, " has no memory yet");
  return constant(p.value, p.name);
}

}  // namespace mora
