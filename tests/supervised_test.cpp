// Instruction data: layouts, prompt formats, token ids and masks against the reference codes; rows
// that are wrong.
#include "mora/data/supervised.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io/json.hpp"
#include "mora/core/error.hpp"
#include "mora/io/file.hpp"
#include "mora/io/sha256.hpp"
#include "temporary_folder.hpp"

using namespace mora;
namespace fs = std::filesystem;

namespace {

const fs::path kGoldens = fs::path(MORA_SOURCE_DIR) / "tests/golden";

PromptFormat format_of(const std::string& name, const std::string& bos, const std::string& eos) {
  if (name == "alpaca") return alpaca_format(eos);
  if (name == "tulu") return tulu_format(eos);
  if (name == "plain") return plain_format(eos);
  return chat_format({built_in_chat_template(name), {{"bos_token", bos}, {"eos_token", eos}}, ""});
}

std::string digest(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return sha256_hex(text).substr(0, 16);
}

std::vector<std::pair<int64_t, int64_t>> trained_spans(const ExampleView& e) {
  std::vector<std::pair<int64_t, int64_t>> spans;
  for (size_t i = 0; i < e.tokens.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (e.weight(i) == 0) continue;
    if (!spans.empty() && spans.back().second == at) {
      spans.back().second = at + 1;
    } else {
      spans.emplace_back(at, at + 1);
    }
  }
  return spans;
}

fs::path write_rows(const TemporaryFolder& folder, const std::string& text,
                    const std::string& name = "rows.jsonl") {
  const fs::path path = folder.path() / name;
  write_file_atomically(path, text);
  return path;
}

std::vector<Conversation> read_all(const RowFiles& files) {
  std::vector<Conversation> all;
  read_conversations(files, [&](Conversation c) { all.push_back(std::move(c)); });
  return all;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("supervised") {
  TEST_CASE("ids and masks are those of the reference codes") {
    const std::string file = (kGoldens / "supervised.json").string();
    const Json goldens = parse_json(read_file(file, size_t{16} << 20), file);
    int64_t checked = 0, cut = 0;
    for (const Json& c : goldens["cases"]) {
      const std::string name = c["format"], layout = c["layout"];
      INFO(name << " " << layout << " " << c["tokenizer"].get<std::string>());
      const auto tokenizer =
          load_tokenizer(kGoldens / "tokenizers" / c["tokenizer"].get<std::string>());
      const PromptFormat format = format_of(name, c["bos"], c["eos"]);
      const TemporaryFolder folder;
      std::string lines;
      for (const Json& row : c["rows"]) lines += row.dump() + "\n";
      const auto rows =
          read_all({.files = {write_rows(folder, lines)}, .layout = layout, .columns = {}});
      REQUIRE(rows.size() == c["examples"].size());
      for (size_t i = 0; i < rows.size(); ++i) {
        INFO("row " << i);
        Example e = tokenize_marked(*tokenizer, format(rows[i]), TrainOn::completion);
        const auto most = c["max_length"].get<size_t>();
        if (e.tokens.size() > most) {
          ++cut;
          e.tokens.resize(most);
          e.weights.resize(most);
        }
        const Json& golden = c["examples"][i];
        REQUIRE(e.tokens.size() == golden["count"].get<size_t>());
        CHECK(digest(e.tokens) == golden["sha256"].get<std::string>());
        std::vector<std::pair<int64_t, int64_t>> expected;
        for (const Json& span : golden["trained"]) expected.emplace_back(span[0], span[1]);
        CHECK(trained_spans(ExampleView(e)) == expected);
        ++checked;
      }
    }
    CHECK(checked > 500);
    CHECK(cut > 10);
  }

  TEST_CASE("a template without generation blocks masks as the same one with them") {
    const std::string shape =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const PromptFormat plain = chat_format({ChatTemplate(shape, "test"), {}, ""});
    const PromptFormat marked = chat_format({built_in_chat_template("chatml"), {}, ""});
    const Conversation c{{{.role = "system", .content = "Be brief."},
                          {.role = "user", .content = "One?"},
                          {.role = "assistant", .content = "1"},
                          {.role = "user", .content = "Two?"},
                          {.role = "assistant", .content = "2"}},
                         "",
                         "",
                         {}};
    const MarkedText a = plain(c), b = marked(c);
    CHECK(a.text == b.text);
    CHECK(a.trained == b.trained);
    CHECK(a.trained.size() == 2);
    const PromptFormat changing = chat_format(
        {ChatTemplate("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
                      "test"),
         {},
         ""});
    CHECK(has(message_of(ErrorKind::data, [&] { changing(c); }), "writes the beginning"));
  }

  TEST_CASE("layouts") {
    const TemporaryFolder folder;
    const auto only = [&](const std::string& row, std::vector<std::string> columns = {}) {
      const auto rows =
          read_all({.files = {write_rows(folder, row)}, .layout = "auto", .columns = columns});
      REQUIRE(rows.size() == 1);
      return rows.front();
    };
    Conversation c = only(R"({"question": "Why?", "answer": "It is <<6*7=42>>42.\n#### 42"})");
    CHECK(c.messages[1].content == "It is 42.\n#### 42\nThe answer is: 42");
    CHECK(c.place.ends_with("rows.jsonl:1:1"));
    c = only(R"({"problem": "p", "solution": "so $\\boxed{\\frac{1}{2}}$.", "level": "5"})");
    CHECK(c.messages[1].content == "so $\\boxed{\\frac{1}{2}}$.\nThe answer is: \\frac{1}{2}");
    c = only(
        R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})");
    CHECK(c.messages[0].role == "user");
    CHECK(c.messages[1].role == "assistant");
    c = only(R"({"query": "first\nsecond\nthird", "response": "r"})");
    CHECK(c.messages[0].content == "first");
    CHECK(c.input == "second\nthird");
    c = only(R"({"q": "a", "a": "b"})", {"prompt=q", "completion=a"});
    CHECK(c.messages[1].content == "b");
    const std::string turns = R"([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}])";
    c = only(R"({"system": "Be brief.", "conversations": )" + turns + "}");
    REQUIRE(c.messages.size() == 3);
    CHECK(c.messages[0].role == "system");
    CHECK(c.messages[0].content == "Be brief.");
    c = only(R"({"role": "Be brief.", "instruction": "i", "input": "x", "output": "o"})",
             {"system=role"});
    CHECK(tulu_format("</s>")(c).text ==
          "<|system|>\nBe brief.\n<|user|>\ni\nx\n<|assistant|>\no</s>");
    CHECK(has(message_of(ErrorKind::data, [&] { alpaca_format("</s>")(c); }), "has 3 messages"));
    // Nothing that would change it.
    c = only(R"({"id": 7, "system": "", "tools": [], "functions": null, "conversations": )" +
             turns + "}");
    CHECK(c.messages.size() == 2);
    c = only(R"({"history": [], "tools": "", "instruction": "i", "output": "o"})");
    CHECK(c.messages.size() == 2);
    c = only(R"({"messages": [{"role": "user", "content": "a", "name": "Ann", "weight": 0}, )"
             R"({"role": "assistant", "content": "b", "weight": 1, "tool_calls": []}]})");
    CHECK(c.messages.size() == 2);
    const auto rows = read_all({.files = {write_rows(folder, R"([{"prompt": "1", "completion": "2"},
  {"prompt": "3", "completion": "4"}])",
                                                     "rows.json")},
                                .layout = "auto",
                                .columns = {}});
    REQUIRE(rows.size() == 2);
    CHECK(rows[1].messages[0].content == "3");
    CHECK(rows[1].place.ends_with("rows.json:2:3"));
  }

  TEST_CASE("the last box of a solution") {
    CHECK(last_boxed("a \\boxed{1} b \\boxed{2{3}}") == "2{3}");
    CHECK(last_boxed("\\fbox{x}") == "x");
    CHECK(last_boxed("so $\\boxed 7$ it") == "7");
    CHECK(last_boxed("\\boxed{open") == "");
    CHECK(last_boxed("none") == "");
  }

  TEST_CASE("rows that are wrong") {
    struct Case {
      std::string text, layout, part;
    };
    const std::vector<Case> cases = {
        {"{\"a\": 1}\n", "auto", "those of no layout"},
        {"[1]\n", "alpaca", "rows.jsonl:1"},
        {"{\"prompt\": \"x\"}\n", "prompt_completion", "\"completion\" is missing"},
        {"{\"prompt\": 1, \"completion\": \"x\"}\n", "prompt_completion",
         "rows.jsonl:1:12: /prompt"},
        {"{\"prompt\": \"x\", \"completion\": \"y\"}\n{\"prompt\"", "auto", "rows.jsonl:2:"},
        {"{\"messages\": []}\n", "auto", "no message is the assistant's"},
        {"\n {\"messages\": [{\"role\": \"robot\", \"content\": \"\"}]}\n", "auto",
         "rows.jsonl:2:25: /messages/0/role: expected a role"},
        {"{\"question\": \"x\", \"answer\": \"y\"}\n", "gsm8k", "####"},
        {"{\"problem\": \"x\", \"solution\": \"y\"}\n", "math", "boxed"},
        {R"({"tools": [{}], "messages": [{"role": "assistant", "content": "x"}]})", "auto",
         "rows.jsonl:1:11: /tools: is not supported"},
        {R"({"functions": [{}], "messages": [{"role": "assistant", "content": "x"}]})", "auto",
         "rows.jsonl:1:15: /functions: is not supported"},
        {R"({"messages": [{"role": "assistant", "content": "x", "weight": 0}]})", "auto",
         "rows.jsonl:1:63: /messages/0/weight: expected 1"},
        {R"({"messages": [{"tool_calls": [{}], "role": "assistant", "content": null}]})", "auto",
         "rows.jsonl:1:30: /messages/0/tool_calls: is not supported"},
        {R"({"conversations": [{"function_call": {"a": 1}, "from": "gpt", "value": "x"}]})", "auto",
         "/conversations/0/function_call: is not supported"},
        {R"({"tools": "[{}]", "conversations": [{"from": "gpt", "value": "x"}]})", "auto",
         "rows.jsonl:1:11: /tools: is not supported"},
        {R"({"system": "s", "conversations": [{"from": "system", "value": "t"}, )"
         R"({"from": "gpt", "value": "x"}]})",
         "auto", "rows.jsonl:1:12: /system: the conversation has a system message of its own"},
        {R"({"history": [["a", "b"]], "instruction": "i", "output": "o"})", "auto",
         "rows.jsonl:1:13: /history: is not supported"},
        {R"({"system": 5, "instruction": "i", "output": "o"})", "auto", "rows.jsonl:1:12: /system"},
    };
    const TemporaryFolder folder;
    for (const Case& bad : cases) {
      INFO(bad.text);
      const RowFiles files{
          .files = {write_rows(folder, bad.text)}, .layout = bad.layout, .columns = {}};
      CHECK(has(message_of(ErrorKind::data, [&] { read_all(files); }), bad.part));
      RowFiles lenient = files;
      lenient.bad_rows = BadRows::skip;
      const RowCounts counts = read_conversations(lenient, [](const Conversation&) {});
      CHECK(counts.skipped == 1);
      CHECK(has(counts.first_problem, bad.part));
    }
    const auto usage = [&](RowFiles files) {
      return message_of(ErrorKind::usage, [&] { read_all(files); });
    };
    CHECK(has(usage({.files = {folder.path() / "rows.csv"}, .columns = {}}), ".jsonl"));
    CHECK(has(usage({.files = {}, .layout = "alpaca", .columns = {"prompt=x"}}), "data.columns"));
    CHECK(has(usage({.files = {}, .columns = {"prompt"}}), "data.columns"));
  }

  TEST_CASE("every error of a row tells line and column, in lines and in arrays") {
    struct Case {
      std::string row, at, part;  // a row in the third line, indented by two
    };
    const std::vector<Case> cases = {
        {R"({"prompt": 1, "completion": "x"})", "3:14", "/prompt"},
        {R"({"completion": "x"})", "3:3", "\"prompt\" is missing"},
        {R"({"prompt": "x", "completion": {"a": [1, "]}"]}})", "3:33", "/completion"},
        {R"({"a\"}": "\\", "prompt": "\u0041", "completion": null})", "3:52", "/completion"},
        {R"({"prompt": "x", "prompt": "y"})", "3:26", "duplicate"},
        {R"([1, 2])", "3:3", "an object"},
        {R"({"prompt": "x", "completion": "y"} 1)", "3:38", "syntax error"},
    };
    const TemporaryFolder folder;
    for (const Case& c : cases) {
      INFO(c.row);
      const std::string good = R"({"prompt": "x", "completion": "y"})";
      for (const bool array : {false, true}) {
        if (array && c.part == "syntax error") continue;
        const std::string text =
            array ? "[\n" + good + ",\n  " + c.row + "]" : "\n" + good + "\n  " + c.row + "\n";
        const auto file = write_rows(folder, text, array ? "rows.json" : "rows.jsonl");
        const std::string message = message_of(ErrorKind::data, [&] {
          read_all({.files = {file}, .layout = "prompt_completion", .columns = {}});
        });
        CHECK(message.starts_with(file.string() + ":" + c.at + ":"));
        CHECK(has(message, c.part));
      }
    }
    // What a format or a tokenizer finds is told with the row's place.
    const auto file =
        write_rows(folder, "\n  " + std::string(R"({"messages": [{"role": "user", )") +
                               R"("content": "a"}, {"role": "assistant", "content": )" +
                               R"("b"}, {"role": "assistant", "content": "c"}]})");
    const auto tokenizer = load_tokenizer(fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model");
    CHECK(message_of(ErrorKind::data, [&] {
            read_supervised(*tokenizer, {.files = {file}, .columns = {}}, plain_format("</s>"), {});
          }).starts_with(file.string() + ":2:3: "));
  }

  TEST_CASE("rows of token ids are the examples of their text; labels and padding") {
    const auto tokenizer = load_tokenizer(fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model");
    const TemporaryFolder folder;
    std::string texts, ids;
    for (int i = 0; i < 40; ++i) {
      const std::string answer = "number " + std::to_string(i * i);
      const std::string question = "The square of " + std::to_string(i) + "? ";
      texts += dump_json({{"prompt", question}, {"completion", answer}}) + "\n";
      const MarkedText marked = plain_format("</s>")(
          {{{.role = "user", .content = question}, {.role = "assistant", .content = answer}},
           "",
           "",
           {}});
      const Example e = tokenize_marked(*tokenizer, marked, TrainOn::completion);
      Json row = {
          {"input_ids", e.tokens}, {"labels", Json::array()}, {"attention_mask", Json::array()}};
      for (size_t t = 0; t < e.tokens.size(); ++t) {
        row["labels"].push_back(e.weights[t] > 0 ? e.tokens[t] : -100);
        row["attention_mask"].push_back(1);
      }
      for (int pad = 0; pad < i % 4; ++pad) {  // as collators pad, left or right
        const auto place = [&](Json& list) { return i % 8 < 4 ? list.end() : list.begin(); };
        row["input_ids"].insert(place(row["input_ids"]), 0);
        row["labels"].insert(place(row["labels"]), -100);
        row["attention_mask"].insert(place(row["attention_mask"]), 0);
      }
      if (i % 4 == 0) row.erase("attention_mask");
      ids += dump_json(row) + "\n";
    }
    const auto read = [&](const std::string& lines, const std::string& name) {
      const RowFiles files{.files = {write_rows(folder, lines, name)},
                           .columns = {},
                           .vocab_size = tokenizer->vocab_size()};
      return read_supervised(*tokenizer, files, plain_format("</s>"), {.max_length = 30});
    };
    const SupervisedData text = read(texts, "text.jsonl"), tokenized = read(ids, "ids.jsonl");
    CHECK(tokenized.examples.sha256() == text.examples.sha256());
    CHECK(tokenized.counts == text.counts);

    const SupervisedData bare = read("{\"input_ids\": [5, 6, 7]}\n", "bare.jsonl");
    CHECK(bare.examples[0].tokens.to_vector() == std::vector<int32_t>{5, 6, 7});
    CHECK(bare.counts.samples.trained_tokens == 2);
    const std::vector<std::pair<std::string, std::string>> bad = {
        {R"({"input_ids": []})", "1:15: /input_ids"},
        {R"({"input_ids": [1, 2.5]})", "1:19: /input_ids/1"},
        {R"({"input_ids": [1, -1]})", "1:19: /input_ids/1: token id -1"},
        {R"({"input_ids": [1, 99999999]})", "1:19: /input_ids/1: token id 99999999"},
        {R"({"input_ids": [1, 9223372036854775808]})", "1:19: /input_ids/1: expected an integer"},
        {R"({"input_ids": "1"})", "1:15: /input_ids"},
        {R"({"input_ids": [1, 2], "labels": [1]})", "1:33: /labels: 1 numbers for 2"},
        {R"({"input_ids": [1, 2], "labels": [2, -100]})",
         "1:34: /labels/0: label 2 of the token 1"},
        {R"({"input_ids": [1, 2], "attention_mask": [0, 0]})", "all tokens are padding"},
        {R"({"input_ids": [1, 2], "attention_mask": [1, 2]})", "1:45: /attention_mask/1"},
        {R"({"input_ids": [1, 2, 3], "attention_mask": [1, 0, 1]})", "1:48: /attention_mask/1"},
        {R"({"input_ids": [1, 2], "labels": [1, -100]})", "none of 1 rows"}};
    for (const auto& refused : bad) {
      INFO(refused.first);
      CHECK(has(message_of(ErrorKind::data, [&] { read(refused.first, "bad.jsonl"); }),
                refused.second));
    }
  }

  TEST_CASE("an example whose mask begins within a character is shown") {
    const auto tokenizer = load_tokenizer(fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model");
    const auto byte = [&](const std::string& piece) {
      int32_t id = 0;
      while (tokenizer->piece(id) != piece) ++id;
      return id;
    };
    const int32_t bos = *tokenizer->bos(), first = byte("<0xC3>"), second = byte("<0xA9>");
    const TemporaryFolder folder;
    const Json row = {{"input_ids", {bos, first, second}}, {"labels", {-100, -100, second}}};
    const SupervisedData data =
        read_supervised(*tokenizer,
                        {.files = {write_rows(folder, dump_json(row) + "\n")},
                         .columns = {},
                         .vocab_size = tokenizer->vocab_size()},
                        plain_format("</s>"), {});
    CHECK(show_example(*tokenizer, data.examples[0]) == "<s>\uFFFD[[\u00e9]]");
    CHECK(has(report(*tokenizer, data), "1 examples of 1 rows"));
  }

  TEST_CASE("what becomes of rows is counted") {
    const auto tokenizer = load_tokenizer(fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model");
    const TemporaryFolder folder;
    std::string lines = R"({"prompt": "short", "completion": "yes"})"
                        "\n";
    lines += R"({"prompt": "long )" + std::string(400, 'x') +
             R"(", "completion": "yes"})"
             "\n";
    lines += R"({"prompt": "answer ", "completion": ")" + std::string(400, 'y') +
             R"("})"
             "\nnot JSON\n";
    RowFiles files{.files = {write_rows(folder, lines)}, .columns = {}};
    const PromptFormat format = plain_format("</s>");
    SupervisedSettings settings{.max_length = 60};
    CHECK(has(
        message_of(ErrorKind::data, [&] { read_supervised(*tokenizer, files, format, settings); }),
        "rows.jsonl:4"));
    files.bad_rows = BadRows::skip;
    SupervisedData data = read_supervised(*tokenizer, files, format, settings);
    CHECK(data.examples.size() == 2);
    CHECK(data.counts.rows.read == 3);
    CHECK(data.counts.rows.skipped == 1);
    CHECK(data.counts.dropped_masked == 1);
    CHECK(data.counts.cut == 1);
    CHECK(data.counts.samples.trained_ends == 1);
    CHECK(has(report(*tokenizer, data), "2 examples of 3 rows"));
    settings.too_long = TooLong::drop;
    data = read_supervised(*tokenizer, files, format, settings);
    CHECK(data.examples.size() == 1);
    CHECK(data.counts.dropped_long == 2);
    CHECK(has(show_example(*tokenizer, data.examples[0]), "[[yes</s>]]"));
    settings.max_length = 2;
    CHECK(has(
        message_of(ErrorKind::data, [&] { read_supervised(*tokenizer, files, format, settings); }),
        "none of 4 rows gives a training example"));
  }
}
