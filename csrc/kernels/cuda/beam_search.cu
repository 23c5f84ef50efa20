// A warp for each sentence, its groups one after the other. Its lanes hold the heads of the live
// rows' candidates and compare them for the next; the first lane gives it its place.
#include "../search/diversity.h"
#include "../search/gumbel.h"
#include "beam_search.h"
#include "best.cuh"
#include "coverage.cuh"
#include "drawing.cuh"
#include "token_rules.cuh"

namespace seq2seq_ext::cuda {

namespace {

struct SearchKernel {
  static constexpr int kThreads = kWarp, kBlocksPerSm = 16;
  SearchRules rules;
  SearchState state;
  SearchCandidates offered;
  int64_t *tokens, *parents;

  struct Shared {
    int64_t used;  // tokens of the groups before
    SearchCounters now;
    int64_t survivors, met;
    // Behind it: [K] sums of the survivors, [K] their keys, [K] ranks of the heads, [G, K] the
    // tokens used.
  };

  static int64_t shared_bytes(const SearchRules& rules) {
    return sizeof(Shared) + (3 + rules.groups) * rules.beams * 8;
  }

  __device__ void operator()(char* bytes) const {
    if (thread_index() == 0) reinterpret_cast<Shared*>(bytes)->used = 0;
    const int64_t first = block_index() * rules.groups;
    for (int64_t group = first; group < first + rules.groups; ++group) {
      sync_block();
      Group(*this, bytes, group).run();
    }
  }

 private:
  class Group {
   public:
    __device__ Group(const SearchKernel& kernel, char* bytes, int64_t group)
        : k_(kernel),
          shared_(*reinterpret_cast<Shared*>(bytes)),
          sums_after_(reinterpret_cast<double*>(bytes + sizeof(Shared))),
          keys_after_(sums_after_ + kernel.rules.beams),
          ranks_(reinterpret_cast<int64_t*>(keys_after_ + kernel.rules.beams)),
          used_tokens_(ranks_ + kernel.rules.beams),
          pool_(kernel.state.pool + group * kernel.rules.pool),
          counters_(kernel.state.counters[group]),
          first_(group * kernel.rules.beams),
          live_(counters_.live),
          length_(counters_.length + 1),
          used_(shared_.used),
          is_ranked_(kernel.rules.sampling == Sampling::kGumbel || used_ > 0) {}

    __device__ void run() {
      for (int64_t beam = thread_index(); beam < live_; beam += kWarp) {
        ranks_[beam] = 0;
        if (is_ranked_) rank(first_ + beam);
      }
      if (thread_index() == 0) shared_.now = counters_, shared_.survivors = shared_.met = 0;
      sync_block();
      if (live_ > 0) {
        take_all();
        if (thread_index() == 0) finish();
        sync_block();
        if (thread_index() == 0) counters_ = shared_.now;
      }
      for (int64_t beam = thread_index(); beam < k_.rules.beams; beam += kWarp) {
        const int64_t row = first_ + beam;
        if (k_.state.places) k_.state.places[row].step = static_cast<uint32_t>(length_);
        if (beam < shared_.now.live) {
          k_.state.sums[row] = sums_after_[beam];
          if (k_.state.keys) k_.state.keys[row] = keys_after_[beam];
        } else {
          k_.tokens[row] = k_.rules.pad_id, k_.parents[row] = row;
        }
      }
    }

   private:
    __device__ void take_all() {
      if (k_.rules.sampling == Sampling::kAncestral) {
        if (thread_index() == 0) take_own();
        return;
      }
      Ranked own = best_of_lane();
      for (;;) {
        const Ranked best = best_of_warp(own);
        if (best.id == INT64_MAX) return;
        if (thread_index() == 0) take(best);
        sync_block();
        if (shared_.survivors == k_.rules.beams) return;
        if (best.id % kWarp == thread_index()) {
          ++ranks_[best.id];
          own = best_of_lane();
        }
        sync_block();
      }
    }

    // Every sample its own.
    __device__ void take_own() {
      for (int64_t beam = 0; beam < live_; ++beam) {
        const double key = key_of(first_ + beam, 0);
        if (key > kWorthNothing) take({key, beam});
      }
    }

    __device__ double log_prob(int64_t place) const {
      const double value = k_.offered.log_probs[place];
      return value > 0 ? 0 : value;  // a NaN stays one
    }

    // Of the candidate at a rank of a row as it came; kWorthNothing if it is none.
    __device__ double key_of(int64_t row, int64_t rank) const {
      const int64_t best = row * k_.rules.width;
      const double sum = k_.state.sums[row], key = sum + log_prob(best + rank);
      if (!(key > kWorthNothing)) return kWorthNothing;
      const double* const perturbed = k_.offered.perturbed;
      if (k_.rules.sampling == Sampling::kGumbel)
        return conditioned(sum + perturbed[best + rank], sum + perturbed[best], k_.state.keys[row]);
      const double ranked = k_.rules.ranks_with_coverage ? key + term(row, true) : key;
      return used_ > 0 ? ranked - loss(k_.offered.tokens[best + rank]) : ranked;
    }

    __device__ double loss(int64_t token) const {
      return diversity_loss(k_.rules.diversity, used_tokens_, used_, token);
    }

    // Sorts a row's candidates by their keys; of equals the first stays the first.
    __device__ void rank(int64_t row) const {
      const int64_t begin = row * k_.rules.width;
      double* const keys = k_.offered.keys + begin;
      int64_t* const order = k_.offered.order + begin;
      for (int64_t rank = 0; rank < k_.rules.width; ++rank) {
        const double key = key_of(row, rank);
        int64_t place = rank;
        for (; place > 0 && key > keys[place - 1]; --place)
          keys[place] = keys[place - 1], order[place] = order[place - 1];
        keys[place] = key, order[place] = rank;
      }
    }

    __device__ Ranked best_of_lane() const {
      Ranked best;
      for (int64_t beam = thread_index(); beam < live_; beam += kWarp) {
        if (ranks_[beam] == k_.rules.width) continue;
        const int64_t row = first_ + beam;
        Ranked head;
        head.key = is_ranked_ ? k_.offered.keys[row * k_.rules.width + ranks_[beam]]
                              : key_of(row, ranks_[beam]);
        head.id = beam;
        if (head.key > kWorthNothing && head.precedes(best)) best = head;
      }
      return best;
    }

    __device__ bool is_eos(int64_t token) const {
      for (int64_t i = 0; i < k_.rules.eos_count; ++i)
        if (k_.rules.eos_ids[i] == token) return true;
      return false;
    }

    // The place of a beam's head among all candidates.
    __device__ int64_t place_of_head(int64_t beam) const {
      const int64_t begin = (first_ + beam) * k_.rules.width, rank = ranks_[beam];
      return begin + (is_ranked_ ? k_.offered.order[begin + rank] : rank);
    }

    // As Group::take.
    __device__ void take(const Ranked& head) {
      const SearchRules& rules = k_.rules;
      const int64_t row = first_ + head.id, place = place_of_head(head.id);
      const SearchNode node{row, k_.offered.tokens[place], log_prob(place)};
      const bool ends = is_eos(node.token);
      if (ends && length_ < rules.min_length) return;
      const bool is_in_beam = shared_.met++ < rules.beams;
      const double sum = k_.state.sums[row] + node.log_prob;
      if ((ends || length_ == rules.max_length) && (is_in_beam || rules.ends_beyond_beam))
        end({sum, head.key, term(row, true)}, length_, ends ? Reason::kEos : Reason::kMaxLength,
            node);
      if (ends) return;
      const int64_t to = first_ + shared_.survivors;
      keys_after_[shared_.survivors] = head.key;
      sums_after_[shared_.survivors++] = sum;
      // Never a row's that is still to come.
      if (rules.sampling == Sampling::kAncestral)
        k_.state.places[to].lane = k_.state.places[row].lane;
      k_.tokens[to] = node.token;
      if (rules.diversity > 0) used_tokens_[shared_.used++] = node.token;
      k_.parents[to] = row;
      nodes_of(length_)[to] = node;
    }

    // Of all rows, after so many steps.
    __device__ SearchNode* nodes_of(int64_t length) const {
      return k_.state.nodes + (length - 1) * k_.rules.rows();
    }

    // Of coverage: of a row as it is, or of what goes on from it.
    __device__ double term(int64_t row, bool is_grown) const {
      const double* const terms = k_.offered.terms;
      return terms ? terms[is_grown * k_.rules.rows() + row] : 0;
    }

    __device__ double score(double sum, int64_t length, bool ends) const {
      const LengthScore& at = k_.rules.scores[ends * (k_.rules.max_length + 1) + length];
      return (sum + at.reward) / at.normaliser;
    }

    // Of what ends.
    struct Worth {
      double sum, key, term;
    };

    // Into the pool, as Pool::add.
    __device__ void end(const Worth& of, int64_t length, Reason reason, const SearchNode& last) {
      const SearchRules& rules = k_.rules;
      SearchCounters& now = shared_.now;
      ++now.offered;
      if (rules.full_pool_is_closed && now.ended == rules.pool) return;
      const double worth = rules.sampling == Sampling::kGumbel
                               ? of.key
                               : score(of.sum, length, reason == Reason::kEos) + of.term;
      int64_t place = now.ended;
      while (place > 0 && worth > pool_[place - 1].score) --place;
      if (place == rules.pool) return;
      if (now.ended < rules.pool) ++now.ended;
      for (int64_t i = now.ended - 1; i > place; --i) pool_[i] = pool_[i - 1];
      pool_[place] = {worth, of.sum, length, static_cast<int64_t>(reason), last};
    }

    __device__ void finish() {
      SearchCounters& now = shared_.now;
      if (shared_.survivors == 0 && now.ended == 0)
        for (int64_t beam = 0; beam < live_; ++beam) {
          const int64_t row = first_ + beam, before = length_ - 1;
          end({k_.state.sums[row], k_.state.keys ? k_.state.keys[row] : 0, term(row, false)},
              before, Reason::kDead, before > 0 ? nodes_of(before)[row] : SearchNode{});
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
          return now.ended == rules.pool && best_in_reach() <= pool_[rules.pool - 1].score;
        case EarlyStopping::kFirst:
          return now.offered >= rules.pool;
        default:
          return false;
      }
    }

    __device__ double best_in_reach() const {
      double best = kWorthNothing;
      for (int64_t beam = 0; beam < shared_.survivors; ++beam) {
        const double bound = bound_of(beam);
        best = bound > best ? bound : best;
      }
      return best;
    }

    // Of what becomes of a survivor.
    __device__ double bound_of(int64_t beam) const {
      const double sum = sums_after_[beam];
      if (k_.rules.sampling == Sampling::kGumbel) return keys_after_[beam];
      return k_.rules.early_stopping == EarlyStopping::kHeuristic ? score(sum, length_, false)
                                                                  : best_score_in_reach(sum);
    }

    // As the host's.
    __device__ double best_score_in_reach(double sum) const {
      const SearchRules& rules = k_.rules;
      double best = kWorthNothing;
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
    double *const sums_after_, *const keys_after_;
    int64_t *const ranks_, *const used_tokens_;
    EndedSearch* const pool_;
    SearchCounters& counters_;
    const int64_t first_, live_, length_, used_;
    const bool is_ranked_;  // whether a row's order is not that of its keys
  };
};

}  // namespace

void list_tokens(const TokenRules& rules, const SearchRules& search, const SearchState& state,
                 Stream stream) {
  launch(RulesKernel{rules, search, state, listed_size(rules, search), seen_size(search)},
         search.rows(), (1 + search.max_length) * sizeof(int64_t), stream);
}

void beam_search_step(const SearchRules& rules, const SearchState& state,
                      const SearchCandidates& offered, int64_t* tokens, int64_t* parents,
                      Stream stream) {
  launch(SearchKernel{rules, state, offered, tokens, parents}, rules.sentences,
         SearchKernel::shared_bytes(rules), stream);
}

void draw(const Draw& in, Stream stream) {
  launch(DrawKernel{in}, in.rows, in.count * sizeof(double), stream);
}

void grow_coverage(const CoverageGrowth& in, Stream stream) {
  launch(CoverageKernel{in}, divide_up(in.sentences * in.beams, CoverageKernel::kThreads), 0,
         stream);
}

}  // namespace seq2seq_ext::cuda
