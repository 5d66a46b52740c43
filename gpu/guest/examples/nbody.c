/* Bodies that attract each other, a few steps of a leapfrog: every step uses what the last one left
 * on the device. */
#include "example.h"

#define BODIES 128
#define STEPS 4
#define STEP 0.01f

static const char *source =
    "__kernel void step_bodies(__global const float4 *from, __global float4 *to,\n"
    "                          __global float4 *speed, float time)\n"
    "{\n"
    "    size_t i = get_global_id(0), count = get_global_size(0);\n"
    "    float3 here = from[i].xyz, pull = (float3)(0);\n"
    "    for (size_t j = 0; j < count; j++) {\n"
    "        float3 way = from[j].xyz - here;\n"
    "        float square = dot(way, way) + 0.01f;\n"
    "        pull += way * (from[j].w / (square * sqrt(square)));\n"
    "    }\n"
    "    float3 faster = speed[i].xyz + pull * time;\n"
    "    speed[i] = (float4)(faster, 0);\n"
    "    to[i] = (float4)(here + faster * time, from[i].w);\n"
    "}\n";

static void step_on_host(const float *from, float *to, float *speed)
{
    for (int i = 0; i < BODIES; i++) {
        float pull[3] = {0};
        for (int j = 0; j < BODIES; j++) {
            float way[3], square = 0.01f;
            for (int k = 0; k < 3; k++) {
                way[k] = from[4 * j + k] - from[4 * i + k];
                square += way[k] * way[k];
            }
            for (int k = 0; k < 3; k++)
                pull[k] += way[k] * from[4 * j + 3] / (square * sqrtf(square));
        }
        for (int k = 0; k < 3; k++) {
            speed[4 * i + k] += pull[k] * STEP;
            to[4 * i + k] = from[4 * i + k] + speed[4 * i + k] * STEP;
        }
        to[4 * i + 3] = from[4 * i + 3];
    }
}

int main(void)
{
    static float places[2][4 * BODIES], speed[4 * BODIES], found[4 * BODIES];
    const size_t count = BODIES, size = sizeof found;
    const float time = STEP;
    unsigned state = 3;
    for (int i = 0; i < 4 * BODIES; i++)
        places[0][i] = noise(&state);
    start(0);
    cl_program program = build(source, NULL);
    cl_kernel kernel = kernel_of(program, "step_bodies");
    cl_mem buffers[] = {
        buffer_of(CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, size, places[0]),
        buffer_of(CL_MEM_READ_WRITE, size, NULL),
    };
    cl_mem speeds = buffer_of(CL_MEM_READ_WRITE, size, NULL);
    const cl_float zero = 0;
    check(clEnqueueFillBuffer(queue, speeds, &zero, sizeof zero, 0, size, 0, NULL, NULL),
          "clEnqueueFillBuffer");
    for (int step = 0; step < STEPS; step++) {
        ARGUMENT(kernel, 0, buffers[step % 2]);
        ARGUMENT(kernel, 1, buffers[(step + 1) % 2]);
        ARGUMENT(kernel, 2, speeds);
        ARGUMENT(kernel, 3, time);
        check(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &count, NULL, 0, NULL, NULL),
              "clEnqueueNDRangeKernel");
        step_on_host(places[step % 2], places[(step + 1) % 2], speed);
    }
    check(clEnqueueReadBuffer(queue, buffers[STEPS % 2], CL_TRUE, 0, size, found, 0, NULL, NULL),
          "clEnqueueReadBuffer");
    size_t wrong = 0;
    for (int i = 0; i < 4 * BODIES; i++)
        wrong += !(fabsf(found[i] - places[STEPS % 2][i]) <= 1e-4f);
    return finish("nbody", wrong);
}
