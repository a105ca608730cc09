#include "apps/train_run.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <future>
#include <optional>

#include "apps/run_folder.hpp"
#include "apps/session.hpp"
#include "apps/stop_signals.hpp"
#include "mora/adapters/adapters.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/file.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/io/safetensors_folder.hpp"
#include "mora/report/memory.hpp"
#include "mora/report/metrics.hpp"
#include "mora/report/profile.hpp"
#include "mora/train/resume.hpp"
#include "mora/train/run_identity.hpp"
#include "mora/train/trainer.hpp"

namespace mora::apps {

namespace fs = std::filesystem;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Everything that can be wrong with configuration, model, data and memory is found before the
// output folder is touched.
class Run {
 public:
  Run(const RunConfig& config, Existing existing, Profiling profiling, StopSignals& signals)
      : signals_(signals),
        start_(std::chrono::steady_clock::now()),
        session_(config, Training::trained),
        task_(make_checked_task()),
        restarts_(make_restarts()),
        trainer_(make_trainer()),
        folder_(config.output_dir, existing),
        identity_(identity_of(config, session_.model->config(), task_->train_data())) {
    if (profiling == Profiling::yes) profile_.emplace();
  }

  int execute();

 private:
  const RunConfig& config() const { return session_.config; }
  TrainedModel trained() const {
    return {.model = session_.model->config(),
            .adapter = restarts_ ? restarts_->adapter() : session_.config.adapter,
            .store = *session_.store,
            .base = {.name = base_folder().string(),
                     .sha256 = "",
                     .sample = base_sample_,
                     .merges = restarts_ ? restarts_->merges() : 0},
            .tokenizer = session_.tokenizer_path};
  }
  bool from_scratch() const { return config().model.path.empty(); }
  fs::path base_folder() const {
    return from_scratch() ? folder_.path() / kInitial : config().model.path;
  }
  DType weights_type() const {
    return config().model.dtype == "bfloat16" ? DType::bf16 : DType::f32;
  }
  // Whether the run leaves a whole model: trained in full, or with its adapters merged into it.
  bool whole() const { return config().adapter.method == "full" || restarts_ != nullptr; }
  TrainedModel to_save() const;
  std::unique_ptr<Restarts> make_restarts();
  std::unique_ptr<Task> make_checked_task() const;
  Trainer make_trainer();
  void save_initial_model() const;
  void hash_base();
  TrainingState state() const;
  void resume();
  void train();
  void banner() const;
  void log_step(const StepMetrics& m);
  void tell_merge();
  void evaluate(int64_t step);
  bool save_due(int64_t step, int64_t total) const;
  void save(int64_t step);
  void keep_for_evaluation();
  void discard_kept();
  int stopped();
  void save_result();
  std::string operation() const;
  void finish();
  void save_profile() const;

  StopSignals& signals_;
  fs::path kept_;  // a checkpoint for the last evaluation alone; empty: none
  std::chrono::steady_clock::time_point start_;
  Session session_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<Restarts> restarts_;  // null: none
  Trainer trainer_;
  MemoryPlan memory_;
  RunFolder folder_;
  RunIdentity identity_;
  std::string base_sample_;                    // tensors_sample_sha256 of base_folder()
  std::shared_future<std::string> base_hash_;  // none where nothing is adapted
  std::optional<MetricsLog> log_;
  std::optional<Profile> profile_;
  ProgressLine progress_;
  StepMetrics last_;
  Scores scores_;
  LogWindow window_;
  double train_seconds_ = 0, earlier_seconds_ = 0;  // earlier: before this start
  int64_t tokens_ = 0, saved_step_ = 0;
};

std::unique_ptr<Task> Run::make_checked_task() const {
  auto task = make_task(config(), *session_.tokenizer, TaskUse::training);
  const ExampleSource& data = task->train_data();
  if (data.size() == 0) fail(ErrorKind::data, "the training data hold no example");
  check_lengths(data, 0, session_.model->longest(), "training");
  task->check_positions(session_.model->longest(), config().eval);
  return task;
}

std::unique_ptr<Restarts> Run::make_restarts() {
  if (!config().restart.enabled()) return nullptr;
  return std::make_unique<Restarts>(config().restart, config().adapter,
                                    static_cast<uint64_t>(config().seed), *session_.store,
                                    session_.model->linears());
}

// What does not fit is said with all that is held.
Trainer Run::make_trainer() {
  Session& s = session_;
  try {
    return {*s.model,
            *s.store,
            task_->train_data(),
            config().train,
            static_cast<uint64_t>(config().seed),
            *s.backend,
            s.workspace,
            restarts_.get()};
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::memory) throw;
    const MemoryPlan plan = plan_memory(*s.store, s.workspace.wanted(), *s.backend);
    fail(ErrorKind::memory, e.what(), "\n", plan.text());
  }
}

void Run::banner() const {
  const int64_t trained = session_.store->count(Training::trained);
  const int64_t all = trained + session_.store->count(Training::frozen);
  const TrainConfig& t = config().train;
  std::fputs(task_->data_report().c_str(), stderr);
  if (t.in_bf16() && !session_.backend->multiplies_bf16()) {
    std::fputs(
        "note: nothing here multiplies bf16 (AMX does, or oneDNN by AVX512_BF16): products are "
        "made in "
        "fp32, over storage in bf16\n",
        stderr);
  }
  std::fprintf(stderr, "trainable params: %lld || all params: %lld || trainable%%: %.4f\n",
               static_cast<long long>(trained), static_cast<long long>(all),
               100.0 * static_cast<double>(trained) / static_cast<double>(all));
  std::fprintf(stderr,
               "%lld examples, %lld steps of %lld x %lld, up to %lld tokens a micro-batch (%.1f %% "
               "filled), %d threads, on %s\n",
               static_cast<long long>(task_->train_data().size()),
               static_cast<long long>(trainer_.total_steps()),
               static_cast<long long>(t.per_device_train_batch_size),
               static_cast<long long>(t.gradient_accumulation_steps),
               static_cast<long long>(trainer_.capacity()), 100 * trainer_.fill(), thread_count(),
               session_.backend->name().c_str());
  std::fputs(memory_.text().c_str(), stderr);
}

void Run::log_step(const StepMetrics& m) {
  const auto steps = static_cast<double>(window_.steps);
  const double rate = static_cast<double>(window_.tokens) / std::max(window_.seconds, 1e-9);
  Record record = {{"step", m.step},
                   {"epoch", trainer_.epoch()},
                   {"loss", window_.loss / steps},
                   {"grad_norm", m.grad_norm},
                   {"learning_rate", m.learning_rate},
                   {"tokens", tokens_},
                   {"tokens_per_second", rate},
                   {"seconds", train_seconds_}};
  if (restarts_) record.emplace_back("merges", restarts_->merges());
  log_->write(record);
  const double left = train_seconds_ / static_cast<double>(m.step) *
                      static_cast<double>(trainer_.total_steps() - m.step);
  char text[256];
  std::snprintf(
      text, sizeof text,
      "step %lld/%lld  epoch %.2f  loss %.4f  grad_norm %.3f  lr %.2e  %.0f tok/s  ETA %s",
      static_cast<long long>(m.step), static_cast<long long>(trainer_.total_steps()),
      trainer_.epoch(), window_.loss / steps, m.grad_norm, m.learning_rate, rate,
      duration(left).c_str());
  progress_.show(text);
  window_ = {};
}

void Run::evaluate(int64_t step) {
  if (!task_->can_score()) return;
  scores_ = task_->score(session_.scored(), config().eval);
  Record record = {{"step", step}, {"samples", scores_.samples}};
  std::string text = str("step ", step, "  evaluation of ", scores_.samples, " samples:");
  for (const Score& s : scores_.values) {
    record.emplace_back(s.name, s.value);
    text += str("  ", s.name, " ", s.value);
  }
  log_->write(record);
  progress_.end();
  std::fprintf(stderr, "%s\n", text.c_str());
}

bool Run::save_due(int64_t step, int64_t total) const {
  const TrainConfig& t = config().train;
  const bool periodic = t.save_steps > 0 && step % t.save_steps == 0;
  return periodic || std::ranges::find(t.save_at, step) != t.save_at.end() ||
         (t.save_steps > 0 && step == total);
}

void Run::save_initial_model() const {
  if (!from_scratch() || last_.step > 0 || fs::exists(base_folder())) return;
  FolderCommit commit(folder_.path(), kInitial);
  save_model(commit.path(), session_.model->config(), *session_.store, weights_type());
  copy_tokenizer(session_.tokenizer_path, commit.path());
  commit.commit();
}

// Beside the first steps: the weights of a large model take seconds. One thread, which is enough
// before the first save and leaves the others to the steps.
void Run::hash_base() {
  if (config().adapter.method == "full") return;
  base_sample_ = tensors_sample_sha256(SafetensorsFolder(base_folder()));
  base_hash_ = std::async(std::launch::async, [folder = base_folder()] {
    set_thread_count(1);  // of this thread's own parallel regions
    return tensors_sha256(SafetensorsFolder(folder));
  });
}

// Waits for the base's hash, which goes into an adapter's files.
TrainedModel Run::to_save() const {
  TrainedModel model = trained();
  if (base_hash_.valid()) model.base.sha256 = base_hash_.get();
  return model;
}

TrainingState Run::state() const {
  return {.step = last_.step,
          .tokens = tokens_,
          .loss = last_.loss,
          .seconds = train_seconds_,
          .window = window_,
          .metrics_bytes = log_->sync(),
          .identity = identity_};
}

// Goes on after the newest checkpoint, if there is one.
void Run::resume() {
  const auto warn = [](const std::string& damage) {
    std::fprintf(stderr, "warning: %s\n", damage.c_str());
  };
  const auto found =
      load_newest_checkpoint(folder_.checkpoints(), identity_, trained(), *session_.store, warn);
  if (folder_.finished()) {
    if (!found) check_finished_run(folder_.path() / kRunConfig, config());
    return;
  }
  log_.emplace(folder_.path() / "metrics.jsonl", found ? found->metrics_bytes : 0);
  if (!found) return;
  saved_step_ = found->step;
  earlier_seconds_ = found->seconds;
  trainer_.resume_at(found->step);
  last_.step = found->step;
  last_.loss = found->loss;
  tokens_ = found->tokens;
  train_seconds_ = found->seconds;
  window_ = found->window;
  std::fprintf(stderr, "going on after step %lld\n", static_cast<long long>(found->step));
}

void Run::save(int64_t step) {
  const fs::path saved = save_checkpoint(folder_.checkpoints(), to_save(), state());
  saved_step_ = step;
  progress_.end();
  std::fprintf(stderr, "committed %s\n", saved.c_str());
  try {
    prune_checkpoints(folder_.checkpoints(), config().train.save_total_limit);
  } catch (const Error& e) {  // of old ones: no reason to end a run
    std::fprintf(stderr, "warning: an older checkpoint stays: %s\n", e.what());
  }
}

// The last evaluation may take long, fail or be ended: all training would be lost with it. What is
// kept for it alone leaves with discard_kept().
void Run::keep_for_evaluation() {
  if (!task_->can_score()) return;
  if (last_.step > saved_step_) {
    try {
      save_checkpoint(folder_.checkpoints(), to_save(), state());
      saved_step_ = last_.step;
    } catch (const Error& e) {  // a full disk may still have room for the result
      std::fprintf(stderr, "warning: no checkpoint before the last evaluation: %s\n", e.what());
      return;
    }
  }
  if (!save_due(last_.step, last_.step)) kept_ = list_checkpoints(folder_.checkpoints()).back();
  signals_.immediate();  // the checkpoint is there
}

void Run::discard_kept() {
  if (!kept_.empty()) remove_folder(kept_);
}

void Run::save_result() {
  const char* name = whole() ? "model" : "adapter";
  if (fs::exists(folder_.path() / name)) remove_folder(folder_.path() / name);  // of a killed run
  FolderCommit commit(folder_.path(), name);
  if (restarts_) restarts_->merge_all();
  if (whole()) {
    save_whole(commit.path(), trained(), weights_type());
  } else {
    save_trained(commit.path(), to_save(), weights_type(), MoraScale::folded);
  }
  commit.commit();
}

// What the adapter computes, in a few words.
std::string Run::operation() const {
  const AdapterConfig& a = config().adapter;
  if (a.method == "lora" && a.use_dora) return "dora";
  if (a.method != "mora") return "-";
  if (a.operation != "sharing") return a.operation;
  const std::string& regroup = config().restart.regroup;
  const bool changes = restarts_ && regroup != "none";
  return str(a.operation, " ", a.grouping, changes ? str(", regroup ", regroup) : "");
}

void Run::finish() {
  save_result();
  const AdapterConfig& a = config().adapter;
  const bool full = a.method == "full";
  Record summary = {{"task", config().task},
                    {"method", restarts_ ? "re" + a.method : a.method},
                    {"operator", operation()},
                    {"rank", full ? MetricValue(std::string("-")) : MetricValue(a.r)},
                    {"trainable_parameters", session_.store->count(Training::trained)},
                    {"steps", trainer_.finished_steps()},
                    {"loss", last_.loss},
                    {"samples", scores_.samples}};
  if (restarts_) summary.emplace_back("merges", restarts_->merges());
  for (const Score& s : scores_.values) summary.emplace_back(s.name, s.value);
  summary.insert(summary.end(), {{"seconds", earlier_seconds_ + seconds_since(start_)},
                                 {"train_seconds", train_seconds_},
                                 {"tokens", tokens_},
                                 {"tokens_per_second",
                                  static_cast<double>(tokens_) / std::max(train_seconds_, 1e-9)},
                                 {"planned_memory_bytes", static_cast<int64_t>(memory_.total())},
                                 {"peak_memory_bytes", peak_memory()},
                                 {"threads", int64_t{thread_count()}},
                                 {"device", session_.backend->name()}});
  write_file_atomically(folder_.path() / "summary.json", to_json_line(summary) + "\n");
}

int Run::stopped() {
  const int64_t total = trainer_.total_steps();
  if (last_.step > saved_step_) save(last_.step);
  std::fprintf(stderr, "stopped by signal %d after step %lld of %lld\n", signals_.received(),
               static_cast<long long>(last_.step), static_cast<long long>(total));
  return 128 + signals_.received();
}

void Run::tell_merge() {
  const AdapterConfig& a = restarts_->adapter();
  const bool sharing = a.method == "mora" && a.operation == "sharing";
  progress_.end();
  std::fprintf(stderr, "step %lld: merge %lld, the adapters begin anew%s\n",
               static_cast<long long>(last_.step), static_cast<long long>(restarts_->merges()),
               sharing ? str("; grouping ", a.grouping).c_str() : "");
}

void Run::train() {
  const int64_t total = trainer_.total_steps();
  while (trainer_.finished_steps() < total && signals_.received() == 0) {
    const auto begin = std::chrono::steady_clock::now();
    const int64_t merges = restarts_ ? restarts_->merges() : 0;
    last_ = trainer_.step();
    if (restarts_ && restarts_->merges() > merges) tell_merge();
    const double seconds = seconds_since(begin);
    train_seconds_ += seconds;
    window_.seconds += seconds;
    window_.loss += last_.loss;
    ++window_.steps;
    window_.tokens += last_.tokens;
    tokens_ += last_.tokens;
    if (last_.step % config().train.logging_steps == 0 || last_.step == total) log_step(last_);
    const int64_t every = config().train.eval_steps;
    if (every > 0 && last_.step % every == 0 && last_.step < total) evaluate(last_.step);
    // Last, so that the checkpoint knows the log up to here.
    if (save_due(last_.step, total)) save(last_.step);
    // From the second step on: the first touches memory for the first time.
    if (profile_) trainer_.observe([this](const StepRun& step) { profile_->add(step); });
  }
  progress_.end();
}

void Run::save_profile() const {
  std::fputs(profile_->tables().c_str(), stderr);
  write_file_atomically(folder_.path() / "profile.json", profile_->to_json_text());
}

int Run::execute() {
  resume();
  if (folder_.finished()) {
    std::fprintf(stderr, "%s is finished: nothing to do\n", folder_.path().c_str());
    return 0;
  }
  memory_ = plan_memory(*session_.store, session_.workspace.bytes(), *session_.backend);
  write_file_atomically(folder_.path() / kRunConfig, to_json_text(config()));
  task_->save_data(folder_.path());
  save_initial_model();
  banner();
  hash_base();
  signals_.defer();
  train();
  if (profile_) save_profile();
  if (signals_.received() != 0) return stopped();
  keep_for_evaluation();
  if (signals_.received() != 0) return stopped();  // while it was kept
  evaluate(last_.step);
  finish();
  discard_kept();
  return 0;
}

}  // namespace

int train_run(const RunConfig& config, Existing existing, Profiling profiling) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader of the log that ends, as `tee` at Ctrl-C, ends no run
  RunFolder::check_free(config.output_dir, existing);  // again under the lock, but now is cheap
  StopSignals signals;
  Run run(config, existing, profiling, signals);
  return run.execute();
}

}  // namespace mora::apps
