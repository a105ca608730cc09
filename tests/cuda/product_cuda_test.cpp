// What the table of cases is too small or too well aligned for: products whose B is converted in
// several panels, operands that start at any element, and a library that refuses.
#include <doctest/doctest.h>

#include <cstdlib>

#include "backend_under_test.hpp"
#include "op_harness.hpp"

namespace mora::testing {
namespace {

constexpr double kBf16Bound = 1e-2;

// A matrix that starts one element behind where memory is aligned.
class Shifted {
 public:
  Shifted(DType dtype, const Shape& shape, uint64_t seed)
      : memory_({dtype, {shape.elements() + 1}}) {
    const Random random(seed, Purpose::test);
    Array values;
    for (int64_t i = 0; i < shape.elements(); ++i)
      values.push_back(random.normal(static_cast<uint64_t>(i)));
    view_ = {static_cast<std::byte*>(memory_.view().data) + size_of(dtype), {dtype, shape}};
    assign(view_, values);
  }
  Var bind(Graph& graph, const char* name) const { return graph.bind(view_, name); }
  Array stored() const { return numbers(view_); }

 private:
  OwnedTensor memory_;
  Tensor view_;
};

Array result_of(const Graph& graph, Var y, const Backend& backend) {
  Workspace workspace;
  Plan plan(graph, std::vector{y}, backend, workspace);
  Array first;
  for (const int before : {0xff, 0, 0xff}) {  // walked, captured, replayed
    run_over(plan, workspace, before);
    const Array got = numbers(plan[y]);
    if (!first.empty()) CHECK(got == first);
    first = got;
  }
  return first;
}

TEST_CASE("a B in another type is converted in several panels") {
  constexpr reference::MatmulSize kSize{2, 4200, 4100};  // more than 2^24 elements of B
  const auto backend = backend_under_test();
  for (const auto tb : {Transpose::no, Transpose::yes}) {
    for (const auto& [a_type, b_type, bound] :
         {std::tuple{DType::f32, DType::bf16, 4e-6}, {DType::bf16, DType::f32, kBf16Bound}}) {
      const Shape b_shape =
          tb == Transpose::yes ? Shape{kSize.n, kSize.k} : Shape{kSize.k, kSize.n};
      const Shifted a(a_type, {kSize.m, kSize.k}, 1), b(b_type, b_shape, 2),
          c(a_type, {kSize.m, kSize.n}, 3);
      Graph graph;
      const Var y = matmul(a.bind(graph, "a"), b.bind(graph, "b"),
                           {.tb = tb, .alpha = 0.5, .c = c.bind(graph, "c")});
      const Array expected =
          reference::matmul(a.stored(), b.stored(), c.stored(), kSize, {.tb = tb, .alpha = 0.5});
      CHECK(relative_error(result_of(graph, y, *backend), expected) <= bound);
    }
  }
}

TEST_CASE("operands may start at any element") {
  const auto backend = backend_under_test();
  for (const auto& [m, k, second_k, n] :
       {std::array<int64_t, 4>{16, 32, 8, 64}, {13, 7, 5, 9}, {70, 100, 40, 136}}) {
    for (const auto& [dtype, bound] :
         {std::pair{DType::f32, 4e-6}, {DType::f64, 1e-12}, {DType::bf16, kBf16Bound}}) {
      const Shifted a(dtype, {m, k}, 1), b(dtype, {k, n}, 2), thin_a(dtype, {m, second_k}, 3),
          thin_b(dtype, {second_k, n}, 4), c(dtype, {m, n}, 5);
      const Array first = reference::matmul(a.stored(), b.stored(), c.stored(), {m, k, n}, {});
      Graph graph;
      const Var va = a.bind(graph, "a"), vb = b.bind(graph, "b"), vc = c.bind(graph, "c");
      CHECK(relative_error(result_of(graph, matmul(va, vb, {.c = vc}), *backend), first) <= bound);
      const Var sum = matmul_sum({va, vb}, {thin_a.bind(graph, "ta"), thin_b.bind(graph, "tb")},
                                 {.second = {.alpha = 2}}, vc);
      const Array both = reference::matmul(thin_a.stored(), thin_b.stored(), first,
                                           {m, second_k, n}, {.alpha = 2});
      CHECK(relative_error(result_of(graph, sum, *backend), both) <= bound);
    }
  }
}

#ifdef MORA_EMULATED_CUDA
TEST_CASE("a product that the library refuses fails the run, and no later one") {
  const auto backend = backend_under_test();
  const Shifted a(DType::f32, {3, 4}, 1), b(DType::f32, {4, 5}, 2);
  Graph graph;
  const Var y = matmul(a.bind(graph, "a"), b.bind(graph, "b"));
  const Array expected = reference::matmul(a.stored(), b.stored(), {}, {3, 4, 5}, {});
  for (const int before : {0, 1}) {  // the run that fails walks, or is recorded
    Workspace workspace;
    Plan plan(graph, std::vector{y}, *backend, workspace);
    for (int i = 0; i < before; ++i) plan.run();
    ::setenv("MORA_EMULATED_CUDA", "products=0", 1);
    CHECK_THROWS_WITH_AS(plan.run(), "cuBLASLt, starting a product: not supported", Error);
    ::unsetenv("MORA_EMULATED_CUDA");
    run_over(plan, workspace, 0xff);
    CHECK(relative_error(numbers(plan[y]), expected) <= 4e-6);
  }
}
#endif

}  // namespace
}  // namespace mora::testing
