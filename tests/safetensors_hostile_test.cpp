// Safetensors files that break one rule each: refused with one line that names file and fault, in
// bounded time and memory.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <vector>

#include "mora/io/safetensors.hpp"
#include "mora/io/text.hpp"
#include "safetensors_bytes.hpp"
#include "temporary_folder.hpp"

using namespace mora;
using namespace mora::testing;

TEST_SUITE_BEGIN("hostile safetensors");

namespace {

struct Bad {
  const char* what;
  std::string bytes;
  const char* says;
};

const std::string kX = entry("x", "F32", "[1]", "[0,4]");

const std::vector<Bad> kBadFiles{
    {"empty file", "", "too few"},
    {"7 bytes", std::string(7, '\0'), "too few"},
    {"no header", with_length(0, ""), "end of input"},
    {"header beyond the file", with_length(100, "{}"), "claims a header of 100 bytes"},
    {"header length wraps", with_length(~uint64_t{0} - 7, "{}"), "claims a header"},
    {"header above the limit", with_length(100'000'001, "{}"), "claims a header"},
    {"not JSON", file_of("hello", 0), "syntax error"},
    {"array", file_of("[]", 0), "expected an object, got an array"},
    {"number", file_of("12", 0), "expected an object, got a number"},
    {"NUL padding", file_of(std::string("{}\0\0\0\0\0\0", 8), 0), "NUL byte"},
    {"two objects", file_of("{}{}", 0), "syntax error"},
    {"byte-order mark", file_of("\xEF\xBB\xBF{}", 0), "byte-order mark"},
    {"comment", file_of("{}//x", 0), "syntax error"},
    {"bad UTF-8 in a name", file_of("{" + entry("\xC0\x80", "F32", "[1]", "[0,4]") + "}", 4),
     "UTF-8"},
    {"surrogate in a name", file_of("{" + entry("\\ud800", "F32", "[1]", "[0,4]") + "}", 4),
     "surrogate"},
    {"empty name", file_of("{" + entry("", "F32", "[1]", "[0,4]") + "}", 4), "is empty"},
    {"NUL in a name", file_of("{" + entry("a\\u0000", "F32", "[1]", "[0,4]") + "}", 4), "a\\x00"},
    {"escape in a name", file_of("{" + entry("\\u001b[2J", "F32", "[1]", "[0,4]") + "}", 4),
     "\\x1b[2J"},
    {"long name", file_of("{" + entry(std::string(513, 'n'), "F32", "[1]", "[0,4]") + "}", 4),
     "longer than 512"},
    {"duplicate tensor", file_of("{" + kX + "," + kX + "}", 4), "duplicate tensor \"x\""},
    {"duplicate by escape",
     file_of("{" + kX + "," + entry("\\u0078", "F32", "[1]", "[0,4]") + "}", 4),
     "duplicate tensor"},
    {"tensor is an array", file_of(R"({"x":["F32",[1],[0,4]]})", 4),
     "expected an object, got an array"},
    {"tensor is null", file_of(R"({"x":null})", 0), "expected an object, got null"},
    {"tensor is empty", file_of(R"({"x":{}})", 0), "needs dtype, shape and data_offsets"},
    {"no dtype", file_of(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4), "needs dtype"},
    {"no shape", file_of(R"({"x":{"dtype":"F32","data_offsets":[0,4]}})", 4), "needs dtype"},
    {"no offsets", file_of(R"({"x":{"dtype":"F32","shape":[1]}})", 4), "needs dtype"},
    {"unknown field", file_of(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"y":1}})", 4),
     "unknown field \"y\""},
    {"field twice",
     file_of(R"({"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
     "has dtype twice"},
    {"unknown dtype", file_of("{" + entry("x", "F33", "[1]", "[0,4]") + "}", 4),
     "unknown dtype \"F33\""},
    {"dtype in lower case", file_of("{" + entry("x", "f32", "[1]", "[0,4]") + "}", 4),
     "unknown dtype"},
    {"dtype is an object",
     file_of(R"({"x":{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}})", 4),
     "an object in dtype"},
    {"dtype is a number", file_of(R"({"x":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4),
     "a number in dtype"},
    {"shape is a number", file_of("{" + entry("x", "F32", "1", "[0,4]") + "}", 4),
     "a number in shape"},
    {"shape is a string", file_of("{" + entry("x", "F32", "\"1\"", "[0,4]") + "}", 4),
     "a string in shape"},
    {"nested shape", file_of("{" + entry("x", "F32", "[[1]]", "[0,4]") + "}", 4),
     "an array in shape"},
    {"negative dimension", file_of("{" + entry("x", "F32", "[-1]", "[0,4]") + "}", 4),
     "a negative number in shape"},
    {"minus zero", file_of("{" + entry("x", "F32", "[-0]", "[0,0]") + "}", 0), "a negative number"},
    {"dimension 1.0", file_of("{" + entry("x", "F32", "[1.0]", "[0,4]") + "}", 4),
     "not an integer"},
    {"dimension 2^64", file_of("{" + entry("x", "F32", "[18446744073709551616]", "[0,4]") + "}", 4),
     "not an integer below 2^64"},
    {"dimension true", file_of("{" + entry("x", "F32", "[true]", "[0,4]") + "}", 4),
     "a boolean in shape"},
    {"huge dimension beside 0",
     file_of("{" + entry("x", "F32", "[0,9223372036854775808]", "[0,0]") + "}", 0),
     "has a dimension of"},
    {"product overflows",
     file_of("{" + entry("x", "F32", "[4294967296,4294967296]", "[0,4]") + "}", 4),
     "no size in whole bytes"},
    {"product wraps to 4",
     file_of("{" + entry("x", "U8", "[281474976710655,281474976710655,4]", "[0,4]") + "}", 4),
     "no size in whole bytes"},
    {"rank 9", file_of("{" + entry("x", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4),
     "more than 8 dimensions"},
    {"half bytes", file_of("{" + entry("x", "F4", "[3]", "[0,2]") + "}", 2),
     "no size in whole bytes"},
    {"one offset", file_of("{" + entry("x", "F32", "[1]", "[4]") + "}", 4),
     "needs two data_offsets"},
    {"three offsets", file_of("{" + entry("x", "F32", "[1]", "[0,4,4]") + "}", 4),
     "more than two data_offsets"},
    {"negative offset", file_of("{" + entry("x", "F32", "[1]", "[-4,0]") + "}", 4),
     "a negative number in data_offsets"},
    {"float offset", file_of("{" + entry("x", "F32", "[1]", "[0,4e0]") + "}", 4), "not an integer"},
    {"offsets reversed", file_of("{" + entry("x", "F32", "[1]", "[4,0]") + "}", 4), "leaves a gap"},
    {"end before begin", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[4,0]") + "}", 4),
     "ends before it begins"},
    {"size too small", file_of("{" + entry("x", "F32", "[2]", "[0,4]") + "}", 4), "needs 8 bytes"},
    {"size too large", file_of("{" + entry("x", "F32", "[1]", "[0,8]") + "}", 8), "needs 4 bytes"},
    {"overlap", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[2,6]") + "}", 6), "overlaps"},
    {"same place", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[0,4]") + "}", 4),
     "overlaps"},
    {"hole", file_of("{" + kX + "," + entry("y", "F32", "[1]", "[8,12]") + "}", 12),
     "leaves a gap"},
    {"gap at the front", file_of("{" + entry("x", "F32", "[1]", "[4,8]") + "}", 8), "leaves a gap"},
    {"data beyond the file", file_of("{" + kX + "}", 3), "goes beyond the 3 bytes"},
    {"offsets near 2^64",
     file_of("{" + entry("x", "F32", "[1]", "[0,18446744073709551615]") + "}", 4), "goes beyond"},
    {"trailing bytes", file_of("{" + kX + "}", 5), "1 bytes after the last tensor"},
    {"data without tensors", file_of("{}", 1), "1 bytes after"},
    {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0),
     "duplicate key \"__metadata__\""},
    {"metadata key twice", file_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0),
     "duplicate key \"a\""},
    {"metadata null", file_of(R"({"__metadata__":null})", 0), "expected an object, got null"},
    {"metadata number", file_of(R"({"__metadata__":{"a":1}})", 0),
     "expected a string, got a number"},
    {"metadata nested", file_of(R"({"__metadata__":{"a":{}}})", 0), "an object"},
    {"deep nesting", file_of("{\"x\":" + std::string(1'000'000, '['), 0), "got an array"},
};

// Headers alone, before `data` bytes; the text names the case.
struct BadHeader {
  std::string header;
  size_t data;
  const char* says;
};

// What stands where a safetensors file should: the first 8 bytes are then an absurd length.
const std::vector<Bad> kOtherFiles{
    {"a zip, as pytorch_model.bin is", std::string("PK\3\4\0\0\0\0\0\0\0\0", 12), "claims"},
    {"a pickle", "\x80\x02}q\x01(X\x05\0weight", "claims"},
    {"gzip", std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10), "claims"},
    {"GGUF", std::string("GGUF\3\0\0\0\0\0\0\0", 12), "claims"},
    {"an HTML page", "<!DOCTYPE html><html><body>Not found</body></html>", "claims"},
    {"a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
     "claims"},
    {"an error as JSON", R"({"error": "Repository not found"})", "claims"},
    {"length as big-endian", with_length(uint64_t{2} << 56, "{}"), "claims"},
    {"length 2 beyond 32 bits", with_length((uint64_t{1} << 32) + 2, "{}"), "claims"},
    {"length 2^63", with_length(uint64_t{1} << 63, "{}"), "claims"},
    {"length 2^64 - 1", with_length(~uint64_t{0}, "{}"), "claims"},
    {"length -1 as 32 bits", with_length(0xFFFFFFFF, "{}"), "claims"},
    {"length of the whole file", with_length(10, "{}"), "claims a header of 10 bytes"},
    {"length one too large", with_length(3, "{}"), "claims a header of 3 bytes"},
    {"the largest length", with_length(100'000'000, "{}"), "claims"},
    {"length 1", with_length(1, "{}"), "syntax error"},
    {"length that ends in a key", with_length(5, "{\"__metadata__\":{}}"), "missing closing quote"},
    {"NULs only", std::string(64, '\0'), ""},
    {"length in UTF-16", with_length(4, std::string("{\0}\0", 4)), "NUL byte"},
};

const std::vector<BadHeader> kNoJson{
    {" ", 0, "end of input"},
    {"{", 0, "end of input"},
    {"}", 0, "syntax error"},
    {"{]", 0, "syntax error"},
    {"null", 0, "got null"},
    {"true", 0, "got a boolean"},
    {"\"x\"", 0, "got a string"},
    {"-1", 0, "got a negative number"},
    {"1.5", 0, "not an integer"},
    {"{}null", 0, "syntax error"},
    {"{} []", 0, "syntax error"},
    {"{}\x0B", 0, "syntax error"},
    {"\xC2\xA0{}", 0, "syntax error"},
    {"{\"x\"}", 0, "syntax error"},
    {"{\"x\":}", 0, "syntax error"},
    {"{,}", 0, "syntax error"},
    {"{" + kX + ",}", 4, "syntax error"},
    {"{'x':{}}", 0, "syntax error"},
    {"{x:{}}", 0, "syntax error"},
    {"{\"x\n\":{}}", 0, "control character"},
    {"{\"\\q\":{}}", 0, "syntax error"},
    {"{\"\\u12\":{}}", 0, "syntax error"},
    {"{\"\\udc00\":{}}", 0, "surrogate"},
    {"{\"\\ud800\\ud800\":{}}", 0, "surrogate"},
    {"{\"\xFF\":{}}", 0, "UTF-8"},
    {"{\"\xE0\x80\x80\":{}}", 0, "UTF-8"},
    {"{\"\xED\xA0\x80\":{}}", 0, "UTF-8"},
    {"{\"\xF4\x90\x80\x80\":{}}", 0, "UTF-8"},
    {"{\"\xE2\x82", 0, "UTF-8"},
    {"{/* */}", 0, "syntax error"},
};

const std::vector<BadHeader> kNames{
    {"{" + entry("a\\nb", "F32", "[1]", "[0,4]") + "}", 4, "a\\nb"},
    {"{" + entry("\\u007f", "F32", "[1]", "[0,4]") + "}", 4, "\\x7f"},
    {"{" + entry("\\u0085", "F32", "[1]", "[0,4]") + "}", 4, "control characters"},
    {"{" +
         entry("\xC2\x9B"
               "31m",
               "F32", "[1]", "[0,4]") +
         "}",
     4, "control characters"},
    {"{" + entry(std::string(1 << 20, 'n'), "F32", "[1]", "[0,4]") + "}", 4, "longer than 512"},
    {"{" + entry("\\u0000", "F32", "[1]", "[0,4]") + "}", 4, "\\x00"},
    {R"({"__metadata__":{"a":"\ud800"}})", 0, "surrogate"},
    {"{\"__metadata__\":{\"a\":\"\xC1\x81\"}}", 0, "UTF-8"},
    {R"({"__metadata__":{"a":"1","\u0061":"2"}})", 0, "duplicate key \"a\""},
    {"{\"__metadata__\":{}," + kX + R"(,"__\u006detadata__":{}})", 4, "duplicate key"},
    {R"({"__metadata__":[]})", 0, "got an array"},
    {R"({"__metadata__":"pt"})", 0, "got a string"},
    {R"({"__metadata__":1})", 0, "got a number"},
    {R"({"__metadata__":true})", 0, "got a boolean"},
    {R"({"__metadata__":{"a":null}})", 0, "expected a string, got null"},
    {R"({"__metadata__":{"a":false}})", 0, "expected a string, got a boolean"},
    {R"({"__metadata__":{"a":["b"]}})", 0, "expected a string, got an array"},
    {R"({"__metadata__":{"a":-1.5}})", 0, "expected a string, got a number"},
    {R"({"__metadata__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "got an array"},
};

const std::vector<BadHeader> kFields{
    {R"({"x":"F32"})", 0, "got a string"},
    {R"({"x":4})", 0, "got a number"},
    {R"({"x":false})", 0, "got a boolean"},
    {R"({"x":{"dtype":"F32"}})", 0, "needs dtype"},
    {R"({"x":{"data_offsets":[0,4]}})", 4, "needs dtype"},
    {R"({"x":{"y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}})", 4, "unknown field"},
    {R"({"x":{"Dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "unknown field"},
    {R"({"x":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4, "shape twice"},
    {R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}})", 4,
     "data_offsets twice"},
    {R"({"x":{"dtype":null,"shape":[1],"data_offsets":[0,4]}})", 4, "null in dtype"},
    {R"({"x":{"dtype":true,"shape":[1],"data_offsets":[0,4]}})", 4, "a boolean in dtype"},
    {R"({"x":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}})", 4, "an array in dtype"},
    {"{" + entry("x", "", "[1]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", " F32", "[1]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", "F32\\u0000", "[1]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", "float32", "[1]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", "torch.float32", "[1]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", "F8", "[4]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", "I4", "[8]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", "Q4_0", "[32]", "[0,18]") + "}", 18, "unknown dtype"},
    {"{" + entry("x", "F32\\u001b[2J\\n", "[1]", "[0,4]") + "}", 4, "unknown dtype"},
    {"{" + entry("x", std::string(1 << 20, 'F'), "[1]", "[0,4]") + "}", 4, "unknown dtype"},
};

const std::vector<BadHeader> kNumbers{
    {"{" + entry("x", "F32", "null", "[0,4]") + "}", 4, "null in shape"},
    {"{" + entry("x", "F32", "true", "[0,4]") + "}", 4, "a boolean in shape"},
    {"{" + entry("x", "F32", "{}", "[0,4]") + "}", 4, "an object in shape"},
    {"{" + entry("x", "F32", "[null]", "[0,4]") + "}", 4, "null in shape"},
    {"{" + entry("x", "F32", "[\"1\"]", "[0,4]") + "}", 4, "a string in shape"},
    {"{" + entry("x", "F32", "[{}]", "[0,4]") + "}", 4, "an object in shape"},
    {"{" + entry("x", "F32", "[1e0]", "[0,4]") + "}", 4, "not an integer"},
    {"{" + entry("x", "F32", "[1.5]", "[0,4]") + "}", 4, "not an integer"},
    {"{" + entry("x", "F32", "[1e400]", "[0,4]") + "}", 4, "1e400"},
    {"{" + entry("x", "F32", "[01]", "[0,4]") + "}", 4, "syntax error"},
    {"{" + entry("x", "F32", "[+1]", "[0,4]") + "}", 4, "syntax error"},
    {"{" + entry("x", "F32", "[0x1]", "[0,4]") + "}", 4, "syntax error"},
    {"{" + entry("x", "F32", "[NaN]", "[0,4]") + "}", 4, "syntax error"},
    {"{" + entry("x", "F32", "[1,]", "[0,4]") + "}", 4, "syntax error"},
    {"{" + entry("x", "F32", "[-9223372036854775808]", "[0,4]") + "}", 4, "a negative number"},
    {"{" + entry("x", "F32", "[9223372036854775808]", "[0,4]") + "}", 4, "has a dimension of"},
    {"{" + entry("x", "F32", "[281474976710657]", "[0,4]") + "}", 4, "has a dimension of"},
    {"{" + entry("x", "F32", "[1" + std::string(100000, '0') + "]", "[0,4]") + "}", 4, "overflow"},
    {"{" + entry("x", "F32", "[" + std::string(1'000'000, '[') + "]", "[0,4]") + "}", 4,
     "an array in shape"},
    {"{" + entry("x", "F32", "[1]", "null") + "}", 4, "null in data_offsets"},
    {"{" + entry("x", "F32", "[1]", "4") + "}", 4, "a number in data_offsets"},
    {"{" + entry("x", "F32", "[1]", "\"0,4\"") + "}", 4, "a string in data_offsets"},
    {"{" + entry("x", "F32", "[1]", R"({"begin":0,"end":4})") + "}", 4, "an object"},
    {"{" + entry("x", "F32", "[1]", "[]") + "}", 4, "needs two data_offsets"},
    {"{" + entry("x", "F32", "[1]", "[[0,4]]") + "}", 4, "an array in data_offsets"},
    {"{" + entry("x", "F32", "[1]", "[\"0\",\"4\"]") + "}", 4, "a string in data_offsets"},
    {"{" + entry("x", "F32", "[1]", "[null,4]") + "}", 4, "null in data_offsets"},
    {"{" + entry("x", "F32", "[1]", "[false,4]") + "}", 4, "a boolean in data_offsets"},
    {"{" + entry("x", "F32", "[1]", "[0,-4]") + "}", 4, "a negative number"},
    {"{" + entry("x", "F32", "[1]", "[-0,4]") + "}", 4, "a negative number"},
    {"{" + entry("x", "F32", "[1]", "[0.0,4]") + "}", 4, "not an integer"},
    {"{" + entry("x", "F32", "[1]", "[0,18446744073709551616]") + "}", 4, "not an integer"},
};

const std::vector<BadHeader> kLayouts{
    {"{" + entry("x", "F32", "[]", "[0,0]") + "}", 0, "needs 4 bytes"},
    {"{" + entry("x", "F32", "[0]", "[0,4]") + "}", 4, "needs 0 bytes"},
    {"{" + entry("x", "F32", "[4,0,4]", "[0,64]") + "}", 64, "needs 0 bytes"},
    {"{" + entry("x", "BF16", "[2]", "[0,8]") + "}", 8, "needs 4 bytes"},
    {"{" + entry("x", "F64", "[1]", "[0,4]") + "}", 4, "needs 8 bytes"},
    {"{" + entry("x", "F32", "[3,3]", "[0,32]") + "}", 32, "needs 36 bytes"},
    {"{" + entry("x", "F6_E2M3", "[3]", "[0,3]") + "}", 3, "no size in whole bytes"},
    {"{" + entry("x", "F4", "[1]", "[0,1]") + "}", 1, "no size in whole bytes"},
    // Sizes whose bits wrap to 0, which an empty range would satisfy.
    {"{" + entry("x", "U8", "[281474976710656,8192]", "[0,0]") + "}", 0, "no size"},
    {"{" + entry("x", "F4", "[281474976710656,16384]", "[0,0]") + "}", 0, "no size"},
    {"{" + entry("x", "C64", "[281474976710656,1024]", "[0,0]") + "}", 0, "no size"},
    {"{" + entry("x", "F64", "[4194305,4194305,211106198978564]", "[0,4]") + "}", 4, "no size"},
    {"{" + entry("x", "F32", "[281474976710656]", "[0,4]") + "}", 4, "needs 1125899906842624"},
    {"{" + entry("x", "F32", "[1]", "[1,5]") + "}", 5, "leaves a gap"},
    {"{" + entry("x", "F32", "[0]", "[4,4]") + "}", 4, "leaves a gap"},
    {"{" + entry("x", "F32", "[1]", "[9223372036854775808,4]") + "}", 4, "leaves a gap"},
    {"{" + entry("x", "F32", "[1]", "[18446744073709551612,0]") + "}", 4, "leaves a gap"},
    {"{" + entry("x", "F32", "[1]", "[0,5]") + "}", 5, "needs 4 bytes"},
    {"{" + kX + "," + entry("y", "F32", "[1]", "[3,7]") + "}", 7, "overlaps"},
    {"{" + kX + "," + entry("y", "U8", "[2]", "[1,3]") + "}", 4, "overlaps"},
    {"{" + kX + "," + entry("y", "F32", "[0]", "[2,2]") + "}", 4, "overlaps"},
    {"{" + kX + "," + entry("y", "F32", "[1]", "[4,8]") + "," +
         entry("z", "F32", "[1]", "[12,16]") + "}",
     16, "leaves a gap"},
    {"{" + kX + "," + entry("y", "F32", "[1]", "[4,8]") + "}", 4, "goes beyond the 4 bytes"},
    {"{" + kX + "," + entry("y", "F32", "[0]", "[8,8]") + "}", 8, "leaves a gap"},
    {"{" + kX + "}", 0, "goes beyond the 0 bytes"},
    {"{" + kX + "}", 4 + 4096, "4096 bytes after the last tensor"},
    {"{\"__metadata__\":{\"a\":\"b\"}}", 4, "4 bytes after"},
};

}  // namespace

TEST_CASE("every rule that a file breaks is an error about that file, in one line") {
  const TemporaryFolder folder;
  size_t cases = 0;
  const auto check = [&](const std::string& bytes, const std::string& says) {
    const auto path = folder.file("bad.safetensors", bytes);
    const auto message = message_of(ErrorKind::data, [&] { SafetensorsFile file(path); });
    CHECK_MESSAGE(message.find(path.string()) == 0, message);
    CHECK_MESSAGE(message.find(says) != std::string::npos, message);
    CHECK_MESSAGE(printable(message, 1 << 20) == message, message);
    CHECK(message.size() < 2000);
    ++cases;
  };
  for (const auto* list : {&kBadFiles, &kOtherFiles}) {
    for (const Bad& bad : *list) {
      CAPTURE(bad.what);
      check(bad.bytes, bad.says);
    }
  }
  for (const auto* list : {&kNoJson, &kNames, &kFields, &kNumbers, &kLayouts}) {
    for (const BadHeader& bad : *list) {
      CAPTURE(bad.header.substr(0, 100));
      check(file_of(bad.header, bad.data), bad.says);
    }
  }
  CHECK(cases > 200);
}

TEST_CASE("many tensors over the same bytes are refused") {
  std::string header = "{";
  for (int i = 0; i < 10000; ++i) {
    header += entry(str("t", i), "U8", "[1048576]", "[0,1048576]") + (i < 9999 ? "," : "}");
  }
  const TemporaryFolder folder;
  const auto path = folder.file("bad.safetensors", file_of(header, size_t{1} << 20));
  CHECK(message_of(ErrorKind::data, [&] { SafetensorsFile file(path); }).find("overlaps") !=
        std::string::npos);
}

TEST_CASE("what is no regular file is refused at once") {
  const TemporaryFolder folder;
  const auto refused = [](const std::filesystem::path& path) {
    return message_of(ErrorKind::data, [&] { SafetensorsFile file(path); });
  };
  refused(folder / "none");
  refused(folder.path());
  refused("/dev/null");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  refused(folder / "pipe");
  std::filesystem::create_symlink("loop", folder / "loop");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  refused(folder / "loop");
  refused(folder / "dangling");
}

TEST_SUITE_END();
