#include "mora/autograd/grad.hpp"

#include <algorithm>

#include "mora/ops/ops.hpp"

namespace mora {

namespace {

// Which values depend on wrt: the only ones whose gradient is worth computing.
std::vector<uint8_t> reached_from(const Graph& graph, std::span<const Var> wrt) {
  std::vector<uint8_t> reached(graph.values().size(), 0);
  for (const Var& v : wrt) reached[static_cast<size_t>(v.id)] = 1;
  for (const Node& node : graph.nodes()) {
    bool any = false;
    for (int id : node.in) any = any || reached[static_cast<size_t>(id)];
    for (int id : node.out) reached[static_cast<size_t>(id)] |= static_cast<uint8_t>(any);
  }
  return reached;
}

// What a gradient reads of the forward pass: its values, or, of a region that is recomputed and of
// values that were to be forgotten, those of a copy of their nodes. A region's copy computes from
// its inputs, which are kept; what of it nobody reads is dead code. Asked for nodes from the last to
// the first.
class ForwardValues {
 public:
  explicit ForwardValues(Graph& graph)
      : graph_(graph), regions_(graph.recomputed()), copy_(graph.values().size()) {}

  // Before the gradient of a node is written.
  void reach(int node) {
    while (!regions_.empty() && regions_.back().begin > node) regions_.pop_back();
    if (regions_.empty() || node >= regions_.back().end) return;
    for (int n = regions_.back().begin; n < regions_.back().end; ++n) {
      const std::vector<Var> again = emit_again(n);
      const std::vector<int>& out = graph_.nodes()[static_cast<size_t>(n)].out;
      for (size_t o = 0; o < again.size(); ++o) copy_[static_cast<size_t>(out[o])] = again[o];
    }
    regions_.pop_back();
  }

  std::vector<Var> vars(std::span<const int> ids) {
    std::vector<Var> result;
    for (int id : ids) {
      Var& again = copy_[static_cast<size_t>(id)];
      if (!again && forgotten(id)) again = made_again(id);
      result.push_back(again ? again : Var{&graph_, id});
    }
    return result;
  }

 private:
  // Also under another shape.
  bool forgotten(int id) const {
    const Value& value = graph_.value(id);
    if (value.remembered == Remembered::no) return true;
    if (value.producer < 0) return false;
    const Node& node = graph_.nodes()[static_cast<size_t>(value.producer)];
    return node.op == &kReshape && forgotten(node.in[0]);
  }

  Var made_again(int id) {
    const int n = graph_.value(id).producer;
    const std::vector<int>& out = graph_.nodes()[static_cast<size_t>(n)].out;
    return emit_again(n)[static_cast<size_t>(std::ranges::find(out, id) - out.begin())];
  }

  std::vector<Var> emit_again(int n) {
    const Node& node = graph_.nodes()[static_cast<size_t>(n)];
    ensure(node.op->mutates == 0, node.scope, ": \"", node.op->name,
           "\" changes memory and cannot be computed again");
    const auto guard = graph_.scope(node.scope + kRecomputedScope);
    const std::vector<Var> again = graph_.emit(*node.op, node.attrs, vars(node.in));
    for (size_t o = 0; o < again.size(); ++o) {
      if (graph_.value(node.out[o]).remembered == Remembered::no) forget(again[o]);
    }
    return again;
  }

  Graph& graph_;
  std::deque<Graph::Region> regions_;  // those not reached yet
  std::vector<Var> copy_;              // by value; empty: not copied
};

}  // namespace

std::vector<Var> grad(std::span<const Var> outputs, std::span<const Var> seeds,
                      std::span<const Var> wrt) {
  ensure(!outputs.empty() && outputs.size() == seeds.size(), "grad: one seed per output is needed");
  Graph& graph = *outputs[0].graph;
  const std::vector<uint8_t> reached = reached_from(graph, wrt);
  std::vector<Var> gradient(graph.values().size());
  auto contribute = [&](int id, Var d) {
    Var& g = gradient[static_cast<size_t>(id)];
    ensure(d.type() == graph.value(id).type, "a gradient is ", d.type(), " for a value ",
           graph.value(id).type);
    g = g ? add(g, d) : d;
  };
  for (size_t i = 0; i < outputs.size(); ++i) contribute(outputs[i].id, seeds[i]);
  ForwardValues forward(graph);

  for (int n = static_cast<int>(graph.nodes().size()) - 1; n >= 0; --n) {
    const Node& node = graph.nodes()[static_cast<size_t>(n)];
    std::vector<Var> dout;
    bool flows = false;
    for (int id : node.out) {
      dout.push_back(gradient[static_cast<size_t>(id)]);
      flows = flows || dout.back();
    }
    std::vector<uint8_t> wanted;
    bool any = false;
    for (int id : node.in) {
      wanted.push_back(reached[static_cast<size_t>(id)]);
      any = any || wanted.back();
    }
    if (!flows || !any) continue;
    ensure(node.op->vjp != nullptr, node.scope, ": a gradient is asked for through \"",
           node.op->name, "\", which has no derivative");
    forward.reach(n);
    const std::vector<Var> in = forward.vars(node.in), out = forward.vars(node.out);
    const auto guard = graph.scope(node.scope + kGradScope);
    const std::vector<Var> din = node.op->vjp({node, in, out, dout, wanted});
    for (size_t i = 0; i < din.size(); ++i) {
      if (din[i] && wanted[i]) contribute(node.in[i], din[i]);
    }
  }
  std::vector<Var> result;
  for (const Var& v : wrt) result.push_back(gradient[static_cast<size_t>(v.id)]);
  return result;
}

}  // namespace mora
