// A training step allocates nothing: every allocation of the process is counted while steps of the
// shipped configurations run.
//
// oneDNN itself allocates at every call of a primitive, and its interface leaves no way around it.
// With it, every allocation must be oneDNN's own and freed again before the step ends.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "apps/session.hpp"
#include "mora/core/parallel.hpp"
#include "mora/train/trainer.hpp"

#ifdef MORA_TEST_ONEDNN
#include <dlfcn.h>
#include <dnnl.h>
#endif

namespace {

std::atomic<int64_t> allocations{0}, frees{0}, in_onednn{0}, executions{0};
thread_local int onednn_depth = 0;

void count_allocation() {
  ++allocations;
  if (onednn_depth > 0) ++in_onednn;
}

}  // namespace

// The C library's own functions, behind counters.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

void* malloc(size_t size) noexcept {
  count_allocation();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) noexcept {
  count_allocation();
  return __libc_calloc(count, size);
}
void* realloc(void* p, size_t size) noexcept {
  count_allocation();
  if (p != nullptr) ++frees;
  return __libc_realloc(p, size);
}
void* memalign(size_t alignment, size_t size) noexcept {
  count_allocation();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) noexcept {
  return memalign(alignment, size);
}
int posix_memalign(void** p, size_t alignment, size_t size) noexcept {
  *p = memalign(alignment, size);
  return *p == nullptr ? ENOMEM : 0;
}
void free(void* p) noexcept {
  if (p != nullptr) ++frees;
  __libc_free(p);
}
}

#ifdef MORA_TEST_ONEDNN
extern "C" dnnl_status_t dnnl_primitive_execute(const_dnnl_primitive_t primitive,
                                                dnnl_stream_t stream, int count,
                                                const dnnl_exec_arg_t* arguments) {
  static const auto real = reinterpret_cast<decltype(&dnnl_primitive_execute)>(
      dlsym(RTLD_NEXT, "dnnl_primitive_execute"));
  ++executions;
  ++onednn_depth;
  const dnnl_status_t status = real(primitive, stream, count, arguments);
  --onednn_depth;
  return status;
}
#endif

namespace mora::testing {
namespace {

struct Counts {
  int64_t allocations, frees, in_onednn, executions;

  static Counts now() {
    return {::allocations.load(), ::frees.load(), ::in_onednn.load(), ::executions.load()};
  }
  Counts since(const Counts& start) const {
    return {allocations - start.allocations, frees - start.frees, in_onednn - start.in_onednn,
            executions - start.executions};
  }
  bool operator==(const Counts&) const = default;
};

constexpr int kWarmUp = 2, kSteps = 10;

// The counts of each of ten steps of a shipped configuration after two for warming up, or the first
// after a merge. 20 pairs in
// batches of 8: epochs end inside steps, and more than one of them within the ten.
std::vector<Counts> count_steps(const std::string& config_name, const std::string& provider,
                                std::vector<std::string> overrides) {
  RunConfig config;
  for (const char* common : {"data.pairs=20", "train.per_device_train_batch_size=8",
                             "train.max_steps=24", "engine.threads=2"})
    overrides.emplace_back(common);
  overrides.push_back("engine.matmul=" + provider);
  parse_config(std::filesystem::path(MORA_SOURCE_DIR) / "configs" / config_name, overrides, config);
  apps::Session session(config, Training::trained);
  const auto task = make_task(session.config, *session.tokenizer, TaskUse::training);
  std::optional<Restarts> restarts;
  if (session.config.restart.enabled()) {
    restarts.emplace(session.config.restart, session.config.adapter, 42, *session.store,
                     session.model->linears());
  }
  Trainer trainer(*session.model, *session.store, task->train_data(), session.config.train, 42,
                  *session.backend, session.workspace, restarts ? &*restarts : nullptr);
  const int64_t warm_up = restarts ? session.config.restart.merge_steps + 1 : kWarmUp;
  for (int64_t s = 0; s < warm_up; ++s) trainer.step();
  const double epoch = trainer.epoch();
  std::vector<Counts> counts;
  counts.reserve(kSteps);
  for (int s = 0; s < kSteps; ++s) {
    const Counts start = Counts::now();
    trainer.step();
    counts.push_back(Counts::now().since(start));
  }
  CHECK(trainer.epoch() >= epoch + 2);
  CHECK((!restarts || restarts->merges() == 1));
  return counts;
}

struct Setting {
  const char* config;
  std::vector<std::string> overrides;
};

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"uuid_mora.json", {}},
      {"uuid_mora.json", {"adapter.operator=rotation"}},
      {"uuid_mora.json", {"adapter.lora_dropout=0.05", "train.gradient_accumulation_steps=2"}},
      {"uuid_mora.json", {"model.dtype=bfloat16"}},
      {"uuid_mora.json", {"restart={\"merge_steps\": 12, \"regroup\": \"random\"}"}},
      {"uuid_lora.json", {}},
      {"uuid_lora.json", {"adapter.lora_dropout=0.05", "train.gradient_accumulation_steps=2"}},
      {"uuid_lora.json", {"adapter={\"method\": \"full\"}"}}};
  return all;
}

std::string text_of(const Setting& setting) {
  std::string text = setting.config;
  for (const std::string& o : setting.overrides) text += " " + o;
  return text;
}

TEST_SUITE("no_malloc") {
  TEST_CASE("allocations are seen") {
    const Counts start = Counts::now();
    delete new std::string(100, 'x');
    void* volatile p = std::aligned_alloc(64, 128);
    std::free(p);
    const Counts made = Counts::now().since(start);
    CHECK(made.allocations >= 3);
    CHECK(made.frees == made.allocations);
    CHECK(made.in_onednn == 0);
  }

  TEST_CASE("ten steps allocate nothing, whatever the method") {
    for (const char* provider : {"auto", "eigen"}) {
      std::vector<Setting> all = settings();
      // In bf16 oneDNN multiplies where there is no AMX.
      if (multiplier_of_bf16() != "oneDNN") all.push_back({"uuid_mora.json", {"dtype=bf16"}});
      for (const Setting& setting : all) {
        INFO(text_of(setting), ", ", provider);
        for (const Counts& step : count_steps(setting.config, provider, setting.overrides))
          CHECK(step == Counts{0, 0, 0, 0});
      }
    }
  }

#ifdef MORA_TEST_ONEDNN
  TEST_CASE("with oneDNN every allocation is oneDNN's own, bounded, and freed in the same step") {
    constexpr int64_t kPerExecution = 8;
    for (const Setting& setting : settings()) {
      INFO(text_of(setting));
      const std::vector<Counts> counts = count_steps(setting.config, "onednn", setting.overrides);
      for (const Counts& step : counts) {
        CHECK(step.executions > 0);
        CHECK(step.allocations == step.in_onednn);
        CHECK(step.allocations == step.frees);
        CHECK(step.allocations <= kPerExecution * step.executions);
        CHECK(step == counts[0]);
      }
    }
  }
#endif
}

}  // namespace
}  // namespace mora::testing
