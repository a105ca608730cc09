// Every case of the table: values against the double reference, gradients in random directions, the
// same bits for any number of threads and any previous contents of memory, updates in place, and
// messages for wrong shapes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "directional_check.hpp"
#include "mora/autograd/grad.hpp"
#include "op_harness.hpp"

using namespace mora;
using namespace mora::testing;

namespace {

std::vector<MatmulProvider> providers(OpId id) {
  if (id != OpId::matmul && id != OpId::matmul_sum && id != OpId::matmul_block_product &&
      id != OpId::linear_cross_entropy)
    return {MatmulProvider::automatic};
  if (!has_onednn()) return {MatmulProvider::automatic, MatmulProvider::eigen};
  return {MatmulProvider::automatic, MatmulProvider::onednn, MatmulProvider::eigen};
}

std::vector<DType> working_types(const OpCase& c) {
  if (c.working == WorkingTypes::f32) return {DType::f32};
  return {DType::f32, DType::f64};
}

void check_values(const OpCase& c, DType working) {
  Graph graph;
  const Inputs inputs(graph, c.in, working, name_of(c));
  const std::vector<Var> out = c.build(inputs.vars());
  const Arrays expected = c.reference(inputs.initial());
  REQUIRE(expected.size() <= out.size());
  const double bound = working == DType::f64 ? 1e-12 : c.f32_bound;
  for (const MatmulProvider provider : providers(c.op)) {
    inputs.reset();
    const auto backend = make_cpu_backend(provider);
    Workspace workspace;
    Plan plan(graph, out, *backend, workspace);
    run_over(plan, workspace, 0xff);
    const std::vector<Bytes> over_nan = bytes_of(plan, out);
    for (size_t i = 0; i < expected.size(); ++i) {
      const double error = relative_error(numbers(plan[out[i]]), expected[i]);
      CHECK_MESSAGE(error <= bound, name_of(c), ", ", name_of(working), ", provider ",
                    static_cast<int>(provider), ", output ", i, ": relative error ", error, " > ",
                    bound);
    }
    inputs.reset();
    run_over(plan, workspace, 0);
    CHECK_MESSAGE(bytes_of(plan, out) == over_nan, name_of(c),
                  ": depends on what memory held before");
  }
}

// The bits of a case's outputs with a plan made and run by `threads` threads.
std::vector<Bytes> bits(const OpCase& c, DType working, MatmulProvider provider, int threads) {
  const Threads guard(threads);
  Graph graph;
  const Inputs inputs(graph, c.in, working, name_of(c));
  const std::vector<Var> out = c.build(inputs.vars());
  const auto backend = make_cpu_backend(provider);
  Workspace workspace;
  Plan plan(graph, out, *backend, workspace);
  run_over(plan, workspace, 0xff);
  return bytes_of(plan, out);
}

// The same graph with the input that may be overwritten made by a node (times one, exactly), so
// that a plan may reuse its memory.
struct InPlaceRun {
  std::vector<Bytes> bits;
  size_t blocks;
};

InPlaceRun run_in_place(const OpCase& c, DType working, Reuse memory) {
  Graph graph;
  const Inputs inputs(graph, c.in, working, name_of(c));
  OwnedTensor one(Type{working, {1}});
  assign(one.view(), {1.0});
  std::vector<Var> in(inputs.vars().begin(), inputs.vars().end());
  Var& taken = in[static_cast<size_t>(op(c.op).inplace)];
  taken = scale_by(taken, graph.bind(one.view(), "one"));
  const std::vector<Var> out = c.build(in);
  const auto backend = make_cpu_backend();
  Workspace workspace;
  Plan plan(graph, out, *backend, workspace, {.memory = memory, .fusion = Reuse::no});
  run_over(plan, workspace, 0xff);
  return {bytes_of(plan, out), plan.placements().size()};
}

}  // namespace

TEST_SUITE("op") {
  TEST_CASE("values agree with the double reference") {
    for (const OpCase& c : op_cases()) {
      for (const DType working : working_types(c)) check_values(c, working);
    }
  }

  TEST_CASE("gradients agree with central differences in random directions") {
    const auto backend = make_cpu_backend();
    for (const OpCase& c : op_cases()) {
      if (c.wrt.empty()) continue;
      DirectionalCheck check(c);
      for (size_t w = 0; w < c.wrt.size(); ++w) {
        const double error = check.error(w, *backend);
        CHECK_MESSAGE(error < 1e-6, name_of(c), ", input ", c.wrt[w], ": relative error ", error);
      }
    }
  }

  TEST_CASE("the same bits at 1, 2, 3 and 4 threads") {
    for (const OpCase& c : op_cases()) {
      for (const DType working : working_types(c)) {
        for (const MatmulProvider provider : providers(c.op)) {
          const std::vector<Bytes> alone = bits(c, working, provider, 1);
          for (const int threads : {2, 3, 4}) {
            CHECK_MESSAGE(bits(c, working, provider, threads) == alone, name_of(c), ", ",
                          name_of(working), ", provider ", static_cast<int>(provider),
                          ": other bits at ", threads, " threads");
          }
        }
      }
    }
  }

  TEST_CASE("an output over its input has the same bits as one apart") {
    size_t taken = 0;
    for (const OpCase& c : op_cases()) {
      const int inplace = op(c.op).inplace;
      if (inplace < 0 || static_cast<size_t>(inplace) >= c.in.size()) continue;
      for (const DType working : working_types(c)) {
        const InPlaceRun apart = run_in_place(c, working, Reuse::no),
                         over = run_in_place(c, working, Reuse::yes);
        CHECK_MESSAGE(over.blocks == apart.blocks - 1, name_of(c),
                      ": the planner did not reuse the input");
        CHECK_MESSAGE(over.bits == apart.bits, name_of(c), ": wrong in place");
        ++taken;
      }
    }
    CHECK(taken > 0);
  }

  TEST_CASE("wrong shapes are refused with the op's name and what it was given") {
    for (const WrongCall& c : wrong_calls()) {
      Graph graph;
      const Inputs inputs(graph, c.in, DType::f32, name_of(c));
      const auto scope = graph.scope("layer");
      std::string message;
      try {
        c.build(inputs.vars());
      } catch (const Error& e) {
        message = e.what();
        CHECK(e.kind() == ErrorKind::internal);
      }
      INFO(name_of(c), ": \"", message, "\"");
      CHECK(message.find(str("layer: ", op(c.op).name, ": ")) == 0);
      CHECK(message.find_first_of("0123456789") != std::string::npos);
    }
  }

  TEST_CASE("a product with a 16-bit weight has the gradient of its widened copy") {
    for (const Storage storage : {Storage::bf16, Storage::f16}) {
      Graph graph;
      const std::vector<CaseInput> in = {
          {{9, 13}, normal()}, {{7, 13}, normal(), storage}, {{9, 7}, normal()}};
      const Inputs inputs(graph, in, DType::f32, "16-bit weight");
      const auto v = inputs.vars();
      const Var wide = cast(v[1], DType::f32);
      std::vector<Var> gradients;
      for (const Var& w : {v[1], wide}) {
        const Var y = matmul(v[0], w, {.tb = Transpose::yes, .alpha = 0.5});
        gradients.push_back(grad(std::array{y}, std::array{v[2]}, std::array{v[0]})[0]);
      }
      const auto backend = make_cpu_backend();
      Workspace workspace;
      Plan plan(graph, gradients, *backend, workspace);
      plan.run();
      CHECK(bytes_of(plan[gradients[0]]) == bytes_of(plan[gradients[1]]));
    }
  }

  TEST_CASE("dropout keeps the right share, and every key gives another mask") {
    struct Key {
      DropoutMaskAttrs attrs;
      Array step;
    };
    const int64_t n = 100000;
    const DropoutMaskAttrs base{.elements = n, .p = 0.3, .seed = 5, .stream = 1};
    const std::vector<Key> keys = {
        {base, {0, 0}},           {base, {1, 0}},
        {base, {0, 1}},           {{n, 0.3, 6, 1}, {0, 0}},
        {{n, 0.3, 5, 2}, {0, 0}}, {{n, 0.3, 5 + (uint64_t{1} << 32), 1}, {0, 0}}};
    std::vector<Bytes> masks;
    for (const Key& key : keys) {
      Graph graph;
      const std::vector<CaseInput> in = {{{n}, values(Array(static_cast<size_t>(n), 1.0))},
                                         {{2}, values(key.step), Storage::i32}};
      const Inputs inputs(graph, in, DType::f64, "dropout");
      const Var mask = dropout_mask(inputs.vars()[1], key.attrs);
      const std::vector<Var> y = {dropout(inputs.vars()[0], mask, {.p = key.attrs.p})};
      const auto backend = make_cpu_backend();
      Workspace workspace;
      Plan plan(graph, y, *backend, workspace);
      plan.run();
      const Array kept = numbers(plan[y[0]]);
      const auto zeros = std::ranges::count(kept, 0.0);
      CHECK(std::ranges::count(kept, 1 / 0.7) + zeros == n);
      CHECK(static_cast<double>(zeros) / static_cast<double>(n) ==
            doctest::Approx(0.3).epsilon(0.02));
      masks.push_back(bytes_of(plan[y[0]]));
    }
    for (size_t i = 0; i < masks.size(); ++i) {
      for (size_t j = i + 1; j < masks.size(); ++j) CHECK(masks[i] != masks[j]);
    }
  }
}
