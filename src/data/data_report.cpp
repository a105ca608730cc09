// Counting goes over pieces of fixed size, so that it takes no time beside reading the data.
#include "mora/data/data_report.hpp"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <vector>

#include "mora/core/error.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/text.hpp"

namespace mora {

void count_sample(const ExampleView& sample, std::optional<int32_t> eos, SampleCounts& counts) {
  const size_t n = sample.tokens.size();
  ++counts.samples;
  counts.tokens += static_cast<int64_t>(n);
  if (sample.weights.empty() && sample.trained.empty()) {
    counts.trained_tokens += static_cast<int64_t>(n - 1 - sample.cuts.size());
  } else {
    for (size_t i = 0; i < n; ++i) counts.trained_tokens += sample.weight(i) > 0 ? 1 : 0;
  }
  size_t last = n;
  while (last > 0 && !(sample.weight(last - 1) > 0)) --last;
  if (last > 0 && sample.tokens[last - 1] == eos) ++counts.trained_ends;
}

SampleCounts count_samples(int64_t n, const std::function<ExampleView(int64_t)>& sample,
                           std::optional<int32_t> eos) {
  constexpr int64_t kPiece = 1024;
  std::vector<SampleCounts> parts(static_cast<size_t>((n + kPiece - 1) / kPiece));
  parallel_pieces(n, kPiece, [&](int64_t begin, int64_t end) {
    SampleCounts& part = parts[static_cast<size_t>(begin / kPiece)];
    for (int64_t i = begin; i < end; ++i) count_sample(sample(i), eos, part);
  });
  SampleCounts all;
  for (const SampleCounts& part : parts) {
    all.samples += part.samples;
    all.tokens += part.tokens;
    all.trained_tokens += part.trained_tokens;
    all.trained_ends += part.trained_ends;
  }
  return all;
}

namespace {

// What a text of tokens has behind that of its first tokens. Bytes of a character that was not
// whole there may be written otherwise now: then all from that character on.
std::string_view behind(std::string_view before, std::string_view text) {
  const auto same = std::ranges::mismatch(text, before).in1 - text.begin();
  auto at = static_cast<size_t>(same);
  while (at > 0 && at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return text.substr(at);
}

}  // namespace

std::string show_example(const Tokenizer& tokenizer, const ExampleView& example) {
  std::string out;
  bool trained = false;
  std::vector<int32_t> before;  // all tokens so far: decoding depends on what stands in front
  const auto flush = [&](size_t begin, size_t end) {
    const std::string known = tokenizer.decode(before);
    for (size_t i = begin; i < end; ++i) before.push_back(example.tokens[i]);
    out += behind(known, tokenizer.decode(before));
  };
  size_t begin = 0;
  for (size_t i = 0; i <= example.tokens.size(); ++i) {
    const bool end = i == example.tokens.size();
    const bool special =
        !end && (tokenizer.bos() == example.tokens[i] || tokenizer.eos() == example.tokens[i]);
    const bool turn = end ? trained : (example.weight(i) > 0) != trained;
    if (!end && !special && !turn) continue;
    flush(begin, i);
    begin = i;
    if (turn) {
      out += trained ? "]]" : "[[";
      trained = !trained;
    }
    if (!special) continue;
    out += tokenizer.piece(example.tokens[i]);
    before.push_back(example.tokens[i]);
    begin = i + 1;
  }
  return out;
}

std::string report_samples(const Tokenizer& tokenizer, const SampleCounts& counts,
                           const std::string& origin, const std::string& rest,
                           const ExampleView& first) {
  char share[32];
  std::snprintf(share, sizeof share, "%.1f %%",
                100.0 * static_cast<double>(counts.trained_tokens) /
                    static_cast<double>(std::max<int64_t>(1, counts.tokens)));
  std::string out =
      str("data: ", counts.samples, " examples ", origin, "; ", share, " of ", counts.tokens,
          " tokens are trained; ", counts.trained_ends, " end in a trained EOS", rest, "\n",
          "the first example, what is trained between [[ and ]]:\n");
  std::istringstream lines(show_example(tokenizer, first));
  for (std::string line; std::getline(lines, line);) out += "  " + printable(line, 2000) + "\n";
  return out;
}

}  // namespace mora
