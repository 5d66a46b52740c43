/* What the ICD loader calls: the functions in the order of the cl_khr_icd extension's table. Those of
 * other extensions (OpenGL, Direct3D, EGL) and of later versions are not there; nothing that
 * announces them is either. */
#include <string.h>

#include "library.h"

#define F(name) (const void *)(uintptr_t)name

static cl_int unsupported(void) { return CL_INVALID_OPERATION; }

const void *const icd_dispatch[] = {
    /* OpenCL 1.0 */
    F(clGetPlatformIDs), F(clGetPlatformInfo), F(clGetDeviceIDs), F(clGetDeviceInfo),
    F(clCreateContext), F(clCreateContextFromType), F(clRetainContext), F(clReleaseContext),
    F(clGetContextInfo), F(clCreateCommandQueue), F(clRetainCommandQueue),
    F(clReleaseCommandQueue), F(clGetCommandQueueInfo), F(clSetCommandQueueProperty),
    F(clCreateBuffer), F(clCreateImage2D), F(clCreateImage3D), F(clRetainMemObject),
    F(clReleaseMemObject), F(clGetSupportedImageFormats), F(clGetMemObjectInfo),
    F(clGetImageInfo), F(clCreateSampler), F(clRetainSampler), F(clReleaseSampler),
    F(clGetSamplerInfo), F(clCreateProgramWithSource), F(clCreateProgramWithBinary),
    F(clRetainProgram), F(clReleaseProgram), F(clBuildProgram), F(clUnloadCompiler),
    F(clGetProgramInfo), F(clGetProgramBuildInfo), F(clCreateKernel), F(clCreateKernelsInProgram),
    F(clRetainKernel), F(clReleaseKernel), F(clSetKernelArg), F(clGetKernelInfo),
    F(clGetKernelWorkGroupInfo), F(clWaitForEvents), F(clGetEventInfo), F(clRetainEvent),
    F(clReleaseEvent), F(clGetEventProfilingInfo), F(clFlush), F(clFinish),
    F(clEnqueueReadBuffer), F(clEnqueueWriteBuffer), F(clEnqueueCopyBuffer),
    F(clEnqueueReadImage), F(clEnqueueWriteImage), F(clEnqueueCopyImage),
    F(clEnqueueCopyImageToBuffer), F(clEnqueueCopyBufferToImage), F(clEnqueueMapBuffer),
    F(clEnqueueMapImage), F(clEnqueueUnmapMemObject), F(clEnqueueNDRangeKernel), F(clEnqueueTask),
    F(clEnqueueNativeKernel), F(clEnqueueMarker), F(clEnqueueWaitForEvents), F(clEnqueueBarrier),
    F(clGetExtensionFunctionAddress),
    /* OpenGL and Direct3D 10 */
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    /* OpenCL 1.1 */
    F(clSetEventCallback), F(clCreateSubBuffer), F(clSetMemObjectDestructorCallback),
    F(clCreateUserEvent), F(clSetUserEventStatus), F(clEnqueueReadBufferRect),
    F(clEnqueueWriteBufferRect), F(clEnqueueCopyBufferRect),
    /* device fission, OpenGL events */
    F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    /* OpenCL 1.2 */
    F(clCreateSubDevices), F(clRetainDevice), F(clReleaseDevice), F(clCreateImage),
    F(clCreateProgramWithBuiltInKernels), F(clCompileProgram), F(clLinkProgram),
    F(clUnloadPlatformCompiler), F(clGetKernelArgInfo), F(clEnqueueFillBuffer),
    F(clEnqueueFillImage), F(clEnqueueMigrateMemObjects), F(clEnqueueMarkerWithWaitList),
    F(clEnqueueBarrierWithWaitList), F(clGetExtensionFunctionAddressForPlatform),
    /* OpenGL textures, Direct3D 11, DX9 media, EGL */
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    /* OpenCL 2.0 to 3.0 */
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported), F(unsupported), F(unsupported), F(unsupported), F(unsupported),
    F(unsupported),
};

static const struct {
    const char *name;
    const void *function;
} named[] = {
    {"clIcdGetPlatformIDsKHR", F(clIcdGetPlatformIDsKHR)},
    {"clGetPlatformIDs", F(clGetPlatformIDs)},
    {"clGetPlatformInfo", F(clGetPlatformInfo)},
    {"clGetDeviceIDs", F(clGetDeviceIDs)},
    {"clGetDeviceInfo", F(clGetDeviceInfo)},
    {"clCreateContext", F(clCreateContext)},
    {"clCreateContextFromType", F(clCreateContextFromType)},
    {"clRetainContext", F(clRetainContext)},
    {"clReleaseContext", F(clReleaseContext)},
    {"clGetContextInfo", F(clGetContextInfo)},
    {"clCreateCommandQueue", F(clCreateCommandQueue)},
    {"clRetainCommandQueue", F(clRetainCommandQueue)},
    {"clReleaseCommandQueue", F(clReleaseCommandQueue)},
    {"clGetCommandQueueInfo", F(clGetCommandQueueInfo)},
    {"clSetCommandQueueProperty", F(clSetCommandQueueProperty)},
    {"clCreateBuffer", F(clCreateBuffer)},
    {"clCreateImage2D", F(clCreateImage2D)},
    {"clCreateImage3D", F(clCreateImage3D)},
    {"clRetainMemObject", F(clRetainMemObject)},
    {"clReleaseMemObject", F(clReleaseMemObject)},
    {"clGetSupportedImageFormats", F(clGetSupportedImageFormats)},
    {"clGetMemObjectInfo", F(clGetMemObjectInfo)},
    {"clGetImageInfo", F(clGetImageInfo)},
    {"clCreateSampler", F(clCreateSampler)},
    {"clRetainSampler", F(clRetainSampler)},
    {"clReleaseSampler", F(clReleaseSampler)},
    {"clGetSamplerInfo", F(clGetSamplerInfo)},
    {"clCreateProgramWithSource", F(clCreateProgramWithSource)},
    {"clCreateProgramWithBinary", F(clCreateProgramWithBinary)},
    {"clRetainProgram", F(clRetainProgram)},
    {"clReleaseProgram", F(clReleaseProgram)},
    {"clBuildProgram", F(clBuildProgram)},
    {"clUnloadCompiler", F(clUnloadCompiler)},
    {"clGetProgramInfo", F(clGetProgramInfo)},
    {"clGetProgramBuildInfo", F(clGetProgramBuildInfo)},
    {"clCreateKernel", F(clCreateKernel)},
    {"clCreateKernelsInProgram", F(clCreateKernelsInProgram)},
    {"clRetainKernel", F(clRetainKernel)},
    {"clReleaseKernel", F(clReleaseKernel)},
    {"clSetKernelArg", F(clSetKernelArg)},
    {"clGetKernelInfo", F(clGetKernelInfo)},
    {"clGetKernelWorkGroupInfo", F(clGetKernelWorkGroupInfo)},
    {"clWaitForEvents", F(clWaitForEvents)},
    {"clGetEventInfo", F(clGetEventInfo)},
    {"clRetainEvent", F(clRetainEvent)},
    {"clReleaseEvent", F(clReleaseEvent)},
    {"clGetEventProfilingInfo", F(clGetEventProfilingInfo)},
    {"clFlush", F(clFlush)},
    {"clFinish", F(clFinish)},
    {"clEnqueueReadBuffer", F(clEnqueueReadBuffer)},
    {"clEnqueueWriteBuffer", F(clEnqueueWriteBuffer)},
    {"clEnqueueCopyBuffer", F(clEnqueueCopyBuffer)},
    {"clEnqueueReadImage", F(clEnqueueReadImage)},
    {"clEnqueueWriteImage", F(clEnqueueWriteImage)},
    {"clEnqueueCopyImage", F(clEnqueueCopyImage)},
    {"clEnqueueCopyImageToBuffer", F(clEnqueueCopyImageToBuffer)},
    {"clEnqueueCopyBufferToImage", F(clEnqueueCopyBufferToImage)},
    {"clEnqueueMapBuffer", F(clEnqueueMapBuffer)},
    {"clEnqueueMapImage", F(clEnqueueMapImage)},
    {"clEnqueueUnmapMemObject", F(clEnqueueUnmapMemObject)},
    {"clEnqueueNDRangeKernel", F(clEnqueueNDRangeKernel)},
    {"clEnqueueTask", F(clEnqueueTask)},
    {"clEnqueueNativeKernel", F(clEnqueueNativeKernel)},
    {"clEnqueueMarker", F(clEnqueueMarker)},
    {"clEnqueueWaitForEvents", F(clEnqueueWaitForEvents)},
    {"clEnqueueBarrier", F(clEnqueueBarrier)},
    {"clGetExtensionFunctionAddress", F(clGetExtensionFunctionAddress)},
    {"clSetEventCallback", F(clSetEventCallback)},
    {"clCreateSubBuffer", F(clCreateSubBuffer)},
    {"clSetMemObjectDestructorCallback", F(clSetMemObjectDestructorCallback)},
    {"clCreateUserEvent", F(clCreateUserEvent)},
    {"clSetUserEventStatus", F(clSetUserEventStatus)},
    {"clEnqueueReadBufferRect", F(clEnqueueReadBufferRect)},
    {"clEnqueueWriteBufferRect", F(clEnqueueWriteBufferRect)},
    {"clEnqueueCopyBufferRect", F(clEnqueueCopyBufferRect)},
    {"clCreateSubDevices", F(clCreateSubDevices)},
    {"clRetainDevice", F(clRetainDevice)},
    {"clReleaseDevice", F(clReleaseDevice)},
    {"clCreateImage", F(clCreateImage)},
    {"clCreateProgramWithBuiltInKernels", F(clCreateProgramWithBuiltInKernels)},
    {"clCompileProgram", F(clCompileProgram)},
    {"clLinkProgram", F(clLinkProgram)},
    {"clUnloadPlatformCompiler", F(clUnloadPlatformCompiler)},
    {"clGetKernelArgInfo", F(clGetKernelArgInfo)},
    {"clEnqueueFillBuffer", F(clEnqueueFillBuffer)},
    {"clEnqueueFillImage", F(clEnqueueFillImage)},
    {"clEnqueueMigrateMemObjects", F(clEnqueueMigrateMemObjects)},
    {"clEnqueueMarkerWithWaitList", F(clEnqueueMarkerWithWaitList)},
    {"clEnqueueBarrierWithWaitList", F(clEnqueueBarrierWithWaitList)},
    {"clGetExtensionFunctionAddressForPlatform", F(clGetExtensionFunctionAddressForPlatform)},
};

void *clGetExtensionFunctionAddress(const char *name)
{
    for (size_t i = 0; name && i < sizeof named / sizeof *named; i++)
        if (!strcmp(named[i].name, name))
            return (void *)(uintptr_t)named[i].function;
    return NULL;
}

void *clGetExtensionFunctionAddressForPlatform(cl_platform_id platform, const char *name)
{
    return platform == &the_platform ? clGetExtensionFunctionAddress(name) : NULL;
}
