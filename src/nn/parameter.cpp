#include "mora/nn/parameter.hpp"

#include <set>

#include "mora/core/parallel.hpp"
#include "mora/core/random.hpp"

namespace mora {

Parameter& ParameterStore::declare(std::string name, const Shape& shape, Init init,
                                   Training training, Decay decay) {
  ensure(names_.insert(name).second, "parameter ", name, " is declared twice");
  parameters_.push_back({.name = std::move(name),
                         .shape = shape,
                         .init = init,
                         .training = training,
                         .decay = decay,
                         .lr_ratio = 1,
                         .clock = Clock::run,
                         .value = {},
                         .grad = {}});
  return parameters_.back();
}

int64_t ParameterStore::count(Training training) const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.training == training ? p.shape.elements() : 0;
  return n;
}

Tensor slice(const Tensor& flat, int64_t begin, int64_t count) {
  ensure(begin >= 0 && count >= 0 && begin + count <= flat.elements(), "slice outside its block");
  auto* data =
      static_cast<std::byte*>(flat.data) + static_cast<size_t>(begin) * size_of(flat.dtype());
  return {data, {flat.dtype(), {count}}};
}

void ParameterStore::place_trained(Decay decay, double lr_ratio, Clock clock, int64_t& offset) {
  const int64_t begin = offset;
  for (Parameter& p : parameters_) {
    if (p.training != Training::trained || p.decay != decay) continue;
    if (p.lr_ratio != lr_ratio || p.clock != clock) continue;
    const Type type{working_, p.shape};
    p.value = {slice(values(), offset, p.shape.elements()).data, type};
    p.grad = {slice(gradients(), offset, p.shape.elements()).data, type};
    offset += p.shape.elements();
  }
  if (offset > begin) groups_.push_back({begin, offset - begin, decay, lr_ratio, clock});
}

Tensor ParameterStore::part_of(const Tensor& block, const Parameter& p) const {
  const auto offset =
      static_cast<const std::byte*>(p.value.data) - static_cast<std::byte*>(values().data);
  return {static_cast<std::byte*>(block.data) + offset, p.value.type};
}

DType ParameterStore::stored_type(const Parameter& p) const {
  const bool frozen_matrix = p.training == Training::frozen && p.shape.rank() >= 2 &&
                             p.precision == Precision::frozen_matrices;
  return frozen_matrix ? frozen_matrices_ : working_;
}

// Of all blocks together, so that a model that does not fit is refused before the first is filled.
size_t ParameterStore::bytes() const {
  size_t total = 0;
  for (const Parameter& p : parameters_) {
    const size_t one = Type{stored_type(p), p.shape}.bytes();
    const size_t copies = p.training == Training::trained ? 4 : 1;
    if (one > (SIZE_MAX / 2 - total) / copies)
      fail(ErrorKind::memory, "out of memory: the parameters fit no memory");
    total += copies * one;
  }
  return total;
}

void ParameterStore::allocate_trained() {
  const Type flat{working_, {count(Training::trained)}};
  for (OwnedTensor* block : {&flat_values_, &flat_gradients_, &exp_avg_, &exp_avg_sq_})
    *block = OwnedTensor(flat);
  std::set<double> ratios;
  for (const Parameter& p : parameters_) ratios.insert(p.lr_ratio);
  int64_t offset = 0;
  for (const Decay decay : {Decay::yes, Decay::no}) {
    for (const double ratio : ratios) {
      for (const Clock clock : {Clock::run, Clock::cycle})
        place_trained(decay, ratio, clock, offset);
    }
  }
}

void ParameterStore::allocate() {
  require_memory(bytes());
  allocate_trained();
  std::vector<Parameter*> frozen;
  for (Parameter& p : parameters_) {
    if (p.training == Training::frozen) frozen.push_back(&p);
  }
  auto room = [&](const Parameter* p) {  // whole cache lines
    return (Type{stored_type(*p), p->shape}.bytes() + 63) / 64 * 64;
  };
  size_t total = 0;
  for (const Parameter* p : frozen) total += room(p);
  frozen_ = Buffer(total, Fill::none);
  auto* at = static_cast<std::byte*>(frozen_.data());
  for (Parameter* p : frozen) {
    p->value = {at, {stored_type(*p), p->shape}};
    at += room(p);
  }
}

namespace {

template <class T>
void fill(const Parameter& p, uint64_t seed) {
  const Random random(seed, Purpose::init, stream_of(p.name));
  auto values = p.value.as<T>();
  const Init init = p.init;
  parallel_pieces(static_cast<int64_t>(values.size()), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto index = static_cast<uint64_t>(i);
      double x = 0;
      switch (init.kind) {
        case Init::Kind::zeros:
          break;
        case Init::Kind::ones:
          x = 1;
          break;
        case Init::Kind::normal:
          x = init.scale * random.normal(index);
          break;
        case Init::Kind::uniform:
          x = init.scale * (2 * random.uniform(index) - 1);
          break;
      }
      values[static_cast<size_t>(i)] =
          T(static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(x));
    }
  });
}

}  // namespace

void ParameterStore::initialise(uint64_t seed, std::string_view name_contains) {
  for (const Parameter& p : parameters_) {
    if (p.name.find(name_contains) == std::string::npos) continue;
    switch (p.value.dtype()) {
      case DType::f32:
        fill<float>(p, seed);
        break;
      case DType::bf16:
        fill<bf16>(p, seed);
        break;
      case DType::f16:
        fill<f16>(p, seed);
        break;
      case DType::f64:
        fill<double>(p, seed);
        break;
      case DType::i32:
        ensure(false, "parameters are floating point");
        break;
    }
  }
}

Scope Scope::operator/(std::string_view child) const {
  return Scope(*store_, path_.empty() ? std::string(child) : str(path_, ".", child));
}

Parameter& Scope::parameter(std::string_view name, const Shape& shape, Init init, Training training,
                            Decay decay) const {
  return store_->declare((*this / name).path_, shape, init, training, decay);
}

}  // namespace mora
