#include <stdlib.h>
#include <string.h>

#include "library.h"

struct _cl_platform_id the_platform = {{icd_dispatch, PLATFORM, 1, 1, 0}};
struct _cl_device_id the_device = {{icd_dispatch, DEVICE, 1, 1, 0}};

static int device = -1;
static bool looked, started;
static struct gpu_capset capset;

int device_file(void) { return device; }

bool device_open(void)
{
    if (looked)
        return device >= 0;
    looked = true;
    int found = virtgpu_open();
    uint64_t size;
    void *bytes = found >= 0 ? virtgpu_capset(found, &size) : NULL;
    if (bytes && gpu_decode_capset(bytes, size, &capset) && capset.version == GPU_VERSION)
        device = found;
    return device >= 0;
}

cl_int device_start(void)
{
    if (!device_open() || device_status())
        return CL_DEVICE_NOT_AVAILABLE;
    if (!started && !virtgpu_context(device, GPU_RINGS))
        return CL_OUT_OF_RESOURCES;
    started = true;
    return stream_status();
}

cl_int device_status(void) { return capset.status; }

/* The value of a parameter in a list of the capability set. */
static const uint8_t *find(const uint8_t *list, uint32_t bytes, uint32_t name, uint32_t *size)
{
    for (uint32_t at = 0; at + 8 <= bytes;) {
        uint32_t found, length;
        memcpy(&found, list + at, 4);
        memcpy(&length, list + at + 4, 4);
        if (length > bytes - at - 8)
            return NULL;
        if (found == name) {
            *size = length;
            return list + at + 8;
        }
        at += 8 + ((length + 7) & ~7u);
    }
    return NULL;
}

static const uint8_t *of_device(cl_device_info name, uint32_t *size)
{
    return find(capset.device, capset.device_count, name, size);
}

uint64_t device_number(cl_device_info name, uint64_t otherwise)
{
    uint32_t size;
    const uint8_t *value = of_device(name, &size);
    uint64_t number = 0;
    if (!value || size > sizeof number)
        return otherwise;
    memcpy(&number, value, size);
    return number;
}

void device_sizes(cl_device_info name, size_t sizes[3])
{
    uint32_t size;
    const uint8_t *value = of_device(name, &size);
    for (int i = 0; i < 3; i++)
        sizes[i] = SIZE_MAX;
    if (value && size >= 3 * sizeof *sizes)
        memcpy(sizes, value, 3 * sizeof *sizes);
}

bool are_our_devices(cl_uint count, const cl_device_id *devices)
{
    for (cl_uint i = 0; i < count; i++)
        if (devices[i] != &the_device)
            return false;
    return count > 0;
}

cl_int clIcdGetPlatformIDsKHR(cl_uint num_entries, cl_platform_id *platforms,
                              cl_uint *num_platforms)
{
    if ((!platforms && !num_platforms) || (platforms && !num_entries))
        return CL_INVALID_VALUE;
    lock();
    bool found = device_open();
    unlock();
    if (num_platforms)
        *num_platforms = found;
    if (!found)
        return CL_PLATFORM_NOT_FOUND_KHR;
    if (platforms)
        platforms[0] = &the_platform;
    return CL_SUCCESS;
}

cl_int clGetPlatformIDs(cl_uint num_entries, cl_platform_id *platforms, cl_uint *num_platforms)
{
    return clIcdGetPlatformIDsKHR(num_entries, platforms, num_platforms);
}

static cl_int platform_default(cl_platform_info name, size_t size, void *value, size_t *size_ret)
{
    switch (name) {
    case CL_PLATFORM_PROFILE: return give_text("FULL_PROFILE", size, value, size_ret);
    case CL_PLATFORM_VERSION: return give_text("OpenCL 1.2 virtual GPU", size, value, size_ret);
    case CL_PLATFORM_NAME: return give_text("Virtual GPU", size, value, size_ret);
    case CL_PLATFORM_VENDOR: return give_text("hypervisor", size, value, size_ret);
    case CL_PLATFORM_EXTENSIONS: return give_text("cl_khr_icd", size, value, size_ret);
    case CL_PLATFORM_ICD_SUFFIX_KHR: return give_text("HV", size, value, size_ret);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clGetPlatformInfo(cl_platform_id platform, cl_platform_info name, size_t size, void *value,
                         size_t *size_ret)
{
    if (platform && platform != &the_platform)
        return CL_INVALID_PLATFORM;
    lock();
    bool found = device_open();
    unlock();
    if (!found)
        return CL_INVALID_PLATFORM;
    uint32_t length;
    const uint8_t *known = find(capset.platform, capset.platform_count, name, &length);
    if (known)
        return give(known, length, size, value, size_ret);
    return platform_default(name, size, value, size_ret);
}

cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint num_entries,
                      cl_device_id *devices, cl_uint *num_devices)
{
    if (platform && platform != &the_platform)
        return CL_INVALID_PLATFORM;
    if ((!devices && !num_devices) || (devices && !num_entries))
        return CL_INVALID_VALUE;
    const cl_device_type known = CL_DEVICE_TYPE_DEFAULT | CL_DEVICE_TYPE_CPU | CL_DEVICE_TYPE_GPU
                                 | CL_DEVICE_TYPE_ACCELERATOR | CL_DEVICE_TYPE_CUSTOM;
    if (type != CL_DEVICE_TYPE_ALL && (!type || type & ~known))
        return CL_INVALID_DEVICE_TYPE;
    lock();
    cl_int status = !device_open() ? CL_INVALID_PLATFORM : device_status();
    unlock();
    cl_device_type ours = device_number(CL_DEVICE_TYPE, CL_DEVICE_TYPE_GPU);
    if (!status && !(type & (ours | CL_DEVICE_TYPE_DEFAULT)))
        status = CL_DEVICE_NOT_FOUND;
    if (num_devices)
        *num_devices = !status;
    if (devices && !status)
        devices[0] = &the_device;
    return status;
}

cl_int clGetDeviceInfo(cl_device_id asked, cl_device_info name, size_t size, void *value,
                       size_t *size_ret)
{
    if (asked != &the_device)
        return CL_INVALID_DEVICE;
    if (name == CL_DEVICE_PLATFORM)
        GIVE(cl_platform_id, &the_platform);
    if (name == CL_DEVICE_PARENT_DEVICE)
        GIVE(cl_device_id, NULL);
    /* Native kernels would be the guest's own code, which the host's device cannot run. */
    if (name == CL_DEVICE_EXECUTION_CAPABILITIES)
        GIVE(cl_bitfield, CL_EXEC_KERNEL);
    uint32_t length;
    const uint8_t *known = of_device(name, &length);
    if (known)
        return give(known, length, size, value, size_ret);
    switch (name) {
    case CL_DEVICE_REFERENCE_COUNT: GIVE(cl_uint, 1);
    case CL_DEVICE_PARTITION_MAX_SUB_DEVICES: GIVE(cl_uint, 0);
    case CL_DEVICE_PARTITION_PROPERTIES: GIVE(cl_device_partition_property, 0);
    case CL_DEVICE_PARTITION_AFFINITY_DOMAIN: GIVE(cl_bitfield, 0);
    case CL_DEVICE_PARTITION_TYPE: return give(NULL, 0, size, value, size_ret);
    case CL_DEVICE_BUILT_IN_KERNELS: return give_text("", size, value, size_ret);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clCreateSubDevices(cl_device_id asked, const cl_device_partition_property *properties,
                          cl_uint num_devices, cl_device_id *devices, cl_uint *num_devices_ret)
{
    (void)num_devices;
    (void)devices;
    (void)num_devices_ret;
    (void)properties;
    /* CL_DEVICE_PARTITION_PROPERTIES names none. */
    return asked == &the_device ? CL_INVALID_VALUE : CL_INVALID_DEVICE;
}

cl_int clRetainDevice(cl_device_id asked)
{
    return asked == &the_device ? CL_SUCCESS : CL_INVALID_DEVICE;
}

cl_int clReleaseDevice(cl_device_id asked) { return clRetainDevice(asked); }

cl_int clUnloadPlatformCompiler(cl_platform_id platform)
{
    return platform == &the_platform ? CL_SUCCESS : CL_INVALID_PLATFORM;
}

cl_int clUnloadCompiler(void) { return CL_SUCCESS; }
