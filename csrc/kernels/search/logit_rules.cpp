#include "logit_rules.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../isa.h"
#include "gumbel.h"

namespace seq2seq_ext {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Whether tokens end with the first `count` of a sequence.
bool ends_with(const std::vector<int64_t>& tokens, const std::vector<int64_t>& sequence,
               size_t count) {
  return tokens.size() >= count &&
         std::equal(sequence.begin(), sequence.begin() + count, tokens.end() - count);
}

// A row that has been read; its best k tokens can be taken once.
template <typename T>
class Scan {
 public:
  Scan(const T* logits, int64_t vocab, int64_t k)
      : sums_(topk_blocks(vocab)), tokens_(k), best_{tokens_.data()} {
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
    std::vector<T> log_probs(k);
    merge(lse, k, log_probs.data(), out.tokens);
    std::copy(log_probs.begin(), log_probs.end(), out.log_probs);
  }

 private:
  std::vector<BlockSum> sums_;
  std::vector<Token<T>> tokens_;
  BestTokens<T> best_;
};

void clear(const RowCandidates& out) {
  std::fill_n(out.log_probs, out.width, -kInfinity);
  std::fill_n(out.tokens, out.width, 0);
}

template <typename T>
double log_sum_exp_of(const T* logits, int64_t vocab) {
  return Scan<T>(logits, vocab, 1).log_sum_exp();
}

// The rules on one row.
template <typename T>
class Row {
 public:
  Row(const SearchOptions& options, const RulePrefix& prefix, T* logits, int64_t vocab)
      : options_(options), prefix_(prefix), seen_(prefix.tokens), logits_(logits), vocab_(vocab) {
    if (options.rules_see_bos) seen_.insert(seen_.begin(), options.bos_id);
  }

  void choose(int64_t count, const RowCandidates& out) {
    clear(out);
    if (options_.shortlist) keep_only(*options_.shortlist);
    double lse = log_sum_exp_of(logits_, vocab_);
    if (!std::isfinite(lse)) return;
    if (options_.rules_on_log_probs && !options_.normalized) subtract(lse);
    if (adjust()) lse = log_sum_exp_of(logits_, vocab_);
    if (options_.normalized || options_.rules_on_log_probs) lse = 0;
    ban();
    truncate();
    if (options_.renormalize) lse = log_sum_exp_of(logits_, vocab_);
    if (std::isfinite(lse)) take(lse, std::min(count, vocab_), out);
  }

 private:
  // Whether anything did change.
  bool adjust() {
    const bool is_tempered = options_.temperature != 1;
    for (int64_t i = 0; is_tempered && i < vocab_; ++i)
      logits_[i] /= static_cast<T>(options_.temperature);
    if (options_.repetition_penalty == 1) return is_tempered;
    std::vector<int64_t> tokens = seen_;
    std::sort(tokens.begin(), tokens.end());
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    const T penalty = static_cast<T>(options_.repetition_penalty);
    for (const int64_t token : tokens)
      logits_[token] = logits_[token] > 0 ? logits_[token] / penalty : logits_[token] * penalty;
    return true;
  }

  void ban() {
    const int64_t length = prefix_.tokens.size();
    if (length < static_cast<int64_t>(options_.prefix.size()))
      return keep_only({options_.prefix[length]});
    if (length + 1 < options_.min_length || !prefix_.progress.is_complete(options_))
      for (const int64_t eos : options_.eos_ids) logits_[eos] = kBanned;
    for (const auto& sequence : options_.banned)
      if (ends_with(seen_, sequence, sequence.size() - 1)) logits_[sequence.back()] = kBanned;
    ban_repeated_ngrams();
    if (options_.trie) keep_children_of_trie();
    if (options_.force_eos && length + 1 == options_.max_length) keep_only(sorted_eos());
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
    std::vector<int64_t> allowed;
    const int64_t node = prefix_.progress.trie_node;
    if (node != TokenTrie::kOutside) {
      for (const auto& [token, child] : options_.trie->children(node)) allowed.push_back(token);
      if (options_.trie->is_end(node))
        allowed.insert(allowed.end(), options_.eos_ids.begin(), options_.eos_ids.end());
    }
    std::sort(allowed.begin(), allowed.end());
    keep_only(allowed);
  }

  std::vector<int64_t> sorted_eos() const {
    std::vector<int64_t> ids = options_.eos_ids;
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  void truncate() {
    if (options_.top_k > 0 && options_.top_k < vocab_) keep_best(options_.top_k);
    if (options_.top_p < 1) keep_share(options_.top_p);
  }

  // Those whose share of even the whole vocabulary is too little to matter are left out first.
  void keep_share(double wanted) {
    const double lse = log_sum_exp_of(logits_, vocab_);
    const double floor = lse + std::log((1 - wanted) / 2 / vocab_);
    if (!keep_share(wanted, lse, floor)) keep_share(wanted, lse, -kInfinity);
  }

  // Of the tokens from the floor on the fewest that make up a share, which are found without
  // sorting all: the best first, from a heap. False if they don't reach it; then nothing changes.
  bool keep_share(double wanted, double lse, double floor) {
    const auto is_worse = [](const Token<T>& a, const Token<T>& b) {
      return a.logit != b.logit ? a.logit < b.logit : a.id > b.id;
    };
    std::vector<Token<T>> tokens(vocab_);
    int64_t count = 0;
    for (int64_t i = 0; i < vocab_; ++i) {
      tokens[count] = {logits_[i], i};
      count += logits_[i] >= floor;
    }
    tokens.resize(count);
    std::make_heap(tokens.begin(), tokens.end(), is_worse);
    std::vector<int64_t> kept;
    double share = 0;
    for (auto end = tokens.end(); end != tokens.begin() && share < wanted; --end) {
      std::pop_heap(tokens.begin(), end, is_worse);
      kept.push_back((end - 1)->id);
      share += std::exp(log_prob(kept.back(), lse));
    }
    if (share < wanted && floor > -kInfinity) return false;
    std::sort(kept.begin(), kept.end());
    keep_only(kept);
    return true;
  }

  void keep_best(int64_t k) {
    std::vector<T> log_probs(k);
    std::vector<int64_t> tokens(k);
    Scan<T>(logits_, vocab_, k).merge(0, k, log_probs.data(), tokens.data());
    std::sort(tokens.begin(), tokens.end());
    keep_only(tokens);
  }

  void take(double lse, int64_t count, const RowCandidates& out) {
    if (options_.sampling != Sampling::kNone) return take_sampled(lse, count, out);
    Scan<T>(logits_, vocab_, count).best(lse, count, out);
    if (options_.phrases) add_advancing(lse, count, out);
  }

  // What carries a phrase on is a candidate however it ranks.
  void add_advancing(double lse, int64_t count, const RowCandidates& out) {
    int64_t place = count;
    for (const int64_t token : options_.phrases->advancing(prefix_.progress.phrases)) {
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
    Scan<T>(logits_, vocab_, count).best(lse, count, out);
    double least = kInfinity;
    for (int64_t i = 0; i < count; ++i) least = std::min(least, perturbed(out.tokens[i]));
    std::vector<Token<double>> best;
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

  // allowed ascends; a token may be there twice.
  void keep_only(const std::vector<int64_t>& allowed) {
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
  const RulePrefix& prefix_;
  std::vector<int64_t> seen_;
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
void choose_candidates(const SearchOptions& options, const RulePrefix& prefix, T* logits,
                       int64_t vocab, int64_t count, const RowCandidates& out) {
  Row<T>(options, prefix, logits, vocab).choose(count, out);
}

template <typename T>
void choose_best(const T* logits, int64_t vocab, int64_t count, const RowCandidates& out) {
  clear(out);
  count = std::min(count, vocab);
  Scan<T> scan(logits, vocab, count);
  scan.best(scan.log_sum_exp(), count, out);
}

template void choose_candidates(const SearchOptions&, const RulePrefix&, float*, int64_t, int64_t,
                                const RowCandidates&);
template void choose_candidates(const SearchOptions&, const RulePrefix&, double*, int64_t, int64_t,
                                const RowCandidates&);
template void choose_best(const float*, int64_t, int64_t, const RowCandidates&);
template void choose_best(const double*, int64_t, int64_t, const RowCandidates&);

}  // namespace seq2seq_ext
