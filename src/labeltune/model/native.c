/* Attention over rows with shared beginnings, and GELU in its tanh form, in float32 on processors; with their gradients.

   Attention holds a row's keys and values of one head in a small piece of memory, where a processor's caches keep them,
   and all that is done with them happens there: rotary embedding, scores, softmax, and the gradients of all three. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
#define TILE 4
/* loops over so many numbers need no rest that is done one by one; what lies beyond n counts nothing */
#define PADDED(n) (((n) + 2 * LANES - 1) / (2 * LANES) * (2 * LANES))

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

/* Rows of tokens, and of each the queries that are asked. */
typedef struct {
    int32_t rows;
    int32_t longest;       /* tokens or queries of one row, at most */
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

void gelu(const float *restrict x, float *restrict y, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < count; start += CHUNK) {
        int64_t end = start + CHUNK < count ? start + CHUNK : count;
        for (int64_t i = start; i < end; i++)
            y[i] = x[i] / (1.0f + exponential(-x[i] * (LINEAR + CUBIC * x[i] * x[i])));
    }
}

void gelu_backward(const float *restrict x, const float *restrict d_y, float *restrict d_x, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < count; start += CHUNK) {
        int64_t end = start + CHUNK < count ? start + CHUNK : count;
        for (int64_t i = start; i < end; i++) {
            float square = x[i] * x[i];
            float sigmoid = 1.0f / (1.0f + exponential(-x[i] * (LINEAR + CUBIC * square)));
            float d_z = x[i] * sigmoid * (1.0f - sigmoid);
            d_x[i] = d_y[i] * (sigmoid + d_z * (LINEAR + 3 * CUBIC * square));
        }
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

/* c (height, width) = [c +] a b, for at most TILE rows and a width that PADDED gives; a is (height, depth), or its
   transpose where a_down is 1. */
static inline __attribute__((always_inline)) void multiply_tile(
    const float *a, int64_t a_down, int64_t a_right, const float *b, int64_t b_step, float *c, int64_t c_step,
    int height, int depth, int width, int add) {
    for (int j = 0; j < width; j += 2 * LANES) {
        Lanes sums[TILE][2];
        for (int i = 0; i < height; i++)
            for (int side = 0; side < 2; side++)
                sums[i][side] = add ? *(const Lanes *)(c + i * c_step + j + side * LANES) : (Lanes){0};
        for (int l = 0; l < depth; l++) {
            Lanes left = *(const Lanes *)(b + l * b_step + j), right = *(const Lanes *)(b + l * b_step + j + LANES);
            for (int i = 0; i < height; i++) {
                float factor = a[i * a_down + l * a_right];
                sums[i][0] += factor * left;
                sums[i][1] += factor * right;
            }
        }
        for (int i = 0; i < height; i++)
            for (int side = 0; side < 2; side++) *(Lanes *)(c + i * c_step + j + side * LANES) = sums[i][side];
    }
}

static void multiply(const float *a, int64_t a_down, int64_t a_right, const float *b, int64_t b_step, float *c,
                     int64_t c_step, int height, int depth, int width, int add) {
    switch (height) { /* so that each height is a loop that the compiler unrolls */
        case 4: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 4, depth, width, add); break;
        case 3: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 3, depth, width, add); break;
        case 2: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 2, depth, width, add); break;
        case 1: multiply_tile(a, a_down, a_right, b, b_step, c, c_step, 1, depth, width, add); break;
    }
}

static inline int at_most_tile(int left) { return left < TILE ? left : TILE; }

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

/* Output (queries, heads, size), and the logarithm of each softmax's denominator (heads, queries).
   Returns 0, or 1 where memory ran out. */
int attend(const Rows *rows, const Heads *heads, const Parts *of, int64_t queries, float *restrict out,
           float *restrict denominators) {
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
                        int height = at_most_tile(rows->asked[row + 1] - at);
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
                            denominators[head * queries + places[i]] = most * heads->scale + logf(sum);
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

/* Gradients of queries, keys and values. `inherited` (known tokens of all rows, 2 kv_heads, size) is room for those of
   tokens that belong to other rows. Returns 0, or 1 where memory ran out. */
int attend_backward(const Rows *rows, const Heads *heads, const Parts *of, int64_t queries,
                    const float *restrict denominators, const float *restrict d_out, const Parts *d_of,
                    float *restrict inherited) {
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
                        int height = at_most_tile(many - at), depth = seen[at + height - 1], width = PADDED(depth);
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
                            float denominator = denominators[head * queries + places[i]];
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
                        int height = at_most_tile(length - t), depth = many - first;
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
