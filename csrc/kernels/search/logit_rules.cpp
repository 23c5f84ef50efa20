#include "logit_rules.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "../isa.h"
#include "gumbel.h"
#include "nucleus.h"

namespace seq2seq_ext {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Ids = std::span<const int64_t>;

// Whether tokens end with the first `count` of a sequence.
bool ends_with(Ids tokens, Ids sequence, size_t count) {
  return tokens.size() >= count &&
         std::equal(sequence.begin(), sequence.begin() + count, tokens.end() - count);
}

// A row that has been read; its best k tokens can be taken once.
template <typename T>
class Scan {
 public:
  Scan(const T* logits, int64_t vocab, int64_t k, RuleWorkspace<T>* workspace)
      : workspace_(*workspace), sums_(workspace->sums) {
    sums_.resize(topk_blocks(vocab));
    workspace_.tokens.reserve(k);
    best_.tokens = workspace_.tokens.data();
    for (size_t block = 0; block < sums_.size(); ++block) {
      const int64_t first = block * kTopkBlock, n = std::min(kTopkBlock, vocab - first);
      kernels<T>().topk.scan(logits + first, first, n, k, &sums_[block], &best_);
    }
  }

  double log_sum_exp() const { return seq2seq_ext::log_sum_exp(sums_.data(), sums_.size()); }

  void merge(double lse, int64_t k, T* log_probs, int64_t* tokens) {
    const ScannedRow<T> row{sums_.data(), static_cast<int64_t>(sums_.size()), &best_, 1};
    seq2seq_ext::merge(row, lse, k, log_probs, tokens);
  }

  void best(double lse, int64_t k, const RowCandidates& out) {
    workspace_.log_probs.reserve(k);
    merge(lse, k, workspace_.log_probs.data(), out.tokens);
    std::copy_n(workspace_.log_probs.data(), k, out.log_probs);
  }

 private:
  RuleWorkspace<T>& workspace_;
  std::vector<BlockSum>& sums_;
  BestTokens<T> best_{};
};

void clear(const RowCandidates& out) {
  std::fill_n(out.log_probs, out.width, -kInfinity);
  std::fill_n(out.tokens, out.width, 0);
}

// The rules on one row.
template <typename T>
class Row {
 public:
  Row(const SearchOptions& options, T* logits, int64_t vocab, RuleWorkspace<T>* workspace)
      : options_(options),
        workspace_(*workspace),
        prefix_(workspace->prefix),
        seen_(workspace->seen),
        ids_(workspace->ids),
        logits_(logits),
        vocab_(vocab) {
    seen_.clear();
    if (options.rules_see_bos) seen_.push_back(options.bos_id);
    seen_.insert(seen_.end(), prefix_.tokens.begin(), prefix_.tokens.end());
  }

  void choose(int64_t count, const RowCandidates& out) {
    clear(out);
    if (options_.shortlist) keep_only(*options_.shortlist);
    double lse = log_sum_exp();
    if (!std::isfinite(lse)) return;
    if (options_.rules_on_log_probs && !options_.normalized) subtract(lse);
    if (adjust()) lse = log_sum_exp();
    if (options_.normalized || options_.rules_on_log_probs) lse = 0;
    ban();
    truncate();
    if (options_.renormalize) lse = log_sum_exp();
    if (std::isfinite(lse)) take(lse, std::min(count, vocab_), out);
  }

 private:
  Scan<T> scan(int64_t k) const { return Scan<T>(logits_, vocab_, k, &workspace_); }
  double log_sum_exp() const { return scan(1).log_sum_exp(); }

  // Whether anything did change.
  bool adjust() {
    const bool is_tempered = options_.temperature != 1;
    for (int64_t i = 0; is_tempered && i < vocab_; ++i)
      logits_[i] /= static_cast<T>(options_.temperature);
    if (options_.repetition_penalty == 1) return is_tempered;
    ids_.assign(seen_.begin(), seen_.end());
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
    const T penalty = static_cast<T>(options_.repetition_penalty);
    for (const int64_t token : ids_)
      logits_[token] = logits_[token] > 0 ? logits_[token] / penalty : logits_[token] * penalty;
    return true;
  }

  void ban() {
    const int64_t length = prefix_.tokens.size();
    if (length < static_cast<int64_t>(options_.prefix.size()))
      return keep_only({&options_.prefix[length], 1});
    if (length + 1 < options_.min_length || !prefix_.progress.is_complete(options_))
      for (const int64_t eos : options_.eos_ids) logits_[eos] = kBanned;
    for (const auto& sequence : options_.banned)
      if (ends_with(seen_, sequence, sequence.size() - 1)) logits_[sequence.back()] = kBanned;
    ban_repeated_ngrams();
    if (options_.trie) keep_children_of_trie();
    if (options_.force_eos && length + 1 == options_.max_length) keep_eos();
  }

  // The last n - 1 tokens, wherever they stood before, ban what followed them there.
  void ban_repeated_ngrams() {
    const int64_t n = options_.no_repeat_ngram, length = seen_.size();
    if (n == 0) return;
    for (int64_t begin = 0; begin + n <= length; ++begin)
      if (std::equal(seen_.begin() + begin, seen_.begin() + begin + n - 1, seen_.end() - (n - 1)))
        logits_[seen_[begin + n - 1]] = kBanned;
  }

  void keep_children_of_trie() {
    ids_.clear();
    const int64_t node = prefix_.progress.trie_node;
    if (node != TokenTrie::kOutside) {
      for (const auto& [token, child] : options_.trie->children(node)) ids_.push_back(token);
      if (options_.trie->is_end(node))
        ids_.insert(ids_.end(), options_.eos_ids.begin(), options_.eos_ids.end());
    }
    keep_ids();
  }

  void keep_eos() {
    ids_.assign(options_.eos_ids.begin(), options_.eos_ids.end());
    keep_ids();
  }

  void truncate() {
    if (options_.top_k > 0 && options_.top_k < vocab_) keep_best(options_.top_k);
    if (options_.top_p < 1) keep_share(options_.top_p);
  }

  // Those whose share of even the whole vocabulary is too little to matter are left out first.
  void keep_share(double top_p) {
    const double lse = log_sum_exp();
    const double floor = lse + std::log((1 - top_p) / 2 / vocab_);
    const uint64_t wanted = wanted_shares(top_p);
    if (!keep_share(wanted, lse, floor)) keep_share(wanted, lse, -kInfinity);
  }

  // Of the tokens from the floor on the fewest that make up a share. The last of them is found
  // without sorting all: the better half is either enough, or taken as a whole. False if all of
  // them don't reach it; then nothing changes.
  bool keep_share(uint64_t wanted, double lse, double floor) {
    const auto is_better = [](const Token<T>& a, const Token<T>& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    const auto share_of_token = [&](const Token<T>& token) {
      return share_of(log_prob(token.id, lse));
    };
    workspace_.tokens.reserve(vocab_);
    Token<T>* last = workspace_.tokens.data();
    int64_t count = 0;
    for (int64_t i = 0; i < vocab_; ++i) {
      last[count] = {logits_[i], i};
      count += logits_[i] >= floor;
    }
    if (count == 0) return false;  // a floor of NaN
    while (count > 1) {
      const int64_t half = count / 2;
      std::nth_element(last, last + half, last + count, is_better);
      uint64_t share = 0;
      for (int64_t i = 0; i < half; ++i) share += share_of_token(last[i]);
      const bool is_enough = share >= wanted;
      count = is_enough ? half : count - half;
      if (!is_enough) wanted -= share, last += half;
    }
    if (share_of_token(*last) < wanted && floor > -kInfinity) return false;
    for (int64_t i = 0; i < vocab_; ++i)
      if (is_better(*last, {logits_[i], i})) logits_[i] = kBanned;
    return true;
  }

  void keep_best(int64_t k) {
    workspace_.log_probs.reserve(k);
    ids_.resize(k);
    scan(k).merge(0, k, workspace_.log_probs.data(), ids_.data());
    keep_ids();
  }

  void take(double lse, int64_t count, const RowCandidates& out) {
    if (options_.sampling != Sampling::kNone) return take_sampled(lse, count, out);
    scan(count).best(lse, count, out);
    if (options_.phrases) add_advancing(lse, count, out);
  }

  // What carries a phrase on is a candidate however it ranks.
  void add_advancing(double lse, int64_t count, const RowCandidates& out) {
    int64_t place = count;
    options_.phrases->advancing(prefix_.progress.phrases, &ids_);
    for (const int64_t token : ids_) {
      if (std::find(out.tokens, out.tokens + count, token) != out.tokens + count) continue;
      out.tokens[place] = token;
      out.log_probs[place++] = log_prob(token, lse);
    }
  }

  // The best by log-prob plus noise. Exact noise is made for those only that may be among them:
  // at least `count` reach what the least of the best logits does.
  void take_sampled(double lse, int64_t count, const RowCandidates& out) {
    const NoisePlace place{options_.seed, static_cast<uint32_t>(prefix_.tokens.size()),
                           static_cast<uint32_t>(prefix_.lane)};
    const auto perturbed = [&](int64_t token) {
      return log_prob(token, lse) + gumbel_noise(place, token);
    };
    scan(count).best(lse, count, out);
    double least = kInfinity;
    for (int64_t i = 0; i < count; ++i) least = std::min(least, perturbed(out.tokens[i]));
    std::vector<Token<double>>& best = workspace_.drawn;
    best.clear();
    int64_t ids[kNoiseBlock];
    for (int64_t first = 0; first < vocab_; first += kNoiseBlock) {
      const int64_t n = std::min(kNoiseBlock, vocab_ - first);
      const int64_t found = kernels<T>().sampling.reaching(place, logits_ + first, first, n,
                                                           reached_by(least, lse), ids);
      for (int64_t i = 0; i < found; ++i) offer({perturbed(ids[i]), ids[i]}, count, &best);
      if (static_cast<int64_t>(best.size()) == count) least = std::max(least, best.back().logit);
    }
    clear(out);
    for (size_t i = 0; i < best.size(); ++i) {
      out.tokens[i] = best[i].id;
      out.log_probs[i] = log_prob(best[i].id, lse);
      if (out.perturbed) out.perturbed[i] = best[i].logit;
    }
  }

  // What the logit plus noise of a token reaches whose log-prob plus noise is `least`, roundings
  // included.
  static T reached_by(double least, double lse) {
    return static_cast<T>(least + lse - 0.01 - 1e-6 * (std::abs(least) + std::abs(lse)));
  }

  // Keeps the best in order; of equals the first, which has the lower id.
  static void offer(const Token<double>& token, int64_t count, std::vector<Token<double>>* best) {
    if (token.logit == -kInfinity) return;
    const auto place = std::upper_bound(
        best->begin(), best->end(), token,
        [](const Token<double>& a, const Token<double>& b) { return a.logit > b.logit; });
    best->insert(place, token);
    if (static_cast<int64_t>(best->size()) > count) best->pop_back();
  }

  double log_prob(int64_t token, double lse) const {
    return static_cast<T>(std::min(0.0, static_cast<double>(logits_[token]) - lse));
  }

  void subtract(double lse) {
    for (int64_t i = 0; i < vocab_; ++i) logits_[i] = log_prob(i, lse);
  }

  void keep_ids() {
    std::sort(ids_.begin(), ids_.end());
    keep_only(ids_);
  }

  // allowed ascends; a token may be there twice.
  void keep_only(Ids allowed) {
    int64_t begin = 0;
    for (const int64_t token : allowed) {
      if (token < begin) continue;
      std::fill(logits_ + begin, logits_ + token, kBanned);
      begin = token + 1;
    }
    std::fill(logits_ + begin, logits_ + vocab_, kBanned);
  }

  static constexpr T kBanned = -std::numeric_limits<T>::infinity();

  const SearchOptions& options_;
  RuleWorkspace<T>& workspace_;
  const RulePrefix& prefix_;
  std::vector<int64_t>&seen_, &ids_;
  T* logits_;
  const int64_t vocab_;
};

}  // namespace

Progress Progress::next(const SearchOptions& options, int64_t token) const {
  Progress moved = *this;
  if (options.trie && trie_node != TokenTrie::kOutside)
    moved.trie_node = options.trie->next(trie_node, token);
  if (options.phrases) moved.phrases = options.phrases->next(phrases, token);
  return moved;
}

bool Progress::is_complete(const SearchOptions& options) const {
  const bool is_inside =
      !options.trie || (trie_node != TokenTrie::kOutside && options.trie->is_end(trie_node));
  return is_inside && (!options.phrases || options.phrases->is_met(phrases));
}

bool rules_are_active(const SearchOptions& options, int64_t length) {
  return options.shortlist || options.normalized || options.temperature != 1 ||
         options.repetition_penalty != 1 || options.no_repeat_ngram > 0 ||
         !options.banned.empty() || options.trie || options.phrases || options.top_k > 0 ||
         options.top_p < 1 || options.sampling != Sampling::kNone ||
         length < static_cast<int64_t>(options.prefix.size()) ||
         (options.force_eos && length + 1 == options.max_length) ||
         (options.renormalize && length + 1 < options.min_length);
}

template <typename T>
void choose_candidates(const SearchOptions& options, T* logits, int64_t vocab, int64_t count,
                       const RowCandidates& out, RuleWorkspace<T>* workspace) {
  Row<T>(options, logits, vocab, workspace).choose(count, out);
}

template <typename T>
void choose_best(const T* logits, int64_t vocab, int64_t count, const RowCandidates& out,
                 RuleWorkspace<T>* workspace) {
  clear(out);
  count = std::min(count, vocab);
  Scan<T> scan(logits, vocab, count, workspace);
  scan.best(scan.log_sum_exp(), count, out);
}

template void choose_candidates(const SearchOptions&, float*, int64_t, int64_t,
                                const RowCandidates&, RuleWorkspace<float>*);
template void choose_candidates(const SearchOptions&, double*, int64_t, int64_t,
                                const RowCandidates&, RuleWorkspace<double>*);
template void choose_best(const float*, int64_t, int64_t, const RowCandidates&,
                          RuleWorkspace<float>*);
template void choose_best(const double*, int64_t, int64_t, const RowCandidates&,
                          RuleWorkspace<double>*);

}  // namespace seq2seq_ext
