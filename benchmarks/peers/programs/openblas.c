/* The three products of a layer by OpenBLAS, X [T,K], W [N,K], float32:
 *
 *     cc -O2 openblas.c -o openblas -lopenblas
 *     ./openblas MILLISECONDS T,T,… NxK NxK …
 *
 * One line of JSON a product: GFLOP/s, the median of the calls within the time. The
 * environment sets the threads (OMP_NUM_THREADS, OPENBLAS_NUM_THREADS).
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

char *openblas_get_config(void);
char *openblas_get_corename(void);

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static float *numbers(size_t n)
{
	float *x = malloc(n * sizeof *x);
	if (!x) {
		fputs("openblas: no memory\n", stderr);
		exit(1);
	}
	for (size_t i = 0; i < n; i++)
		x[i] = 0.01f * (float)(i % 17) - 0.08f;
	return x;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fputs("openblas: want MILLISECONDS T,T,... NxK...\n", stderr);
		return 1;
	}
	double budget = atof(argv[1]) / 1e3;
	fprintf(stderr, "%s, kernels for %s\n", openblas_get_config(), openblas_get_corename());
	for (int a = 3; a < argc; a++) {
		int n = 0, k = 0;
		if (sscanf(argv[a], "%dx%d", &n, &k) != 2 || n < 1 || k < 1)
			return 1;
		for (const char *s = argv[2]; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL) {
			int t = atoi(s);
			if (t < 1)
				return 1;
			float *x = numbers((size_t)t * k), *y = numbers((size_t)t * n), *w = numbers((size_t)n * k);
			for (int op = 0; op < 3; op++) {
				enum { most = 100000 };
				static double seconds[most];
				int count = -1; /* the first call is not timed */
				double begin = now();
				while (count < 1 || (now() - begin < budget && count < most)) {
					double start = now();
					if (op == 0) /* Y = X Wt */
						cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t, n, k, 1, x, k, w, k, 0, y, n);
					else if (op == 1) /* dX = dY W */
						cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t, k, n, 1, y, n, w, k, 0, x, k);
					else /* dW = dYt X */
						cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, t, 1, y, n, x, k, 0, w, k);
					if (count >= 0)
						seconds[count] = now() - start;
					else
						begin = now();
					count++;
				}
				qsort(seconds, count, sizeof *seconds, ascending);
				double median = (seconds[(count - 1) / 2] + seconds[count / 2]) / 2;
				printf("{\"name\":\"Matmul\",\"keys\":{\"op\":\"%s\",\"shape\":\"%dx%dx%d\",\"compute\":\"f32\"},\"value\":%.6g,\"unit\":\"GFLOP/s\"}\n",
				       (const char *[]){"Y", "dX", "dW"}[op], t, n, k, 2.0 * t * n * k / median / 1e9);
				fflush(stdout);
				/* Results are put back in range, so that no later product sees infinities. */
				free(x), free(y), free(w);
				x = numbers((size_t)t * k), y = numbers((size_t)t * n), w = numbers((size_t)n * k);
			}
			free(x), free(y), free(w);
		}
	}
	return 0;
}
