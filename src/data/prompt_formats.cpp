#include "mora/data/prompt_formats.hpp"

#include <algorithm>

#include "mora/core/error.hpp"
#include "text/template_strings.hpp"

namespace mora {

namespace {

class Writer {
 public:
  void add(std::string_view text) { marked_.text += text; }
  void add_trained(std::string_view text) {
    const size_t begin = marked_.text.size();
    marked_.text += text;
    marked_.trained.emplace_back(begin, marked_.text.size());
  }
  MarkedText finish() { return std::move(marked_); }
  MarkedText finish_stripped() {
    std::string& text = marked_.text;
    text.resize(jinja::strip(text, jinja::Side::right).size());
    for (auto& [begin, end] : marked_.trained) {
      begin = std::min(begin, text.size());
      end = std::min(end, text.size());
    }
    return finish();
  }

 private:
  MarkedText marked_;
};

std::string_view strip(std::string_view text) {
  return jinja::strip(text, jinja::Side::both);
}

struct Exchange {
  std::string_view question, answer;
};

Exchange only_exchange(const Conversation& c, std::string_view format) {
  const auto& m = c.messages;
  if (m.size() != 2 || m[0].role != kUser || m[1].role != kAssistant) {
    fail(ErrorKind::data, "the prompt format \"", format,
         "\" takes one question of the user and one answer of the assistant; this row has ",
         m.size(), " messages; name another data.prompt_format, such as tulu or chat");
  }
  return {m[0].content, m[1].content};
}

// The conversation with Alpaca's input below the instruction.
std::vector<Message> with_input(const Conversation& c) {
  std::vector<Message> messages = c.messages;
  if (!c.input.empty())
    std::ranges::find(messages, kUser, &Message::role)->content += "\n" + c.input;
  return messages;
}

}  // namespace

PromptFormat alpaca_format(std::string eos) {
  return [eos = std::move(eos)](const Conversation& c) {
    const auto [question, answer] = only_exchange(c, "alpaca");
    Writer w;
    w.add("Below is an instruction that describes a task");
    w.add(c.input.empty() ? ". " : ", paired with an input that provides further context. ");
    w.add("Write a response that appropriately completes the request.\n\n### Instruction:\n");
    w.add(question);
    if (!c.input.empty()) {
      w.add("\n\n### Input:\n");
      w.add(c.input);
    }
    w.add("\n\n### Response:");
    w.add_trained(str(answer, eos));
    return w.finish();
  };
}

PromptFormat tulu_format(std::string eos) {
  return [eos = std::move(eos)](const Conversation& c) {
    Writer w;
    for (const Message& m : with_input(c)) {
      w.add(str("<|", m.role, "|>\n"));
      if (m.role == kAssistant) {
        w.add_trained(str(strip(m.content), eos, "\n"));
      } else {
        w.add(str(strip(m.content), "\n"));
      }
    }
    return w.finish_stripped();
  };
}

PromptFormat plain_format(std::string eos) {
  return [eos = std::move(eos)](const Conversation& c) {
    const auto [question, answer] = only_exchange(c, "plain");
    Writer w;
    w.add(question);
    if (!c.input.empty()) w.add(str("\n", c.input));
    w.add_trained(str(answer, eos));
    return w.finish();
  };
}

namespace {

// What the answer messages[i] adds to the text that prompts for it, in the whole conversation.
std::pair<size_t, size_t> answer_range(const ModelChat& chat, const std::string& whole,
                                       std::span<const Message> messages, size_t i) {
  const ChatTemplate& shape = *chat.chat_template;
  const std::string prompt =
      shape.render(messages.first(i), {.tokens = chat.tokens, .add_generation_prompt = true}).text;
  const std::string answered = shape.render(messages.first(i + 1), {.tokens = chat.tokens}).text;
  if (!answered.starts_with(prompt) || !whole.starts_with(answered)) {
    fail(ErrorKind::data,
         "the chat template writes the beginning of this conversation differently when more "
         "follows, so that it cannot be told what the assistant says; choose another "
         "data.chat_template, or add {% generation %} blocks to it");
  }
  const std::string_view trimmed = jinja::strip(answered, jinja::Side::right);
  return {prompt.size(), std::max(prompt.size(), trimmed.size())};
}

}  // namespace

PromptFormat chat_format(ModelChat chat) {
  ensure(chat.chat_template.has_value(), "a chat format without a template");
  return [chat = std::move(chat)](const Conversation& c) {
    const std::vector<Message> messages = with_input(c);
    RenderedChat rendered = chat.chat_template->render(messages, {.tokens = chat.tokens});
    MarkedText marked{std::move(rendered.text), std::move(rendered.assistant),
                      PromptKind::rendered};
    if (!marked.trained.empty()) return marked;
    for (size_t i = 0; i < messages.size(); ++i) {
      if (messages[i].role == kAssistant)
        marked.trained.push_back(answer_range(chat, marked.text, messages, i));
    }
    return marked;
  };
}

}  // namespace mora
