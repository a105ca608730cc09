// LLaMA in GGUF: what its tensors are called there, which rows of them are in another order, and
// how its shape is written down.
//
// GGUF keeps the rows of q and k so that the two numbers RoPE turns together are neighbours; we
// (as transformers) keep the halves of a head apart. Both directions are permutations.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mora/io/gguf.hpp"
#include "mora/models/llama.hpp"

namespace mora {

struct LlamaGgufTensor {
  std::string name;            // Hugging Face's
  std::string gguf;            // GGUF's
  std::vector<int64_t> shape;  // row-major
  bool rotated = false;        // q or k: rows reordered by head
};

// All tensors of the model, in the order of the layers.
std::vector<LlamaGgufTensor> llama_gguf_tensors(const LlamaConfig& config);

// Where row `row` of q or k (of ours, of GGUF's) stands in the other layout.
int64_t gguf_row(int64_t row, int64_t head_dim);
int64_t half_split_row(int64_t row, int64_t head_dim);

// A llama3 RoPE: frequencies with a wavelength above original / low are divided by factor, those
// below original / high stay, between them the two are blended.
struct Llama3Rope {
  double factor = 8, low = 1, high = 4, original = 8192;
};

// The divisor of each of the head_dim / 2 frequencies, as `rope_freqs.weight` has them.
std::vector<float> llama3_divisors(const Llama3Rope& rope, double theta, int64_t head_dim);

// Parameters that give these divisors but for the rounding of floats, or nothing. `originals` are
// lengths worth trying where the divisors alone do not tell.
std::optional<Llama3Rope> find_llama3(std::span<const float> divisors, double theta,
                                      std::span<const double> originals);

// What a GGUF's metadata and tensor list say of the model.
struct LlamaGguf {
  LlamaConfig config;
  std::optional<int64_t> bos, eos, pad;  // token ids
  double linear_factor = 1;              // of RoPE
  std::optional<Llama3Rope> llama3;
};

// Error(data) names file and key or tensor: another architecture, a key of the model that this
// program does not know (it would be another model), values out of range, and all missing,
// unexpected and wrongly shaped tensors together.
LlamaGguf read_llama_gguf(const GgufFile& file);

// The keys of the model ("general.architecture" and "llama.*").
void add_llama_keys(GgufMetadata& metadata, const LlamaGguf& model);

}  // namespace mora
