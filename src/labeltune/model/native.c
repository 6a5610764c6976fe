/* Attention over rows with shared beginnings, GELU in its tanh form, linear layers, and decoder layers as a whole, in
   float32 on processors.

   Attention holds a row's keys and values of one head in a small piece of memory, where a processor's caches keep them,
   and all that is done with them happens there: rotary embedding, scores, softmax, and the gradients of all three.

   Products are computed in panels of a few columns. A panel of the second matrix is laid out where a processor's first
   cache keeps it, and all rows of the first pass by (Goto and van de Geijn 2008, doi 10.1145/1356052.1356053). */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
#define TILE 4 /* divides LANES */
#define TALLEST 6
/* loops over so many numbers need no rest that is done one by one; what lies beyond n counts nothing */
#define PADDED(n) (((n) + 2 * LANES - 1) / (2 * LANES) * (2 * LANES))

#define INLINED static inline __attribute__((always_inline)) /* so that constant sizes are known inside */

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

static inline int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

/* Rows of tokens, and of each the queries that are asked. */
typedef struct {
    int32_t rows;
    int32_t longest;       /* tokens or queries of one row, at most */
    int32_t all;           /* tokens there are, padding included */
    int32_t everywhere;    /* whether each of them is in a row */
    const int32_t *starts; /* (rows + 1) where each row begins among `tokens` */
    const int32_t *tokens; /* places of the rows' tokens among keys and values */
    const int32_t *known;  /* (rows + 1) the tokens at rows' beginnings that belong to others, counted up to each row */
    const int32_t *asked;  /* (rows + 1) where each row begins among `places` and `seen` */
    const int32_t *places; /* where queries stand among all queries, and their outputs among all outputs */
    const int32_t *seen;   /* so many tokens of its row a query sees, the last of which asks it; ascending in a row */
} Rows;

typedef struct {
    int32_t heads, kv_heads;
    int32_t size;   /* numbers of a head */
    int32_t turned; /* so many of them, the first ones, are turned by rotary embedding, halves paired */
    float scale;    /* of the product of queries and keys */
    const float *cosines, *sines; /* (tokens, turned) */
} Heads;

/* Queries (queries, heads, size), keys and values (tokens, kv_heads, size), or their gradients. */
typedef struct {
    float *q, *k, *v;
    int64_t q_step, kv_step; /* numbers from one query to the next, from one token to the next */
} Parts;

/* Of what lies together: keys and values and, where queries are not given apart, queries before them. */
static Parts parts_of(const Heads *heads, float *together, float *queries) {
    int64_t own = (int64_t)heads->heads * heads->size, each = (int64_t)heads->kv_heads * heads->size;
    if (queries) return (Parts){queries, together, together + each, own, 2 * each};
    return (Parts){together, together + own, together + own + each, own + 2 * each, own + 2 * each};
}

/* e^x as 2^n e^r, with |r| <= ln 2 / 2 and e^r by its series; not a number stays so */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts */
    float sum = 1.0f / 5040;
    sum = sum * r + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 1.0f / 2;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    union { int32_t bits; float value; } power = {.bits = ((int32_t)n + 127) << 23};
    return sum * power.value;
}

/* GELU's tanh form is x sigmoid(z), z = LINEAR x + CUBIC x^3 */
#define LINEAR 1.5957691216057308f
#define CUBIC 0.0713548162726009f
#define CHUNK 4096

static inline float gelu_value(float x) { return x / (1.0f + exponential(-x * (LINEAR + CUBIC * x * x))); }

static inline float gelu_slope(float x) {
    float square = x * x, sigmoid = 1.0f / (1.0f + exponential(-x * (LINEAR + CUBIC * square)));
    return sigmoid + x * sigmoid * (1.0f - sigmoid) * (LINEAR + 3 * CUBIC * square);
}

void gelu(const float *restrict x, float *restrict y, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < count; start += CHUNK) {
        int64_t end = start + CHUNK < count ? start + CHUNK : count;
        for (int64_t i = start; i < end; i++) y[i] = gelu_value(x[i]);
    }
}

void gelu_backward(const float *restrict x, const float *restrict d_y, float *restrict d_x, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < count; start += CHUNK) {
        int64_t end = start + CHUNK < count ? start + CHUNK : count;
        for (int64_t i = start; i < end; i++) d_x[i] = d_y[i] * gelu_slope(x[i]);
    }
}

/* One head of one token turned; into other memory. */
static inline void turn(const Heads *heads, int64_t token, const float *restrict x, float *restrict y) {
    const float *cos = heads->cosines + token * heads->turned, *sin = heads->sines + token * heads->turned;
    int half = heads->turned / 2;
    for (int i = 0; i < half; i++) y[i] = x[i] * cos[i] - x[i + half] * sin[i];
    for (int i = half; i < 2 * half; i++) y[i] = x[i] * cos[i] + x[i - half] * sin[i];
    for (int i = 2 * half; i < heads->size; i++) y[i] = x[i];
}

/* The gradient of what was turned, given that of the result. */
static inline void turn_back(const Heads *heads, int64_t token, const float *restrict d_y, float *restrict d_x) {
    const float *cos = heads->cosines + token * heads->turned, *sin = heads->sines + token * heads->turned;
    int half = heads->turned / 2;
    for (int i = 0; i < half; i++) d_x[i] = d_y[i] * cos[i] + d_y[i + half] * sin[i + half];
    for (int i = half; i < 2 * half; i++) d_x[i] = d_y[i] * cos[i] - d_y[i - half] * sin[i - half];
    for (int i = 2 * half; i < heads->size; i++) d_x[i] = d_y[i];
}

/* c (height, width) = [c +] a b, for at most TALLEST rows and a width that PADDED gives; a is (height, depth), or its
   transpose where a_down is 1. */
INLINED void multiply_tile(
    const float *a, int64_t a_down, int64_t a_right, const float *b, int64_t b_step, float *c, int64_t c_step,
    int height, int depth, int width, int add) {
    for (int j = 0; j < width; j += 2 * LANES) {
        Lanes sums[TALLEST][2] = {0};
        for (int l = 0; l < depth; l++) {
            Lanes left = *(const Lanes *)(b + l * b_step + j), right = *(const Lanes *)(b + l * b_step + j + LANES);
            for (int i = 0; i < height; i++) {
                float factor = a[i * a_down + l * a_right];
                sums[i][0] += factor * left;
                sums[i][1] += factor * right;
            }
        }
        for (int i = 0; i < height; i++)
            for (int side = 0; side < 2; side++) { /* c is read last: the sums need not wait for it */
                Lanes *to = (Lanes *)(c + i * c_step + j + side * LANES);
                *to = add ? *to + sums[i][side] : sums[i][side];
            }
    }
}

static void multiply(const float *a, int64_t a_down, int64_t a_right, const float *b, int64_t b_step, float *c,
                     int64_t c_step, int height, int depth, int width, int add) {
    switch (height) { /* so that each height is a loop that the compiler unrolls */
        case 6: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 6, depth, width, add); break;
        case 5: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 5, depth, width, add); break;
        case 4: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 4, depth, width, add); break;
        case 3: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 3, depth, width, add); break;
        case 2: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 2, depth, width, add); break;
        case 1: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 1, depth, width, add); break;
    }
}

/* c (height, width) = a b, to which `bias` (width) and what c holds may be added. Numbers of b's rows or of its columns
   lie side by side; those of c's rows do where there is a bias or GELU. */
typedef struct {
    float *c;
    const float *a, *b, *bias;
    float *gelu_of;        /* GELU of c is written there, or */
    const float *gelu_at;  /* c is multiplied with GELU's slope there; both are laid out as c is */
    int64_t height, width, depth;
    /* numbers from one row to the next, from one column to the next */
    int64_t c_down, c_right, a_down, a_right, b_down, b_right;
    int add;               /* whether c holds something already */
} Product;

#define PANEL (2 * LANES)
#define DEPTH 256
#define BLOCK 480

/* (height, width) from one piece of memory to another. */
INLINED void copy(int height, int width, const float *restrict from, int64_t from_down, int64_t from_right,
                  float *restrict to, int64_t to_down, int64_t to_right) {
    for (int i = 0; i < height; i++) {
        float *restrict to_row = to + i * to_down;
        const float *restrict from_row = from + i * from_down;
        if (width == PANEL && from_right == 1 && to_right == 1)
            for (int side = 0; side < PANEL; side += LANES)
                *(Lanes *)(to_row + side) = *(const Lanes *)(from_row + side);
        else
            for (int j = 0; j < width; j++) to_row[j * to_right] = from_row[j * from_right];
    }
}

/* LANES rows of as many numbers to a panel, as columns. */
INLINED void transpose(const float *from, int64_t from_down, float *to) {
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
    Lanes rows[LANES], mixed[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = *(const Lanes *)(from + i * from_down);
    for (int round = 1; round < LANES; round *= 2) { /* as one shuffles two halves of a pack of cards: three times */
        for (int i = 0; i < LANES / 2; i++) {
            mixed[2 * i] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], 0, 8, 1, 9, 2, 10, 3, 11);
            mixed[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        memcpy(rows, mixed, sizeof(rows));
    }
    for (int i = 0; i < LANES; i++) *(Lanes *)(to + i * PANEL) = rows[i];
#else
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) to[j * PANEL + i] = from[i * from_down + j];
#endif
}

/* Rows k to k + depth of `width` columns of b as (depth, PANEL), the rest zeros. */
INLINED void lay_out_panel(const Product *of, int64_t column, int64_t k, int width, int depth, float *restrict panel) {
    const float *b = of->b + k * of->b_down + column * of->b_right;
    if (width < PANEL) memset(panel, 0, depth * PANEL * sizeof(float));
    if (of->b_right == 1) {
        copy(depth, width, b, of->b_down, 1, panel, PANEL, 1);
        return;
    }
    int whole = depth / LANES * LANES;
    for (int l = 0; l < whole; l += LANES) { /* in blocks, so that every piece of memory is read and written once */
        int j = 0;
        for (; j + LANES <= width; j += LANES) transpose(b + j * of->b_right + l, of->b_right, panel + l * PANEL + j);
        for (; j < width; j++)
            for (int lane = 0; lane < LANES; lane++) panel[(l + lane) * PANEL + j] = b[j * of->b_right + l + lane];
    }
    for (int l = whole; l < depth; l++)
        for (int j = 0; j < width; j++) panel[l * PANEL + j] = b[j * of->b_right + l];
}

/* GELU of a tile of c, or c times its slope, when it is computed. On its own, so that compilers see loops of unknown
   length, which they turn into vectors. */
static __attribute__((noinline)) void finish_tile(const Product *of, int64_t row, int64_t column, int height,
                                                  int width) {
    for (int64_t i = row; i < row + height; i++) {
        float *restrict c = of->c + i * of->c_down + column;
        const float *restrict x = of->gelu_at + i * of->c_down + column;
        float *restrict y = of->gelu_of + i * of->c_down + column;
        if (of->gelu_of)
            for (int j = 0; j < width; j++) y[j] = gelu_value(c[j]);
        else
            for (int j = 0; j < width; j++) c[j] *= gelu_slope(x[j]);
    }
}

/* Puts the bias into a tile of c, or adds it to what is there. */
INLINED void begin_with_bias(const float *bias, int add, float *c, int64_t c_down, int height, int width) {
    for (int i = 0; i < height; i++, c += c_down) {
        if (width == PANEL)
            for (int side = 0; side < PANEL; side += LANES) {
                Lanes *to = (Lanes *)(c + side), more = *(const Lanes *)(bias + side);
                *to = add ? *to + more : more;
            }
        else
            for (int j = 0; j < width; j++) c[j] = add ? c[j] + bias[j] : bias[j];
    }
}

/* `width` columns of c's rows from `top` to `bottom`. */
INLINED void multiply_panel(const Product *of, int64_t column, int64_t top, int64_t bottom, int width) {
    float panel[DEPTH * PANEL] __attribute__((aligned(64))), at_edge[TALLEST * PANEL];
    int finishes = of->gelu_of || of->gelu_at;
    for (int64_t k = 0; k < of->depth; k += DEPTH) {
        int depth = (int)smaller(DEPTH, of->depth - k);
        lay_out_panel(of, column, k, width, depth, panel);
        for (int64_t i = top; i < bottom; i += TALLEST) {
            int height = (int)smaller(TALLEST, bottom - i), add = k > 0 || of->add || of->bias;
            float *c = of->c + i * of->c_down + column * of->c_right;
            if (!k && of->bias) begin_with_bias(of->bias + column, of->add, c, of->c_down, height, width);
            const float *a = of->a + i * of->a_down + k * of->a_right;
            if (width == PANEL && height == TALLEST && of->c_right == 1) {
                multiply_tile(a, of->a_down, of->a_right, panel, PANEL, c, of->c_down, TALLEST, depth, PANEL, add);
            } else {
                if (add) copy(height, width, c, of->c_down, of->c_right, at_edge, PANEL, 1);
                multiply(a, of->a_down, of->a_right, panel, PANEL, at_edge, PANEL, height, depth, PANEL, add);
                copy(height, width, at_edge, PANEL, 1, c, of->c_down, of->c_right);
            }
            if (finishes && k + DEPTH >= of->depth) finish_tile(of, i, column, height, width);
        }
    }
}

/* Whether products here take less time than Intel's library, which torch multiplies with. */
int multiplies_faster(void) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    __builtin_cpu_init();
    return __builtin_cpu_is("amd") != 0;
#else
    return 0;
#endif
}

/* One product, shared out among the threads that come here; they do not wait for each other. Each number is computed by
   one thread, in an order that does not depend on how many there are. */
static void multiply_together(const Product *of) {
    int64_t panels = (of->width + PANEL - 1) / PANEL, threads = omp_get_num_threads();
    /* where panels are few, each is for several threads; rows of a block stay in a processor's second cache */
    int64_t parts = (threads + panels - 1) / panels, blocks = (of->height + BLOCK - 1) / BLOCK;
    if (parts < blocks) parts = blocks;
    int64_t rows = ((of->height + parts - 1) / parts + TALLEST - 1) / TALLEST * TALLEST;
#pragma omp for schedule(guided) nowait
    for (int64_t task = 0; task < panels * parts; task++) {
        int64_t column = task % panels * PANEL, top = task / panels * rows, bottom = smaller(top + rows, of->height);
        if (column + PANEL <= of->width)
            multiply_panel(of, column, top, bottom, PANEL);
        else
            multiply_panel(of, column, top, bottom, (int)(of->width - column));
    }
}

/* One layer's LoRA update: its B matrix (outputs, rank), and where its outputs and ranks begin among the group's. */
typedef struct {
    const float *b;
    int64_t outputs, rank, column, first_rank;
} Update;

/* Linear layers that read the same input: one frozen matrix (outputs, inputs), A matrices (ranks, inputs). */
typedef struct {
    const float *weight, *bias, *a;
    int64_t inputs, outputs, ranks;
    int64_t count;
    const Update *updates;
} Group;

/* y = [y +] x W^T + bias + u B^T with u = updated A^T, for `rows` rows. */
typedef struct {
    const Group *group;
    int64_t rows;
    const float *x, *updated; /* what the updates read differs from x under dropout */
    float *y, *u, *gelu_of;
    int64_t add;
} Ahead;

/* The gradients: du = dy B, dx = dy W + du A, dA = du^T updated, dB = dy^T u. */
typedef struct {
    const Group *group;
    int64_t rows;
    const float *dy, *updated, *u, *gelu_at;
    float *dx, *du; /* dx NULL where it is of no use */
    float *d_weights; /* dA, then each dB */
    int64_t through; /* whether dx gets the updates' part */
} Back;

/* c = [c +] a B for `height` rows of a, B being (outputs, inputs), or c = [c +] a B^T where `transposed` is 1 */
static Product by_rows(const float *a, int64_t a_down, int64_t height, const float *b, int64_t outputs, int64_t inputs,
                       int transposed, float *c, int64_t c_down, int add) {
    return (Product){.c = c, .a = a, .b = b, .height = height, .width = transposed ? outputs : inputs,
                     .depth = transposed ? inputs : outputs, .c_down = c_down, .c_right = 1, .a_down = a_down,
                     .a_right = 1, .b_down = transposed ? 1 : inputs, .b_right = transposed ? inputs : 1, .add = add};
}

void compute_ahead(const Ahead *passes, int64_t count) {
#pragma omp parallel
    {
        for (const Ahead *pass = passes; pass < passes + count; pass++) {
            const Group *of = pass->group;
            Product whole = by_rows(pass->x, of->inputs, pass->rows, of->weight, of->outputs, of->inputs, 1, pass->y,
                                    of->outputs, (int)pass->add);
            whole.bias = of->bias;
            whole.gelu_of = of->count ? NULL : pass->gelu_of;
            multiply_together(&whole);
            if (!of->count) continue;
            Product inner = by_rows(pass->updated, of->inputs, pass->rows, of->a, of->ranks, of->inputs, 1, pass->u,
                                    of->ranks, 0);
            multiply_together(&inner);
        }
#pragma omp barrier
        for (const Ahead *pass = passes; pass < passes + count; pass++)
            for (int64_t i = 0; i < pass->group->count; i++) {
                const Group *of = pass->group;
                const Update *update = of->updates + i;
                Product outer = by_rows(pass->u + update->first_rank, of->ranks, pass->rows, update->b,
                                        update->outputs, update->rank, 1, pass->y + update->column, of->outputs, 1);
                outer.gelu_of = pass->gelu_of ? pass->gelu_of + update->column : NULL;
                multiply_together(&outer);
            }
    }
}

void compute_back(const Back *passes, int64_t count) {
#pragma omp parallel
    {
        for (const Back *pass = passes; pass < passes + count; pass++) {
            const Group *of = pass->group;
            if (pass->dx) {
                Product whole = by_rows(pass->dy, of->outputs, pass->rows, of->weight, of->outputs, of->inputs, 0,
                                        pass->dx, of->inputs, 0);
                whole.gelu_at = of->count && pass->through ? NULL : pass->gelu_at;
                multiply_together(&whole);
            }
            for (const Update *update = of->updates; update < of->updates + of->count; update++) {
                Product inner = by_rows(pass->dy + update->column, of->outputs, pass->rows, update->b, update->outputs,
                                        update->rank, 0, pass->du + update->first_rank, of->ranks, 0);
                multiply_together(&inner);
            }
        }
#pragma omp barrier
        for (const Back *pass = passes; pass < passes + count; pass++) {
            const Group *of = pass->group;
            float *db = pass->d_weights + of->ranks * of->inputs;
            if (!of->count) continue;
            if (pass->dx && pass->through) {
                Product outer = by_rows(pass->du, of->ranks, pass->rows, of->a, of->ranks, of->inputs, 0, pass->dx,
                                        of->inputs, 1);
                outer.gelu_at = pass->gelu_at;
                multiply_together(&outer);
            }
            multiply_together(&(Product){.c = pass->d_weights, .a = pass->du, .b = pass->updated, .height = of->ranks,
                                         .width = of->inputs, .depth = pass->rows, .c_down = of->inputs, .c_right = 1,
                                         .a_down = 1, .a_right = of->ranks, .b_down = of->inputs, .b_right = 1});
            for (const Update *update = of->updates; update < of->updates + of->count; update++) {
                /* as its transpose: so dy is read along its rows */
                multiply_together(&(Product){.c = db, .a = pass->u + update->first_rank,
                                             .b = pass->dy + update->column, .height = update->rank,
                                             .width = update->outputs, .depth = pass->rows, .c_down = 1,
                                             .c_right = update->rank, .a_down = 1, .a_right = of->ranks,
                                             .b_down = of->outputs, .b_right = 1});
                db += update->outputs * update->rank;
            }
        }
    }
}

/* A row's keys, turned, as (tokens, size) and as (size, tokens); its values in those of both forms that are given. */
static void lay_out(const Rows *rows, const Heads *heads, const Parts *of, int row, int kv_head, float *plain_k,
                    float *columns_k, float *plain_v, float *columns_v) {
    int length = rows->starts[row + 1] - rows->starts[row], size = heads->size;
    int64_t across = PADDED(length), wide = PADDED(size);
    for (int t = 0; t < length; t++) {
        int64_t token = rows->tokens[rows->starts[row] + t];
        const float *v = of->v + token * of->kv_step + (int64_t)kv_head * size;
        turn(heads, token, of->k + token * of->kv_step + (int64_t)kv_head * size, plain_k + t * wide);
        for (int i = 0; i < size; i++) columns_k[i * across + t] = plain_k[t * wide + i];
        if (plain_v) memcpy(plain_v + t * wide, v, size * sizeof(float));
        if (columns_v)
            for (int i = 0; i < size; i++) columns_v[i * across + t] = v[i];
    }
}

/* Each thread keeps its buffer from call to call: to take it and give it back would scatter what the caller allocates.
   What lies in it is of no meaning, and what the padding of sizes makes of that is never read. */
static float *buffer_of(int64_t count) {
    static _Thread_local float *buffer;
    static _Thread_local int64_t room;
    if (room < count) {
        free(buffer);
        buffer = malloc(count * sizeof(float));
        room = buffer ? count : 0;
    }
    return buffer;
}

/* Output (asked, heads, size), zeros for tokens in no row, and the logarithm of each softmax's denominator (heads,
   asked). Returns 0, or 1 where memory ran out. */
int attend(const Rows *rows, const Heads *heads, float *together, float *queries, int64_t asked, float *restrict out,
           float *restrict denominators) {
    Parts parts = parts_of(heads, together, queries), *of = &parts;
    if (!rows->everywhere) memset(out, 0, asked * heads->heads * heads->size * sizeof(float));
    int group = heads->heads / heads->kv_heads, size = heads->size, failed = 0;
    int64_t longest = PADDED(rows->longest), wide = PADDED(size);
#pragma omp parallel
    {
        float *k = buffer_of(longest * 3 * wide + TILE * (longest + 2 * wide));
        float *columns = k + longest * wide, *v = columns + longest * wide, *scores = v + longest * wide;
        float *q = scores + TILE * longest, *sums = q + TILE * wide;
#pragma omp for schedule(dynamic) collapse(2)
        for (int row = 0; row < rows->rows; row++)
            for (int kv_head = 0; kv_head < heads->kv_heads; kv_head++) {
                if (!k) {
                    failed = 1;
                    continue;
                }
                const int32_t *tokens = rows->tokens + rows->starts[row];
                int across = PADDED(rows->starts[row + 1] - rows->starts[row]);
                lay_out(rows, heads, of, row, kv_head, k, columns, v, NULL);
                for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
                    for (int at = rows->asked[row]; at < rows->asked[row + 1]; at += TILE) {
                        int height = (int)smaller(TILE, rows->asked[row + 1] - at);
                        const int32_t *places = rows->places + at, *seen = rows->seen + at;
                        int depth = seen[height - 1], width = PADDED(depth);
                        for (int i = 0; i < height; i++)
                            turn(heads, tokens[seen[i] - 1], of->q + places[i] * of->q_step + (int64_t)head * size,
                                 q + i * wide);
                        multiply(q, wide, 1, columns, across, scores, longest, height, size, width, 0);
                        for (int i = 0; i < height; i++) {
                            float *row_scores = scores + i * longest, most = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : most)
                            for (int t = 0; t < width; t++) {
                                float score = t < seen[i] ? row_scores[t] : -INFINITY;
                                most = score > most ? score : most;
                            }
#pragma omp simd reduction(+ : sum)
                            for (int t = 0; t < width; t++) {
                                float weight = exponential((row_scores[t] - most) * heads->scale);
                                row_scores[t] = t < seen[i] ? weight : 0.0f;
                                sum += row_scores[t];
                            }
                            denominators[head * asked + places[i]] = most * heads->scale + logf(sum);
                            float share = 1.0f / sum;
                            for (int t = 0; t < width; t++) row_scores[t] *= share;
                        }
                        multiply(scores, longest, 1, v, wide, sums, wide, height, depth, wide, 0);
                        for (int i = 0; i < height; i++)
                            memcpy(out + ((int64_t)places[i] * heads->heads + head) * size, sums + i * wide,
                                   size * sizeof(float));
                    }
            }
    }
    return failed;
}

/* Gradients of what lies together, zeros for tokens in no row, and of queries given apart. `inherited` (known tokens of
   all rows, 2 kv_heads, size) is room for those of tokens that belong to other rows. Returns 0, or 1 where memory ran
   out. */
int attend_backward(const Rows *rows, const Heads *heads, float *together, float *queries, int64_t asked,
                    const float *restrict denominators, const float *restrict d_out, float *d_together,
                    float *d_queries, float *restrict inherited) {
    Parts parts = parts_of(heads, together, queries), d_parts = parts_of(heads, d_together, d_queries);
    const Parts *of = &parts, *d_of = &d_parts;
    if (!rows->everywhere) memset(d_together, 0, rows->all * d_of->kv_step * sizeof(float));
    int group = heads->heads / heads->kv_heads, size = heads->size, kv_heads = heads->kv_heads, failed = 0;
    int64_t longest = PADDED(rows->longest), wide = PADDED(size);
#pragma omp parallel
    {
        float *k = buffer_of(longest * 8 * wide + 2 * longest * longest);
        float *columns_k = k + longest * wide, *columns_v = columns_k + longest * wide;
        float *d_k = columns_v + longest * wide, *d_v = d_k + longest * wide;
        float *q = d_v + longest * wide, *d_q = q + longest * wide, *d_outs = d_q + longest * wide;
        float *weights = d_outs + longest * wide, *d_scores = weights + longest * longest;
#pragma omp for schedule(dynamic) collapse(2)
        for (int row = 0; row < rows->rows; row++)
            for (int kv_head = 0; kv_head < kv_heads; kv_head++) {
                if (!k) {
                    failed = 1;
                    continue;
                }
                const int32_t *tokens = rows->tokens + rows->starts[row];
                const int32_t *places = rows->places + rows->asked[row], *seen = rows->seen + rows->asked[row];
                int length = rows->starts[row + 1] - rows->starts[row], across = PADDED(length);
                int known = rows->known[row + 1] - rows->known[row];
                int many = rows->asked[row + 1] - rows->asked[row];
                lay_out(rows, heads, of, row, kv_head, k, columns_k, NULL, columns_v);
                memset(d_k, 0, length * wide * sizeof(float));
                memset(d_v, 0, length * wide * sizeof(float));
                for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
                    for (int at = 0; at < many; at += TILE) {
                        int height = (int)smaller(TILE, many - at);
                        int depth = seen[at + height - 1], width = PADDED(depth);
                        for (int i = at; i < at + height; i++) {
                            turn(heads, tokens[seen[i] - 1], of->q + places[i] * of->q_step + (int64_t)head * size,
                                 q + i * wide);
                            memcpy(d_outs + i * wide, d_out + ((int64_t)places[i] * heads->heads + head) * size,
                                   size * sizeof(float));
                        }
                        multiply(q + at * wide, wide, 1, columns_k, across, weights + at * longest, longest, height,
                                 size, width, 0);
                        multiply(d_outs + at * wide, wide, 1, columns_v, across, d_scores + at * longest, longest,
                                 height, size, width, 0);
                        for (int i = at; i < at + height; i++) {
                            float *row_weights = weights + i * longest, *row_d = d_scores + i * longest, mean = 0.0f;
                            float denominator = denominators[head * asked + places[i]];
#pragma omp simd reduction(+ : mean)
                            for (int t = 0; t < width; t++) {
                                float weight = exponential(row_weights[t] * heads->scale - denominator);
                                row_weights[t] = t < seen[i] ? weight : 0.0f;
                                row_d[t] = t < seen[i] ? row_d[t] : 0.0f;
                                mean += row_weights[t] * row_d[t];
                            }
                            for (int t = 0; t < width; t++)
                                row_d[t] = row_weights[t] * (row_d[t] - mean) * heads->scale;
                        }
                        multiply(d_scores + at * longest, longest, 1, k, wide, d_q + at * wide, wide, height, depth,
                                 wide, 0);
                        for (int i = at; i < at + height; i++)
                            turn_back(heads, tokens[seen[i] - 1], d_q + i * wide,
                                      d_of->q + places[i] * d_of->q_step + (int64_t)head * size);
                    }
                    for (int t = 0, first = 0; t < length; t += TILE) {
                        while (first < many && seen[first] <= t) first++; /* queries that see nothing from here on */
                        int height = (int)smaller(TILE, length - t), depth = many - first;
                        multiply(d_scores + first * longest + t, 1, longest, q + first * wide, wide, d_k + t * wide,
                                 wide, height, depth, wide, 1);
                        multiply(weights + first * longest + t, 1, longest, d_outs + first * wide, wide,
                                 d_v + t * wide, wide, height, depth, wide, 1);
                    }
                }
                for (int t = 0; t < length; t++) {
                    int64_t token = tokens[t], in_head = (int64_t)kv_head * size;
                    float *to_k = d_of->k + token * d_of->kv_step + in_head;
                    float *to_v = d_of->v + token * d_of->kv_step + in_head;
                    if (t < known) {
                        to_k = inherited + (int64_t)(rows->known[row] + t) * 2 * kv_heads * size + in_head;
                        to_v = to_k + (int64_t)kv_heads * size;
                    }
                    turn_back(heads, token, d_k + t * wide, to_k);
                    memcpy(to_v, d_v + t * wide, size * sizeof(float));
                }
            }
        /* in the order of rows, whichever thread does it: the same sums every time */
#pragma omp for schedule(static)
        for (int kv_head = 0; kv_head < 2 * kv_heads; kv_head++)
            for (int row = 0; row < rows->rows; row++)
                for (int t = 0; t < rows->known[row + 1] - rows->known[row]; t++) {
                    int64_t token = rows->tokens[rows->starts[row] + t], in_head = (int64_t)(kv_head % kv_heads) * size;
                    float *to = (kv_head < kv_heads ? d_of->k : d_of->v) + token * d_of->kv_step + in_head;
                    const float *from = inherited + ((int64_t)(rows->known[row] + t) * 2 * kv_heads + kv_head) * size;
                    for (int i = 0; i < size; i++) to[i] += from[i];
                }
    }
    return failed;
}

/* Layer norm of `count` rows, and each row's mean and one over its deviation. */
static void normalize(const float *restrict x, int64_t count, int64_t size, const float *weight, const float *bias,
                      float epsilon, float *restrict h, float *restrict means, float *restrict scales) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < count; row++) {
        const float *from = x + row * size;
        float *to = h + row * size, sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < size; i++) sum += from[i];
        float mean = sum / size;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < size; i++) squares += (from[i] - mean) * (from[i] - mean);
        float scale = 1.0f / sqrtf(squares / size + epsilon);
        for (int64_t i = 0; i < size; i++) to[i] = (from[i] - mean) * scale * weight[i] + bias[i];
        means[row] = mean;
        scales[row] = scale;
    }
}

/* The gradient of what was normalized, plus `more` where that is given. */
static void normalize_back(const float *restrict x, const float *restrict d_h, int64_t count, int64_t size,
                           const float *weight, const float *means, const float *scales, const float *more,
                           float *restrict d_x) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < count; row++) {
        const float *from = x + row * size, *d_from = d_h + row * size;
        float *to = d_x + row * size, mean = means[row], scale = scales[row], sum = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : sum, along)
        for (int64_t i = 0; i < size; i++) {
            float d = d_from[i] * weight[i];
            sum += d;
            along += d * (from[i] - mean) * scale;
        }
        sum /= size;
        along /= size;
        for (int64_t i = 0; i < size; i++) {
            float plus = more ? more[row * size + i] : 0.0f;
            to[i] = (d_from[i] * weight[i] - sum - (from[i] - mean) * scale * along) * scale + plus;
        }
    }
}

/* The rows at these places; all `count` as they are where none are named. */
static void gather(const float *restrict from, const int64_t *places, int64_t count, int64_t size, float *restrict to) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < count; row++)
        memcpy(to + row * size, from + (places ? places[row] : row) * size, size * sizeof(float));
}

/* Adds each row to the one at its place; of each place in the order of rows. */
static void scatter(const float *restrict from, const int64_t *places, int64_t count, int64_t size,
                    float *restrict to) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < size; start += PANEL)
        for (int64_t row = 0; row < count; row++)
            for (int64_t i = start; i < smaller(start + PANEL, size); i++)
                to[places[row] * size + i] += from[row * size + i];
}

/* x + attention(norm(x)) + down(GELU(up(norm(x)))) */
typedef struct {
    const Group *together; /* queries, keys and values; keys and values where queries have a group of their own */
    const Group *output, *up, *down;
    const Group *query; /* or NULL */
    const float *weight, *bias; /* the norm's */
    float epsilon;
} Layer;

/* A layer's work on x (tokens, hidden). */
typedef struct {
    const Layer *layer;
    const Rows *rows;
    const Heads *heads;
    int64_t tokens;
    int64_t distinct, asked;       /* 0 where all tokens are computed, and all are answered */
    const int64_t *first, *which;  /* (distinct) where each distinct one is first, (tokens) which of them each is */
    const int64_t *asking;         /* (asked) whose output is wanted */
    const float *x;
} Pass;

/* What the gradient needs of the work ahead. */
typedef struct {
    float *x, *h, *means, *scales, *together, *queries, *denominators, *attended, *up, *act;
    float *u[5]; /* of together, output, up, down, query */
} Kept;

static float *take(float **room, int64_t count) {
    float *taken = *room;
    *room += PADDED(count);
    return taken;
}

static int64_t computed(const Pass *pass) { return pass->distinct ? pass->distinct : pass->tokens; }
static int64_t answered(const Pass *pass) { return pass->asked ? pass->asked : pass->tokens; }
static int64_t in_mlp(const Pass *pass) { return pass->distinct ? pass->distinct : answered(pass); }

/* Numbers that `kept` takes; they begin at `room`. */
static int64_t lay_out_kept(const Pass *pass, float *room, Kept *kept) {
    const Layer *of = pass->layer;
    float *begin = room;
    int64_t hidden = of->together->inputs, heads = pass->heads->heads;
    kept->x = pass->distinct ? take(&room, computed(pass) * hidden) : NULL;
    kept->h = take(&room, computed(pass) * hidden);
    kept->means = take(&room, computed(pass));
    kept->scales = take(&room, computed(pass));
    kept->together = take(&room, pass->tokens * of->together->outputs);
    kept->queries = of->query ? take(&room, answered(pass) * of->query->outputs) : NULL;
    kept->denominators = take(&room, heads * answered(pass));
    kept->attended = take(&room, answered(pass) * of->output->inputs);
    kept->up = take(&room, in_mlp(pass) * of->up->outputs);
    kept->act = of->down->count ? take(&room, in_mlp(pass) * of->up->outputs) : NULL;
    kept->u[0] = take(&room, computed(pass) * of->together->ranks);
    kept->u[1] = take(&room, answered(pass) * of->output->ranks);
    kept->u[2] = take(&room, in_mlp(pass) * of->up->ranks);
    kept->u[3] = take(&room, in_mlp(pass) * of->down->ranks);
    kept->u[4] = of->query ? take(&room, answered(pass) * of->query->ranks) : NULL;
    return room - begin;
}

/* What the work ahead needs besides. */
typedef struct {
    float *at_answers, *together, *act, *once;
} Besides;

static int64_t lay_out_besides(const Pass *pass, float *room, Besides *besides) {
    const Layer *of = pass->layer;
    float *begin = room;
    int64_t hidden = of->together->inputs;
    besides->at_answers = pass->asked ? take(&room, answered(pass) * hidden) : NULL;
    besides->together = pass->distinct ? take(&room, computed(pass) * of->together->outputs) : NULL;
    besides->act = of->down->count ? NULL : take(&room, in_mlp(pass) * of->up->outputs);
    besides->once = pass->distinct ? take(&room, in_mlp(pass) * hidden) : NULL;
    return room - begin;
}

/* And what the gradient needs: gradients of what their names say, `once` and `together_once` where tokens are equal. */
typedef struct {
    float *u[5], *once, *attended, *up, *together, *queries, *inherited, *together_once, *at_answers;
    float *h, *h_mlp, *h_query;
} Gradients;

static int64_t lay_out_gradients(const Pass *pass, float *room, Gradients *d) {
    const Layer *of = pass->layer;
    const Group *groups[5] = {of->together, of->output, of->up, of->down, of->query};
    int64_t hidden = of->together->inputs, known = pass->rows->known[pass->rows->rows];
    int64_t work[5] = {computed(pass), answered(pass), in_mlp(pass), in_mlp(pass), answered(pass)};
    float *begin = room;
    for (int g = 0; g < 5; g++) d->u[g] = groups[g] ? take(&room, work[g] * groups[g]->ranks) : NULL;
    d->once = pass->distinct ? take(&room, in_mlp(pass) * hidden) : NULL;
    d->attended = take(&room, answered(pass) * of->output->inputs);
    d->up = take(&room, in_mlp(pass) * of->up->outputs);
    d->together = take(&room, pass->tokens * of->together->outputs);
    d->queries = of->query ? take(&room, answered(pass) * of->query->outputs) : NULL;
    d->inherited = take(&room, known * 2 * pass->heads->kv_heads * pass->heads->size);
    d->together_once = pass->distinct ? take(&room, computed(pass) * of->together->outputs) : NULL;
    d->at_answers = pass->asked ? take(&room, answered(pass) * hidden) : NULL;
    d->h = take(&room, computed(pass) * hidden);
    d->h_mlp = take(&room, in_mlp(pass) * hidden);
    d->h_query = of->query ? take(&room, answered(pass) * hidden) : NULL;
    return room - begin;
}

/* Numbers of memory that a pass keeps, and that it needs besides: ahead and back. */
void layer_room(const Pass *pass, int64_t *room) {
    Kept kept;
    Besides besides;
    Gradients gradients;
    room[0] = lay_out_kept(pass, NULL, &kept);
    room[1] = lay_out_besides(pass, NULL, &besides);
    room[2] = lay_out_gradients(pass, NULL, &gradients);
}

/* y (answered, hidden). Returns 0, or 1 where memory ran out. */
int layer_ahead(const Pass *pass, float *y, float *kept_room, float *room) {
    const Layer *of = pass->layer;
    int64_t hidden = of->together->inputs, computing = computed(pass), answering = answered(pass), mlp = in_mlp(pass);
    Kept kept;
    Besides besides;
    lay_out_kept(pass, kept_room, &kept);
    lay_out_besides(pass, room, &besides);
    const float *x = pass->x;
    if (pass->distinct) {
        gather(pass->x, pass->first, computing, hidden, kept.x);
        x = kept.x;
    }
    normalize(x, computing, hidden, of->weight, of->bias, of->epsilon, kept.h, kept.means, kept.scales);
    const float *h = pass->asked ? besides.at_answers : kept.h;
    if (pass->asked) gather(kept.h, pass->asking, answering, hidden, besides.at_answers);
    float *together = pass->distinct ? besides.together : kept.together;
    float *act = kept.act ? kept.act : besides.act;
    compute_ahead((Ahead[]){{of->together, computing, kept.h, kept.h, together, kept.u[0], NULL, 0},
                            {of->up, mlp, h, h, kept.up, kept.u[2], act, 0},
                            {of->query, answering, h, h, kept.queries, kept.u[4], NULL, 0}},
                  of->query ? 3 : 2);
    if (pass->distinct) gather(together, pass->which, pass->tokens, of->together->outputs, kept.together);
    if (attend(pass->rows, pass->heads, kept.together, kept.queries, answering, kept.attended, kept.denominators))
        return 1;
    gather(pass->x, pass->asking, answering, hidden, y);
    compute_ahead(&(Ahead){of->output, answering, kept.attended, kept.attended, y, kept.u[1], NULL, 1}, 1);
    if (!pass->distinct) {
        compute_ahead(&(Ahead){of->down, mlp, act, act, y, kept.u[3], NULL, 1}, 1);
        return 0;
    }
    compute_ahead(&(Ahead){of->down, mlp, act, act, besides.once, kept.u[3], NULL, 0}, 1);
#pragma omp parallel for schedule(static)
    for (int64_t token = 0; token < pass->tokens; token++)
        for (int64_t i = 0; i < hidden; i++) y[token * hidden + i] += besides.once[pass->which[token] * hidden + i];
    return 0;
}

/* The gradients of A and B matrices, in the order of Kept's groups; and of x, where d_x is not NULL.
   Returns 0, or 1 where memory ran out. */
int layer_back(const Pass *pass, const float *d_y, float *kept_room, float *d_x, float *d_weights, float *room) {
    const Layer *of = pass->layer;
    const Group *groups[5] = {of->together, of->output, of->up, of->down, of->query};
    int64_t hidden = of->together->inputs, computing = computed(pass), answering = answered(pass), mlp = in_mlp(pass);
    Kept kept;
    Gradients d;
    lay_out_kept(pass, kept_room, &kept);
    lay_out_gradients(pass, room, &d);
    float *dw[5];
    for (int g = 0; g < 5 && groups[g]; g++) {
        dw[g] = d_weights;
        d_weights += groups[g]->ranks * groups[g]->inputs;
        for (int64_t i = 0; i < groups[g]->count; i++)
            d_weights += groups[g]->updates[i].outputs * groups[g]->updates[i].rank;
    }
    int through_mlp = d_x || of->up->count || of->down->count;
    const float *d_mlp = pass->distinct ? d.once : d_y;
    if (pass->distinct && through_mlp) {
        memset(d.once, 0, mlp * hidden * sizeof(float));
        scatter(d_y, pass->which, pass->tokens, hidden, d.once);
    }
    compute_back((Back[]){{of->output, answering, d_y, kept.attended, kept.u[1], NULL, d.attended, d.u[1], dw[1], 1},
                          {of->down, mlp, d_mlp, kept.act, kept.u[3], kept.up, d.up, d.u[3], dw[3], 1}},
                 through_mlp ? 2 : 1);

    if (attend_backward(pass->rows, pass->heads, kept.together, kept.queries, answering, kept.denominators, d.attended,
                        d.together, d.queries, d.inherited))
        return 1;
    const float *d_together = pass->distinct ? d.together_once : d.together;
    if (pass->distinct) {
        memset(d.together_once, 0, computing * of->together->outputs * sizeof(float));
        scatter(d.together, pass->which, pass->tokens, of->together->outputs, d.together_once);
    }

    const float *h = pass->asked ? d.at_answers : kept.h;
    if (pass->asked) gather(kept.h, pass->asking, answering, hidden, d.at_answers);
    float *d_h = d_x ? d.h : NULL, *d_h_mlp = d_x ? d.h_mlp : NULL, *d_h_query = d_x ? d.h_query : NULL;
    Back backs[3] = {{of->together, computing, d_together, kept.h, kept.u[0], NULL, d_h, d.u[0], dw[0], 1}};
    int count = 1;
    if (through_mlp) backs[count++] = (Back){of->up, mlp, d.up, h, kept.u[2], NULL, d_h_mlp, d.u[2], dw[2], 1};
    if (of->query)
        backs[count++] = (Back){of->query, answering, d.queries, h, kept.u[4], NULL, d_h_query, d.u[4], dw[4], 1};
    compute_back(backs, count);
    if (!d_x) return 0;
    if (pass->asked) {
        scatter(d_h_mlp, pass->asking, answering, hidden, d_h);
        scatter(d_h_query, pass->asking, answering, hidden, d_h);
    } else {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < computing * hidden; i++) d_h[i] += d_h_mlp[i];
    }
    normalize_back(pass->x, d_h, computing, hidden, of->weight, kept.means, kept.scales, pass->asked ? NULL : d_y, d_x);
    if (pass->asked) scatter(d_y, pass->asking, answering, hidden, d_x);
    return 0;
}
