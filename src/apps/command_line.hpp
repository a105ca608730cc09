// The command line of the programs: help and version on standard output, any mistake as one
// Error(usage).
#pragma once

#include <CLI/CLI.hpp>
#include <sstream>

#include "apps/session.hpp"
#include "mora/core/error.hpp"

namespace mora::apps {

enum class Next { go_on, stop };  // stop: help or the version was all that was asked for

inline Next parse_command_line(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return Next::go_on;
  } catch (const CLI::ParseError& e) {
    std::ostringstream out, unused;
    if (app.exit(e, out, unused) != 0) fail(ErrorKind::usage, e.what(), "; see --help");
    print(out.str());
    return Next::stop;
  }
}

}  // namespace mora::apps
