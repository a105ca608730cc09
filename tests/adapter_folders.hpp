// Adapter folders with a base of bare matrices, and what an adapter adds to each of them.
#pragma once

#include <cmath>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "io/json.hpp"
#include "mora/adapters/adapter_folder.hpp"
#include "mora/adapters/files.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

namespace mora::testing {

using Numbers = std::vector<double>;

struct LayerShape {
  std::string path;
  int64_t out, in;
};

// "adapter" and its base "base" in one folder; the adapter names the base by its path.
struct AdapterAndBase : TemporaryFolder {
  AdapterAndBase(const AdapterConfig& config, const std::vector<LayerShape>& shapes) {
    for (const char* folder : {"adapter", "base"})
      std::filesystem::create_directory(*this / folder);
    ParameterStore store(DType::f32);
    std::deque<Linear> layers;
    std::vector<Linear*> linears;
    std::deque<OwnedTensor> weights;
    std::vector<NamedTensor> named;
    for (const LayerShape& s : shapes) {
      linears.push_back(
          &layers.emplace_back(Scope(store, s.path), s.in, s.out, Init{}, Training::frozen));
      weights.emplace_back(Type{DType::f32, {s.out, s.in}});
      fill_random(weights.back().view(), s.path, 1);
      named.push_back({s.path + ".weight", weights.back().view()});
    }
    write_safetensors(*this / "base/model.safetensors", named);
    attach_adapters(config, store, linears);
    store.allocate_trained();
    for (const Parameter& p : store.all()) {
      if (is_adapter_parameter(p)) fill_random(p.value, p.name, 0.1);
    }
    save_adapter(adapter(), config, store, {base().string(), ""}, MoraScale::folded);
  }

  std::filesystem::path adapter() const { return *this / "adapter"; }
  std::filesystem::path base() const { return *this / "base"; }

  // Each layer's update by the method's own forward pass.
  std::map<std::string, Numbers> updates() const {
    std::map<std::string, Numbers> all;
    const AdapterFolder folder(adapter(), "");
    for (const Linear& linear : folder.layers()) {
      const OwnedTensor delta({DType::f64, {linear.out(), linear.in()}});
      folder.update_of(linear, delta.view());
      all[linear.path()] = {delta.as<double>().begin(), delta.as<double>().end()};
    }
    return all;
  }
};

inline Json json_of(const std::filesystem::path& file) {
  return parse_json(bytes_of(file), file.string());
}

inline Numbers product(const Numbers& b, const Numbers& a, int64_t out, int64_t inner, int64_t in) {
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  Numbers result(at(out * in), 0.0);
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t k = 0; k < inner; ++k) {
      for (int64_t j = 0; j < in; ++j)
        result[at(o * in + j)] += b[at(o * inner + k)] * a[at(k * in + j)];
    }
  }
  return result;
}

inline double frobenius(const Numbers& a) {
  double sum = 0;
  for (const double v : a) sum += v * v;
  return std::sqrt(sum);
}

inline Numbers minus(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  Numbers result = a;
  for (size_t i = 0; i < a.size(); ++i) result[i] -= b[i];
  return result;
}

}  // namespace mora::testing
