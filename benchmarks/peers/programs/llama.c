/* llama-bench's three tests through the public C API of the llama.cpp libraries that npm
 * ships (node-llama-cpp), without the 8 ms a token that JavaScript would add:
 *
 *     cc -O2 llama.c -o llama $DIR/libllama.*.so $DIR/libggml.*.so -Wl,-rpath,$DIR
 *     ./llama $DIR model.gguf THREADS REPETITIONS TEST...     TEST is ppN or tgN
 *
 * A test is as llama-bench does it: a context of its own, one untimed run, and in every
 * repetition an empty cache; ppN decodes N random tokens in batches of up to 2048, tgN one
 * random token at a time. Prints one line of JSON a test: tokens/s, the median.
 *
 * The packages have no header, and the parameter structs change between releases. They go
 * by value, in memory, so a type that is larger than they are serves for all releases: the
 * library writes and reads its own part. Only the first three numbers of the
 * context's parameters are set, after a check that they hold the known defaults.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { uint64_t opaque[128]; } params;
typedef struct { uint64_t opaque[16]; } batch;

params llama_model_default_params(void);
params llama_context_default_params(void);
void *llama_model_load_from_file(const char *path, params p);
void *llama_init_from_model(void *model, params p);
void llama_free(void *ctx);
void llama_model_free(void *model);
void llama_set_n_threads(void *ctx, int32_t n, int32_t n_batch);
batch llama_batch_get_one(int32_t *tokens, int32_t n);
int32_t llama_decode(void *ctx, batch b);
void llama_synchronize(void *ctx);
void *llama_get_memory(const void *ctx);
void llama_memory_clear(void *memory, _Bool data);
const void *llama_model_get_vocab(const void *model);
int32_t llama_vocab_n_tokens(const void *vocab);
const char *llama_print_system_info(void);
void llama_backend_init(void);
void llama_log_set(void (*f)(int level, const char *text, void *data), void *data);
void ggml_backend_load_all_from_path(const char *dir);

static int verbose;

static void quiet(int level, const char *text, void *data)
{
	(void)data;
	if (verbose || level >= 4) /* errors */
		fputs(text, stderr);
}

static void fail(const char *what)
{
	fprintf(stderr, "llama: %s\n", what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int32_t n_vocab;

static void decode(void *ctx, int n)
{
	static int32_t tokens[2048];
	for (int i = 0; i < n; i++)
		tokens[i] = rand() % n_vocab;
	if (llama_decode(ctx, llama_batch_get_one(tokens, n)) != 0)
		fail("llama_decode failed");
	llama_synchronize(ctx);
}

static void run(void *ctx, int prompt, int n)
{
	llama_memory_clear(llama_get_memory(ctx), 0);
	for (int done = 0; done < n;) {
		int k = prompt ? (n - done < 2048 ? n - done : 2048) : 1;
		decode(ctx, k);
		done += k;
	}
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		fail("want DIR MODEL THREADS REPETITIONS TEST...");
	const char *dir = argv[1], *path = argv[2];
	int threads = atoi(argv[3]), reps = atoi(argv[4]);
	if (threads < 1 || reps < 1 || reps > 1000)
		fail("threads and repetitions must be positive");
	verbose = getenv("VERBOSE") != NULL;
	llama_log_set(quiet, NULL);
	ggml_backend_load_all_from_path(dir);
	llama_backend_init();
	void *model = llama_model_load_from_file(path, llama_model_default_params());
	if (!model)
		fail("the model does not load");
	n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
	fprintf(stderr, "%s\n", llama_print_system_info());
	for (int a = 5; a < argc; a++) {
		int prompt = strncmp(argv[a], "pp", 2) == 0, n = atoi(argv[a] + 2);
		if ((!prompt && strncmp(argv[a], "tg", 2) != 0) || n < 1)
			fail("a test is ppN or tgN");
		params p = llama_context_default_params();
		uint32_t *first = (uint32_t *)&p; /* n_ctx, n_batch, n_ubatch */
		if (first[0] != 512 || first[1] != 2048 || first[2] != 512)
			fail("llama_context_params does not begin with n_ctx, n_batch, n_ubatch as it used to");
		first[0] = n;
		void *ctx = llama_init_from_model(model, p);
		if (!ctx)
			fail("no context");
		llama_set_n_threads(ctx, threads, threads);
		double seconds[1000];
		run(ctx, prompt, prompt ? n : 1);
		for (int r = 0; r < reps; r++) {
			double start = now();
			run(ctx, prompt, n);
			seconds[r] = now() - start;
		}
		qsort(seconds, reps, sizeof *seconds, ascending);
		double median = (seconds[(reps - 1) / 2] + seconds[reps / 2]) / 2;
		printf("{\"test\":\"%s\",\"threads\":%d,\"value\":%.6g,\"unit\":\"tok/s\",\"best\":%.6g}\n", argv[a], threads, n / median, n / seconds[0]);
		fflush(stdout);
		llama_free(ctx);
	}
	llama_model_free(model);
	return 0;
}
