#include "common.cuh"
// Max and average pooling, NHWC: one thread for each output number; neighbouring threads take neighbouring
// channels.
struct Pool {
    int images, height, width, channels, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, out_h,
        out_w;
};

// For output number `e` of a pooled image: its channel, and its window inside the image, rows [top, bottom)
// and columns [left, right).
struct Window {
    int image, channel, top, bottom, left, right;
};

__device__ __forceinline__ Window window_of(long long e, const Pool &p) {
    Window window;
    window.channel = (int)(e % p.channels);
    long long pixel = e / p.channels;
    int s = (int)(pixel % p.out_w), r = (int)(pixel / p.out_w % p.out_h);
    window.image = (int)(pixel / p.out_w / p.out_h);
    int top = r * p.stride_h - p.pad_top, left = s * p.stride_w - p.pad_left;
    window.top = max(top, 0), window.bottom = min(top + p.kernel_h, p.height);
    window.left = max(left, 0), window.right = min(left + p.kernel_w, p.width);
    return window;
}

// y = the largest pixel of each window; where: its position, row * width + column. The first of equal numbers
// counts; NaN beats every number.
extern "C" __global__ void max_pool(const REAL *__restrict__ x, REAL *__restrict__ y, int *__restrict__ where,
                                    Pool p) {
    long long e = element();
    if (e >= (long long)p.images * p.out_h * p.out_w * p.channels) return;
    Window window = window_of(e, p);
    const REAL *image = x + (long long)window.image * p.height * p.width * p.channels + window.channel;
    int at = window.top * p.width + window.left;
    REAL best = image[(long long)at * p.channels];
    for (int row = window.top; row < window.bottom; row++)
        for (int column = window.left; column < window.right; column++) {
            REAL value = image[((long long)row * p.width + column) * p.channels];
            if (value > best || (value != value && best == best)) best = value, at = row * p.width + column;
        }
    y[e] = best;
    if (where) where[e] = at;
}

// dx: each pixel gathers from the windows that it lies in, in order. So windows may overlap, and no atomics
// are needed.
extern "C" __global__ void max_pool_grad(const REAL *__restrict__ dy, const int *__restrict__ where,
                                         REAL *__restrict__ dx, Pool p) {
    long long e = element();
    if (e >= (long long)p.images * p.height * p.width * p.channels) return;
    int channel = (int)(e % p.channels);
    long long pixel = e / p.channels;
    int column = (int)(pixel % p.width), row = (int)(pixel / p.width % p.height);
    long long image = pixel / p.width / p.height * p.out_h;
    int r0 = max((row + p.pad_top - p.kernel_h + p.stride_h) / p.stride_h, 0);
    int s0 = max((column + p.pad_left - p.kernel_w + p.stride_w) / p.stride_w, 0);
    int r1 = min((row + p.pad_top) / p.stride_h, p.out_h - 1),
        s1 = min((column + p.pad_left) / p.stride_w, p.out_w - 1);
    REAL sum = 0;
    for (int r = r0; r <= r1; r++)
        for (int s = s0; s <= s1; s++) {
            long long from = ((image + r) * p.out_w + s) * p.channels + channel;
            if (where[from] == row * p.width + column) sum += dy[from];
        }
    dx[e] = sum;
}

__device__ __forceinline__ double pixels_of(const Window &window) {
    return (double)(window.bottom - window.top) * (window.right - window.left);
}

// Sums of windows are in double, however large the windows are. If the numbers are doubles themselves, the
// rounding error of each addition is kept too, and added at the end (Knuth's TwoSum).
struct Sum {
    double sum = 0, lost = 0;

    __device__ __forceinline__ void add(double number) {
        double before = sum;
        sum = before + number;
        if (sizeof(REAL) == sizeof(double)) {
            double added = sum - before;
            lost += (before - (sum - added)) + (number - added);
        }
    }

    __device__ __forceinline__ double value() const {
        return sum - sum == 0 ? sum + lost : sum; // an infinite sum has lost nothing that is a number
    }
};

// y = the mean of each window's pixels inside the image.
extern "C" __global__ void avg_pool(const REAL *__restrict__ x, REAL *__restrict__ y, Pool p) {
    long long e = element();
    if (e >= (long long)p.images * p.out_h * p.out_w * p.channels) return;
    Window window = window_of(e, p);
    const REAL *image = x + (long long)window.image * p.height * p.width * p.channels + window.channel;
    Sum sum;
    for (int row = window.top; row < window.bottom; row++)
        for (int column = window.left; column < window.right; column++)
            sum.add(image[((long long)row * p.width + column) * p.channels]);
    y[e] = (REAL)(sum.value() / pixels_of(window));
}

// dx: each window's error is divided equally among its pixels; a pixel gathers from the windows that it lies
// in.
extern "C" __global__ void avg_pool_grad(const REAL *__restrict__ dy, REAL *__restrict__ dx, Pool p) {
    long long e = element();
    if (e >= (long long)p.images * p.height * p.width * p.channels) return;
    int channel = (int)(e % p.channels);
    long long pixel = e / p.channels;
    int column = (int)(pixel % p.width), row = (int)(pixel / p.width % p.height);
    long long image = pixel / p.width / p.height * p.out_h;
    int r0 = max((row + p.pad_top - p.kernel_h + p.stride_h) / p.stride_h, 0);
    int s0 = max((column + p.pad_left - p.kernel_w + p.stride_w) / p.stride_w, 0);
    int r1 = min((row + p.pad_top) / p.stride_h, p.out_h - 1),
        s1 = min((column + p.pad_left) / p.stride_w, p.out_w - 1);
    Sum sum;
    for (int r = r0; r <= r1; r++)
        for (int s = s0; s <= s1; s++) {
            long long from = ((image + r) * p.out_w + s) * p.channels + channel;
            sum.add(dy[from] / pixels_of(window_of(from, p)));
        }
    dx[e] = (REAL)sum.value();
}
