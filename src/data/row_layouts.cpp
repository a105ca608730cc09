#include "mora/data/row_layouts.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>

#include "data/json_lines.hpp"
#include "data/tokenized_rows.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

// One row under the layout's own names of keys.
class Row {
 public:
  Row(const JsonView& json, const std::map<std::string, std::string, std::less<>>& columns,
      int32_t vocab_size)
      : json_(json), columns_(columns), vocab_size_(vocab_size) {}

  int32_t vocab_size() const { return vocab_size_; }

  JsonView at(std::string_view key) const { return json_.at(name(key)); }
  std::string text(std::string_view key) const { return at(key).string(); }
  std::string text_or_nothing(std::string_view key) const {
    return json_.has(name(key)) ? text(key) : "";
  }
  bool has(std::string_view key) const { return json_.has(name(key)); }

 private:
  std::string name(std::string_view key) const {
    const auto found = columns_.find(key);
    return found == columns_.end() ? std::string(key) : found->second;
  }

  const JsonView& json_;
  const std::map<std::string, std::string, std::less<>>& columns_;
  int32_t vocab_size_;
};

Conversation question_and_answer(std::string question, std::string answer) {
  return {.messages = {{.role = std::string(kUser), .content = std::move(question)},
                       {.role = std::string(kAssistant), .content = std::move(answer)}},
          .input = {},
          .place = {},
          .tokenized = {}};
}

// Parts that nothing here has a place for, and without which a conversation means something else.
void refuse(const auto& row, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (!row.has(key)) continue;
    const JsonView part = row.at(key);
    if (part.json().empty() || part.json() == "") continue;
    part.wrong(
        "is not supported, and without it the row would mean something else; leave such rows out, "
        "or skip them with data.bad_rows");
  }
}

// With the system's message, where it stands beside the others.
Conversation with_columns(const Row& row, Conversation c) {
  refuse(row, {"tools", "functions"});
  std::string system = row.text_or_nothing("system");
  if (system.empty()) return c;
  if (std::ranges::find(c.messages, kSystem, &Message::role) != c.messages.end())
    row.at("system").wrong("the conversation has a system message of its own");
  c.messages.insert(c.messages.begin(),
                    {.role = std::string(kSystem), .content = std::move(system)});
  return c;
}

Conversation read_alpaca(const Row& row) {
  refuse(row, {"history"});
  Conversation c = question_and_answer(row.text("instruction"), row.text("output"));
  c.input = row.text_or_nothing("input");
  return with_columns(row, std::move(c));
}

Conversation read_prompt_completion(const Row& row) {
  return question_and_answer(row.text("prompt"), row.text("completion"));
}

std::string role_of(const JsonView& name) {
  static const std::map<std::string, std::string_view> kRoles = {
      {"system", kSystem},       {"user", kUser},     {"human", kUser},
      {"assistant", kAssistant}, {"gpt", kAssistant}, {"model", kAssistant},
      {"chatgpt", kAssistant},   {"bing", kAssistant}};
  const auto found = kRoles.find(name.string());
  if (found == kRoles.end()) name.wrong("expected a role: system, user or assistant");
  return std::string(found->second);
}

Message read_turn(const JsonView& turn, std::string_view role, std::string_view content) {
  refuse(turn, {"tool_calls", "function_call"});
  Message m{.role = role_of(turn.at(role)), .content = {}};
  if (m.role == kAssistant && turn.has("weight") && turn.at("weight").number() != 1)
    turn.at("weight").wrong("expected 1: all answers of a conversation are trained alike");
  m.content = turn.at(content).string();
  return m;
}

Conversation read_turns(const JsonView& list, std::string_view role, std::string_view content) {
  Conversation c;
  for (const JsonView& turn : list.items()) c.messages.push_back(read_turn(turn, role, content));
  const auto answers = [](const Message& m) { return m.role == kAssistant; };
  if (std::ranges::none_of(c.messages, answers)) list.wrong("no message is the assistant's");
  return c;
}

Conversation read_messages(const Row& row) {
  return with_columns(row, read_turns(row.at("messages"), "role", "content"));
}

Conversation read_sharegpt(const Row& row) {
  return with_columns(row, read_turns(row.at("conversations"), "from", "value"));
}

Conversation read_metamath(const Row& row) {
  const std::string query = row.text("query");
  const size_t end = query.find('\n');
  Conversation c = question_and_answer(query.substr(0, end), row.text("response"));
  if (end != query.npos) c.input = query.substr(end + 1);
  return c;
}

// "<<48/2=24>>24" is "24".
std::string without_calculator(const std::string& answer) {
  std::string out;
  for (size_t at = 0; at < answer.size();) {
    const size_t open = answer.find("<<", at);
    const size_t close = open == answer.npos ? answer.npos : answer.find(">>", open);
    out += answer.substr(at, close == answer.npos ? answer.npos : open - at);
    at = close == answer.npos ? answer.size() : close + 2;
  }
  return out;
}

Conversation read_gsm8k(const Row& row) {
  const std::string answer = row.text("answer");
  const size_t mark = answer.rfind("#### ");
  if (mark == answer.npos)
    row.at("answer").wrong(
        "expected \"#### \" and the result at the end; for other answers name "
        "data.layout prompt_completion and data.columns");
  return question_and_answer(
      row.text("question"),
      str(without_calculator(answer), "\nThe answer is: ", answer.substr(mark + 5)));
}

Conversation read_math(const Row& row) {
  const std::string solution = row.text("solution"), answer = last_boxed(solution);
  if (answer.empty()) row.at("solution").wrong("expected the result in \\boxed{}");
  return question_and_answer(row.text("problem"), str(solution, "\nThe answer is: ", answer));
}

Conversation read_tokenized_row(const Row& row) {
  const auto optional = [&](std::string_view key) {
    return row.has(key) ? std::optional(row.at(key)) : std::nullopt;
  };
  Conversation c;
  c.tokenized = read_tokenized({.input_ids = row.at("input_ids"),
                                .labels = optional("labels"),
                                .attention_mask = optional("attention_mask")},
                               row.vocab_size());
  return c;
}

struct Layout {
  std::string_view name;
  std::array<std::string_view, 4> keys;  // what a row must have first; an optional one behind "?"
  Conversation (*read)(const Row&);
};

constexpr Layout kLayouts[] = {
    {"messages", {"messages", "?system"}, read_messages},
    {"sharegpt", {"conversations", "?system"}, read_sharegpt},
    {"alpaca", {"instruction", "output", "?input", "?system"}, read_alpaca},
    {"prompt_completion", {"prompt", "completion"}, read_prompt_completion},
    {"metamath", {"query", "response"}, read_metamath},
    {"gsm8k", {"question", "answer"}, read_gsm8k},
    {"math", {"problem", "solution"}, read_math},
    {"tokenized", {"input_ids", "?labels", "?attention_mask"}, read_tokenized_row},
};

bool fits(const Layout& layout, const Row& row) {
  return std::ranges::all_of(layout.keys, [&](std::string_view key) {
    return key.empty() || key.front() == '?' || row.has(key);
  });
}

bool has_key(const Layout& layout, std::string_view key) {
  return !key.empty() && std::ranges::any_of(layout.keys, [&](std::string_view k) {
    return (k.starts_with('?') ? k.substr(1) : k) == key;
  });
}

class Reader {
 public:
  explicit Reader(const RowFiles& source) : vocab_size_(source.vocab_size) {
    for (const Layout& layout : kLayouts) {
      if (layout.name == source.layout) layout_ = &layout;
    }
    ensure(layout_ != nullptr || source.layout == "auto", "layout ", source.layout);
    for (const std::string& column : source.columns) add_column(column);
  }

  Conversation read(const JsonView& json) {
    const Row row(json, columns_, vocab_size_);
    if (layout_ == nullptr) layout_ = &find_layout(json, row);
    return layout_->read(row);
  }

 private:
  void add_column(const std::string& column) {
    const size_t equals = column.find('=');
    const std::string key = column.substr(0, equals);
    const auto knows = [&](const Layout& layout) {
      return (layout_ == nullptr || layout_ == &layout) && has_key(layout, key);
    };
    if (equals == column.npos || equals + 1 == column.size() ||
        std::ranges::none_of(kLayouts, knows)) {
      fail(ErrorKind::usage, "data.columns: \"", printable(column),
           "\": expected a key of the layout = the file's name for it, such as "
           "\"prompt=question\"");
    }
    columns_[key] = column.substr(equals + 1);
  }

  static const Layout& find_layout(const JsonView& json, const Row& row) {
    const auto* found =
        std::ranges::find_if(kLayouts, [&](const Layout& l) { return fits(l, row); });
    if (found != std::end(kLayouts)) return *found;
    std::string keys, layouts;
    for (const auto& [key, value] : json.members())
      keys += str(keys.empty() ? "" : ", ", printable(key, 60));
    for (const Layout& layout : kLayouts) layouts += str(layouts.empty() ? "" : ", ", layout.name);
    json.wrong(str("the keys (", keys, ") are those of no layout; name data.layout (", layouts,
                   ") and data.columns"));
  }

  const Layout* layout_ = nullptr;  // null: that of the first row
  std::map<std::string, std::string, std::less<>> columns_;
  int32_t vocab_size_;
};

}  // namespace

std::string last_boxed(const std::string& solution) {
  constexpr std::string_view kOpen = "\\boxed ";
  if (const size_t open = solution.rfind(kOpen); open != solution.npos) {
    const size_t begin = open + kOpen.size();
    return solution.substr(begin, solution.find('$', begin) - begin);
  }
  size_t at = solution.rfind("\\boxed");
  if (at == solution.npos) at = solution.rfind("\\fbox");
  if (at == solution.npos) return "";
  const size_t begin = solution.find('{', at);
  if (begin == solution.npos) return "";
  int depth = 0;
  for (size_t i = begin; i < solution.size(); ++i) {
    if (solution[i] == '{') ++depth;
    if (solution[i] == '}' && --depth == 0) return solution.substr(begin + 1, i - begin - 1);
  }
  return "";
}

RowCounts read_conversations(const RowFiles& source,
                             const std::function<void(Conversation conversation)>& row) {
  Reader reader(source);
  RowCounts counts;
  const BadRow skip = [&](const Error& problem) {
    if (counts.skipped++ == 0) counts.first_problem = problem.what();
  };
  for (const auto& path : source.files) {
    read_json_rows(
        path,
        [&](const JsonView& json) {
          Conversation conversation = reader.read(json);
          conversation.place = json.place();
          ++counts.read;
          row(std::move(conversation));
        },
        source.bad_rows == BadRows::skip ? skip : BadRow());
  }
  return counts;
}

}  // namespace mora
