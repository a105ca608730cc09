// RMSNorm whose result is stored in bf16, as layers want it while the residual stream is f32.
#include <doctest/doctest.h>

#include <array>

#include "backend_under_test.hpp"
#include "mora/autograd/grad.hpp"
#include "op_harness.hpp"
#include "op_reference.hpp"

TEST_SUITE_BEGIN("norm");

namespace mora::testing {
namespace {

void check_narrow_norm(int64_t width) {
  const std::vector<CaseInput> in = {
      {{37, width}, normal()}, {{width}, normal()}, {{37, width}, normal()}};
  const std::vector<DType> stored = {DType::f32, DType::f32, DType::bf16};
  Graph graph;
  const Inputs inputs(graph, in, stored, "norm");
  const auto v = inputs.vars();
  const auto [y, rstd] = rms_norm(v[0], v[1], 0.1, DType::bf16);
  CHECK(y.type().dtype == DType::bf16);
  CHECK(rstd.type().dtype == DType::f32);
  std::vector<Var> out = {y};
  for (const Var& d : grad(std::array{y}, std::array{v[2]}, std::array{v[0], v[1]}))
    out.push_back(d);
  const auto backend = backend_under_test();
  Workspace workspace;
  Plan plan(graph, out, *backend, workspace);
  plan.run();
  const Arrays& x = inputs.initial();
  CHECK(relative_error(numbers(plan[out[0]]), reference::rms_norm(x[0], x[1], 0.1)[0]) < 5e-3);
  const Arrays gradients = reference::rms_norm_grad(x[0], x[1], x[2], 0.1);
  for (const size_t i : {0, 1})
    CHECK(relative_error(numbers(plan[out[i + 1]]), gradients[i]) < 4e-6);  // in f32 throughout
}

TEST_CASE("RMSNorm of f32 into bf16, and its gradient") {
  for (const int64_t width : {173, 176}) check_narrow_norm(width);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
