// Files, locks, lines, hashes and committed folders.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <csignal>
#include <set>
#include <vector>

#include "mora/io/folder_commit.hpp"
#include "mora/io/sha256.hpp"
#include "mora/io/text.hpp"
#include "temporary_folder.hpp"

namespace fs = std::filesystem;
using namespace mora;

TEST_SUITE_BEGIN("io");

namespace {

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

std::string gzip(std::string_view text) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  read_lines(path, [&](int64_t number, std::string_view text) {
    lines.emplace_back(text);
    CHECK(number == static_cast<int64_t>(lines.size()));
  });
  return lines;
}

// Runs `body` in a child process and returns its exit status (-1 if it was killed).
template <class Body>
int in_child(const Body& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("printable() lets no control character through, and cuts") {
  CHECK(printable("h\xC3\xA9llo") == "h\xC3\xA9llo");
  CHECK(printable("a\x1B[2J\n\t\r") == "a\\x1b[2J\\n\\t\\r");
  CHECK(printable("\xC2\x9B"
                  "x") == "\\xc2\\x9bx");
  CHECK(printable("\xFFz\x7F") == "\\xffz\\x7f");
  CHECK(printable("abcdef", 3) == "abc...");
  CHECK(printable("a\xC3\xA9", 2) == "a...");
}

TEST_CASE("UTF-8 is checked as strictly as the standard has it") {
  for (const char* good :
       {"", "abc", "\xC2\x80", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"}) {
    CHECK_MESSAGE(is_valid_utf8(good), printable(good));
  }
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82", "\xE2\x28\xA1", "\xFF"}) {
    CHECK_MESSAGE(!is_valid_utf8(bad), printable(bad));
  }
}

TEST_CASE("read_file returns all bytes, and refuses what is missing or too large") {
  const TemporaryFolder folder;
  const std::string bytes(3 << 20, 'x');
  const auto path = folder.file("big", bytes);
  CHECK(read_file(path, bytes.size()) == bytes);
  CHECK(read_file(folder.file("empty", ""), 0).empty());
  CHECK(message_of(ErrorKind::data, [&] { read_file(path, bytes.size() - 1); }) ==
        path.string() + ": file is larger than the 3145727 bytes allowed here");
  CHECK(message_of(ErrorKind::data, [&] { read_file(folder / "none", 1); }) ==
        "cannot open " + (folder / "none").string() + ": No such file or directory");
  message_of(ErrorKind::data, [&] { read_file(folder.path(), 1); });
}

TEST_CASE("write_file_atomically replaces the whole file and leaves nothing else") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "first, longer");
  write_file_atomically(folder / "a", "second");
  CHECK(bytes_of(folder / "a") == "second");
  CHECK(names_in(folder.path()) == std::set<std::string>{"a"});
  message_of(ErrorKind::io, [&] { write_file_atomically(folder / "none" / "a", "x"); });
  fs::create_directory(folder / "taken");
  const auto message =
      message_of(ErrorKind::io, [&] { write_file_atomically(folder / "taken", "x"); });
  CHECK(message.find((folder / "taken").string() + ": Is a directory") != std::string::npos);
  CHECK(names_in(folder.path()) == std::set<std::string>{"a", "taken"});
}

TEST_CASE("an AtomicFile that is not committed leaves the old file") {
  const TemporaryFolder folder;
  folder.file("a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
    CHECK(names_in(folder.path()).size() == 2);
  }
  CHECK(bytes_of(folder / "a") == "old");
  CHECK(names_in(folder.path()) == std::set<std::string>{"a"});
}

TEST_CASE("a write that the system cuts short is an error, and the old file stays") {
  const TemporaryFolder folder;
  folder.file("a", "old");
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};  // as a full disk: a first part is written, the rest refused
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(folder / "a", std::string(10'000, 'x'));
    } catch (const Error& error) {
      return std::string(error.what()).find("File too large") == std::string::npos
                 ? 0
                 : error.exit_code();
    }
    return 0;
  });
  CHECK(status == 6);
  CHECK(bytes_of(folder / "a") == "old");
  CHECK(names_in(folder.path()) == std::set<std::string>{"a"});
}

TEST_CASE("a FileLock holds against another process until it ends") {
  const TemporaryFolder folder;
  const fs::path file = folder / "LOCK";
  const auto try_lock = [&] {
    try {
      const FileLock lock(file);
      return 0;
    } catch (const Error& error) {
      return error.exit_code();
    }
  };
  {
    const FileLock lock(file);
    CHECK(in_child(try_lock) == 7);
    const auto message = message_of(ErrorKind::locked, [&] { const FileLock second(file); });
    CHECK(message.find(folder.path().string()) == 0);
  }
  CHECK(in_child(try_lock) == 0);
  // A killed owner's lock is gone, its file is not.
  CHECK(in_child([&] {
          const FileLock lock(file);
          raise(SIGKILL);
          return 0;
        }) == -1);
  CHECK(try_lock() == 0);
  CHECK(fs::exists(file));
}

TEST_CASE("a map shows the file, and only regular files are mapped") {
  const TemporaryFolder folder;
  MappedFile map(folder.file("a", "bytes"));
  MappedFile moved(std::move(map));
  CHECK(std::string(reinterpret_cast<const char*>(moved.bytes().data()), moved.bytes().size()) ==
        "bytes");
  CHECK(MappedFile(folder.file("empty", "")).bytes().empty());
  message_of(ErrorKind::data, [&] { MappedFile(folder.path()); });
  message_of(ErrorKind::data, [&] { MappedFile(folder / "none"); });
  message_of(ErrorKind::data, [&] { MappedFile("/dev/null"); });
}

TEST_CASE("lines: CRLF, byte-order mark, blank lines and a last line without end") {
  const TemporaryFolder folder;
  using Lines = std::vector<std::string>;
  CHECK(lines_of(folder.file("a", "")) == Lines{});
  CHECK(lines_of(folder.file("a", "\n")) == Lines{""});
  CHECK(lines_of(folder.file("a", "one\r\n\ntwo\rx\nlast")) == Lines{"one", "", "two\rx", "last"});
  CHECK(lines_of(folder.file("a", "\xEF\xBB\xBFone\n\xEF\xBB\xBFtwo")) ==
        Lines{"one", "\xEF\xBB\xBFtwo"});
  message_of(ErrorKind::data, [&] { lines_of(folder / "none"); });
}

TEST_CASE("lines longer than a piece of input come whole, and too long ones are refused") {
  const TemporaryFolder folder;
  const std::string a(300'000, 'a');
  const std::string b(700'001, 'b');
  const std::vector<std::string> expected{a, b, "c"};
  CHECK(lines_of(folder.file("plain", a + "\n" + b + "\nc\n")) == expected);
  CHECK(lines_of(folder.file("packed.gz", gzip(a + "\n" + b + "\nc\n"))) == expected);
  const auto path = folder.file("long.gz", gzip("x\n" + std::string((64 << 20) + 1, 'y')));
  CHECK(message_of(ErrorKind::data, [&] { lines_of(path); }) ==
        path.string() + ":2: line is longer than 64 MiB");
}

TEST_CASE("gzip: several members join; every truncation and every damaged byte is noticed") {
  const TemporaryFolder folder;
  const std::string first = gzip("one\ntw");
  const std::string whole = first + gzip("o\nthree\n") + gzip("");
  CHECK(lines_of(folder.file("a.gz", whole)) == std::vector<std::string>{"one", "two", "three"});
  for (size_t length = 0; length < first.size(); ++length) {
    CAPTURE(length);
    const auto path = folder.file("a.gz", whole.substr(0, length));
    const auto message = message_of(ErrorKind::data, [&] { lines_of(path); });
    CHECK(message.find("the file is incomplete") != std::string::npos);
  }
  message_of(ErrorKind::data, [&] { lines_of(folder.file("a.gz", first + "garbage")); });
  message_of(ErrorKind::data, [&] { lines_of(folder.file("a.gz", "plain text\n")); });
  for (size_t at = first.size() - 8; at < first.size(); ++at) {  // checksum and length
    std::string damaged = first;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x40);
    message_of(ErrorKind::data, [&] { lines_of(folder.file("a.gz", damaged)); });
  }
}

TEST_CASE("SHA-256 gives the values of FIPS 180-4's examples") {
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string million(1'000'000, 'a');
  const std::string digest = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  Sha256 pieces;
  for (size_t at = 0; at < million.size(); at += 777) {
    pieces.update(std::string_view(million).substr(at, 777));
  }
  CHECK(pieces.hex() == digest);
  message_of(ErrorKind::internal, [&] { pieces.update("more"); });
  const TemporaryFolder folder;
  CHECK(sha256_of_file(folder.file("a", million)) == digest);
}

namespace {

// A committed folder "step-1" with three files.
fs::path make_checkpoint(const TemporaryFolder& folder) {
  FolderCommit commit(folder.path(), "step-1");
  for (const char* name : {"a.bin", "b.bin", "empty"}) {
    std::ofstream(commit.path() / name) << (name == std::string("empty") ? "" : name);
  }
  return commit.commit({{"step", "1"}, {"loss", "\"NaN\""}});
}

void flip(const fs::path& path, size_t at) {
  std::string bytes = bytes_of(path);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("a committed folder verifies and its manifest tells what it holds") {
  const TemporaryFolder folder;
  const fs::path path = make_checkpoint(folder);
  CHECK(path == folder / "step-1");
  CHECK(names_in(folder.path()) == std::set<std::string>{"step-1"});
  const std::string manifest = verify_folder(path);
  CHECK(manifest == bytes_of(path / kManifestName));
  for (const char* part : {"\"magic\": \"mora-checkpoint\"", "\"format_version\": 1", "\"step\": 1",
                           "\"loss\": \"NaN\"", "\"name\": \"a.bin\"", "\"size\": 5"}) {
    CHECK_MESSAGE(manifest.find(part) != std::string::npos, part);
  }
  CHECK(manifest.find(sha256_hex("a.bin")) != std::string::npos);
}

TEST_CASE("damage to any byte of a committed folder is found") {
  const TemporaryFolder folder;
  const fs::path path = make_checkpoint(folder);
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string bytes = bytes_of(entry);
    for (size_t at = 0; at < bytes.size(); ++at) {
      flip(entry, at);
      const auto message = message_of(ErrorKind::data, [&] { verify_folder(path); });
      CHECK(message.find(entry.path().string()) == 0);
      flip(entry, at);
    }
    for (const auto& other : {std::string(bytes + "x"), bytes.substr(0, bytes.size() / 2)}) {
      if (other == bytes) continue;
      std::ofstream(entry.path(), std::ios::binary) << other;
      message_of(ErrorKind::data, [&] { verify_folder(path); });
    }
    fs::remove(entry);
    message_of(ErrorKind::data, [&] { verify_folder(path); });
    std::ofstream(entry.path(), std::ios::binary) << bytes;
    verify_folder(path);
  }
  std::ofstream(path / "stranger") << "x";
  CHECK(message_of(ErrorKind::data, [&] { verify_folder(path); }) ==
        (path / "stranger").string() + ": not listed in MANIFEST.json; remove it");
  message_of(ErrorKind::data, [&] { verify_folder(folder / "none"); });
}

TEST_CASE("a manifest with a right hash is still not trusted") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "c");
  const auto manifest = [&](const std::string& body) {
    std::ofstream(folder / "c" / kManifestName)
        << body << ",\n  \"manifest_sha256\": \"" << sha256_hex(body + "\n}\n") << "\"\n}\n";
    return message_of(ErrorKind::data, [&] { verify_folder(folder / "c"); });
  };
  CHECK(manifest("{\"magic\": \"other\"").find("expected \"mora-checkpoint\"") !=
        std::string::npos);
  const std::string head = "{\"magic\": \"mora-checkpoint\", \"format_version\": ";
  CHECK(manifest(head + "2").find("is 2; this program reads version 1") != std::string::npos);
  CHECK(manifest(head + "1").find("\"files\" is missing") != std::string::npos);
  for (const char* name : {"../x", "/x", "a/../../x", ".", "a/./b", "", "a/"}) {
    CAPTURE(name);
    CHECK(manifest(str(head, "1, \"files\": [{\"name\": \"", name, "\"}]"))
              .find("does not lead to a file in the folder") != std::string::npos);
  }
  CHECK(manifest(head + "1, \"files\": [], \"files\": []").find("duplicate key") !=
        std::string::npos);
}

TEST_CASE("a folder that is not committed disappears, and an existing one is not replaced") {
  const TemporaryFolder folder;
  {
    FolderCommit abandoned(folder.path(), "step-1");
    std::ofstream(abandoned.path() / "a") << "x";
  }
  CHECK(names_in(folder.path()).empty());
  FolderCommit late(folder.path(), "step-1");
  make_checkpoint(folder);
  const std::string expected =
      "cannot commit " + (folder / "step-1").string() + ": it exists already";
  CHECK(message_of(ErrorKind::io, [&] { late.commit(); }) == expected);
  CHECK(message_of(ErrorKind::io, [&] { FolderCommit(folder.path(), "step-1"); }) == expected);
  verify_folder(folder / "step-1");
  message_of(ErrorKind::io, [&] { FolderCommit(folder / "none", "step-1"); });
  FolderCommit linked(folder.path(), "step-2");
  fs::create_symlink("elsewhere", linked.path() / "link");
  message_of(ErrorKind::io, [&] { linked.commit(); });
}

TEST_CASE("folders in a committed folder belong to it, every byte of them") {
  const TemporaryFolder folder;
  FolderCommit commit(folder.path(), "step-1");
  std::ofstream(commit.path() / "a") << "x";
  fs::create_directories(commit.path() / "base/inner");
  std::ofstream(commit.path() / "base/inner/b") << "y";
  const fs::path whole = commit.commit();
  verify_folder(whole);
  std::ofstream(whole / "base/inner/b") << "z";
  message_of(ErrorKind::data, [&] { verify_folder(whole); });
  std::ofstream(whole / "base/inner/b") << "y";
  std::ofstream(whole / "base/stranger") << "y";
  CHECK(message_of(ErrorKind::data, [&] { verify_folder(whole); }).find("stranger") !=
        std::string::npos);
}

TEST_CASE("only this program's own leftovers and checkpoints are removed") {
  const TemporaryFolder folder;
  CHECK(in_child([&] {
          FolderCommit commit(folder.path(), "s");
          AtomicFile file(folder / "f");
          std::ofstream(commit.path() / "a") << "x";
          raise(SIGKILL);
          return 0;
        }) == -1);
  CHECK(names_in(folder.path()).size() == 2);
  const std::set<std::string> foreign{".tmp-mine", ".tmp-x-0123456789ABCDEF",
                                      "tmp-x-0123456789abcdef", ".tmp-0123456789abcdef", "step-1"};
  for (const auto& name : foreign) fs::create_directory(folder / name);
  fs::create_symlink(folder / "step-1", folder / ".tmp-x-0123456789abcdef");
  remove_stale_temporaries(folder.path());
  auto expected = foreign;
  expected.insert(".tmp-x-0123456789abcdef");
  CHECK(names_in(folder.path()) == expected);
  message_of(ErrorKind::data, [&] { remove_folder(folder / "step-1"); });
  CHECK(fs::exists(folder / "step-1"));
  fs::remove(folder / "step-1");
  remove_folder(make_checkpoint(folder));
  expected.erase("step-1");
  CHECK(names_in(folder.path()) == expected);
}

TEST_SUITE_END();
