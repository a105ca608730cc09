// What a plan promises: the results of running node by node, in memory that is shared only by
// values that never live together, without the nodes that nobody needs.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "mora/autograd/grad.hpp"
#include "random_graph.hpp"
#include "worse.hpp"

using namespace mora;
using namespace mora::testing;

namespace {

constexpr uint64_t kGraphs =
    400;  // run on one thread: they are small, and threads are no concern of a plan

bool overlap(const Placement& a, const Placement& b) {
  const bool alive = a.first <= b.last && b.first <= a.last;
  return alive && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

size_t value_blocks(const Plan& plan) {
  return static_cast<size_t>(
      std::ranges::count_if(plan.placements(), [](const Placement& p) { return p.value >= 0; }));
}

// Largest difference relative to the largest magnitude; 0 where the expected numbers are not
// finite.
double difference(const Array& got, const Array& expected) {
  double worst = 0, scale = 1e-300;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(expected[i])) return 0;
    worst = worse(worst, std::abs(got[i] - expected[i]));
    scale = std::max(scale, std::abs(expected[i]));
  }
  return worst / scale;
}

// Leaves with memory, for graphs written by hand.
struct Bench {
  Graph graph;
  std::vector<std::unique_ptr<Inputs>> memory;
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Workspace workspace;

  Var leaf(const Shape& shape) {
    const std::vector<CaseInput> in = {{shape, normal()}};
    memory.push_back(std::make_unique<Inputs>(graph, in, DType::f32, str("leaf ", memory.size())));
    return memory.back()->vars()[0];
  }
  void reset() const {
    for (const auto& m : memory) m->reset();
  }
  Plan plan(std::span<const Var> outputs, const PlanOptions& options = {}) {
    return Plan(graph, outputs, *backend, workspace, options);
  }
};

}  // namespace

TEST_SUITE("plan") {
  TEST_CASE("random graphs: live buffers never overlap") {
    for (uint64_t seed = 0; seed < kGraphs; ++seed) {
      const RandomGraph random(seed, DType::f32);
      const auto backend = make_cpu_backend();
      Workspace workspace;
      for (const Reuse fusion : {Reuse::yes, Reuse::no}) {
        const Plan plan(random.graph, random.outputs, *backend, workspace,
                        {.memory = Reuse::yes, .fusion = fusion});
        const auto placements = plan.placements();
        for (size_t i = 0; i < placements.size(); ++i) {
          CHECK(placements[i].offset + placements[i].bytes <= plan.bytes());
          CHECK(placements[i].offset % 64 == 0);
          CHECK(placements[i].first <= placements[i].last);
          for (size_t j = i + 1; j < placements.size(); ++j) {
            CHECK_MESSAGE(!overlap(placements[i], placements[j]), "graph ", seed, ": blocks ", i,
                          " and ", j);
          }
        }
      }
    }
  }

  TEST_CASE("random graphs: sharing memory changes no bit") {
    const Threads guard(1);
    for (uint64_t seed = 0; seed < kGraphs; ++seed) {
      const RandomGraph random(seed, seed % 8 == 0 ? DType::f32 : DType::f64);
      const auto backend = make_cpu_backend();
      for (const Reuse fusion : {Reuse::yes, Reuse::no}) {
        std::vector<std::vector<Bytes>> results;
        for (const Reuse memory : {Reuse::yes, Reuse::no}) {
          random.reset();
          Workspace workspace;
          Plan plan(random.graph, random.outputs, *backend, workspace,
                    {.memory = memory, .fusion = fusion});
          run_over(plan, workspace, 0xff);
          results.push_back(bytes_of(plan, random.outputs));
          const std::vector<Bytes> leaves = random.leaf_bytes();
          results.back().insert(results.back().end(), leaves.begin(), leaves.end());
        }
        CHECK_MESSAGE(results[0] == results[1], "graph ", seed);
      }
    }
  }

  TEST_CASE(
      "random graphs: a plan computes what running node by node does, but for the rounding of "
      "fused sums") {
    const Threads guard(1);
    size_t fused = 0;
    for (uint64_t seed = 0; seed < kGraphs; ++seed) {
      const RandomGraph random(seed, DType::f64);
      const auto backend = make_cpu_backend();
      const Interpreter expected(random.graph, *backend);
      std::vector<Var> checked = random.outputs;
      checked.insert(checked.end(), random.leaves().begin(), random.leaves().end());
      Arrays numbers_expected;
      for (const Var& v : checked) numbers_expected.push_back(numbers(expected[v]));
      size_t steps = 0;
      for (const Reuse fusion : {Reuse::no, Reuse::yes}) {
        random.reset();
        Workspace workspace;
        Plan plan(random.graph, random.outputs, *backend, workspace,
                  {.memory = Reuse::yes, .fusion = fusion});
        run_over(plan, workspace, 0xff);
        for (size_t i = 0; i < checked.size(); ++i) {
          const double error = difference(numbers(plan[checked[i]]), numbers_expected[i]);
          CHECK_MESSAGE(error < 1e-10, "graph ", seed, ", value ", checked[i].id, ": ", error);
        }
        if (fusion == Reuse::no) steps = plan.steps();
        if (fusion == Reuse::yes) fused += steps - plan.steps();
      }
    }
    CHECK(fused > kGraphs);
  }

  TEST_CASE("dead nodes are dropped, updates are not") {
    Bench b;
    const Var x = b.leaf({8, 8}), target = b.leaf({8, 8});
    const Var y = swiglu(x, x);
    swiglu(add(y, y), y);
    CHECK(b.plan(std::array{y}).steps() == 1);
    CHECK(b.plan(std::array{x}).steps() == 0);
    accumulate(target, y);
    CHECK(b.plan({}).steps() == 2);
  }

  TEST_CASE("gradients of frozen inputs are never computed") {
    Bench b;
    const Var x = b.leaf({8, 6}), w1 = b.leaf({6, 5}), w2 = b.leaf({5, 7}), seed = b.leaf({8, 7});
    const Var y = matmul(matmul(x, w1), w2);
    auto steps = [&](const std::vector<Var>& wrt) {
      std::vector<Var> outputs = grad(std::array{y}, std::array{seed}, wrt);
      outputs.push_back(y);
      return b.plan(outputs).steps();
    };
    CHECK(steps({w2}) == 2 + 1);      // dw2
    CHECK(steps({w1}) == 2 + 2);      // dh, dw1
    CHECK(steps({x}) == 2 + 2);       // dh, dx
    CHECK(steps({w1, w2}) == 2 + 3);  // dw2, dh, dw1
    CHECK(steps({x, w1, w2}) == 2 + 4);
  }

  TEST_CASE("an output that nobody reads is not computed and has no memory") {
    Bench b;
    const Var x = b.leaf({8, 6}), w = b.leaf({6});
    const auto [y, rstd] = rms_norm(x, w, 1e-5);
    const Plan plan = b.plan(std::array{y});
    CHECK(value_blocks(plan) == 1);
    CHECK_THROWS_AS(plan[rstd], Error);
  }

  TEST_CASE("a product accumulated into bound memory is written straight into it") {
    Bench b;
    const Var x = b.leaf({50, 8}), dy = b.leaf({50, 6}), target = b.leaf({8, 6});
    accumulate(target, matmul(x, dy, {.ta = Transpose::yes, .alpha = 0.5}));
    Plan apart = b.plan({}, {.fusion = Reuse::no});
    apart.run();
    const Array expected = numbers(apart[target]);
    b.reset();
    Plan fused = b.plan({});
    CHECK(fused.steps() == 1);
    CHECK(value_blocks(fused) == 0);
    fused.run();
    CHECK(difference(numbers(fused[target]), expected) < 1e-6);
    fused.run();  // once more on top
    CHECK(difference(numbers(fused[target]), expected) > 0.1);
  }

  TEST_CASE("updates written at the end of a graph keep no activations alive") {
    Bench b;
    const Var x = b.leaf({256, 32}), seed = b.leaf({256, 32});
    std::vector<Var> weights;
    Var h = x;
    for (int i = 0; i < 12; ++i) {
      weights.push_back(b.leaf({32, 32}));
      h = matmul(h, weights.back());
    }
    for (const Var& g : grad(std::array{h}, std::array{seed}, weights))
      accumulate(b.leaf(g.shape()), g);
    const Plan fused = b.plan({}), apart = b.plan({}, {.fusion = Reuse::no});
    CHECK(fused.steps() == apart.steps() - weights.size());
    CHECK(fused.bytes() <= apart.bytes());
  }

  TEST_CASE("products that are added become one step, also with a third addend, once read only") {
    Bench b;
    const Var x = b.leaf({5, 7}), w = b.leaf({9, 7}), inside = b.leaf({5, 2}), up = b.leaf({9, 2}),
              c = b.leaf({5, 9});
    const Var layer = matmul(x, w, {.tb = Transpose::yes}),
              update = matmul(inside, up, {.tb = Transpose::yes, .alpha = 2});
    const Var sum = add(layer, update), all = add(c, sum);
    Plan apart = b.plan(std::array{all}, {.fusion = Reuse::no});
    apart.run();
    const Array expected = numbers(apart[all]);
    Plan fused = b.plan(std::array{all});
    CHECK(apart.steps() == 4);
    CHECK(fused.steps() == 1);
    fused.run();
    CHECK(difference(numbers(fused[all]), expected) < 1e-6);
    CHECK(b.plan(std::array{all, layer}).steps() ==
          3);  // the layer's product stays, and the sums are two
  }

  TEST_CASE("a rotation and the product that it is added to become one step, in either order") {
    for (const bool product_first : {true, false}) {
      INFO(product_first);
      Bench b;
      const Var x = b.leaf({50, 70}), w = b.leaf({90, 70}), m = b.leaf({16, 16}),
                table = b.leaf({5, 16}), c = b.leaf({50, 90}), seed = b.leaf({50, 90});
      const Var layer = matmul(x, w, {.tb = Transpose::yes}),
                update = block_product({x, m, table}, {.size = 90, .alpha = 2});
      const Var all = add(c, product_first ? add(layer, update) : add(update, layer));
      const std::vector<Var> d = grad(std::array{all}, std::array{seed}, std::array{x, m});
      const std::array outputs{all, d[0], d[1]};
      Plan apart = b.plan(outputs, {.fusion = Reuse::no});
      apart.run();
      std::vector<Array> expected;
      for (const Var v : outputs) expected.push_back(numbers(apart[v]));
      Plan fused = b.plan(outputs);
      CHECK(apart.steps() == 8);  // 2 products, 2 rotations, their sums, c's, and the gradient of M
      CHECK(fused.steps() == 3);
      fused.run();
      for (size_t i = 0; i < outputs.size(); ++i)
        CHECK(difference(numbers(fused[outputs[i]]), expected[i]) < 1e-6);
    }
  }

  TEST_CASE("fusion does not move a product past an update of what it reads") {
    Bench b;
    const Var x = b.leaf({4, 4}), w = b.leaf({4, 4}), c = b.leaf({4, 4});
    const Var p = matmul(x, w);
    accumulate(w, c);
    const Var y = add(p, c);
    const Interpreter expected(b.graph, *b.backend);
    const Array before = numbers(expected[y]);
    b.reset();
    Plan plan = b.plan(std::array{y});
    plan.run();
    CHECK(difference(numbers(plan[y]), before) < 1e-6);
  }

  TEST_CASE("fusion does not move an update past a reader of its target") {
    Bench b;
    const Var x = b.leaf({4, 4}), w = b.leaf({4, 4}), target = b.leaf({4, 4});
    const Var p = matmul(x, w);
    const Var before = swiglu(target, x);
    accumulate(target, p);
    const Var after = swiglu(target, x);
    const Interpreter expected(b.graph, *b.backend);
    const Array first = numbers(expected[before]), second = numbers(expected[after]);
    b.reset();
    Plan plan = b.plan(std::array{before, after});
    plan.run();
    CHECK(difference(numbers(plan[before]), first) < 1e-6);
    CHECK(difference(numbers(plan[after]), second) < 1e-6);
  }

  TEST_CASE("an addition to a reshaped product keeps the product's own extents") {
    Bench b;
    const Var x = b.leaf({4, 5}), w = b.leaf({5, 6}), c = b.leaf({3, 8});
    const Var y = add(c, reshape(matmul(x, w), {3, 8}));
    const Interpreter expected(b.graph, *b.backend);
    Plan plan = b.plan(std::array{y});
    CHECK(plan.steps() == 1);
    plan.run();
    CHECK(plan[y].shape() == Shape{3, 8});
    CHECK(difference(numbers(plan[y]), numbers(expected[y])) < 1e-6);
  }

  TEST_CASE("reuse makes a deep chain as small as one link") {
    Bench b;
    const Var x = b.leaf({64, 64}), factor = b.leaf({1});
    Var y = scale_by(x, factor);
    for (int i = 0; i < 30; ++i) y = scale_by(y, factor);
    const size_t one = 64 * 64 * sizeof(float);
    CHECK(b.plan(std::array{y}).bytes() == one);
    CHECK(b.plan(std::array{y}, {.memory = Reuse::no}).bytes() == 31 * one);
    Var z = x;
    for (int i = 0; i < 30; ++i)
      z = rms_norm(z, b.leaf({64}), 1e-5).y;  // not in place: two take turns
    CHECK(b.plan(std::array{z}).bytes() == 2 * one);
  }

  TEST_CASE("plans share a workspace, also when a later one makes it grow") {
    Bench b;
    const Var x = b.leaf({16, 16}), large = b.leaf({256, 256});
    const std::array<Var, 1> y = {swiglu(x, x)}, z = {swiglu(large, large)};
    Plan small = b.plan(y);
    small.run();
    const std::vector<Bytes> small_before = bytes_of(small, y);
    const size_t bytes_before = b.workspace.bytes();
    Plan big = b.plan(z);
    CHECK(b.workspace.bytes() > bytes_before);
    big.run();
    const std::vector<Bytes> big_before = bytes_of(big, z);
    for (int i = 0; i < 2; ++i) {
      run_over(small, b.workspace, 0xff);
      CHECK(bytes_of(small, y) == small_before);
      run_over(big, b.workspace, 0xff);
      CHECK(bytes_of(big, z) == big_before);
    }
  }

  TEST_CASE("outputs may be leaves and reshapes; other values are refused") {
    Bench b;
    const Var x = b.leaf({4, 6}), y = swiglu(x, x), z = scale_by(y, b.leaf({1}));
    const std::array<Var, 3> outputs = {x, reshape(x, {24}), reshape(z, {2, 12})};
    Plan plan = b.plan(outputs);
    plan.run();
    CHECK(plan[x].data == b.memory[0]->memory(0).data);
    CHECK(plan[outputs[1]].data == plan[x].data);
    CHECK(plan[outputs[1]].shape() == Shape{24});
    CHECK(plan[outputs[2]].shape() == Shape{2, 12});
    CHECK(plan[z].data == plan[outputs[2]].data);
    const Plan other = b.plan(std::array{y});
    CHECK_THROWS_AS(other[z], Error);
  }

  TEST_CASE("the first non-finite value is named by its scope and op") {
    Bench b;
    const Var x = b.leaf({4, 4});
    const auto scope = b.graph.scope("model.layers.3");
    const Var y = swiglu(x, x);
    Plan plan = b.plan(std::array{rms_norm(y, b.leaf({4}), 1e-5).y});
    CHECK(first_non_finite(plan) == "");
    x.graph->value(x.id).bound.as<float>()[5] = INFINITY;
    CHECK(first_non_finite(plan) == "model.layers.3: swiglu");
    CHECK(plan.report().find("2 steps") == 0);
  }

  TEST_CASE("a non-finite value in bf16 is named where it is made") {
    Bench b;
    const OwnedTensor large({DType::bf16, {4, 4}});
    assign(large.view(), Array(16, 3e38));
    const Var x = b.graph.bind(large.view(), "x");
    const auto scope = b.graph.scope("model.layers.3");
    Plan plan = b.plan(std::array{swiglu(x, x)});
    CHECK(first_non_finite(plan) == "model.layers.3: swiglu");
  }
}
