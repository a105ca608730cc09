// Templates of well-known chat formats in our own words, rendered by the same engine as any other.
// Each takes contents that are lists of parts, and marks what the assistant says, its end token
// included.
#include <algorithm>
#include <array>

#include "mora/core/error.hpp"
#include "mora/io/text.hpp"
#include "mora/text/chat_template.hpp"

namespace mora {

namespace {

// The text of a content that is a string or a list of parts.
constexpr std::string_view kTextMacro = R"({%- macro words(content) -%}
{%- if content is string %}{{ content }}
{%- else %}{% for part in content %}{{ part.text }}{% endfor %}
{%- endif -%}
{%- endmacro -%}
)";

// Formats in which the system's text goes in front of the first user's: sets `system` and `turns`.
constexpr std::string_view kTurns = R"(
{%- set system = '' %}{% set turns = messages %}
{%- if messages and messages[0].role == 'system' %}
{%- set system = words(messages[0].content) %}{% set turns = messages[1:] %}
{%- endif %}
{%- for turn in turns %}
{%- if turn.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}
{{- raise_exception('after an optional system message, user and assistant must take turns') }}
{%- endif %}
{%- endfor %}
)";

constexpr std::string_view kChatml = R"(
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ words(message.content) + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ words(message.content) + '<|im_end|>' }}
{%- endif %}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
)";

constexpr std::string_view kLlama3 = R"(
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ words(message.content) | trim + '<|eot_id|>' }}{% endgeneration %}
{%- else %}{{ words(message.content) | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
)";

constexpr std::string_view kLlama2 = R"(
{%- for turn in turns %}
{%- if turn.role == 'user' %}
{{- bos_token + '[INST] ' }}
{%- if loop.first and system %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}
{{- words(turn.content) | trim + ' [/INST]' }}
{%- else %}
{%- generation %}{{ ' ' + words(turn.content) | trim + ' ' + eos_token }}{% endgeneration %}
{%- endif %}
{%- endfor %}
)";

constexpr std::string_view kMistral = R"(
{{- bos_token }}
{%- for turn in turns %}
{%- if turn.role == 'user' %}
{{- '[INST] ' + (system + '\n\n' if loop.first and system else '') }}
{{- words(turn.content) + ' [/INST]' }}
{%- else %}
{%- generation %}{{ ' ' + words(turn.content) | trim + eos_token }}{% endgeneration %}
{%- endif %}
{%- endfor %}
)";

constexpr std::string_view kZephyr = R"(
{%- for message in messages %}
{{- '<|' + message.role + '|>\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ words(message.content) + eos_token }}{% endgeneration %}
{%- else %}{{ words(message.content) + eos_token }}
{%- endif %}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
)";

constexpr std::string_view kAlpaca = R"(
{%- if system %}{{ system + '\n\n' }}{% endif %}
{%- for turn in turns %}
{%- if turn.role == 'user' %}
{{- '### Instruction:\n' + words(turn.content) + '\n\n### Response:\n' }}
{%- else %}
{%- generation %}{{ words(turn.content) + eos_token }}{% endgeneration %}{{ '\n\n' }}
{%- endif %}
{%- endfor %}
)";

constexpr std::string_view kPlain = R"(
{%- for message in messages %}
{{- message.role | capitalize + ': ' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ words(message.content) + eos_token }}{% endgeneration %}
{%- else %}{{ words(message.content) }}
{%- endif %}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}
)";

constexpr std::array<std::string_view, 7> kNames = {"chatml",  "llama2", "llama3", "zephyr",
                                                    "mistral", "alpaca", "plain"};
constexpr std::array<std::string_view, 7> kSources = {kChatml,  kLlama2, kLlama3, kZephyr,
                                                      kMistral, kAlpaca, kPlain};

}  // namespace

std::span<const std::string_view> built_in_chat_templates() {
  return kNames;
}

ChatTemplate built_in_chat_template(std::string_view name) {
  const auto at = std::ranges::find(kNames, name);
  if (at == kNames.end()) {
    std::string names;
    for (const std::string_view n : kNames) names += (names.empty() ? "" : ", ") + std::string(n);
    fail(ErrorKind::usage, "chat template \"", printable(name, 100),
         "\": expected a file, or one of ", names);
  }
  const std::string_view body = kSources[static_cast<size_t>(at - kNames.begin())];
  std::string source(kTextMacro);
  if (body.find("turns") != std::string_view::npos) source += kTurns;
  source += body;
  return {source, "chat template " + std::string(name)};
}

}  // namespace mora
