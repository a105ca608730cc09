// A plan's kernels as one CUDA graph.
#pragma once

#include <memory>

#include "mora/backend/backend.hpp"

namespace mora::cuda {

std::unique_ptr<Replay> make_graph_replay();

}  // namespace mora::cuda
