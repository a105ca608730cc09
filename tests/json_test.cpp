// The strict JSON reader: what it refuses, where it says the fault is, and what it never does to a
// number.
#include "io/json.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "temporary_folder.hpp"

using namespace mora;

TEST_SUITE_BEGIN("json");

namespace {

std::string refusal(std::string_view text, const JsonOptions& options = {}) {
  return message_of(options.kind, [&] { parse_json(text, "f.json", options); });
}

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') +
         std::string(static_cast<size_t>(depth), ']');
}

}  // namespace

TEST_CASE("keys keep their order") {
  CHECK(dump_json(parse_json(R"( {"b":1,"a":[true,null,"x",-2,1.5],"c":{}} )", "f")) ==
        R"({"b":1,"a":[true,null,"x",-2,1.5],"c":{}})");
}

TEST_CASE("errors name file, line and column") {
  CHECK(refusal("{\"a\": 1,\n \"a\": 2}") == "f.json:2:4: duplicate key \"a\"");
  CHECK(refusal("{\"a\": 1, \"\\u0061\": 2}").find("f.json:1:17: duplicate key") == 0);
  CHECK(refusal("{\n  \"a\": tru\n}").find("f.json:2:") == 0);
  CHECK(refusal("{\"a\": 1") ==
        "f.json:1:7: syntax error while parsing object - unexpected end of input; expected '}'");
  CHECK(refusal("[1]", {.max_bytes = 2}) == "f.json: 3 bytes of JSON; at most 2 are allowed");
  CHECK(refusal("{}\n[", {.first_line = 7}).find("f.json:8:1: ") == 0);
  CHECK(refusal("x", {.kind = ErrorKind::usage}).find("f.json:1:1: ") == 0);
}

TEST_CASE("what is not exactly one JSON value is refused") {
  for (const char* text : {"",
                           " ",
                           "{} {}",
                           "{},",
                           "{a:1}",
                           "{'a':1}",
                           "[1,]",
                           "{\"a\":1,}",
                           "01",
                           "+1",
                           ".5",
                           "1.",
                           "NaN",
                           "Infinity",
                           "-",
                           "1e400",
                           "-1e400",
                           "\"\\ud800\"",
                           "\"\\x41\"",
                           "\"a\nb\"",
                           "\"\x80\"",
                           "\"\xC0\x80\"",
                           "\"\xED\xA0\x80\"",
                           "// c\n1",
                           "/* c */ 1"}) {
    CHECK_MESSAGE(!refusal(text).empty(), text);
  }
  const std::string nul("{}\0{}", 5);
  CHECK(refusal(nul) == "f.json:1:3: NUL byte in JSON text");
}

TEST_CASE("comments are read where they are allowed") {
  const JsonOptions options{.comments = JsonComments::allowed};
  CHECK(parse_json("// one\n{ /* two */ \"a\": 1 } // three", "f", options).at("a") == 1);
}

TEST_CASE("nesting is limited") {
  CHECK(parse_json(nested(64), "f").is_array());
  CHECK(refusal(nested(65)) == "f.json:1:65: nested deeper than 64 levels");
  CHECK(!refusal(std::string(10'000'000, '[')).empty());
}

TEST_CASE("each value's line is found by its pointer") {
  JsonLines lines;
  parse_json("{\n\"a\": 1,\n\"b\":\n {\n\"c/d~\": [\n1,\n{},\n3\n]}}", "f", {}, &lines);
  const JsonLines expected{{"", 1},           {"/a", 2},          {"/b", 3},
                           {"/b/c~1d~0", 5},  {"/b/c~1d~0/0", 6}, {"/b/c~1d~0/1", 7},
                           {"/b/c~1d~0/2", 8}};
  CHECK(lines == expected);
}

TEST_CASE("integers are exact or refused") {
  const auto read = [](std::string_view text) {
    int64_t value = 77;
    return to_int(parse_json(text, "f"), value) ? std::to_string(value) : "refused";
  };
  CHECK(read("9223372036854775807") == "9223372036854775807");
  CHECK(read("-9223372036854775808") == "-9223372036854775808");
  CHECK(read("1000.0") == "1000");
  CHECK(read("1e3") == "1000");
  CHECK(read("-0") == "0");
  CHECK(read("9007199254740991.0") == "9007199254740991");
  for (const char* text : {"9223372036854775808", "18446744073709551615", "18446744073709551616",
                           "-9223372036854775809", "9007199254740993.0", "1e300", "2.9", "true",
                           "null", "\"1\"", "[1]"}) {
    CHECK_MESSAGE(read(text) == "refused", text);
  }
}

TEST_CASE("numbers that are not finite are never written as null") {
  const double inf = std::numeric_limits<double>::infinity();
  for (double value : {0.1, -0.0, 1e-300, 5e-324, 1.7976931348623157e308, inf, -inf}) {
    const Json json = parse_json(dump_json(json_number(value)), "f");
    const double back = JsonView(json, "f").any_number();
    CHECK(back == value);
    CHECK(std::signbit(back) == std::signbit(value));
  }
  const Json nan = json_number(std::nan(""));
  CHECK(std::isnan(JsonView(nan, "f").any_number()));
  message_of(ErrorKind::data, [&] { JsonView(nan, "f").number(); });
  message_of(ErrorKind::internal, [&] { dump_json(Json{{"a", {1.0, inf}}}); });
}

TEST_CASE("views say where a value is and what is wrong with it") {
  const Json json = parse_json(R"({"a": {"b": [1, "x", true]}, "n": null})", "f.json");
  const JsonView view(json, "f.json");
  CHECK(view.has("a"));
  CHECK(!view.has("n"));
  CHECK(!view.has("z"));
  CHECK(!view.at("a").at("b").has("c"));
  const auto items = view.at("a").at("b").items();
  CHECK(items[0].integer() == 1);
  CHECK(items[0].number() == 1.0);
  CHECK(items[1].string() == "x");
  CHECK(items[2].boolean());
  CHECK(view.at("a").members()[0].first == "b");
  const auto wrong = [&](const auto& action) { return message_of(ErrorKind::data, action); };
  CHECK(wrong([&] { items[1].integer(); }) == "f.json: /a/b/1: expected an integer, got \"x\"");
  CHECK(wrong([&] { items[2].number(); }) == "f.json: /a/b/2: expected a number, got true");
  CHECK(wrong([&] { view.at("a").string(); }) == "f.json: /a: expected a string, got an object");
  CHECK(wrong([&] { view.at("a").at("z"); }) == "f.json: /a: key \"z\" is missing");
  CHECK(wrong([&] { view.boolean(); }) == "f.json: expected true or false, got an object");
  CHECK(wrong([&] { items[0].items(); }) == "f.json: /a/b/0: expected an array, got 1");
}

TEST_SUITE_END();
