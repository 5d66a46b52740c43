/* Every way that bytes can take between the program, buffers and images. */
#include "example.h"

static size_t wrong;

static void expect(int right, const char *what)
{
    if (right)
        return;
    printf("wrong: %s\n", what);
    wrong++;
}

static void rectangles(void)
{
    enum { ROW = 16, ROWS = 8, SLICES = 4, SIZE = ROW * ROWS * SLICES };
    cl_uchar bytes[SIZE], box[3 * 2 * 2], back[SIZE];
    const size_t origin[] = {4, 2, 1}, zero[] = {0, 0, 0}, region[] = {3, 2, 2};
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (cl_uchar)i;
    cl_mem buffer = buffer_of(CL_MEM_COPY_HOST_PTR, SIZE, bytes);
    check(clEnqueueReadBufferRect(queue, buffer, CL_TRUE, origin, zero, region, ROW, ROW * ROWS, 0,
                                  0, box, 0, NULL, NULL),
          "clEnqueueReadBufferRect");
    size_t at = 0;
    int right = 1;
    for (int z = 1; z < 3; z++)
        for (int y = 2; y < 4; y++)
            for (int x = 4; x < 7; x++)
                right &= box[at++] == (cl_uchar)(x + ROW * (y + ROWS * z));
    expect(right, "a box that is read");
    memset(box, 0xEE, sizeof box);
    check(clEnqueueWriteBufferRect(queue, buffer, CL_TRUE, zero, zero, region, ROW, ROW * ROWS, 0,
                                   0, box, 0, NULL, NULL),
          "clEnqueueWriteBufferRect");
    check(clEnqueueCopyBufferRect(queue, buffer, buffer, zero, origin, region, ROW, ROW * ROWS,
                                  ROW, ROW * ROWS, 0, NULL, NULL),
          "clEnqueueCopyBufferRect");
    check(clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, SIZE, back, 0, NULL, NULL),
          "clEnqueueReadBuffer");
    right = 1;
    for (int i = 0; i < SIZE; i++) {
        int x = i % ROW, y = i / ROW % ROWS, z = i / ROW / ROWS;
        int written = (x < 3 && y < 2 && z < 2) || (x >= 4 && x < 7 && y >= 2 && y < 4 && z >= 1 && z < 3);
        right &= back[i] == (written ? 0xEE : bytes[i]);
    }
    expect(right, "boxes that are written and copied");
    clReleaseMemObject(buffer);
}

static void parts(void)
{
    enum { SIZE = 1 << 20 };
    static cl_uint words[SIZE / 4], back[SIZE / 4];
    for (cl_uint i = 0; i < SIZE / 4; i++)
        words[i] = i * 3;
    const cl_buffer_region region = {4096, 8192};
    const cl_uint pattern[] = {0xAAAA5555, 0x12345678};
    cl_int status;
    cl_mem whole = buffer_of(CL_MEM_USE_HOST_PTR, SIZE, words);
    cl_mem part = clCreateSubBuffer(whole, 0, CL_BUFFER_CREATE_TYPE_REGION, &region, &status);
    check(status, "clCreateSubBuffer");
    check(clEnqueueFillBuffer(queue, part, pattern, sizeof pattern, 8, 16, 0, NULL, NULL),
          "clEnqueueFillBuffer");
    check(clEnqueueCopyBuffer(queue, part, part, 8, 4096, 16, 0, NULL, NULL), "clEnqueueCopyBuffer");
    cl_uint *mapped = clEnqueueMapBuffer(queue, whole, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                         SIZE, 0, NULL, NULL, &status);
    check(status, "clEnqueueMapBuffer");
    expect(mapped == words, "a mapping of the program's own memory");
    expect(words[1024 + 2] == pattern[0] && words[1024 + 5] == pattern[1]
               && words[2048 + 3] == pattern[1] && words[1024 + 6] == (1024 + 6) * 3,
           "a part that is filled and copied");
    words[7] = 99;
    check(clEnqueueUnmapMemObject(queue, whole, mapped, 0, NULL, NULL), "clEnqueueUnmapMemObject");
    check(clEnqueueReadBuffer(queue, whole, CL_TRUE, 0, SIZE, back, 0, NULL, NULL),
          "clEnqueueReadBuffer");
    expect(!memcmp(words, back, SIZE), "a large read");
    memset(back, 0x5C, SIZE);
    check(clEnqueueWriteBuffer(queue, whole, CL_TRUE, 0, SIZE, back, 0, NULL, NULL),
          "clEnqueueWriteBuffer");
    cl_uint word = 0;
    check(clEnqueueReadBuffer(queue, part, CL_FALSE, 4, 4, &word, 0, NULL, NULL),
          "clEnqueueReadBuffer");
    check(clFinish(queue), "clFinish");
    expect(word == 0x5C5C5C5C, "a small read of a large write");
    clReleaseMemObject(part);
    clReleaseMemObject(whole);
}

static cl_mem image_of(const cl_image_desc *desc, void *pixels)
{
    const cl_image_format format = {CL_RGBA, CL_UNSIGNED_INT8};
    cl_int status;
    cl_mem image = clCreateImage(context, pixels ? CL_MEM_COPY_HOST_PTR : 0, &format, desc, pixels,
                                 &status);
    check(status, "clCreateImage");
    return image;
}

static void images(void)
{
    enum { WIDTH = 8, HEIGHT = 4, DEPTH = 2, COUNT = WIDTH * HEIGHT * DEPTH };
    cl_uint pixels[COUNT], back[COUNT];
    const cl_image_desc solid = {.image_type = CL_MEM_OBJECT_IMAGE3D, .image_width = WIDTH,
                                 .image_height = HEIGHT, .image_depth = DEPTH};
    const cl_image_desc flat = {.image_type = CL_MEM_OBJECT_IMAGE2D, .image_width = WIDTH,
                                .image_height = HEIGHT};
    const size_t zero[] = {0, 0, 0}, all[] = {WIDTH, HEIGHT, DEPTH}, plane[] = {WIDTH, HEIGHT, 1};
    const size_t second[] = {0, 0, 1}, corner[] = {2, 1, 0}, patch[] = {3, 2, 1};
    for (cl_uint i = 0; i < COUNT; i++)
        pixels[i] = i * 0x01010101u;
    cl_mem image = image_of(&solid, pixels), picture = image_of(&flat, NULL);
    cl_mem buffer = buffer_of(0, sizeof pixels, NULL);
    check(clEnqueueCopyImage(queue, image, picture, second, zero, plane, 0, NULL, NULL),
          "clEnqueueCopyImage");
    check(clEnqueueReadImage(queue, picture, CL_TRUE, zero, plane, 0, 0, back, 0, NULL, NULL),
          "clEnqueueReadImage");
    expect(!memcmp(back, pixels + WIDTH * HEIGHT, WIDTH * HEIGHT * 4), "a plane that is copied");
    check(clEnqueueCopyImageToBuffer(queue, image, buffer, zero, all, 0, 0, NULL, NULL),
          "clEnqueueCopyImageToBuffer");
    check(clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, sizeof back, back, 0, NULL, NULL),
          "clEnqueueReadBuffer");
    expect(!memcmp(back, pixels, sizeof pixels), "an image in a buffer");
    const cl_uint color[] = {1, 2, 3, 4};
    check(clEnqueueFillImage(queue, picture, color, corner, patch, 0, NULL, NULL),
          "clEnqueueFillImage");
    size_t row, slice;
    cl_int status;
    cl_uint *mapped = clEnqueueMapImage(queue, picture, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, zero,
                                        plane, &row, &slice, 0, NULL, NULL, &status);
    check(status, "clEnqueueMapImage");
    expect(mapped[row / 4 * 2 + 4] == 0x04030201 && mapped[row / 4 * 2 + 5] != 0x04030201,
           "a patch that is filled");
    mapped[0] = 0xCAFE;
    check(clEnqueueUnmapMemObject(queue, picture, mapped, 0, NULL, NULL), "clEnqueueUnmapMemObject");
    check(clEnqueueWriteImage(queue, image, CL_TRUE, second, plane, WIDTH * 4, 0, pixels, 0, NULL,
                              NULL),
          "clEnqueueWriteImage");
    check(clEnqueueCopyBufferToImage(queue, buffer, picture, 4 * WIDTH, corner, patch, 0, NULL,
                                     NULL),
          "clEnqueueCopyBufferToImage");
    check(clEnqueueReadImage(queue, picture, CL_TRUE, zero, plane, 0, 0, back, 0, NULL, NULL),
          "clEnqueueReadImage");
    expect(back[0] == 0xCAFE, "a mapped image that is written");
    expect(back[WIDTH + 2] == pixels[WIDTH] && back[2 * WIDTH + 4] == pixels[WIDTH + 5],
           "a buffer in an image");
    check(clEnqueueReadImage(queue, image, CL_TRUE, second, plane, 0, 0, back, 0, NULL, NULL),
          "clEnqueueReadImage");
    expect(!memcmp(back, pixels, WIDTH * HEIGHT * 4), "a plane that is written");
    clReleaseMemObject(image);
    clReleaseMemObject(picture);
    clReleaseMemObject(buffer);
}

static void arrays(void)
{
    enum { WIDTH = 5, LAYERS = 3 };
    cl_uint pixels[WIDTH * LAYERS], back[WIDTH * LAYERS];
    const cl_image_desc lines = {.image_type = CL_MEM_OBJECT_IMAGE1D_ARRAY, .image_width = WIDTH,
                                 .image_array_size = LAYERS};
    const cl_image_desc planes = {.image_type = CL_MEM_OBJECT_IMAGE2D_ARRAY, .image_width = WIDTH,
                                  .image_height = 1, .image_array_size = LAYERS};
    const size_t zero[] = {0, 0, 0}, all_lines[] = {WIDTH, LAYERS, 1}, all_planes[] = {WIDTH, 1, LAYERS};
    for (cl_uint i = 0; i < WIDTH * LAYERS; i++)
        pixels[i] = i;
    cl_mem image = image_of(&lines, pixels), stack = image_of(&planes, NULL);
    check(clEnqueueReadImage(queue, image, CL_TRUE, zero, all_lines, 0, 0, back, 0, NULL, NULL),
          "clEnqueueReadImage");
    expect(!memcmp(back, pixels, sizeof back), "an array of lines");
    check(clEnqueueWriteImage(queue, stack, CL_FALSE, zero, all_planes, 0, 0, pixels, 0, NULL, NULL),
          "clEnqueueWriteImage");
    memset(back, 0, sizeof back);
    check(clEnqueueReadImage(queue, stack, CL_TRUE, zero, all_planes, 0, 0, back, 0, NULL, NULL),
          "clEnqueueReadImage");
    expect(!memcmp(back, pixels, sizeof back), "an array of planes");
    clReleaseMemObject(image);
    clReleaseMemObject(stack);
}

int main(void)
{
    start(0);
    rectangles();
    parts();
    images();
    arrays();
    return finish("transfers", wrong);
}
