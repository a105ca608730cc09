#include "mora/train/trainer.hpp"

#include <algorithm>
#include <cmath>

#include "mora/data/sampler.hpp"
#include "mora/train/schedule.hpp"
#include "train/step_graph.hpp"

namespace mora {

int64_t total_steps(const TrainConfig& config, int64_t n) {
  if (config.max_steps > 0) return config.max_steps;
  const auto per_step =
      static_cast<double>(config.per_device_train_batch_size * config.gradient_accumulation_steps);
  const double steps = std::ceil(config.num_train_epochs * static_cast<double>(n) / per_step);
  if (steps > 1e12) {
    fail(ErrorKind::usage, "train.num_train_epochs: ", config.num_train_epochs, " passes over ", n,
         " examples are ", steps, " steps, expected at most 1e12");
  }
  return std::max<int64_t>(1, static_cast<int64_t>(steps));
}

namespace {

// The most tokens that any micro-batch of the run holds: known beforehand, because the order of the
// data is. Runs of more examples than anyone waits for get what no batch can exceed.
int64_t largest_batch(const ExampleSource& data, const TrainConfig& config, uint64_t seed,
                      int64_t steps) {
  int64_t shortest = INT64_MAX, longest = 0;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto length = static_cast<int64_t>(data.example(i).tokens.size());
    shortest = std::min(shortest, length);
    longest = std::max(longest, length);
  }
  const int64_t batch = config.per_device_train_batch_size;
  constexpr double kMostDraws = 1e8;
  const double draws =
      static_cast<double>(steps) * static_cast<double>(config.gradient_accumulation_steps * batch);
  if (shortest == longest || draws > kMostDraws) return batch * longest;
  Sampler sampler(seed, data.size());
  int64_t most = 0;
  for (int64_t micro = 0; micro < steps * config.gradient_accumulation_steps; ++micro) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < batch; ++i) {
      tokens += static_cast<int64_t>(data.example(sampler.at(micro * batch + i)).tokens.size());
    }
    most = std::max(most, tokens);
  }
  return most;
}

}  // namespace

struct Trainer::Impl {
  const ExampleSource& data;
  TrainConfig config;
  int64_t total, finished = 0, capacity;
  Sampler sampler;
  MicroGraph micro;
  UpdateGraph update;
  std::vector<Batch> batches;  // of one step
  Plan micro_plan, clear_plan, update_plan;

  Impl(const Llama& model, ParameterStore& store, const ExampleSource& source, const TrainConfig& c,
       uint64_t seed, const Backend& backend, Workspace& workspace)
      : data(source),
        config(c),
        total(mora::total_steps(c, source.size())),
        capacity(largest_batch(source, c, seed, total)),
        sampler(seed, source.size()),
        micro(model, store, capacity, seed),
        update(store, c),
        batches(static_cast<size_t>(c.gradient_accumulation_steps), Batch(capacity)),
        micro_plan(micro.graph, std::array{micro.loss}, backend, workspace),
        clear_plan(update.clear_graph, {}, backend, workspace),
        update_plan(update.graph, std::array{update.norm2}, backend, workspace) {}

  double pack_step();
  void load(size_t index, double weight_sum);
  double run_micro_batches(double weight_sum);
  std::string first_non_finite(double weight_sum);
  void check_finite(double loss, double norm, double weight_sum);
};

// Packs the step's micro-batches and returns the sum of their weights.
double Trainer::Impl::pack_step() {
  const int64_t per_batch = config.per_device_train_batch_size;
  int64_t index = finished * config.gradient_accumulation_steps * per_batch;
  double weight_sum = 0;
  for (Batch& batch : batches) {
    batch.clear();
    for (int64_t i = 0; i < per_batch; ++i) batch.append(data.example(sampler.at(index++)));
    weight_sum += batch.weight_sum;
  }
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
  const auto step = micro.step.as<int32_t>();
  step[0] = static_cast<int32_t>(finished);
  step[1] = static_cast<int32_t>(index);
  micro.batch.fill(batches[index], 1.0 / weight_sum);
}

double Trainer::Impl::run_micro_batches(double weight_sum) {
  double loss = 0;
  for (size_t m = 0; m < batches.size(); ++m) {
    load(m, weight_sum);
    micro_plan.run();
    const double part = scalar(micro_plan[micro.loss]);
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
    where = mora::first_non_finite(micro_plan);
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
                 Workspace& workspace)
    : impl_(std::make_unique<Impl>(model, store, data, config, seed, backend, workspace)) {}
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
size_t Trainer::activation_bytes() const {
  return std::max(impl_->micro_plan.bytes(), impl_->update_plan.bytes());
}
double Trainer::epoch() const {
  const int64_t seen = impl_->finished * impl_->config.gradient_accumulation_steps *
                       impl_->config.per_device_train_batch_size;
  return static_cast<double>(seen) / static_cast<double>(impl_->data.size());
}
void Trainer::resume_at(int64_t finished) {
  impl_->finished = finished;
}

StepMetrics Trainer::step() {
  Impl& s = *impl_;
  const double weight_sum = s.pack_step();
  s.clear_plan.run();
  StepMetrics metrics{.step = s.finished + 1, .loss = s.run_micro_batches(weight_sum)};
  const double t = static_cast<double>(s.finished + 1);
  metrics.learning_rate =
      s.config.learning_rate *
      schedule_factor(s.config.lr_scheduler_type, s.finished, s.config.warmup_steps, s.total);
  const auto hyper = s.update.hyper.as<double>();
  hyper[0] = metrics.learning_rate;
  hyper[1] = 1.0 - std::pow(s.config.adam_beta1, t);
  hyper[2] = 1.0 - std::pow(s.config.adam_beta2, t);
  if (std::isfinite(metrics.loss)) s.update_plan.run();
  metrics.grad_norm =
      std::isfinite(metrics.loss) ? std::sqrt(scalar(s.update_plan[s.update.norm2])) : metrics.loss;
  s.check_finite(metrics.loss, metrics.grad_norm, weight_sum);
  for (const Batch& batch : s.batches) metrics.tokens += batch.tokens_used;
  ++s.finished;
  return metrics;
}

}  // namespace mora
