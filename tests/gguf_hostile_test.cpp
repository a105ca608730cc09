// GGUF files that break one rule each, are cut off, or have a byte changed: refused with one line,
// in bounded time and memory, and never read beyond their end.
#include <doctest/doctest.h>

#include <limits>

#include "gguf_bytes.hpp"
#include "mora/io/tensor_rows.hpp"
#include "temporary_folder.hpp"

using namespace mora;
using namespace mora::testing;

TEST_SUITE_BEGIN("hostile gguf");

namespace {

// Opening the file must fail as bad data, with one line that names the file and holds `part`.
void check_refused(const std::string& bytes, const std::string& part) {
  const TemporaryFolder folder;
  const auto path = folder.file("bad.gguf", bytes);
  const std::string message = message_of(ErrorKind::data, [&] { GgufFile file(path); });
  CHECK(message.find("bad.gguf") != std::string::npos);
  CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.size() < 2000);
}

struct BadFile {
  const char* name;
  void (*spoil)(GgufBytes&);
  const char* part;
};

constexpr uint64_t kHuge = uint64_t{1} << 62;

const BadFile kBadHeaders[] = {
    {"another magic", [](GgufBytes& f) { f.magic = "GGML"; }, "does not begin with"},
    {"magic of the wrong byte order", [](GgufBytes& f) { f.magic = "FUGG"; },
     "does not begin with"},
    {"version 0", [](GgufBytes& f) { f.version = 0; }, "big-endian"},
    {"version 1", [](GgufBytes& f) { f.version = 1; }, "version 1"},
    {"version 4", [](GgufBytes& f) { f.version = 4; }, "version 4"},
    {"version of 2^32 - 1", [](GgufBytes& f) { f.version = UINT32_MAX; }, "version"},
    {"big-endian version 3", [](GgufBytes& f) { f.version = 3u << 24; }, "big-endian"},
    {"big-endian version 2", [](GgufBytes& f) { f.version = 2u << 24; }, "big-endian"},
    {"more tensors than there are", [](GgufBytes& f) { f.tensor_count = 3; }, ""},
    {"fewer tensors than there are", [](GgufBytes& f) { f.tensor_count = 1; }, "tensor data"},
    {"no tensors but data", [](GgufBytes& f) { f.tensor_count = 0; }, "tensor data"},
    {"2^62 tensors", [](GgufBytes& f) { f.tensor_count = kHuge; }, "claims"},
    {"2^64 - 1 tensors", [](GgufBytes& f) { f.tensor_count = UINT64_MAX; }, "claims"},
    {"more values than there are", [](GgufBytes& f) { f.value_count = 3; }, ""},
    {"fewer values than there are", [](GgufBytes& f) { f.value_count = 1; }, ""},
    {"2^62 values", [](GgufBytes& f) { f.value_count = kHuge; }, "claims"},
    {"2^64 - 1 values", [](GgufBytes& f) { f.value_count = UINT64_MAX; }, "claims"},
};

template <uint64_t kLength>
void key_of_length(GgufBytes& f) {
  f.values[1].replace(0, 8, raw(kLength));
}

void with_value(GgufBytes& f, const std::string& value) {
  f.values.push_back(value);
}

const BadFile kBadValues[] = {
    {"a key beyond the file", key_of_length<100000>, "truncated"},
    {"a key of 2^62 bytes", key_of_length<kHuge>, "truncated"},
    {"a key of 2^64 - 1 bytes", key_of_length<UINT64_MAX>, "truncated"},
    {"a key of no bytes", [](GgufBytes& f) { with_value(f, gguf_value("", GgufType::u8, "x")); },
     "bad key"},
    {"a key with a line break",
     [](GgufBytes& f) { with_value(f, gguf_value("a\nb", GgufType::u8, "x")); }, "a\\nb"},
    {"a key with an escape",
     [](GgufBytes& f) { with_value(f, gguf_value("a\x1b[2Jb", GgufType::u8, "x")); }, "bad key"},
    {"a key that is not UTF-8",
     [](GgufBytes& f) { with_value(f, gguf_value("a\xff", GgufType::u8, "x")); }, "bad key"},
    {"a key of 65536 bytes",
     [](GgufBytes& f) { with_value(f, gguf_value(std::string(65536, 'k'), GgufType::u8, "x")); },
     "bad key"},
    {"a key twice", [](GgufBytes& f) { with_value(f, gguf_value("answer", GgufType::u8, "x")); },
     "stands twice"},
    {"value type 13", [](GgufBytes& f) { with_value(f, gguf_value("k", 13, raw(kHuge))); },
     "unknown type 13"},
    {"value type 2^32 - 1",
     [](GgufBytes& f) { with_value(f, gguf_value("k", UINT32_MAX, raw(kHuge))); }, "unknown type"},
    {"a string beyond the file",
     [](GgufBytes& f) { with_value(f, gguf_value("k", GgufType::string, raw(uint64_t{5000}))); },
     "truncated"},
    {"a string of 2^64 - 1 bytes",
     [](GgufBytes& f) { with_value(f, gguf_value("k", GgufType::string, raw(UINT64_MAX))); },
     "truncated"},
    {"a boolean of 2",
     [](GgufBytes& f) { with_value(f, gguf_value("k", GgufType::boolean, "\2")); }, "no boolean"},
    {"an array of booleans with 255",
     [](GgufBytes& f) { with_value(f, gguf_array("k", GgufType::boolean, 2, "\1\xff")); },
     "no boolean"},
    {"an array of arrays",
     [](GgufBytes& f) { with_value(f, gguf_array("k", GgufType::array, 1, raw(kHuge))); },
     "array of arrays"},
    {"an array of type 13",
     [](GgufBytes& f) {
       with_value(f, gguf_value("k", GgufType::array, raw(uint32_t{13}) + raw(uint64_t{0})));
     },
     "unknown type 13"},
    {"an array of 2^62 bytes",
     [](GgufBytes& f) { with_value(f, gguf_array("k", GgufType::u8, kHuge, "")); }, "claims"},
    {"an array of 2^61 f64: its bytes overflow",
     [](GgufBytes& f) { with_value(f, gguf_array("k", GgufType::f64, kHuge / 2, "")); }, "claims"},
    {"an array of 2^64 - 1 strings",
     [](GgufBytes& f) { with_value(f, gguf_array("k", GgufType::string, UINT64_MAX, "")); },
     "claims"},
    {"an array one longer than the rest of the file",
     [](GgufBytes& f) {
       f.values = {gguf_array("k", GgufType::u8, 3, "ab")};
       f.tensors.clear(), f.data.clear(), f.alignment = 1;
     },
     "claims"},
    {"an array of strings, the second beyond the file",
     [](GgufBytes& f) {
       with_value(f, gguf_array("k", GgufType::string, 2, gguf_text("x") + raw(uint64_t{9999})));
     },
     "truncated"},
    {"an array of strings, the second of 2^64 - 1 bytes",
     [](GgufBytes& f) {
       with_value(f, gguf_array("k", GgufType::string, 2, gguf_text("x") + raw(UINT64_MAX)));
     },
     "truncated"},
};

template <class T>
void aligned_to(GgufBytes& f, GgufType type, T value) {
  with_value(f, gguf_value("general.alignment", type, raw(value)));
}

const BadFile kBadAlignments[] = {
    {"alignment 0", [](GgufBytes& f) { aligned_to(f, GgufType::u32, uint32_t{0}); },
     "power of two"},
    {"alignment 24", [](GgufBytes& f) { aligned_to(f, GgufType::u32, uint32_t{24}); },
     "power of two"},
    {"alignment 2^32 - 1", [](GgufBytes& f) { aligned_to(f, GgufType::u32, UINT32_MAX); },
     "power of two"},
    {"alignment as i32", [](GgufBytes& f) { aligned_to(f, GgufType::i32, int32_t{32}); },
     "not u32"},
    {"alignment as u64", [](GgufBytes& f) { aligned_to(f, GgufType::u64, uint64_t{32}); },
     "not u32"},
    {"alignment as string",
     [](GgufBytes& f) {
       with_value(f, gguf_value("general.alignment", GgufType::string, gguf_text("32")));
     },
     "not u32"},
    {"alignment 64, offsets for 32",
     [](GgufBytes& f) { aligned_to(f, GgufType::u32, uint32_t{64}); }, "expected 64"},
    {"alignment 2^31", [](GgufBytes& f) { aligned_to(f, GgufType::u32, uint32_t{1} << 31); }, ""},
};

void one_tensor(GgufBytes& f, const std::vector<int64_t>& sizes, uint32_t type, size_t bytes,
                const char* name = "t", uint64_t offset = 0) {
  f.tensors = {gguf_tensor(name, sizes, type, offset)};
  f.data = std::string(bytes, '\0');
}

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

const BadFile kBadTensors[] = {
    {"a name of no bytes", [](GgufBytes& f) { one_tensor(f, {4}, 0, 16, ""); }, "bad tensor name"},
    {"a name of 64 bytes",
     [](GgufBytes& f) {
       one_tensor(f, {4}, 0, 16,
                  "0123456789012345678901234567890123456789012345678901234567890123");
     },
     "bad tensor name"},
    {"a name with a control character", [](GgufBytes& f) { one_tensor(f, {4}, 0, 16, "a\tb"); },
     "bad tensor name"},
    {"a name that is not UTF-8", [](GgufBytes& f) { one_tensor(f, {4}, 0, 16, "\xc0\xaf"); },
     "bad tensor name"},
    {"a name of 2^64 - 1 bytes", [](GgufBytes& f) { f.tensors[1].replace(0, 8, raw(UINT64_MAX)); },
     "truncated"},
    {"a name twice", [](GgufBytes& f) { f.tensors[1] = gguf_tensor("a", {3}, 0, 32); },
     "stands twice"},
    {"5 dimensions",
     [](GgufBytes& f) {
       one_tensor(f, {1, 1, 1, 1, 4}, 0, 16);
     },
     "5 dimensions"},
    {"2^32 - 1 dimensions", [](GgufBytes& f) { f.tensors[0].replace(9, 4, raw(UINT32_MAX)); },
     "dimensions"},
    {"a negative size", [](GgufBytes& f) { one_tensor(f, {-4}, 0, 16); }, "negative"},
    {"two negative sizes",
     [](GgufBytes& f) {
       one_tensor(f, {-2, -2}, 0, 16);
     },
     "negative"},
    {"the smallest size", [](GgufBytes& f) { one_tensor(f, {-kMost - 1}, 0, 16); }, "negative"},
    {"sizes whose product overflows",
     [](GgufBytes& f) {
       one_tensor(f, {int64_t{1} << 32, int64_t{1} << 32}, 0, 16);
     },
     "too large"},
    {"sizes whose product overflows to 4",
     [](GgufBytes& f) {
       one_tensor(f, {(int64_t{1} << 62) + 1, 4}, 0, 16);
     },
     "too large"},
    {"the largest size: its bytes overflow", [](GgufBytes& f) { one_tensor(f, {kMost}, 0, 16); },
     "more than the whole file"},
    {"the largest size of f64", [](GgufBytes& f) { one_tensor(f, {kMost}, 28, 16); },
     "more than the whole file"},
    {"2^60 values of Q8_0", [](GgufBytes& f) { one_tensor(f, {int64_t{1} << 60}, 8, 34); },
     "more than the whole file"},
    {"type 4, which was removed", [](GgufBytes& f) { one_tensor(f, {32}, 4, 18); },
     "unknown type 4"},
    {"type 5, which was removed", [](GgufBytes& f) { one_tensor(f, {32}, 5, 18); },
     "unknown type 5"},
    {"type 1000", [](GgufBytes& f) { one_tensor(f, {32}, 1000, 128); }, "unknown type 1000"},
    {"type 2^32 - 1", [](GgufBytes& f) { one_tensor(f, {32}, UINT32_MAX, 128); }, "unknown type"},
    {"a row of 31 values in blocks of 32",
     [](GgufBytes& f) {
       one_tensor(f, {31, 32}, 8, 34 * 31);
     },
     "no whole number of Q8_0 blocks"},
    {"a row of 128 values in blocks of 256",
     [](GgufBytes& f) {
       one_tensor(f, {128, 2}, 12, 144);
     },
     "no whole number of Q4_K blocks"},
    {"a scalar in blocks", [](GgufBytes& f) { one_tensor(f, {}, 2, 18); }, "no whole number"},
    {"a first offset of 32", [](GgufBytes& f) { one_tensor(f, {4}, 0, 64, "t", 32); },
     "expected 0"},
    {"an offset into the tensor before",
     [](GgufBytes& f) { f.tensors[1] = gguf_tensor("b", {3}, 0, 0); }, "expected 32"},
    {"an offset that is not aligned",
     [](GgufBytes& f) { f.tensors[1] = gguf_tensor("b", {3}, 0, 33); }, "expected 32"},
    {"an offset that leaves a gap",
     [](GgufBytes& f) {
       f.tensors[1] = gguf_tensor("b", {3}, 0, 64);
       f.data.resize(96);
     },
     "expected 32"},
    {"an offset of 2^64 - 32",
     [](GgufBytes& f) { f.tensors[1] = gguf_tensor("b", {3}, 0, UINT64_MAX - 31); }, "expected 32"},
    {"tensors out of order", [](GgufBytes& f) { std::swap(f.tensors[0], f.tensors[1]); },
     "begins at 32"},
    {"many tensors, each as large as the file",
     [](GgufBytes& f) {
       f.tensors.clear();
       for (int i = 0; i < 100; ++i) {
         f.tensors.push_back(gguf_tensor(str("t", i), {704}, 0, static_cast<uint64_t>(i) * 2816));
       }
     },
     "truncated"},
    {"data one byte short", [](GgufBytes& f) { f.data.pop_back(); }, "tensor data"},
    {"no data", [](GgufBytes& f) { f.data.clear(); }, ""},
    {"a byte after the padding", [](GgufBytes& f) { f.data.resize(65); }, "tensor data"},
    {"a block more", [](GgufBytes& f) { f.data.resize(96); }, "tensor data"},
};

}  // namespace

TEST_CASE("files at the edge of the rules are read") {
  const TemporaryFolder folder;
  GgufBytes padded;
  padded.data.resize(64);  // the last tensor padded as well
  CHECK(GgufFile(folder.file("m.gguf", padded.bytes())).tensors().size() == 2);
  GgufBytes aligned;
  aligned.alignment = 64;
  aligned_to(aligned, GgufType::u32, uint32_t{64});
  aligned.tensors[1] = gguf_tensor("b", {3}, 0, 64);
  aligned.data.resize(64 + 12);
  CHECK(GgufFile(folder.file("m.gguf", aligned.bytes())).bytes("b").size() == 12);
  GgufBytes empty;
  empty.tensors = {gguf_tensor("none", {32, 0}, 8, 0), gguf_tensor("scalar", {}, 0, 0)};
  empty.data.resize(4);
  CHECK(GgufFile(folder.file("m.gguf", empty.bytes())).bytes("none").empty());
  GgufBytes bare;
  bare.tensors.clear();
  CHECK(GgufFile(folder.file("m.gguf", bare.header())).tensors().empty());
  GgufBytes known;  // sizes are known, values are not
  one_tensor(known, {256}, 10, 84);
  const GgufFile file(folder.file("m.gguf", known.bytes()));
  const std::string message = message_of(ErrorKind::data, [&] { rows_of(file, "t"); });
  CHECK_MESSAGE(message.find("Q2_K[256]") != std::string::npos, message);
}

TEST_CASE("hostile files are refused with one line") {
  const TemporaryFolder folder;
  GgufFile(folder.file("good.gguf", GgufBytes().bytes()));  // the file that each case spoils
  size_t cases = 0;
  const std::span<const BadFile> lists[] = {kBadHeaders, kBadValues, kBadAlignments, kBadTensors};
  for (const std::span<const BadFile> list : lists) {
    for (const BadFile& bad : list) {
      INFO(bad.name);
      GgufBytes bytes;
      bad.spoil(bytes);
      check_refused(bytes.bytes(), bad.part);
      ++cases;
    }
  }
  check_refused("", "");
  check_refused("GG", "");
  CHECK(cases >= 65);
}

TEST_CASE("a file cut off anywhere is refused") {
  const std::string bytes = with_all_types().bytes();
  for (size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    check_refused(bytes.substr(0, length), "");
  }
}

TEST_CASE("a file with any byte changed is refused or read, and never read beyond its end") {
  const TemporaryFolder folder;
  const std::string bytes = with_all_types().bytes();
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const char value : {'\0', '\x7f', '\xff'}) {
      std::string changed = bytes;
      changed[at] = value;
      const auto path = folder.file("m.gguf", changed);
      try {
        const GgufFile file(path);
        for (const auto& [name, tensor] : file.tensors()) {
          std::vector<float> row(static_cast<size_t>(tensor.row()));
          if (tensor.type->unpack != nullptr && tensor.bytes > 0) file.read_row(tensor, 0, row);
        }
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::data);
      }
    }
  }
}

TEST_SUITE_END();
