// The conversions of mora-convert: one file each (src/apps/convert_x.cpp), one line in the table of
// mora_convert.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace mora::apps {

// Declares a conversion's options on its subcommand and returns what to run when it is chosen; that
// returns the exit code.
using DeclareConversion = std::function<int()> (*)(CLI::App& command);

struct Conversion {
  const char *name, *description;
  DeclareConversion declare;
};

std::function<int()> declare_adapter(CLI::App& command);
std::function<int()> declare_gguf_to_hf(CLI::App& command);
std::function<int()> declare_hf_to_gguf(CLI::App& command);
std::function<int()> declare_merge(CLI::App& command);

}  // namespace mora::apps
