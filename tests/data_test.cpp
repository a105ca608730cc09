// Examples, batches, the UUID task, text blocks and the data order.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>
#include <string>

#include "gzip_file.hpp"
#include "mora/core/error.hpp"
#include "mora/core/parallel.hpp"
#include "mora/core/random.hpp"
#include "mora/data/batch.hpp"
#include "mora/data/sampler.hpp"
#include "mora/data/text_blocks.hpp"
#include "mora/data/uuid_pairs.hpp"
#include "mora/io/file.hpp"
#include "temporary_folder.hpp"

using namespace mora;
using mora::testing::write_gzip;
namespace fs = std::filesystem;

namespace {

const fs::path kModel = fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model";

// A document's tokens as they are made, piece by piece.
std::vector<int32_t> tokens_of_pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  for (const std::string_view piece : split_document(text)) {
    const auto ids =
        tokens.empty() ? tokenizer.encode(piece) : tokenizer.encode_continuation(piece);
    tokens.insert(tokens.end(), ids.begin(), ids.end());
  }
  return tokens;
}

std::string prose(uint64_t seed, int lines) {
  const std::vector<std::string> words = {"the ", "sea", " was ", "calm, ", "and",   "\n",
                                          "\n\n", "12",  " ",     "  ",     "fog. ", "I "};
  const Random random(seed, Purpose::test);
  std::string text;
  for (uint64_t i = 0; i < static_cast<uint64_t>(lines) * 12; ++i) {
    text += words[random.below(i, words.size())];
  }
  return text;
}

}  // namespace

TEST_SUITE("data") {
  TEST_CASE("pack puts whole sequences one after the other") {
    const Example a{{5, 6, 7}, {0, 0, 1}};
    const Example b{{8, 9}, {0, 0.5f}};
    const Example c{{4}, {0}};
    const std::vector<const Example*> examples = {&a, &b, &c};
    const Batch batch = pack(examples, 8);
    CHECK(batch.tokens == std::vector<int32_t>{5, 6, 7, 8, 9, 4, 0, 0});
    CHECK(batch.positions == std::vector<int32_t>{0, 1, 2, 0, 1, 0, 0, 0});
    CHECK(batch.segment_start == std::vector<int32_t>{0, 0, 0, 3, 3, 5, 6, 7});
    CHECK(batch.labels == std::vector<int32_t>{6, 7, 0, 9, 0, 0, 0, 0});
    CHECK(batch.weights == std::vector<float>{0, 1, 0, 0.5f, 0, 0, 0, 0});
    CHECK(batch.tokens_used == 6);
    CHECK(batch.weight_sum == 1.5);
  }

  TEST_CASE("pack without examples, to the last slot, and beyond it") {
    CHECK(pack({}, 2).segment_start == std::vector<int32_t>{0, 1});
    const Example a{{5, 6, 7}, {0, 1, 1}};
    const std::vector<const Example*> twice = {&a, &a};
    CHECK(pack(twice, 6).tokens_used == 6);
    const std::string message = message_of(ErrorKind::usage, [&] { pack(twice, 5); });
    CHECK(message.find("a sequence of 3 tokens does not fit a batch of 5 with 3 in use") !=
          std::string::npos);

    const Example bad{{5, 6}, {1, 1}};
    const std::vector<const Example*> broken = {&bad};
    message_of(ErrorKind::internal, [&] { pack(broken, 5); });
  }

  TEST_CASE("a batch can be filled again, also from views without weights") {
    const Example a{{5, 6, 7}, {0, 0, 1}};
    const std::vector<int32_t> plain = {8, 9, 3};
    Batch batch(5);
    batch.append(ExampleView(a));
    message_of(ErrorKind::usage, [&] { batch.append(ExampleView(a)); });
    CHECK(batch.tokens_used == 3);  // a refused sequence leaves the batch as it was
    CHECK(batch.tokens == std::vector<int32_t>{5, 6, 7, 0, 0});

    batch.clear();
    const Batch fresh(5);
    CHECK(batch.tokens == fresh.tokens);
    CHECK(batch.segment_start == fresh.segment_start);
    batch.append(ExampleView(plain));
    CHECK(batch.tokens == std::vector<int32_t>{8, 9, 3, 0, 0});
    CHECK(batch.labels == std::vector<int32_t>{9, 3, 0, 0, 0});
    CHECK(batch.weights == std::vector<float>{1, 1, 0, 0, 0});
    CHECK(batch.segment_start == std::vector<int32_t>{0, 0, 0, 3, 4});
    CHECK(batch.weight_sum == 2);
  }

  TEST_CASE("UUID pairs are version 4, distinct and a pure function of seed and index") {
    const auto pairs = generate_uuid_pairs(7, 2000);
    std::set<std::string> seen;
    for (const UuidPair& pair : pairs) {
      for (const std::string& text : {pair.key, pair.value}) {
        REQUIRE(text.size() == 36);
        for (size_t i = 0; i < 36; ++i) {
          const bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
          const std::string allowed = hyphen    ? "-"
                                      : i == 14 ? "4"
                                      : i == 19 ? "89ab"
                                                : "0123456789abcdef";
          REQUIRE(allowed.find(text[i]) != std::string::npos);
        }
        CHECK(seen.insert(text).second);
      }
    }
    const auto fewer = generate_uuid_pairs(7, 10);
    CHECK(std::equal(fewer.begin(), fewer.end(), pairs.begin()));
    CHECK(generate_uuid_pairs(7, 10) == fewer);
    CHECK(generate_uuid_pairs(8, 10)[3].key != fewer[3].key);
    CHECK(generate_uuid_pairs(7, 0).empty());

    // Every free digit takes all 16 values about equally often (2,000 draws: 125 +- 5 sigma).
    for (const size_t place : {0u, 9u, 15u, 20u, 35u}) {
      std::vector<int> counts(128, 0);
      for (const UuidPair& pair : pairs) ++counts[static_cast<size_t>(pair.value[place])];
      for (const char digit : std::string("0123456789abcdef")) {
        CHECK(std::abs(counts[static_cast<size_t>(digit)] - 125) < 55);
      }
    }
  }

  TEST_CASE("UUID pairs survive writing and reading; bad files name file and line") {
    const TemporaryFolder folder;
    const auto pairs = generate_uuid_pairs(1, 20);
    const auto path = folder / "pairs.jsonl";
    write_uuid_pairs(path, pairs);
    CHECK(read_uuid_pairs(path) == pairs);

    const auto line = [](const std::string& key, const std::string& value) {
      return "{\"key\": \"" + key + "\", \"value\": \"" + value + "\"}\n";
    };
    const std::string good = line(pairs[0].key, pairs[0].value);
    std::string upper = pairs[1].key;
    upper[0] = 'A';
    const std::vector<std::string> bad = {
        line(pairs[0].key, pairs[1].value),        // the same key again
        line(upper, pairs[1].value),               // not lower case
        line("abc", pairs[1].value),               // not a UUID
        line(pairs[1].key, pairs[1].value + "0"),  // too long
        "{\"key\": \"" + pairs[1].key + "\"}\n",   // no value
        "{\"key\": 3, \"value\": 4}\n",            // not strings
        "[1]\n",
        "{\"key\": \n",
        "nonsense\n",
    };
    for (const std::string& text : bad) {
      const auto file = folder.file("bad.jsonl", good + "\n" + text);
      const std::string message = message_of(ErrorKind::data, [&] { read_uuid_pairs(file); });
      CHECK(message.starts_with(file.string() + ":3:"));
      CHECK(message.find('\n') == std::string::npos);
    }
  }

  TEST_CASE("the UUID prompt is a prefix of the training tokens") {
    const TemporaryFolder folder;
    // A second model: as the shipped one, but with add_dummy_prefix, as LLaMA's (see text_test).
    const auto prefixing =
        folder.file("tokenizer.model", read_file(kModel, 1 << 20) + "\x1a\x02\x18\x01");
    for (const fs::path& model : {kModel, prefixing}) {
      const auto tokenizer = load_tokenizer(model);
      for (const UuidPair& pair : generate_uuid_pairs(3, 200)) {
        const auto prompt = uuid_prompt(*tokenizer, pair.key);
        const Example all = uuid_example(*tokenizer, pair, LossOn::all);
        const Example value = uuid_example(*tokenizer, pair, LossOn::value);
        REQUIRE(all.tokens.size() > prompt.size());
        CHECK(std::equal(prompt.begin(), prompt.end(), all.tokens.begin()));
        CHECK(value.tokens == all.tokens);
        CHECK(all.tokens[0] == *tokenizer->bos());
        CHECK(tokenizer->decode(all.tokens) == pair.key + ":" + pair.value);
        const std::span rest = std::span(all.tokens).subspan(prompt.size());
        CHECK(tokenizer->decode(rest) == pair.value);

        std::vector<float> expected(all.tokens.size(), 1.0f);
        expected[0] = 0;
        CHECK(all.weights == expected);
        std::fill_n(expected.begin(), prompt.size(), 0.0f);
        CHECK(value.weights == expected);
      }
    }
  }

  TEST_CASE("character accuracy of a UUID") {
    const std::string value = "01234567-89ab-4cde-8f01-23456789abcd";
    CHECK(uuid_character_accuracy(value, value) == 1);
    CHECK(uuid_character_accuracy("0123456789ab4cde8f0123456789abcd", value) == 1);
    CHECK(uuid_character_accuracy(value + "00:tail", value) == 1);
    CHECK(uuid_character_accuracy("", value) == 0);
    CHECK(uuid_character_accuracy("----", value) == 0);
    CHECK(uuid_character_accuracy("01234567-", value) == 8 / 32.0);
    CHECK(uuid_character_accuracy("x1234567-89ab", value) == 11 / 32.0);
    CHECK(uuid_character_accuracy(" " + value, value) < 0.1);  // shifted by one
    CHECK(uuid_character_accuracy(std::string(50, '?'), value) == 0);

    const auto pairs = generate_uuid_pairs(11, 4000);
    double sum = 0;
    for (const UuidPair& pair : pairs) sum += uuid_character_accuracy(pair.key, pair.value);
    const double chance = (1 + 0.25 + 30 / 16.0) / 32;
    CHECK(std::fabs(sum / 4000 - chance) < 0.003);  // four deviations of the mean
  }

  TEST_CASE("documents are read from every kind of file") {
    const TemporaryFolder folder;
    const std::string lines =
        "{\"text\": \"one\\n\", \"n\": 1}\n\n{\"text\": \"\"}\n{\"text\": \"two\"}";
    const TextFiles source{{folder.file("a.jsonl", lines), write_gzip(folder / "b.jsonl.gz", lines),
                            folder.file("c.txt", "x\r\n\n  y"),
                            write_gzip(folder / "d.txt.gz", "z\n"), folder.file("empty.txt", "")},
                           "text"};
    std::vector<std::string> documents;
    const auto read = [&](const TextFiles& from) {
      documents.clear();
      return read_documents(from, [&](Document d) { documents.push_back(std::move(d.text)); });
    };
    read(source);
    CHECK(documents ==
          std::vector<std::string>{"one\n", "two", "one\n", "two", "x\n\n  y\n", "z\n"});
    read({.files = {folder.file("e.json", "[{\"text\": \"p\"},\n{\"text\": \"q\"}]")}});
    CHECK(documents == std::vector<std::string>{"p", "q"});
    TextFiles lines_of{.files = {folder / "c.txt", folder.file("g.txt", "a\nb\xff\nc")},
                       .unit = TextUnit::line,
                       .bad_rows = BadRows::skip};
    RowCounts counts = read(lines_of);
    CHECK(documents == std::vector<std::string>{"x", "  y", "a", "c"});
    CHECK(counts.read == 4);
    CHECK(counts.skipped == 1);
    CHECK(counts.first_problem == (folder / "g.txt").string() + ":2:2: not UTF-8 text");
    lines_of.unit = TextUnit::file;
    counts = read(lines_of);
    CHECK(documents == std::vector<std::string>{"x\n\n  y\n"});
    CHECK(counts.skipped == 1);
  }

  TEST_CASE("bad text files name what is wrong and where") {
    const TemporaryFolder folder;
    const auto read = [&](const std::string& name, const std::string& bytes, ErrorKind kind) {
      const TextFiles source{{folder.file(name, bytes)}, "text"};
      return message_of(kind, [&] { read_documents(source, [](const Document&) {}); });
    };
    const std::string at = (folder / "f").string();
    CHECK(read("f.csv", "a\n", ErrorKind::usage).find("expected .jsonl") != std::string::npos);
    CHECK(read("f.txt", "a\n\xff\n", ErrorKind::data).starts_with(at + ".txt:2:1:"));
    CHECK(read("f.jsonl", "{\"text\": \"a\"}\n{\"body\": \"a\"}\n", ErrorKind::data)
              .starts_with(at + ".jsonl:2:1:"));
    CHECK(read("f.jsonl", "{\"text\": \"\xff\"}\n", ErrorKind::data).starts_with(at + ".jsonl:1:"));
    CHECK(read("f.jsonl", "{\"text\": 5}\n", ErrorKind::data).find("string") != std::string::npos);
    read("f.txt.gz", "\x1f\x8b torn", ErrorKind::data);
  }

  // Line breaks behind white space and punctuation are one token with them in many families.
  TEST_CASE("the pieces of a document have the tokens of the whole, with every tokenizer") {
    const Random random(8, Purpose::test);
    const std::vector<std::string> words = {"the",  "river", "stone",      "42",  "x1",   "(a)",
                                            "end.", "it's",  "caf\u00e9,", "no;", "yes!", "\"so\""};
    const std::vector<std::string> gaps = {" ",   " ",     " ",    "\n",    " \n",    "\n\n",
                                           ".\n", "  \n ", "\t\n", "!\n\n", " \n \n", "\u00a0\n"};
    std::string text;
    for (uint64_t i = 0; text.size() < 60000; i += 2)
      text += words[random.below(i, words.size())] + gaps[random.below(i + 1, gaps.size())];
    CHECK(split_document(text).size() > 8);
    const std::set<std::string> others = {"README.md", "goldens.json", "fragments.json",
                                          "classes.json"};
    size_t tokenizers = 0;
    for (const auto& entry :
         fs::directory_iterator(fs::path(MORA_SOURCE_DIR) / "tests/golden/tokenizers")) {
      const std::string name = entry.path().filename().string();
      if (others.contains(name)) continue;
      INFO(name);
      const auto tokenizer = load_tokenizer(entry.path());
      // One puts a space in front of every word and line break, which no piece can know of.
      CHECK((tokens_of_pieces(*tokenizer, text) == tokenizer->encode(text)) ==
            (name != "behaviors.json"));
      ++tokenizers;
    }
    CHECK(tokenizers >= 18);
  }

  TEST_CASE("a document is split only in front of line breaks") {
    const auto tokenizer = load_tokenizer(kModel);
    const std::string text = prose(1, 2000);
    std::string joined;
    std::vector<int32_t> tokens;
    const auto pieces = split_document(text);
    CHECK(pieces.size() > 3);
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (i > 0) {
        CHECK(pieces[i].front() == '\n');
        CHECK(joined.back() != '\n');
      }
      if (i + 1 < pieces.size()) CHECK(pieces[i].size() >= 4096);
      joined += pieces[i];
      const auto ids = tokenizer->encode_continuation(pieces[i]);
      tokens.insert(tokens.end(), ids.begin(), ids.end());
    }
    CHECK(joined == text);
    CHECK(tokens == tokenizer->encode(text));  // the cuts change nothing
    CHECK(split_document("").empty());
    CHECK(split_document(std::string(9000, 'a')).size() == 1);
    CHECK(split_document(std::string(9000, '\n')).size() == 1);
  }

  // Runs of white space, and punctuation with the line breaks behind it, are one word to some
  // pre-tokenizers: WikiText's lines end in a space. Not among them: spm_unigram.model, whose
  // pieces hold line breaks as spaces inside.
  TEST_CASE("the pieces have the tokens of the whole, whatever lines end in") {
    const fs::path folder = fs::path(MORA_SOURCE_DIR) / "tests/golden/tokenizers";
    for (const char* name : {"bloom.json", "deepseek.json", "dolma2.json", "few_bytes.json",
                             "gpt2.json", "llama2.json", "llama2_metaspace.json", "llama3.json",
                             "metaspace.json", "neox.json", "o200k.json", "prefix_space.json",
                             "qwen2.json", "smollm2.json", "spm_bpe.model", "spm_converted.json"}) {
      CAPTURE(std::string(name));
      const auto tokenizer = load_tokenizer(folder / name);
      for (const char* end : {"", " ", "  ", ".", "...", ".\r", "\r", "\t", " =", "7", "\u3002",
                              "\u00a0", "\u00e9", "\u0301", "\n", " \n "}) {
        CAPTURE(std::string(end));
        std::string text;
        for (int line = 0; text.size() < 14000; ++line)
          text += str("line ", line, " of some text, it's ", line * line, " words", end, "\n");
        CHECK(tokens_of_pieces(*tokenizer, text) == tokenizer->encode(text));
      }
    }
  }

  TEST_CASE("text blocks are the same for any number of threads; the remainder is dropped") {
    const TemporaryFolder folder;
    std::string lines;
    std::vector<std::string> texts;
    for (uint64_t i = 0; i < 6; ++i) {
      texts.push_back(prose(i, i == 2 ? 3000 : 20));
      lines += "{\"body\": \"";
      for (const char c : texts.back()) lines += c == '\n' ? "\\n" : std::string(1, c);
      lines += "\"}\n";
    }
    const TextFiles source{.files = {write_gzip(folder / "a.jsonl.gz", lines)}, .field = "body"};
    const auto tokenizer = load_tokenizer(kModel);
    const auto read = [&](AddBos bos) {
      return tokenize_documents(*tokenizer, source, bos).documents;
    };
    const int threads = thread_count();
    set_thread_count(1);
    const TokenData one = read(AddBos::automatic);
    set_thread_count(3);
    const TokenData documents = read(AddBos::automatic);
    set_thread_count(threads);
    CHECK(documents.sha256() == one.sha256());

    for (const AddBos bos : {AddBos::automatic, AddBos::always, AddBos::never}) {
      const TokenData found = read(bos);
      const bool with =
          bos == AddBos::always || (bos == AddBos::automatic && tokenizer->adds_bos());
      REQUIRE(found.size() == 6);
      for (size_t i = 0; i < texts.size(); ++i) {
        auto expected = tokenizer->encode(texts[i]);
        if (with) expected.insert(expected.begin(), *tokenizer->bos());
        expected.push_back(*tokenizer->eos());
        CHECK(found[static_cast<int64_t>(i)].tokens.to_vector() == expected);
      }
    }
    const int64_t total = documents.tokens();
    for (const DocumentAttention attention :
         {DocumentAttention::across, DocumentAttention::within}) {
      const TextBlocks blocks(documents, 128, attention);
      CHECK(blocks.size() == total / 128);
      CHECK(blocks.dropped_tokens() == total % 128);
      CHECK(total % 128 != 0);  // so that there is something to drop
      const auto stream = documents.range(0, total).tokens.to_vector();
      size_t cuts = 0;
      for (int64_t i = 0; i < blocks.size(); ++i) {
        const ExampleView block = blocks[i];
        REQUIRE(block.tokens.size() == 128);
        float sum = 0;
        for (size_t t = 0; t < 128; ++t) {
          const size_t place = static_cast<size_t>(i) * 128 + t;
          CHECK(block.tokens[t] == stream[place]);
          const bool begins = std::ranges::count(documents.ends(), place) == 1;
          const bool apart = begins && attention == DocumentAttention::within;
          CHECK(block.weight(t) == (t == 0 || apart ? 0.0f : 1.0f));
          sum += block.weight(t);
        }
        cuts += block.cuts.size();
        Batch batch(128);
        batch.append(block);
        CHECK(batch.weight_sum == static_cast<double>(sum));
      }
      CHECK((cuts > 0) == (attention == DocumentAttention::within));
    }
    CHECK(TextBlocks(documents, total + 1, DocumentAttention::across).size() == 0);
  }

  TEST_CASE("documents of token ids are taken as they are, with their labels") {
    const TemporaryFolder folder;
    const auto tokenizer = load_tokenizer(kModel);
    const TextFiles source{
        .files = {folder.file("a.jsonl",
                              "{\"input_ids\": [5, 6, 7]}\n{\"text\": \"x\"}\n"
                              "{\"input_ids\": [8, 9, 3, 0], \"labels\": [-100, 9, -100, -100], "
                              "\"attention_mask\": [1, 1, 1, 0]}\n{\"input_ids\": [1, 77777]}\n")},
        .bad_rows = BadRows::skip,
        .vocab_size = tokenizer->vocab_size()};
    const DocumentTokens read = tokenize_documents(*tokenizer, source, AddBos::never);
    REQUIRE(read.documents.size() == 3);
    CHECK(read.rows.first_problem.starts_with((folder / "a.jsonl").string() +
                                              ":4:19: /input_ids/1: token id 77777"));
    CHECK(read.documents[0].tokens.to_vector() == std::vector<int32_t>{5, 6, 7});
    CHECK(read.documents[2].tokens.to_vector() == std::vector<int32_t>{8, 9, 3});
    const int64_t total = read.documents.tokens();
    const ExampleView all = TextBlocks(read.documents, total, DocumentAttention::across)[0];
    for (int64_t i = 0; i < total; ++i) {
      const bool trained = i > 0 && i != total - 3 && i != total - 1;
      CHECK(all.weight(static_cast<size_t>(i)) == (trained ? 1.0f : 0.0f));
    }
  }

  TEST_CASE("an epoch's order is a permutation, its own, and repeatable") {
    std::vector<int64_t> all(1000);
    std::iota(all.begin(), all.end(), 0);
    const auto first = epoch_order(5, 0, 1000);
    auto sorted = first;
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted == all);
    CHECK(first != all);
    CHECK(epoch_order(5, 0, 1000) == first);
    CHECK(epoch_order(5, 1, 1000) != first);
    CHECK(epoch_order(6, 0, 1000) != first);
    CHECK(epoch_order(5, 0, 0).empty());
  }

  TEST_CASE("the sampler goes through the epochs and can start anywhere") {
    Sampler sampler(5, 10);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      const auto order = epoch_order(5, epoch, 10);
      for (int64_t i = 0; i < 10; ++i) {
        CHECK(sampler.at(epoch * 10 + i) == order[static_cast<size_t>(i)]);
      }
    }
    Sampler resumed(5, 10);
    CHECK(resumed.at(27) == sampler.at(27));
    CHECK(sampler.at(3) == epoch_order(5, 0, 10)[3]);  // going back is allowed
  }
}
