// LLaMA, exactly as transformers' LlamaForCausalLM: RMSNorm, half-split RoPE, grouped-query
// attention, SwiGLU, tied or untied output. Parameters carry the Hugging Face names by
// construction.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mora/io/safetensors_folder.hpp"
#include "mora/nn/linear.hpp"

namespace mora {

// How positions become angles beyond the plain rule; the names are transformers'.
//   linear:  every frequency divided by factor
//   dynamic: plain up to max_position_embeddings, a larger theta for longer sequences
//   llama3:  long wavelengths divided by factor, short ones kept, those between blended
enum class RopeType : uint8_t { standard, linear, dynamic, llama3 };

struct RopeScaling {
  RopeType type = RopeType::standard;                // "default" in files
  double factor = 1;                                 // at least 1; of every type but standard
  double low_freq_factor = 1, high_freq_factor = 4;  // of llama3, as is the next
  int64_t original_max_position_embeddings = 8192;

  bool operator==(const RopeScaling&) const = default;
};

struct LlamaConfig {
  int64_t vocab_size = 32000;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 32;
  int64_t head_dim = 128;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling = {};
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // q, k, v and o
  bool mlp_bias = false;        // gate, up and down
  std::optional<int64_t> bos_token_id = 1;
  std::vector<int64_t> eos_token_ids = {2};  // any of them ends a text; none: nothing does
  std::optional<int64_t> pad_token_id = {};  // kept for other programs

  bool operator==(const LlamaConfig&) const = default;
};

// Reads an HF config.json, of transformers 4 or 5 (docs/models.md). Missing keys take transformers'
// defaults; what is not supported (another architecture, activation or RoPE, quantized weights) is
// Error(data) naming file and key, never ignored.
LlamaConfig read_llama_config(const std::filesystem::path& file);
// The text of a config.json that both versions read.
std::string to_json_text(const LlamaConfig& config, DType dtype);

// How the layers attend: packed sequences when training, a cache when generating.
//   attend(layer, q, k, v) -> [T, heads * head_dim], q and k already rotated
using Attend = std::function<Var(int64_t layer, Var q, Var k, Var v)>;

class Llama {
 public:
  // Declares the parameters in `store`; the caller allocates and fills them. `longest`: positions
  // that RoPE's table covers, 0 for max_position_embeddings. Under dynamic RoPE it also chooses the
  // frequencies of all sequences, those that transformers gives a sequence of this length.
  Llama(const LlamaConfig& config, ParameterStore& store, Training training, int64_t longest = 0);

  // The normed hidden states [T, D] of tokens [T] i32 at positions [T] i32.
  Var hidden(Context& context, Var tokens, Var positions, const Attend& attend) const;
  Var output_weight(Context& context) const;  // [V, D]: lm_head, or the embedding when tied

  // The attention over packed segments, for hidden().
  Attend packed_attention(Var segment_start) const;

  const LlamaConfig& config() const { return config_; }
  int64_t longest() const { return rope_table_.view().shape()[0]; }
  AttentionAttrs attention_attrs() const;
  std::vector<Linear*> linears();

 private:
  struct Layer {
    const Parameter *input_layernorm, *post_attention_layernorm;
    Linear q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj;
  };
  Var embed(Context& context, Var tokens) const;
  Var norm(Context& context, std::string_view name, const Parameter& weight, Var x) const;
  Var self_attn(Context& context, int64_t index, Var x, Var positions, const Attend& attend,
                Remembered remembered) const;
  static Var mlp(Context& context, const Layer& l, Var x);
  Var layer(Context& context, int64_t index, Var x, Var positions, const Attend& attend) const;

  LlamaConfig config_;
  const Parameter *embed_tokens_, *norm_, *lm_head_ = nullptr;
  std::deque<Layer> layers_;
  OwnedTensor rope_table_;
};

inline constexpr uint64_t kMaxShardBytes = 5'000'000'000;  // as transformers writes them

// Hugging Face folders, in one file or in shards. load_weights fills every declared parameter that
// the folder should hold (adapters' are not in it); check_weights lists all missing, unexpected and
// wrongly shaped tensors in one Error(data).
void check_weights(const SafetensorsFolder& folder, const ParameterStore& store,
                   const LlamaConfig& config);
void load_weights(ParameterStore& store, const LlamaConfig& config,
                  const std::filesystem::path& folder);
// The 16-bit type of all matrices of the folder; f32 when they are wider or of several types. A
// store that keeps frozen matrices in this type loses nothing.
DType stored_matrix_type(const SafetensorsFolder& folder);
void save_model(const std::filesystem::path& folder, const LlamaConfig& config,
                const ParameterStore& store, DType dtype);

}  // namespace mora
