// mora-generate's three ways: one prompt, prompts from a file, a conversation. All of them go
// through answer().
#include "apps/generate.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "apps/stop_signals.hpp"
#include "apps/text_stream.hpp"
#include "data/json_lines.hpp"
#include "mora/adapters/files.hpp"
#include "mora/eval/generator.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"
#include "mora/text/chat_template.hpp"

namespace mora::apps {

namespace {

struct Prompt {
  std::string text;               // raw text, or empty
  std::vector<Message> messages;  // or a conversation
  std::string where;              // for messages
};

struct Answer {
  std::string text;
  const char* finish;  // "eos", "stop", "length", "interrupted"
  size_t prompt_tokens, tokens;
};

RunConfig run_config(const GenerateCommand& c) {
  RunConfig config;
  config.model.path = c.model;
  config.model.dtype = c.dtype;
  config.output_dir = c.model;
  config.engine.threads = c.threads;
  config.engine.device = c.device;
  if (c.adapter.empty()) {
    config.adapter.method = "full";
  } else {
    config.adapter = read_adapter_config(c.adapter);
  }
  return config;
}

// What a terminal must not be driven by becomes "?".
std::string harmless(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if ((static_cast<uint8_t>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F) c = '?';
  }
  return out;
}

class Generation {
 public:
  explicit Generation(const GenerateCommand& command)
      : command_(command),
        session_(run_config(command), Training::frozen),
        settings_(
            generate_settings(command, *session_.tokenizer, session_.model->config().vocab_size)) {
    if (!command.adapter.empty()) load_adapter(command.adapter, *session_.store);
    const bool own = command.chat_template.empty() && !command.raw;
    chat_ = read_model_chat(command.model, *session_.tokenizer,
                            own ? UseTemplate::yes : UseTemplate::no);
    for (const std::string& warning : {settings_.warning, chat_.warning}) {
      if (!warning.empty()) std::fprintf(stderr, "mora-generate: %s\n", warning.c_str());
    }
    if (!command.chat_template.empty())
      chat_.chat_template.emplace(open_chat_template(command.chat_template));
    if (command.system && !templated()) {
      fail(ErrorKind::usage, "--system: ", command.model.string(),
           " has no chat template, which a system message needs; choose one with --chat-template");
    }
  }

  int run() {
    signals_.defer();
    if (command_.chat) {
      converse();
    } else if (command_.prompt) {
      one(*command_.prompt);
    } else {
      many();
    }
    report();
    return signals_.received() == 0 ? 0 : 128 + signals_.received();
  }

 private:
  bool templated() const { return chat_.chat_template && !command_.raw; }
  std::vector<Message> opened(std::vector<Message> messages) const;
  std::vector<int32_t> tokens(const Prompt& prompt) const;
  Prompt wrapped(std::string text, std::string where) const;
  int64_t room(const std::vector<int32_t>& prompt, const std::string& where);
  void make_generator(int64_t batch, int64_t capacity);
  std::vector<Answer> answer(std::span<const std::vector<int32_t>> prompts, size_t first,
                             CacheUse cache);
  void show(std::string_view text);
  void record(const Prompt& prompt, const Answer& a);

  void one(std::string text);
  std::vector<Prompt> read_prompts() const;
  void many();
  void answer_batches(const std::vector<Prompt>& prompts,
                      const std::vector<std::vector<int32_t>>& ids, size_t batch);
  void converse();
  void report() const;

  const GenerateCommand& command_;
  StopSignals signals_;  // before the first parallel region
  Session session_;
  GenerateSettings settings_;
  ModelChat chat_;
  std::unique_ptr<Generator> generator_;
  std::string lines_;  // of --json
  bool show_ = false, cut_ = false;
};

// The messages behind --system, unless they have a system message of their own.
std::vector<Message> Generation::opened(std::vector<Message> messages) const {
  const auto of_system = [](const Message& m) { return m.role == "system"; };
  if (command_.system && std::ranges::none_of(messages, of_system))
    messages.insert(messages.begin(), {.role = "system", .content = *command_.system});
  return messages;
}

Prompt Generation::wrapped(std::string text, std::string where) const {
  if (text.empty()) fail(ErrorKind::usage, where, ": the prompt is empty");
  Prompt p{.text = {}, .messages = {}, .where = std::move(where)};
  if (!templated()) {
    p.text = std::move(text);
    return p;
  }
  p.messages = opened({{.role = "user", .content = std::move(text)}});
  return p;
}

std::vector<int32_t> Generation::tokens(const Prompt& prompt) const {
  if (prompt.messages.empty())
    return encode_prompt(*session_.tokenizer, prompt.text, PromptKind::text);
  ChatVariables v{.tokens = chat_.tokens};
  v.add_generation_prompt = true;
  return encode_prompt(*session_.tokenizer, chat_.chat_template->render(prompt.messages, v).text,
                       PromptKind::rendered);
}

// How many new tokens fit behind a prompt: at most what was asked for.
int64_t Generation::room(const std::vector<int32_t>& prompt, const std::string& where) {
  const int64_t longest = session_.model->longest(), n = static_cast<int64_t>(prompt.size());
  if (n == 0) fail(ErrorKind::usage, where, ": the prompt has no tokens");
  if (n >= longest) {
    fail(ErrorKind::data, where, ": the prompt has ", n, " tokens, but the model has ", longest,
         " positions (max_position_embeddings), of which an answer needs at least one; shorten it");
  }
  if (command_.max_new_tokens && n + settings_.max_new_tokens > longest && !cut_) {
    cut_ = true;
    std::fprintf(stderr,
                 "mora-generate: %s: only %lld of %lld new tokens fit the model's %lld positions\n",
                 where.c_str(), static_cast<long long>(longest - n),
                 static_cast<long long>(settings_.max_new_tokens), static_cast<long long>(longest));
  }
  return std::min(settings_.max_new_tokens, longest - n);
}

void Generation::make_generator(int64_t batch, int64_t capacity) {
  generator_ =
      std::make_unique<Generator>(*session_.model, *session_.store, GeneratorShape{batch, capacity},
                                  *session_.backend, session_.workspace);
}

void Generation::show(std::string_view text) {
  if (text.empty()) return;
  print(::isatty(STDOUT_FILENO) ? harmless(text) : std::string(text));
}

std::vector<Answer> Generation::answer(std::span<const std::vector<int32_t>> prompts, size_t first,
                                       CacheUse cache) {
  std::vector<TextStream> streams;
  std::vector<Answer> answers;
  GenerateOptions options{.max_new_tokens = settings_.max_new_tokens};
  for (const auto& prompt : prompts) {
    // An answer in a conversation is a text of its own; otherwise it goes on where the prompt ends.
    const auto before = templated() ? std::span<const int32_t>() : std::span<const int32_t>(prompt);
    streams.emplace_back(*session_.tokenizer, command_.stops, before);
    answers.push_back({"", "length", prompt.size(), 0});
    options.limits.push_back(room(prompt, "prompt"));
  }
  options.finished = [&](size_t p, std::span<const int32_t> made) {
    Answer& a = answers[p];
    a.tokens = made.size();
    const bool eos = std::ranges::find(settings_.ends, made.back()) != settings_.ends.end();
    const bool stop = !eos && streams[p].push(made.back());
    if (eos) a.finish = "eos";
    if (stop) a.finish = "stop";
    const bool interrupted = !eos && !stop && signals_.received() != 0;
    if (interrupted) a.finish = "interrupted";
    if (show_) show(streams[p].take());
    return eos || stop || interrupted;
  };
  options.sampling = settings_.sampling;
  options.first_sample = static_cast<uint32_t>(first);
  options.cache = cache;
  generator_->generate(prompts, options);
  for (size_t p = 0; p < answers.size(); ++p) {
    streams[p].finish();
    if (streams[p].stopped()) answers[p].finish = "stop";
    if (show_) show(streams[p].take());
    answers[p].text = streams[p].text();
  }
  return answers;
}

Json messages_json(const std::vector<Message>& messages) {
  Json list = Json::array();
  for (const Message& m : messages) {
    Json content = m.content;
    if (!m.parts.empty()) {
      content = Json::array();
      for (const ContentPart& p : m.parts) content.push_back({{"type", p.type}, {"text", p.text}});
    }
    list.push_back({{"role", m.role}, {"content", content}});
  }
  return list;
}

std::string json_line(const Prompt& prompt, const Answer& a) {
  Json line;
  if (prompt.messages.empty()) {
    line["prompt"] = prompt.text;
  } else {
    line["messages"] = messages_json(prompt.messages);
  }
  line["text"] = a.text;
  line["finish"] = a.finish;
  line["prompt_tokens"] = a.prompt_tokens;
  line["new_tokens"] = a.tokens;
  return dump_json(line) + "\n";
}

void Generation::record(const Prompt& prompt, const Answer& a) {
  if (command_.json.empty()) return;
  lines_ += json_line(prompt, a);
  write_file_atomically(command_.json, lines_);
}

void Generation::one(std::string text) {
  if (text == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (text.ends_with('\n')) text.pop_back();
  }
  const Prompt prompt = wrapped(std::move(text), "--prompt");
  const std::vector<std::vector<int32_t>> ids = {tokens(prompt)};
  make_generator(1, static_cast<int64_t>(ids[0].size()) + room(ids[0], prompt.where));
  show_ = true;
  const Answer a = answer(ids, 0, CacheUse::fresh)[0];
  if (!a.text.ends_with('\n')) print("\n");
  record(prompt, a);
}

Message message(const JsonView& v) {
  Message m{.role = v.at("role").string()};
  const JsonView content = v.at("content");
  if (!content.json().is_array()) {
    m.content = content.string();
    return m;
  }
  for (const JsonView& part : content.items())
    m.parts.push_back({part.at("type").string(), part.at("text").string()});
  if (m.parts.empty()) content.wrong("expected at least one part");
  return m;
}

std::vector<Prompt> Generation::read_prompts() const {
  std::vector<Prompt> prompts;
  const std::string name = command_.prompts.string();
  const bool json = name.ends_with(".jsonl") || name.ends_with(".jsonl.gz");
  const auto where = [&] { return str(name, ": prompt ", prompts.size() + 1); };
  if (!json) {
    read_lines(command_.prompts, [&](int64_t, std::string_view line) {
      if (!line.empty()) prompts.push_back(wrapped(std::string(line), where()));
    });
    return prompts;
  }
  read_json_lines(command_.prompts, [&](const JsonView& row) {
    if (!row.has("messages")) {
      const std::string text = row.at("prompt").string();
      if (text.empty()) row.at("prompt").wrong("the prompt is empty");
      prompts.push_back(wrapped(text, where()));
      return;
    }
    if (!templated())
      row.at("messages").wrong("messages need a chat template; see --chat-template");
    std::vector<Message> messages;
    for (const JsonView& m : row.at("messages").items()) messages.push_back(message(m));
    if (messages.empty()) row.at("messages").wrong("expected at least one message");
    prompts.push_back({.text = {}, .messages = opened(std::move(messages)), .where = where()});
  });
  return prompts;
}

void Generation::many() {
  const std::vector<Prompt> prompts = read_prompts();
  if (prompts.empty()) fail(ErrorKind::data, command_.prompts.string(), ": holds no prompts");
  std::vector<std::vector<int32_t>> ids;
  int64_t capacity = 0;
  for (const Prompt& p : prompts) {
    ids.push_back(tokens(p));
    capacity =
        std::max(capacity, static_cast<int64_t>(ids.back().size()) + room(ids.back(), p.where));
  }
  const auto batch = std::min(static_cast<size_t>(command_.batch_size), prompts.size());
  make_generator(static_cast<int64_t>(batch), capacity);
  try {
    answer_batches(prompts, ids, batch);
  } catch (const Error&) {
    if (!lines_.empty()) write_file_atomically(command_.json, lines_);  // what there is
    throw;
  }
  if (!command_.json.empty()) write_file_atomically(command_.json, lines_);
}

void Generation::answer_batches(const std::vector<Prompt>& prompts,
                                const std::vector<std::vector<int32_t>>& ids, size_t batch) {
  for (size_t first = 0; first < ids.size() && signals_.received() == 0; first += batch) {
    const auto part = std::span(ids).subspan(first, std::min(batch, ids.size() - first));
    const std::vector<Answer> answers = answer(part, first, CacheUse::fresh);
    if (signals_.received() != 0) break;  // half an answer is none
    for (size_t i = 0; i < answers.size(); ++i) {
      if (command_.json.empty()) {
        print(json_line(prompts[first + i], answers[i]));
      } else {
        lines_ += json_line(prompts[first + i], answers[i]);
      }
    }
  }
}

void Generation::converse() {
  if (!templated()) {
    fail(ErrorKind::usage, command_.model.string(),
         " has no chat template; choose one with --chat-template");
  }
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  const int64_t capacity = std::min(session_.model->longest(), command_.context);
  make_generator(1, capacity);
  show_ = true;
  Prompt prompt{.text = {}, .messages = opened({}), .where = "the conversation"};
  for (size_t turn = 0; signals_.received() == 0; ++turn) {
    if (terminal) print("> ");
    std::string line;
    signals_.immediate();  // nothing is under way while a person thinks
    const bool more = static_cast<bool>(std::getline(std::cin, line));
    signals_.defer();
    if (!more) break;
    if (line.empty()) continue;
    prompt.messages.push_back({.role = "user", .content = line});
    const std::vector<std::vector<int32_t>> ids = {tokens(prompt)};
    const int64_t wanted = static_cast<int64_t>(ids[0].size()) + room(ids[0], prompt.where);
    if (wanted > capacity) {
      fail(ErrorKind::data, "the conversation has ", ids[0].size(), " tokens and an answer up to ",
           wanted - static_cast<int64_t>(ids[0].size()), ", but there is room for ", capacity,
           "; start a new one, or see --context and --max-new-tokens");
    }
    const Answer a = answer(ids, turn, CacheUse::reuse)[0];
    print(a.text.ends_with('\n') ? "" : "\n");
    record(prompt, a);
    prompt.messages.push_back({.role = "assistant", .content = a.text});
  }
}

void Generation::report() const {
  if (!generator_) return;
  const GenerateTimes& t = generator_->times();
  const auto speed = [](int64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  };
  std::fprintf(stderr,
               "mora-generate: read %lld tokens in %.2f s (%.1f tokens/s), made %lld in %.2f s "
               "(%.1f tokens/s)\n",
               static_cast<long long>(t.prefill_tokens), t.prefill_seconds,
               speed(t.prefill_tokens, t.prefill_seconds), static_cast<long long>(t.decode_tokens),
               t.decode_seconds, speed(t.decode_tokens, t.decode_seconds));
}

}  // namespace

int generate(const GenerateCommand& command) {
  return Generation(command).run();
}

}  // namespace mora::apps
