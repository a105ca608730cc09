// Benchmarks: prompts, choices, token ids and summaries against lm-evaluation-harness; official
// files that are wrong.
#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "benchmarks/csv.hpp"
#include "io/json.hpp"
#include "mora/benchmarks/run.hpp"
#include "mora/io/sha256.hpp"
#include "temporary_folder.hpp"

using namespace mora;
namespace fs = std::filesystem;

namespace {

const fs::path kRoot = MORA_SOURCE_DIR;
const fs::path kGoldens = kRoot / "tests/golden";

Json goldens() {
  const fs::path file = kGoldens / "benchmarks.json";
  return parse_json(bytes_of(file), file.string());
}

std::string digest(std::string_view text) {
  return sha256_hex(text).substr(0, 16);
}

// As Python prints a list.
std::string listed(const std::vector<int32_t>& ids) {
  std::string text = "[";
  for (const int32_t id : ids) text += (text.size() > 1 ? ", " : "") + std::to_string(id);
  return text + "]";
}

std::string digest(const Tokenizer& tokenizer, const Question& q) {
  std::string text;
  for (const std::string& choice : q.choices) {
    const Continuation pair = encode_pair(tokenizer, q.prompt, choice);
    text += (text.empty() ? "" : " ") + listed(pair.context) + ";" + listed(pair.continuation);
  }
  return digest(text);
}

BenchmarkConfig config_of(const std::string& name, const fs::path& data, int64_t shots = 0) {
  BenchmarkConfig config;
  config.name = name;
  config.data = data;
  config.num_fewshot = shots;
  return config;
}

// Likelihoods that make the model answer `choice`.
Reply reply_for(const Question& q, size_t choice) {
  Reply reply;
  for (size_t i = 0; i < q.choices.size(); ++i) {
    reply.log_likelihoods.push_back(i == choice ? -1.0 : -2.0);
    reply.choice_tokens.push_back(1);
  }
  return reply;
}

std::string problem(const BenchmarkConfig& config, ErrorKind kind = ErrorKind::data) {
  return message_of(kind, [&] { make_benchmark(config); });
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE_BEGIN("benchmarks");

TEST_CASE("prompts, choices and token ids are those of the harness") {
  const Json all = goldens();
  size_t questions = 0, encoded = 0;
  for (const Json& c : all["cases"]) {
    const std::string name = c["name"];
    INFO(name << ", " << c["num_fewshot"].get<int64_t>() << " examples");
    const auto benchmark = make_benchmark(
        config_of(name, kGoldens / "benchmarks" / c["data"].get<std::string>(), c["num_fewshot"]));
    const std::vector<Question>& asked = benchmark->questions();
    REQUIRE(asked.size() == c["prompts"].size());
    CHECK(asked.size() >= 50);
    for (size_t i = 0; i < c["whole"].size(); ++i) CHECK(asked[i].prompt == c["whole"][i]);
    for (size_t i = 0; i < asked.size(); ++i) {
      INFO(i);
      CHECK(digest(asked[i].prompt) == c["prompts"][i]);
      CHECK(asked[i].gold == c["gold"][i]);
      CHECK(asked[i].choices == c["choices"].get<std::vector<std::string>>());
    }
    for (const auto& item : c["ids"].items()) {
      const std::string path = item.key();
      const Json& ids = item.value();
      INFO(path);
      const auto tokenizer = load_tokenizer(kRoot / path);
      for (size_t i = 0; i < asked.size(); ++i) {
        if (ids[i].is_null()) continue;
        CHECK(digest(*tokenizer, asked[i]) == ids[i]);
        ++encoded;
      }
    }
    questions += asked.size();
  }
  CHECK(questions >= 300);
  CHECK(encoded >= 2 * questions + 100);
}

TEST_CASE("white space at the end of a context belongs to what follows, BOS is there once") {
  const Json all = goldens();
  CHECK(all.at("pairs").size() > 10);
  for (const Json& pair : all["pairs"]) {
    const std::string context = pair["context"], continuation = pair["continuation"];
    INFO("\"" << context << "\" \"" << continuation << "\"");
    for (const auto& item : pair["ids"].items()) {
      const std::string path = item.key();
      const Json& ids = item.value();
      INFO(path);
      const auto tokenizer = load_tokenizer(kRoot / path);
      const Continuation found = encode_pair(*tokenizer, context, continuation);
      CHECK(found.context == ids[0].get<std::vector<int32_t>>());
      CHECK(found.continuation == ids[1].get<std::vector<int32_t>>());
    }
  }
  const auto tokenizer = load_tokenizer(kGoldens / "tokenizers/llama2.json");
  CHECK(encode_pair(*tokenizer, "  ", "x").context == std::vector<int32_t>{*tokenizer->bos()});
  CHECK(has(message_of(ErrorKind::data, [&] { encode_pair(*tokenizer, "x", ""); }),
            "the answer \"\" has no tokens"));
}

TEST_CASE("MMLU's summary is the harness's, by subject, category and in total") {
  const auto benchmark = make_benchmark(config_of("mmlu", kGoldens / "benchmarks/mmlu"));
  const std::vector<Question>& asked = benchmark->questions();
  const Json golden = goldens()["groups"];
  std::vector<Judgement> judgements;
  for (size_t i = 0; i < asked.size(); ++i) {
    const bool right = golden["scores"][i] == 1;
    judgements.push_back(benchmark->judge(
        asked[i], reply_for(asked[i], right ? asked[i].gold : (asked[i].gold + 1) % 4)));
    CHECK(judgements.back().scores == std::vector<double>{right ? 1.0 : 0.0});
  }
  std::map<std::string, Measurement> found;
  for (const Measurement& m : benchmark->summary(judgements)) found.emplace(m.group, m);
  CHECK(found.size() == golden["summary"].size());
  for (const auto& item : golden["summary"].items()) {
    const std::string name = item.key();
    const Json& expected = item.value();
    INFO(name);
    const std::string group = name == "stem"              ? "STEM"
                              : name == "social_sciences" ? "social sciences"
                                                          : name;
    REQUIRE(found.contains(group));
    CHECK(found.at(group).n == expected[0]);
    CHECK(found.at(group).value == doctest::Approx(expected[1].get<double>()).epsilon(1e-12));
    CHECK(found.at(group).standard_error ==
          doctest::Approx(expected[2].get<double>()).epsilon(1e-12));
  }
}

TEST_CASE("MMLU's subjects can be chosen, and each be cut") {
  BenchmarkConfig config = config_of("mmlu", kGoldens / "benchmarks/mmlu");
  config.subjects = {"virology", "miscellaneous"};
  config.num_samples = 3;
  const auto benchmark = make_benchmark(config);
  REQUIRE(benchmark->questions().size() == 6);
  CHECK(benchmark->questions()[0].group == "virology");
  CHECK(benchmark->questions()[5].group == "miscellaneous");
  config.subjects = {"virology", "virology"};
  CHECK(problem(config, ErrorKind::usage) == "subjects: virology is there twice");
  config.subjects = {"astrology"};
  CHECK(has(problem(config), "has no astrology_test.csv"));
  config.subjects.clear();
  config.num_fewshot = 6;
  CHECK(has(problem(config, ErrorKind::usage),
            "abstract_algebra_dev.csv: num_fewshot is 6, but there are only 5 examples"));
}

TEST_CASE("CSV is read as Python reads it") {
  const TemporaryFolder folder;
  std::vector<std::vector<std::string>> rows;
  std::vector<int64_t> lines;
  const auto read = [&](const std::string& text) {
    rows.clear();
    lines.clear();
    benchmarks::read_csv(folder.file("x.csv", text),
                         [&](int64_t line, const std::vector<std::string>& fields) {
                           rows.push_back(fields);
                           lines.push_back(line);
                         });
  };
  read("a,\"b, \"\"c\"\"\nd\",e\r\n\n\"\",x\"y\" ,\"f\"g\n ,");
  CHECK(rows == std::vector<std::vector<std::string>>{
                    {"a", "b, \"c\"\nd", "e"}, {"", "x\"y\" ", "fg"}, {" ", ""}});
  CHECK(lines == std::vector<int64_t>{1, 4, 5});
  CHECK(has(message_of(ErrorKind::data, [&] { read("a\n\"b\nc\n"); }),
            "x.csv:2: a field begins with \" and never ends"));
  CHECK(has(message_of(ErrorKind::data, [&] { read("a\nb,\xff\n"); }), "x.csv:2: not UTF-8"));
}

TEST_CASE("official files that are wrong are named with their line") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "test");
  CHECK(has(problem(config_of("mmlu", folder / "nowhere")), "nowhere/test: is no folder"));
  CHECK(has(problem(config_of("mmlu", folder.path())), "has no SUBJECT_test.csv"));
  folder.file("test/x_test.csv", "q,1,2,3,4,A\nq,1,2,3,A\n");
  CHECK(has(problem(config_of("mmlu", folder.path())), "x_test.csv:2: 5 fields; expected 6"));
  folder.file("test/x_test.csv", "q,1,2,3,4,E\n");
  CHECK(has(problem(config_of("mmlu", folder.path())), "x_test.csv:1: the right answer is \"E\""));
  folder.file("test/x_test.csv", "\n");
  CHECK(has(problem(config_of("mmlu", folder.path())), "x_test.csv: has no questions"));

  const auto pubmedqa = [&](const char* ids, const char* articles) {
    folder.file("test_ground_truth.json", ids);
    folder.file("ori_pqal.json", articles);
    return problem(config_of("pubmedqa", folder.path()));
  };
  const char* const article =
      R"({"1": {"QUESTION": "q", "CONTEXTS": ["c"], "final_decision": "no"}})";
  CHECK(
      has(problem(config_of("pubmedqa", folder.path())), "has no test_ground_truth.json and no "));
  CHECK(has(pubmedqa("{}", article), "test_ground_truth.json: names no questions"));
  CHECK(has(pubmedqa("{\n\"1\": \"perhaps\"}", article), "test_ground_truth.json:2:"));
  CHECK(has(pubmedqa(R"({"1": "yes"})", article), "/1/final_decision: another answer than in"));
  CHECK(has(pubmedqa(R"({"1": "no", "2": "no"})", article), "has no article 2"));
  CHECK(has(pubmedqa(R"({"1": "no"})", R"({"1": {"QUESTION": "q"}})"), "CONTEXTS"));
  CHECK(has(pubmedqa(R"({"1": "no"})", "[1"), "ori_pqal.json:"));

  const auto medqa = [&](const char* row) {
    return problem(config_of("medqa", folder.file("x.jsonl", str("\n", row))));
  };
  CHECK(has(medqa(R"({"question": "q", "options": {"A": "1", "B": "2"}, "answer_idx": "A"})"),
            "x.jsonl:2:"));
  const char* const five =
      R"({"question": "q", "options": {"A": "1", "B": "2", "C": "3", "D": "4", "E": "5"}, "answer_idx": "A"})";
  CHECK(has(medqa(five), "expected four options"));
  CHECK(has(medqa(R"({"options": {"A": 5}, "question": ""})"), "/options/A"));
  CHECK(has(problem(config_of("rct", folder.file("r.txt", "###1\nMETHODS\tx\nMethods\ty\n"))),
            "r.txt:3: \"Methods\\ty\"; expected"));
}

TEST_CASE("RCT asks for a sentence's role, and takes examples of all roles in turn") {
  const TemporaryFolder folder;
  folder.file("test.txt",
              "###24\nOBJECTIVE\tTo see .\nRESULTS\tIt was seen .\n\n###25\nMETHODS\tLook .\n");
  folder.file("train.txt",
              "###1\nMETHODS\tm1\nMETHODS\tm2\nBACKGROUND\tb1\nCONCLUSIONS\tc1\nMETHODS\tm3\n");
  const auto plain = make_benchmark(config_of("rct", folder.path()));
  REQUIRE(plain->questions().size() == 3);
  const Question& q = plain->questions()[1];
  CHECK(q.prompt ==
        "It was seen .\nQuestion: what is the role of this sentence in an abstract?\nAnswer:");
  CHECK(q.choices[q.gold] == " results");
  // By likelihood per token.
  const Reply reply{{-3, -2.5, -9, -4, -2.6}, "", {1, 1, 1, 2, 1}};
  const Judgement judgement = plain->judge(q, reply);
  CHECK(judgement.prediction == "results");
  CHECK(judgement.scores == std::vector<double>{1});
  CHECK(plain->measures() == std::vector<std::string>{"micro_f1"});

  const auto shots = make_benchmark(config_of("rct", folder.path(), 4));
  std::string roles;
  const std::string& prompt = shots->questions()[0].prompt;
  for (const char* const example : {"b1", "m1", "c1", "m2"}) {
    const size_t at = prompt.find(std::string(example) + "\nQuestion");
    REQUIRE(at != std::string::npos);
    CHECK(at >= roles.size());
    roles = prompt.substr(0, at);
  }
  CHECK_FALSE(has(prompt, "m3"));
  CHECK(has(problem(config_of("rct", folder.path(), 6), ErrorKind::usage), "only 5 examples"));
}

TEST_SUITE_END();
