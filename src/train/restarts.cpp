#include "mora/train/restarts.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "mora/adapters/adapters.hpp"

namespace mora {

namespace {

constexpr std::array<const char*, 4> kGroupings = {"strided", "contiguous", "contiguous_strided",
                                                   "strided_contiguous"};

// A seed of its own for everything that is drawn at the n-th time; the run's for n = 0.
uint64_t seed_at(uint64_t seed, int64_t n) {
  if (n == 0) return seed;
  const auto words = Random(seed, Purpose::restart).block(static_cast<uint64_t>(n));
  return (uint64_t{words[0]} << 32) | words[1];
}

}  // namespace

void count_adapter_steps_apart(ParameterStore& store) {
  for (Parameter& p : store.all()) {
    if (is_adapter_parameter(p)) p.clock = Clock::cycle;
  }
}

AdapterConfig regrouped(const AdapterConfig& start, const std::string& regroup, uint64_t seed,
                        int64_t merges) {
  AdapterConfig next = start;
  const bool changes = start.method == "mora" && start.operation == "sharing" && regroup != "none";
  if (!changes || merges == 0) return next;
  if (regroup == "random") {
    next.grouping = regroup;
    next.grouping_seed = static_cast<int64_t>(seed_at(seed, merges) >> 1);  // not negative
    return next;
  }
  const int64_t period = regroup == "two" ? 2 : 4;
  const auto* const first = std::ranges::find(kGroupings, start.grouping);
  ensure(first - kGroupings.begin() < period, "grouping ", start.grouping, " with regroup ",
         regroup);
  next.grouping = kGroupings[static_cast<size_t>((first - kGroupings.begin() + merges) % period)];
  return next;
}

namespace {

template <class T>
void prune_randomly_as(std::span<T> values, double ratio, const Random& random) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (random.uniform(i) <= ratio) values[i] = 0;
  }
}

// torch.quantile of float32, rounded as there: `ratio` to float, the place among the sorted sizes
// not at all, the interpolation between two of them once.
template <class T>
float quantile_of_sizes(std::span<const T> values, double ratio) {
  std::vector<float> sizes(values.size());
  std::ranges::transform(values, sizes.begin(),
                         [](T v) { return std::fabs(static_cast<float>(v)); });
  const size_t last = sizes.size() - 1;
  const double place = static_cast<double>(static_cast<float>(ratio)) * static_cast<double>(last);
  const auto below = static_cast<size_t>(place);
  const auto weight = static_cast<float>(place - std::floor(place));
  const auto at = sizes.begin() + static_cast<std::ptrdiff_t>(below);
  std::ranges::nth_element(sizes, at);
  if (below == last) return *at;
  const float low = *at, high = *std::min_element(at + 1, sizes.end());
  return weight < 0.5f ? std::fma(weight, high - low, low) : std::fma(weight - 1, high - low, high);
}

template <class T>
void prune_by_magnitude_as(std::span<T> values, double ratio) {
  const auto threshold = static_cast<T>(quantile_of_sizes<T>(values, ratio));
  for (T& v : values) {
    if (!(std::fabs(v) > threshold)) v = 0;
  }
}

}  // namespace

void prune_randomly(const Tensor& tensor, double ratio, const Random& random) {
  if (tensor.dtype() == DType::f64) return prune_randomly_as(tensor.as<double>(), ratio, random);
  prune_randomly_as(tensor.as<float>(), ratio, random);
}

void prune_by_magnitude(const Tensor& tensor, double ratio) {
  if (tensor.dtype() == DType::f64) return prune_by_magnitude_as(tensor.as<double>(), ratio);
  prune_by_magnitude_as(tensor.as<float>(), ratio);
}

void merge_into_weight(const Linear& linear, DType working) {
  const Tensor& weight = linear.weight().value;
  const OwnedTensor merged({working, weight.shape()}, Fill::none);
  merged_weight(linear, weight, merged.view());
  convert(merged.view(), weight);
}

Restarts::Restarts(const RestartConfig& config, const AdapterConfig& adapter, uint64_t seed,
                   ParameterStore& store, std::vector<Linear*> linears)
    : config_(config),
      start_(adapter),
      adapter_(adapter),
      seed_(seed),
      store_(store),
      linears_(std::move(linears)) {
  ensure(config_.enabled(), "restarts without merge_steps");
  std::erase_if(linears_, [](const Linear* l) { return l->adapter() == nullptr; });
}

// The reset or merge number k happens after step k * every, or one later.
int64_t Restarts::delay() const {
  return config_.merge_at == "after_first_step" ? 1 : 0;
}

int64_t Restarts::reset_steps() const {
  return config_.reset_steps > 0 ? config_.reset_steps : config_.merge_steps;
}

// How often it has happened after `finished` steps. What comes after the last step would be seen by
// nobody.
int64_t Restarts::due(int64_t every, int64_t finished, int64_t total) const {
  return std::max<int64_t>(0, std::min(finished, total - 1) - delay()) / every;
}

int64_t Restarts::clock(int64_t finished) const {
  if (config_.optimizer_reset != "full" || resets_ == 0) return finished;
  return finished - (resets_ * reset_steps() + delay());
}

void Restarts::regroup() {
  adapter_ = regrouped(start_, config_.regroup, seed_, merges_);
  for (Linear* linear : linears_) linear->adapter()->regroup(adapter_);
}

void Restarts::merge_all() const {
  for (const Linear* linear : linears_) merge_into_weight(*linear, store_.working());
}

void Restarts::reset(const Tensor& moments, const std::string& name) const {
  const std::string& how = config_.optimizer_reset;
  if (how == "full") std::memset(moments.data, 0, moments.bytes());
  if (how == "magnitude") prune_by_magnitude(moments, config_.pruning_ratio);
  if (how != "random") return;
  const Random random(seed_at(seed_, resets_), Purpose::restart, stream_of(name));
  prune_randomly(moments, config_.pruning_ratio, random);
}

bool Restarts::after_step(int64_t finished, int64_t total) {
  if (const int64_t resets = due(reset_steps(), finished, total); resets > resets_) {
    resets_ = resets;
    for (const Parameter& p : store_.all()) {
      if (p.clock != Clock::cycle) continue;
      reset(store_.part_of(store_.exp_avg(), p), "exp_avg." + p.name);
      reset(store_.part_of(store_.exp_avg_sq(), p), "exp_avg_sq." + p.name);
    }
  }
  const int64_t merges = due(config_.merge_steps, finished, total);
  if (merges == merges_) return false;
  merge_all();
  merges_ = merges;
  regroup();
  initialise_adapters(store_, seed_at(seed_, merges_), linears_);
  return true;
}

bool Restarts::resume_at(int64_t finished, int64_t total) {
  const int64_t before = merges_;
  merges_ = due(config_.merge_steps, finished, total);
  resets_ = due(reset_steps(), finished, total);
  if (merges_ == before) return false;  // what graphs refer to stays where it is
  regroup();
  return true;
}

}  // namespace mora
