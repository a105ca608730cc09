#include "op_harness.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "mora/core/parallel.hpp"

namespace mora::testing {

namespace {

template <class T, class Convert>
Array read(const Tensor& t, const Convert& convert) {
  Array result;
  for (const T x : t.as<T>()) result.push_back(convert(x));
  return result;
}

template <class T, class Convert>
void write(const Tensor& t, const Array& values, const Convert& convert) {
  const auto to = t.as<T>();
  ensure(values.size() == to.size(), "a fill gave ", values.size(), " numbers for ", t.type);
  for (size_t i = 0; i < to.size(); ++i) to[i] = convert(values[i]);
}

}  // namespace

double relative_error(const Array& got, const Array& expected) {
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double worst = 0, scale = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(got[i] - expected[i]);
    if (!(difference <= worst)) worst = difference;
    if (std::isnan(worst)) return worst;
    scale = std::max(scale, std::abs(expected[i]));
  }
  return scale > 0 ? worst / scale : worst;
}

Array numbers(const Tensor& t) {
  switch (t.dtype()) {
    case DType::f32:
      return read<float>(t, [](float x) { return static_cast<double>(x); });
    case DType::bf16:
      return read<bf16>(t, [](bf16 x) { return static_cast<double>(static_cast<float>(x)); });
    case DType::f16:
      return read<f16>(t, [](f16 x) { return value_as<double>(x); });
    case DType::f64:
      return read<double>(t, [](double x) { return x; });
    case DType::i32:
      return read<int32_t>(t, [](int32_t x) { return static_cast<double>(x); });
  }
  return {};
}

void assign(const Tensor& t, const Array& values) {
  switch (t.dtype()) {
    case DType::f32:
      return write<float>(t, values, [](double x) { return static_cast<float>(x); });
    case DType::bf16:
      return write<bf16>(t, values, [](double x) { return bf16(static_cast<float>(x)); });
    case DType::f16:
      return write<f16>(t, values, [](double x) { return value_as<f16>(x); });
    case DType::f64:
      return write<double>(t, values, [](double x) { return x; });
    case DType::i32:
      return write<int32_t>(t, values, [](double x) { return static_cast<int32_t>(x); });
  }
}

Bytes bytes_of(const Tensor& t) {
  const auto* begin = static_cast<const std::byte*>(t.data);
  return begin == nullptr ? Bytes{} : Bytes(begin, begin + t.bytes());
}

std::vector<Bytes> bytes_of(const Plan& plan, std::span<const Var> values) {
  std::vector<Bytes> result;
  for (const Var& v : values) result.push_back(bytes_of(plan[v]));
  return result;
}

Inputs::Inputs(Graph& graph, std::span<const CaseInput> inputs, DType working,
               const std::string& seed_name)
    : Inputs(graph, inputs, std::vector<DType>(inputs.size(), working), seed_name) {}

Inputs::Inputs(Graph& graph, std::span<const CaseInput> inputs, std::span<const DType> working,
               const std::string& seed_name) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    DType dtype = working[i];
    if (inputs[i].storage == Storage::bf16) dtype = DType::bf16;
    if (inputs[i].storage == Storage::f16) dtype = DType::f16;
    if (inputs[i].storage == Storage::f64) dtype = DType::f64;
    if (inputs[i].storage == Storage::i32) dtype = DType::i32;
    memory_.emplace_back(Type{dtype, inputs[i].shape});
    const Random random(1, Purpose::test, stream_of(str(seed_name, " ", i)));
    assign(memory(i), inputs[i].fill(random, inputs[i].shape.elements()));
    initial_.push_back(numbers(memory(i)));
    vars_.push_back(graph.bind(memory(i), str("in", i)));
  }
}

void Inputs::reset() const {
  for (size_t i = 0; i < memory_.size(); ++i) assign(memory(i), initial_[i]);
}

void run_over(Plan& plan, Workspace& workspace, int fill) {
  if (workspace.bytes() > 0) std::memset(workspace.base(), fill, workspace.bytes());
  plan.run();
}

Threads::Threads(int count) : before_(thread_count()) {
  set_thread_count(count);
}
Threads::~Threads() {
  set_thread_count(before_);
}

}  // namespace mora::testing
