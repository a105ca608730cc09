// Every step rounds where transformers' tensors round: to float after each operation. There, a
// number divided by a tensor is the tensor's reciprocal times the number.
#include "models/rope_table.hpp"

#include <cmath>
#include <numbers>

#include "mora/core/parallel.hpp"

namespace mora {

namespace {

// theta (factor n / max - (factor - 1))^(K / (K - 2)) for n positions; plain, but for rounding,
// when n <= max. Longer sequences count in a tensor there, so their theta is a float from the
// start.
float dynamic_theta(const LlamaConfig& config, int64_t longest) {
  const double factor = config.rope_scaling.factor;
  const auto dim = static_cast<double>(config.head_dim), exponent = dim / (dim - 2);
  const auto most = static_cast<double>(config.max_position_embeddings);
  if (longest <= config.max_position_embeddings) {
    return static_cast<float>(config.rope_theta *
                              std::pow(factor * most / most - (factor - 1), exponent));
  }
  const float stretched =
      static_cast<float>(factor) * static_cast<float>(longest) / static_cast<float>(most);
  return static_cast<float>(config.rope_theta) *
         std::pow(stretched - static_cast<float>(factor - 1), static_cast<float>(exponent));
}

// L = original_max_position_embeddings, w = wavelength: above L / low divided by factor, below
// L / high kept, between them blended by s = (L / w - low) / (high - low).
float llama3_frequency(float frequency, const RopeScaling& r) {
  const auto length = static_cast<double>(r.original_max_position_embeddings);
  const auto factor = static_cast<float>(r.factor);
  const float wavelength = 1.0f / frequency * static_cast<float>(2 * std::numbers::pi);
  if (wavelength > static_cast<float>(length / r.low_freq_factor)) return frequency / factor;
  if (wavelength < static_cast<float>(length / r.high_freq_factor)) return frequency;
  const float turns = 1.0f / wavelength * static_cast<float>(length);
  const float s = (turns - static_cast<float>(r.low_freq_factor)) /
                  static_cast<float>(r.high_freq_factor - r.low_freq_factor);
  return (1.0f - s) * frequency / factor + s * frequency;
}

}  // namespace

std::vector<float> rope_frequencies(const LlamaConfig& config, int64_t longest) {
  const RopeScaling& scaling = config.rope_scaling;
  const float theta = scaling.type == RopeType::dynamic ? dynamic_theta(config, longest)
                                                        : static_cast<float>(config.rope_theta);
  std::vector<float> frequencies;
  for (int64_t i = 0; i < config.head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(config.head_dim);
    const float plain = 1.0f / std::pow(theta, exponent);
    switch (scaling.type) {
      case RopeType::standard:
      case RopeType::dynamic:
        frequencies.push_back(plain);
        break;
      case RopeType::linear:
        frequencies.push_back(plain / static_cast<float>(scaling.factor));
        break;
      case RopeType::llama3:
        frequencies.push_back(llama3_frequency(plain, scaling));
        break;
    }
  }
  return frequencies;
}

OwnedTensor make_rope_table(const LlamaConfig& config, int64_t longest, DType dtype) {
  const int64_t width = config.head_dim;
  OwnedTensor table({DType::f32, {longest, width}});
  const std::vector<float> frequencies = rope_frequencies(config, longest);
  const auto t = table.as<float>();
  parallel_pieces(longest, 256, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      float* row = t.data() + p * width;
      for (size_t i = 0; i < frequencies.size(); ++i) {
        const float angle = static_cast<float>(p) * frequencies[i];
        row[i] = std::cos(angle);
        row[frequencies.size() + i] = std::sin(angle);
      }
    }
  });
  if (dtype == DType::f32) return table;
  OwnedTensor converted({dtype, table.view().shape()});
  convert(table.view(), converted.view());
  return converted;
}

}  // namespace mora
