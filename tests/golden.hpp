// Reading the golden files, and comparing with them.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "mora/core/tensor.hpp"
#include "mora/io/safetensors.hpp"
#include "worse.hpp"

namespace mora::testing {

inline std::filesystem::path golden_folder() {
  return std::filesystem::path(MORA_SOURCE_DIR) / "tests" / "golden";
}

inline OwnedTensor read_tensor(const SafetensorsFile& file, const std::string& name, DType dtype) {
  const TensorInfo& info = file.info(name);
  OwnedTensor tensor({dtype, Shape(std::span<const int64_t>(info.shape))});
  file.read(name, tensor.view());
  return tensor;
}

inline std::vector<double> read_doubles(const SafetensorsFile& file, const std::string& name) {
  const OwnedTensor t = read_tensor(file, name, DType::f64);
  return {t.as<double>().begin(), t.as<double>().end()};
}

inline std::vector<int32_t> read_ints(const SafetensorsFile& file, const std::string& name) {
  const OwnedTensor t = read_tensor(file, name, DType::i32);
  return {t.as<int32_t>().begin(), t.as<int32_t>().end()};
}

// max |got - expected| / max |expected|
inline double relative_error(const Tensor& got, const std::vector<double>& expected) {
  OwnedTensor wide({DType::f64, got.shape()});
  convert(got, wide.view());
  const auto g = wide.as<double>();
  REQUIRE(g.size() == expected.size());
  double error = 0, scale = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    error = worse(error, std::fabs(g[i] - expected[i]));
    scale = std::max(scale, std::fabs(expected[i]));
  }
  return scale > 0 ? error / scale : error;
}

}  // namespace mora::testing
