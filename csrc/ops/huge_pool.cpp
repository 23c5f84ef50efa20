#include "huge_pool.h"

#include <algorithm>
#include <list>
#include <mutex>

namespace seq2seq_ext {

namespace {

class HugePool {
 public:
  // The smallest that holds so many bytes and not many more, of equal ones the last used; null if
  // there is none.
  std::unique_ptr<HugePages> take(int64_t bytes) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock) return nullptr;
    auto best = blocks_.end();
    for (auto it = blocks_.begin(); it != blocks_.end(); ++it)
      if (fits(**it, bytes) && (best == blocks_.end() || (*it)->size() <= (*best)->size()))
        best = it;
    return best == blocks_.end() ? nullptr : remove(best);
  }

  // Those that have lain here longest make way; one that would drive out all others goes itself.
  void give(std::unique_ptr<HugePages> block) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || block->size() > kMostBytes / 3) return;
    bytes_ += block->size();
    blocks_.push_back(std::move(block));
    while (bytes_ > kMostBytes) remove(blocks_.begin());
  }

 private:
  using Blocks = std::list<std::unique_ptr<HugePages>>;
  static constexpr int64_t kMostBytes = 128 << 20;

  static bool fits(const HugePages& block, int64_t bytes) {
    return bytes <= block.size() && block.size() <= bytes + bytes / 4;
  }

  std::unique_ptr<HugePages> remove(Blocks::iterator it) {
    std::unique_ptr<HugePages> block = std::move(*it);
    blocks_.erase(it);
    bytes_ -= block->size();
    return block;
  }

  // Only tried: who forks while another thread is here leaves it locked in the child.
  std::mutex mutex_;
  Blocks blocks_;
  int64_t bytes_ = 0;
};

// Never destroyed: tensors may outlive every static.
HugePool& pool() {
  static HugePool* const shared = new HugePool;
  return *shared;
}

}  // namespace

HugeBlock take_huge(int64_t bytes) {
  std::unique_ptr<HugePages> kept = pool().take(bytes);
  const bool is_zero = !kept;
  HugePages* const pages = kept ? kept.release() : new HugePages(bytes);
  return {{pages, [](HugePages* freed) { pool().give(std::unique_ptr<HugePages>(freed)); }},
          is_zero};
}

}  // namespace seq2seq_ext
