// What merging and restarting promise: the same function before and after, updates whose ranks add
// up as the paper and its authors' code have it, resets that touch adapters only, and runs that do
// not depend on threads or interruptions.
#include "mora/train/restarts.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "backend_under_test.hpp"
#include "command.hpp"
#include "golden_training.hpp"
#include "mora/adapters/low_rank.hpp"
#include "mora/core/parallel.hpp"
#include "mora/plan/plan.hpp"
#include "mora/train/batch_tensors.hpp"
#include "mora/train/checkpoint.hpp"
#include "op_harness.hpp"
#include "tiny_training.hpp"

TEST_SUITE_BEGIN("restarts");

namespace mora::testing {
namespace {

// Random numbers of a size that changes the logits by much; magnitudes by a tenth.
void randomise(const ParameterStore& store, double scale) {
  for (const Parameter& p : store.all()) {
    if (!is_adapter_parameter(p)) continue;
    const OwnedTensor value({DType::f64, p.shape}), noise({DType::f64, p.shape});
    convert(p.value, value.view());
    fill_random(noise.view(), p.name, 1);
    const bool magnitude = p.name.ends_with("magnitude_vector");
    for (size_t i = 0; i < value.as<double>().size(); ++i) {
      double& v = value.as<double>()[i];
      v = magnitude ? v * (1 + 0.1 * noise.as<double>()[i]) : scale * noise.as<double>()[i];
    }
    convert(value.view(), p.value);
  }
}

struct Difference {
  double by_adapter, by_merge;  // largest of a logit
};

// Of 48 tokens, in the type that the model works in.
std::vector<double> logits(const LoadedModel& loaded) {
  constexpr int64_t kTokens = 48;
  BatchTensors batch(kTokens, loaded.store.working());
  for (int32_t i = 0; i < kTokens; ++i) {
    batch.tokens.as<int32_t>()[static_cast<size_t>(i)] = 3 + i * 37 % 500;
    batch.positions.as<int32_t>()[static_cast<size_t>(i)] = i;
  }
  Graph graph;
  Context context(graph);
  const Var h = loaded.model.hidden(
      context, graph.bind(batch.tokens.view(), "tokens"),
      graph.bind(batch.positions.view(), "positions"),
      loaded.model.packed_attention(graph.bind(batch.segment_start.view(), "segment_start")));
  const Var all = matmul(h, loaded.model.output_weight(context), {.tb = Transpose::yes});
  const auto backend = backend_under_test();
  Workspace workspace;
  Plan plan(graph, std::array{all}, *backend, workspace);
  plan.run();
  const OwnedTensor wide({DType::f64, all.shape()});
  convert(plan[all], wide.view());
  return {wide.as<double>().begin(), wide.as<double>().end()};
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

Difference merge_on_base(const AdapterConfig& config, DType working) {
  LoadedModel loaded(
      kBase, Training::frozen,
      [&](ParameterStore& store, Llama& model) {
        attach_adapters(config, store, model.linears());
        count_adapter_steps_apart(store);
      },
      0, working);
  initialise_adapters(loaded.store, 1, loaded.model.linears());
  const std::vector<double> base = logits(loaded);
  randomise(loaded.store, config.method == "mora" ? 0.01 : 0.04);
  const std::vector<double> before = logits(loaded);
  RestartConfig restart{.merge_steps = 1, .regroup = "none"};
  Restarts restarts(restart, config, 42, loaded.store, loaded.model.linears());
  CHECK(restarts.after_step(1, 10));
  return {largest_difference(base, before), largest_difference(before, logits(loaded))};
}

TEST_CASE("a merge leaves the logits of the shipped model as they are") {
  double single = 0, wide = 0;
  for (const AdapterKind& kind : adapter_kinds()) {
    INFO(kind.name);
    const Difference f32 = merge_on_base(kind.config, DType::f32);
    CHECK(f32.by_adapter > 0.1);
    CHECK(f32.by_merge < 1e-4);
    single = std::max(single, f32.by_merge);
    if (kind.config.lora_dropout > 0) continue;
    const Difference f64 = merge_on_base(kind.config, DType::f64);
    CHECK(f64.by_merge < 1e-12);
    wide = std::max(wide, f64.by_merge);
  }
  MESSAGE("largest difference of a logit: " << single << " in f32, " << wide << " in f64");
}

TEST_CASE("a merge into half precision rounds the sum once") {
  const AdapterConfig config = adapter_kind("lora").config;
  TinyLlama tiny(config, {.frozen_matrices = DType::bf16});
  const Linear& linear = *tiny.model.linears()[0];
  const OwnedTensor sum({DType::f32, linear.weight().shape}),
      rounded({DType::bf16, linear.weight().shape});
  merged_weight(linear, linear.weight().value, sum.view());
  convert(sum.view(), rounded.view());
  merge_into_weight(linear, DType::f32);
  CHECK(std::memcmp(rounded.view().data, linear.weight().value.data, rounded.view().bytes()) == 0);
}

// ---- Ranks.

struct OneLayer {
  AdapterConfig config;
  ParameterStore store{DType::f64, DType::f64};
  Linear linear;

  OneLayer(const AdapterConfig& c, int64_t in, int64_t out)
      : config(c),
        linear(Scope(store, "layer"), in, out, {Init::Kind::normal, 1}, Training::frozen) {
    linear.attach(make_adapter(config, Scope(store, "layer"), in, out));
    count_adapter_steps_apart(store);
    store.allocate();
    store.initialise(1);
    initialise_adapters(store, 1, std::array{&linear});
  }
};

// The rank of W - W0 after each of six merges of random updates.
std::vector<int64_t> ranks(const AdapterConfig& config, int64_t in, int64_t out,
                           const std::string& regroup) {
  OneLayer layer(config, in, out);
  const Tensor& weight = layer.linear.weight().value;
  const std::vector<double> start(weight.as<double>().begin(), weight.as<double>().end());
  Restarts restarts({.merge_steps = 1, .regroup = regroup}, layer.config, 3, layer.store,
                    {&layer.linear});
  std::vector<int64_t> found;
  for (int64_t k = 1; k <= 6; ++k) {
    for (const Parameter& p : layer.store.all()) {
      if (is_adapter_parameter(p)) fill_random(p.value, str(p.name, " ", k), 1);
    }
    CHECK(restarts.after_step(k, 100));
    const OwnedTensor change({DType::f64, weight.shape()});
    for (size_t i = 0; i < start.size(); ++i)
      change.as<double>()[i] = weight.as<double>()[i] - start[i];
    const std::vector<double> values = singular_values(change.view());
    found.push_back(std::ranges::count_if(values, [&](double v) { return v > 1e-9 * values[0]; }));
  }
  return found;
}

TEST_CASE("the ranks of merged updates add up as the groupings let them") {
  struct Size {
    int64_t in, out, r, rank, two;  // rank: of M; two: of the sum of two groupings
  };
  // In the last, the padding of the strided input lines up with the contiguous groups, which then
  // have one direction more in common.
  for (const Size& s : {Size{64, 64, 1, 11, 21}, Size{100, 60, 1, 13, 25}, Size{24, 20, 3, 11, 20},
                        Size{60, 100, 2, 18, 34}}) {
    INFO(s.in << " to " << s.out);
    AdapterConfig mora = adapter_kind("mora", "sharing").config, lora = adapter_kind("lora").config;
    mora.r = lora.r = s.r;
    const int64_t most = std::min(s.in, s.out);
    const auto growing = [&](int64_t each) {
      std::vector<int64_t> all;
      for (int64_t k = 1; k <= 6; ++k) all.push_back(std::min(k * each, most));
      return all;
    };
    CHECK(ranks(mora, s.in, s.out, "none") == std::vector<int64_t>(6, s.rank));
    const std::vector<int64_t> cycle = {s.rank, s.two, s.two, s.two, s.two, s.two};
    CHECK(ranks(mora, s.in, s.out, "two") == cycle);
    CHECK(ranks(mora, s.in, s.out, "four") == cycle);
    CHECK(ranks(mora, s.in, s.out, "random") == growing(s.rank));
    CHECK(ranks(lora, s.in, s.out, "none") == growing(s.r));
    mora.grouping = "random";
    CHECK(ranks(mora, s.in, s.out, "none") == std::vector<int64_t>(6, s.rank));
    CHECK(ranks(mora, s.in, s.out, "random") == growing(s.rank));
  }
}

// ---- When, and what begins anew.

std::vector<int64_t> merge_steps_of(const RestartConfig& config, int64_t total) {
  OneLayer layer(adapter_kind("mora", "sharing").config, 12, 8);
  Restarts restarts(config, layer.config, 3, layer.store, {&layer.linear});
  std::vector<int64_t> steps;
  for (int64_t step = 1; step <= total; ++step) {
    if (restarts.after_step(step, total)) steps.push_back(step);
    Restarts other(config, layer.config, 3, layer.store, {&layer.linear});
    other.resume_at(step, total);
    CHECK(other.merges() == restarts.merges());
    CHECK(other.clock(step) == restarts.clock(step));
    CHECK(other.adapter().grouping == restarts.adapter().grouping);
    CHECK(other.adapter().grouping_seed == restarts.adapter().grouping_seed);
  }
  return steps;
}

TEST_CASE("merges come at the end of cycles or a step later, and never at the very end") {
  using Steps = std::vector<int64_t>;
  RestartConfig config{.merge_steps = 4};
  CHECK(merge_steps_of(config, 13) == Steps{4, 8, 12});
  CHECK(merge_steps_of(config, 12) == Steps{4, 8});
  CHECK(merge_steps_of(config, 4).empty());
  config.regroup = "random";
  config.reset_steps = 3;
  CHECK(merge_steps_of(config, 10) == Steps{4, 8});
  config.merge_at = "after_first_step";
  CHECK(merge_steps_of(config, 13) == Steps{5, 9});
  CHECK(merge_steps_of(config, 14) == Steps{5, 9, 13});
  config.merge_steps = 1;
  CHECK(merge_steps_of(config, 5) == Steps{2, 3, 4});
}

TEST_CASE("groupings take turns from the one that a run begins with") {
  AdapterConfig start = adapter_kind("mora", "sharing").config;
  const auto turns = [&](const std::string& regroup) {
    std::string all;
    for (int64_t k = 0; k < 5; ++k) all += regrouped(start, regroup, 1, k).grouping + " ";
    return all;
  };
  CHECK(turns("none") == "strided strided strided strided strided ");
  CHECK(turns("two") == "strided contiguous strided contiguous strided ");
  CHECK(turns("four") == "strided contiguous contiguous_strided strided_contiguous strided ");
  CHECK(turns("random") == "strided random random random random ");
  CHECK(regrouped(start, "random", 1, 1).grouping_seed !=
        regrouped(start, "random", 1, 2).grouping_seed);
  start.grouping = "contiguous_strided";
  CHECK(turns("four") ==
        "contiguous_strided strided_contiguous strided contiguous contiguous_strided ");
  start.operation = "rotation";
  CHECK(turns("four").find("contiguous_strided contiguous_strided") == 0);
}

std::vector<double> numbers_of(const Tensor& t) {
  return {t.as<double>().begin(), t.as<double>().end()};
}

TEST_CASE("LoRA begins anew with another A, within its bound, and B = 0; DoRA with the new norms") {
  for (const bool dora : {false, true}) {
    AdapterConfig config = adapter_kind("lora").config;
    config.use_dora = dora;
    OneLayer layer(config, 30, 20);
    const auto value = [&](const char* name) {
      return numbers_of(find(layer.store, str("layer.", name)).value);
    };
    std::vector<std::vector<double>> drawn = {value("lora_A.weight")};
    Restarts restarts({.merge_steps = 2}, config, 1, layer.store, {&layer.linear});
    for (int64_t step = 1; step <= 6; ++step) {
      randomise(layer.store, 0.1);
      if (restarts.after_step(step, 100)) drawn.push_back(value("lora_A.weight"));
    }
    REQUIRE(drawn.size() == 4);
    for (const auto& a : drawn) {
      CHECK(std::ranges::max(a) <= 1 / std::sqrt(30.0));
      CHECK(std::ranges::min(a) >= -1 / std::sqrt(30.0));
      CHECK(std::ranges::count(drawn, a) == 1);
    }
    CHECK(std::ranges::count(value("lora_B.weight"), 0.0) == 40);
    if (!dora) continue;
    const std::vector<double> w = numbers_of(layer.linear.weight().value);
    for (size_t row = 0; row < 20; ++row) {
      double squares = 0;
      for (size_t j = 0; j < 30; ++j) squares += w[row * 30 + j] * w[row * 30 + j];
      CHECK(value("lora_magnitude_vector")[row] == doctest::Approx(std::sqrt(squares)));
    }
  }
}

constexpr TinyOptions kWide{.working = DType::f64, .frozen_matrices = DType::f64, .restarts = true};

TrainConfig jagged(int64_t cycle) {
  TrainConfig c = tiny_train_config(3, 2);
  c.learning_rate = 1e-3;
  c.lr_scheduler_type = "cosine_restarts";
  c.warmup_steps = 2;
  c.cycle_length = cycle;
  c.restart_warmup_steps = 1;
  return c;
}

TEST_CASE("a reset forgets the adapters' moments and nothing else") {
  const TinyExamples data(20);
  for (const char* reset : {"full", "random", "magnitude", "none"}) {
    INFO(reset);
    AdapterConfig adapter = adapter_kind("mora", "sharing").config;
    adapter.modules_to_save = {"norm", "lm_head"};
    TinyTraining run({.adapter = adapter,
                      .restart = {.merge_steps = 4, .optimizer_reset = reset, .pruning_ratio = 0.7},
                      .model = kWide},
                     data, jagged(4));
    const ParameterStore& store = run.tiny.store;
    run.steps(4);
    CHECK(run.restarts->merges() == 1);
    CHECK(run.restarts->clock(4) == (std::string(reset) == "full" ? 0 : 4));
    for (const Parameter& p : store.all()) {
      if (p.training != Training::trained) continue;
      INFO(p.name);
      for (const Tensor& block : {store.exp_avg(), store.exp_avg_sq()}) {
        const std::vector<double> moments = numbers_of(store.part_of(block, p));
        const double zeros = static_cast<double>(std::ranges::count(moments, 0.0)) /
                             static_cast<double>(moments.size());
        const std::string how = is_adapter_parameter(p) ? reset : "none";
        if (how == "full") CHECK(zeros == 1);
        if (how == "none") CHECK(zeros < 0.5);
        if (how == "magnitude") CHECK(zeros >= doctest::Approx(0.7).epsilon(0.03));
        if (how == "random") CHECK(zeros == doctest::Approx(0.7).epsilon(0.25));
        if (how == "random" || how == "magnitude") CHECK(zeros < 1);
      }
    }
  }
}

// After a full reset the first step is one of a fresh AdamW: of the size of the learning rate.
TEST_CASE("AdamW's count begins again with a full reset, so that no step is too large") {
  const TinyExamples data(20);
  for (const auto& bounded : {std::pair{"full", 1.001}, std::pair{"magnitude", 100.0}}) {
    const std::string reset = bounded.first;
    INFO(reset);
    AdapterConfig adapter = adapter_kind("mora", "sharing").config;
    TrainConfig config = tiny_train_config(20);
    config.lr_scheduler_type = "constant";
    config.warmup_steps = 0;
    config.weight_decay = 0;
    TinyTraining run(
        {.adapter = adapter,
         .restart = {.merge_steps = 6, .optimizer_reset = reset, .pruning_ratio = 0.999},
         .model = kWide},
        data, config);
    run.steps(7);
    double largest = 0;  // M was 0 before the seventh step
    for (const Parameter& p : run.tiny.store.all()) {
      if (!is_adapter_parameter(p)) continue;
      for (const double v : p.value.as<double>()) largest = std::max(largest, std::fabs(v));
    }
    CHECK(largest <= bounded.second * config.learning_rate);
    CHECK((largest > 1.2 * config.learning_rate) == (reset != "full"));
  }
}

// ---- Runs.

struct Kind {
  AdapterKind adapter;
  RestartConfig restart;
};

std::vector<Kind> restarting_kinds() {
  AdapterKind dora = adapter_kind("lora"), saved = adapter_kind("mora", "sharing");
  dora.config.use_dora = true;
  dora.config.lora_dropout = 0.2;
  saved.config.modules_to_save = {"embed_tokens", "norm"};
  const auto with = [](const std::string& reset, const std::string& regroup) {
    return RestartConfig{
        .merge_steps = 3, .optimizer_reset = reset, .pruning_ratio = 0.9, .regroup = regroup};
  };
  std::vector<Kind> all = {{adapter_kind("lora"), with("random", "none")},
                           {adapter_kind("lora"), with("magnitude", "none")},
                           {dora, with("full", "none")},
                           {saved, with("full", "two")},
                           {adapter_kind("mora", "sharing", "random"), with("full", "random")},
                           {adapter_kind("mora", "sharing", "random"), with("none", "none")},
                           {adapter_kind("mora", "rotation"), with("none", "none")}};
  all[0].restart.merge_at = all[4].restart.merge_at = "after_first_step";
  all[1].restart.reset_steps = 2;
  return all;
}

TrainingSetup setup_of(const Kind& kind) {
  return {.adapter = kind.adapter.config, .restart = kind.restart, .model = {.restarts = true}};
}

// Frozen weights too: merges change them.
std::vector<StateBytes> all_values(const TinyTraining& run) {
  std::vector<StateBytes> all = {run.state()};
  for (const Parameter& p : run.tiny.store.all()) {
    const auto* data = static_cast<const std::byte*>(p.value.data);
    all.emplace_back(data, data + p.value.bytes());
  }
  return all;
}

TrainedModel trained(const TinyTraining& run) {
  return {.model = run.tiny.config,
          .adapter = run.restarts->adapter(),
          .store = run.tiny.store,
          .base = {.name = "base", .sha256 = "", .merges = run.restarts->merges()},
          .tokenizer = {}};
}

TrainingState state_at(int64_t step) {
  TrainingState state;
  state.step = step;
  state.identity = {{{"seed", "5"}}, "0123"};
  return state;
}

TEST_CASE("restarting runs give the same bits for any number of threads") {
  const TinyExamples data(60);
  for (const Kind& kind : restarting_kinds()) {
    INFO(kind.adapter.name);
    std::vector<StateBytes> expected;
    for (const int threads : {1, 2, 3}) {
      const Threads guard(threads);
      TinyTraining run(setup_of(kind), data, jagged(3));
      run.steps(10);
      CHECK(run.restarts->merges() == 3);
      if (expected.empty()) expected = all_values(run);
      CHECK(all_values(run) == expected);
    }
  }
}

TEST_CASE("a restarting run goes on from a checkpoint at any step, merged base included") {
  const TinyExamples data(13);
  for (const Kind& kind : restarting_kinds()) {
    INFO(kind.adapter.name);
    TinyTraining whole(setup_of(kind), data, jagged(3));
    const std::vector<double> losses = whole.steps(12);
    const TemporaryFolder folder;
    TinyTraining first(setup_of(kind), data, jagged(3));
    for (int64_t step = 1; step < 12; ++step) {
      INFO("step " << step);
      first.steps(1);
      const auto saved = save_checkpoint(folder.path(), trained(first), state_at(step));
      CHECK(std::filesystem::exists(saved / "base") == (first.restarts->merges() > 0));
      if (step % 3 == 2 && step != 5) continue;
      TinyTraining second(setup_of(kind), data, jagged(3));
      load_checkpoint(saved, state_at(step).identity, trained(second), second.tiny.store);
      second.trainer.resume_at(step);
      CHECK(all_values(second) == all_values(first));
      CHECK(second.steps(static_cast<int>(12 - step)) ==
            std::vector<double>(losses.begin() + step, losses.end()));
      CHECK(all_values(second) == all_values(whole));
    }
  }
}

TEST_CASE("a checkpoint's merged base is checked like the rest") {
  const TinyExamples data(13);
  TinyTraining run(setup_of(restarting_kinds()[3]), data, jagged(3));
  run.steps(4);
  const TemporaryFolder folder;
  const auto saved = save_checkpoint(folder.path(), trained(run), state_at(4));
  const std::vector<StateBytes> before = all_values(run);
  const auto refused = [&] {
    message_of(ErrorKind::data,
               [&] { load_checkpoint(saved, state_at(4).identity, trained(run), run.tiny.store); });
    CHECK(all_values(run) == before);
  };
  for (const char* file : {"base/model.safetensors", "base/config.json"}) {
    const std::string good = mora::bytes_of(saved / file);
    std::ofstream(saved / file, std::ios::binary) << good.substr(0, good.size() - 1) << '!';
    refused();
    std::filesystem::remove(saved / file);
    refused();
    std::ofstream(saved / file, std::ios::binary) << good;
  }
  std::ofstream(saved / "base/more") << "?";
  refused();
  std::filesystem::remove(saved / "base/more");
  load_checkpoint(saved, state_at(4).identity, trained(run), run.tiny.store);
  const AdapterConfig adapter = read_adapter_config(saved);
  CHECK(adapter.grouping == "contiguous");
  CHECK(adapter.file.base_model == (saved / "base").string());
  CHECK(SafetensorsFile(saved / "adapter_model.safetensors").metadata().at("mora.merges") == "1");
  CHECK(may_belong_to(saved, SafetensorsFolder(saved / "base")));
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
