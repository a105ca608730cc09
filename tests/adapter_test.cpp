// Every adapter over many shapes: what it adds to a layer, how large it is, that merging it is
// exact, and its gradients. The expected change of the weight is written out by index, apart from
// the library's operators.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "mora/adapters/low_rank.hpp"
#include "mora/autograd/grad.hpp"
#include "mora/plan/plan.hpp"
#include "tiny_llama.hpp"
#include "worse.hpp"

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
    error = worse(error, std::fabs(a[i] - b[i]));
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
    initialise_adapters(store, 1, std::array{&linear});
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

  // Feature p[j] of a side stands at place j, with its sign, and place j is in group j mod R.
  Numbers random(int64_t seed) {
    const auto order = [&](const std::string& side, int64_t n) {
      return permutation(Random(static_cast<uint64_t>(seed), Purpose::grouping, stream_of(side)),
                         n);
    };
    const auto sign = [&](const std::string& side, int64_t j) {
      const Random signs(static_cast<uint64_t>(seed), Purpose::grouping,
                         stream_of(side + ".signs"));
      return signs.bits(static_cast<uint64_t>(j)) % 2 == 0 ? 1.0 : -1.0;
    };
    const std::string in = "layer.in", out = "layer.out";
    const auto inputs = order(in, s_.in), outputs = order(out, s_.out);
    for (int64_t i = 0; i < s_.out; ++i) {
      for (int64_t j = 0; j < s_.in; ++j)
        w(outputs[static_cast<size_t>(i)], inputs[static_cast<size_t>(j)]) =
            sign(out, i) * sign(in, j) * m(i % rank_, j % rank_);
    }
    return w_;
  }

  // Block b of the input is turned by `turn` times the angles b theta_k, then multiplied by M. It
  // goes to the block of outputs of its number; under "all" also to those it comes to going round.
  Numbers blocks(double turn, bool all) {
    const int64_t n = (s_.in + rank_ - 1) / rank_, h = rank_ / 2,
                  round = all ? std::min(n, (s_.out + rank_ - 1) / rank_) : n;
    for (int64_t o = 0; o < s_.out; ++o) {
      const int64_t i = o % (n * rank_) % rank_;
      for (int64_t b = o % (n * rank_) / rank_; b < n; b += round)
        for (int64_t c = 0; c < rank_; ++c) {
          double factor = m(i, c);
          if (turn != 0) {
            const double theta = std::pow(10000.0, -2.0 * static_cast<double>(c % h) /
                                                       static_cast<double>(rank_)),
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

  // Rows of W + s B A brought to the length m, minus W.
  Numbers dora(const Numbers& base, const Numbers& b, const Numbers& magnitude, double scale) {
    lora(b, scale);
    for (int64_t o = 0; o < s_.out; ++o) {
      double norm2 = 0;
      const auto at = [&](int64_t j) { return static_cast<size_t>(o * s_.in + j); };
      for (int64_t j = 0; j < s_.in; ++j) norm2 += std::pow(base[at(j)] + w(o, j), 2);
      const double g = magnitude[static_cast<size_t>(o)] / std::sqrt(norm2);
      for (int64_t j = 0; j < s_.in; ++j) w(o, j) = g * (base[at(j)] + w(o, j)) - base[at(j)];
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

double expected_scale(const AdapterConfig& c) {
  if (c.method == "mora") return c.scale;
  const auto r = static_cast<double>(c.r);
  return c.lora_alpha / (c.use_rslora ? std::sqrt(r) : r);
}

Numbers expected_mora(const Layer& layer) {
  const AdapterConfig& c = layer.config;
  Dense dense(layer, expected_rank(c, layer.shape));
  if (c.operation == "rotation") return dense.blocks(1, c.cover == "all");
  if (c.operation == "decoupling") return dense.blocks(0, false);
  if (c.operation == "truncation") return dense.truncation();
  if (c.grouping == "random") return dense.random(c.grouping_seed);
  return dense.sharing(c.grouping == "strided" || c.grouping == "strided_contiguous",
                       c.grouping == "strided" || c.grouping == "contiguous_strided");
}

Numbers expected_delta(const Layer& layer) {
  const AdapterConfig& c = layer.config;
  const double scale = expected_scale(c);
  if (c.method == "mora") {
    Numbers delta = expected_mora(layer);
    for (double& d : delta) d *= scale;
    return delta;
  }
  Dense dense(layer, 0);
  const Numbers b = numbers_of(layer.parameter("lora_B.weight").value);
  if (!c.use_dora) return dense.lora(b, scale);
  return dense.dora(numbers_of(layer.linear.weight().value), b,
                    numbers_of(layer.parameter("lora_magnitude_vector").value), scale);
}

template <class Body>
void for_each_case(const Body& body) {
  for (const AdapterKind& kind : adapter_kinds()) {
    for (const LayerShape& shape : kShapes) {
      if (kind.config.init_lora_weights == "asymmetric" && shape.r > shape.in) continue;
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
    int64_t expected = layer.config.method == "lora" ? s.r * (s.in + s.out) : rank * rank;
    if (layer.config.use_dora) expected += s.out;
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
      const Var input = graph.bind(x.view(), "x"),
                weight = context.parameter(layer.linear.weight()),
                product = matmul(input, weight, {.tb = Transpose::yes});
      return run(graph, layer.linear.adapter()->delta(context, {input, weight, product}));
    };
    Numbers sum = delta_of(2, 0);
    const Numbers other = delta_of(0, -3);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
    CHECK(difference(delta_of(2, -3), sum) < 1e-12);
  });
}

// DoRA takes the norms for constants. Here: keeps what it divides by as it is now, whatever A and B
// become, by magnitudes that grow as the norms do.
class HeldNorms {
 public:
  explicit HeldNorms(const Layer& layer) : layer_(layer) {
    if (layer.config.use_dora) {
      magnitude_ = numbers_of(layer.parameter("lora_magnitude_vector").value);
      norms_ = now();
    }
  }
  void apply() const {
    if (!layer_.config.use_dora) return;
    const Numbers norms = now();
    for (size_t o = 0; o < norms.size(); ++o) memory()[o] = magnitude_[o] * norms[o] / norms_[o];
  }
  void undo() const {
    if (layer_.config.use_dora) std::ranges::copy(magnitude_, memory().begin());
  }

 private:
  std::span<double> memory() const {
    return layer_.parameter("lora_magnitude_vector").value.as<double>();
  }
  Numbers now() const {
    const Numbers w = numbers_of(layer_.linear.weight().value),
                  update =
                      Dense(layer_, 0).lora(numbers_of(layer_.parameter("lora_B.weight").value),
                                            expected_scale(layer_.config));
    Numbers norms(static_cast<size_t>(layer_.shape.out));
    for (size_t i = 0; i < w.size(); ++i)
      norms[i / static_cast<size_t>(layer_.shape.in)] += std::pow(w[i] + update[i], 2);
    for (double& n : norms) n = std::sqrt(n);
    return norms;
  }

  const Layer& layer_;
  Numbers magnitude_, norms_;
};

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
  const bool of_factors =
      memory.data == layer.parameter("lora_A.weight").value.data ||
      (layer.config.method == "lora" && memory.data == layer.parameter("lora_B.weight").value.data);
  const HeldNorms held(layer);
  for (const double side : {1.0, -1.0}) {
    for (size_t i = 0; i < start.size(); ++i)
      memory.as<double>()[i] = start[i] + side * kStep * v.as<double>()[i];
    if (of_factors) held.apply();
    const Numbers y = run(forward.graph, forward.y);
    if (of_factors) held.undo();
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

TEST_CASE("cover \"all\" gives every input an update, cover \"used\" leaves blocks without any") {
  for (const LayerShape& shape : {LayerShape{172, 64, 8}, {43, 10, 1}, {24, 10, 3}, {64, 5, 4}}) {
    AdapterConfig config = adapter_kind("mora", "rotation").config;
    for (const char* cover : {"used", "all"}) {
      config.cover = cover;
      Layer layer(config, shape);
      layer.randomise();
      const Numbers delta = layer.delta_weights();
      int64_t without = 0;
      for (int64_t j = 0; j < shape.in; ++j) {
        double sum = 0;
        for (int64_t o = 0; o < shape.out; ++o)
          sum += std::fabs(delta[static_cast<size_t>(o * shape.in + j)]);
        without += sum == 0;
      }
      const int64_t rank = mora_rank(shape.in, shape.out, shape.r, "rotation"),
                    reached = (shape.out + rank - 1) / rank * rank;
      CHECK(without == (config.cover == "all" ? 0 : std::max<int64_t>(0, shape.in - reached)));
      const OwnedTensor matrix({DType::f64, {shape.out, shape.in}});
      std::ranges::copy(delta, matrix.as<double>().begin());
      const std::vector<double> values = singular_values(matrix.view());
      CHECK(values.size() == static_cast<size_t>(std::min(shape.in, shape.out)));
      CHECK(values.back() > 1e-6 * values.front());  // the rank is min(in, out)
    }
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
