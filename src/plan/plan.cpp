#include "mora/plan/plan.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "plan/schedule.hpp"

namespace mora {

void Workspace::reserve(size_t bytes, const Backend& backend) {
  if (bytes <= buffer_.bytes()) return;
  wanted_ = bytes;
  const UseMemory memory(backend.memory());
  buffer_ = Buffer();  // first, as nothing is kept: the two need not fit together
  buffer_ = Buffer(bytes);
}

namespace {

// Where a step's tensor lives: in bound memory, in the workspace, or nowhere (an output that nobody
// reads).
struct Slot {
  enum class Home : uint8_t { bound, workspace, none } home = Home::none;
  size_t offset = 0;
};

struct Step {
  Kernel kernel;
  Attrs attrs;
  std::vector<Tensor> in, out;
  std::vector<Slot> in_slots, out_slots;
  size_t scratch_offset = 0;
  bool has_scratch = false;
  Prepared prepared;
  void* scratch = nullptr;
  const Op* op;  // of the node, or what fusion made of it
  const Node* node;
};

}  // namespace

struct Plan::Impl {
  const Graph& graph;
  Workspace& workspace;
  const Backend& backend;
  std::unique_ptr<Replay> replay;
  std::vector<Step> steps;
  std::vector<Slot> homes;  // by value
  std::vector<Placement> placements;
  size_t bytes = 0;
  const std::byte* resolved_base = nullptr;

  Impl(const Graph& g, Workspace& w, const Backend& b)
      : graph(g), workspace(w), backend(b), replay(b.make_replay()), homes(g.values().size()) {}

  void build(const plan::Schedule& schedule, Reuse memory);
  void make_step(const plan::PlannedStep& planned, LastRead last_read);
  std::vector<plan::Block> assign_blocks(const plan::Schedule& schedule, Reuse memory,
                                         std::vector<int>& block_of);
  Tensor locate(int value, const Slot& slot) const;
  void resolve_addresses();
  void execute(const Step& step) const {
    step.kernel({step.in, step.out, step.attrs, step.scratch, step.prepared.state.get()});
  }
  static void walk(const void* plan) {
    const auto& impl = *static_cast<const Impl*>(plan);
    for (const Step& step : impl.steps) impl.execute(step);
  }
};

namespace {

std::vector<Type> types_of(const Graph& graph, std::span<const int> values) {
  std::vector<Type> types;
  for (int v : values) types.push_back(graph.value(v).type);
  return types;
}

// Steps after which nothing is in a cache: more than a layer has.
constexpr int kLate = 64;

std::vector<int> last_uses(const Graph& graph, const plan::Schedule& schedule) {
  std::vector<int> last(graph.values().size(), -1);
  for (size_t s = 0; s < schedule.steps.size(); ++s) {
    for (int v : schedule.steps[s].in) last[static_cast<size_t>(v)] = static_cast<int>(s);
  }
  for (int v : schedule.outputs)
    last[static_cast<size_t>(v)] = static_cast<int>(schedule.steps.size());
  return last;
}

}  // namespace

// Gives every planned value a block; an output may join the block of the input it replaces.
std::vector<plan::Block> Plan::Impl::assign_blocks(const plan::Schedule& schedule, Reuse memory,
                                                   std::vector<int>& block_of) {
  const std::vector<int> last = last_uses(graph, schedule);
  std::vector<plan::Block> blocks;
  block_of.assign(graph.values().size(), -1);
  for (int s = 0; s < static_cast<int>(schedule.steps.size()); ++s) {
    const plan::PlannedStep& step = schedule.steps[static_cast<size_t>(s)];
    for (size_t o = 0; o < step.out.size(); ++o) {
      const int value = step.out[o];
      if (!step.read[o] || step.bound_output >= 0) continue;
      const size_t size = graph.value(value).type.bytes();
      const int until = std::max(s, last[static_cast<size_t>(value)]);
      const auto taken = static_cast<size_t>(step.op->inplace);
      if (memory == Reuse::yes && o == 0 && step.op->inplace >= 0 && taken < step.in.size()) {
        const int source = step.in[taken];
        const int block = block_of[static_cast<size_t>(source)];
        const bool once = std::count(step.in.begin(), step.in.end(), source) == 1;
        if (block >= 0 && last[static_cast<size_t>(source)] == s && once &&
            blocks[static_cast<size_t>(block)].bytes == size) {
          blocks[static_cast<size_t>(block)].last = until;
          block_of[static_cast<size_t>(value)] = block;
          continue;
        }
      }
      block_of[static_cast<size_t>(value)] = static_cast<int>(blocks.size());
      blocks.push_back({.value = value, .bytes = size, .first = s, .last = until});
    }
  }
  return blocks;
}

void Plan::Impl::make_step(const plan::PlannedStep& planned, LastRead last_read) {
  Step step{.kernel = nullptr,
            .attrs = planned.attrs,
            .in = {},
            .out = {},
            .in_slots = {},
            .out_slots = {},
            .prepared = {},
            .op = planned.op,
            .node = planned.node};
  const auto out = types_of(graph, planned.out);
  const std::vector<Type>& in = planned.in_types;
  const OpCall call{
      static_cast<OpId>(planned.op->id), in, out, planned.read, planned.attrs, last_read};
  step.kernel = backend.kernel(call);
  step.prepared = backend.prepare(call);
  for (const Type& type : in) step.in.push_back({nullptr, type});
  for (const Type& type : out) step.out.push_back({nullptr, type});
  steps.push_back(std::move(step));
}

void Plan::Impl::build(const plan::Schedule& schedule, Reuse memory) {
  std::vector<int> block_of;
  std::vector<plan::Block> blocks = assign_blocks(schedule, memory, block_of);
  const std::vector<int> last = last_uses(graph, schedule);
  std::vector<std::pair<size_t, size_t>> scratch;  // (step, block)
  for (size_t s = 0; s < schedule.steps.size(); ++s) {
    const plan::PlannedStep& planned = schedule.steps[s];
    const bool late = !planned.out.empty() &&
                      last[static_cast<size_t>(planned.out[0])] > static_cast<int>(s) + kLate;
    make_step(planned, late ? LastRead::late : LastRead::soon);
    const size_t need = steps[s].prepared.scratch_bytes;
    if (need == 0) continue;
    scratch.emplace_back(s, blocks.size());
    blocks.push_back(
        {.value = -1, .bytes = need, .first = static_cast<int>(s), .last = static_cast<int>(s)});
  }
  bytes = plan::lay_out(blocks, memory);
  for (const auto& [s, b] : scratch) {
    steps[s].scratch_offset = blocks[b].offset;
    steps[s].has_scratch = true;
  }
  for (size_t v = 0; v < homes.size(); ++v) {
    if (graph.value(static_cast<int>(v)).producer < 0) homes[v].home = Slot::Home::bound;
    if (block_of[v] >= 0)
      homes[v] = {Slot::Home::workspace, blocks[static_cast<size_t>(block_of[v])].offset};
  }
  for (const plan::Block& b : blocks)
    placements.push_back({b.value, b.offset, b.bytes, b.first, b.last});
  for (size_t s = 0; s < schedule.steps.size(); ++s) {
    const plan::PlannedStep& planned = schedule.steps[s];
    for (int v : planned.in) steps[s].in_slots.push_back(homes[static_cast<size_t>(v)]);
    for (int v : planned.out) steps[s].out_slots.push_back(homes[static_cast<size_t>(v)]);
    for (size_t i = 0; i < planned.in.size(); ++i) {
      steps[s].in[i].data = locate(planned.in[i], steps[s].in_slots[i]).data;
    }
    for (size_t o = 0; o < planned.out.size(); ++o) steps[s].out[o].data = nullptr;
    if (planned.bound_output >= 0) steps[s].out[0] = graph.value(planned.bound_output).bound;
  }
  workspace.reserve(bytes, backend);
}

Tensor Plan::Impl::locate(int value, const Slot& slot) const {
  const Value& v = graph.value(value);
  switch (slot.home) {
    case Slot::Home::bound:
      return {v.bound.data, v.type};
    case Slot::Home::workspace:
      return {workspace.base() + slot.offset, v.type};
    case Slot::Home::none:
      break;
  }
  return {nullptr, v.type};
}

void Plan::Impl::resolve_addresses() {
  std::byte* base = workspace.base();
  if (base == resolved_base) return;
  auto place = [&](std::vector<Tensor>& tensors, const std::vector<Slot>& slots) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (slots[i].home == Slot::Home::workspace) tensors[i].data = base + slots[i].offset;
    }
  };
  for (Step& step : steps) {
    place(step.in, step.in_slots);
    place(step.out, step.out_slots);
    step.scratch = step.has_scratch ? base + step.scratch_offset : nullptr;
  }
  resolved_base = base;
  if (replay) replay->forget();
}

Plan::Plan(const Graph& graph, std::span<const Var> outputs, const Backend& backend,
           Workspace& workspace, const PlanOptions& options)
    : impl_(std::make_unique<Impl>(graph, workspace, backend)) {
  impl_->build(plan::make_schedule(graph, outputs, options.fusion), options.memory);
}

Plan::~Plan() = default;
Plan::Plan(Plan&&) noexcept = default;

void Plan::run() {
  impl_->resolve_addresses();
  if (impl_->replay) {
    impl_->replay->run(&Impl::walk, impl_.get());
  } else {
    Impl::walk(impl_.get());
  }
}

void Plan::trace(const Visitor& visit) {
  impl_->resolve_addresses();
  for (const Step& step : impl_->steps) {
    const auto begin = std::chrono::steady_clock::now();
    impl_->execute(step);
    impl_->backend.wait();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    visit({*step.op, step.node->scope, step.in, step.out, step.attrs, took.count()});
  }
}

Tensor Plan::operator[](Var v) const {
  const int value = plan::resolve(impl_->graph, v.id);
  const Slot& slot = impl_->homes[static_cast<size_t>(value)];
  ensure(slot.home != Slot::Home::none, "the value asked for is not an output of this plan");
  return {impl_->locate(value, slot).data, v.type()};
}

size_t Plan::bytes() const {
  return impl_->bytes;
}
size_t Plan::steps() const {
  return impl_->steps.size();
}
std::span<const Placement> Plan::placements() const {
  return impl_->placements;
}

std::string Plan::report() const {
  std::vector<Placement> largest = impl_->placements;
  std::stable_sort(largest.begin(), largest.end(),
                   [](const Placement& a, const Placement& b) { return a.bytes > b.bytes; });
  std::string text = str(steps(), " steps, ", bytes(), " bytes\n");
  for (size_t i = 0; i < std::min<size_t>(largest.size(), 20); ++i) {
    const Placement& p = largest[i];
    const Value* v = p.value < 0 ? nullptr : &impl_->graph.value(p.value);
    const std::string what =
        v == nullptr
            ? "scratch"
            : str(impl_->graph.nodes()[static_cast<size_t>(v->producer)].scope, " ", v->type);
    text += str("  ", p.bytes, " bytes, steps ", p.first, "..", p.last, ": ", what, "\n");
  }
  return text;
}

namespace {

template <class T>
bool all_finite(const Tensor& t) {
  return std::ranges::all_of(t.as<T>(), [](T x) { return std::isfinite(value_as<Working<T>>(x)); });
}

bool finite(const Tensor& t) {
  if (!t) return true;  // an output that nobody reads
  switch (t.dtype()) {
    case DType::i32:
      return true;
    case DType::f64:
      return all_finite<double>(t);
    case DType::f32:
      return all_finite<float>(t);
    case DType::bf16:
      return all_finite<bf16>(t);
    case DType::f16:
      return all_finite<f16>(t);
  }
  return true;
}

}  // namespace

std::string first_non_finite(Plan& plan) {
  std::string found;
  plan.trace([&](const StepRun& step) {
    if (!found.empty() || std::ranges::all_of(step.out, finite)) return;
    found = str(step.scope, step.scope.empty() ? "" : ": ", step.op.name);
  });
  return found;
}

}  // namespace mora
