/* winograd.h: 3x3 convolution, stride 1, with fewer multiplications.

   In one dimension, m neighbouring outputs of a 3-tap filter g over d (m + 2 inputs) are

       y = A' [ (G g) o (B' d) ]                                                                          (1)

   where o multiplies element by element: m + 2 multiplications instead of 3 m. It is Lagrange interpolation:
   inputs and filters are evaluated as polynomials in m + 1 points and "at infinity", multiplied there, and
   brought back. In two dimensions, for a tile of m x m outputs, an image d of (m + 2) x (m + 2) pixels and a
   3x3 filter g,

       Y = A' [ sum over channels (G g G') o (B' d B) ] A                                                  (2)

   (A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, equations 8 and 12).
   With m = 4 a tile needs 36 multiplications a channel and filter instead of 144, and for each of the 36
   points the sum over channels is a product of matrices, V = B' d B (tiles x channels) by U = G g G'
   (channels x filters):

       M[p][tile][filter] = sum over c  V[p][tile][c] U[p][c][filter]       p = 0 .. (m + 2)^2 - 1        (3)

   The gradient of the images is (2) over the filters turned by 180 degrees, channels and filters exchanged.
   The gradient of the filters comes from the same three matrices, because sum_p (G g)_p (B' d)_p (A y)_p is
   linear in each:

       dg = G' [ sum over tiles (B' d B) o (A dy A') ] G                                                  (4)

   Three sizes of tile are compiled. m = 4 needs 4 times fewer multiplications, m = 3 3.24 times, m = 2 2.25
   times. Which of them is least work depends on how the tiles cover the image: for 6x6 outputs, four tiles of
   3 x 3 take 100 products, and four of 4 x 4, partly empty, 144.

       winograd_points.h        the points and the one-dimensional transforms
       ../winograd_numbers.h    how a problem is cut; ../cost.h has the cost that decides m
       winograd_product.h       equation (3) and the sum of (4): the register-tiled products
       winograd_tiles.h         the two-dimensional transforms, between tiles of pixels and V, M
       winograd_filters.h       the filters' transform
       winograd_conv.h          forward and input gradient: plan and stages
       winograd_weight_grad.h   weight gradient: plan and stages
       winograd_1d.h            fewer multiplications along rows only: other kernels, and few channels
*/
#define WINOGRAD_CAT_(f, m) f##m
#define WINOGRAD_CAT(f, m)  WINOGRAD_CAT_(f, m)
#define TILED(f) NAME(WINOGRAD_CAT(f, TILE)) /* f with the suffix of tile, instruction set and precision */

#if defined(__clang__)
#define ROLLED _Pragma("nounroll")
#else
#define ROLLED _Pragma("GCC unroll 1")
#endif

#include "cost.h"
#include "winograd_numbers.h"
#undef PAD
#define PAD ((ptrdiff_t)(64 / sizeof(REAL))) /* one cache line */

#include "winograd_product.h"
#include "winograd_filters.h"
#include "guard/guard.h"
#include "guard/guard_sums.h"
#include "guard/guard_repair.h"
#include "guard/guard_windows.h"

static int NAME(winograd_can)(const plan *p, int what) {
    return winograd_fits(&p->g) && NAME(guard_can)(p, what, NAME(GUARD_NUMBERS));
}

#define TILE 2
#include "winograd_points.h"
#include "winograd_tiles.h"
#include "winograd_conv.h"
#include "winograd_weight_grad.h"
#undef TILE

#define TILE 3
#include "winograd_points.h"
#include "winograd_tiles.h"
#include "winograd_conv.h"
#include "winograd_weight_grad.h"
#undef TILE

#define TILE 4
#include "winograd_points.h"
#include "winograd_tiles.h"
#include "winograd_conv.h"
#include "winograd_weight_grad.h"
#undef TILE

#if HAS_ROWS
#include "winograd_1d/winograd_1d.h"
#endif
