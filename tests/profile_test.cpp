// Where the time goes: what a profile counts, and the option that prints it.
#include "mora/report/profile.hpp"

#include <doctest/doctest.h>

#include <array>

#include "command.hpp"
#include "io/json.hpp"
#include "mora/autograd/grad.hpp"
#include "mora/io/file.hpp"
#include "op_harness.hpp"

TEST_SUITE_BEGIN("profile");

namespace mora::testing {
namespace {

TEST_CASE("floating-point operations and bytes are those of the formulas") {
  Graph graph;
  // Two segments, of 3 and 2 tokens: 6 + 3 pairs that see each other.
  const std::vector<CaseInput> in = {
      {{5, 8}, normal()},
      {{12, 8}, normal()},
      {{5, 8}, normal()},
      {{5}, values({0, 0, 0, 3, 3}), Storage::i32},
      {{5}, below(12), Storage::i32},
      {{5}, values(Array(5, 1.0))},
  };
  const Inputs inputs(graph, in, DType::f32, "profile");
  const auto v = inputs.vars();
  Var y, loss;
  {
    const auto scope = graph.scope("model.layers.7.self_attn");
    const auto inner = graph.scope("q_proj");
    y = matmul(v[0], v[2], {.ta = Transpose::no, .tb = Transpose::yes});
  }
  const Var attended = attention(v[0], v[0], v[2], v[3], {2, 2, 0.5}).y;
  loss = linear_cross_entropy(attended, v[1], v[4], v[5]).loss;
  const auto d = grad(std::array{y}, std::array{y}, std::array{v[0]});
  const auto backend = make_cpu_backend();
  Workspace workspace;
  Plan plan(graph, std::array{y, loss, d[0]}, *backend, workspace);
  Profile profile;
  for (int run = 0; run < 3; ++run) plan.trace([&](const StepRun& step) { profile.add(step); });

  const auto& ops = profile.by_op();
  CHECK_FALSE(ops.contains("matmul (again)"));
  CHECK(ops.at("matmul").runs == 3);
  CHECK(ops.at("matmul").flops == 3 * 2.0 * 5 * 8 * 5);
  CHECK(ops.at("matmul").bytes == 3 * 4.0 * (5 * 8 + 5 * 8 + 5 * 5));
  CHECK(ops.at("matmul (grad)").flops == 3 * 2.0 * 5 * 5 * 8);
  CHECK(ops.at("attention").flops == 3 * 2.0 * 2 * 9 * 8);
  CHECK(ops.at("linear_cross_entropy").flops == 3 * 2.0 * 5 * 8 * 12);  // nobody reads gradients
  for (const auto& [name, cost] : ops) CHECK(cost.seconds >= 0);
  const auto& modules = profile.by_module();
  CHECK(modules.at("model.layers.*.self_attn.q_proj").runs == 6);
  CHECK(modules.at("(step)").runs == 6);
  CHECK(profile.tables().find("| model.layers.*.self_attn.q_proj |") != std::string::npos);
  const Json json = parse_json(profile.to_json_text(), "a profile");
  CHECK(json.at("ops").at("matmul").at("flops") == 3 * 2.0 * 5 * 8 * 5);
  CHECK(json.at("modules").at("(step)").at("runs") == 6);
}

TEST_CASE("--profile prints and keeps tables, and changes no bit of the result") {
  const TemporaryFolder folder;
  folder.file("config.json", uuid_config(R"({"method": "mora"})"));
  const Finished plain =
      train(folder.path(), {"--config", "config.json", "--set", "output_dir=plain"});
  REQUIRE_MESSAGE(plain.code == 0, plain.err);
  const Finished profiled = train(folder.path(), {"--config", "config.json", "--profile"});
  REQUIRE_MESSAGE(profiled.code == 0, profiled.err);
  CHECK(profiled.err.find("| operation ") != std::string::npos);
  CHECK(profiled.err.find("| module ") != std::string::npos);
  const Json profile = parse_json(mora::bytes_of(folder / "run/profile.json"), "profile.json");
  CHECK(profile.at("ops").at("adamw").at("runs") == 5);  // not the first step
  CHECK_FALSE(std::filesystem::exists(folder / "plain/profile.json"));
  CHECK(mora::bytes_of(folder / "run/adapter/adapter_model.safetensors") ==
        mora::bytes_of(folder / "plain/adapter/adapter_model.safetensors"));
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
