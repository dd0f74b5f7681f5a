// The three products of a layer by oneDNN, X [T,K], W [N,K], in float32 or bfloat16 with
// float32 sums:
//
//     c++ -O2 onednn.cpp -o onednn -ldnnl
//     ./onednn f32|bf16 plain|packed MILLISECONDS T,T,… NxK NxK …
//
// plain takes W as it lies; packed has it reordered beforehand into the layout that the
// library likes best, for Y and dX, which suits weights that do not change. One line of JSON a
// product: GFLOP/s, the median of the calls within the time. OMP_NUM_THREADS sets the threads.
#include <dnnl.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

using namespace dnnl;
using tag = memory::format_tag;
using type = memory::data_type;

static engine eng(engine::kind::cpu, 0);
static stream str(eng);

static double now()
{
	return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// numbers fills a plain matrix by way of float32.
static void numbers(memory &m, const memory::dims &d, tag t)
{
	memory f({d, type::f32, t}, eng);
	auto *x = static_cast<float *>(f.get_data_handle());
	for (memory::dim i = 0; i < d[0] * d[1]; i++)
		x[i] = 0.01f * float(i % 17) - 0.08f;
	reorder(f, m).execute(str, f, m);
	str.wait();
}

static void product(const char *op, long t, long n, long k, type dt, double budget, bool packed)
{
	memory::dims a, b, c;
	tag ta = tag::ab, tb = tag::ab;
	if (!strcmp(op, "Y"))
		a = {t, k}, b = {k, n}, c = {t, n}, tb = tag::ba;
	else if (!strcmp(op, "dX"))
		a = {t, n}, b = {n, k}, c = {t, k};
	else
		a = {n, t}, b = {t, k}, c = {n, k}, ta = tag::ba;
	packed = packed && strcmp(op, "dW"); // the gradient has no factor that stays
	matmul::primitive_desc pd({{a, dt, ta}, {b, dt, packed ? tag::any : tb}, {c, type::f32, tag::ab}}, eng);
	matmul p(pd);
	memory A({a, dt, ta}, eng), B(pd.weights_desc(), eng), C({c, type::f32, tag::ab}, eng);
	numbers(A, a, ta);
	numbers(B, b, tb);
	std::vector<double> seconds;
	double begin = now();
	for (int i = -1; i < 1 || now() - begin < budget; i++) { // the first call is not timed
		double start = now();
		p.execute(str, {{DNNL_ARG_SRC, A}, {DNNL_ARG_WEIGHTS, B}, {DNNL_ARG_DST, C}});
		str.wait();
		if (i >= 0)
			seconds.push_back(now() - start);
		else
			begin = now();
	}
	std::sort(seconds.begin(), seconds.end());
	size_t m = seconds.size();
	double median = (seconds[(m - 1) / 2] + seconds[m / 2]) / 2;
	printf("{\"name\":\"Matmul\",\"keys\":{\"op\":\"%s\",\"shape\":\"%ldx%ldx%ld\",\"compute\":\"%s\",\"packed\":\"%d\",\"impl\":\"%s\"},\"value\":%.6g,\"unit\":\"GFLOP/s\"}\n",
	       op, t, n, k, dt == type::f32 ? "f32" : "bf16", packed, pd.impl_info_str(), 2.0 * t * n * k / median / 1e9);
	fflush(stdout);
}

int main(int argc, char **argv)
try {
	if (argc < 6) {
		fputs("onednn: want f32|bf16 plain|packed MILLISECONDS T,T,... NxK...\n", stderr);
		return 1;
	}
	type dt = strcmp(argv[1], "bf16") ? type::f32 : type::bf16;
	bool packed = !strcmp(argv[2], "packed");
	double budget = atof(argv[3]) / 1e3;
	const version_t *v = dnnl::version();
	fprintf(stderr, "oneDNN %d.%d.%d\n", v->major, v->minor, v->patch);
	for (int i = 5; i < argc; i++) {
		long n = 0, k = 0;
		if (sscanf(argv[i], "%ldx%ld", &n, &k) != 2)
			return 1;
		for (const char *s = argv[4]; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : nullptr)
			for (const char *op : {"Y", "dX", "dW"})
				product(op, atol(s), n, k, dt, budget, packed);
	}
} catch (const dnnl::error &e) {
	fprintf(stderr, "onednn: %s\n", e.what());
	return 1;
}
