// Layouts of instruction data: what the keys of a row are called and how they make a conversation.
//
//   alpaca             instruction, input (may be missing), output
//   prompt_completion  prompt, completion
//   messages           messages: [{role, content}]                      (OpenAI, Tulu)
//   sharegpt           conversations: [{from, value}]; human, gpt or the roles themselves
//   metamath           query, response; the query's first line is the instruction, what follows its
//                      input, as the MoRA authors read MetaMathQA
//   gsm8k              question, answer ending in "#### N"; as in MetaMathQA, calculator marks
//                      "<<...>>" go and "The answer is: N" ends the answer
//   math               problem, solution with \boxed{}; "The answer is: " and its content ends it
//   tokenized          input_ids; labels and attention_mask may be missing (docs/data.md)
//   auto               the layout whose keys the first row has
//
// A "system" beside alpaca, messages or sharegpt is the conversation's first message. What would
// change the meaning of a row and has no place here (tools, weights of messages) is refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "mora/data/conversation.hpp"

namespace mora {

enum class BadRows { error, skip };

struct RowFiles {
  std::vector<std::filesystem::path> files;  // .jsonl, .json (one array), .gz of both
  std::string layout = "auto";
  std::vector<std::string> columns;  // "prompt=question": the layout's key = the file's
  BadRows bad_rows = BadRows::error;
  int32_t vocab_size = 0;  // ids of tokenised rows are below
};

struct RowCounts {
  int64_t read = 0, skipped = 0;
  std::string first_problem;  // of a skipped row

  bool operator==(const RowCounts&) const = default;
};

// Calls row(conversation) for each row, file by file. Error(data) with file, line, column and key
// for a row that does not have the layout; Error(usage) for unknown columns or a file of another
// kind.
RowCounts read_conversations(const RowFiles& source,
                             const std::function<void(Conversation conversation)>& row);

// What stands in the last \boxed{...} (or "\boxed x", "\fbox{...}") of a MATH solution; "" if there
// is none. Hendrycks' last_boxed_only_string and remove_boxed.
std::string last_boxed(const std::string& solution);

}  // namespace mora
