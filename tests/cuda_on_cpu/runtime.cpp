// The scheduler: runs the blocks of a launch one after the other, and the threads of a block as fibers.
#include "cuda_on_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define UNWATCHED __attribute__((no_sanitize("address")))
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define UNWATCHED __attribute__((no_sanitize("thread"), noinline))
#else
#define UNWATCHED
#endif

#if defined(__x86_64__) && !defined(CUDA_ON_CPU_UCONTEXT)
#define REGISTER_SWITCH 1
#else
#define REGISTER_SWITCH 0
#include <ucontext.h>
#endif

extern "C" {
CudaThread *cuda_running;
void *cuda_dynamic_shared;
}

// Sections exist only in files that use them: weak, so that a kernel without static shared memory links too.
extern "C" __attribute__((weak)) char __start_cuda_shared[];
extern "C" __attribute__((weak)) char __stop_cuda_shared[];

namespace {

enum { STACK = 192 * 1024, MAX_THREADS = 1024, MAX_KERNELS = 64 };

struct Kernel {
    const char *name;
    void (*body)(void **);
    unsigned arguments;
    const size_t *sizes, *aligns;
};
Kernel kernels[MAX_KERNELS];
int kernel_count;

enum State { READY, AT_BARRIER, DONE };

struct Fiber {
    CudaThread cuda; // first, so that cuda_running points to the fiber too
    State state;
#if REGISTER_SWITCH
    void *sp;
#else
    ucontext_t context;
#endif
    char *stack;
    void *tsan;
    void *asan_stack;
    unsigned barriers; // met in this block
};
Fiber fibers[MAX_THREADS];
int fibers_made;

#if REGISTER_SWITCH
void *scheduler_sp;
#else
ucontext_t scheduler_context;
#endif
void *scheduler_tsan, *scheduler_asan_stack;
const void *scheduler_stack;
size_t scheduler_stack_size;

void (*body_now)(void **);
void **args_now;
const char *failure;
// Tokens that order events for the race detector. Barriers take two in turn: with one, a thread that leaves a
// barrier late would also learn of what others did after it.
char start_token, end_token, barrier_token[2];

#if REGISTER_SWITCH
// Saves the registers that the ABI makes the callee keep, changes stacks, and restores them: a switch in 15
// instructions. The floating-point control words never change in a kernel, so they stay as they are.
extern "C" void cuda_switch(void **save, void *load);
asm(R"(
.text
.globl cuda_switch
.hidden cuda_switch
.type cuda_switch, @function
cuda_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cuda_switch, .-cuda_switch
)");
#endif

UNWATCHED void to_scheduler(Fiber *fiber, bool finished) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(finished ? nullptr : &fiber->asan_stack, scheduler_stack,
                                   scheduler_stack_size);
#elif defined(__SANITIZE_THREAD__)
    // No synchronisation comes with a switch: only barriers order the threads of a block.
    __tsan_switch_to_fiber(scheduler_tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if REGISTER_SWITCH
    cuda_switch(&fiber->sp, scheduler_sp);
#else
    swapcontext(&fiber->context, &scheduler_context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber->asan_stack, &scheduler_stack, &scheduler_stack_size);
#endif
    (void)finished;
}

UNWATCHED void to_fiber(Fiber *fiber) {
    cuda_running = &fiber->cuda;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_asan_stack, fiber->stack, STACK);
#elif defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(fiber->tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if REGISTER_SWITCH
    cuda_switch(&scheduler_sp, fiber->sp);
#else
    swapcontext(&scheduler_context, &fiber->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_asan_stack, nullptr, nullptr);
#endif
}

UNWATCHED Fiber *fiber_now() {
    return (Fiber *)cuda_running;
}

UNWATCHED void run_body() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#elif defined(__SANITIZE_THREAD__)
    __tsan_acquire(&start_token); // the arguments and the thread's indices were written before the launch
#endif
    body_now(args_now);
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&end_token);
#endif
    Fiber *fiber = fiber_now();
    fiber->state = DONE;
    to_scheduler(fiber, true);
    abort(); // a finished fiber is never resumed
}

UNWATCHED void prepare(Fiber *fiber) {
    fiber->state = READY;
    fiber->barriers = 0;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber->stack, STACK);
#endif
#if REGISTER_SWITCH
    // As cuda_switch leaves a stack: six registers, then the address that it returns to, 16-byte aligned as
    // on a call.
    void **top = (void **)(fiber->stack + STACK) - 1;
    *--top = (void *)run_body;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber->sp = top;
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, run_body, 0);
#endif
}

UNWATCHED void make_fibers(int count) {
    for (; fibers_made < count; fibers_made++) {
        void *stack =
            mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) {
            perror("cuda_on_cpu: no memory for a fiber's stack");
            abort();
        }
        fibers[fibers_made].stack = (char *)stack;
#if defined(__SANITIZE_THREAD__)
        fibers[fibers_made].tsan = __tsan_create_fiber(0);
#endif
    }
}

UNWATCHED void poison(void *start, size_t bytes) {
    volatile char *byte = (volatile char *)start;
    for (size_t i = 0; i < bytes; i++) byte[i] = (char)0xff; // all ones is NaN in float and in double
}

uint64_t random_state;
UNWATCHED unsigned random_below(unsigned n) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((random_state >> 33) % n);
}

// The order of `n` threads or blocks: 0 natural, 1 reversed, 2 shuffled.
UNWATCHED void arrange(unsigned *order, unsigned n, int how) {
    for (unsigned i = 0; i < n; i++) order[i] = how == 1 ? n - 1 - i : i;
    if (how == 2)
        for (unsigned i = n - 1; i > 0; i--) {
            unsigned j = random_below(i + 1), t = order[i];
            order[i] = order[j], order[j] = t;
        }
}

UNWATCHED void run_block(unsigned threads, int how, size_t shared_bytes) {
    static unsigned order[MAX_THREADS];
    size_t section = __start_cuda_shared ? (size_t)(__stop_cuda_shared - __start_cuda_shared) : 0;
    if (section) poison(__start_cuda_shared, section);
    // Fresh memory of exactly the bytes asked for: the address sanitizer sees an access beyond it.
    cuda_dynamic_shared = nullptr;
    if (shared_bytes) {
        cuda_dynamic_shared = aligned_alloc(64, (shared_bytes + 63) / 64 * 64);
        poison(cuda_dynamic_shared, shared_bytes);
#if defined(__SANITIZE_ADDRESS__)
        __asan_poison_memory_region((char *)cuda_dynamic_shared + shared_bytes,
                                    (64 - shared_bytes % 64) % 64);
#endif
    }
    for (unsigned t = 0; t < threads; t++) prepare(&fibers[t]);
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&start_token);
#endif
    unsigned done = 0;
    while (done < threads && !failure) {
        unsigned waiting = 0;
        arrange(order, threads, how);
        for (unsigned i = 0; i < threads && !failure; i++) {
            Fiber *fiber = &fibers[order[i]];
            if (fiber->state == DONE) continue;
            fiber->state = READY;
            to_fiber(fiber);
            if (fiber->state == DONE)
                done++;
            else
                waiting++;
        }
        if (done && waiting && !failure)
            failure = "__syncthreads() was reached by some threads of a block while others had returned";
    }
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&end_token); // the block is done: what it wrote may be read and freed
#endif
    if (cuda_dynamic_shared) {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(cuda_dynamic_shared, (shared_bytes + 63) / 64 * 64);
#endif
        free(cuda_dynamic_shared);
        cuda_dynamic_shared = nullptr;
    }
}

} // namespace

extern "C" {

void cuda_register(const char *name, void (*body)(void **), unsigned arguments, const size_t *sizes,
                   const size_t *aligns) {
    if (kernel_count == MAX_KERNELS) abort();
    kernels[kernel_count].name = name;
    kernels[kernel_count].body = body;
    kernels[kernel_count].sizes = sizes;
    kernels[kernel_count].aligns = aligns;
    kernels[kernel_count++].arguments = arguments;
}

UNWATCHED void cuda_barrier(void) {
    Fiber *fiber = fiber_now();
    fiber->state = AT_BARRIER;
#if defined(__SANITIZE_THREAD__)
    char *token = &barrier_token[fiber->barriers++ & 1];
    __tsan_release(token);
#endif
    to_scheduler(fiber, false);
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(token); // all threads have released by now
#endif
}

UNWATCHED void cuda_failed(const char *what) {
    failure = what;
}

// The sizes and alignments of a kernel's parameters, and how many there are; -1 if the file has no such
// kernel.
__attribute__((visibility("default"))) int cuda_parameters(const char *name, const size_t **sizes,
                                                           const size_t **aligns) {
    for (int i = 0; i < kernel_count; i++)
        if (!strcmp(kernels[i].name, name)) {
            *sizes = kernels[i].sizes, *aligns = kernels[i].aligns;
            return (int)kernels[i].arguments;
        }
    return -1;
}

// Runs a kernel; returns null, or one line that says what went wrong.
UNWATCHED __attribute__((visibility("default"))) const char *
cuda_launch(const char *name, void **args, unsigned arguments, const unsigned *grid, const unsigned *block,
            size_t shared_bytes, int how, uint64_t seed) {
    Kernel *kernel = nullptr;
    for (int i = 0; i < kernel_count; i++)
        if (!strcmp(kernels[i].name, name)) kernel = &kernels[i];
    if (!kernel) return "the file has no kernel of this name";
    if (kernel->arguments != arguments) return "the kernel takes another number of arguments";
    unsigned threads = block[0] * block[1] * block[2];
    if (threads == 0 || threads > MAX_THREADS) return "a block must have 1 to 1024 threads";
    uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    if (!blocks || grid[1] > 65535 || grid[2] > 65535) return "the grid is empty or too large";
    failure = nullptr;
    random_state = seed;
    body_now = kernel->body;
    args_now = args;
#if defined(__SANITIZE_THREAD__)
    scheduler_tsan = __tsan_get_current_fiber();
#endif
    make_fibers((int)threads);
    unsigned *order = (unsigned *)malloc(blocks * sizeof *order);
    arrange(order, (unsigned)blocks, how);
    for (uint64_t b = 0; b < blocks && !failure; b++) {
        unsigned at = order[b];
        for (unsigned t = 0; t < threads; t++) {
            CudaThread *cuda = &fibers[t].cuda;
            cuda->thread = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
            cuda->block = {at % grid[0], at / grid[0] % grid[1], at / grid[0] / grid[1]};
            cuda->block_dim = {block[0], block[1], block[2]};
            cuda->grid_dim = {grid[0], grid[1], grid[2]};
        }
        run_block(threads, how, shared_bytes);
    }
    free(order);
    cuda_running = nullptr;
    return failure;
}

} // extern "C"
