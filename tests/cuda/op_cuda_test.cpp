// Every case of the table of operations on the CUDA backend: values against the double reference in
// f32, f64 and bf16, gradients in random directions, the same bits in every run, in place, replayed
// from a graph, in any order of threads and whatever memory held before.
#include <doctest/doctest.h>

#include "backend_under_test.hpp"
#include "bf16_cases.hpp"
#include "directional_check.hpp"
#include "thread_orders.hpp"
#include "worse.hpp"

namespace mora::testing {
namespace {

// Run three times, walked, captured and replayed, over other memory and with the threads in another
// order.
void check_values(const OpCase& c, std::span<const DType> stored, double bound,
                  const Backend& backend) {
  Graph graph;
  const Inputs inputs(graph, c.in, stored, name_of(c));
  const std::vector<Var> out = c.build(inputs.vars());
  Workspace workspace;
  Plan plan(graph, out, backend, workspace);
  std::vector<Bytes> first;
  for (const int before : {0xff, 0, 0xff}) {
    inputs.reset();
    run_in_another_order([&] { run_over(plan, workspace, before); });
    const std::vector<Bytes> bits = bytes_of(plan, out);
    CHECK_MESSAGE((first.empty() || bits == first), name_of(c), ", first ", name_of(stored[0]),
                  ": other bits in another run");
    first = bits;
  }
  const Arrays expected = c.reference(inputs.initial());
  REQUIRE(expected.size() <= out.size());
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i)
    error = worse(error, relative_error(numbers(plan[out[i]]), expected[i]));
  CHECK_MESSAGE(error <= bound, name_of(c), ", first ", name_of(stored[0]), ": relative error ",
                error, " > ", bound);
}

void check_in_place(const OpCase& c, DType working, const Backend& backend) {
  const int inplace = op(c.op).inplace;
  if (inplace < 0 || static_cast<size_t>(inplace) >= c.in.size()) return;
  std::vector<Bytes> apart;
  for (const Reuse memory : {Reuse::no, Reuse::yes}) {
    Graph graph;
    const Inputs inputs(graph, c.in, working, name_of(c));
    OwnedTensor one(Type{working, {1}});
    assign(one.view(), {1.0});
    std::vector<Var> in(inputs.vars().begin(), inputs.vars().end());
    Var& taken = in[static_cast<size_t>(inplace)];
    taken = scale_by(taken, graph.bind(one.view(), "one"));
    const std::vector<Var> out = c.build(in);
    Workspace workspace;
    Plan plan(graph, out, backend, workspace, {.memory = memory, .fusion = Reuse::no});
    run_over(plan, workspace, 0xff);
    if (memory == Reuse::no) {
      apart = bytes_of(plan, out);
    } else {
      CHECK_MESSAGE(bytes_of(plan, out) == apart, name_of(c), ": wrong in place");
    }
  }
}

void check_op(OpId id) {
  const auto device = backend_under_test();
  for (const OpCase& c : op_cases()) {
    if (c.op != id) continue;
    const std::vector<DType> f32(c.in.size(), DType::f32), f64(c.in.size(), DType::f64);
    check_values(c, f32, c.f32_bound, *device);
    check_in_place(c, DType::f32, *device);
    if (c.working == WorkingTypes::f32_and_f64) check_values(c, f64, 1e-12, *device);
    for (const std::vector<DType>& narrow : bf16_types(c))
      check_values(c, narrow, kBf16Bound, *device);
    if (c.wrt.empty()) continue;
    DirectionalCheck check(c);
    for (size_t w = 0; w < c.wrt.size(); ++w) {
      const double error = check.error(w, *device);
      CHECK_MESSAGE(error < 1e-6, name_of(c), ", gradient of input ", c.wrt[w], ": relative error ",
                    error);
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("cuda op");

#define MORA_OP(name)     \
  TEST_CASE(#name) {      \
    check_op(OpId::name); \
  }
#include "mora/ops/ops.def"
#undef MORA_OP

TEST_SUITE_END();

}  // namespace mora::testing
