// mora-generate as a user runs it, on the model that comes with the program.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "apps/text_stream.hpp"
#include "command.hpp"
#include "io/json.hpp"
#include "mora/core/random.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace fs = std::filesystem;

namespace mora::testing {
namespace {

Finished generate(const fs::path& folder, const std::vector<std::string>& options,
                  const std::string& input = "") {
  std::vector<std::string> command = {MORA_BINARY_DIR "/mora-generate", "--model", kBase};
  command.insert(command.end(), options.begin(), options.end());
  if (input.empty()) return run(folder, command);
  std::string line = "printf '%b' \"$INPUT\" |";
  for (const std::string& word : command) line += " '" + word + "'";
  return run(folder, {"env", "INPUT=" + input, "sh", "-c", line});
}

std::string text_of(const Finished& f) {
  CHECK_MESSAGE(f.code == 0, f.err);
  return f.out;
}

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    lines.push_back(parse_json(text.substr(at, text.find('\n', at) - at), "line"));
  return lines;
}

void refuses(const std::vector<std::string>& options, int code, const std::string& expected,
             const std::string& input = "") {
  const TemporaryFolder folder;
  const Finished f = generate(folder.path(), options, input);
  INFO(f.err);
  CHECK(f.code == code);
  CHECK(f.err.find(expected) != std::string::npos);
  CHECK(std::ranges::count(f.err, '\n') == 1);
}

// The base model in a folder of its own, to put other files beside.
struct ModelFolder {
  TemporaryFolder folder;

  ModelFolder() {
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.model"})
      fs::create_symlink(fs::path(kBase) / name, folder / name);
  }
  Finished generate(std::vector<std::string> options) const {
    options.insert(options.begin(),
                   {MORA_BINARY_DIR "/mora-generate", "--model", folder.path().string()});
    return run(folder.path(), options);
  }
};

const std::vector<std::string> kShort = {"--max-new-tokens", "24"};

}  // namespace

TEST_SUITE_BEGIN("generate_command");

TEST_CASE("the same prompt and seed give the same text, at any number of threads") {
  const TemporaryFolder folder;
  const std::vector<std::string> greedy = {"--prompt", "The old man", "--max-new-tokens", "24"};
  const std::string text = text_of(generate(folder.path(), greedy));
  CHECK(text.size() > 20);
  CHECK(text_of(generate(folder.path(), joined(greedy, {"--threads", "1"}))) == text);
  CHECK(text_of(generate(folder.path(), joined(greedy, {"--temperature", "0"}))) == text);
  CHECK(text_of(generate(folder.path(), joined(greedy, {"--top-k", "1"}))) == text);
  const auto sampled = joined(greedy, {"--temperature", "1", "--top-p", "0.95"});
  const std::string first = text_of(generate(folder.path(), sampled));
  CHECK(first != text);
  CHECK(text_of(generate(folder.path(), joined(sampled, {"--seed", "0"}))) == first);
  CHECK(text_of(generate(folder.path(), joined(sampled, {"--seed", "1"}))) != first);
}

TEST_CASE("a stop string cuts the text exactly, wherever tokens end") {
  const TemporaryFolder folder;
  const std::vector<std::string> options = joined({"--prompt", "The old man"}, kShort);
  std::string text = text_of(generate(folder.path(), options));
  text.pop_back();  // the newline after the text
  for (const size_t length : {size_t{1}, size_t{3}, size_t{7}}) {
    const std::string stop = text.substr(text.size() / 2, length);
    INFO(stop);
    const std::string cut = text.substr(0, text.find(stop));
    const Finished f =
        generate(folder.path(),
                 joined(options, {"--stop", "never there", "--stop", stop, "--json", "out.jsonl"}));
    CHECK(text_of(f) == cut + "\n");
    const Json line = lines_of(bytes_of(folder / "out.jsonl"))[0];
    CHECK(line["text"] == cut);
    CHECK(line["finish"] == "stop");
  }
}

TEST_CASE("prompts of a file give what each gives alone, in order, at any batch size") {
  const TemporaryFolder folder;
  const std::vector<std::string> prompts = {"Once upon a time", "It", "She said that the",
                                            "In the morning, when the sun"};
  std::string text, json;
  for (const std::string& p : prompts) {
    text += p + "\n";
    json += dump_json({{"prompt", p}}) + "\n\n";
  }
  folder.file("p.txt", text);
  folder.file("p.jsonl", json);
  const std::string first =
      text_of(generate(folder.path(), joined({"--prompts", "p.txt"}, kShort)));
  const std::vector<Json> lines = lines_of(first);
  REQUIRE(lines.size() == prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(lines[i]["prompt"] == prompts[i]);
    CHECK(lines[i]["new_tokens"] == 24);
    CHECK(lines[i]["finish"] == "length");
    const std::string alone =
        text_of(generate(folder.path(), joined({"--prompt", prompts[i]}, kShort)));
    CHECK(alone == lines[i]["text"].get<std::string>() + "\n");
  }
  for (const char* batch : {"1", "3"}) {
    const Finished f = generate(
        folder.path(),
        joined({"--prompts", "p.jsonl", "--batch-size", batch, "--json", "out.jsonl"}, kShort));
    CHECK(text_of(f) == "");
    CHECK(bytes_of(folder / "out.jsonl") == first);
  }
  const std::vector<std::string> sampled =
      joined({"--prompts", "p.txt", "--temperature", "1"}, kShort);
  const std::string samples = text_of(generate(folder.path(), sampled));
  CHECK(samples != first);
  CHECK(text_of(generate(folder.path(), joined(sampled, {"--batch-size", "2"}))) == samples);
}

TEST_CASE("a prompt near the model's limit gets what fits, and shortens no other") {
  const TemporaryFolder folder;
  const auto tokenizer = load_tokenizer(fs::path(kBase));
  std::string words = "The old man looked at the sea.";
  while (tokenizer->encode(words).size() < 400) words += " The old man looked at the sea.";
  folder.file("p.txt", "It\n" + words + "\n");
  const auto answers = [&](const char* batch) {
    const Finished f = generate(
        folder.path(), {"--prompts", "p.txt", "--max-new-tokens", "256", "--batch-size", batch});
    CHECK(f.err.find("p.txt: prompt 2: only ") != std::string::npos);
    CHECK(f.err.find(" of 256 new tokens fit the model's 512 positions") != std::string::npos);
    return text_of(f);
  };
  const std::string together = answers("8");
  CHECK(together == answers("1"));
  const std::vector<Json> lines = lines_of(together);
  REQUIRE(lines.size() == 2);
  for (const Json& line : lines) {
    const int64_t most = std::min<int64_t>(256, 512 - line["prompt_tokens"].get<int64_t>());
    const auto made = line["new_tokens"].get<int64_t>();
    CHECK((line["finish"] == "length" ? made == most : made <= most));
  }
}

TEST_CASE("a conversation is what its rendered prompts are") {
  const TemporaryFolder folder;
  const std::vector<std::string> options =
      joined({"--chat-template", "plain", "--stop", "\n"}, kShort);
  const Finished chat = generate(
      folder.path(), joined(options, {"--chat", "--system", "Talk.", "--json", "chat.jsonl"}),
      "Hello there\\n\\nWho are you?\\n");
  CHECK_MESSAGE(chat.code == 0, chat.err);
  const std::vector<Json> turns = lines_of(bytes_of(folder / "chat.jsonl"));
  REQUIRE(turns.size() == 2);
  REQUIRE(turns[1]["messages"].size() == 4);
  CHECK(turns[1]["messages"][2]["content"] == turns[0]["text"]);
  CHECK(chat.out ==
        turns[0]["text"].get<std::string>() + "\n" + turns[1]["text"].get<std::string>() + "\n");
  folder.file("m.jsonl", dump_json({{"messages", turns[1]["messages"]}}) + "\n");
  const Finished again = generate(folder.path(), joined(options, {"--prompts", "m.jsonl"}));
  CHECK(lines_of(text_of(again))[0]["text"] == turns[1]["text"]);
}

TEST_CASE("--system goes in front of messages without a system message, and is never ignored") {
  const TemporaryFolder folder;
  const std::string user = R"({"role": "user", "content": "Hello"})";
  const auto system = [](const std::string& text) {
    return R"({"role": "system", "content": ")" + text + "\"}, ";
  };
  folder.file("m.jsonl",
              "{\"messages\": [" + user + "]}\n{\"messages\": [" + system("Sing.") + user + "]}\n");
  folder.file("own.jsonl", "{\"messages\": [" + system("Talk.") + user + "]}\n{\"messages\": [" +
                               system("Sing.") + user + "]}\n");
  const auto answers = [&](const std::vector<std::string>& options) {
    return text_of(
        generate(folder.path(), joined(joined({"--chat-template", "plain"}, kShort), options)));
  };
  const std::string own = answers({"--prompts", "own.jsonl"});
  CHECK(answers({"--prompts", "m.jsonl", "--system", "Talk."}) == own);
  CHECK(answers({"--prompts", "m.jsonl"}) != own);
  for (const std::vector<std::string>& prompt :
       {std::vector<std::string>{"--prompt", "x"}, {"--prompts", "m.jsonl"}, {"--chat"}}) {
    const Finished f = generate(folder.path(), joined(prompt, {"--system", "Talk."}));
    INFO(f.err);
    CHECK(f.code == 2);
    CHECK(f.err.find("--system: ") != std::string::npos);
    CHECK(f.err.find("choose one with --chat-template") != std::string::npos);
  }
}

TEST_CASE("standard input is a prompt, and the speed goes to standard error") {
  const TemporaryFolder folder;
  const Finished direct = generate(folder.path(), joined({"--prompt", "Two\nlines"}, kShort));
  const Finished piped =
      generate(folder.path(), joined({"--prompt", "-"}, kShort), "Two\\nlines\\n");
  CHECK(text_of(piped) == text_of(direct));
  CHECK(direct.err.find("tokens/s), made 23 in") != std::string::npos);
}

TEST_CASE("the model folder's template and generation_config.json are used; flags win") {
  const ModelFolder model;
  const std::vector<std::string> options = joined({"--prompt", "Hello"}, kShort);
  const std::string raw = text_of(model.generate(options));
  model.folder.file("tokenizer_config.json",
                    R"({"chat_template": "{{ bos_token }}Q: {{ messages[0].content }}\nA: "})");
  const std::string templated = text_of(model.generate(options));
  CHECK(templated != raw);
  CHECK(text_of(model.generate(joined(options, {"--raw"}))) == raw);
  CHECK(text_of(model.generate({"--raw", "--prompt", "Q: Hello\nA: ", "--max-new-tokens", "24"})) ==
        templated);
  model.folder.file("generation_config.json",
                    R"({"do_sample": true, "temperature": 1.5, "max_new_tokens": 7})");
  const Finished sampled = model.generate({"--prompt", "Hello", "--json", "o.jsonl"});
  CHECK(sampled.code == 0);
  CHECK(lines_of(bytes_of(model.folder / "o.jsonl"))[0]["new_tokens"] == 7);
  CHECK(text_of(model.generate(joined(options, {"--temperature", "0"}))) == templated);
  CHECK(text_of(model.generate(options)) != templated);
  std::string all;
  for (int i = 3; i < 1024; ++i) all += str(i > 3 ? ", " : "", i);
  model.folder.file("generation_config.json", str(R"({"eos_token_id": [)", all, "]}"));
  CHECK(model.generate(joined(options, {"--json", "o.jsonl"})).code == 0);
  const Json line = lines_of(bytes_of(model.folder / "o.jsonl"))[0];
  CHECK(line["finish"] == "eos");
  CHECK(line["new_tokens"] == 1);
  model.folder.file("generation_config.json", R"({"eos_token_id": [2, 5000]})");
  const Finished wrong = model.generate(options);
  CHECK(wrong.code == 3);
  CHECK(wrong.err.find("generation_config.json: /eos_token_id/1") != std::string::npos);
  model.folder.file("generation_config.json", R"({"do_sample": true, "top_p": 7})");
  const Finished senseless = model.generate(options);
  CHECK(senseless.code == 3);
  CHECK(senseless.err.find("generation_config.json: top_p is 7") != std::string::npos);
  CHECK(model.generate(joined(options, {"--top-p", "0.9"})).code == 0);
}

TEST_CASE("what generation_config.json asks for in vain is named") {
  const ModelFolder model;
  model.folder.file("generation_config.json", R"({"do_sample": true, "num_beams": 1, "min_p": 0.1,
    "no_repeat_ngram_size": 3, "typical_p": 1.0, "suppress_tokens": [], "stop_strings": ["x"],
    "eta_cutoff": 0.0, "guidance_scale": null, "token_healing": false, "pad_token_id": 0,
    "max_length": 100})");
  const std::vector<std::string> options = joined({"--prompt", "Hello"}, kShort);
  const auto named = [&](const std::vector<std::string>& flags) {
    const std::string err = model.generate(joined(options, flags)).err;
    INFO(err);
    REQUIRE(std::ranges::count(err, '\n') == 2);  // and the speed
    const std::string line = err.substr(0, err.find('\n'));
    CHECK(line.find("generation_config.json: not applied") != std::string::npos);
    return line.substr(line.rfind(": ") + 2);
  };
  CHECK(named({}) == "no_repeat_ngram_size, stop_strings, min_p");
  CHECK(named({"--temperature", "0"}) == "no_repeat_ngram_size, stop_strings");
  model.folder.file("generation_config.json", R"({"do_sample": true, "num_beams": 1, "min_p": 0})");
  CHECK(std::ranges::count(model.generate(options).err, '\n') == 1);
}

TEST_CASE("mistakes are one line and the documented exit code") {
  refuses({}, 2, "needs --prompt TEXT, --prompts FILE or --chat");
  refuses({"--prompt", ""}, 2, "--prompt: the prompt is empty");
  refuses({"--prompt", "x", "--chat"}, 2, "--chat");
  refuses({"--chat"}, 2, "has no chat template; choose one with --chat-template");
  refuses({"--prompt", "x", "--chat-template", "nonsense"}, 2, "expected a file, or one of chatml");
  refuses({"--prompt", "x", "--temperature", "-1"}, 2, "temperature is -1");
  refuses({"--prompt", "x", "--top-p", "0"}, 2, "top_p is 0");
  refuses({"--prompt", "x", "--stop", ""}, 2, "--stop: the text is empty");
  refuses({"--prompt", "x", "--max-new-tokens", "0"}, 2, "--max-new-tokens");
  refuses({"--prompts", "missing.txt"}, 3, "missing.txt");
  refuses({"--prompt", "x", "--adapter", "missing"}, 3, "missing");
  std::string words;
  for (int i = 0; i < 700; ++i) words += "word ";
  refuses({"--prompt", words}, 3, "but the model has 512 positions");
  const TemporaryFolder folder;
  CHECK(run(folder.path(), {MORA_BINARY_DIR "/mora-generate", "--model", "no", "--prompt", "x"})
            .code == 3);
  CHECK(run(folder.path(), {MORA_BINARY_DIR "/mora-generate", "--prompt", "x"}).code == 2);
  folder.file("empty.txt", "\n\n");
  folder.file("bad.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \"\"}\n");
  folder.file("text.jsonl", "{\"prompt\": 5}\n");
  folder.file("long.txt", "a\n" + words + "\n");
  const auto fails = [&](const char* file, const std::string& expected) {
    const Finished f = generate(folder.path(), {"--prompts", file});
    INFO(f.err);
    CHECK(f.code == 3);
    CHECK(f.out == "");
    CHECK(f.err.find(expected) != std::string::npos);
  };
  fails("empty.txt", "holds no prompts");
  fails("bad.jsonl", "bad.jsonl:2");
  fails("text.jsonl", "/prompt");
  fails("long.txt", "long.txt: prompt 2: the prompt has");
}

TEST_CASE("a failure leaves the answers before it") {
  const ModelFolder model;
  const auto tokenizer = load_tokenizer(fs::path(kBase));
  std::string weights = bytes_of(fs::path(kBase) / "model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, weights.data(), sizeof header);
  // The embedding, which is first there, has no numbers for this token.
  constexpr size_t kRow = 128 * 2;
  const auto token = static_cast<size_t>(tokenizer->encode("7").back());
  weights.replace(sizeof header + header + token * kRow, kRow, kRow, '\xff');
  fs::remove(model.folder / "model.safetensors");
  model.folder.file("model.safetensors", weights);
  model.folder.file("p.txt", "The old man\nIt\n7\nShe\n");
  const Finished f = model.generate(
      joined({"--prompts", "p.txt", "--batch-size", "1", "--json", "o.jsonl"}, kShort));
  INFO(f.err);
  CHECK(f.code == 5);
  CHECK(lines_of(bytes_of(model.folder / "o.jsonl")).size() == 2);
}

TEST_CASE("SIGINT ends an answer with what there is") {
  const TemporaryFolder folder;
  folder.file("p.txt", some_text() + some_text() + some_text());
  Command command(folder.path(), {MORA_BINARY_DIR "/mora-generate", "--model", kBase, "--prompts",
                                  "p.txt", "--max-new-tokens", "400", "--batch-size", "1"});
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  command.send(SIGINT);
  const Finished f = command.wait();
  CHECK(f.code == 130);
  if (!f.out.empty()) CHECK(f.out.ends_with("\n"));  // whole lines only
}

// ---- text as it comes

TEST_CASE("a stream of tokens gives the text of all of them, and never takes anything back") {
  const auto tokenizer = load_tokenizer(fs::path(kBase));
  const std::vector<std::string> texts = {
      "The end.\n\n  Two  spaces",
      "na\u00efve \u4f60\u597d \U0001F600\U0001F468\u200D\U0001F469!",
      "\u00fc",
      " leading",
      "\n",
      "a\U0001F600"};
  for (const std::string& text : texts) {
    INFO(text);
    apps::TextStream stream(*tokenizer, {}, {});
    std::string shown;
    for (const int32_t token : tokenizer->encode(text)) {
      CHECK(!stream.push(token));
      shown += stream.take();
      CHECK(is_valid_utf8(shown));
      CHECK(text.starts_with(shown));
    }
    stream.finish();
    shown += stream.take();
    CHECK(shown == text);
    CHECK(stream.text() == text);
  }
  const Random random(3, Purpose::test);
  for (uint64_t round = 0; round < 50; ++round) {
    std::vector<int32_t> tokens;
    for (uint64_t i = 0; i < 40; ++i)
      tokens.push_back(static_cast<int32_t>(262 + random.below(round * 40 + i, 760)));
    apps::TextStream stream(*tokenizer, {}, {});
    for (const int32_t token : tokens) stream.push(token);
    stream.finish();
    CHECK(stream.text() == tokenizer->decode(tokens));
  }
}

TEST_CASE("a stop string is found across tokens, the earliest one, and never shown in part") {
  const auto tokenizer = load_tokenizer(fs::path(kBase));
  const std::string text = "one two three four \U0001F600 five six";
  for (const std::vector<std::string>& stops : {std::vector<std::string>{"ee f"},
                                                {"six", "two th"},
                                                {"\U0001F600"},
                                                {"o", "one"},
                                                {" fives", "five "}}) {
    size_t at = text.size();
    for (const std::string& s : stops) at = std::min(at, text.find(s));
    apps::TextStream stream(*tokenizer, stops, {});
    std::string shown;
    bool stopped = false;
    for (const int32_t token : tokenizer->encode(text)) {
      stopped = stream.push(token);
      shown += stream.take();
      CHECK(text.substr(0, at).starts_with(shown));
      if (stopped) break;
    }
    stream.finish();
    shown += stream.take();
    CHECK(stream.stopped());
    CHECK(shown == text.substr(0, at));
  }
}

TEST_SUITE_END();

}  // namespace mora::testing
