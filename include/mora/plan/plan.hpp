// Plan: when and where. Fixes, once, the order of a graph's nodes and the place of every value, so
// that a run only walks a list of kernels and allocates nothing.
//
// Making a plan: dead nodes are dropped, additions are fused into matrix products, values get
// lifetimes, an output takes over the memory of an input that dies (Op::inplace), and the rest is
// laid out in one block. Two values that live at the same time never share a byte.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mora/backend/backend.hpp"
#include "mora/graph/graph.hpp"

namespace mora {

// One block of memory that several plans of one backend use in turn (they never run at the same
// time). Grows when a larger plan is made; plans find the new place at their next run.
class Workspace {
 public:
  void reserve(size_t bytes, const Backend& backend);
  std::byte* base() const { return static_cast<std::byte*>(buffer_.data()); }
  size_t bytes() const { return buffer_.bytes(); }
  size_t wanted() const { return wanted_; }  // more than bytes() where there was no room for it

 private:
  Buffer buffer_;
  size_t wanted_ = 0;
};

enum class Reuse { yes, no };  // no: every value keeps memory of its own (the reference in tests)

struct PlanOptions {
  Reuse memory = Reuse::yes;
  Reuse fusion = Reuse::yes;
};

// A planned value's place, for reports and tests: bytes [offset, offset + bytes) from step `first`
// to step `last`.
struct Placement {
  int value;
  size_t offset, bytes;
  int first, last;
};

// One step of a plan that has just run.
struct StepRun {
  const Op& op;
  std::string_view scope;
  std::span<const Tensor> in, out;  // an output that nobody reads is empty
  const Attrs& attrs;
  double seconds;
};

class Plan {
 public:
  // Computes `outputs` and runs every node that updates bound memory. Outputs stay valid until the
  // workspace's next run or growth. The graph, the backend and the workspace must outlive the plan.
  Plan(const Graph& graph, std::span<const Var> outputs, const Backend& backend,
       Workspace& workspace, const PlanOptions& options = {});
  ~Plan();
  Plan(Plan&&) noexcept;

  void run();
  Tensor operator[](Var v) const;  // an output, or a leaf

  size_t bytes() const;  // activations and scratch
  size_t steps() const;
  std::span<const Placement> placements() const;

  // Runs step by step and calls `visit` after each: for profiles, and for naming the first
  // non-finite value.
  using Visitor = std::function<void(const StepRun&)>;
  void trace(const Visitor& visit);
  std::string report() const;  // steps and bytes, largest values first

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The scope and op of the first step that makes a NaN or an infinity, or "" if none does. Runs the
// plan.
std::string first_non_finite(Plan& plan);

}  // namespace mora
