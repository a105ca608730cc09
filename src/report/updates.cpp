#include "report/updates.hpp"

#include <algorithm>
#include <cmath>

#include "mora/adapters/adapter_folder.hpp"
#include "mora/adapters/low_rank.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

double frobenius_of(const TensorRows& rows) {
  double sum = 0;
  std::vector<float> row(static_cast<size_t>(rows.row));
  for (int64_t i = 0; i < rows.rows; ++i) {
    rows.read(i, row);
    for (const float v : row) sum += static_cast<double>(v) * static_cast<double>(v);
  }
  return std::sqrt(sum);
}

std::optional<double> base_norm(const SafetensorsFolder* base, const std::string& tensor) {
  if (base == nullptr || !base->contains(tensor)) return {};
  const std::string& dtype = base->info(tensor).dtype;
  if (dtype != "F32" && dtype != "F16" && dtype != "BF16") return {};
  const SafetensorsFile& file = base->file_of(tensor);
  const double norm = frobenius_of(rows_of(file, tensor));
  file.release(tensor);
  return norm;
}

std::optional<Spectrum> spectrum_of_layer(const AdapterFolder& adapter, const Linear& linear,
                                          double threshold) {
  if (linear.adapter()->factored() != nullptr) {
    const LowRank update = low_rank_of(linear);
    if (!is_finite(update.a.view()) || !is_finite(update.b.view())) return {};
    return spectrum_of(singular_values(update), threshold);
  }
  const OwnedTensor delta({DType::f64, {linear.out(), linear.in()}});
  adapter.update_of(linear, delta.view());
  if (!is_finite(delta.view())) return {};
  return spectrum_of(singular_values(delta.view()), threshold);
}

// second - first as f64 [rows, row].
OwnedTensor difference(const TensorRows& first, const TensorRows& second) {
  OwnedTensor result({DType::f64, {first.rows, first.row}});
  const auto width = static_cast<size_t>(first.row);
  std::vector<float> a(width), b(width);
  for (int64_t i = 0; i < first.rows; ++i) {
    first.read(i, a);
    second.read(i, b);
    const auto into = result.as<double>().subspan(static_cast<size_t>(i) * width, width);
    for (size_t j = 0; j < width; ++j)
      into[j] = static_cast<double>(b[j]) - static_cast<double>(a[j]);
  }
  return result;
}

bool equal(const TensorRows& first, const TensorRows& second) {
  const auto width = static_cast<size_t>(first.row);
  std::vector<float> a(width), b(width);
  for (int64_t i = 0; i < first.rows; ++i) {
    first.read(i, a);
    second.read(i, b);
    if (!std::ranges::equal(a, b)) return false;
  }
  return true;
}

void compare(const ContentTensor& a, const ContentTensor& b, double threshold, PairUpdates& pair) {
  if (a.shape != b.shape) {
    pair.different_shape.push_back(a.name);
  } else if (!a.readable || !b.readable) {
    pair.not_read.push_back(a.name);
  } else if (a.shape.size() != 2) {
    if (a.elements() > 0 && !equal(a.rows(), b.rows())) pair.changed_vectors.push_back(a.name);
  } else if (a.elements() > 0) {
    Update update{.module = module_of_tensor(a.name),
                  .out = a.shape[0],
                  .in = a.shape[1],
                  .spectrum = {},
                  .base = frobenius_of(a.rows())};
    const OwnedTensor delta = difference(a.rows(), b.rows());
    if (is_finite(delta.view()))
      update.spectrum = spectrum_of(singular_values(delta.view()), threshold);
    pair.updates.push_back(std::move(update));
  }
}

}  // namespace

Spectrum spectrum_of(std::vector<double> values, double threshold) {
  Spectrum s;
  double sum = 0, squares = 0;
  for (size_t i = values.size(); i-- > 0;) {
    sum += values[i];
    squares += values[i] * values[i];
    s.above += values[i] > threshold;
  }
  s.frobenius = std::sqrt(squares);
  if (!values.empty()) s.spectral = values[0];
  if (s.spectral > 0) {
    s.stable_rank = (s.frobenius / s.spectral) * (s.frobenius / s.spectral);
    double entropy = 0;
    for (const double value : values) {
      const double p = value / sum;
      if (p > 0) entropy -= p * std::log(p);
    }
    s.effective_rank = std::exp(entropy);
  }
  s.values = std::move(values);
  return s;
}

std::string module_of_tensor(const std::string& tensor) {
  constexpr std::string_view kWeight = ".weight";
  return tensor.ends_with(kWeight) ? tensor.substr(0, tensor.size() - kWeight.size()) : tensor;
}

std::string module_type(const std::string& module) {
  std::string_view rest = module;
  while (true) {
    const size_t dot = rest.rfind('.');
    const std::string_view last = dot == rest.npos ? rest : rest.substr(dot + 1);
    const bool number =
        !last.empty() && std::ranges::all_of(last, [](char c) { return c >= '0' && c <= '9'; });
    if (!number || dot == rest.npos) return std::string(last);
    rest = rest.substr(0, dot);
  }
}

AdapterUpdates adapter_updates(const std::filesystem::path& adapter,
                               const std::filesystem::path& model, double threshold) {
  const AdapterFolder folder(adapter, model);
  AdapterUpdates result{.updates = {}, .replaced = folder.replaced()};
  for (const Linear& linear : folder.layers()) {
    result.updates.push_back({.module = linear.path(),
                              .out = linear.out(),
                              .in = linear.in(),
                              .spectrum = spectrum_of_layer(folder, linear, threshold),
                              .base = base_norm(folder.base(), linear.weight().name)});
  }
  return result;
}

PairUpdates pair_updates(const Contents& first, const Contents& second, double threshold) {
  PairUpdates pair;
  bool common = false;
  for (const ContentTensor& a : first.tensors()) {
    if (a.of_optimizer) continue;
    const ContentTensor* b = second.find(a.name);
    if (b == nullptr) {
      pair.only_first.push_back(a.name);
    } else {
      common = true;
      compare(a, *b, threshold, pair);
    }
  }
  for (const ContentTensor& b : second.tensors()) {
    if (!b.of_optimizer && first.find(b.name) == nullptr) pair.only_second.push_back(b.name);
  }
  if (!common) {
    fail(ErrorKind::usage, printable(first.path().string()), " and ",
         printable(second.path().string()),
         " have no tensor of the same name; give two versions "
         "of one model, in one format");
  }
  return pair;
}

}  // namespace mora
