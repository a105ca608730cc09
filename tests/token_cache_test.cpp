// The token cache: the same data with it, without it and when it is made; damaged files; several
// runs at once; what makes another key.
#include "mora/data/token_cache.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "mora/core/error.hpp"
#include "mora/core/random.hpp"
#include "mora/data/supervised.hpp"
#include "mora/data/text_blocks.hpp"
#include "temporary_folder.hpp"

using namespace mora;
namespace fs = std::filesystem;

namespace {

const fs::path kTokenizer = fs::path(MORA_SOURCE_DIR) / "data/base/tokenizer.model";
const std::string kKey(64, 'a');

struct Sequence {
  std::vector<int32_t> ids;
  std::vector<float> weights;  // may be empty

  bool operator==(const Sequence&) const = default;
};

enum class Masks { none, some };

std::vector<Sequence> random_sequences(uint64_t seed, int32_t vocab_size, Masks masks,
                                       size_t count = 40) {
  const Random random(seed, Purpose::test);
  uint64_t next = 0;
  std::vector<Sequence> all(count);
  for (Sequence& s : all) {
    const size_t length = 1 + random.below(next++, 30);
    const bool masked = masks == Masks::some && random.below(next++, 2) == 0;
    for (size_t i = 0; i < length; ++i) {
      s.ids.push_back(
          static_cast<int32_t>(random.below(next++, static_cast<uint64_t>(vocab_size))));
      if (masked) s.weights.push_back(static_cast<float>(random.below(next++, 2)));
    }
  }
  return all;
}

FillTokens filling(const std::vector<Sequence>& all) {
  return [&all](TokenWriter& out) {
    for (const Sequence& s : all) out.append(s.ids, s.weights);
    return std::string("noted");
  };
}

void check_same(const TokenData& data, const std::vector<Sequence>& all) {
  REQUIRE(data.size() == static_cast<int64_t>(all.size()));
  for (size_t i = 0; i < all.size(); ++i) {
    const ExampleView e = data[static_cast<int64_t>(i)];
    CHECK(e.tokens.to_vector() == all[i].ids);
    for (size_t t = 0; t < all[i].ids.size(); ++t) {
      const bool counts = all[i].weights.empty() || all[i].weights[t] == 1;
      CHECK(e.weight(t) == (t > 0 && counts ? 1.0f : 0.0f));
    }
  }
}

fs::path only_file(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  REQUIRE(files.size() == 1);
  return files.front();
}

FillTokens must_not_fill() {
  return [](TokenWriter&) -> std::string { throw std::runtime_error("tokenised again"); };
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("token_cache") {
  TEST_CASE("in memory, when written and when read: the same sequences and the same hash") {
    for (const int32_t vocab : {7, 1 << 16, (1 << 16) + 1, 130'000}) {
      for (const Masks masks : {Masks::none, Masks::some}) {
        for (const uint64_t seed : {1u, 2u, 3u, 4u}) {
          INFO(vocab << " " << static_cast<int>(masks) << " " << seed);
          const auto all = random_sequences(seed, vocab, masks, seed * 13);
          const TemporaryFolder folder;
          const CachedTokens memory = cached_tokens("", kKey, vocab, filling(all));
          const CachedTokens made = cached_tokens(folder / "new/c", kKey, vocab, filling(all));
          const CachedTokens read = cached_tokens(folder / "new/c", kKey, vocab, must_not_fill());
          for (const CachedTokens* c : {&memory, &made, &read}) {
            check_same(c->data, all);
            CHECK(c->notes == "noted");
            CHECK(c->data.sha256() == memory.data.sha256());
          }
          CHECK(memory.origin.empty());
          CHECK(has(made.origin, "for the next run"));
          CHECK(has(read.origin, "as kept in"));
        }
      }
    }
  }

  TEST_CASE("the hash tells sequences apart: ids, weights and where they end") {
    const std::vector<std::vector<Sequence>> kinds = {
        {{{1, 2, 3}, {}}},        {{{1, 2, 4}, {}}},        {{{1, 2}, {}}, {{3}, {}}},
        {{{1, 2, 3}, {0, 1, 1}}}, {{{1, 2, 3}, {0, 1, 0}}}, {{{1, 2, 3, 0}, {}}},
    };
    std::vector<std::string> hashes;
    for (const auto& k : kinds)
      hashes.push_back(cached_tokens("", "", 9, filling(k)).data.sha256());
    std::ranges::sort(hashes);
    CHECK(std::ranges::adjacent_find(hashes) == hashes.end());
  }

  TEST_CASE("a byte changed anywhere, or missing at the end, is found, and the file made anew") {
    for (const Masks masks : {Masks::none, Masks::some}) {
      const auto all = random_sequences(5, 300, masks, 6);
      const TemporaryFolder folder;
      cached_tokens(folder.path(), kKey, 300, filling(all));
      const fs::path file = only_file(folder.path());
      const std::string whole = bytes_of(file);
      const auto check_rebuilt = [&](const std::string& bytes) {
        folder.file(file.filename().string(), bytes);
        const CachedTokens again = cached_tokens(folder.path(), kKey, 300, filling(all));
        check_same(again.data, all);
        CHECK(has(again.origin, "made anew"));
        CHECK(bytes_of(file) == whole);
      };
      for (size_t i = 0; i < whole.size(); ++i) {
        INFO("byte " << i << " of " << whole.size());
        std::string bytes = whole;
        bytes[i] = static_cast<char>(bytes[i] ^ (1 << (i % 8)));
        check_rebuilt(bytes);
      }
      for (size_t i = 0; i < whole.size(); i += 7) check_rebuilt(whole.substr(0, i));
      check_rebuilt(whole + "x");
      check_rebuilt(whole + whole);
    }
  }

  TEST_CASE("a file with right hashes and wrong contents is refused") {
    // As another program could write it: of a larger vocabulary, of other data.
    const auto all = random_sequences(5, 60'000, Masks::some, 20);
    const TemporaryFolder folder;
    cached_tokens(folder.path(), kKey, 60'000, filling(all));
    const auto small = random_sequences(6, 100, Masks::some, 20);
    const CachedTokens vocabulary = cached_tokens(folder.path(), kKey, 100, filling(small));
    CHECK(has(vocabulary.origin, "ids beyond the vocabulary"));
    check_same(vocabulary.data, small);
    const fs::path file = only_file(folder.path());
    const std::string other(64, 'b');
    fs::rename(file, folder / ("tokens-" + other.substr(0, 24) + ".bin"));
    CHECK(has(cached_tokens(folder.path(), other, 100, filling(small)).origin, "of other data"));
  }

  TEST_CASE("a folder that cannot be used costs the cache, not the run") {
    const auto all = random_sequences(5, 300, Masks::some);
    const TemporaryFolder folder;
    const fs::path file = folder.file("not-a-folder", "x");
    const CachedTokens made = cached_tokens(file / "cache", kKey, 300, filling(all));
    CHECK(has(made.origin, "cannot be kept"));
    check_same(made.data, all);
    CHECK(bytes_of(file) == "x");
    fs::create_directory(folder / "cache");
    fs::create_directory(folder / ("cache/tokens-" + kKey.substr(0, 24) + ".bin"));
    check_same(cached_tokens(folder / "cache", kKey, 300, filling(all)).data, all);
  }

  TEST_CASE("what is wrong with the data is an error, and leaves nothing behind") {
    const TemporaryFolder folder;
    const auto broken = [](TokenWriter& out) -> std::string {
      out.append(std::vector<int32_t>{1, 2, 3});
      fail(ErrorKind::data, "row 7");
    };
    CHECK(message_of(ErrorKind::data, [&] { cached_tokens(folder.path(), kKey, 9, broken); }) ==
          "row 7");
    CHECK(fs::is_empty(folder.path()));
  }

  TEST_CASE("many at once") {
    const TemporaryFolder folder;
    const auto all = random_sequences(8, 300, Masks::some, 500);
    for (int round = 0; round < 5; ++round) {
      const fs::path cache = folder / std::to_string(round);
      std::vector<CachedTokens> found(6);
      std::vector<std::thread> threads;
      for (CachedTokens& f : found)
        threads.emplace_back([&] { f = cached_tokens(cache, kKey, 300, filling(all)); });
      for (std::thread& t : threads) t.join();
      for (const CachedTokens& f : found) {
        check_same(f.data, all);
        CHECK(!has(f.origin, "warning"));
      }
      only_file(cache);  // no temporaries
    }
  }

  TEST_CASE("leftovers of killed runs go when they are old") {
    const TemporaryFolder folder;
    const auto all = random_sequences(8, 300, Masks::none);
    const std::string name = ".tmp-tokens-" + kKey.substr(0, 24) + ".bin-0123456789abcdef";
    const fs::path fresh = folder.file(name, "x"), old = folder.file(name + "0", "x");
    const fs::path foreign = folder.file("mine", "x");
    for (const fs::path& path : {old, foreign})
      fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(50));
    cached_tokens(folder.path(), kKey, 300, filling(all));
    CHECK(fs::exists(fresh));
    CHECK(!fs::exists(old));
    CHECK(fs::exists(foreign));
  }

  TEST_CASE("rows: the cache gives the examples and counts of reading, wherever the files lie") {
    const auto tokenizer = load_tokenizer(kTokenizer);
    const TemporaryFolder folder;
    std::string lines;
    for (int i = 0; i < 200; ++i)
      lines += R"({"prompt": "What is )" + std::to_string(i * 37) + R"(?", "completion": ")" +
               std::string(static_cast<size_t>(i % 60), 'a') + "\"}\n";
    lines += "not JSON\n{\"prompt\": \"x\"}\n";
    RowFiles files{.files = {folder.file("rows.jsonl", lines)},
                   .columns = {},
                   .bad_rows = BadRows::skip,
                   .vocab_size = tokenizer->vocab_size()};
    const TokenCache cache{.folder = folder / "cache", .tokenizer = kTokenizer, .format = "plain"};
    const PromptFormat format = plain_format("</s>");
    const SupervisedSettings settings{.max_length = 40};
    const SupervisedData plain = read_supervised(*tokenizer, files, format, settings);
    const SupervisedData made = read_supervised(*tokenizer, files, format, settings, cache);
    fs::rename(folder / "rows.jsonl", folder / "moved.jsonl");
    files.files = {folder / "moved.jsonl"};
    const SupervisedData read = read_supervised(*tokenizer, files, format, settings, cache);
    const SupervisedData expected = read_supervised(*tokenizer, files, format, settings);
    CHECK(has(read.origin, "as kept in"));
    CHECK(has(expected.counts.rows.first_problem, "moved.jsonl:201:"));
    for (const auto& [a, b] : {std::pair{&plain, &made}, std::pair{&expected, &read}}) {
      CHECK(a->examples.sha256() == b->examples.sha256());
      CHECK(a->counts == b->counts);
      CHECK(a->counts.cut > 0);
      CHECK(has(report(*tokenizer, *b), report(*tokenizer, *a)));
    }
  }

  TEST_CASE("another key for other data, tokenizer, format or settings; the same for the same") {
    const auto tokenizer = load_tokenizer(kTokenizer);
    const TemporaryFolder folder;
    const std::string row = "{\"prompt\": \"Why?\", \"completion\": \"So.\"}\n";
    RowFiles files{.files = {folder.file("a.jsonl", row + row)},
                   .columns = {},
                   .vocab_size = tokenizer->vocab_size()};
    TokenCache cache{.folder = folder / "cache", .tokenizer = kTokenizer, .format = "plain"};
    PromptFormat format = plain_format("</s>");
    SupervisedSettings settings;
    const auto is_new = [&] {
      const std::string origin = read_supervised(*tokenizer, files, format, settings, cache).origin;
      return has(origin, "for the next run");
    };
    CHECK(is_new());
    CHECK(!is_new());
    const auto each = [&](const char* what, const auto& change) {
      INFO(what);
      change();
      CHECK(is_new());
      CHECK(!is_new());
    };
    each("data", [&] { folder.file("a.jsonl", row); });
    each("one file more", [&] { files.files.push_back(folder.file("b.jsonl", row)); });
    each("the boundary between files", [&] {
      folder.file("a.jsonl", row + row);
      files.files.pop_back();
      files.files.push_back(folder.file("c.jsonl", row + row + row));
    });
    each("layout", [&] { files.layout = "prompt_completion"; });
    each("columns", [&] { files.columns = {"completion=completion"}; });
    each("bad_rows", [&] { files.bad_rows = BadRows::skip; });
    each("max_length", [&] { settings.max_length = 77; });
    each("too_long", [&] { settings.too_long = TooLong::drop; });
    each("train_on", [&] { settings.train_on = TrainOn::all; });
    each("max_samples", [&] { settings.max_samples = 1; });
    each("the format's name", [&] { cache.format = "other"; });
    each("what the format writes", [&] { format = plain_format("<s>"); });
    each("the tokenizer", [&] {
      fs::create_directory(folder / "tokenizer");
      cache.tokenizer = folder.file("tokenizer/tokenizer.model", bytes_of(kTokenizer) + "\x1a");
    });
    each("settings beside the tokenizer",
         [&] { folder.file("tokenizer/tokenizer_config.json", "{}"); });
  }

  TEST_CASE("documents: with and without the cache; block sizes share it") {
    const auto tokenizer = load_tokenizer(kTokenizer);
    const TemporaryFolder folder;
    TextFiles files{.files = {folder.file("a.jsonl", "{\"text\": \"one two three\"}\n{}\n"),
                              folder.file("b.txt", "four\nfive\n")},
                    .bad_rows = BadRows::skip};
    const TokenCache cache{.folder = folder / "cache", .tokenizer = kTokenizer, .format = ""};
    const auto read = [&](const TokenCache& from, AddBos bos) {
      return tokenize_documents(*tokenizer, files, bos, from);
    };
    const DocumentTokens plain = read({}, AddBos::automatic), made = read(cache, AddBos::automatic),
                         again = read(cache, AddBos::automatic);
    CHECK(has(again.origin, "as kept in"));
    for (const DocumentTokens* d : {&made, &again}) {
      CHECK(d->documents.sha256() == plain.documents.sha256());
      CHECK(d->rows == plain.rows);
      CHECK(d->rows.skipped == 1);
      CHECK(d->documents.size() == 2);
    }
    CHECK(has(read(cache, AddBos::never).origin, "for the next run"));
    files.unit = TextUnit::line;
    CHECK(has(read(cache, AddBos::never).origin, "for the next run"));
    files.field = "body";
    CHECK(has(read(cache, AddBos::never).origin, "for the next run"));
  }

  TEST_CASE("another EOS of config.json, which is no file of the tokenizer, is another key") {
    const TemporaryFolder folder;
    fs::create_directory(folder / "model");
    folder.file("model/tokenizer.json",
                bytes_of(fs::path(MORA_SOURCE_DIR) / "tests/golden/tokenizers/gpt2.json"));
    const TextFiles files{.files = {folder.file("a.txt", "one two three\n")}};
    const TokenCache cache{.folder = folder / "cache", .tokenizer = folder / "model", .format = ""};
    const auto read = [&](int32_t eos) {
      folder.file("model/config.json", str("{\"eos_token_id\": ", eos, "}"));
      return tokenize_documents(*load_tokenizer(folder / "model"), files, AddBos::automatic, cache);
    };
    for (const int32_t eos : {5, 6}) {
      const DocumentTokens made = read(eos), again = read(eos);
      CHECK(has(made.origin, "for the next run"));
      CHECK(has(again.origin, "as kept in"));
      CHECK(made.documents[0].tokens.to_vector().back() == eos);
      CHECK(again.documents[0].tokens.to_vector().back() == eos);
    }
  }
}
