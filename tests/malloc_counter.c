// Counts what malloc hands out, and its kin for aligned memory, where it is preloaded.
#include <stdlib.h>

extern void* __libc_malloc(size_t size);
extern void* __libc_memalign(size_t alignment, size_t size);

static long count;

void* malloc(size_t size) {
  __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
  return __libc_malloc(size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
  return __libc_memalign(alignment, size);
}

long malloc_count(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }
