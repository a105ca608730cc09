#include "mora/train/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "mora/data/micro_batches.hpp"
#include "mora/train/schedule.hpp"
#include "train/step_graph.hpp"
#include "train/step_loader.hpp"

namespace mora {

namespace {

std::unique_ptr<MicroBatches> make_micro_batches(const ExampleSource& data,
                                                 const TrainConfig& config, uint64_t seed) {
  std::vector<int32_t> lengths(static_cast<size_t>(data.size()));
  for (int64_t i = 0; i < data.size(); ++i)
    lengths[static_cast<size_t>(i)] = static_cast<int32_t>(data.example(i).tokens.size());
  const int64_t per_batch = config.per_device_train_batch_size;
  if (const int64_t longest = data.packed_length(); longest > 0)
    return packed_micro_batches(seed, std::move(lengths), per_batch * longest);
  return counted_micro_batches(seed, std::move(lengths), per_batch);
}

// Optimizer steps of a run: max_steps, or enough for num_train_epochs.
int64_t steps_of(const TrainConfig& config, MicroBatches& micro_batches) {
  if (config.max_steps > 0) return config.max_steps;
  const double steps = std::ceil(micro_batches.count(config.num_train_epochs) /
                                 static_cast<double>(config.gradient_accumulation_steps));
  if (steps > 1e12) {
    fail(ErrorKind::usage, "train.num_train_epochs: ", config.num_train_epochs,
         " passes over the data are ", steps, " steps, expected at most 1e12");
  }
  return std::max<int64_t>(1, static_cast<int64_t>(steps));
}

// The factor on the learning rate of a step. A run by epochs is cut where they end, but its jagged
// cosine has whole cycles, as in the MoRA authors' train.py.
double learning_rate_factor(const TrainConfig& c, int64_t step, int64_t total) {
  if (c.lr_scheduler_type != "cosine_restarts")
    return schedule_factor(c.lr_scheduler_type, step, c.warmup_steps, total);
  const int64_t cycles = c.cycle_length > 0 ? (total + c.cycle_length - 1) / c.cycle_length : 1;
  const CosineRestarts schedule{.total = cycles * c.cycle_length,
                                .cycle = c.cycle_length,
                                .warmup = c.warmup_steps,
                                .restart_warmup = c.restart_warmup_steps,
                                .min_ratio = c.min_lr_ratio,
                                .adjust = c.adjust_step};
  return schedule.factor(step);
}

}  // namespace

struct Trainer::Impl {
  const Llama& model;
  const ParameterStore& store;
  const ExampleSource& data;
  TrainConfig config;
  uint64_t seed;
  const Backend& backend;
  Workspace& workspace;
  Restarts* restarts;
  std::unique_ptr<MicroBatches> order;  // for counting; the loader reads by another
  int64_t total, finished = 0, capacity;
  std::optional<MicroGraph> micro;
  UpdateGraph update;
  StepLoader loader;
  std::span<const Batch> batches;  // of the step that runs
  std::optional<Plan> micro_plan;
  Plan clear_plan, update_plan;
  Plan::Visitor observer;

  Impl(const Llama& m, ParameterStore& s, const ExampleSource& source, const TrainConfig& c,
       uint64_t run_seed, const Backend& b, Workspace& w, Restarts* r)
      : model(m),
        store(s),
        data(source),
        config(c),
        seed(run_seed),
        backend(b),
        workspace(w),
        restarts(r),
        order(make_micro_batches(source, c, seed)),
        total(steps_of(c, *order)),
        capacity(order->capacity(total * c.gradient_accumulation_steps)),
        update(s, c),
        loader(source, make_micro_batches(source, c, seed), c.gradient_accumulation_steps, capacity,
               total),
        clear_plan(update.clear_graph, {}, backend, workspace),
        update_plan(update.graph, std::array{update.norm2}, backend, workspace) {
    write_micro_graph();
  }

  void write_micro_graph();
  void set_hyper(Clock clock, double learning_rate, int64_t steps) const;
  double take_batches();
  void load(size_t index, double weight_sum);
  void run(Plan& plan) const;
  double run_micro_batches(double weight_sum);
  std::string first_non_finite(double weight_sum);
  void check_finite(double loss, double norm, double weight_sum);
};

// Anew when the adapters have changed what they compute.
void Trainer::Impl::write_micro_graph() {
  micro_plan.reset();
  micro.emplace(model, store, capacity, seed, activation_options(config));
  micro_plan.emplace(micro->graph, std::array{micro->loss}, backend, workspace);
}

// For a step after which the clock shows `steps`.
void Trainer::Impl::set_hyper(Clock clock, double learning_rate, int64_t steps) const {
  const auto hyper = update.hyper(clock).as<double>();
  hyper[0] = learning_rate;
  hyper[1] = 1.0 - std::pow(config.adam_beta1, static_cast<double>(steps));
  hyper[2] = 1.0 - std::pow(config.adam_beta2, static_cast<double>(steps));
}

// Takes the step's micro-batches and returns the sum of their weights.
double Trainer::Impl::take_batches() {
  batches = loader.at(finished);
  double weight_sum = 0;
  for (const Batch& batch : batches) weight_sum += batch.weight_sum;
  if (weight_sum == 0) {
    fail(ErrorKind::data, "step ", finished + 1,
         ": no token of the batch has a loss weight, so there is nothing to learn");
  }
  return weight_sum;
}

namespace {

double scalar(const Tensor& t) {
  return t.dtype() == DType::f64 ? t.as<double>()[0] : static_cast<double>(t.as<float>()[0]);
}

}  // namespace

// Gives micro-batch `index` of the step to the graph.
void Trainer::Impl::load(size_t index, double weight_sum) {
  const auto step = micro->step.as<int32_t>();
  step[0] = static_cast<int32_t>(finished);
  step[1] = static_cast<int32_t>(index);
  micro->batch.fill(batches[index], 1.0 / weight_sum);
}

void Trainer::Impl::run(Plan& plan) const {
  if (observer) {
    plan.trace(observer);
  } else {
    plan.run();
  }
}

double Trainer::Impl::run_micro_batches(double weight_sum) {
  double loss = 0;
  for (size_t m = 0; m < batches.size(); ++m) {
    load(m, weight_sum);
    run(*micro_plan);
    const double part = scalar((*micro_plan)[micro->loss]);
    loss += part;
    if (!std::isfinite(part)) break;
  }
  return loss;
}

// The step once more, from cleared gradients: what they hold by now would be taken for new.
std::string Trainer::Impl::first_non_finite(double weight_sum) {
  clear_plan.run();
  std::string where;
  for (size_t m = 0; m < batches.size() && where.empty(); ++m) {
    load(m, weight_sum);
    where = mora::first_non_finite(*micro_plan);
  }
  return where;
}

void Trainer::Impl::check_finite(double loss, double norm, double weight_sum) {
  if (std::isfinite(loss) && std::isfinite(norm)) return;
  const std::string where = first_non_finite(weight_sum);
  fail(ErrorKind::numerical, "step ", finished + 1, ": ",
       std::isfinite(loss) ? "the gradient norm" : "the loss", " is not finite",
       where.empty() ? "" : "; first seen in ", where,
       ". The weights were not changed by this step; try a lower train.learning_rate or "
       "max_grad_norm");
}

Trainer::Trainer(const Llama& model, ParameterStore& store, const ExampleSource& data,
                 const TrainConfig& config, uint64_t seed, const Backend& backend,
                 Workspace& workspace, Restarts* restarts)
    : impl_(
          std::make_unique<Impl>(model, store, data, config, seed, backend, workspace, restarts)) {}
Trainer::~Trainer() = default;

int64_t Trainer::total_steps() const {
  return impl_->total;
}
int64_t Trainer::finished_steps() const {
  return impl_->finished;
}
int64_t Trainer::capacity() const {
  return impl_->capacity;
}
double Trainer::epoch() const {
  return impl_->order->epochs(impl_->finished * impl_->config.gradient_accumulation_steps);
}
double Trainer::fill() const {
  double tokens = 0;
  for (int64_t i = 0; i < impl_->data.size(); ++i)
    tokens += static_cast<double>(impl_->data.example(i).tokens.size());
  return tokens / (impl_->order->count(1) * static_cast<double>(impl_->capacity));
}
void Trainer::observe(Plan::Visitor visit) {
  impl_->observer = std::move(visit);
}
void Trainer::resume_at(int64_t finished) {
  impl_->finished = finished;
  if (impl_->restarts != nullptr && impl_->restarts->resume_at(finished, impl_->total))
    impl_->write_micro_graph();
}

StepMetrics Trainer::step() {
  Impl& s = *impl_;
  const double weight_sum = s.take_batches();
  s.run(s.clear_plan);
  StepMetrics metrics{.step = s.finished + 1, .loss = s.run_micro_batches(weight_sum)};
  metrics.learning_rate =
      s.config.learning_rate * learning_rate_factor(s.config, s.finished, s.total);
  s.set_hyper(Clock::run, metrics.learning_rate, s.finished + 1);
  s.set_hyper(Clock::cycle, metrics.learning_rate,
              s.restarts == nullptr ? s.finished + 1 : s.restarts->clock(s.finished + 1));
  if (std::isfinite(metrics.loss)) s.run(s.update_plan);
  metrics.grad_norm =
      std::isfinite(metrics.loss) ? std::sqrt(scalar(s.update_plan[s.update.norm2])) : metrics.loss;
  s.check_finite(metrics.loss, metrics.grad_norm, weight_sum);
  for (const Batch& batch : s.batches) metrics.tokens += batch.tokens_used;
  ++s.finished;
  if (s.restarts != nullptr && s.restarts->after_step(s.finished, s.total)) s.write_micro_graph();
  return metrics;
}

}  // namespace mora
