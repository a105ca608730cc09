#include "mora/nn/linear.hpp"

#include <algorithm>

#include "mora/plan/plan.hpp"

namespace mora {

Linear::Linear(const Scope& scope, int64_t in, int64_t out, Init init, Training training, Bias bias)
    : path_(scope.path()), weight_(&scope.parameter("weight", {out, in}, init, training)) {
  if (bias == Bias::no) return;
  bias_ = &scope.parameter("bias", {out}, {Init::Kind::zeros, 0}, training, Decay::no);
}

Var Linear::operator()(Context& context, Var x) const {
  const auto guard = context.graph().scope(path_);
  Var base = matmul(x, context.parameter(*weight_), {.tb = Transpose::yes});
  if (bias_ != nullptr) base = add_row(base, context.parameter(*bias_));
  return adapter_ ? add(base, adapter_->delta(context, x)) : base;
}

namespace {

// Delta of rows [begin, begin + rows) of the identity, written as columns of out.
template <class T>
void delta_columns(const Linear& linear, int64_t begin, int64_t rows, const Tensor& out) {
  OwnedTensor identity({out.dtype(), {rows, linear.in()}});
  for (int64_t i = 0; i < rows; ++i)
    identity.as<T>()[static_cast<size_t>(i * linear.in() + begin + i)] = T(1);
  Graph graph;
  Context context(graph);
  const Var delta = linear.adapter()->delta(context, graph.bind(identity.view(), "identity"));
  const auto backend = make_cpu_backend();
  Workspace workspace;
  Plan plan(graph, std::array{delta}, *backend, workspace);
  plan.run();
  const auto d = plan[delta].as<T>();
  const auto target = out.as<T>();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t o = 0; o < linear.out(); ++o) {
      target[static_cast<size_t>(o * linear.in() + begin + i)] =
          d[static_cast<size_t>(i * linear.out() + o)];
    }
  }
}

}  // namespace

void delta_weight(const Linear& linear, const Tensor& out) {
  constexpr int64_t kRows = 512;
  ensure(linear.adapter() != nullptr, linear.path(), " has no adapter");
  ensure(out.shape() == linear.weight().shape, "delta_weight: ", out.type, " for a weight ",
         linear.weight().shape);
  for (int64_t begin = 0; begin < linear.in(); begin += kRows) {
    const int64_t rows = std::min(kRows, linear.in() - begin);
    if (out.dtype() == DType::f64) {
      delta_columns<double>(linear, begin, rows, out);
    } else {
      delta_columns<float>(linear, begin, rows, out);
    }
  }
}

}  // namespace mora
