/* direct_choice.h: algorithm "direct", forward and input gradient: chooses the kernel that costs least. These
   are direct.h for many filters, plane.h for few filters and channels, grouped.h for groups of few, and
   spread.h where few results share a kernel row or the kernel is wider than the image. Depthwise convolution
   has its own. */

static int NAME(direct_forward)(plan *p) {
    const conv *g = &p->g;
    NAME(direct) *d = (void *)p->own;
    _Static_assert(sizeof(NAME(direct)) <= sizeof p->own, "the plan holds the algorithm's numbers");
    if (NAME(is_depthwise)(g))
        return g->c < LANES ? NAME(few_channels_conv)(p, 0) : NAME(depthwise_forward)(p);
    d->grad = 0;
    d->n = g->n, d->groups = g->groups;
    d->ih = g->h, d->iw = g->w, d->from = g->c / g->groups;
    d->oh = g->oh, d->ow = g->ow, d->to = g->k / g->groups;
    d->phases_y = d->phases_x = 1;
    d->every = g->kw > 1 ? NAME(common_divisor)(g->sw, g->dw) : 1;
    d->step_y = g->sh, d->step_x = g->sw / d->every;
    NAME(stack_images)(g, d);
    NAME(direct_plan)(p);
    if (g->groups > 1) NAME(grouped_plan)(p);
    NAME(plane_plan)(p, 0);
    NAME(spread_plan)(p, 0);
    return 1;
}

static int NAME(direct_input_grad)(plan *p) {
    const conv *g = &p->g;
    NAME(direct) *d = (void *)p->own;
    if (NAME(is_depthwise)(g))
        return g->c < LANES ? NAME(few_channels_conv)(p, 1) : NAME(depthwise_input_grad)(p);
    d->grad = 1;
    d->n = g->n, d->groups = g->groups;
    d->ih = g->oh, d->iw = g->ow, d->from = g->k / g->groups;
    d->oh = g->h, d->ow = g->w, d->to = g->c / g->groups;
    d->phases_y = g->sh < g->h ? g->sh : g->h;
    d->phases_x = g->sw < g->w ? g->sw : g->w;
    d->every = d->step_y = d->step_x = 1;
    NAME(stack_images)(g, d);
    NAME(direct_plan)(p);
    if (g->groups > 1) NAME(grouped_plan)(p);
    NAME(plane_plan)(p, 1);
    NAME(spread_plan)(p, 1);
    return 1;
}
