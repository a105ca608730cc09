// mora-tokenize TOKENIZER encode|continue|decode|time: texts on standard input, ids or texts on
// standard output. A tool for developers, on the library's public interface only;
// scripts/check_tokenizers.py runs it.
//
// A text is its length in bytes as a decimal number, a newline, and the bytes. `encode` and
// `continue` write the ids of each text as a line; `decode` writes what decode(encode(text)) is, in
// the form of the input; `time` takes all input as one text and writes the seconds of the faster of
// two calls of encode() and the number of ids.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>

#include "mora/core/error.hpp"
#include "mora/text/tokenizer.hpp"

namespace {

bool read_text(std::string& text) {
  size_t length = 0;
  if (!(std::cin >> length)) return false;
  std::cin.get();
  text.resize(length);
  std::cin.read(text.data(), static_cast<std::streamsize>(length));
  if (!std::cin) mora::fail(mora::ErrorKind::usage, "standard input ends within a text");
  return true;
}

void write_ids(const std::vector<int32_t>& ids) {
  std::string line;
  for (const int32_t id : ids) {
    if (!line.empty()) line += ' ';
    line += std::to_string(id);
  }
  std::cout << line << '\n';
}

void time_encode(const mora::Tokenizer& tokenizer) {
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  double best = 1e9;
  size_t ids = 0;
  for (int i = 0; i < 2; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    ids = tokenizer.encode(text).size();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    best = std::min(best, taken.count());
  }
  std::cout << best << ' ' << ids << '\n';
}

void run(const mora::Tokenizer& tokenizer, std::string_view mode) {
  if (mode == "time") return time_encode(tokenizer);
  for (std::string text; read_text(text);) {
    if (mode == "continue") {
      write_ids(tokenizer.encode_continuation(text));
    } else if (mode == "encode") {
      write_ids(tokenizer.encode(text));
    } else {
      const std::string decoded = tokenizer.decode(tokenizer.encode(text));
      std::cout << decoded.size() << '\n' << decoded;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string_view mode = argc == 3 ? argv[2] : "";
    if (mode != "encode" && mode != "continue" && mode != "decode" && mode != "time") {
      mora::fail(mora::ErrorKind::usage,
                 "usage: mora-tokenize TOKENIZER encode|continue|decode|time");
    }
    std::ios::sync_with_stdio(false);
    run(*mora::load_tokenizer(argv[1]), mode);
    if (!std::cout.flush()) mora::fail(mora::ErrorKind::io, "cannot write to standard output");
    return 0;
  } catch (const mora::Error& e) {
    std::cerr << "mora-tokenize: " << e.what() << '\n';
    return e.exit_code();
  } catch (const std::exception& e) {
    std::cerr << "mora-tokenize: internal error: " << e.what() << '\n';
    return 1;
  }
}
