#include "mora/report/memory.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>

#include "core/memory.hpp"

namespace mora {

namespace {

double mebibytes(size_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

MemoryPlan plan_memory(const ParameterStore& store, size_t activations, const Backend& backend) {
  MemoryPlan plan{.activations = activations};
  for (const Parameter& p : store.all()) {
    if (p.training == Training::frozen) plan.weights += p.value.bytes();
  }
  plan.trained = 4 * store.values().bytes();
  if (const auto memory = backend.memory()) {
    plan.where = memory->name();
    return plan;
  }
  const size_t resident = resident_memory();
  plan.rest = resident - std::min(resident, plan.total());
  return plan;
}

std::string MemoryPlan::text() const {
  char line[256], program[64] = "";
  if (where.empty())
    std::snprintf(program, sizeof program, ", %.1f MiB program and data", mebibytes(rest));
  std::snprintf(line, sizeof line,
                "memory: %.1f MiB frozen weights, %.1f MiB trained ones with gradients and "
                "moments, %.1f MiB activations%s: %.1f MiB",
                mebibytes(weights), mebibytes(trained), mebibytes(activations), program,
                mebibytes(total()));
  return where.empty() ? str(line, "\n") : str(line, " of ", where, "\n");
}

int64_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace mora
