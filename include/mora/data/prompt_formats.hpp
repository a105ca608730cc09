// Prompt formats: a conversation as one text, with the parts that are learnt marked where they are
// written. Masks come from these marks, never from searching the text.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "mora/data/conversation.hpp"

namespace mora {

struct MarkedText {
  std::string text;
  std::vector<std::pair<size_t, size_t>> trained;  // byte ranges [begin, end), ascending
  PromptKind kind = PromptKind::formatted;         // how it becomes tokens
};

// Error(data) where the conversation does not fit the format.
using PromptFormat = std::function<MarkedText(const Conversation&)>;

// Alpaca's prompt (with and without input), the answer directly behind "### Response:", EOS: as the
// MoRA authors and MetaMath train. One question, one answer.
PromptFormat alpaca_format(std::string eos);

// Tulu v2 (open-instruct): "<|user|>\n" ... "<|assistant|>\n" answer EOS "\n"; contents and the
// whole are stripped. The line break behind an answer that is not the last counts as learnt, as in
// open-instruct.
PromptFormat tulu_format(std::string eos);

// What the user says, what the assistant answers, EOS, and nothing else. One question, one answer.
PromptFormat plain_format(std::string eos);

// A chat template. What the assistant says is what its {% generation %} blocks mark; without them
// what it adds to the text that prompts for an answer, without white space at the end.
PromptFormat chat_format(ModelChat chat);

}  // namespace mora
