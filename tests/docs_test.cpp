// Documentation that is made from the program must be what the program says.
#include <doctest/doctest.h>

#include <filesystem>

#include "mora/config/run_config.hpp"
#include "mora/io/file.hpp"

TEST_SUITE_BEGIN("docs");

TEST_CASE("docs/configuration.md holds every field as the program declares it") {
  const auto file = std::filesystem::path(MORA_SOURCE_DIR) / "docs" / "configuration.md";
  const std::string text = mora::read_file(file, size_t{1} << 20);
  INFO("write it again: build/mora-train --document-config");
  CHECK(text.find(mora::document_config()) != std::string::npos);
}

TEST_SUITE_END();
