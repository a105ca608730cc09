// Tensors that begin between two vectors of 16 bytes, as trained parameters do in their block: the
// same numbers as elsewhere, from every operation.
#include <doctest/doctest.h>

#include "backend_under_test.hpp"
#include "op_harness.hpp"
#include "worse.hpp"

namespace mora::testing {
namespace {

// The inputs of a case, each one element behind the start of memory of its own.
class UnalignedInputs {
 public:
  UnalignedInputs(Graph& graph, const Inputs& aligned) {
    for (const Var& v : aligned.vars()) {
      const Type type = v.type();
      memory_.emplace_back(Type{type.dtype, {type.shape.elements() + 1}});
      auto* start = static_cast<std::byte*>(memory_.back().view().data);
      const Tensor view{start + size_of(type.dtype), type};
      assign(view, aligned.initial()[vars_.size()]);
      vars_.push_back(graph.bind(view, "unaligned"));
    }
  }
  std::span<const Var> vars() const { return vars_; }

 private:
  std::vector<OwnedTensor> memory_;
  std::vector<Var> vars_;
};

void check_unaligned(OpId id) {
  const auto device = backend_under_test();
  for (const OpCase& c : op_cases()) {
    if (c.op != id) continue;
    Graph elsewhere, graph;
    const Inputs aligned(elsewhere, c.in, DType::f32, name_of(c));
    const UnalignedInputs inputs(graph, aligned);
    const std::vector<Var> out = c.build(inputs.vars());
    Workspace workspace;
    Plan plan(graph, out, *device, workspace);
    run_over(plan, workspace, 0xff);
    const Arrays expected = c.reference(aligned.initial());
    double error = 0;
    for (size_t i = 0; i < expected.size(); ++i)
      error = worse(error, relative_error(numbers(plan[out[i]]), expected[i]));
    CHECK_MESSAGE(error <= c.f32_bound, name_of(c), ": relative error ", error);
  }
}

}  // namespace

TEST_SUITE_BEGIN("cuda unaligned");

#define MORA_OP(name)             \
  TEST_CASE("unaligned " #name) { \
    check_unaligned(OpId::name);  \
  }
#include "mora/ops/ops.def"
#undef MORA_OP

TEST_SUITE_END();

}  // namespace mora::testing
