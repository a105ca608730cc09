// The architecture as a test: a module includes only modules before it, libraries stay out of
// public headers, and CUDA exists in one folder.
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

// Modules with the same rank may not include each other.
const std::map<std::string, int> kRank = {
    {"core", 0},        {"io", 1},      {"config", 2},  {"graph", 3},  {"ops", 4},
    {"autograd", 5},    {"backend", 6}, {"plan", 7},    {"nn", 8},     {"adapters", 9},
    {"models", 9},      {"text", 11},   {"data", 12},   {"train", 13}, {"eval", 14},
    {"benchmarks", 15}, {"tasks", 16},  {"report", 17}, {"apps", 18}};

struct Source {
  fs::path path;       // below the repository
  std::string module;  // "" outside include/mora and src
  std::string text;
};

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<Source> sources() {
  const fs::path root = MORA_SOURCE_DIR;
  std::vector<Source> result;
  for (const fs::path top : {"include/mora", "src"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      if (!entry.is_regular_file()) continue;
      const fs::path below = fs::relative(entry.path(), root / top);
      result.push_back({top / below, below.begin()->string(), read(entry.path())});
    }
  }
  return result;
}

// What stands between the quotes or angle brackets of every #include.
std::vector<std::string> includes(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("#include", 0) != 0) continue;
    const size_t begin = line.find_first_of("<\""), end = line.find_last_of(">\"");
    if (begin != std::string::npos && end > begin)
      result.push_back(line.substr(begin + 1, end - begin - 1));
  }
  return result;
}

// "mora/core/x.hpp" and "core/x.hpp" are of the module core; anything else of none.
std::string module_of(std::string include) {
  if (include.rfind("mora/", 0) == 0) include = include.substr(5);
  const std::string first = include.substr(0, include.find('/'));
  return include.find('/') != std::string::npos && kRank.count(first) > 0 ? first : "";
}

// "mora::Tensor" for each type that the text defines outside unnamed namespaces and other types.
std::vector<std::string> types(const std::string& text) {
  const std::regex opening(R"(namespace ([\w:]*) ?\{)");
  const std::regex definition(R"((?:struct|class|enum class) (\w+)(?: final)?(?: : .*)? ?\{.*)");
  std::vector<std::string> result, spaces;
  std::istringstream lines(text);
  std::smatch found;
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_match(line, found, opening)) {
      spaces.push_back(found[1]);
    } else if (line.rfind("}  // namespace", 0) == 0 && !spaces.empty()) {
      spaces.pop_back();
    } else if (std::regex_match(line, found, definition) &&
               std::ranges::find(spaces, "") == spaces.end()) {
      std::string name;
      for (const std::string& space : spaces) name += space + "::";
      result.push_back(name + found[1].str());
    }
  }
  return result;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

TEST_SUITE("layers") {
  TEST_CASE("there is something to check") {
    CHECK(sources().size() > 30);
    CHECK(module_of("mora/core/error.hpp") == "core");
    CHECK(module_of("backend/cpu/simd.hpp") == "backend");
    CHECK(module_of("sys/stat.h") == "");
    CHECK(includes("#include <a/b.h>\n//#include <c>\n#include \"d.hpp\"\n") ==
          std::vector<std::string>{"a/b.h", "d.hpp"});
  }

  TEST_CASE("a module includes itself and modules before it") {
    for (const Source& source : sources()) {
      REQUIRE_MESSAGE(kRank.count(source.module) > 0, source.path.string(),
                      " is in no known module");
      for (const std::string& include : includes(source.text)) {
        const std::string module = module_of(include);
        if (module.empty() || module == source.module) continue;
        CHECK_MESSAGE(kRank.at(module) < kRank.at(source.module), source.path.string(),
                      " includes ", include);
      }
    }
  }

  // Two types of one name are undefined behaviour that no linker reports: functions made from
  // templates for the one are used for the other.
  TEST_CASE("a type is defined once") {
    CHECK(types("namespace a {\nstruct B {\nnamespace {\nclass C {\n}  // namespace\nclass D : E "
                "{\n") == std::vector<std::string>{"a::B", "a::D"});
    std::map<std::string, fs::path> defined;
    for (const Source& source : sources()) {
      for (const std::string& type : types(source.text)) {
        const auto placed = defined.emplace(type, source.path);
        CHECK_MESSAGE(placed.second, type, " is defined in ", placed.first->second.string(),
                      " and ", source.path.string());
      }
    }
    CHECK(defined.count("mora::Tensor") == 1);
  }

  TEST_CASE("public headers name no other library") {
    for (const Source& source : sources()) {
      if (source.path.begin()->string() != "include") continue;
      for (const std::string& include : includes(source.text)) {
        for (const char* library : {"Eigen/", "nlohmann/", "doctest/", "CLI/", "openssl/", "zlib.h",
                                    "sentencepiece", "dnnl", "pcre2", "unicode/"}) {
          CHECK_MESSAGE(include.rfind(library, 0) != 0, source.path.string(), " includes ",
                        include);
        }
      }
    }
  }

  // What stands in its place, who makes one or the other, and the configuration name it.
  TEST_CASE("cuda exists in one folder") {
    const std::vector<std::string> named_in = {
        "src/backend/no_cuda.cpp", "src/backend/make_backend.cpp", "src/config/run_config.cpp"};
    for (const Source& source : sources()) {
      const std::string path = source.path.generic_string();
      if (path.rfind("src/backend/cuda", 0) == 0) continue;
      if (std::ranges::find(named_in, path) != named_in.end()) continue;
      CHECK_MESSAGE(lower(source.text).find("cuda") == std::string::npos, path, " mentions CUDA");
    }
  }
}
