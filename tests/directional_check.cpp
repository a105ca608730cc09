#include "directional_check.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "mora/autograd/grad.hpp"

namespace mora::testing {

namespace {

double inner(const Array& a, const Array& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

DirectionalCheck::DirectionalCheck(const OpCase& c)
    : case_(c), inputs_(graph_, c.in, DType::f64, name_of(c)) {
  const std::vector<Var> out = c.build(inputs_.vars());
  for (int o : c.through) outputs_.push_back(out[static_cast<size_t>(o)]);
  for (const Var& v : outputs_) seed_memory_.emplace_back(v.type());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    assign(seed_memory_[i].view(), direction(i, outputs_[i].shape().elements()));
    seeds_.push_back(graph_.bind(seed_memory_[i].view(), "seed"));
  }
  for (int w : c.wrt) wrt_.push_back(inputs_.vars()[static_cast<size_t>(w)]);
}

double DirectionalCheck::error(size_t w, const Backend& backend) {
  const Var x = wrt_[w];
  const Var g = grad(outputs_, seeds_, wrt_)[w];
  ensure(static_cast<bool>(g) && g.type() == x.type(), name_of(case_), ": no gradient for input ",
         case_.wrt[w]);
  Workspace gradient_workspace, value_workspace;
  Plan gradient(graph_, std::array{g}, backend, gradient_workspace);
  Plan value(graph_, outputs_, backend, value_workspace);
  run_over(gradient, gradient_workspace, 0xff);
  const Array v = direction(100 + w, x.shape().elements());
  const double analytic = inner(numbers(gradient[g]), v);
  const double coarse = difference(value, w, v, case_.step);
  const double fine = difference(value, w, v, case_.step / 2);
  const double numeric = (4 * fine - coarse) / 3;
  return std::abs(analytic - numeric) / std::max({std::abs(analytic), std::abs(numeric), 1e-9});
}

Array DirectionalCheck::direction(size_t stream, int64_t n) const {
  const Random random(2, Purpose::test, stream_of(str(name_of(case_), " direction ", stream)));
  return eighths()(random, n);
}

// (<u, f(x + h v)> - <u, f(x - h v)>) / 2h, summed element by element so that large parts cancel
// first.
double DirectionalCheck::difference(Plan& value, size_t w, const Array& v, double h) const {
  const auto input = static_cast<size_t>(case_.wrt[w]);
  Arrays ahead, behind;
  for (const double side : {1.0, -1.0}) {
    Array moved = inputs_.initial()[input];
    for (size_t i = 0; i < moved.size(); ++i) moved[i] += side * h * v[i];
    assign(inputs_.memory(input), moved);
    value.run();
    for (const Var& out : outputs_) (side > 0 ? ahead : behind).push_back(numbers(value[out]));
  }
  inputs_.reset();
  double sum = 0;
  for (size_t o = 0; o < outputs_.size(); ++o) {
    Array change = ahead[o];
    for (size_t i = 0; i < change.size(); ++i) change[i] -= behind[o][i];
    sum += inner(numbers(seed_memory_[o].view()), change);
  }
  return sum / (2 * h);
}

}  // namespace mora::testing
