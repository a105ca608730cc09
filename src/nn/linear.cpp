#include "mora/nn/linear.hpp"

#include <algorithm>

#include "mora/core/parallel.hpp"
#include "mora/plan/plan.hpp"

namespace mora {

Linear::Linear(const Scope& scope, int64_t in, int64_t out, Init init, Training training, Bias bias)
    : path_(scope.path()), weight_(&scope.parameter("weight", {out, in}, init, training)) {
  if (bias == Bias::no) return;
  bias_ = &scope.parameter("bias", {out}, {Init::Kind::zeros, 0}, training, Decay::no);
}

std::string_view Linear::name() const {
  return std::string_view(path_).substr(path_.rfind('.') + 1);
}

Var Linear::operator()(Context& context, Var x, Remembered remembered) const {
  const auto guard = context.graph().scope(name());
  auto result = [&](Var v) {  // or a part of it, as wide
    if (remembered == Remembered::no) forget(v);
    return v;
  };
  const Var weight = context.parameter(*weight_),
            product = result(matmul(x, weight, {.tb = Transpose::yes}));
  const Var base = bias_ == nullptr ? product : result(add_row(product, context.parameter(*bias_)));
  if (!adapter_) return base;
  return result(add(base, result(adapter_->delta(context, {x, weight, product}))));
}

namespace {

// What the map makes of rows [begin, begin + rows) of the identity, written as columns of `matrix`.
template <class T>
void map_columns(const std::function<Var(Context&, Var)>& map, int64_t begin, int64_t rows,
                 const Tensor& matrix) {
  const int64_t out = matrix.shape()[0], in = matrix.shape()[1];
  OwnedTensor identity({matrix.dtype(), {rows, in}});
  for (int64_t i = 0; i < rows; ++i)
    identity.as<T>()[static_cast<size_t>(i * in + begin + i)] = T(1);
  Graph graph;
  Context context(graph);
  const Var image = map(context, graph.bind(identity.view(), "identity"));
  const auto backend = make_cpu_backend();
  Workspace workspace;
  Plan plan(graph, std::array{image}, *backend, workspace);
  plan.run();
  const auto columns = plan[image].as<T>();
  const auto target = matrix.as<T>();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t o = 0; o < out; ++o)
      target[static_cast<size_t>(o * in + begin + i)] = columns[static_cast<size_t>(i * out + o)];
  }
}

}  // namespace

void matrix_of(const std::function<Var(Context& context, Var x)>& map, const Tensor& matrix) {
  constexpr int64_t kRows = 512;
  const int64_t in = matrix.shape()[1];
  for (int64_t begin = 0; begin < in; begin += kRows) {
    const int64_t rows = std::min(kRows, in - begin);
    if (matrix.dtype() == DType::f64) {
      map_columns<double>(map, begin, rows, matrix);
    } else {
      map_columns<float>(map, begin, rows, matrix);
    }
  }
}

void delta_weight(const Linear& linear, const Tensor& out) {
  delta_weight(linear, linear.weight().value, out);
}

void delta_weight(const Linear& linear, const Tensor& weight, const Tensor& out) {
  ensure(linear.adapter() != nullptr, linear.path(), " has no adapter");
  ensure(out.shape() == linear.weight().shape, "delta_weight: ", out.type, " for a weight ",
         linear.weight().shape);
  matrix_of(
      [&](Context& context, Var x) {
        AdaptedLayer layer{.x = x, .weight = {}, .product = {}};
        if (weight) {
          layer.weight = context.constant(weight, linear.weight().name);
          layer.product = matmul(x, layer.weight, {.tb = Transpose::yes});
        }
        return linear.adapter()->delta(context, layer);
      },
      out);
}

namespace {

template <class T>
void add_to(const Tensor& sum, const Tensor& change) {
  const auto to = sum.as<T>();
  const auto from = change.as<T>();
  parallel_pieces(static_cast<int64_t>(to.size()), 1 << 16, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) to[i] += from[i];
  });
}

}  // namespace

void merged_weight(const Linear& linear, const Tensor& weight, const Tensor& out) {
  const OwnedTensor delta(out.type, Fill::none);
  delta_weight(linear, weight, delta.view());
  convert(weight, out);
  if (out.dtype() == DType::f64) {
    add_to<double>(out, delta.view());
  } else {
    add_to<float>(out, delta.view());
  }
}

}  // namespace mora
