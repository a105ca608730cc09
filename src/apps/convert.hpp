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

}  // namespace mora::apps
