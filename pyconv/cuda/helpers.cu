#include "conv.cuh"
// What the convolutions need besides themselves: turned filters, sums of parts, reordered axes.

// Filters for the input gradient: turned by 180 degrees, and channels and filters exchanged within each
// group.
//
//   turned[t, k, g C/G + c] = w[taps[t], c, g K/G + k]
//
// `taps` names the kernel position that each row of the result comes from: all positions backwards, or those
// that one phase of a strided convolution needs.
extern "C" __global__ void turn_filters(const REAL *__restrict__ w, REAL *__restrict__ turned,
                                        const int *__restrict__ taps, int kernel, int channels, int filters,
                                        int groups) {
    long long e = element();
    int group_channels = channels / groups, group_filters = filters / groups;
    if (e >= (long long)kernel * group_filters * channels) return;
    int channel = (int)(e % channels), k = (int)(e / channels % group_filters),
        t = (int)(e / channels / group_filters);
    int group = channel / group_channels, c = channel % group_channels;
    turned[e] = w[((long long)taps[t] * group_channels + c) * filters + group * group_filters + k];
}

// result[e] = sum over parts of partial[part, e], in order, so that every run gives the same bits; then bias
// and ReLU.
extern "C" __global__ void sum_partials(const REAL *__restrict__ partial, const REAL *__restrict__ bias,
                                        REAL *__restrict__ result, long long size, int shares, int filters,
                                        int relu) {
    long long e = element();
    if (e >= size) return;
    double sum = 0;
    for (int share = 0; share < shares; share++) sum += partial[share * size + e];
    if (bias) sum += bias[e % filters];
    result[e] = relu ? relu_of((REAL)sum) : (REAL)sum;
}

// Reorders the axes of a four-dimensional array: out[a, b, c, d] of sizes (na, nb, nc, nd) is in[a sa + b sb
// + c sc + d sd].
extern "C" __global__ void permute(const REAL *__restrict__ in, REAL *__restrict__ out, long long sa,
                                   long long sb, long long sc, long long sd, int na, int nb, int nc, int nd) {
    long long e = element();
    if (e >= (long long)na * nb * nc * nd) return;
    int d = (int)(e % nd), c = (int)(e / nd % nc), b = (int)(e / nd / nc % nb), a = (int)(e / nd / nc / nb);
    out[e] = in[a * sa + b * sb + c * sc + d * sd];
}
