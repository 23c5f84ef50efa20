// Memory that is kept from one use to the next. It begins a cache line, so that rows of whole lines
// share none, and is not touched before it is written: what is reserved for a case that does not
// come takes none.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace seq2seq_ext {

template <typename T>
class Buffer {
 public:
  // For at least n values; what it held is lost if it had room for fewer.
  void reserve(int64_t n) {
    if (n <= size_) return;
    data_.reset(static_cast<T*>(::operator new(n * sizeof(T), kLine)));
    size_ = n;
  }
  T* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(T* data) const { ::operator delete(data, kLine); }
  };

  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

}  // namespace seq2seq_ext
