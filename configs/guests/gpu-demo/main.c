/* Computes on the GPU, checks what came of it against this processor, and shows a picture. */
#include "gpu_protocol.h"
#include "demo.h"
#include "kernels.h"

enum { CONTEXT = 10, QUEUE, PROGRAM, SAXPY, GEMM, MANDELBROT, X, Y, A, B, C, PICTURE, MAPPED = 100 };
enum { BLOB = 2, BLOB_SIZE = 8 << 20, MIB = 1 << 20 };
enum { ELEMENTS = 65536, ORDER = 96, WIDTH = 640, HEIGHT = 480, LIMIT = 200 };

#define ADD(name, ...)                                                                     \
    do {                                                                                   \
        struct gpu_##name command_ = {__VA_ARGS__};                                        \
        gpu_add(gpu_encode_##name(gpu_packet(), gpu_room(), &command_, 0));                \
    } while (0)

static float *const x = (float *)FREE_MEMORY;
static float *const y = (float *)(FREE_MEMORY + MIB);
static float *const a = (float *)(FREE_MEMORY + 2 * MIB);
static float *const b = (float *)(FREE_MEMORY + 3 * MIB);
static float *const c = (float *)(FREE_MEMORY + 4 * MIB);
static const uint32_t *const picture = (uint32_t *)(FREE_MEMORY + 5 * MIB);

static void fail(const char *what)
{
    print("FAIL ");
    print(what);
    if (gpu_error()) {
        print(": OpenCL error -");
        print_number((uint64_t)-gpu_error());
    }
    print("\n");
    leave(false);
}

static void number_argument(uint32_t kernel, uint32_t index, const void *value)
{
    ADD(set_argument, .kernel = kernel, .index = index, .value = value, .value_count = 4);
}

static void buffer_argument(uint32_t kernel, uint32_t index, uint32_t buffer)
{
    ADD(set_argument_object, .kernel = kernel, .index = index, .object = buffer);
}

static void make_kernel(uint32_t id, const char *name, uint32_t length)
{
    ADD(create_kernel, .id = id, .program = PROGRAM, .function_name = (const uint8_t *)name,
        .function_name_count = length);
}

/* This processor may look at a buffer, or fill it, only while it is mapped. */
static void map(uint32_t buffer, uint32_t size, uint64_t how)
{
    ADD(map_buffer, .queue = QUEUE, .buffer = buffer, .size = size, .flags = how,
        .id = MAPPED + buffer);
}

static void unmap(uint32_t buffer)
{
    ADD(unmap, .queue = QUEUE, .mapping = MAPPED + buffer);
}

static void prepare(void)
{
    uint64_t range[] = {FREE_MEMORY, BLOB_SIZE};
    ADD(grant_memory, .blob = BLOB, .ranges = range, .ranges_count = 2);
    ADD(create_context, .id = CONTEXT);
    ADD(create_queue, .id = QUEUE, .context = CONTEXT);
    for (uint32_t i = 0; i < 6; i++)
        ADD(create_buffer, .id = X + i, .context = CONTEXT, .blob = BLOB, .blob_offset = i * MIB,
            .size = i == 5 ? WIDTH * HEIGHT * 4 : MIB);
    ADD(create_program, .id = PROGRAM, .context = CONTEXT, .source = (const uint8_t *)kernels,
        .source_count = sizeof kernels - 1);
    ADD(build_program, .program = PROGRAM);
    make_kernel(SAXPY, "saxpy", 5);
    make_kernel(GEMM, "gemm", 4);
    make_kernel(MANDELBROT, "mandelbrot", 10);
    if (!gpu_run())
        fail("preparing");
}

/* Whole numbers below 2^24 only, so that rounding plays no part. */
static void check_saxpy(void)
{
    float factor = 3;
    map(X, MIB, GPU_MAP_FLAGS_WRITE_INVALIDATE_REGION);
    map(Y, MIB, GPU_MAP_FLAGS_WRITE_INVALIDATE_REGION);
    if (!gpu_run())
        fail("mapping");
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        x[i] = (float)(i % 1000);
        y[i] = (float)(i % 77);
    }
    unmap(X);
    unmap(Y);
    number_argument(SAXPY, 0, &factor);
    buffer_argument(SAXPY, 1, X);
    buffer_argument(SAXPY, 2, Y);
    ADD(nd_range, .queue = QUEUE, .kernel = SAXPY, .dimensions = 1,
        .global_size = {ELEMENTS, 1, 1});
    map(Y, MIB, GPU_MAP_FLAGS_READ);
    if (!gpu_run())
        fail("saxpy");
    for (uint32_t i = 0; i < ELEMENTS; i++)
        if (y[i] != factor * (float)(i % 1000) + (float)(i % 77))
            fail("saxpy: a wrong sum");
    print("PASS saxpy of ");
    print_number(ELEMENTS);
    print(" elements\n");
}

static void check_gemm(void)
{
    uint32_t order = ORDER;
    map(A, MIB, GPU_MAP_FLAGS_WRITE_INVALIDATE_REGION);
    map(B, MIB, GPU_MAP_FLAGS_WRITE_INVALIDATE_REGION);
    if (!gpu_run())
        fail("mapping");
    for (uint32_t i = 0; i < ORDER * ORDER; i++) {
        a[i] = (float)(i % 13);
        b[i] = (float)(i % 7) - 3;
    }
    unmap(A);
    unmap(B);
    number_argument(GEMM, 0, &order);
    buffer_argument(GEMM, 1, A);
    buffer_argument(GEMM, 2, B);
    buffer_argument(GEMM, 3, C);
    ADD(nd_range, .queue = QUEUE, .kernel = GEMM, .dimensions = 2,
        .global_size = {ORDER, ORDER, 1}, .local_size = {16, 16, 0});
    map(C, MIB, GPU_MAP_FLAGS_READ);
    if (!gpu_run())
        fail("gemm");
    for (uint32_t row = 0; row < ORDER; row++)
        for (uint32_t column = 0; column < ORDER; column++) {
            float sum = 0;
            for (uint32_t k = 0; k < ORDER; k++)
                sum += a[row * ORDER + k] * b[k * ORDER + column];
            if (c[row * ORDER + column] != sum)
                fail("gemm: a wrong product");
        }
    print("PASS gemm of ");
    print_number(ORDER);
    print(" x ");
    print_number(ORDER);
    print("\n");
}

/* The same as the kernel, for one pixel. */
static uint32_t color_of(int64_t column, int64_t row)
{
    int64_t x0 = -36700160 + column * 81920, y0 = -19660800 + row * 81920;
    int64_t re = 0, im = 0;
    uint32_t n = 0;
    while (n < LIMIT && re * re + im * im < (4l << 48)) {
        int64_t next = ((re * re - im * im) >> 24) + x0;
        im = ((re * im) >> 23) + y0;
        re = next;
        n++;
    }
    return n == LIMIT ? 0 : (n * 9 & 255) << 16 | (n * 5 & 255) << 8 | ((64 + n * 3) & 255);
}

static void draw(void)
{
    uint32_t stride = WIDTH, limit = LIMIT;
    buffer_argument(MANDELBROT, 0, PICTURE);
    number_argument(MANDELBROT, 1, &stride);
    number_argument(MANDELBROT, 2, &limit);
    ADD(set_scanout, .blob = BLOB, .offset = 5 * MIB, .width = WIDTH, .height = HEIGHT,
        .stride = WIDTH * 4);
    ADD(nd_range, .queue = QUEUE, .kernel = MANDELBROT, .dimensions = 2,
        .global_size = {WIDTH, HEIGHT, 1});
    map(PICTURE, WIDTH * HEIGHT * 4, GPU_MAP_FLAGS_READ);
    ADD(flush_scanout, 0);
    if (!gpu_run())
        fail("mandelbrot");
    uint32_t checked = 0;
    for (uint32_t row = 0; row < HEIGHT; row += 31)
        for (uint32_t column = 0; column < WIDTH; column += 17, checked++)
            if (picture[row * WIDTH + column] != color_of(column, row))
                fail("mandelbrot: a wrong pixel");
    print("PASS mandelbrot of ");
    print_number(WIDTH);
    print(" x ");
    print_number(HEIGHT);
    print(", ");
    print_number(checked);
    print(" pixels checked\n");
}

void guest_main(void)
{
    print("\nHello from bare metal, with a GPU.\n");
    if (!gpu_start())
        fail("there is no OpenCL device");
    print("GPU: ");
    print(gpu_device_name());
    print("\n");
    prepare();
    check_saxpy();
    check_gemm();
    draw();
    print("all passed\n");
    leave(true);
}
