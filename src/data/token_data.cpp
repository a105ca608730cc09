// The mask begins to exist at the first token that is not trained: data that have none need none.
#include "mora/data/token_data.hpp"

#include <algorithm>
#include <array>

#include "mora/core/error.hpp"

namespace mora {

namespace {

constexpr size_t kBuffer = size_t{1} << 20;

std::string with_sizes(Sha256& hash, const TokenLayout& layout) {
  const std::array<uint64_t, 4> sizes = {layout.tokens, layout.sequences, layout.id_bytes,
                                         layout.mask_bytes};
  hash.update(std::as_bytes(std::span(sizes)));
  return hash.hex();
}

}  // namespace

uint64_t id_bytes_of(int32_t vocab_size) {
  return vocab_size <= (1 << 16) ? 2 : 4;
}

std::string token_data_sha256(std::span<const std::byte> contents, const TokenLayout& layout) {
  Sha256 hash;
  hash.update(contents);
  return with_sizes(hash, layout);
}

TokenData::TokenData(std::shared_ptr<const void> owner, std::span<const std::byte> contents,
                     const TokenLayout& layout, std::string sha256)
    : owner_(std::move(owner)),
      contents_(contents.data()),
      layout_(layout),
      sha256_(std::move(sha256)) {
  ensure(contents.size() == layout.bytes(), "token data of ", contents.size(), " bytes");
  ensure(reinterpret_cast<uintptr_t>(contents.data()) % 8 == 0, "token data at an odd address");
  ends_ = {reinterpret_cast<const uint64_t*>(contents_ + layout_.ends_begin()),
           static_cast<size_t>(layout_.sequences)};
}

ExampleView TokenData::operator[](int64_t sequence) const {
  ensure(sequence >= 0 && sequence < size(), "sequence ", sequence, " of ", size());
  const auto i = static_cast<size_t>(sequence);
  const auto begin = static_cast<int64_t>(i == 0 ? 0 : ends_[i - 1]);
  return range(begin, static_cast<int64_t>(ends_[i]) - begin);
}

ExampleView TokenData::range(int64_t begin, int64_t count) const {
  ensure(begin >= 0 && count >= 0 && begin <= tokens() && count <= tokens() - begin, "tokens ",
         begin, " to ", begin + count, " of ", tokens());
  const auto first = static_cast<size_t>(begin), length = static_cast<size_t>(count);
  ExampleView view;
  view.offset = first;
  if (layout_.id_bytes == 2) {
    view.tokens = std::span(reinterpret_cast<const uint16_t*>(contents_) + first, length);
  } else {
    view.tokens = std::span(reinterpret_cast<const int32_t*>(contents_) + first, length);
  }
  if (layout_.mask_bytes > 0) view.trained = {contents_ + layout_.mask_begin(), first};
  return view;
}

TokenWriter::TokenWriter(int32_t vocab_size, Sink sink)
    : vocab_size_(vocab_size), sink_(std::move(sink)) {
  layout_.id_bytes = id_bytes_of(vocab_size);
  buffer_.reserve(kBuffer);
}

void TokenWriter::flush() {
  hash_.update(buffer_);
  sink_(buffer_);
  buffer_.clear();
}

void TokenWriter::put(std::span<const std::byte> bytes) {
  put_ += bytes.size();
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kBuffer - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    bytes = bytes.subspan(n);
    if (buffer_.size() == kBuffer) flush();
  }
}

void TokenWriter::pad() {
  constexpr std::array<std::byte, 8> kZeros{};
  put(std::span(kZeros).first(static_cast<size_t>(TokenLayout::padded(put_) - put_)));
}

void TokenWriter::append(std::span<const int32_t> ids, std::span<const float> weights) {
  ensure(!ids.empty(), "an empty sequence");
  ensure(weights.empty() || weights.size() == ids.size(), ids.size(), " ids with ", weights.size(),
         " weights");
  for (const int32_t id : ids)
    ensure(id >= 0 && id < vocab_size_, "id ", id, " of a vocabulary of ", vocab_size_);
  if (layout_.id_bytes == 2) {
    narrow_.resize(ids.size());
    std::ranges::transform(ids, narrow_.begin(),
                           [](int32_t id) { return static_cast<uint16_t>(id); });
    put(std::as_bytes(std::span(narrow_)));
  } else {
    put(std::as_bytes(ids));
  }
  mark(weights, ids.size());
  layout_.tokens += ids.size();
  ends_.push_back(layout_.tokens);
}

void TokenWriter::mark(std::span<const float> weights, size_t count) {
  const bool all = std::ranges::all_of(weights, [](float w) { return w == 1; });
  if (mask_.empty() && all) return;
  if (mask_.empty()) {
    all_trained_ = layout_.tokens / 8 * 8;
    mask_.push_back(static_cast<std::byte>((1u << (layout_.tokens % 8)) - 1u));
  }
  const uint64_t begin = layout_.tokens - all_trained_;
  mask_.resize(static_cast<size_t>((begin + count + 7) / 8));
  for (size_t i = 0; i < count; ++i) {
    const float w = weights.empty() ? 1.0f : weights[i];
    ensure(w == 0 || w == 1, "a weight of ", w, " is neither 0 nor 1");
    const uint64_t bit = begin + i;
    if (w == 1) mask_[static_cast<size_t>(bit / 8)] |= static_cast<std::byte>(1u << (bit % 8));
  }
}

TokenWriter::Written TokenWriter::finish() {
  pad();
  if (!mask_.empty()) {
    layout_.mask_bytes = (layout_.tokens + 7) / 8;
    const std::vector<std::byte> ones(kBuffer, std::byte{0xff});
    for (uint64_t left = all_trained_ / 8; left > 0;) {
      const size_t n = std::min<size_t>(kBuffer, static_cast<size_t>(left));
      put(std::span(ones).first(n));
      left -= n;
    }
    put(mask_);
    pad();
  }
  layout_.sequences = ends_.size();
  put(std::as_bytes(std::span(ends_)));
  flush();
  ensure(put_ == layout_.bytes(), put_, " bytes written");
  return {layout_, with_sizes(hash_, layout_)};
}

TokenData collect_tokens(int32_t vocab_size, const std::function<void(TokenWriter& writer)>& fill) {
  auto bytes = std::make_shared<std::vector<std::byte>>();
  TokenWriter writer(vocab_size, [&](std::span<const std::byte> more) {
    bytes->insert(bytes->end(), more.begin(), more.end());
  });
  fill(writer);
  TokenWriter::Written written = writer.finish();
  const std::span<const std::byte> contents = *bytes;
  return {std::move(bytes), contents, written.layout, std::move(written.sha256)};
}

}  // namespace mora
