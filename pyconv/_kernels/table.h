/* table.h: the kernels of convolution, one line each. The loop that chooses from them is in dispatch.c; the
   same lines are what pyconv.explain prints, what docs/reference/kernels.md shows, and what
   tests/test_table.py walks.

   Lines are compared from the first to the last, each with the best of those above it. It takes that one's
   place only if it costs less by the factor `worth`: an estimate errs by some percent, and the usual kernel
   errs least. A line with an `instead` is compared only while that line is the best. The lines are the same
   for all instruction sets; one that a set does without (isa.h) has no functions, and is never chosen. */

#if HAS_GROUPED
#define GROUPED(f) NAME(f)
#else
#define GROUPED(f) NULL
#endif
#if HAS_ROWS
#define ALONG(f) NAME(f) /* rows */
#else
#define ALONG(f) NULL
#endif

/* The sizes of a register tile: the largest that the plan uses. */
static void NAME(tile_of_direct)(const plan *p, ptrdiff_t *size) {
    const NAME(direct) *d = (const void *)p->own;
    const ptrdiff_t row = d->flat ? d->rows * d->columns : d->columns;
    size[1] = min_of(d->vectors, 2);
    size[0] = max_of(row, row * size[1] < NAME(NARROW) ? d->rows : 0);
    size[0] = ceil_div(size[0], ceil_div(size[0], NAME(tile_pixels)(size[1])));
}

static void NAME(tile_of_dot)(const plan *p, ptrdiff_t *size) {
    const NAME(direct) *d = (const void *)p->own;
    size[1] = ceil_div(d->to, d->blocks);
    size[0] = d->in_order ? 1 : (ptrdiff_t)1 << NAME(dot_size)(size[1]);
}

#if HAS_GROUPED
static void NAME(tile_of_grouped)(const plan *p, ptrdiff_t *size) {
    const NAME(direct) *d = (const void *)p->own;
    size[0] = ceil_div(d->columns, ceil_div(d->columns, NAME(GROUPED_PIXELS))), size[1] = d->together;
}
#endif

static void NAME(tile_of_plane)(const plan *p, ptrdiff_t *size) {
    const NAME(plane) *d = (const void *)p->own; /* the first member of other structs too */
    size[0] = d->tile_rows, size[1] = 2;
}

static void NAME(tile_of_spread)(const plan *p, ptrdiff_t *size) {
    const NAME(spread) *d = (const void *)p->own;
    const ptrdiff_t row = min_of(d->iw, NAME(SPREAD_COLUMNS));
    size[1] = min_of(d->vectors, 2);
    size[0] = ceil_div(row, ceil_div(row, NAME(tile_pixels)(size[1])));
}

static void NAME(tile_of_depthwise)(const plan *p, ptrdiff_t *size) {
    size[1] = NAME(strip_vectors)(p->g.c), size[0] = NAME(DEPTHWISE_PIXELS) / size[1];
}

static void NAME(tile_of_depthwise_grad)(const plan *p, ptrdiff_t *size) {
    size[0] = min_of(p->g.kw, 6), size[1] = p->g.c >= 2 * LANES ? 2 : 1;
}

static void NAME(tile_of_few_channels)(const plan *p, ptrdiff_t *size) {
    (void)p;
    size[0] = 1, size[1] = NAME(FEW_TILE);
}

static void NAME(tile_of_few_channels_grad)(const plan *p, ptrdiff_t *size) {
    size[0] = min_of(p->g.kw, 6), size[1] = 1;
}

static void NAME(tile_of_outer)(const plan *p, ptrdiff_t *size) {
    const NAME(gradient) *d = (const void *)p->own;
    const ptrdiff_t run = d->merged ? p->g.kw * d->from : d->from;
    size[1] = min_of(d->vectors, 2);
    size[0] = ceil_div(run, ceil_div(run, NAME(tile_pixels)(size[1])));
}

INLINE void NAME(tile_of_shifted)(ptrdiff_t places, ptrdiff_t filters, ptrdiff_t *size) {
    size[1] = ceil_div(filters, NAME(filter_cuts)(filters));
    size[0] = ceil_div(places, NAME(place_cuts)(places, size[1]));
}

static void NAME(tile_of_runs)(const plan *p, ptrdiff_t *size) {
    const NAME(runs) *d = (const void *)p->own;
    NAME(tile_of_shifted)(d->places, d->to, size);
}

static void NAME(tile_of_planes)(const plan *p, ptrdiff_t *size) {
    const NAME(planes) *d = (const void *)p->own;
    NAME(tile_of_shifted)(d->places, d->to, size);
}

#if HAS_ROWS
static void NAME(tile_of_rows)(const plan *p, ptrdiff_t *size) {
    const NAME(rowwise) *d = (const void *)p->own;
    size[0] = 1, size[1] = d->m;
}

static void NAME(tile_of_four)(const plan *p, ptrdiff_t *size) {
    (void)p;
    size[0] = 1, size[1] = NAME(TILE_COLUMNS);
}
#endif

#define SQUARE(m)                                                                                            \
    static void NAME(tile_of_##m)(const plan *p, ptrdiff_t *size) {                                          \
        (void)p;                                                                                             \
        size[0] = size[1] = m;                                                                               \
    }
SQUARE(2)
SQUARE(3)
SQUARE(4)
#undef SQUARE

/* clang-format off */
#define BOTH     (1 << FORWARD | 1 << INPUT_GRAD)
#define GRADIENT (1 << WEIGHT_GRAD)
#define WINOGRAD(m, algorithm)                                                                               \
    {"tiles_" #m "x" #m, algorithm, BOTH, NAME(shares_filters##m), NAME(conv_plan##m),                       \
     NAME(run_filters_shared##m), 1, NULL, NAME(tile_of_##m), "pixels x pixels", "channels, then filters",   \
     "3 x 3, no stride, no dilation", "winograd/winograd_conv.h"},                                           \
    {"tiles_" #m "x" #m "_few", algorithm, BOTH, NAME(shares_inputs##m), NAME(conv_plan##m),                 \
     NAME(run_inputs_shared##m), 1, NULL, NAME(tile_of_##m), "pixels x pixels", "channels, then filters",    \
     "the same, few pixels beside the filters", "winograd/winograd_conv.h"},                                 \
    {"tiles_" #m "x" #m "_grad", algorithm, GRADIENT, NAME(winograd_can), NAME(grad_plan##m),                \
     NAME(run_weight_grad##m), 1, NULL, NAME(tile_of_##m), "pixels x pixels", "channels and filters",        \
     "3 x 3, no stride, no dilation", "winograd/winograd_weight_grad.h"},

static const kernel NAME(table)[] = {
    {"tile", DIRECT, BOTH, NAME(direct_can), NAME(tile_plan), NAME(direct_run), 1, NULL,
     NAME(tile_of_direct), "pixels x vectors of filters", "filters",
     "any but a filter for each channel", "direct/direct.h"},
    {"dot", DIRECT, BOTH, NAME(dot_can), NAME(dot_plan), NAME(direct_run), 1, NULL, NAME(tile_of_dot),
     "pixels x filters", "kernel columns and channels",
     "runs of a kernel row, or of one pixel's channels if dilated, that fill a vector", "direct/dot.h"},
    {"tile_inside", DIRECT, BOTH, NAME(inside_can), NAME(inside_plan), NAME(direct_run), 1 / 0.9, "tile",
     NAME(tile_of_direct), "pixels x vectors of filters", "filters",
     "as tile; forward, unless stride and dilation across have a common factor", "direct/direct_inside.h"},
    {"grouped", DIRECT, BOTH, GROUPED(grouped_can), GROUPED(grouped_plan), GROUPED(grouped_run), 1, NULL,
     GROUPED(tile_of_grouped), "pixels x groups", "filters of several groups",
     "two groups or more in a vector of 256 bits or 512", "direct/grouped.h"},
    {"plane", DIRECT, BOTH, NAME(plane_can), NAME(plane_plan), NAME(plane_run), 1, NULL,
     NAME(tile_of_plane), "rows x vectors of pixels", "neighbouring pixels",
     "one group, stride 1, no dilation down", "direct/plane.h"},
    {"spread", DIRECT, BOTH, NAME(spread_can), NAME(spread_plan), NAME(spread_run), 1.1, NULL,
     NAME(tile_of_spread), "pixels x vectors of kernel columns", "kernel columns and filters",
     "forward: stride 1 across; input gradient: any", "direct/spread.h"},
    {"depthwise", DIRECT, BOTH, NAME(depthwise_can), NAME(depthwise_plan), NAME(depthwise_run), 1, NULL,
     NAME(tile_of_depthwise), "pixels x vectors of channels", "channels",
     "a filter for each channel, a vector of channels or more", "depthwise/depthwise.h"},
    {"depthwise_few", DIRECT, BOTH, NAME(few_channels_can), NAME(few_channels_plan), NAME(few_run), 1,
     NULL, NAME(tile_of_few_channels), "rows x vectors of pixels", "neighbouring pixels and channels",
     "a filter for each channel, fewer channels than lanes", "depthwise/depthwise_few.h"},
    {"outer", DIRECT, GRADIENT, NAME(gradient_across), NAME(gradient_plan), NAME(gradient_run), 1, NULL,
     NAME(tile_of_outer), "kernel elements x vectors of filters", "filters",
     "as run_grad, where little of what it sees is padding", "weight_grad/direct_weight_grad.h"},
    {"outer_inside", DIRECT, GRADIENT, NAME(gradient_inside), NAME(gradient_plan), NAME(gradient_run), 1,
     NULL, NAME(tile_of_outer), "kernel elements x vectors of filters", "filters",
     "as run_grad, where much is: each kernel column leaves its padding out",
     "weight_grad/direct_weight_grad.h"},
    {"run_grad", DIRECT, GRADIENT, NAME(gradient_can), NAME(run_grad_plan), NAME(run_grad_run), 1, NULL,
     NAME(tile_of_runs), "vectors of kernel elements x filters", "kernel columns and channels",
     "any but a filter for each channel", "weight_grad/run_weight_grad.h"},
    {"plane_grad", DIRECT, GRADIENT, NAME(plane_grad_can), NAME(plane_grad_plan), NAME(planes_run), 1,
     NULL, NAME(tile_of_planes), "kernel elements x filters", "neighbouring pixels",
     "at most two vectors of channels and of filters in a group", "weight_grad/plane_weight_grad.h"},
    {"depthwise_grad", DIRECT, GRADIENT, NAME(depthwise_can), NAME(depthwise_grad_plan),
     NAME(depthwise_gradient_run), 1, NULL, NAME(tile_of_depthwise_grad),
     "kernel columns x vectors of channels", "channels",
     "a filter for each channel, a vector of channels or more", "depthwise/depthwise_weight_grad.h"},
    {"depthwise_few_grad", DIRECT, GRADIENT, NAME(few_channels_can), NAME(few_channels_grad_plan),
     NAME(few_grad_run), 1, NULL, NAME(tile_of_few_channels_grad), "kernel columns x vectors of pixels",
     "neighbouring pixels and channels", "a filter for each channel, fewer channels than lanes",
     "depthwise/depthwise_few.h"},
    WINOGRAD(2, WINOGRAD_2X2)
    WINOGRAD(3, WINOGRAD_3X3)
    WINOGRAD(4, WINOGRAD_4X4)
    {"rows_many", WINOGRAD_1D, BOTH, ALONG(rowwise_can), ALONG(many_conv_plan), ALONG(many_conv_run), 1,
     NULL, ALONG(tile_of_rows), "rows x pixels", "channels, then filters",
     "3 wide or wider, one group, no stride, no dilation, a vector of filters or more",
     "winograd_1d/winograd_1d_many_conv.h"},
    {"rows_few", WINOGRAD_1D, BOTH, ALONG(few_conv_can), ALONG(few_conv_plan), ALONG(few_conv_run), 1, NULL,
     ALONG(tile_of_rows), "rows x pixels", "filters", "as rows_many, sums of at most 128 terms",
     "winograd_1d/winograd_1d_few_conv.h"},
    {"rows_planes", WINOGRAD_1D, BOTH, ALONG(tile_planes_can), ALONG(tile_planes_plan),
     ALONG(tile_planes_run), 1, NULL, ALONG(tile_of_four), "rows x pixels", "neighbouring tiles",
     "3 wide or wider, one group, no stride, no dilation, sums of at most 128 terms",
     "winograd_1d/winograd_1d_planes.h"},
    {"rows_few_grad", WINOGRAD_1D, GRADIENT, ALONG(few_grad_can), ALONG(few_grad_plan),
     ALONG(rowwise_weight_grad_run), 1, NULL, ALONG(tile_of_rows), "rows x pixels", "filters",
     "as rows_many, few pairs of kernel row and channel", "winograd_1d/winograd_1d_few_grad.h"},
    {"rows_many_grad", WINOGRAD_1D, GRADIENT, ALONG(many_grad_can), ALONG(many_grad_plan),
     ALONG(rowwise_weight_grad_run), 1, NULL, ALONG(tile_of_rows), "rows x pixels",
     "channels, then filters", "as rows_many, many pairs", "winograd_1d/winograd_1d_weight_grad.h"},
    {.name = NULL},
};
#undef ALONG
#undef GROUPED
#undef BOTH
#undef GRADIENT
#undef WINOGRAD
/* clang-format on */
