// Chat templates: a conversation as the text that a model was trained on.
//
// A template is rendered byte for byte as transformers renders it with Jinja 2, by a subset of that
// language; one that uses more is refused by name, never rendered otherwise. A template is a
// program of somebody else: its time, its memory and its depth are bounded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mora/text/tokenizer.hpp"

namespace mora {

struct ContentPart {
  std::string type = "text";
  std::string text = {};
};

struct Message {
  std::string role;  // "system", "user", "assistant", or what else the template knows
  std::string content = {};
  // When not empty, the template gets this list instead of `content`.
  std::vector<ContentPart> parts = {};
};

struct ChatVariables {
  // Texts of special tokens by name: bos_token, eos_token ... A missing one is undefined.
  std::map<std::string, std::string> tokens = {};
  bool add_generation_prompt = false;  // end with what begins an assistant's answer
  // The date and time of strftime_now(), in seconds since 1970, local time; now when left out.
  std::optional<int64_t> time = {};
};

struct RenderedChat {
  std::string text;
  // Byte ranges [begin, end) of the {% generation %} blocks: what the assistant says.
  std::vector<std::pair<size_t, size_t>> assistant;
};

class ChatTemplate {
 public:
  // `name` stands in messages. Error(data) with name and line for a template that is not correct or
  // needs what is not supported.
  ChatTemplate(std::string_view source, std::string name);

  // Error(data) for what the template refuses (raise_exception) or cannot do with these messages.
  RenderedChat render(std::span<const Message> messages, const ChatVariables& variables) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

// Our own templates of well-known formats: chatml, llama2, llama3, zephyr, mistral, alpaca, plain.
std::span<const std::string_view> built_in_chat_templates();
ChatTemplate built_in_chat_template(std::string_view name);  // Error(usage) for any other name

// A built-in template by its name, or the template in a file.
ChatTemplate open_chat_template(const std::string& name_or_file);

struct ModelChat {
  std::optional<ChatTemplate> chat_template;  // none: the model has none
  std::map<std::string, std::string> tokens;  // texts of special tokens, for ChatVariables
  std::string warning;                        // one line, or empty
};

// What a model folder says about chat: chat_template.jinja, which wins, or chat_template in
// tokenizer_config.json (a string, or a list of which "default" is taken); special tokens from that
// file, BOS and EOS from the tokenizer where it names none. With `use_template` no, the template is
// not looked at: for who brings another one.
enum class UseTemplate : uint8_t { no, yes };
ModelChat read_model_chat(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                          UseTemplate use_template);

// The ids of a prompt. BOS is never there twice: a text that begins with the BOS token keeps that
// one.
enum class PromptKind : uint8_t {
  text,       // what a user wrote; BOS in front where the tokenizer adds one
  formatted,  // by a prompt format: encode_formatted(); BOS as for text
  rendered    // by a chat template: the same, but nothing is added (transformers'
              // apply_chat_template)
};
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view text,
                                   PromptKind kind);

}  // namespace mora
