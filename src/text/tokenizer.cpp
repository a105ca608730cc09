// Finds a tokenizer's file and tells its kind by the content: only a tokenizer.json begins with a
// brace (0x7B is no tag of a SentencePiece model's fields).
#include "mora/text/tokenizer.hpp"

#include <system_error>

#include "mora/core/error.hpp"
#include "mora/io/file.hpp"
#include "mora/io/sha256.hpp"
#include "text/loaders.hpp"

namespace mora {
namespace {

constexpr size_t kMaxFileBytes = size_t{256} << 20;

constexpr const char* kFiles[] = {"tokenizer.json",
                                  "tokenizer.model",
                                  "tokenizer_config.json",
                                  "special_tokens_map.json",
                                  "added_tokens.json",
                                  "vocab.json",
                                  "merges.txt",
                                  "chat_template.jinja",
                                  "generation_config.json"};

bool is_json(const std::string& bytes) {
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  return first != std::string::npos && bytes[first] == '{';
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& file_or_folder) {
  std::error_code ignored;  // what cannot be examined is reported when it is opened
  auto path = file_or_folder;
  if (std::filesystem::is_directory(file_or_folder, ignored)) {
    path = file_or_folder / "tokenizer.json";
    if (!std::filesystem::exists(path, ignored)) path = file_or_folder / "tokenizer.model";
  }
  const std::string bytes = read_file(path, kMaxFileBytes);
  const auto settings = read_tokenizer_settings(path.parent_path());
  return is_json(bytes) ? make_json_tokenizer(bytes, path.string(), settings)
                        : make_sentencepiece_tokenizer(bytes, path.string(), settings);
}

std::string tokenizer_sha256(const std::filesystem::path& file_or_folder) {
  std::error_code none;
  const bool folder = std::filesystem::is_directory(file_or_folder, none);
  Sha256 hash;
  if (!folder) hash.update("the file " + sha256_of_file(file_or_folder) + "\n");
  for (const char* name : kFiles) {
    const auto file = (folder ? file_or_folder : file_or_folder.parent_path()) / name;
    if (std::filesystem::exists(file, none))
      hash.update(str(name, " ", sha256_of_file(file), "\n"));
  }
  return hash.hex();
}

void copy_tokenizer(const std::filesystem::path& file_or_folder,
                    const std::filesystem::path& to_folder) {
  std::error_code none;
  if (!std::filesystem::is_directory(file_or_folder, none)) {
    const std::string bytes = read_file(file_or_folder, kMaxFileBytes);
    write_file_atomically(to_folder / (is_json(bytes) ? kFiles[0] : kFiles[1]), bytes);
    return;
  }
  for (const char* name : kFiles) {
    const auto from = file_or_folder / name;
    if (std::filesystem::exists(from, none))
      write_file_atomically(to_folder / name, read_file(from, kMaxFileBytes));
  }
}

}  // namespace mora
