// Chat templates against Jinja 2 as transformers sets it up (tests/golden/chat.json), the texts of
// the built-in ones, where a model folder keeps its template, and hostile templates.
#include "mora/text/chat_template.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <ctime>

#include "golden.hpp"
#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/sha256.hpp"
#include "temporary_folder.hpp"

namespace fs = std::filesystem;

namespace mora::testing {
namespace {

struct Golden {
  Json json;
  std::vector<std::vector<Message>> conversations;
  std::vector<ChatVariables> variables;

  Golden() {
    const char* other = std::getenv("MORA_CHAT_GOLDEN");  // a file made with --folder
    const fs::path file = other ? fs::path(other) : golden_folder() / "chat.json";
    json = parse_json(read_file(file, size_t{64} << 20), file.string());
    ::setenv("TZ", "UTC", 1);
    for (const Json& c : json["conversations"]) {
      std::vector<Message>& messages = conversations.emplace_back();
      for (const Json& m : c["messages"]) messages.push_back(message(m));
      ChatVariables v;
      v.add_generation_prompt = c["add_generation_prompt"].get<bool>();
      v.time = json["time"].get<int64_t>();
      for (const auto& [name, text] : json["tokens"].items())
        v.tokens[name] = text.get<std::string>();
      variables.push_back(v);
    }
  }

  static Message message(const Json& m) {
    Message result{.role = m["role"].get<std::string>()};
    if (m["content"].is_string()) {
      result.content = m["content"].get<std::string>();
    } else {
      for (const Json& p : m["content"])
        result.parts.push_back({"text", p["text"].get<std::string>()});
    }
    return result;
  }
};

const Golden& golden() {
  static const Golden all;
  return all;
}

void check_cases(const ChatTemplate& chat, const Json& cases) {
  const Golden& g = golden();
  REQUIRE(cases.size() == g.conversations.size());
  size_t rendered = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    INFO("conversation ", i);
    if (cases[i].is_null()) {
      message_of(ErrorKind::data, [&] { chat.render(g.conversations[i], g.variables[i]); });
      continue;
    }
    const RenderedChat out = chat.render(g.conversations[i], g.variables[i]);
    if (cases[i].contains("text")) CHECK(out.text == cases[i]["text"].get<std::string>());
    CHECK(sha256_hex(out.text).substr(0, 24) == cases[i]["sha256"].get<std::string>());
    std::vector<std::pair<size_t, size_t>> spans;
    if (cases[i].contains("spans")) {
      for (const Json& s : cases[i]["spans"]) spans.emplace_back(s[0], s[1]);
    }
    CHECK(out.assistant == spans);
    ++rendered;
  }
  CHECK(rendered >= 50);
}

std::string render(const std::string& source, const std::vector<Message>& messages = {}) {
  ChatVariables v{.tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}}};
  v.time = golden().json["time"].get<int64_t>();
  return ChatTemplate(source, "chat template").render(messages, v).text;
}

std::string refusal(const std::string& source) {
  return message_of(ErrorKind::data, [&] { render(source, {{.role = "user", .content = "hi"}}); });
}

std::string repeat(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

}  // namespace

TEST_SUITE_BEGIN("chat_template");

TEST_CASE("templates of every family render as with transformers") {
  for (const auto& [name, family] : golden().json["families"].items()) {
    const std::string& which = name;
    INFO(which);
    check_cases(ChatTemplate(family["template"].get<std::string>(), name), family["cases"]);
  }
}

TEST_CASE("the built-in templates render as with transformers") {
  if (!golden().json.contains("built_in")) return;
  CHECK(golden().json["built_in"].size() == built_in_chat_templates().size());
  for (const std::string_view name : built_in_chat_templates()) {
    INFO(std::string(name));
    check_cases(built_in_chat_template(name),
                golden().json["built_in"][std::string(name)]["cases"]);
  }
}

TEST_CASE("every construct renders, or fails, as with transformers") {
  if (!golden().json.contains("snippets")) return;
  for (const Json& s : golden().json["snippets"]) {
    const std::string source = s["template"].get<std::string>();
    INFO(source);
    if (s["text"].is_null()) {
      refusal(source);
    } else {
      CHECK(render(source) == s["text"].get<std::string>());
    }
  }
}

TEST_CASE("what a template says is the error, on one line") {
  CHECK(refusal("\n{{ raise_exception('no such role\n' + messages[0].role) }}") ==
        "chat template: line 2: no such role\\nuser");
  CHECK(refusal("{{ messages[0].role.nothing.at }}").find("`nothing` is undefined") !=
        std::string::npos);
}

TEST_CASE("what is not supported is refused by name, with the built-in templates") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\n\n{% include 'x' %}",
       "line 3: `include` is not supported; choose one of the built-in "
       "templates with --chat-template: chatml, llama2, llama3, zephyr, "
       "mistral, alpaca, plain"},
      {"{% import 'x' as y %}", "`import`"},
      {"{% extends 'x' %}", "`extends`"},
      {"{% block x %}{% endblock %}", "`block`"},
      {"{% call x() %}{% endcall %}", "`call`"},
      {"{% filter upper %}x{% endfilter %}", "`filter`"},
      {"{% raw %}x{% endraw %}", "`raw`"},
      {"{% with x = 1 %}{% endwith %}", "`with`"},
      {"{% autoescape true %}{% endautoescape %}", "`autoescape`"},
      {"{% do x %}", "`do`"},
      {"{% for a in b recursive %}{% endfor %}", "`recursive`"},
      {"{% set x | upper %}a{% endset %}", "`set with a filter`"},
      {"{{ 'x' | safe }}", "`filter safe`"},
      {"{{ [2, 1] | sort }}", "`filter sort`"},
      {"{{ 'x' | format }}", "`filter format`"},
      {"{{ 1 is sameas 1 }}", "`test sameas`"},
      {"{{ 2 ** 3 }}", "`**`"},
      {"{{ 'x%s' % 1 }}", "`% on a string`"},
      {"{{ 'x'.format(1) }}", "`str.format`"},
      {"{{ messages.append(1) }}", "`list.append`"},
      {"{{ messages[0].update({}) }}", "`dict.update`"},
      {"{{ ''.__class__.__mro__ }}", "`str.__class__`"},
      {"{{ cycler(1) }}", "`cycler()`"},
      {"{{ lipsum() }}", "`lipsum()`"},
      {"{% for m in messages %}{{ loop.cycle(1) }}{% endfor %}", "`loop.cycle`"},
      {"{% for m in messages %}{{ loop }}{% endfor %}", "`loop as a value`"},
      {"{{ f(*messages) }}", "`*arguments`"},
      {"{{ 'x'.split('a', keep=true) }}", "`split with keep`"},
      {"{{ 'x' | upper(1) }}", "`upper with so many arguments`"},
      {"{{ 'x' | tojson(4) }}", "`tojson with ensure_ascii`"},
      {"{{ 'x' | tojson(separators=(',', ':')) }}", "`tojson with separators`"},
      {"{{ {} | tojson(sort_keys=true) }}", "`tojson with sort_keys`"},
      {"{{ '\u00e9' | upper }}", "`case of other than ASCII letters`"},
      {"{{ ['\u00e9'] }}", "`a list with other than ASCII text as text`"},
      {"{{ {1: 2} }}", "`a dictionary key other than a string`"},
      {"{{ strftime_now('%c') }}", "`strftime_now with %c`"},
      {"{{ 0x10 }}", "`0x...`"},
      {"{{ 1e5 }}", "`1e...`"},
      {"{{ '\\N{DASH}' }}", "`\\N`"},
  };
  for (const auto& [source, expected] : cases) {
    const std::string& which = source;
    INFO(which);
    const std::string message = refusal(source);
    CHECK(message.find(expected) != std::string::npos);
    CHECK(message.find("is not supported; choose one of the built-in templates") !=
          std::string::npos);
  }
}

TEST_CASE("hostile templates end soon, in little memory and with one line") {
  const std::string ten = "{% for a in range(1000) %}";
  const std::string long_text = "{% set x = 'aaaaaaaa' * 1000000 %}";
  const std::vector<std::string> cases = {
      "{{ " + repeat("(", 100000),
      "{{ " + repeat("(", 5000) + "1" + repeat(")", 5000) + " }}",
      "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}",
      "{{ " + repeat("not ", 50000) + "1 }}",
      "{{ " + repeat("-", 50000) + "1 }}",
      "{{ 1" + repeat(" + 1", 50000) + " }}",
      "{{ x" + repeat(".a", 50000) + " }}",
      "{{ x" + repeat("|trim", 50000) + " }}",
      "{{ 1" + repeat(" if 1 else 1", 50000) + " }}",
      "{{ 1" + repeat(" if 1", 50000) + " }}",
      repeat("{% if 1 %}", 5000) + repeat("{% endif %}", 5000),
      "{% if 0 %}" + repeat("{% elif 0 %}", 5000) + "{% endif %}",
      repeat("{% for a in [1] %}", 200) + repeat("{% endfor %}", 200),
      std::string((1 << 20) + 1, 'x'),
      "{{ 'a' * 99999999999 }}",
      "{{ [1] * 99999999 }}",
      "{{ 'a' * 16000000 * 16000000 }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ 9223372036854775807 * 2 }}",
      "{{ (0 - 9223372036854775807 - 1) // -1 }}",
      "{{ 99999999999999999999 }}",
      "{{ range(100000000) }}",
      "{{ range(9223372036854775806, 9223372036854775807, 0) }}",
      ten + ten + ten + "{% endfor %}{% endfor %}{% endfor %}",
      ten + ten + ten + ten + "{{ 'x' * 9999 }}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s='x') %}" + ten + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s='x') %}" + ten + "{% set ns.s = [ns.s] %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}" + ten + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s={'a': 1}) %}{% for a in range(45) %}{% set ns.s = {'a': ns.s, 'b': "
      "ns.s} %}{% endfor %}{{ ns.s }}",
      "{% set ns = namespace(s=[1]) %}{% for a in range(45) %}{% set ns.s = [ns.s, ns.s] %}"
      "{% endfor %}{{ ns.s == ns.s }}",
      "{% set ns = namespace(s=[1]) %}{% for a in range(45) %}{% set ns.s = [ns.s, ns.s] %}"
      "{% endfor %}{{ ns.s | tojson }}",
      "{% set ns = namespace(s=[1]) %}{% for a in range(45) %}{% set ns.s = [ns.s, ns.s] %}"
      "{% endfor %}{{ ns.s | join }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m() %}{{ n() }}{% endmacro %}{% macro n() %}{{ m() }}{% endmacro %}{{ n() }}",
      "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
      "{% set x = 'a' * 10000000 %}{{ x.replace('a', x) }}",
      "{% set x = 'a' * 10000000 %}{{ x.replace('', x) }}",
      "{% set x = 'a' * 10000000 %}{{ ([x] * 1000) | join(x) }}",
      "{% set x = 'a' * 10000000 %}{{ x.split('a') }}",
      "{% set x = 'a' * 10000000 %}{{ x | list }}",
      "{% set x = 'a' * 10000000 %}" + ten + "{{ x | length }}{{ x == x + '' }}{% endfor %}",
      "{% set x = 'a' * 1000000 %}{{ [" + repeat("x ~ 1,", 2000) + "] }}",
      ten + ten + "{% set n = namespace() %}{% endfor %}{% endfor %}",
      long_text + ten + ten + "{{ ''.find(x) }}{% endfor %}{% endfor %}",
      long_text + ten + ten + "{{ ''.replace(x, x) }}{% endfor %}{% endfor %}",
      long_text + ten + ten + "{{ x.startswith(x) }}{% endfor %}{% endfor %}",
      long_text + ten + ten + "{{ [] | join(x) }}{% endfor %}{% endfor %}",
      long_text + "{% set d = {x: 1} %}" + ten + ten + "{{ d[x] }}{% endfor %}{% endfor %}",
      long_text + ten + ten + "{{ messages[0][x] }}{% endfor %}{% endfor %}",
      long_text + ten + "{{ range(1000) | selectattr(x) | list }}{% endfor %}",
      "{{ 'a' | tojson(indent=99999999) }}",
      "{{ ns.x.y.z }}{% set ns.x = 1 %}",
      "{% set x = namespace(__class__=1) %}",
      "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns | tojson }}",
      "{% break %}",
      "{% for loop in [1] %}{% endfor %}",
      "{{ '\\ud800' }}",
      "{{ '\\U99999999' }}",
      "{{ '\\x4' }}",
      "{{ 'abc\\",
      "{{ \xff }}",
      "{# never ends",
      "{% macro m(a=1, b) %}{% endmacro %}",
      "{{ m(a=1, 2) }}",
      "{{ ] }}",
      "{{ 1 | }}",
      "{{ 1 is }}",
      "{% set = 1 %}",
      "{% for in x %}{% endfor %}",
      "{{ 'x'[::0] }}",
      std::string("{{ 1 \0 }}", 9),
  };
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& source : cases) {
    INFO(source.substr(0, 120));
    const std::string message = refusal(source);
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.size() < 600);
  }
  // A guard against runaways only: it takes about a second.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::minutes(5));
}

// None of these would end within an hour if each place of the text were compared with the part.
TEST_CASE("a part is looked for in time of the lengths, not of their product") {
  const std::string a = "{% set a = 'aaaaaaaa' * 1000000 %}";
  CHECK(render(a + "{{ (a + a).find(a + 'b') }}") == "-1");
  CHECK(render(a + "{{ (a + 'b') in (a + a) }}") == "False");
  CHECK(render(a + "{{ (a + a).split(a + 'b') | length }}") == "1");
  CHECK(render(a + "{{ (a + a).replace(a + 'b', '') == a + a }}") == "True");
  CHECK(render(a + "{{ (a + 'ba').find(a + 'b') }}") == "0");
}

TEST_CASE("a content may be a list of parts") {
  const std::vector<Message> messages = {
      {.role = "user", .parts = {{"text", "one "}, {"text", "two"}}}};
  CHECK(render("{% for p in messages[0].content %}[{{ p.type }}:{{ p.text }}]{% endfor %}",
               messages) == "[text:one ][text:two]");
  const ChatTemplate chat = built_in_chat_template("chatml");
  CHECK(chat.render(messages, {}).text == "<|im_start|>user\none two<|im_end|>\n");
}

TEST_CASE("the built-in templates, one conversation of each") {
  const std::vector<Message> messages = {{.role = "system", .content = "Be brief."},
                                         {.role = "user", .content = "Hi"},
                                         {.role = "assistant", .content = "Hello"},
                                         {.role = "user", .content = "Bye"}};
  ChatVariables v{.tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}}};
  v.add_generation_prompt = true;
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"chatml",
       "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
       "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
       "<|im_start|>assistant\n"},
      {"llama2",
       "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]"},
      {"llama3",
       "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\n"},
      {"zephyr",
       "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello</s>\n<|user|>\nBye</s>\n"
       "<|assistant|>\n"},
      {"mistral", "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]"},
      {"alpaca",
       "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n"
       "### Instruction:\nBye\n\n### Response:\n"},
      {"plain", "System: Be brief.\nUser: Hi\nAssistant: Hello</s>\nUser: Bye\nAssistant:"}};
  for (const auto& [name, text] : expected) {
    const std::string& which = name;
    INFO(which);
    const RenderedChat out = built_in_chat_template(name).render(messages, v);
    CHECK(out.text == text);
    REQUIRE(out.assistant.size() == 1);
    const auto [begin, end] = out.assistant[0];
    CHECK(out.text.substr(begin, end - begin).find("Hello") != std::string::npos);
  }
  CHECK(message_of(ErrorKind::usage, [] {
          open_chat_template("nonsense");
        }).find("expected a file, or one of chatml, llama2") != std::string::npos);
}

// ---- model folders

const fs::path kTokenizerModel = fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model";

std::string first_render(const ModelChat& chat) {
  REQUIRE(chat.chat_template.has_value());
  return chat.chat_template->render({}, {.tokens = chat.tokens}).text;
}

TEST_CASE("where a model folder keeps its template and tokens") {
  const auto tokenizer = load_tokenizer(kTokenizerModel);
  const TemporaryFolder folder;
  const auto read = [&](UseTemplate use = UseTemplate::yes) {
    return read_model_chat(folder.path(), *tokenizer, use);
  };
  CHECK(!read().chat_template.has_value());
  CHECK(read().tokens.at("bos_token") == "<s>");
  folder.file("tokenizer_config.json", R"({"chat_template": "config {{ eos_token }}",
      "bos_token": "<B>", "eos_token": {"content": "<E>", "lstrip": false}})");
  CHECK(first_render(read()) == "config <E>");
  CHECK(read().tokens.at("bos_token") == "<B>");
  CHECK(read().warning == "");
  folder.file("chat_template.jinja", "file {{ bos_token }}\n");
  CHECK(first_render(read()) == "file <B>");
  CHECK(read().warning.find("differ; the first is used") != std::string::npos);
  folder.file("chat_template.jinja", "config {{ eos_token }}");
  CHECK(read().warning == "");
  folder.file("chat_template.jinja", "{% nonsense %}");
  CHECK(message_of(ErrorKind::data, read).find("chat_template.jinja: line 1: `nonsense`") !=
        std::string::npos);
  CHECK(!read(UseTemplate::no).chat_template.has_value());
  fs::remove(folder.path() / "chat_template.jinja");
  folder.file("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "t"},
      {"name": "default", "template": "d"}]})");
  CHECK(first_render(read()) == "d");
  folder.file("tokenizer_config.json",
              R"({"chat_template": [{"name": "tool_use", "template": "t"}]})");
  CHECK(
      message_of(ErrorKind::data, read).find("no template is named \"default\", only: tool_use") !=
      std::string::npos);
  folder.file("tokenizer_config.json", R"({"chat_template": 5})");
  CHECK(message_of(ErrorKind::data, read).find("/chat_template") != std::string::npos);
}

TEST_CASE("never a double BOS, and special tokens of a rendered prompt are tokens") {
  const auto tokenizer = load_tokenizer(kTokenizerModel);
  const int32_t bos = *tokenizer->bos(), eos = *tokenizer->eos();
  const auto words = tokenizer->encode("Hello there");
  std::vector<int32_t> expected = {bos};
  expected.insert(expected.end(), words.begin(), words.end());
  CHECK(encode_prompt(*tokenizer, "Hello there", PromptKind::text) == expected);
  CHECK(encode_prompt(*tokenizer, "Hello there", PromptKind::formatted) == expected);
  CHECK(encode_prompt(*tokenizer, "Hello there", PromptKind::rendered) == words);
  CHECK(encode_prompt(*tokenizer, "<s>Hello there", PromptKind::formatted) == expected);
  CHECK(encode_prompt(*tokenizer, "<s>Hello there", PromptKind::rendered) == expected);
  expected.push_back(eos);
  expected.push_back(bos);
  expected.insert(expected.end(), words.begin(), words.end());
  CHECK(encode_prompt(*tokenizer, "<s>Hello there</s><s>Hello there", PromptKind::rendered) ==
        expected);
  // Looking for EOS anew behind every BOS would take hours.
  const std::vector<int32_t> many(1'000'000, bos);
  CHECK(encode_prompt(*tokenizer, repeat("<s>", many.size()), PromptKind::rendered) == many);
  const auto text = encode_prompt(*tokenizer, "</s>", PromptKind::text);
  CHECK(std::ranges::count(text, eos) == 0);  // what a user writes stays text
}

TEST_SUITE_END();

}  // namespace mora::testing
