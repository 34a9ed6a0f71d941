/* A CUDA driver without a GPU, for tests: device memory is host memory, streams run at once, a
 * capturing stream records and a launched graph replays. The real bindings run against it.
 *
 *   STANDIN_DEVICES  number of GPUs, 1 by default
 *   STANDIN_MULTIPROCESSORS  of each GPU, 16 by default
 *   STANDIN_MEMORY   bytes of each GPU, 1 GiB by default
 *   STANDIN_FAIL     cuMemAlloc=2@3: the third call returns 2; codes from 700 on stay, as on a GPU
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_FOUND = 500 };
enum { UNJOINED = 901, UNKNOWN_FUNCTION = 1, NODES = 16, NAMES = 64, STACK = 32, GPUS = 8 };
enum { MULTIPROCESSORS = 16, MAJOR = 75, MINOR = 76, FIRST_STICKY = 700, LAST_STICKY = 720 };

typedef struct { void *to; const void *from; size_t bytes; void (*call)(void); } Node;
typedef struct { int capturing, count; Node nodes[NODES]; } Stream;
typedef struct { int count; Node nodes[NODES]; } Graph;
typedef struct { int index; } Context;

static struct { char name[48]; int calls; } table[NAMES];
static int sticky, alive;
static Context contexts[GPUS];
static int retained[GPUS];
static size_t used[GPUS];
static __thread Context *stack[STACK];
static __thread int depth;

/* How often a function was called, and what is neither freed nor destroyed. */
int standin_calls(const char *name) {
    for (int i = 0; i < NAMES && table[i].name[0]; i++)
        if (!strcmp(table[i].name, name)) return table[i].calls;
    return 0;
}
int standin_alive(void) { return alive; }
void standin_reset(void) {
    memset(table, 0, sizeof table);
    sticky = 0;
}

static int begin(const char *name) {
    int i = 0;
    while (table[i].name[0] && strcmp(table[i].name, name)) i++;
    strcpy(table[i].name, name);
    table[i].calls++;
    if (sticky) return sticky;
    const char *fail = getenv("STANDIN_FAIL");
    size_t length = strlen(name);
    if (fail && !strncmp(fail, name, length) && fail[length] == '=') {
        int code = 0, call = 1;
        sscanf(fail + length + 1, "%d@%d", &code, &call);
        if (table[i].calls == call) {
            if (code >= FIRST_STICKY && code < LAST_STICKY) sticky = code;
            return code;
        }
    }
    return 0;
}
#define BEGIN() do { int code_ = begin(__func__); if (code_) return code_; } while (0)
#define BEGIN_IN_CONTEXT() do { BEGIN(); if (!depth) return INVALID_CONTEXT; } while (0)

static long setting(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}
static int devices(void) { return (int)setting("STANDIN_DEVICES", 1); }
static size_t memory(void) { return (size_t)setting("STANDIN_MEMORY", 1L << 30); }
static void run(const Node *node) {
    if (node->call) node->call();
    else memcpy(node->to, node->from, node->bytes);
}
static int enqueue(Stream *stream, Node node) {
    if (stream->capturing) stream->nodes[stream->count++] = node;
    else run(&node);
    return 0;
}

/* What a runtime such as TensorRT puts into a stream. */
int standin_enqueue(Stream *stream, void (*call)(void)) {
    BEGIN_IN_CONTEXT();
    return enqueue(stream, (Node){.call = call});
}

int cuInit(unsigned flags) {
    BEGIN();
    (void)flags;
    return devices() ? 0 : NO_DEVICE;
}
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { BEGIN(); *count = devices(); return 0; }
int cuDeviceGet(int *device, int index) {
    BEGIN();
    *device = index;
    return index < devices() ? 0 : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int length, int device) {
    BEGIN();
    snprintf(name, (size_t)length, "Stand-in %d", device);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN();
    (void)device;
    *value = attribute == MAJOR             ? 8
             : attribute == MINOR           ? 6
             : attribute == MULTIPROCESSORS ? (int)setting("STANDIN_MULTIPROCESSORS", 16)
                                            : 0;
    return 0;
}
int cuGetErrorName(int code, const char **name) {
    *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OTHER";
    return 0;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == OUT_OF_MEMORY ? "out of memory"
            : code == 700         ? "an illegal memory access was encountered"
                                  : "stand-in error";
    return 0;
}
int cuDevicePrimaryCtxRetain(Context **context, int device) {
    BEGIN();
    contexts[device].index = device;
    *context = &contexts[device];
    if (!retained[device]++) alive++;
    return 0;
}
int cuDevicePrimaryCtxRelease(int device) {
    if (!--retained[device]) alive--;
    BEGIN();
    return 0;
}
int cuCtxPushCurrent(Context *context) { BEGIN(); stack[depth++] = context; return 0; }
int cuCtxPopCurrent(Context **context) {
    if (!depth) return INVALID_CONTEXT;
    *context = stack[--depth];
    BEGIN();
    return 0;
}
int cuCtxGetCurrent(Context **context) { *context = depth ? stack[depth - 1] : NULL; return 0; }
int cuCtxGetDevice(int *device) {
    BEGIN_IN_CONTEXT();
    *device = stack[depth - 1]->index;
    return 0;
}
int cuMemGetInfo(size_t *available, size_t *total) {
    BEGIN_IN_CONTEXT();
    *total = memory();
    *available = *total - used[stack[depth - 1]->index];
    return 0;
}
/* The size stands before the memory, and the GPU that it belongs to. */
int cuMemAlloc(uintptr_t *address, size_t bytes) {
    BEGIN_IN_CONTEXT();
    int index = stack[depth - 1]->index;
    if (used[index] + bytes > memory()) return OUT_OF_MEMORY;
    size_t *block = malloc(bytes + 2 * sizeof(size_t));
    block[0] = bytes;
    block[1] = (size_t)index;
    used[index] += bytes;
    alive++;
    *address = (uintptr_t)(block + 2);
    return 0;
}
int cuMemFree(uintptr_t address) {
    BEGIN_IN_CONTEXT();
    size_t *block = (size_t *)address - 2;
    used[block[1]] -= block[0];
    alive--;
    free(block);
    return 0;
}
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    BEGIN_IN_CONTEXT();
    (void)flags;
    *address = malloc(bytes);
    alive++;
    return 0;
}
int cuMemFreeHost(void *address) { BEGIN_IN_CONTEXT(); free(address); alive--; return 0; }
int cuStreamCreate(Stream **stream, unsigned flags) {
    BEGIN_IN_CONTEXT();
    (void)flags;
    *stream = calloc(1, sizeof **stream);
    alive++;
    return 0;
}
int cuStreamDestroy(Stream *stream) { BEGIN_IN_CONTEXT(); free(stream); alive--; return 0; }
int cuStreamSynchronize(Stream *stream) { BEGIN_IN_CONTEXT(); (void)stream; return 0; }
int cuMemcpyHtoDAsync(uintptr_t to, const void *from, size_t bytes, Stream *stream) {
    BEGIN_IN_CONTEXT();
    return enqueue(stream, (Node){(void *)to, from, bytes, NULL});
}
int cuMemcpyDtoHAsync(void *to, uintptr_t from, size_t bytes, Stream *stream) {
    BEGIN_IN_CONTEXT();
    return enqueue(stream, (Node){to, (const void *)from, bytes, NULL});
}
int cuStreamBeginCapture(Stream *stream, int mode) {
    BEGIN_IN_CONTEXT();
    (void)mode;
    stream->capturing = 1;
    stream->count = 0;
    return 0;
}
int cuStreamEndCapture(Stream *stream, Graph **graph) {
    if (!stream->capturing) return UNJOINED;
    stream->capturing = 0;
    *graph = NULL;
    BEGIN_IN_CONTEXT();
    *graph = malloc(sizeof **graph);
    (*graph)->count = stream->count;
    memcpy((*graph)->nodes, stream->nodes, sizeof stream->nodes);
    alive++;
    return 0;
}
int cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long flags) {
    BEGIN_IN_CONTEXT();
    (void)flags;
    *executable = malloc(sizeof **executable);
    **executable = *graph;
    alive++;
    return 0;
}
int cuGraphLaunch(const Graph *graph, Stream *stream) {
    BEGIN_IN_CONTEXT();
    (void)stream;
    for (int i = 0; i < graph->count; i++) run(&graph->nodes[i]);
    return 0;
}
int cuGraphDestroy(Graph *graph) { BEGIN_IN_CONTEXT(); free(graph); alive--; return 0; }
int cuGraphExecDestroy(Graph *graph) { BEGIN_IN_CONTEXT(); free(graph); alive--; return 0; }

int cuGetProcAddress_v2(
    const char *symbol, void **function, int version, uint64_t flags, int *status
) {
    (void)version, (void)flags;
    if (!strcmp(symbol, "cuGraphInstantiate")) symbol = "cuGraphInstantiateWithFlags";
    *function = dlsym(RTLD_DEFAULT, symbol);
    if (!*function) {
        void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        if (self) *function = dlsym(self, symbol);
    }
    if (!strcmp(symbol, "cuGetProcAddress")) *function = (void *)cuGetProcAddress_v2;
    if (status) *status = *function ? 0 : UNKNOWN_FUNCTION;
    return *function ? 0 : NOT_FOUND;
}
