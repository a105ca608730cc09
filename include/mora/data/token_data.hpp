// TokenData: tokenised sequences one after the other, in memory or mapped from a file, laid out the
// same in both: all ids, a bit for each token that is trained, the sequences' ends.
//
// Invariant: the SHA-256 of the contents depends on the sequences and the size of the vocabulary
// only, never on where they lie, on the number of threads, or on how they were appended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mora/data/example.hpp"
#include "mora/io/sha256.hpp"

namespace mora {

// The layout of `tokens` ids in `sequences` sequences, without a header. Ids take 16 bits where the
// vocabulary fits, else 32; the mask is absent when every token is trained.
struct TokenLayout {
  uint64_t tokens = 0, sequences = 0;
  uint64_t id_bytes = 2;
  uint64_t mask_bytes = 0;  // 0, or as many as `tokens` bits need

  uint64_t mask_begin() const { return padded(tokens * id_bytes); }
  uint64_t ends_begin() const { return mask_begin() + padded(mask_bytes); }
  uint64_t bytes() const { return ends_begin() + 8 * sequences; }
  static uint64_t padded(uint64_t n) { return (n + 7) / 8 * 8; }
};

uint64_t id_bytes_of(int32_t vocab_size);

// TokenData::sha256() of contents of this layout.
std::string token_data_sha256(std::span<const std::byte> contents, const TokenLayout& layout);

class TokenData {
 public:
  TokenData() = default;  // no sequences
  // `contents` lie as the layout says and are kept alive by `owner`. The caller has checked them.
  TokenData(std::shared_ptr<const void> owner, std::span<const std::byte> contents,
            const TokenLayout& layout, std::string sha256);

  int64_t size() const { return static_cast<int64_t>(layout_.sequences); }
  int64_t tokens() const { return static_cast<int64_t>(layout_.tokens); }
  ExampleView operator[](int64_t sequence) const;
  // The tokens [begin, begin + count) of all sequences joined, without cuts.
  ExampleView range(int64_t begin, int64_t count) const;
  std::span<const uint64_t> ends() const { return ends_; }  // one past each sequence's last token
  const std::string& sha256() const { return sha256_; }

 private:
  std::shared_ptr<const void> owner_;
  const std::byte* contents_ = nullptr;
  TokenLayout layout_;
  std::span<const uint64_t> ends_;
  std::string sha256_;
};

// Takes sequences and writes their contents on. Keeps one bit a token and 8 bytes a sequence in
// memory, until finish().
class TokenWriter {
 public:
  using Sink = std::function<void(std::span<const std::byte> bytes)>;

  TokenWriter(int32_t vocab_size, Sink sink);

  // At least one id, each in [0, vocab_size). Weights are 0 or 1, as many as ids, or none: all 1.
  void append(std::span<const int32_t> ids, std::span<const float> weights = {});

  struct Written {
    TokenLayout layout;
    std::string sha256;
  };
  Written finish();  // ends the writing

 private:
  void put(std::span<const std::byte> bytes);
  void flush();
  void pad();
  void mark(std::span<const float> weights, size_t count);

  int32_t vocab_size_;
  Sink sink_;
  TokenLayout layout_;
  Sha256 hash_;
  std::vector<std::byte> buffer_;
  std::vector<uint16_t> narrow_;
  uint64_t put_ = 0;             // bytes so far
  std::vector<std::byte> mask_;  // from the first token that is not trained on
  uint64_t all_trained_ = 0;     // tokens before that one, a multiple of 8
  std::vector<uint64_t> ends_;
};

// Sequences in memory: calls fill(writer).
TokenData collect_tokens(int32_t vocab_size, const std::function<void(TokenWriter& writer)>& fill);

}  // namespace mora
