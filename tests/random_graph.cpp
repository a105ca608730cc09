#include "random_graph.hpp"

#include <cmath>

#include "mora/autograd/grad.hpp"

namespace mora::testing {

namespace {

constexpr std::array<int64_t, 5> kExtents = {1, 4, 6, 24, 40};

}  // namespace

RandomGraph::RandomGraph(uint64_t seed, DType working)
    : random_(seed, Purpose::test), working_(working) {
  for (int i = 0; i < 3; ++i) values_.push_back(leaf({kExtents[pick(5)], kExtents[pick(5)]}));
  const uint64_t steps = 5 + pick(25);
  for (uint64_t i = 0; i < steps; ++i) step();
  if (pick(2) == 0) differentiate();
  for (const Var& v : values_) {
    if (pick(4) == 0) outputs.push_back(v);
  }
  outputs.push_back(values_.back());
}

Var RandomGraph::leaf(const Shape& shape) {
  memory_.emplace_back(Type{working_, shape});
  initial_.push_back(uniform(-0.5, 0.5)(Random(next_++, Purpose::init), shape.elements()));
  assign(memory_.back().view(), initial_.back());
  leaves_.push_back(graph.bind(memory_.back().view(), str("leaf", leaves_.size())));
  return leaves_.back();
}

void RandomGraph::reset() const {
  for (size_t i = 0; i < memory_.size(); ++i) assign(memory_[i].view(), initial_[i]);
}

std::vector<Bytes> RandomGraph::leaf_bytes() const {
  std::vector<Bytes> result;
  for (const OwnedTensor& m : memory_) result.push_back(bytes_of(m.view()));
  return result;
}

// A value of this shape: one that exists, if luck finds it, or a new leaf.
Var RandomGraph::any_like(const Shape& shape) {
  for (int tries = 0; tries < 6; ++tries) {
    const Var v = any();
    if (v.shape() == shape) return v;
  }
  return leaf(shape);
}

Var RandomGraph::product(Var x) {
  const int64_t k = x.shape().last(), n = kExtents[pick(5)];
  const bool turned = pick(2) == 0;
  const Var w = any_like(turned ? Shape{n, k} : Shape{k, n});
  MatmulOptions options{.tb = turned ? Transpose::yes : Transpose::no,
                        .alpha = 0.5 / std::sqrt(static_cast<double>(k))};
  if (pick(4) == 0) options.c = any_like(x.shape().with_last(n));
  return matmul(x, w, options);
}

// The same elements as a matrix of other extents.
Var RandomGraph::reshaped(Var x) {
  const int64_t n = x.shape().elements();
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= n; ++d) {
    if (n % d == 0) divisors.push_back(d);
  }
  const int64_t rows = divisors[pick(divisors.size())];
  return reshape(x, {rows, n / rows});
}

void RandomGraph::step() {
  const Var x = any();
  if (x.shape().elements() > 600) return;  // small graphs find the same mistakes
  Var y;
  switch (pick(12)) {
    case 0:
    case 1:
    case 2:
      y = product(x);
      break;
    case 3:
      y = add(x, any_like(x.shape()));
      break;
    case 4: {  // what fusion looks for
      const Var p = product(x);
      const Var q = pick(2) == 0 ? p : reshaped(p);
      y = pick(2) == 0 ? add(q, any_like(q.shape())) : add(any_like(q.shape()), q);
      break;
    }
    case 5:
      y = swiglu(x, any_like(x.shape()));
      break;
    case 6:
      y = rms_norm(x, any_like({x.shape().last()}), 0.1).y;
      break;
    case 7:
      y = reshaped(x);
      break;
    case 8:
      y = scale_by(x, leaf({1}));
      break;
    case 9:
      y = fold(
          x, {.size = kExtents[pick(5)], .grouping = Grouping::strided, .padding = Padding::none});
      break;
    case 10:
      y = add_row(x, any_like({x.shape().last()}));
      break;
    default: {  // an update in the middle: of a new leaf, or of one that others read before and
                // after
      const Var update = pick(3) == 0 ? x : pick(2) == 0 ? product(x) : scale_by(x, leaf({1}));
      const Var target = pick(2) == 0 ? leaf(update.shape()) : any_like(update.shape());
      if (graph.value(target.id).producer < 0) accumulate(target, update);
      if (pick(2) == 0) values_.push_back(target);
      return;
    }
  }
  if (y.shape().rank() == 2) values_.push_back(y);
}

void RandomGraph::differentiate() {
  const Var loss = values_.back();
  std::vector<Var> wrt;
  for (const Var& v : leaves_) {
    if (pick(2) == 0) wrt.push_back(v);
  }
  const Var seed = leaf(loss.shape());
  for (const Var& g : grad(std::array{loss}, std::array{seed}, wrt)) {
    if (g) accumulate(leaf(g.shape()), g);
  }
}

Interpreter::Interpreter(const Graph& graph, const Backend& backend) : graph_(graph) {
  for (const Node& node : graph.nodes()) {
    if (node.op == &kReshape) continue;
    std::vector<Tensor> in, out;
    std::vector<Type> in_types, out_types;
    for (int id : node.in) {
      in.push_back((*this)[{nullptr, id}]);
      in_types.push_back(in.back().type);
    }
    for (int id : node.out) {
      out_types.push_back(graph.value(id).type);
      out.push_back((memory_[id] = OwnedTensor(out_types.back())).view());
    }
    const std::vector<uint8_t> read(out.size(), 1);
    const OpCall call{static_cast<OpId>(node.op->id), in_types, out_types, read, node.attrs};
    const Prepared prepared = backend.prepare(call);
    const Buffer scratch(prepared.scratch_bytes);
    backend.kernel(call)({in, out, node.attrs, scratch.data(), prepared.state.get()});
  }
}

Tensor Interpreter::operator[](Var v) const {
  const Value& value = graph_.value(v.id);
  if (value.producer < 0) return value.bound;
  const Node& node = graph_.nodes()[static_cast<size_t>(value.producer)];
  if (node.op == &kReshape)
    return {(*this)[{nullptr, node.in[0]}].data, value.type};  // an alias by definition
  return memory_.at(v.id).view();
}

}  // namespace mora::testing
