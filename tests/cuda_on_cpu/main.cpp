// A program around one .cu file, for the sanitizers: reads a launch from a file, runs it, writes the memory
// back.
//
// The file: name (64 bytes), grid and block (6 × u32), shared bytes (u64), order (u32), seed (u64), number of
// buffers (u32), number of arguments (u32); each buffer as its size (u64) and bytes; each argument as buffer
// number (i32, -1 for a value), offset or size (u64), and a value's bytes. Afterwards the buffers are written
// to the same file.
#include "cuda_on_cpu.h"

#include <stdio.h>
#include <stdlib.h>

extern "C" const char *cuda_launch(const char *, void **, unsigned, const unsigned *, const unsigned *,
                                   size_t, int, uint64_t);

static void take(FILE *file, void *into, size_t bytes) {
    if (bytes && fread(into, bytes, 1, file) != 1) {
        fprintf(stderr, "cuda_on_cpu: the launch file ends too soon\n");
        exit(3);
    }
}
template <class T> static T take(FILE *file) {
    T value;
    take(file, &value, sizeof value);
    return value;
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : nullptr;
    if (!file) return 3;
    char name[64];
    unsigned shape[6];
    take(file, name, sizeof name);
    take(file, shape, sizeof shape);
    uint64_t shared = take<uint64_t>(file);
    uint32_t order = take<uint32_t>(file);
    uint64_t seed = take<uint64_t>(file);
    uint32_t buffers = take<uint32_t>(file), arguments = take<uint32_t>(file);
    char **memory = new char *[buffers];
    uint64_t *size = new uint64_t[buffers];
    for (uint32_t i = 0; i < buffers; i++) {
        size[i] = take<uint64_t>(file);
        memory[i] = (char *)malloc(size[i]); // exactly: the address sanitizer fences it
        take(file, memory[i], size[i]);
    }
    void **values = new void *[arguments];
    for (uint32_t i = 0; i < arguments; i++) {
        int32_t buffer = take<int32_t>(file);
        uint64_t number = take<uint64_t>(file);
        if (buffer >= 0) {
            values[i] = new char *(memory[buffer] + number);
        } else {
            values[i] = aligned_alloc(16, (number + 15) / 16 * 16);
            take(file, values[i], number);
        }
    }
    fclose(file);
    const char *failure = cuda_launch(name, values, arguments, shape, shape + 3, shared, (int)order, seed);
    if (failure) {
        fprintf(stderr, "cuda_on_cpu: %s\n", failure);
        return 4;
    }
    file = fopen(argv[1], "wb");
    for (uint32_t i = 0; i < buffers; i++) fwrite(memory[i], 1, size[i], file);
    fclose(file);
    return 0;
}
