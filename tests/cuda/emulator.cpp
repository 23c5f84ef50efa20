#include <emulator.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

namespace seq2seq_ext::cuda::emulator {

namespace {

constexpr int kWarp = 32;
constexpr int64_t kFew = 8;  // times as many as the last blocks: such a launch runs whole
constexpr int64_t kStackBytes = 64 * 1024, kGuardBytes = 256, kLargestValue = 64;

struct Fiber;

// Where some threads wait until all of them have come.
struct Meeting {
  int expected = 0;
  int64_t generation = 0;
  std::vector<Fiber*> waiting;
};

// Two sets of values: a lane may bring its next one before all have read the last.
struct WarpState {
  Meeting meeting;
  uint64_t speed;
  alignas(64) char values[2][kWarp * kLargestValue];
};

struct BlockState {
  int64_t index;
  Meeting meeting;
  std::vector<WarpState> warps;
  std::vector<unsigned char> shared;
};

struct Copy {
  void* to;
  const void* from;
  int64_t bytes;
};

struct Fiber {
  ucontext_t start;
  jmp_buf where;
  bool started = false, pausing = false;
  int thread;
  BlockState* block;
  std::deque<std::vector<Copy>> copies{1};  // by group; the last one is open
};

class Scheduler {
 public:
  void run(const Launch& launch) {
    launch_ = &launch;
    const int64_t last = device().last_blocks;
    const int64_t count = last == 0 || launch.blocks <= kFew * last ? launch.blocks : last;
    std::vector<int64_t> order(count);
    for (int64_t b = 0; b < count; ++b) order[b] = launch.blocks - count + b;
    std::shuffle(order.begin(), order.end(), random);
    const int64_t at_once = launch.together ? count : 1;
    for (int64_t b = 0; b < count; b += at_once)
      run_blocks({order.begin() + b, order.begin() + b + at_once});
  }

  Fiber* now = nullptr;
  bool misaligned = false;
  std::mt19937_64 random{0};

  void meet(Meeting& meeting) {
    now->pausing = false;
    if (static_cast<int>(meeting.waiting.size()) + 1 == meeting.expected) {
      ++meeting.generation;
      ready_.insert(ready_.end(), meeting.waiting.begin(), meeting.waiting.end());
      meeting.waiting.clear();
      ready_.push_back(now);
      pauses_ = 0;
    } else {
      meeting.waiting.push_back(now);
    }
    leave();
  }

  void pause() {
    ++pauses_;
    now->pausing = true;
    ready_.push_back(now);
    leave();
  }

 private:
  static void enter() {
    Scheduler& s = instance();
    s.launch_->kernel(reinterpret_cast<char*>(s.now->block->shared.data()));
    ++s.finished_;
    _longjmp(s.home_, 1);
  }

  void leave() {
    if (!_setjmp(now->where)) _longjmp(home_, 1);
  }

  void resume(Fiber* fiber) {
    now = fiber;
    if (_setjmp(home_)) return;
    if (fiber->started) _longjmp(fiber->where, 1);
    fiber->started = true;
    setcontext(&fiber->start);
  }

  void run_blocks(const std::vector<int64_t>& indices) {
    const int64_t threads = launch_->threads;
    std::vector<std::unique_ptr<BlockState>> blocks;
    std::vector<Fiber> fibers(indices.size() * threads);
    ready_.clear();
    finished_ = pauses_ = 0;
    for (int64_t index : indices) {
      blocks.push_back(std::make_unique<BlockState>());
      BlockState& block = *blocks.back();
      block.index = index;
      block.meeting.expected = threads;
      block.warps.resize(threads / kWarp);
      for (WarpState& warp : block.warps) warp.meeting.expected = kWarp, warp.speed = random();
      block.shared.assign(launch_->shared_bytes + kGuardBytes, 0xff);
    }
    reserve_stacks(fibers.size());
    for (size_t i = 0; i < fibers.size(); ++i) prepare(fibers[i], i, blocks[i / threads].get());
    while (!ready_.empty()) {
      const size_t i = draw();
      Fiber* const next = ready_[i];
      ready_[i] = ready_.back();
      ready_.pop_back();
      resume(next);
      if (pauses_ > 20'000'000) throw std::runtime_error("emulator: a wait that never ends");
    }
    if (std::exchange(misaligned, false))
      throw std::runtime_error("emulator: a copy that is not aligned");
    if (finished_ != static_cast<int64_t>(fibers.size()))
      throw std::runtime_error("emulator: a barrier that not all threads reach");
    for (const auto& block : blocks)
      for (int64_t i = 0; i < kGuardBytes; ++i)
        if (block->shared[launch_->shared_bytes + i] != 0xff)
          throw std::runtime_error("emulator: a write past the end of shared memory");
  }

  // Each warp has a speed of its own, so that some run far ahead of the others where they may.
  size_t draw() {
    const auto speed = [this](size_t i) {
      const Fiber& fiber = *ready_[i];
      return fiber.pausing ? 0 : fiber.block->warps[fiber.thread / kWarp].speed;
    };
    size_t best = random() % ready_.size();
    for (int other = 0; other < 7; ++other) {
      const size_t i = random() % ready_.size();
      if (speed(i) > speed(best)) best = i;
    }
    return best;
  }

  void prepare(Fiber& fiber, int64_t i, BlockState* block) {
    fiber.thread = i % launch_->threads;
    fiber.block = block;
    getcontext(&fiber.start);
    fiber.start.uc_stack = {stacks_ + i * kStackBytes, 0, kStackBytes};
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, &Scheduler::enter, 0);
    ready_.push_back(&fiber);
  }

  void reserve_stacks(int64_t count) {
    if (count <= stack_count_) return;
    if (stacks_) munmap(stacks_, stack_count_ * kStackBytes);
    void* memory = mmap(nullptr, count * kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stacks_ = static_cast<char*>(memory);
    stack_count_ = count;
  }

 public:
  static Scheduler& instance() {
    static Scheduler scheduler;
    return scheduler;
  }

 private:
  const Launch* launch_ = nullptr;
  jmp_buf home_;
  std::vector<Fiber*> ready_;
  int64_t finished_ = 0, pauses_ = 0;
  char* stacks_ = nullptr;
  int64_t stack_count_ = 0;
};

BlockState& block() { return *Scheduler::instance().now->block; }

}  // namespace

int thread_index() { return Scheduler::instance().now->thread; }
int64_t block_index() { return block().index; }
void sync_block() { Scheduler::instance().meet(block().meeting); }
void pause() { Scheduler::instance().pause(); }

void copy_later(void* to, const void* from, int64_t bytes) {
  const uintptr_t both = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
  if (both % bytes) Scheduler::instance().misaligned = true;
  Scheduler::instance().now->copies.back().push_back({to, from, bytes});
}

void commit_copies() { Scheduler::instance().now->copies.emplace_back(); }

void wait_copies(int64_t pending) {
  auto& groups = Scheduler::instance().now->copies;
  while (static_cast<int64_t>(groups.size()) > pending + 1) {
    for (const Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    groups.pop_front();
  }
}

const char* exchange(const void* value, int64_t bytes) {
  const int lane = thread_index() % kWarp;
  WarpState& warp = block().warps[thread_index() / kWarp];
  char* const values = warp.values[warp.meeting.generation % 2];
  std::memcpy(values + lane * bytes, value, bytes);
  Scheduler::instance().meet(warp.meeting);
  return values;
}

void run(const Launch& launch) { Scheduler::instance().run(launch); }

Device& device() {
  static Device device;
  return device;
}

void set_seed(uint64_t seed) { Scheduler::instance().random.seed(seed); }

TORCH_LIBRARY(seq2seq_ext_emulator, m) {
  m.def("set_seed(int seed) -> ()", [](int64_t seed) { set_seed(seed); });
  m.def(
      "set_device(int processors, int shared_bytes, bool owns_memory, bool captures, "
      "int last_blocks, int room) -> ()",
      [](int64_t processors, int64_t shared_bytes, bool owns_memory, bool captures,
         int64_t last_blocks, int64_t room) {
        device() = {processors, shared_bytes, owns_memory, captures, last_blocks, room};
      });
  m.def("together() -> int", [] { return device().together; });
}

}  // namespace seq2seq_ext::cuda::emulator
