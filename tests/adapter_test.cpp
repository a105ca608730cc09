// Every adapter over many shapes: what it adds to a layer, how large it is, that merging it is
// exact, and its gradients. The expected change of the weight is written out by index, apart from
// the library's operators.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "mora/autograd/grad.hpp"
#include "mora/plan/plan.hpp"
#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("adapter");

namespace mora::testing {
namespace {

struct LayerShape {
  int64_t in, out, r;
};

// Square, in > out, in < out, odd, R dividing both, R >= in, R > out, R > 2 in.
constexpr LayerShape kShapes[] = {{16, 16, 2}, {32, 32, 1}, {24, 10, 3}, {10, 24, 3},
                                  {13, 7, 2},  {7, 13, 2},  {6, 40, 2},  {64, 5, 4},
                                  {4, 60, 2},  {3, 3, 8},   {1, 5, 1},   {5, 1, 1}};

using Numbers = std::vector<double>;

Numbers numbers_of(const Tensor& t) {
  return {t.as<double>().begin(), t.as<double>().end()};
}

double difference(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  double error = 0, scale = 1;
  for (size_t i = 0; i < a.size(); ++i) {
    error = std::max(error, std::fabs(a[i] - b[i]));
    scale = std::max(scale, std::fabs(b[i]));
  }
  return error / scale;
}

// One linear layer with an adapter and an input of kTokens rows, in f64.
struct Layer {
  static constexpr int64_t kTokens = 5;

  AdapterConfig config;
  LayerShape shape;
  ParameterStore store{DType::f64, DType::f64};
  Linear linear;
  OwnedTensor x, step{{DType::i32, {2}}};

  Layer(const AdapterConfig& c, const LayerShape& s)
      : config(c),
        shape(s),
        linear(Scope(store, "layer"), s.in, s.out, {Init::Kind::normal, 1}, Training::frozen),
        x({DType::f64, {kTokens, s.in}}) {
    config.r = s.r;
    linear.attach(make_adapter(config, Scope(store, "layer"), s.in, s.out));
    store.allocate();
    store.initialise(1);
    fill_random(x.view(), "x", 1);
  }

  void randomise() {
    for (const Parameter& p : store.all()) fill_random(p.value, p.name, 1);
  }
  const Parameter& parameter(const std::string& name) const {
    return *std::ranges::find(store.all(), "layer." + name, &Parameter::name);
  }
  Numbers delta_weights() const {
    OwnedTensor delta({DType::f64, {shape.out, shape.in}});
    delta_weight(linear, delta.view());
    return numbers_of(delta.view());
  }
};

// A graph of the layer's output for its x, with dropout when asked for.
struct Forward {
  Graph graph;
  Context context{graph};
  Var x, y;

  Forward(const Layer& layer, Training mode) {
    if (mode == Training::trained)
      context.enable_dropout({.seed = 9, .step = graph.bind(layer.step.view(), "step")});
    x = graph.bind(layer.x.view(), "x");
    y = layer.linear(context, x);
  }
};

Numbers run(const Graph& graph, Var v) {
  const auto backend = make_cpu_backend();
  Workspace workspace;
  Plan plan(graph, std::array{v}, *backend, workspace);
  plan.run();
  return numbers_of(plan[v]);
}

// w x^T for every row of x.
Numbers apply(const Numbers& w, const Numbers& x, const LayerShape& s) {
  Numbers y;
  for (size_t t = 0; t < x.size() / static_cast<size_t>(s.in); ++t) {
    for (int64_t o = 0; o < s.out; ++o) {
      double sum = 0;
      for (int64_t j = 0; j < s.in; ++j)
        sum += w[static_cast<size_t>(o * s.in + j)] *
               x[t * static_cast<size_t>(s.in) + static_cast<size_t>(j)];
      y.push_back(sum);
    }
  }
  return y;
}

// ---- The change of the weight by the formulas of the methods.

int64_t contiguous_group(int64_t j, int64_t n, int64_t groups) {
  const int64_t q = n / groups, m = n % groups;
  return j < m * (q + 1) ? j / (q + 1) : m + (j - m * (q + 1)) / q;
}

class Dense {
 public:
  Dense(const Layer& layer, int64_t rank)
      : s_(layer.shape), rank_(rank), m_(numbers_of(layer.parameter("lora_A.weight").value)) {
    w_.assign(static_cast<size_t>(s_.in * s_.out), 0.0);
  }
  double m(int64_t i, int64_t c) const { return m_[static_cast<size_t>(i * rank_ + c)]; }
  double& w(int64_t o, int64_t j) { return w_[static_cast<size_t>(o * s_.in + j)]; }

  // A strided input is repeated from its start up to a multiple of the rank.
  Numbers sharing(bool strided_in, bool strided_out) {
    const int64_t extended = strided_in ? (s_.in + rank_ - 1) / rank_ * rank_ : s_.in;
    for (int64_t o = 0; o < s_.out; ++o) {
      const int64_t i = strided_out ? o % rank_ : contiguous_group(o, s_.out, rank_);
      for (int64_t p = 0; p < extended; ++p)
        w(o, p % s_.in) += m(i, strided_in ? p % rank_ : contiguous_group(p, s_.in, rank_));
    }
    return w_;
  }

  // Block b of the input is turned by `turn` times the angles b theta_k, then multiplied by M.
  Numbers blocks(double turn) {
    const int64_t n = (s_.in + rank_ - 1) / rank_, h = rank_ / 2;
    for (int64_t o = 0; o < s_.out; ++o) {
      const int64_t b = o % (n * rank_) / rank_, i = o % (n * rank_) % rank_;
      for (int64_t c = 0; c < rank_; ++c) {
        double factor = m(i, c);
        if (turn != 0) {
          const double theta = std::pow(
                           10000.0, -2.0 * static_cast<double>(c % h) / static_cast<double>(rank_)),
                       angle = static_cast<double>(b) * theta;
          factor = c < h ? m(i, c) * std::cos(angle) + m(i, c + h) * std::sin(angle)
                         : m(i, c) * std::cos(angle) - m(i, c - h) * std::sin(angle);
        }
        w(o, (b * rank_ + c) % s_.in) += factor;
      }
    }
    return w_;
  }

  Numbers truncation() {
    for (int64_t o = 0; o < std::min(s_.out, rank_); ++o) {
      for (int64_t j = 0; j < std::min(s_.in, rank_); ++j) w(o, j) = m(o, j);
    }
    return w_;
  }

  Numbers lora(const Numbers& b, double scale) {
    for (int64_t o = 0; o < s_.out; ++o) {
      for (int64_t j = 0; j < s_.in; ++j) {
        for (int64_t k = 0; k < s_.r; ++k)
          w(o, j) +=
              scale * b[static_cast<size_t>(o * s_.r + k)] * m_[static_cast<size_t>(k * s_.in + j)];
      }
    }
    return w_;
  }

 private:
  LayerShape s_;
  int64_t rank_;
  Numbers m_, w_;
};

int64_t expected_rank(const AdapterConfig& c, const LayerShape& s) {
  int64_t rank = 0;  // the nearest integer to sqrt((in + out) r), halves up
  while (4 * (s.in + s.out) * s.r >= (2 * rank + 1) * (2 * rank + 1)) ++rank;
  return c.operation == "rotation" && c.method == "mora" ? std::max<int64_t>(rank - rank % 2, 2)
                                                         : rank;
}

Numbers expected_delta(const Layer& layer) {
  const AdapterConfig& c = layer.config;
  Dense dense(layer, expected_rank(c, layer.shape));
  if (c.method == "lora") {
    const auto r = static_cast<double>(layer.shape.r);
    return dense.lora(numbers_of(layer.parameter("lora_B.weight").value),
                      c.lora_alpha / (c.use_rslora ? std::sqrt(r) : r));
  }
  if (c.operation == "rotation") return dense.blocks(1);
  if (c.operation == "decoupling") return dense.blocks(0);
  if (c.operation == "truncation") return dense.truncation();
  return dense.sharing(c.grouping == "strided" || c.grouping == "strided_contiguous",
                       c.grouping == "strided" || c.grouping == "contiguous_strided");
}

template <class Body>
void for_each_case(const Body& body) {
  for (const AdapterKind& kind : adapter_kinds()) {
    for (const LayerShape& shape : kShapes) {
      INFO(kind.name << ", in " << shape.in << " out " << shape.out << " r " << shape.r);
      Layer layer(kind.config, shape);
      body(layer);
    }
  }
}

TEST_CASE("an adapter starts as no change at all, whatever the layer") {
  for_each_case([](Layer& layer) {
    for (const double d : layer.delta_weights()) CHECK(d == 0);
    const Forward with(layer, Training::frozen);
    CHECK(difference(run(with.graph, with.y), apply(numbers_of(layer.linear.weight().value),
                                                    numbers_of(layer.x.view()), layer.shape)) <
          1e-13);
  });
}

TEST_CASE("the trained numbers are as many as the method's formula says") {
  for_each_case([](Layer& layer) {
    const LayerShape& s = layer.shape;
    const int64_t rank = expected_rank(layer.config, s);
    const int64_t expected = layer.config.method == "lora" ? s.r * (s.in + s.out) : rank * rank;
    CHECK(layer.store.count(Training::trained) == expected);
    CHECK(adapter_parameters(layer.config, s.in, s.out) == expected);
  });
}

TEST_CASE("the change of the weight is the method's formula, and merging is exact") {
  for_each_case([](Layer& layer) {
    layer.randomise();
    const Numbers delta = layer.delta_weights();
    CHECK(difference(delta, expected_delta(layer)) < 1e-12);
    Numbers merged = numbers_of(layer.linear.weight().value);
    for (size_t i = 0; i < merged.size(); ++i) merged[i] += delta[i];
    const Forward with(layer, Training::frozen);
    CHECK(difference(run(with.graph, with.y),
                     apply(merged, numbers_of(layer.x.view()), layer.shape)) < 1e-12);
  });
}

TEST_CASE("without dropout the change is linear in the input") {
  for_each_case([](Layer& layer) {
    layer.randomise();
    auto delta_of = [&](double a, double b) {
      const OwnedTensor x({DType::f64, layer.x.view().shape()}), other(x.view().type);
      fill_random(x.view(), "first", 1);
      fill_random(other.view(), "second", 1);
      for (size_t i = 0; i < x.as<double>().size(); ++i)
        x.as<double>()[i] = a * x.as<double>()[i] + b * other.as<double>()[i];
      Graph graph;
      Context context(graph);
      return run(graph, layer.linear.adapter()->delta(context, graph.bind(x.view(), "x")));
    };
    Numbers sum = delta_of(2, 0);
    const Numbers other = delta_of(0, -3);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
    CHECK(difference(delta_of(2, -3), sum) < 1e-12);
  });
}

// The error of <u, dy/dp v> from grad() against a central difference, relative to the larger of
// both.
double gradient_error(const Layer& layer, Forward& forward, Var wrt, const Tensor& memory) {
  const OwnedTensor u(forward.y.type());
  fill_random(u.view(), "u", 1);
  const Var seed = forward.graph.bind(u.view(), "u");
  const Var g = grad(std::array{forward.y}, std::array{seed}, std::array{wrt})[0];
  REQUIRE(static_cast<bool>(g));
  const Numbers gradient = run(forward.graph, g), start = numbers_of(memory);
  const OwnedTensor v(memory.type);
  fill_random(v.view(), "v", 1);
  double analytic = 0, numeric = 0;
  for (size_t i = 0; i < start.size(); ++i) analytic += gradient[i] * v.as<double>()[i];
  constexpr double kStep = 1e-4;
  for (const double side : {1.0, -1.0}) {
    for (size_t i = 0; i < start.size(); ++i)
      memory.as<double>()[i] = start[i] + side * kStep * v.as<double>()[i];
    const Numbers y = run(forward.graph, forward.y);
    for (size_t i = 0; i < y.size(); ++i) numeric += side * y[i] * u.as<double>()[i] / (2 * kStep);
  }
  std::ranges::copy(start, memory.as<double>().begin());
  CHECK_MESSAGE(std::fabs(analytic) > 1e-6, layer.linear.path());
  return std::fabs(analytic - numeric) / std::max(std::fabs(analytic), std::fabs(numeric));
}

TEST_CASE("gradients of the adapter and of the input, also under dropout") {
  for_each_case([](Layer& layer) {
    layer.randomise();
    for (const Training mode : {Training::frozen, Training::trained}) {
      Forward forward(layer, mode);
      CHECK(gradient_error(layer, forward, forward.x, layer.x.view()) < 1e-8);
      for (const Parameter& p : layer.store.all()) {
        if (p.training != Training::trained) continue;
        INFO(p.name);
        CHECK(gradient_error(layer, forward, forward.context.parameter(p), p.value) < 1e-8);
      }
    }
  });
}

TEST_CASE("r_hat is the authors' for the shapes of known models") {
  struct Row {
    int64_t in, out, r, rank, rotation;
  };
  for (const Row& row :
       {Row{4096, 4096, 8, 256, 256}, Row{4096, 4096, 128, 1024, 1024},
        Row{4096, 4096, 256, 1448, 1448}, Row{4096, 11008, 8, 348, 348},
        Row{11008, 4096, 8, 348, 348}, Row{4096, 11008, 256, 1966, 1966},
        Row{768, 768, 128, 443, 442}, Row{768, 2560, 128, 653, 652}, Row{2048, 2048, 128, 724, 724},
        Row{2048, 5461, 128, 980, 980}, Row{768, 768, 8, 111, 110}, Row{1, 1, 1, 1, 2}}) {
    INFO(row.in << " x " << row.out << " r " << row.r);
    for (const char* name : {"sharing", "decoupling", "truncation"})
      CHECK(mora_rank(row.in, row.out, row.r, name) == row.rank);
    CHECK(mora_rank(row.in, row.out, row.r, "rotation") == row.rotation);
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
