#include "mora/graph/graph.hpp"

namespace mora {

const Type& Var::type() const {
  return graph->value(id).type;
}
const Shape& Var::shape() const {
  return type().shape;
}

Var Graph::bind(const Tensor& memory, std::string name) {
  ensure(memory.data != nullptr, "leaf \"", name, "\" has no memory");
  values_.push_back(
      {.type = memory.type, .producer = -1, .bound = memory, .name = std::move(name)});
  return {this, static_cast<int>(values_.size()) - 1};
}

std::vector<Var> Graph::emit(const Op& op, const Attrs& attrs, std::span<const Var> in) {
  std::vector<Type> types;
  std::vector<int> ids;
  for (const Var& v : in) {
    ensure(v.graph == this, scope_, ": ", op.name, ": an input belongs to another graph");
    types.push_back(v.type());
    ids.push_back(v.id);
  }
  std::vector<Type> out_types;
  try {
    out_types = op.infer(types, attrs);
  } catch (const Error& e) {
    throw Error(e.kind(), str(scope_, scope_.empty() ? "" : ": ", op.name, ": ", e.what()));
  }
  for (size_t i = 0; i < in.size(); ++i) {
    const bool mutated = (op.mutates >> i & 1u) != 0;
    ensure(!mutated || value(in[i].id).producer < 0, op.name,
           ": only bound memory can be updated in place");
  }
  std::vector<Var> out;
  std::vector<int> out_ids;
  for (const Type& type : out_types) {
    values_.push_back(
        {.type = type, .producer = static_cast<int>(nodes_.size()), .bound = {}, .name = {}});
    out_ids.push_back(static_cast<int>(values_.size()) - 1);
    out.push_back({this, out_ids.back()});
  }
  nodes_.push_back({&op, attrs, std::move(ids), std::move(out_ids), scope_});
  return out;
}

Graph::ScopeGuard::ScopeGuard(Graph& graph, std::string_view name)
    : graph_(graph), outer_(graph.scope_) {
  graph.scope_ = outer_.empty() ? std::string(name) : str(outer_, ".", name);
}

Graph::ScopeGuard::~ScopeGuard() {
  graph_.scope_ = outer_;
}

Var forget(Var v) {
  v.graph->values_[static_cast<size_t>(v.id)].remembered = Remembered::no;
  return v;
}

Graph::RecomputeGuard::RecomputeGuard(Graph& graph) : graph_(graph) {
  ensure(!graph.in_region_, graph.scope_, ": a recomputed region within another");
  graph.in_region_ = true;
  graph.recomputed_.push_back({graph.next_node(), graph.next_node()});
}

Graph::RecomputeGuard::~RecomputeGuard() {
  graph_.in_region_ = false;
  graph_.recomputed_.back().end = graph_.next_node();
}

namespace {

struct ReshapeAttrs {
  Shape shape;
};

std::vector<Type> infer_reshape(std::span<const Type> in, const Attrs& attrs) {
  const Shape shape = attrs.as<ReshapeAttrs>().shape;
  ensure(in[0].shape.elements() == shape.elements(), "cannot view ", in[0].shape, " as ", shape);
  return {{in[0].dtype, shape}};
}

std::vector<Var> vjp_reshape(const VjpArgs& a) {
  return {reshape(a.dout[0], a.in[0].shape())};
}

}  // namespace

const Op kReshape{.name = "reshape", .infer = infer_reshape, .vjp = vjp_reshape};

Var reshape(Var x, const Shape& shape) {
  if (x.shape() == shape) return x;
  return x.graph->emit(kReshape, ReshapeAttrs{shape}, std::array{x})[0];
}

}  // namespace mora
