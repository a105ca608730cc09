// Dead code and fusion.
#include "plan/schedule.hpp"

#include <algorithm>
#include <optional>

#include "mora/ops/ops.hpp"

namespace mora::plan {

int resolve(const Graph& graph, int value) {
  for (;;) {
    const int producer = graph.value(value).producer;
    if (producer < 0) return value;
    const Node& node = graph.nodes()[static_cast<size_t>(producer)];
    if (node.op != &kReshape) return value;
    value = node.in[0];
  }
}

namespace {

std::vector<int> resolve_all(const Graph& graph, std::span<const int> values) {
  std::vector<int> result;
  for (int v : values) result.push_back(resolve(graph, v));
  return result;
}

bool is(const PlannedStep& step, OpId id) {
  return step.op->id == static_cast<int>(id);
}

std::vector<PlannedStep> live_steps(const Graph& graph, std::span<const int> outputs) {
  std::vector<uint8_t> needed(graph.values().size(), 0);
  for (int v : outputs) needed[static_cast<size_t>(v)] = 1;
  std::vector<PlannedStep> steps;
  for (auto node = graph.nodes().rbegin(); node != graph.nodes().rend(); ++node) {
    if (node->op == &kReshape) continue;
    PlannedStep step{.op = node->op,
                     .attrs = node->attrs,
                     .in = {},
                     .out = node->out,
                     .in_types = {},
                     .read = {},
                     .node = &*node};
    bool live = node->op->mutates != 0;
    for (int v : node->out) {
      step.read.push_back(needed[static_cast<size_t>(v)]);
      live = live || step.read.back();
    }
    if (!live) continue;
    step.in = resolve_all(graph, node->in);
    for (int v : node->in) step.in_types.push_back(graph.value(v).type);
    for (int v : step.in) needed[static_cast<size_t>(v)] = 1;
    steps.push_back(std::move(step));
  }
  std::reverse(steps.begin(), steps.end());
  return steps;
}

// The operation that makes the sum of what two steps make, with the inputs of the first and then of
// the second; null if there is none.
const Op* sum_of(const PlannedStep& first, const PlannedStep& second) {
  if (!is(first, OpId::matmul)) return nullptr;
  if (is(second, OpId::matmul)) return &op(OpId::matmul_sum);
  return is(second, OpId::block_product) ? &op(OpId::matmul_block_product) : nullptr;
}

// Of a result in `out`, or as the operands.
Attrs attrs_of_sum(const PlannedStep& first, const PlannedStep& second, std::optional<DType> out) {
  const MatmulTerm term = first.attrs.as<MatmulAttrs>().term;
  if (is(second, OpId::matmul))
    return MatmulSumAttrs{term, second.attrs.as<MatmulAttrs>().term, out};
  return MatmulBlockProductAttrs{term, second.attrs.as<BlockProductAttrs>(), out};
}

void append_inputs(const PlannedStep& from, size_t begin, size_t end, PlannedStep& to) {
  for (size_t i = begin; i < end; ++i) {
    to.in.push_back(from.in[i]);
    to.in_types.push_back(from.in_types[i]);
  }
}

// Lets a step that may write its sums unrounded do so.
bool write_as(DType dtype, PlannedStep& step) {
  if (is(step, OpId::matmul)) {
    step.attrs = MatmulAttrs{step.attrs.as<MatmulAttrs>().term, dtype};
  } else if (is(step, OpId::matmul_sum)) {
    const auto attrs = step.attrs.as<MatmulSumAttrs>();
    step.attrs = MatmulSumAttrs{attrs.first, attrs.second, dtype};
  } else if (is(step, OpId::matmul_block_product)) {
    const auto attrs = step.attrs.as<MatmulBlockProductAttrs>();
    step.attrs = MatmulBlockProductAttrs{attrs.first, attrs.second, dtype};
  } else {
    return false;
  }
  return true;
}

// Rewrites add(x, f(a, b)) as f with x for its addend, for the operations that take one, a product
// or block_product whose addend is a product as the sum of the two, and `target += a*b` as a
// product with an addend. The sum stays where the addition stood, as x may be made after f(a, b);
// the update moves to where the product stood, so that a and b live no longer than before.
class Fuser {
 public:
  Fuser(const Graph& graph, std::vector<PlannedStep>& steps, std::span<const int> outputs)
      : graph_(graph),
        steps_(steps),
        uses_(graph.values().size(), 0),
        maker_(graph.values().size()) {
    for (size_t s = 0; s < steps.size(); ++s) {
      for (int v : steps[s].in) ++uses_[static_cast<size_t>(v)];
      for (int v : steps[s].out) maker_[static_cast<size_t>(v)] = s;
    }
    for (int v : outputs) ++uses_[static_cast<size_t>(v)];
  }

  void run() {
    std::vector<uint8_t> gone(steps_.size(), 0);
    for (size_t s = 0; s < steps_.size(); ++s) {
      if (is(steps_[s], OpId::add)) fuse_add(s, gone);
      if (is(steps_[s], OpId::accumulate)) fuse_accumulate(s, gone);
    }
    std::vector<PlannedStep> kept;
    for (size_t s = 0; s < steps_.size(); ++s) {
      if (!gone[s]) kept.push_back(std::move(steps_[s]));
    }
    steps_ = std::move(kept);
  }

 private:
  bool remembered(int value) const { return graph_.value(value).remembered == Remembered::yes; }

  // The step that made a value which only this use reads.
  std::optional<size_t> only_maker(int value, const std::vector<uint8_t>& gone) const {
    const auto& maker = maker_[static_cast<size_t>(value)];
    if (!maker || gone[*maker] || uses_[static_cast<size_t>(value)] != 1) return std::nullopt;
    return maker;
  }

  // The same, if it could take an addend and has none.
  std::optional<size_t> lone_maker(int value, const std::vector<uint8_t>& gone) const {
    const auto maker = only_maker(value, gone);
    if (!maker) return std::nullopt;
    const PlannedStep& step = steps_[*maker];
    const bool free = static_cast<int>(step.in.size()) == step.op->addend;
    return free && step.bound_output < 0 ? maker : std::nullopt;
  }

  // Does a step between `maker` and `user` change memory that the maker reads?
  bool updated_between(size_t maker, size_t user) const {
    const std::vector<int>& read = steps_[maker].in;
    auto reads = [&](int value) { return std::ranges::find(read, value) != read.end(); };
    for (size_t s = maker + 1; s < user; ++s) {
      const PlannedStep& step = steps_[s];
      if (step.bound_output >= 0 && reads(step.bound_output)) return true;
      for (size_t i = 0; i < step.in.size(); ++i) {
        if ((step.op->mutates >> i & 1u) != 0 && reads(step.in[i])) return true;
      }
    }
    return false;
  }

  void fuse_add(size_t s, std::vector<uint8_t>& gone) {
    PlannedStep& step = steps_[s];
    for (const size_t side : {size_t{1}, size_t{0}}) {
      // What is kept instead of a sum it is added in is rounded, so rounded in the sum as well.
      if (!remembered(step.out[0]) && remembered(step.in[side])) continue;
      const auto maker = lone_maker(step.in[side], gone);
      const size_t other = 1 - side;
      const DType sum = graph_.value(step.out[0]).type.dtype;
      if (!maker || updated_between(*maker, s) || step.in_types[other].dtype != sum) continue;
      PlannedStep fused = steps_[*maker];
      // A product in bf16 is added to f32 unrounded.
      if (!write_as(sum, fused) && step.in_types[side].dtype != sum) continue;
      fused.in.push_back(step.in[other]);
      fused.in_types.push_back(step.in_types[other]);
      fused.out = step.out;
      fused.read = step.read;
      fused.node = step.node;
      step = std::move(fused);
      gone[*maker] = 1;
      fuse_products(s, gone);
      return;
    }
  }

  // The addend of step s is what another made for it alone, and both make products.
  void fuse_products(size_t s, std::vector<uint8_t>& gone) {
    PlannedStep& step = steps_[s];
    const auto maker = only_maker(step.in.back(), gone);
    if (!maker || updated_between(*maker, s)) return;
    const PlannedStep& made = steps_[*maker];
    const bool alike = made.in_types[0].dtype == step.in_types[0].dtype &&
                       graph_.value(made.out[0]).type == graph_.value(step.out[0]).type;
    if (!alike || made.bound_output >= 0) return;
    const bool in_order = sum_of(made, step) != nullptr;
    const PlannedStep &first = in_order ? made : step, &second = in_order ? step : made;
    const Op* sum_op = sum_of(first, second);
    if (sum_op == nullptr) return;
    PlannedStep sum = step;
    sum.op = sum_op;
    sum.attrs = attrs_of_sum(first, second, graph_.value(step.out[0]).type.dtype);
    sum.in.clear();
    sum.in_types.clear();
    append_inputs(first, 0, static_cast<size_t>(first.op->addend), sum);
    append_inputs(second, 0, static_cast<size_t>(second.op->addend), sum);
    append_inputs(made, static_cast<size_t>(made.op->addend), made.in.size(), sum);
    step = std::move(sum);
    gone[*maker] = 1;
  }

  // Nobody else may see the target, as its update moves.
  void fuse_accumulate(size_t s, std::vector<uint8_t>& gone) {
    const PlannedStep& step = steps_[s];
    const int target = step.in[0];
    const auto product = lone_maker(step.in[1], gone);
    if (!product || !is(steps_[*product], OpId::matmul)) return;
    if (uses_[static_cast<size_t>(target)] != 1) return;
    PlannedStep& p = steps_[*product];
    p.in.push_back(target);
    p.in_types.push_back(step.in_types[0]);
    p.bound_output = target;
    gone[s] = 1;
  }

  const Graph& graph_;
  std::vector<PlannedStep>& steps_;
  std::vector<int> uses_;
  std::vector<std::optional<size_t>> maker_;
};

}  // namespace

Schedule make_schedule(const Graph& graph, std::span<const Var> outputs, Reuse fusion) {
  Schedule schedule;
  for (const Var& v : outputs) schedule.outputs.push_back(resolve(graph, v.id));
  schedule.steps = live_steps(graph, schedule.outputs);
  if (fusion == Reuse::yes) Fuser(graph, schedule.steps, schedule.outputs).run();
  return schedule;
}

}  // namespace mora::plan
