// A warp for each sentence. Its lanes hold the heads of the live rows' candidates and compare them
// for the next; the first lane gives it its place.
#include "beam_search.h"
#include "device.cuh"

namespace seq2seq_ext::cuda {

namespace {

constexpr double kNothing = -static_cast<double>(INFINITY);

// The head of a row's candidates that are left, by its key.
struct Head {
  double key = kNothing;
  int64_t beam = INT64_MAX;

  __device__ bool precedes(const Head& other) const {
    return key > other.key || (key == other.key && beam < other.beam);
  }
};

struct SearchKernel {
  static constexpr int kThreads = kWarp, kBlocksPerSm = 16;
  SearchRules rules;
  SearchState state;
  const double* log_probs;
  const int64_t* candidates;
  const double* terms;
  int64_t *tokens, *parents;

  struct Shared {
    SearchCounters now;
    int64_t survivors, met;
    // Behind it: [K] sums of the survivors, [K] ranks of the heads.
  };

  static int64_t shared_bytes(int64_t beams) { return sizeof(Shared) + beams * 16; }

  __device__ void operator()(char* bytes) const { Sentence(*this, bytes).run(); }

 private:
  class Sentence {
   public:
    __device__ Sentence(const SearchKernel& kernel, char* bytes)
        : k_(kernel),
          shared_(*reinterpret_cast<Shared*>(bytes)),
          sums_after_(reinterpret_cast<double*>(bytes + sizeof(Shared))),
          ranks_(reinterpret_cast<int64_t*>(sums_after_ + kernel.rules.beams)),
          first_(block_index() * kernel.rules.beams),
          live_(kernel.state.counters[block_index()].live),
          length_(kernel.state.counters[block_index()].length + 1) {}

    __device__ void run() {
      SearchCounters& counters = k_.state.counters[block_index()];
      for (int64_t beam = thread_index(); beam < live_; beam += kWarp) ranks_[beam] = 0;
      if (thread_index() == 0) shared_ = {counters, 0, 0};
      sync_block();
      if (live_ > 0) {
        take_all();
        if (thread_index() == 0) finish();
        sync_block();
        if (thread_index() == 0) counters = shared_.now;
      }
      for (int64_t beam = thread_index(); beam < k_.rules.beams; beam += kWarp) {
        const int64_t row = first_ + beam;
        if (beam < shared_.now.live)
          k_.state.sums[row] = sums_after_[beam];
        else
          k_.tokens[row] = k_.rules.pad_id, k_.parents[row] = row;
      }
    }

   private:
    __device__ void take_all() {
      Head own = best_of_lane();
      for (;;) {
        const Head best = best_of_warp(own);
        if (best.beam == INT64_MAX) return;
        if (thread_index() == 0) take(best.beam);
        sync_block();
        if (shared_.survivors == k_.rules.beams) return;
        if (best.beam % kWarp == thread_index()) {
          ++ranks_[best.beam];
          own = best_of_lane();
        }
        sync_block();
      }
    }

    __device__ double log_prob(int64_t place) const {
      const double value = k_.log_probs[place];
      return value > 0 ? 0 : value;  // a NaN stays one
    }

    __device__ Head best_of_lane() const {
      Head best;
      for (int64_t beam = thread_index(); beam < live_; beam += kWarp) {
        if (ranks_[beam] == k_.rules.width) continue;
        const int64_t row = first_ + beam;
        Head head;
        head.key = k_.state.sums[row] + log_prob(row * k_.rules.width + ranks_[beam]);
        head.beam = beam;
        if (!(head.key > kNothing)) continue;
        if (k_.rules.ranks_with_coverage) head.key += term(row, true);
        if (head.precedes(best)) best = head;
      }
      return best;
    }

    __device__ static Head best_of_warp(Head best) {
      for (int mask = kWarp / 2; mask > 0; mask /= 2) {
        Head other;
        other.key = shuffle_xor(best.key, mask);
        other.beam = shuffle_xor(best.beam, mask);
        if (other.precedes(best)) best = other;
      }
      return best;
    }

    __device__ bool is_eos(int64_t token) const {
      for (int64_t i = 0; i < k_.rules.eos_count; ++i)
        if (k_.rules.eos_ids[i] == token) return true;
      return false;
    }

    // As Group::take.
    __device__ void take(int64_t beam) {
      const SearchRules& rules = k_.rules;
      const int64_t row = first_ + beam, place = row * rules.width + ranks_[beam];
      const SearchNode node{row, k_.candidates[place], log_prob(place)};
      const bool ends = is_eos(node.token);
      if (ends && length_ < rules.min_length) return;
      const bool is_in_beam = shared_.met++ < rules.beams;
      const double sum = k_.state.sums[row] + node.log_prob;
      if ((ends || length_ == rules.max_length) && (is_in_beam || rules.ends_beyond_beam))
        end(sum, term(row, true), length_, ends ? Reason::kEos : Reason::kMaxLength, node);
      if (ends) return;
      const int64_t to = first_ + shared_.survivors;
      sums_after_[shared_.survivors++] = sum;
      k_.tokens[to] = node.token;
      k_.parents[to] = row;
      nodes_of(length_)[to] = node;
    }

    // Of all rows, after so many steps.
    __device__ SearchNode* nodes_of(int64_t length) const {
      return k_.state.nodes + (length - 1) * k_.rules.sentences * k_.rules.beams;
    }

    // Of coverage: of a row as it is, or of what goes on from it.
    __device__ double term(int64_t row, bool is_grown) const {
      return k_.terms ? k_.terms[is_grown * k_.rules.sentences * k_.rules.beams + row] : 0;
    }

    __device__ double score(double sum, int64_t length, bool ends) const {
      const LengthScore& at = k_.rules.scores[ends * (k_.rules.max_length + 1) + length];
      return (sum + at.reward) / at.normaliser;
    }

    // Into the pool, as Pool::add.
    __device__ void end(double sum, double term, int64_t length, Reason reason,
                        const SearchNode& last) {
      const SearchRules& rules = k_.rules;
      SearchCounters& now = shared_.now;
      ++now.offered;
      if (rules.full_pool_is_closed && now.ended == rules.pool) return;
      EndedSearch* const pool = k_.state.pool + block_index() * rules.pool;
      const double worth = score(sum, length, reason == Reason::kEos) + term;
      int64_t place = now.ended;
      while (place > 0 && worth > pool[place - 1].score) --place;
      if (place == rules.pool) return;
      if (now.ended < rules.pool) ++now.ended;
      for (int64_t i = now.ended - 1; i > place; --i) pool[i] = pool[i - 1];
      pool[place] = {worth, sum, length, static_cast<int64_t>(reason), last};
    }

    __device__ void finish() {
      SearchCounters& now = shared_.now;
      if (shared_.survivors == 0 && now.ended == 0)
        for (int64_t beam = 0; beam < live_; ++beam) {
          const int64_t row = first_ + beam, before = length_ - 1;
          end(k_.state.sums[row], term(row, false), before, Reason::kDead,
              before > 0 ? nodes_of(before)[row] : SearchNode{});
        }
      now.length = length_;
      now.live = is_settled() ? 0 : shared_.survivors;
    }

    __device__ bool is_settled() const {
      const SearchRules& rules = k_.rules;
      const SearchCounters& now = shared_.now;
      if (shared_.survivors == 0 || length_ == rules.max_length) return true;
      switch (rules.early_stopping) {
        case EarlyStopping::kExact:
        case EarlyStopping::kHeuristic:
          return now.ended == rules.pool &&
                 best_in_reach() <= k_.state.pool[(block_index() + 1) * rules.pool - 1].score;
        case EarlyStopping::kFirst:
          return now.offered >= rules.pool;
        default:
          return false;
      }
    }

    __device__ double best_in_reach() const {
      double best = kNothing;
      for (int64_t beam = 0; beam < shared_.survivors; ++beam) {
        const double sum = sums_after_[beam];
        const double bound = k_.rules.early_stopping == EarlyStopping::kHeuristic
                                 ? score(sum, length_, false)
                                 : best_score_in_reach(sum);
        best = bound > best ? bound : best;
      }
      return best;
    }

    // As the host's.
    __device__ double best_score_in_reach(double sum) const {
      const SearchRules& rules = k_.rules;
      double best = kNothing;
      for (int64_t reached = length_; reached <= rules.max_length; ++reached) {
        if (length_ >= rules.monotone_from && reached > length_ + 1) reached = rules.max_length;
        if (reached == length_ && rules.count_eos) continue;
        const double worth = score(sum, reached, false);
        best = worth > best ? worth : best;
      }
      return best;
    }

    const SearchKernel& k_;
    Shared& shared_;
    double* const sums_after_;
    int64_t* const ranks_;
    const int64_t first_, live_, length_;
  };
};

// A thread for each row, whose terms are sums in the order of positions, as coverage_term's.
struct CoverageKernel {
  static constexpr int kThreads = kWarp, kBlocksPerSm = 16;
  CoverageGrowth in;

  __device__ void operator()(char*) const {
    const int64_t rows = in.sentences * in.beams;
    const int64_t row = block_index() * kThreads + thread_index(), first = row * in.positions;
    if (row >= rows) return;
    const int64_t length = in.lengths[row / in.beams];
    double before = 0, after = 0;
    for (int64_t i = 0; i < in.positions; ++i) {
      const double mass = in.coverage[first + i], grown = mass + in.attention[first + i];
      in.grown[first + i] = grown;
      if (i < length) before += term(mass), after += term(grown);
    }
    in.terms[row] = in.beta * before;
    in.terms[rows + row] = in.beta * after;
  }

 private:
  __device__ double term(double mass) const {
    if (in.penalty == CoveragePenalty::kSummary) return 1 - (mass < 1 ? 1 : mass);
    const double at_most_one = mass > 1 ? 1 : mass;
    return log(at_most_one < kLeastMass ? kLeastMass : at_most_one);
  }
};

// A warp for each row: a lane walks back to the first token, all of them compare.
struct RulesKernel {
  static constexpr int kThreads = kWarp, kBlocksPerSm = 16;
  TokenRules rules;
  SearchRules search;
  SearchState state;
  int64_t listed_size, seen_size;  // of a row's lists

  __device__ void operator()(char* shared) const {
    const int64_t row = block_index();
    const SearchCounters& now = state.counters[row / search.beams];
    int64_t* const listed = rules.listed + row * listed_size;
    int64_t* const seen = rules.seen ? rules.seen + row * seen_size : nullptr;
    if (row % search.beams >= now.live) return list_nothing(listed, seen);
    const Path path = read(row, now.length, reinterpret_cast<int64_t*>(shared));
    if (seen) list_all(path, seen);
    if (now.length < rules.prefix_length) {
      keep_only(rules.prefix + now.length, 1, listed);
    } else if (rules.force_eos && now.length + 1 == search.max_length) {
      keep_only(search.eos_ids, search.eos_count, listed);
    } else {
      ban(path, listed);
    }
  }

 private:
  struct Path {
    const int64_t* tokens;
    int64_t length;

    // Whether the first `count` of `other` are its last ones.
    __device__ bool ends_with(const int64_t* other, int64_t count) const {
      if (count > length) return false;
      for (int64_t i = 0; i < count; ++i)
        if (tokens[length - count + i] != other[i]) return false;
      return true;
    }
  };

  __device__ static void list_nothing(int64_t* listed, int64_t* seen) {
    if (thread_index() != 0) return;
    *listed = 0;
    if (seen) *seen = 0;
  }

  __device__ static void list_all(const Path& path, int64_t* seen) {
    if (thread_index() == 0) *seen = path.length;
    for (int64_t i = thread_index(); i < path.length; i += kWarp) seen[1 + i] = path.tokens[i];
  }

  __device__ static void keep_only(const int64_t* tokens, int64_t count, int64_t* listed) {
    if (thread_index() == 0) *listed = -count;
    for (int64_t i = thread_index(); i < count; i += kWarp) listed[1 + i] = tokens[i];
  }

  __device__ Path read(int64_t row, int64_t length, int64_t* tokens) const {
    const bool has_first = rules.first != kNoToken;
    if (thread_index() == 0) {
      int64_t at = row;
      for (int64_t step = length - 1; step >= 0; --step) {
        const SearchNode& node = state.nodes[step * search.sentences * search.beams + at];
        tokens[step + has_first] = node.token;
        at = node.parent;
      }
      if (has_first) tokens[0] = rules.first;
    }
    sync_block();
    return {tokens, length + has_first};
  }

  __device__ void ban(const Path& path, int64_t* listed) const {
    int64_t count = 0;
    const int64_t n = rules.ngram_size, ngrams = n ? path.length - n + 1 : 0;
    for (int64_t first = 0; first < ngrams; first += kWarp) {
      const int64_t* const ngram = path.tokens + first + thread_index();
      const bool repeats = first + thread_index() < ngrams && path.ends_with(ngram, n - 1);
      list(repeats, repeats ? ngram[n - 1] : 0, count, listed);
    }
    for (int64_t first = 0; first < rules.banned_count; first += kWarp) {
      const int64_t i = first + thread_index();
      const int64_t* const sequence = rules.banned + i * rules.banned_stride;
      const bool ends = i < rules.banned_count && path.ends_with(sequence + 1, *sequence - 1);
      list(ends, ends ? sequence[*sequence] : 0, count, listed);
    }
    if (thread_index() == 0) *listed = count;
  }

  // Puts the tokens of all lanes that have one behind the `count` that are there.
  __device__ static void list(bool has_token, int64_t token, int64_t& count, int64_t* listed) {
    int64_t up_to_here = count + has_token, all = has_token;
    for (int mask = 1; mask < kWarp; mask *= 2) {
      const int64_t other = shuffle_xor(all, mask);
      if (thread_index() & mask) up_to_here += other;
      all += other;
    }
    count += all;
    if (has_token) listed[up_to_here] = token;
  }
};

}  // namespace

void list_tokens(const TokenRules& rules, const SearchRules& search, const SearchState& state,
                 Stream stream) {
  launch(RulesKernel{rules, search, state, listed_size(rules, search), seen_size(search)},
         search.sentences * search.beams, (1 + search.max_length) * sizeof(int64_t), stream);
}

void beam_search_step(const SearchRules& rules, const SearchState& state, const double* log_probs,
                      const int64_t* candidates, const double* terms, int64_t* tokens,
                      int64_t* parents, Stream stream) {
  launch(SearchKernel{rules, state, log_probs, candidates, terms, tokens, parents}, rules.sentences,
         SearchKernel::shared_bytes(rules.beams), stream);
}

void grow_coverage(const CoverageGrowth& in, Stream stream) {
  launch(CoverageKernel{in}, divide_up(in.sentences * in.beams, CoverageKernel::kThreads), 0,
         stream);
}

}  // namespace seq2seq_ext::cuda
