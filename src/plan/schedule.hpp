// The steps of a plan before they have memory: live nodes in order, with additions fused into
// products.
#pragma once

#include <span>
#include <vector>

#include "mora/graph/graph.hpp"
#include "mora/plan/plan.hpp"

namespace mora::plan {

struct PlannedStep {
  const Op* op;
  Attrs attrs;
  std::vector<int> in, out;  // values, aliases resolved
  std::vector<Type>
      in_types;  // as the node sees them: an alias has another shape than the value it resolves to
  std::vector<uint8_t> read;  // which outputs somebody reads
  const Node* node;           // where it came from, for messages
  int bound_output = -1;      // output 0 is written straight into this leaf's memory
};

struct Schedule {
  std::vector<PlannedStep> steps;
  std::vector<int> outputs;  // values that must survive the run, aliases resolved
};

// The value whose memory `value` shares (reshape is an alias).
int resolve(const Graph& graph, int value);

Schedule make_schedule(const Graph& graph, std::span<const Var> outputs, Reuse fusion);

// Where a value lives and when.
struct Block {
  int value;  // -1: scratch
  size_t bytes;
  int first, last;
  size_t offset = 0;
};

// Gives every block an offset so that blocks alive at the same time do not overlap (largest first,
// first gap that is free over the whole lifetime); returns the total size. Offsets are multiples
// of 64.
size_t lay_out(std::vector<Block>& blocks, Reuse memory);

}  // namespace mora::plan
