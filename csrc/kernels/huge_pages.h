// Memory for weights that stream from DRAM at every step: on huge pages, where the system has
// them, the hardware's prefetch runs on where it would stop at every small page.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace seq2seq_ext {

class HugePages {
 public:
  explicit HugePages(int64_t bytes) {
    constexpr int64_t kPage = 2 << 20;
    const int64_t size = (bytes + kPage - 1) / kPage * kPage;
    data_ = static_cast<char*>(std::aligned_alloc(kPage, size));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    madvise(data_, size, MADV_HUGEPAGE);  // a wish; nothing depends on it
#endif
  }
  ~HugePages() { std::free(data_); }
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

  // The next `bytes`, at the begin of a cache line.
  char* take(int64_t bytes) {
    char* const taken = data_ + taken_;
    taken_ += lines(bytes);
    return taken;
  }

  static constexpr int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  char* data_;
  int64_t taken_ = 0;
};

}  // namespace seq2seq_ext
