/* A kernel that is under way until this program lets it go. What happens to another program meanwhile,
 * it repeats from its input: `(sleep 2; gpu-endless) | gpu-held`. Kernel and program meet in mapped
 * memory, which OpenCL promises for devices only that share the host's. */
#include "example.h"

enum { STEPS = 1000, MANY = 1 << 26 };

static const char *source =
    "__kernel void held(__global volatile uint *cells)\n"
    "{\n"
    "    while (!cells[0]) ;\n"
    "    if (get_global_id(0)) return;\n"
    "    for (uint i = 0; i < 1000; i++) cells[1] += i;\n"
    "}\n";

int main(void)
{
    char line[80];
    cl_int status;
    start(0);
    cl_kernel kernel = kernel_of(build(source, NULL), "held");
    cl_mem buffer = buffer_of(CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, 4096, NULL);
    volatile cl_uint *cells = clEnqueueMapBuffer(queue, buffer, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE,
                                                 0, 4096, 0, NULL, NULL, &status);
    check(status, "clEnqueueMapBuffer");
    cells[0] = cells[1] = 0;
    ARGUMENT(kernel, 0, buffer);
    size_t wrong = 0;
    while (fgets(line, sizeof line, stdin)) {
        printf("%s", line);
        if (!strncmp(line, "RUNNING spin", 12)) {
            size_t items = MANY;
            cl_event event;
            check(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, NULL, 0, NULL, &event),
                  "clEnqueueNDRangeKernel");
            check(clFlush(queue), "clFlush");
            printf("RUNNING held\n");
            check(fgets(line, sizeof line, stdin) ? CL_SUCCESS : CL_INVALID_VALUE, "the next line");
            printf("%s", line);
            check(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status,
                                 NULL),
                  "clGetEventInfo");
            wrong += status == CL_COMPLETE;
            cells[0] = 1;
            check(clWaitForEvents(1, &event), "clWaitForEvents");
            wrong += cells[1] != STEPS * (STEPS - 1) / 2;
            printf("FINISHED held\n");
        }
    }
    check(clEnqueueUnmapMemObject(queue, buffer, (void *)cells, 0, NULL, NULL),
          "clEnqueueUnmapMemObject");
    return finish("held", wrong);
}
