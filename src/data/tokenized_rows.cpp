// A list is read straight from the JSON value: a view of each of its numbers is made only to tell
// the place of a wrong one.
#include "data/tokenized_rows.hpp"

namespace mora {

namespace {

constexpr int64_t kNoLabel = -100;

std::vector<int64_t> integers(const JsonView& list, size_t expected) {
  if (!list.json().is_array()) list.wrong_type("an array of integers");
  if (list.json().size() != expected)
    list.wrong(str(list.json().size(), " numbers for ", expected, " input_ids"));
  std::vector<int64_t> numbers(expected);
  for (size_t i = 0; i < expected; ++i) {
    if (!to_int(list.json()[i], numbers[i])) list.items()[i].wrong_type("an integer");
  }
  return numbers;
}

std::vector<int64_t> read_ids(const JsonView& list, int32_t vocab_size) {
  if (!list.json().is_array() || list.json().empty())
    list.wrong_type("a list of at least one token id");
  std::vector<int64_t> ids = integers(list, list.json().size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size)
      list.items()[i].wrong(str("token id ", ids[i], ", but the tokenizer's vocabulary has ",
                                vocab_size, " entries"));
  }
  return ids;
}

}  // namespace

Example read_tokenized(const TokenizedRow& row, int32_t vocab_size) {
  const std::vector<int64_t> ids = read_ids(row.input_ids, vocab_size);
  std::vector<int64_t> labels(ids), mask(ids.size(), 1);
  if (row.labels) labels = integers(*row.labels, ids.size());
  if (row.attention_mask) mask = integers(*row.attention_mask, ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (labels[i] != ids[i] && labels[i] != kNoLabel)
      row.labels->items()[i].wrong(str("label ", labels[i], " of the token ", ids[i],
                                       ": expected the token itself, or -100 where it is not "
                                       "trained (labels are not shifted)"));
    if (mask[i] != 0 && mask[i] != 1)
      row.attention_mask->items()[i].wrong(str("expected 0 or 1, got ", mask[i]));
  }
  const bool labelled = row.labels.has_value();
  const auto padding = [&](size_t i) {
    return mask[i] == 0 && (!labelled || labels[i] == kNoLabel);
  };
  size_t begin = 0, end = ids.size();
  while (end > begin && padding(end - 1)) --end;
  while (begin < end && padding(begin)) ++begin;
  if (begin == end) row.attention_mask->wrong("all tokens are padding");
  Example example;
  for (size_t i = begin; i < end; ++i) {
    if (mask[i] == 0 && i + 1 < end)
      row.attention_mask->items()[i].wrong("0 in front of tokens that are read");
    example.tokens.push_back(static_cast<int32_t>(ids[i]));
    example.weights.push_back(labels[i] == kNoLabel ? 0.0f : 1.0f);
  }
  return example;
}

}  // namespace mora
