/* A libcuda.so.1 for tests.  IT IS NO GPU: its memory is the host's, and a launch calls a function of the test's, or nobody.

It has the functions that cuda-core and fastsoftmax/cuda/package.py ask for, as NVIDIA's reference of the driver API
describes them (https://docs.nvidia.com/cuda/cuda-driver-api/), and writes down what they were asked.  Whatever else is
asked for is missing, and cuda-bindings then names it.

Streams are any handles; work on them is done at once.  Contexts are 1000 + the number of a device.
*/

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NO_CONTEXT = 201, NOT_FOUND = 500 };
enum { NOT_READY = 600, CAPTURE_UNSUPPORTED = 900, GLOBAL = 0, RELAXED = 2 };
enum { MOST_MEMORY = 1 << 26, BLOCKS = 4096 };

typedef unsigned long long u64;
typedef struct {
    unsigned grid[3], block[3], shared;
    void *stream, *attributes;
    unsigned attribute_count;
} Config;

/* What tests set and read: see c_driver.py. */
int standin_devices = 2, standin_fail = SUCCESS, standin_behind = 0, standin_capturing = 0;
void (*standin_run)(const char *, const Config *, void **) = NULL;
char standin_log[1 << 16];
static size_t logged = 0;

void standin_forget(void) { standin_log[logged = 0] = 0; }

static int noted(const char *format, ...) {
    va_list values;
    va_start(values, format);
    int most = (int)(sizeof standin_log - logged), n = vsnprintf(standin_log + logged, most, format, values);
    logged += n < most ? n : most - 1;
    va_end(values);
    int answer = standin_fail;
    standin_fail = SUCCESS;
    return answer;
}

/* The library as such. */

int cuInit(unsigned flags) { return standin_devices ? SUCCESS : NO_DEVICE; }

int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }

int cuGetProcAddress_v2(const char *name, void **found, int version, u64 flags, int *status) {
    static void *self = NULL;
    Dl_info mine, its;
    dladdr((void *)cuInit, &mine);
    if (!self) self = dlopen(mine.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *found = dlsym(self, name);
    if (*found && dladdr(*found, &its) && its.dli_fbase != mine.dli_fbase) *found = NULL;
    if (status) *status = *found ? 0 : 1;
    return *found ? SUCCESS : NOT_FOUND;
}

int cuGetErrorName(int error, const char **name) {
    return *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR", SUCCESS;
}

int cuGetErrorString(int error, const char **text) { return *text = "made up by the stand-in driver", SUCCESS; }

/* Devices: two H200s, as far as a plan can see. */

int cuDeviceGetCount(int *count) { return *count = standin_devices, SUCCESS; }

int cuDeviceGet(int *device, int number) { return *device = number, number < standin_devices ? SUCCESS : INVALID_VALUE; }

int cuDeviceGetName(char *name, int most, int device) { return snprintf(name, most, "NOT A GPU (stand-in driver)"), SUCCESS; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 16: *value = 132; break;    /* multiprocessors */
    case 75: *value = 9; break;      /* compute capability */
    case 76: *value = 0; break;
    case 97: *value = 232448; break; /* shared memory a block can opt in to */
    case 41:                         /* unified addresses */
    case 115:                        /* memory pools */
    case 120: *value = 1; break;     /* clusters */
    default: return noted("attribute %d\n", attribute), INVALID_VALUE;
    }
    return SUCCESS;
}

/* Contexts. */

static __thread intptr_t current = 0;

int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)(1000 + (intptr_t)device), SUCCESS; }
int cuDevicePrimaryCtxRelease(int device) { return SUCCESS; }
int cuCtxSetCurrent(void *context) { return current = (intptr_t)context, SUCCESS; }
int cuCtxGetCurrent(void **context) { return *context = (void *)current, SUCCESS; }
int cuCtxGetDevice(int *device) { return *device = (int)current - 1000, current ? SUCCESS : NO_CONTEXT; }

int cuCtxPushCurrent(void *context) { return cuCtxSetCurrent(context); }
int cuCtxPopCurrent(void **context) { return cuCtxGetCurrent(context); }

/* Memory. */

static struct {
    u64 address, size;
    int device;
} blocks[BLOCKS];
static int block_count = 0;

static int made(u64 *address, size_t size, const char *how, void *stream) {
    int answer = noted("%s %zu device %d stream %p\n", how, size, (int)current - 1000, stream);
    if (answer || size > MOST_MEMORY || block_count == BLOCKS) return answer ? answer : OUT_OF_MEMORY;
    *address = (u64)aligned_alloc(256, (size + 255) / 256 * 256);
    memset((void *)*address, 0xAA, size);
    blocks[block_count].address = *address, blocks[block_count].size = size;
    blocks[block_count++].device = (int)current - 1000;
    return SUCCESS;
}

static int holds(int i, u64 address) { return blocks[i].address <= address && address < blocks[i].address + blocks[i].size; }

int cuMemAlloc(u64 *address, size_t size) { return made(address, size, "reserved", NULL); }

int cuMemAllocFromPoolAsync(u64 *address, size_t size, void *pool, void *stream) {
    return made(address, size, "allocated", stream);
}

int cuMemFreeAsync(u64 address, void *stream) {
    noted("freed %#llx stream %p\n", address, stream);
    for (int i = 0; i < block_count; i++)
        if (blocks[i].address == address) return blocks[i] = blocks[--block_count], free((void *)address), SUCCESS;
    return INVALID_VALUE;
}

int cuPointerGetAttribute(void *value, int attribute, u64 address) {
    for (int i = 0; i < block_count && attribute == 9; i++) /* the device's number */
        if (holds(i, address)) return *(int *)value = blocks[i].device, SUCCESS;
    return INVALID_VALUE;
}

int cuDeviceGetMemPool(void **pool, int device) { return *pool = (void *)(2000 + (intptr_t)device), SUCCESS; }
int cuMemPoolGetAttribute(void *pool, int attribute, void *value) { return *(u64 *)value = 0, SUCCESS; }
int cuMemPoolSetAttribute(void *pool, int attribute, void *value) { return SUCCESS; }

int cuMemsetD8Async(u64 address, unsigned char value, size_t size, void *stream) {
    return memset((void *)address, value, size), noted("cleared %#llx %zu stream %p\n", address, size, stream);
}

int cuMemcpyDtoHAsync(void *to, u64 address, size_t size, void *stream) {
    return memcpy(to, (void *)address, size), noted("copied %#llx %zu stream %p\n", address, size, stream);
}

int cuMemcpyDtoDAsync(u64 to, u64 address, size_t size, void *stream) {
    return memcpy((void *)to, (void *)address, size), noted("moved %#llx %zu stream %p\n", to, size, stream);
}

/* Streams and events. */

static intptr_t events = 3000;

int cuStreamSynchronize(void *stream) { return noted("waited stream %p\n", stream); }
int cuStreamIsCapturing(void *stream, int *status) { return *status = standin_capturing, SUCCESS; }
int cuStreamGetCtx(void *stream, void **context) { return *context = (void *)current, SUCCESS; }
int cuEventCreate(void **event, unsigned flags) { return *event = (void *)++events, SUCCESS; }
int cuEventRecord(void *event, void *stream) { return noted("recorded %d stream %p\n", (int)(intptr_t)event, stream); }
int cuEventDestroy(void *event) { return SUCCESS; }

static __thread int mode = GLOBAL;

int cuThreadExchangeStreamCaptureMode(int *other) {
    int before = mode;
    return mode = *other, *other = before, SUCCESS;
}

int cuEventQuery(void *event) { /* which ends the captures of other threads, unless it is asked not to */
    if (mode != RELAXED) return CAPTURE_UNSUPPORTED;
    return standin_behind ? NOT_READY : SUCCESS;
}

int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    return noted("ordered stream %p after %d\n", stream, (int)(intptr_t)event);
}

/* Kernels: a handle is the kernel's name. */

int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned n, void *c, void *d, unsigned m) {
    if (memcmp(code, "\177ELF", 4)) return 200; /* invalid image */
    return *library = (void *)4000, SUCCESS;
}

int cuLibraryUnload(void *library) { return SUCCESS; }
int cuLibraryGetKernel(void **kernel, void *library, const char *name) { return *kernel = strdup(name), SUCCESS; }

int cuKernelSetAttribute(int attribute, int value, const char *kernel, int device) {
    return noted("told %d %d device %d\n", attribute, value, device);
}

int cuKernelGetFunction(void **function, void *kernel) { return *function = kernel, SUCCESS; }

int cuLaunchKernelEx(const Config *c, const char *kernel, void **parameters, void **extra) {
    int answer = noted(
        "launched grid %u %u %u block %u %u %u shared %u stream %p attributes %u device %d\n", c->grid[0], c->grid[1],
        c->grid[2], c->block[0], c->block[1], c->block[2], c->shared, c->stream, c->attribute_count, (int)current - 1000);
    if (!answer && standin_run) standin_run(kernel, c, parameters);
    return answer;
}
