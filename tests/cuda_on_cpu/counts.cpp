// Counts the memory accesses of a kernel that was compiled with -fsanitize=thread: the compiler then calls
// the functions below before each of them. Nothing of the race detector itself is linked.
#include <stddef.h>
#include <stdint.h>

extern "C" void *cuda_dynamic_shared;
extern "C" __attribute__((weak)) char __start_cuda_shared[];
extern "C" __attribute__((weak)) char __stop_cuda_shared[];

namespace {
enum { MOST = 16 };
uintptr_t begins[MOST], ends[MOST]; // arrays in global memory
int arrays;
size_t shared_bytes;
// Bytes: global read, global written, shared read, shared written.
uint64_t bytes_of[4];

void count(const void *address, size_t bytes, int written) {
    uintptr_t at = (uintptr_t)address, dynamic = (uintptr_t)cuda_dynamic_shared;
    bool in_static =
        __start_cuda_shared && at >= (uintptr_t)__start_cuda_shared && at < (uintptr_t)__stop_cuda_shared;
    if (in_static || (dynamic && at >= dynamic && at < dynamic + shared_bytes))
        bytes_of[2 + written] += bytes;
    for (int i = 0; i < arrays; i++)
        if (at >= begins[i] && at < ends[i]) bytes_of[written] += bytes;
}
} // namespace

#define API extern "C" __attribute__((visibility("default")))

// What to count from here on: `number` arrays, each as begin and end.
API void cuda_count(const uintptr_t *ranges, int number, size_t shared) {
    arrays = number < MOST ? number : MOST;
    for (int i = 0; i < arrays; i++) begins[i] = ranges[2 * i], ends[i] = ranges[2 * i + 1];
    shared_bytes = shared;
    for (uint64_t &bytes : bytes_of) bytes = 0;
}
API void cuda_counted(uint64_t *result) {
    for (int i = 0; i < 4; i++) result[i] = bytes_of[i];
}

#define ACCESS(bytes)                                                                                        \
    extern "C" void __tsan_read##bytes(void *address) {                                                      \
        count(address, bytes, 0);                                                                            \
    }                                                                                                        \
    extern "C" void __tsan_write##bytes(void *address) {                                                     \
        count(address, bytes, 1);                                                                            \
    }                                                                                                        \
    extern "C" void __tsan_unaligned_read##bytes(void *address) {                                            \
        count(address, bytes, 0);                                                                            \
    }                                                                                                        \
    extern "C" void __tsan_unaligned_write##bytes(void *address) {                                           \
        count(address, bytes, 1);                                                                            \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
extern "C" void __tsan_read_range(void *address, size_t bytes) {
    count(address, bytes, 0);
}
extern "C" void __tsan_write_range(void *address, size_t bytes) {
    count(address, bytes, 1);
}
extern "C" void __tsan_init(void) {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
