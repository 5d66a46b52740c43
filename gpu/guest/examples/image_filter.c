/* A box filter on an image through a sampler, against the same on the host. */
#include "example.h"

#define WIDTH 96
#define HEIGHT 64

static const char *source =
    "__constant sampler_t at = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP_TO_EDGE\n"
    "                          | CLK_FILTER_NEAREST;\n"
    "__kernel void blur(__read_only image2d_t from, __write_only image2d_t to)\n"
    "{\n"
    "    int2 place = (int2)(get_global_id(0), get_global_id(1));\n"
    "    uint4 sum = (uint4)(0);\n"
    "    for (int y = -1; y <= 1; y++)\n"
    "        for (int x = -1; x <= 1; x++)\n"
    "            sum += read_imageui(from, at, place + (int2)(x, y));\n"
    "    write_imageui(to, place, sum / 9);\n"
    "}\n";

static int clamp(int value, int most) { return value < 0 ? 0 : value > most ? most : value; }

static unsigned expected(const cl_uchar *pixels, int x, int y, int channel)
{
    unsigned sum = 0;
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++) {
            int from_x = clamp(x + dx, WIDTH - 1), from_y = clamp(y + dy, HEIGHT - 1);
            sum += pixels[4 * (from_y * WIDTH + from_x) + channel];
        }
    return sum / 9;
}

int main(void)
{
    static cl_uchar pixels[4 * WIDTH * HEIGHT], blurred[4 * WIDTH * HEIGHT];
    const cl_image_format format = {CL_RGBA, CL_UNSIGNED_INT8};
    const cl_image_desc desc = {
        .image_type = CL_MEM_OBJECT_IMAGE2D,
        .image_width = WIDTH,
        .image_height = HEIGHT,
    };
    const size_t origin[3] = {0}, region[] = {WIDTH, HEIGHT, 1};
    cl_int status;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (cl_uchar)(i * 37 + i / 101);
    start(0);
    cl_program program = build(source, NULL);
    cl_kernel kernel = kernel_of(program, "blur");
    cl_mem from = clCreateImage(context, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, &format, &desc,
                                pixels, &status);
    check(status, "clCreateImage");
    cl_mem to = clCreateImage(context, CL_MEM_WRITE_ONLY, &format, &desc, NULL, &status);
    check(status, "clCreateImage");
    ARGUMENT(kernel, 0, from);
    ARGUMENT(kernel, 1, to);
    check(clEnqueueNDRangeKernel(queue, kernel, 2, NULL, region, NULL, 0, NULL, NULL),
          "clEnqueueNDRangeKernel");
    check(clEnqueueReadImage(queue, to, CL_TRUE, origin, region, 0, 0, blurred, 0, NULL, NULL),
          "clEnqueueReadImage");
    size_t wrong = 0;
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int channel = 0; channel < 4; channel++)
                wrong += blurred[4 * (y * WIDTH + x) + channel] != expected(pixels, x, y, channel);
    return finish("image_filter", wrong);
}
