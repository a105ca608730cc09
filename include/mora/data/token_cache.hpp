// The token cache: what a data set became, in one file named for everything it depends on, so that
// the next run maps it instead of tokenising again.
//
// Invariant: a run gets the same bytes with the cache, without it, and when it makes it. A file is
// nothing but a hint: it counts only after its hashes are checked, and whatever is wrong with it,
// the data are made anew.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "mora/data/token_data.hpp"
#include "mora/io/sha256.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

// Where tokens are kept for the next run, and what they depend on beside files and settings.
struct TokenCache {
  std::filesystem::path folder = {};     // empty: they are not kept
  std::filesystem::path tokenizer = {};  // the file or folder it was read from
  std::string format = {};               // what makes one prompt format differ from another
};

// What the tokens of a data set depend on, as a hash. Each part has a name, so that no two lists of
// parts give the same bytes.
class TokenKey {
 public:
  // `kind`: what makes sequences of the files; two kinds never share a file. The tokenizer counts
  // by its files and by its BOS and EOS, which the model's config.json may name.
  TokenKey(std::string_view kind, const std::filesystem::path& files, const Tokenizer& tokenizer);

  void add(std::string_view name, std::string_view value);
  // The contents of data files in their order, and what their names say of their kind.
  void add_files(std::span<const std::filesystem::path> files);

  std::string hex();  // ends the key

 private:
  Sha256 hash_;
};

struct CachedTokens {
  TokenData data;
  std::string notes;   // what fill() returned
  std::string origin;  // a line for people: where the tokens come from; empty without a cache
};

// Writes the sequences of a data set; returns notes that are kept with them.
using FillTokens = std::function<std::string(TokenWriter& writer)>;

// The data set `key`: from `folder` (created if missing) if it holds it whole, else by fill(),
// which is then written there. An empty folder: by fill(), in memory. Errors of fill() pass
// through; a folder that cannot be written, and a file that is damaged, are told in `origin` only.
CachedTokens cached_tokens(const std::filesystem::path& folder, const std::string& key,
                           int32_t vocab_size, const FillTokens& fill);

}  // namespace mora
