#pragma once
namespace seq2seq_ext {
template <typename T>
struct AttentionKernels {};
}  // namespace seq2seq_ext
