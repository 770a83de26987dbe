#include "conv.cuh"
// The paper's Algorithm 3: one thread for each output point.
//
//   y[n, r, s, k] = b[k] + sum over i, j, c of x[n, r sh + i dh - pt, s sw + j dw - pl, c] w[i, j, c, k]
//
// Everything comes from global memory: each thread reads its KERNEL_H x KERNEL_W x C inputs and as many
// weights. Threads of a warp have neighbouring k, so they read the same input (one transaction serves all)
// and consecutive weights.

extern "C" __global__ void convolve(const REAL *__restrict__ x, const REAL *__restrict__ w,
                                    const REAL *__restrict__ bias, REAL *__restrict__ y, int relu,
                                    Shape shape) {
    long long point = element();
    if (point >= (long long)IMAGES * OUT_H * OUT_W * FILTERS) return;
    int k = (int)(point % FILTERS);
    long long pixel = point / FILTERS;
    int s = (int)(pixel % OUT_W);
    int r = (int)(pixel / OUT_W % OUT_H);
    int n = (int)(pixel / OUT_W / OUT_H);
    int first_channel = k / GROUP_FILTERS * GROUP_CHANNELS;

    REAL sum = 0;
    for (int i = 0; i < KERNEL_H; i++) {
        int row = pixel_at(r * STRIDE_H + i * DILATION_H - PAD_TOP, UP_H, HEIGHT);
        if (row < 0) continue;
        for (int j = 0; j < KERNEL_W; j++) {
            int column = pixel_at(s * STRIDE_W + j * DILATION_W - PAD_LEFT, UP_W, WIDTH);
            if (column < 0) continue;
            const REAL *in = x + PIXEL(n, row, column) + first_channel;
            const REAL *weight = w + (long long)(i * KERNEL_W + j) * GROUP_CHANNELS * FILTERS + k;
            for (int c = 0; c < GROUP_CHANNELS; c++) sum += in[c] * weight[(long long)c * FILTERS];
        }
    }
    if (bias) sum += bias[k];
    y[point] = relu ? relu_of(sum) : sum;
}

// One thread for each weight:
//
//   dw[i, j, c, k] = sum over n, r, s of x[n, r sh + i dh - pt, s sw + j dw - pl, c] dy[n, r, s, k]
//
// There are few weights and many pixels, so this leaves most of a GPU idle; the other variants also divide
// the pixels among threads.
extern "C" __global__ void weight_grad(const REAL *__restrict__ x, const REAL *__restrict__ dy,
                                       REAL *__restrict__ dw, Shape shape) {
    long long point = element();
    if (point >= (long long)KERNEL_H * KERNEL_W * GROUP_CHANNELS * FILTERS) return;
    int k = (int)(point % FILTERS);
    int c = (int)(point / FILTERS % GROUP_CHANNELS);
    int tap = (int)(point / FILTERS / GROUP_CHANNELS);
    int i = tap / KERNEL_W, j = tap % KERNEL_W;
    int channel = k / GROUP_FILTERS * GROUP_CHANNELS + c;

    double sum = 0; // of the rows' sums
    for (int n = 0; n < IMAGES; n++)
        for (int r = 0; r < OUT_H; r++) {
            int row = r * STRIDE_H + i * DILATION_H - PAD_TOP;
            if (row < 0 || row >= HEIGHT) continue;
            REAL of_row = 0;
            for (int s = 0; s < OUT_W; s++) {
                int column = s * STRIDE_W + j * DILATION_W - PAD_LEFT;
                if (column < 0 || column >= WIDTH) continue;
                of_row += x[PIXEL(n, row, column) + channel] * dy[OUT_PIXEL(n, r, s) + k];
            }
            sum += of_row;
        }
    dw[point] = (REAL)sum;
}
