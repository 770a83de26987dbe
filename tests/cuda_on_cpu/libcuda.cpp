// As much of libcuda as PyCUDA calls for pyconv, on the CPU: so that PyCUDA itself, and pyconv's driver.py
// above it, can be tested where there is no GPU. A "cubin" is a shared library that the test's nvcc made of a
// .cu file with g++.
//
// Calls that a real driver would refuse are refused: without a current context, with addresses that were
// never allocated, with arguments that do not fill the kernel's parameters exactly.
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
typedef int Result;
typedef unsigned long long Address;
enum {
    OK,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    NOT_SUPPORTED = 801
};

struct Module {
    void *context;
    void *library;
    const char *(*launch)(const char *, void **, unsigned, const unsigned *, const unsigned *, size_t, int,
                          uint64_t);
    int (*parameters)(const char *, const size_t **, const size_t **);
};
struct Function {
    Module *module;
    std::string name;
    unsigned block[3];
};
struct Event {
    timespec time;
    bool recorded;
};

struct Memory {
    size_t bytes;
    int device;
};

static char primary[64]; // contexts: of each device one
static thread_local std::vector<void *> stack;
static int retained;
static std::map<Address, Memory> allocated;
static const size_t TOTAL = 1ull << 30;
static bool lost;

static size_t used() {
    size_t sum = 0;
    for (auto &item : allocated) sum += item.second.bytes;
    return sum;
}
static const Memory *find(Address address, size_t bytes) {
    auto after = allocated.upper_bound(address);
    if (after == allocated.begin()) return nullptr;
    --after;
    return address + bytes <= after->first + after->second.bytes ? &after->second : nullptr;
}
static bool known(Address address, size_t bytes) {
    return find(address, bytes) != nullptr;
}
static int current() {
    return (int)((char *)stack.back() - primary);
}
// What is tidied up after the context has gone is an error on a real driver.
#define NEEDS_LIFE                                                                                           \
    if (lost) return ILLEGAL_ADDRESS;                                                                        \
    if (retained <= 0) return INVALID_CONTEXT
#define NEEDS_CONTEXT                                                                                        \
    if (lost) return ILLEGAL_ADDRESS;                                                                        \
    if (stack.empty()) return INVALID_CONTEXT

API Result cuInit(unsigned) {
    static pid_t initialised = getpid();
    if (initialised != getpid()) return NOT_INITIALIZED; // forked
    return getenv("CUDA_ON_CPU_NO_DEVICE") ? NO_DEVICE : OK;
}
API Result cuDriverGetVersion(int *version) {
    *version = 13000;
    return OK;
}
API Result cuGetErrorString(Result error, const char **text) {
    *text = error == OUT_OF_MEMORY     ? "out of memory"
            : error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
            : error == INVALID_CONTEXT ? "invalid device context"
            : error == NO_DEVICE       ? "no CUDA-capable device is detected"
            : error == INVALID_IMAGE   ? "device kernel image is invalid"
                                       : "another error";
    return OK;
}
API Result cuDeviceGetCount(int *count) {
    const char *text = getenv("CUDA_ON_CPU_DEVICES");
    *count = text ? atoi(text) : 1;
    return OK;
}
API Result cuDeviceGet(int *device, int number) {
    *device = number;
    return OK;
}
API Result cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, device ? "libcuda on the CPU, number %d" : "libcuda on the CPU", device);
    return OK;
}
API Result cuDeviceComputeCapability(int *major, int *minor, int) {
    const char *text = getenv("CUDA_ON_CPU_CAPABILITY");
    *major = text ? text[0] - '0' : 9, *minor = text ? text[1] - '0' : 0;
    return OK;
}
API Result cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 16 ? 4 : attribute == 8 ? 48 * 1024 : attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return OK;
}
API Result cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = TOTAL;
    return OK;
}
API Result cuDevicePrimaryCtxRetain(void **made, int device) {
    retained++;
    *made = primary + device;
    return OK;
}
API Result cuDevicePrimaryCtxRelease_v2(int) {
    retained--;
    return lost ? ILLEGAL_ADDRESS : OK;
}
API Result cuCtxPushCurrent_v2(void *which) {
    stack.push_back(which);
    return OK;
}
API Result cuCtxPopCurrent_v2(void **which) {
    if (stack.empty()) return INVALID_CONTEXT;
    if (which) *which = stack.back();
    stack.pop_back();
    return OK;
}
API Result cuCtxSetCurrent(void *which) { // what cudaSetDevice does
    NEEDS_CONTEXT;
    stack.back() = which;
    return OK;
}
API Result cuCtxGetDevice(int *device) {
    NEEDS_CONTEXT;
    *device = current();
    return OK;
}
API Result cuPointerGetAttribute(int *value, int attribute, Address address) {
    const Memory *memory = find(address, 1);
    if (attribute != 9 || !memory) return INVALID_VALUE;
    *value = memory->device;
    return OK;
}
API Result cuCtxGetApiVersion(void *, unsigned *version) {
    *version = 13000;
    return OK;
}
API Result cuCtxSynchronize(void) {
    NEEDS_CONTEXT;
    return OK;
}

API Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    NEEDS_CONTEXT;
    *free_bytes = TOTAL - used(), *total = TOTAL;
    return OK;
}
API Result cuMemAlloc_v2(Address *address, size_t bytes) {
    NEEDS_CONTEXT;
    if (used() + bytes > TOTAL) return OUT_OF_MEMORY;
    void *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(memory, 0xff, bytes);
    *address = (Address)memory;
    allocated[*address] = {bytes, current()};
    return OK;
}
API Result cuMemFree_v2(Address address) {
    NEEDS_CONTEXT;
    if (!allocated.erase(address)) return INVALID_VALUE;
    free((void *)address);
    return OK;
}
API Result cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    NEEDS_CONTEXT;
    *memory = malloc(bytes);
    return OK;
}
API Result cuMemFreeHost(void *memory) {
    NEEDS_LIFE;
    free(memory);
    return OK;
}
API Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    NEEDS_CONTEXT;
    if (!known(to, bytes)) return INVALID_VALUE;
    memcpy((void *)to, from, bytes);
    return OK;
}
API Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *) {
    return cuMemcpyHtoD_v2(to, from, bytes);
}
API Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
    NEEDS_CONTEXT;
    if (!known(from, bytes)) return INVALID_VALUE;
    memcpy(to, (void *)from, bytes);
    return OK;
}
API Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *) {
    return cuMemcpyDtoH_v2(to, from, bytes);
}
API Result cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
    NEEDS_CONTEXT;
    if (!known(to, bytes) || !known(from, bytes)) return INVALID_VALUE;
    memmove((void *)to, (void *)from, bytes);
    return OK;
}
API Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *) {
    return cuMemcpyDtoD_v2(to, from, bytes);
}
API Result cuMemsetD8_v2(Address to, unsigned char value, size_t bytes) {
    NEEDS_CONTEXT;
    if (!known(to, bytes)) return INVALID_VALUE;
    memset((void *)to, value, bytes);
    return OK;
}
API Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *) {
    return cuMemsetD8_v2(to, value, bytes);
}

API Result cuStreamCreate(void **stream, unsigned) {
    NEEDS_CONTEXT;
    *stream = malloc(1);
    return OK;
}
API Result cuStreamDestroy_v2(void *stream) {
    NEEDS_LIFE;
    free(stream);
    return OK;
}
API Result cuEventCreate(Event **event, unsigned) {
    NEEDS_CONTEXT;
    *event = new Event();
    return OK;
}
API Result cuEventDestroy_v2(Event *event) {
    NEEDS_LIFE;
    delete event;
    return OK;
}
API Result cuEventRecord(Event *event, void *) {
    NEEDS_CONTEXT;
    clock_gettime(CLOCK_MONOTONIC, &event->time);
    event->recorded = true;
    return OK;
}
API Result cuEventSynchronize(Event *) {
    NEEDS_CONTEXT;
    return OK;
}
API Result cuStreamWaitEvent(void *, Event *event, unsigned) {
    NEEDS_CONTEXT;
    return event->recorded ? OK : INVALID_VALUE;
}
API Result cuEventQuery(Event *) {
    return OK;
}
API Result cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
    if (!start->recorded || !end->recorded) return INVALID_VALUE;
    *milliseconds = (float)((end->time.tv_sec - start->time.tv_sec) * 1e3 +
                            (end->time.tv_nsec - start->time.tv_nsec) * 1e-6);
    return OK;
}

API Result cuModuleLoadDataEx(Module **module, const void *image, unsigned, void *, void *) {
    NEEDS_CONTEXT;
    // The image's length is not told; the test's nvcc wrote it behind a mark.
    const char *start = (const char *)image;
    if (strncmp(start, "CUDA_ON_CPU ", 12)) return INVALID_IMAGE;
    char *rest;
    size_t bytes = strtoull(start + 12, &rest, 10);
    int file = memfd_create("cubin", 0);
    if (write(file, rest + 1, bytes) != (ssize_t)bytes) return INVALID_IMAGE;
    void *library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) return INVALID_IMAGE;
    *module = new Module{stack.back(), library, (decltype(Module::launch))dlsym(library, "cuda_launch"),
                         (decltype(Module::parameters))dlsym(library, "cuda_parameters")};
    return OK; // the descriptor stays open: the loader knows a library by its name
}
API Result cuModuleUnload(Module *module) {
    NEEDS_LIFE;
    delete module;
    return OK;
}
API Result cuModuleGetFunction(Function **function, Module *module, const char *name) {
    NEEDS_CONTEXT;
    const size_t *sizes, *aligns;
    if (module->parameters(name, &sizes, &aligns) < 0) return NOT_FOUND;
    *function = new Function{module, name, {1, 1, 1}};
    return OK;
}
API Result cuFuncGetAttribute(int *value, int, Function *) {
    *value = 32;
    return OK;
}
API Result cuFuncSetBlockShape(Function *function, int x, int y, int z) {
    function->block[0] = x, function->block[1] = y, function->block[2] = z;
    return OK;
}
API Result cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared, void *, void **, void **extra) {
    NEEDS_CONTEXT;
    if (function->module->context != stack.back()) return INVALID_HANDLE;
    const size_t *sizes, *aligns;
    int count = function->module->parameters(function->name.c_str(), &sizes, &aligns);
    char *buffer = nullptr;
    size_t bytes = 0;
    for (int i = 0; extra && extra[i]; i += 2) {
        if (extra[i] == (void *)1) buffer = (char *)extra[i + 1];
        if (extra[i] == (void *)2) bytes = *(size_t *)extra[i + 1];
    }
    std::vector<std::vector<max_align_t>> cells(count);
    std::vector<void *> arguments(count);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        at = (at + aligns[i] - 1) / aligns[i] * aligns[i];
        if (at + sizes[i] > bytes) {
            fprintf(stderr, "libcuda on the CPU: %s gets %zu bytes of arguments and needs more\n",
                    function->name.c_str(), bytes);
            return INVALID_VALUE;
        }
        cells[i].resize(sizes[i] / sizeof(max_align_t) + 1);
        memcpy(cells[i].data(), buffer + at, sizes[i]);
        arguments[i] = cells[i].data();
        at += sizes[i];
    }
    if (at != bytes) {
        fprintf(stderr, "libcuda on the CPU: %s gets %zu bytes of arguments where it takes %zu\n",
                function->name.c_str(), bytes, at);
        return INVALID_VALUE;
    }
    unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    if (shared > 48 * 1024) return INVALID_VALUE;
    const char *failure =
        function->module->launch(function->name.c_str(), arguments.data(), count, grid, block, shared, 2, 1);
    if (failure) {
        fprintf(stderr, "libcuda on the CPU: %s: %s\n", function->name.c_str(), failure);
        lost = true;
    }
    const char *after = getenv("CUDA_ON_CPU_LOST_AFTER");
    static int launches;
    if (after && ++launches > atoi(after)) lost = true;
    return OK;
}
