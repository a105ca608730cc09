// One row of an instruction data set: who said what, or the tokens of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mora/data/example.hpp"
#include "mora/text/chat_template.hpp"

namespace mora {

inline constexpr std::string_view kSystem = "system", kUser = "user", kAssistant = "assistant";

struct Conversation {
  std::vector<Message> messages;  // of these three roles, with `content` only
  // Alpaca's "input": what the instruction in the only user message is about. Formats without a
  // place of their own for it put it below the instruction.
  std::string input;
  std::string place;  // "file:line:column" of the row, for messages
  // Instead of all of that, a row may bring its tokens.
  Example tokenized;
};

}  // namespace mora
