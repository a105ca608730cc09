// Text to token ids and back.
//
// Invariant: encode(a) followed by encode_continuation(b) has encode(a) as its prefix, whatever b
// is. A prompt encoded alone is therefore exactly what a model saw in training when prompt and
// answer were encoded as two parts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mora {

// All members may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids of UTF-8 text that begins a sequence; no BOS or EOS is added. Bytes that are not UTF-8
  // become U+FFFD. Where the text holds a token that a file adds to the model's own (such as
  // "<|im_end|>"), that is the token.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;

  // The ids of text that a prompt format or a chat template wrote: as encode(), but where it holds
  // BOS, EOS or a control piece of a SentencePiece model, that is the token, too.
  virtual std::vector<int32_t> encode_formatted(std::string_view text) const = 0;

  // The ids of text that follows other text: as encode(), but without the space that some models
  // (LLaMA's among them) put before the first word, and with leading white space kept.
  virtual std::vector<int32_t> encode_continuation(std::string_view text) const = 0;

  // The text of a sequence. BOS, EOS and other special tokens are nothing, and so is an id that no
  // token has: a model may have more rows than there are tokens, and sample one. A space that
  // encode() would have put in front is taken off. A negative id is Error(data).
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;

  virtual int32_t vocab_size() const = 0;  // one more than the largest id
  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;

  // Whether a sequence that a model reads begins with BOS, ends with EOS. encode() adds neither.
  virtual bool adds_bos() const = 0;
  virtual bool adds_eos() const = 0;

  // One entry of the vocabulary as the model writes it, e.g. "▁the" or "<0x0A>". Error(data) for an
  // id that no token has.
  virtual std::string piece(int32_t id) const = 0;
};

// Opens a Hugging Face tokenizer.json with a BPE model or a SentencePiece model: the file (told
// apart by its content), or in a folder tokenizer.json if it is there, else tokenizer.model. Added
// tokens, BOS, EOS and whether these two are put around a text come from the file and from those
// beside it; docs/tokenizers.md has the rules and the components that are supported. A missing
// file, one that is neither, or one that needs what is not supported is Error(data).
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& file_or_folder);

// A hash of the files that load_tokenizer() and chat templates read there: what decides about ids.
std::string tokenizer_sha256(const std::filesystem::path& file_or_folder);

// Copies, unchanged, what a model needs beside its weights to read and write text: all the files
// that transformers knows in a folder (tokenizer, chat template, generation_config.json), or the
// one file under the name that transformers gives its kind.
void copy_tokenizer(const std::filesystem::path& file_or_folder,
                    const std::filesystem::path& to_folder);

}  // namespace mora
