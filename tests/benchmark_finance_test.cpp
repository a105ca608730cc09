// The financial benchmarks: prompts from small sets in the official formats, judgement against
// AdaptLLM's metrics.
#include <doctest/doctest.h>

#include <string>

#include "benchmarks/classification.hpp"
#include "benchmarks/spoken_answers.hpp"
#include "io/json.hpp"
#include "mora/benchmarks/benchmark.hpp"
#include "mora/io/file.hpp"
#include "temporary_folder.hpp"

using namespace mora;

namespace {

using Labels = std::vector<std::string>;

const Json& goldens() {
  static const Json kGoldens = [] {
    const std::string path = std::string(MORA_SOURCE_DIR) + "/tests/golden/generation.json";
    return parse_json(read_file(path, size_t{16} << 20), path);
  }();
  return kGoldens;
}

std::vector<Question> questions_of(const std::string& name, const std::filesystem::path& data,
                                   int64_t num_fewshot = 0) {
  BenchmarkConfig config;
  config.name = name;
  config.data = data;
  config.num_fewshot = num_fewshot;
  return make_benchmark(config)->questions();
}

std::string problem_of(ErrorKind kind, const std::string& name, const std::filesystem::path& data) {
  const std::string text = message_of(kind, [&] { questions_of(name, data); });
  CHECK(text.find('\n') == std::string::npos);
  return text.substr(data.string().size());
}

// The total and only weighted F1 of predictions.
double weighted_f1_of(const std::vector<Measurement>& summary) {
  for (const Measurement& m : summary) {
    if (m.name == "weighted_f1" && m.group.empty()) return m.value;
  }
  return -1;
}

constexpr const char* kHeader =
    "Dates,URL,News,Price or Not,Direction Up,Direction Constant,Direction Down,PastPrice,"
    "FuturePrice,PastNews,FutureNews,Asset Comparision\n";

}  // namespace

TEST_SUITE("benchmark finance") {
  TEST_CASE("weighted F1 is scikit-learn's") {
    CHECK(goldens()["f1"].size() == 12);
    for (const Json& c : goldens()["f1"]) {
      std::vector<Question> questions;
      std::vector<Judgement> judgements;
      for (size_t i = 0; i < c["gold"].size(); ++i) {
        const std::string gold = c["gold"][i], predicted = c["pred"][i];
        questions.push_back({.group = "", .prompt = "", .choices = {}, .answer = gold});
        judgements.push_back({predicted, {gold == predicted ? 1.0 : 0.0}});
      }
      const benchmarks::Classification benchmark(std::move(questions));
      CHECK(weighted_f1_of(benchmark.summary(judgements)) ==
            doctest::Approx(c["f1"].get<double>()).epsilon(1e-12));
    }
  }

  TEST_CASE("Headline's measure is the mean over nine questions") {
    for (const Json& c : goldens()["headline"]) {
      const TemporaryFolder folder;
      std::string file = kHeader;
      for (size_t i = 0; i < c["rows"].size(); ++i) {
        file += str("1-1-2000,http://a,\"gold, ", i, " up\"");
        for (const Json& answer : c["rows"][i]) file += str(",", answer[0].get<int>());
        file += "\n";
      }
      BenchmarkConfig config;
      config.name = "headline";
      config.data = folder.file("news.csv", file);
      const auto benchmark = make_benchmark(config);
      std::vector<Judgement> judgements;
      for (size_t i = 0; i < benchmark->questions().size(); ++i) {
        const Question& question = benchmark->questions()[i];
        const bool yes = c["rows"][i / 9][i % 9][1] == 1;
        judgements.push_back(benchmark->judge(
            question,
            {.log_likelihoods = {yes ? -2.0 : -1.0, -1.5}, .text = "", .choice_tokens = {1, 1}}));
        CHECK(judgements.back().prediction == (yes ? "Yes" : "No"));
      }
      const auto summary = benchmark->summary(judgements);
      CHECK(weighted_f1_of(summary) == doctest::Approx(c["f1"].get<double>()).epsilon(1e-12));
      CHECK(summary.size() == 20);  // two measures, in total and of nine groups
    }
  }

  TEST_CASE("ConvFinQA: AdaptLLM's numbers") {
    CHECK(goldens()["numbers"].size() > 250);
    for (const Json& c : goldens()["numbers"]) {
      INFO(c.dump());
      CHECK(benchmarks::numbers_agree(c["output"].get<std::string>(),
                                      c["label"].get<std::string>()) == (c["right"] == 1));
    }
    CHECK(benchmarks::numbers_in(" 1,234.5% or -.5e1, 12%%\n7") ==
          std::vector<double>{12.345, -5, 0.0012});
  }

  TEST_CASE("NER: AdaptLLM's entities and nereval's F1") {
    CHECK(goldens()["entities"].size() >= 100);
    for (const Json& c : goldens()["entities"]) {
      INFO(c.dump());
      CHECK(benchmarks::entity_f1(benchmarks::entities_in(c["label"].get<std::string>()),
                                  benchmarks::entities_in(c["output"].get<std::string>())) ==
            doctest::Approx(c["f1"].get<double>()).epsilon(1e-12));
    }
  }

  TEST_CASE("FPB: prompts, ISO-8859-1, examples") {
    const TemporaryFolder folder;
    const auto file = folder.file("Sentences_50Agree.txt",
                                  "Profit rose , a@b said .@positive\nCaf\xE9 closed .@negative\r\n"
                                  "Nothing at \xC3\xA9 .@neutral\n");
    const auto questions = questions_of("fpb", file);
    REQUIRE(questions.size() == 3);
    CHECK(questions[0].prompt ==
          "Profit rose , a@b said .\nQuestion: what is the sentiment?\nAnswer:");
    CHECK(questions[0].choices == Labels{" negative", " neutral", " positive"});
    CHECK(questions[0].gold == 2);
    CHECK(questions[1].prompt.starts_with("Caf\xC3\xA9 closed .\n"));
    CHECK(questions[1].answer == "negative");
    CHECK(questions[2].prompt.starts_with("Nothing at \xC3\xA9 .\n"));
    const auto behind = questions_of("fpb", file, 2);
    CHECK(behind[1].prompt.ends_with("\n\n" + questions[1].prompt));
    CHECK(behind[1].prompt.find(questions[0].prompt + " positive\n\n") != std::string::npos);
    CHECK(behind[1].prompt.find(questions[2].prompt + " neutral\n\n") != std::string::npos);

    CHECK(problem_of(ErrorKind::data, "fpb", folder.file("f.txt", "A.@good\n")) ==
          ":1: \"A.@good\": expected a sentence, \"@\" and negative, neutral or positive");
    CHECK(problem_of(ErrorKind::data, "fpb", folder.file("g.txt", "A@neutral\n\xFF\n"))
              .starts_with(":2: \"\\xff\""));
  }

  TEST_CASE("FiQA: one question for each company, three classes") {
    const TemporaryFolder folder;
    const auto item = [](const std::string& scores) {
      return str(R"({"1": {"sentence": "A buys B", "info": [)", scores, "]}}");
    };
    const auto aspect = [](const std::string& target, const std::string& score) {
      return str(R"({"target": ")", target, R"(", "sentiment_score": )", score, "}");
    };
    folder.file("task1_headline_ABSA_test.json",
                item(aspect("A", "\"0.1\"") + "," + aspect("B", "\"-0.1\"")));
    folder.file("task1_post_ABSA_test.json",
                item(aspect("C", "\"-0.101\"") + "," + aspect("D", "0.099")));
    for (const char* kind : {"headline", "post"})
      folder.file(str("task1_", kind, "_ABSA_train.json"), item(aspect(kind, "\"1\"")));
    const auto questions = questions_of("fiqa", folder.path());
    REQUIRE(questions.size() == 4);
    CHECK(questions[0].prompt == "A buys B\nQuestion: what is the sentiment on A?\nAnswer:");
    Labels answers;
    for (const Question& question : questions) answers.push_back(question.answer);
    CHECK(answers == Labels{"positive", "neutral", "negative", "neutral"});
    CHECK(questions_of("fiqa", folder.path(), 1)[0].prompt.find("?\nAnswer: positive\n\nA buys") !=
          std::string::npos);

    const auto bad = folder.file("bad.json", item(aspect("A", "\"much\"")));
    CHECK(problem_of(ErrorKind::data, "fiqa", bad)
              .starts_with(":1:76: /1/info/0/sentiment_score: expected a number"));
    CHECK(problem_of(ErrorKind::data, "fiqa", folder.file("far.json", item(aspect("A", "1.5"))))
              .find("expected a sentiment from -1 to 1") != std::string::npos);
  }

  TEST_CASE("Headline: nine questions to each headline") {
    const TemporaryFolder folder;
    const auto file =
        folder.file("news.csv", str(kHeader, "d,u,\"gold, \"\"up\"\"\",1,1,0,0,1,0,0,0,1\n"));
    const auto questions = questions_of("headline", file);
    REQUIRE(questions.size() == 9);
    CHECK(questions[1].prompt ==
          "gold, \"up\"\nQuestion: Does the news headline talk about price going up?\nAnswer:");
    CHECK(questions[1].answer == "Yes");
    CHECK(questions[2].answer == "No");
    CHECK(questions[8].group == "asset comparison");
    CHECK(questions[8].gold == 1);
    CHECK(problem_of(ErrorKind::data, "headline", folder.file("a.csv", "News,Price or Not\n"))
              .starts_with(":1: no column \"Direction Up\""));
    CHECK(problem_of(ErrorKind::data, "headline",
                     folder.file("b.csv", str(kHeader, "d,u,gold,1,1,0,0,1,0,0,0\n"))) ==
          ":2: 11 fields, the header has 12");
    CHECK(problem_of(ErrorKind::data, "headline",
                     folder.file("c.csv", str(kHeader, "d,u,gold,1,1,0,0,1,0,0,0,yes\n"))) ==
          ":2: Asset Comparision is \"yes\", expected 0 or 1");
  }

  TEST_CASE("ConvFinQA: both forms of the file make the same questions") {
    const TemporaryFolder folder;
    const auto by_column = folder.file("a.json", R"({"dev": [{"doc": {"pre_text": "Before . More .",
      "post_text": "After .", "table": {"2007": {"price": 60.94, "life": 5.0}, "2006": {"price": -3.5,
      "life": "n/a"}}}, "dialogue": {"conv_questions": ["what was it?", "and before?", "more?"],
      "executed_answers": [60.94, -4.0, "no"]}}]})");
    const auto official = folder.file("dev.json", R"([{"pre_text": ["Before .", "More ."],
      "post_text": ["After ."], "table": [["", "2007", "2006"], ["price", "60.94", "-3.5"],
      ["life", "5", "n/a"]], "annotation": {"dialogue_break": ["what was it?", "and before?",
      "more?"], "exe_ans_list": [60.94, -4.0, "no"]}}])");
    const auto questions = questions_of("convfinqa", by_column);
    REQUIRE(questions.size() == 3);
    CHECK(questions[2].prompt ==
          "Before . More .\n| - | 2007 | 2006 |\n| --- | --- | --- |\n| price | 60.94 | -3.5 |\n"
          "| life | 5 | n/a |\nAfter .\nQuestion: what was it?\nAnswer: 60.94\n"
          "Question: and before?\nAnswer: -4\nQuestion: more?\nAnswer:");
    CHECK(questions[1].answer == "-4");
    CHECK(questions[1].stops == Labels{"\n"});
    CHECK(questions[1].max_new_tokens == 100);
    for (const auto& place : {official, folder.path()}) {
      const auto same = questions_of("convfinqa", place);
      REQUIRE(same.size() == 3);
      for (size_t i = 0; i < 3; ++i) CHECK(same[i].prompt == questions[i].prompt);
    }
    const auto bad = folder.file("bad.json", R"([{"pre_text": [], "post_text": [], "table": [],
      "annotation": {"dialogue_break": ["a", "b"], "exe_ans_list": [1]}}])");
    CHECK(problem_of(ErrorKind::data, "convfinqa", bad) ==
          ":2:68: /0/annotation/exe_ans_list: 1 answers to 2 questions");
    const auto ragged =
        folder.file("ragged.json", R"({"dev": [{"doc": {"pre_text": "", "post_text": "", "table":
      {"a": {"x": 1, "y": 2}, "b": {"x": 1}}}, "dialogue": {"conv_questions": [],
      "executed_answers": []}}]})");
    CHECK(problem_of(ErrorKind::data, "convfinqa", ragged)
              .ends_with("/dev/0/doc/table/b: expected the rows of the first column"));
    CHECK(message_of(ErrorKind::usage, [&] {
            questions_of("convfinqa", official, 1);
          }).find("without examples") != std::string::npos);
  }

  TEST_CASE("NER: entities of CoNLL's tags, without MISC and empty sentences") {
    const TemporaryFolder folder;
    folder.file("FIN3.txt",
                "-DOCSTART- -X- O O\n\nThe DT O O\nBank NN I-NP I-ORG\nof IN I-NP I-ORG\n"
                "Rome NNP I-NP B-ORG\nAda NNP I-NP I-PER\n\nNobody NN O O\n\nLaw NN O I-MISC\n\n"
                "in IN O O\nRome\tNNP\tO\tI-LOC\nLaw NN O I-MISC\n");
    folder.file("FIN5.txt", "Bern NNP O I-LOC\n");
    const auto questions = questions_of("ner", folder.path(), 1);
    REQUIRE(questions.size() == 2);
    const std::string example = "Bern\nExtract named entity: Bern (LOC)\n\n";
    CHECK(questions[0].prompt == example + "The Bank of Rome Ada\nExtract named entity:");
    CHECK(questions[0].answer == "Bank of (ORG), Rome (ORG), Ada (PER)");
    CHECK(questions[1].prompt == example + "in Rome Law\nExtract named entity:");
    CHECK(questions[1].answer == "Rome (LOC)");
    CHECK(problem_of(ErrorKind::data, "ner", folder.file("a.txt", "Rome NNP O I-LOC\nx y\n"))
              .starts_with(":2: \"x y\": expected a token"));
  }
}
