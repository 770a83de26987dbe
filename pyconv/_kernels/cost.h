/* cost.h: estimates how many cycles of one thread an algorithm takes. "auto" chooses the algorithm by it, and
   "winograd" its tile.

   Each estimate counts the vector operations that the geometry needs, in a few kinds, and multiplies each
   count by the measured cycles of one operation. Counts are of vectors, so one set of weights serves every
   vector length.
*/
#ifndef PYCONV_COST_H
#define PYCONV_COST_H

#include <stddef.h>

/* Vector multiply-adds in register tiles. Two a cycle are the peak. */
static inline double cost_direct(double multiply_adds) {
    return multiply_adds / 1.6;
}

/* One step of a register tile of outer products, `ones` vectors by `others`. With few sums, each one waits
   for its last multiply-add. The loads, two a cycle, are counted too; each of `ones` counts as `weight`. */
static inline double cost_of_tile(double ones, double others, double weight) {
    const double products = ones * others / 1.6, loads = (weight * ones + others) / 2;
    const double most = products > loads ? products : loads;
    return most > 4.5 ? most : 4.5;
}

/* Winograd with tiles of m x m: cycles of each transform of one vector of channels. */
typedef struct winograd_weights {
    double inputs, outputs, filters, filters_turned, grads, sums;
} winograd_weights;

static inline winograd_weights cost_of_transforms(int m) {
    static const winograd_weights by_tile[] = {
        {90, 80, 30, 50, 60, 60},     /* m = 2 */
        {140, 120, 45, 70, 100, 90},  /* m = 3 */
        {190, 160, 60, 90, 140, 120}, /* m = 4 */
    };
    return by_tile[m - 2];
}

/* tiles, channels c and filters k of one group; ci, ki are c and k in vectors. */
static inline double cost_winograd(int m, int turned, double tiles, double c, double ci, double ki) {
    const winograd_weights w = cost_of_transforms(m);
    return tiles * (m + 2) * (m + 2) * c * ki / 1.7 + tiles * (ci * w.inputs + ki * w.outputs) +
           c * ki * (turned ? w.filters_turned : w.filters);
}

/* Every block of channels x filters (there are c_cuts x k_cuts) transforms its tiles anew. */
static inline double cost_winograd_weight_grad(int m, double tiles, double slices, double c, double ci,
                                               double ki, double c_cuts, double k_cuts) {
    const winograd_weights w = cost_of_transforms(m);
    return tiles * (m + 2) * (m + 2) * c * ki / 1.5 +
           tiles * (ci * k_cuts * w.inputs + ki * c_cuts * w.grads) + slices * c * ki * w.sums;
}

/* Along rows (winograd_1d.h), for few pairs of kernel row and channel or for many. `products` counts tiles x
   filters (in vectors) x pairs, each of eight multiply-adds; `outputs` and `errors` count tiles x filters;
   `inputs` counts tiles x channels to transform (with many pairs: x vectors of channels). With 16 registers a
   filter is loaded for every three multiply-adds, not for every six. */
static inline double cost_winograd_1d_few(double products, double inputs, double outputs, double m,
                                          double filters, int registers) {
    const double transforms = inputs * 6 + outputs * (8 + 2 * m) + filters * 40;
    return registers == 32 ? products * 8 / 1.6 + transforms : products * 8 / 1.15 + 1.58 * transforms;
}

static inline double cost_winograd_1d_many(double products, double inputs, double outputs, double m,
                                           double filters) {
    return products * 8 / 1.7 + inputs * 30 + outputs * (24 + 3 * m) + filters * 40;
}

/* Tiles in the lanes (winograd_1d_planes.h): counts are per vector of tiles. */
static inline double cost_winograd_1d_planes(double products, double inputs, double outputs) {
    return products * 8 / 1.6 + inputs * 32 + outputs * 46;
}

/* The weight gradient. With few pairs, errors are transformed in registers, anew for every register block: 3
   m loads and almost as many operations. 16 registers hold half as much, and a vector is half of a cache
   line. With many pairs, errors are transformed to memory: storing a tile costs more than computing it, and
   the sums (blocks of rows x their products) are loaded and stored. */
static inline double cost_winograd_1d_few_grad(double products, double inputs, double errors, double m,
                                               int registers) {
    return products * 8 / (registers == 32 ? 1.6 : 0.7) + inputs * 6 + errors * (1 + 2.4 * m);
}

static inline double cost_winograd_1d_many_grad(double products, double inputs, double errors, double m,
                                                double sums) {
    return products * 8 / 1.5 + inputs * 30 + errors * (28 + m) + sums * 8;
}

/* The guard (guard.h): sums of pixels of so many vectors, and a look at each result's window. */
static inline double cost_of_guard(double pixels, double vectors, double results) {
    return pixels * (1.5 * vectors + 8) + results * 5;
}

/* The transform from sums to taps; `sums` vectors in each point. */
static inline double cost_winograd_1d_taps(double sums, double taps) {
    return sums * (24 + 12 * taps);
}

#endif
