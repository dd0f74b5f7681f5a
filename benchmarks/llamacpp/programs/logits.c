/* Logits and token ids of llama.cpp through its public C API, for main.go:
 *
 *     cc -O2 logits.c -o logits $DIR/libllama.*.so $DIR/libggml.*.so -Wl,-rpath,$DIR
 *     ./logits $DIR model.gguf [adapter.gguf] < requests
 *
 * A request is a line. "logits ID ID …" feeds these tokens to an empty context and answers
 * with the float32 logits after every one of them, [n, V], little-endian. "tokenize N" is
 * followed by N bytes of text and answers with a line of ids, special tokens recognised and
 * added as the model's metadata say. The first line of output is V.
 *
 * Keys and values are kept as float32, and attention is computed without "flash", which rounds
 * to float16 on the way: guardcpu does neither. See benchmarks/peers/programs/llama.c on the
 * opaque structs: the fields are found by their default values.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint64_t opaque[128]; } params;
typedef struct {
	int32_t n_tokens;
	int32_t *token;
	float *embd;
	int32_t *pos, *n_seq_id;
	int32_t **seq_id;
	int8_t *logits;
} batch;

params llama_model_default_params(void);
params llama_context_default_params(void);
void *llama_model_load_from_file(const char *path, params p);
void *llama_init_from_model(void *model, params p);
void llama_set_n_threads(void *ctx, int32_t n, int32_t n_batch);
batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
int32_t llama_decode(void *ctx, batch b);
float *llama_get_logits(void *ctx);
void *llama_get_memory(const void *ctx);
void llama_memory_clear(void *memory, _Bool data);
const void *llama_model_get_vocab(const void *model);
int32_t llama_vocab_n_tokens(const void *vocab);
int32_t llama_tokenize(const void *vocab, const char *text, int32_t len, int32_t *tokens, int32_t max, _Bool add_special, _Bool parse_special);
void llama_backend_init(void);
void *llama_adapter_lora_init(void *model, const char *path);
int32_t llama_set_adapters_lora(void *ctx, void **adapters, size_t n, float *scales);
void llama_log_set(void (*f)(int level, const char *text, void *data), void *data);
void ggml_backend_load_all_from_path(const char *dir);

enum { most = 2048 };

static void quiet(int level, const char *text, void *data)
{
	(void)data;
	if (getenv("VERBOSE") || level == 4) /* errors */
		fputs(text, stderr);
}

static void fail(const char *what)
{
	fprintf(stderr, "logits: %s\n", what);
	exit(1);
}

/* The types of keys and values: two times GGML_TYPE_F16 = 1, between the two pointers of
 * cb_eval and the two of the abort callback, which are NULL. */
static int32_t *cache_types(params *p)
{
	int32_t *w = (int32_t *)p, *found = NULL;
	for (int i = 4; i + 6 <= 64; i += 2) {
		if (w[i] == 1 && w[i + 1] == 1 && !w[i - 4] && !w[i - 3] && !w[i - 2] && !w[i - 1] && !w[i + 2] && !w[i + 3] && !w[i + 4] && !w[i + 5]) {
			if (found)
				fail("the types of the cache are not to be found in llama_context_params");
			found = w + i;
		}
	}
	if (!found)
		fail("llama_context_params has no types of the cache where they are looked for");
	return found;
}

/* flash_attn_type: the last of four enums that are -1, unspecified or automatic. */
static int32_t *flash_attention(params *p)
{
	int32_t *w = (int32_t *)p;
	for (int i = 4; i < 32; i++)
		if (w[i] == -1 && w[i + 1] == -1 && w[i + 2] == -1 && w[i + 3] == -1 && w[i + 4] != -1)
			return w + i + 3;
	fail("llama_context_params has no flash_attn_type where it is looked for");
	return NULL;
}

int main(int argc, char **argv)
{
	static char line[1 << 16];
	static int32_t ids[most];
	if (argc != 3 && argc != 4)
		fail("want DIR MODEL and perhaps ADAPTER");
	llama_log_set(quiet, NULL);
	ggml_backend_load_all_from_path(argv[1]);
	llama_backend_init();
	void *model = llama_model_load_from_file(argv[2], llama_model_default_params());
	if (!model)
		fail("the model does not load");
	const void *vocab = llama_model_get_vocab(model);
	size_t n_vocab = llama_vocab_n_tokens(vocab);
	params p = llama_context_default_params();
	uint32_t *first = (uint32_t *)&p; /* n_ctx, n_batch, n_ubatch */
	if (first[0] != 512 || first[1] != 2048 || first[2] != 512)
		fail("llama_context_params does not begin with n_ctx, n_batch, n_ubatch as it used to");
	*flash_attention(&p) = 0; /* LLAMA_FLASH_ATTN_TYPE_DISABLED */
	int32_t *cache = cache_types(&p);
	cache[0] = cache[1] = 0; /* GGML_TYPE_F32 */
	void *ctx = llama_init_from_model(model, p);
	if (!ctx)
		fail("no context");
	llama_set_n_threads(ctx, 1, 1);
	if (argc == 4) {
		void *adapter = llama_adapter_lora_init(model, argv[3]);
		float scale = 1;
		if (!adapter)
			fail("the adapter does not load");
		if (llama_set_adapters_lora(ctx, &adapter, 1, &scale) != 0)
			fail("the adapter is not taken");
	}
	printf("%zu\n", n_vocab);
	batch b = llama_batch_init(most, 0, 1);
	while (fflush(stdout), fgets(line, sizeof line, stdin)) {
		if (strncmp(line, "tokenize ", 9) == 0) {
			int n = atoi(line + 9);
			if (n < 0 || n > (int)sizeof line || fread(line, 1, n, stdin) != (size_t)n)
				fail("the text is too long or ends early");
			int k = llama_tokenize(vocab, line, n, ids, most, 1, 1);
			if (k < 0)
				fail("too many tokens");
			for (int i = 0; i < k; i++)
				printf("%d%c", ids[i], i + 1 < k ? ' ' : '\n');
			if (k == 0)
				printf("\n");
		} else if (strncmp(line, "logits", 6) == 0) {
			int n = 0;
			for (char *s = line + 6, *end; n < most; s = end, n++) {
				long id = strtol(s, &end, 10);
				if (end == s)
					break;
				b.token[n] = id;
				b.pos[n] = n;
				b.n_seq_id[n] = 1;
				b.seq_id[n][0] = 0;
				b.logits[n] = 1;
			}
			b.n_tokens = n;
			llama_memory_clear(llama_get_memory(ctx), 1);
			if (n == 0 || llama_decode(ctx, b) != 0)
				fail("llama_decode failed");
			if (fwrite(llama_get_logits(ctx), sizeof(float) * n_vocab, n, stdout) != (size_t)n)
				fail("no reader");
		} else {
			fail("unknown request");
		}
	}
	return 0;
}
