// Memory for what streams from DRAM or is large and new: on huge pages, where the system has them,
// the hardware's prefetch runs on where it would stop at every small page, and a first touch is
// paid once for 512 of those. It begins as zeros, and what is never touched takes no memory.
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
  explicit HugePages(int64_t bytes) : size_((bytes + kPage - 1) / kPage * kPage) {
#if defined(__linux__)
    mapped_ =
        mmap(nullptr, size_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    madvise(mapped_, size_ + kPage, MADV_HUGEPAGE);  // a wish; nothing depends on it
    data_ = static_cast<char*>(mapped_) + (kPage - reinterpret_cast<intptr_t>(mapped_) % kPage);
#else
    constexpr int64_t kLine = 64;
    mapped_ = std::calloc(size_ + kLine, 1);
    if (!mapped_) throw std::bad_alloc();
    data_ = static_cast<char*>(mapped_) + (kLine - reinterpret_cast<intptr_t>(mapped_) % kLine);
#endif
  }
  ~HugePages() {
#if defined(__linux__)
    munmap(mapped_, size_ + kPage);
#else
    std::free(mapped_);
#endif
  }
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

  int64_t size() const { return size_; }
  char* data() const { return data_; }

  // The next `bytes`, at the begin of a cache line.
  char* take(int64_t bytes) {
    char* const taken = data_ + taken_;
    taken_ += lines(bytes);
    return taken;
  }

  static constexpr int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  static constexpr int64_t kPage = 2 << 20;

  int64_t size_;
  void* mapped_;
  char* data_;
  int64_t taken_ = 0;
};

}  // namespace seq2seq_ext
