// A team of threads that stays together for a whole sequence: one parallel region,
// then a spin barrier a step instead of a fork-join a step.
#pragma once

#include <atomic>

namespace seq2seq_ext {

class Interrupt;

// Spins a bounded while, then yields, so an oversubscribed machine does not stall.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();

  // The same; what the leader said, to all.
  bool agree(bool leads, bool said);

  int size() const { return size_; }

 private:
  const int size_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> generation_{0};
  bool said_[2] = {};  // in even and in odd generations: some still read when the next is said
};

// One thread's place in its team. With size 1 the barrier may be null.
struct Team {
  int index = 0;
  int size = 1;
  Barrier* barrier = nullptr;
  Interrupt* interrupt = nullptr;  // if something may stop the team

  void sync() const {
    if (size > 1) barrier->wait();
  }

  // The same; whether all are to stop here.
  bool sync_or_stop() const;
};

// This thread's share [begin, end) of n items, in fixed contiguous slices.
struct Share {
  long begin, end;
};

constexpr Share share_of(long n, int index, int size) {
  return {n * index / size, n * (index + 1) / size};
}

}  // namespace seq2seq_ext
