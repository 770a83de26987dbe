#pragma once
#include "common.cuh"
// The shape of a convolution, NHWC, filters (kernel height, kernel width, channels per group, filters).
//
// One description serves the forward pass and the input gradient, which is a convolution too: of the output's
// gradient, with filters that are turned by 180 degrees and transposed. If the forward pass had a stride,
// zeros are put between the pixels of that gradient. UP says how many: input position p holds pixel p / UP if
// UP divides p, else zero.
//
// With SPECIALISED every size but the number of images is a constant for the compiler, which then unrolls the
// loops over the kernel and divides by multiplying; without it the same code reads the sizes from the struct.
struct Shape {
    int images, height, width, channels, filters, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
    int dilation_h, dilation_w, up_h, up_w, groups, out_h, out_w;
};

#define IMAGES shape.images
#ifndef SPECIALISED
#define HEIGHT     shape.height
#define WIDTH      shape.width
#define CHANNELS   shape.channels
#define FILTERS    shape.filters
#define KERNEL_H   shape.kernel_h
#define KERNEL_W   shape.kernel_w
#define STRIDE_H   shape.stride_h
#define STRIDE_W   shape.stride_w
#define PAD_TOP    shape.pad_top
#define PAD_LEFT   shape.pad_left
#define DILATION_H shape.dilation_h
#define DILATION_W shape.dilation_w
#define UP_H       shape.up_h
#define UP_W       shape.up_w
#define GROUPS     shape.groups
#define OUT_H      shape.out_h
#define OUT_W      shape.out_w
#endif
// Of one group:
#define GROUP_CHANNELS (CHANNELS / GROUPS)
#define GROUP_FILTERS  (FILTERS / GROUPS)

// The pixel at a position, counted from the first pixel, or -1 if there is none: padding, or a zero put
// between pixels.
__device__ __forceinline__ int pixel_at(int position, int up, int size) {
    if (position < 0 || position % up != 0) return -1;
    int pixel = position / up;
    return pixel < size ? pixel : -1;
}

// Where the numbers of input pixel (row, column) of an image begin.
#define PIXEL(image, row, column) ((((long long)(image) * HEIGHT + (row)) * WIDTH + (column)) * CHANNELS)
// Where the numbers of output pixel (row, column) begin.
#define OUT_PIXEL(image, row, column) ((((long long)(image) * OUT_H + (row)) * OUT_W + (column)) * FILTERS)
