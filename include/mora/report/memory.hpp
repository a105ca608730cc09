// What a training run holds in memory: as planned before the first step, and as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mora/backend/backend.hpp"
#include "mora/nn/parameter.hpp"

namespace mora {

// Bytes. Everything a step touches exists when it begins, so that the sum is the run's peak but for
// what the system and evaluation add.
struct MemoryPlan {
  size_t weights = 0;      // frozen
  size_t trained = 0;      // trained values, their gradients and two moments
  size_t activations = 0;  // and scratch memory, of the largest plan
  size_t rest = 0;         // the program, the tokenizer, data; none on a device

  std::string where = "";  // a device's memory; empty: the process's

  size_t total() const { return weights + trained + activations + rest; }
  std::string text() const;  // "memory: 257.0 MiB frozen weights, ...", a line
};

// When all of it has been allocated and filled.
MemoryPlan plan_memory(const ParameterStore& store, size_t activations, const Backend& backend);

// Resident memory of this process in bytes: the largest so far.
int64_t peak_memory();

}  // namespace mora
