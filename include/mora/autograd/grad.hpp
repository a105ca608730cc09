// grad: calculus. Extends the graph by reverse-mode derivatives; the result is ordinary nodes of
// the same graph.
#pragma once

#include <span>
#include <vector>

#include "mora/graph/graph.hpp"

namespace mora {

// How the scopes of the nodes that grad() writes end, after the scope of the node they belong to.
inline constexpr const char* kGradScope = ".grad";
inline constexpr const char* kRecomputedScope = ".recomputed";

// d(sum_i <outputs[i], seeds[i]>) / d wrt[j], each with the shape of wrt[j]; an empty Var where
// nothing depends on wrt[j]. Inside the graph's recomputed regions it reads copies of the forward
// nodes, written in front of the region's part of the gradient; a forgotten value it makes again in
// front of the first part that reads it. Only nodes on a path from wrt to outputs are
// differentiated. Throws Error(internal) naming the op when such a path crosses an operation
// without a derivative: a gradient never vanishes silently.
std::vector<Var> grad(std::span<const Var> outputs, std::span<const Var> seeds,
                      std::span<const Var> wrt);

}  // namespace mora
