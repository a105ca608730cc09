// SHA-256 through OpenSSL's EVP interface.
#include "mora/io/sha256.hpp"

#include <openssl/evp.h>

#include <array>
#include <vector>

#include "io/system.hpp"
#include "mora/core/error.hpp"

namespace mora {

struct Sha256::State {
  struct Free {
    void operator()(EVP_MD_CTX* p) const { EVP_MD_CTX_free(p); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  ensure(state_->context && EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1,
         "OpenSSL has no SHA-256");
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  ensure(state_ && EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1,
         "SHA-256 was fed after its end");
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest{};
  unsigned int size = 0;
  ensure(state_ && EVP_DigestFinal_ex(state_->context.get(), digest.data(), &size) == 1 &&
             size == digest.size(),
         "SHA-256 was ended twice");
  state_.reset();
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.hex();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  const FileHandle file = open_input(path);
  std::vector<std::byte> buffer(size_t{1} << 20);
  Sha256 digest;
  for (size_t n = buffer.size(); n == buffer.size();) {
    n = read_full(file, path, buffer);
    digest.update(std::span(buffer).first(n));
  }
  return digest.hex();
}

}  // namespace mora
