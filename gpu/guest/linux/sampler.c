#include "sampler.h"

static struct _cl_sampler *all;

bool is_sampler(const void *pointer)
{
    for (const struct _cl_sampler *sampler = all; sampler; sampler = sampler->next)
        if (sampler == pointer)
            return true;
    return false;
}

cl_sampler clCreateSampler(cl_context context, cl_bool normalized, cl_addressing_mode addressing,
                           cl_filter_mode filter, cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    const bool repeats = addressing == CL_ADDRESS_REPEAT || addressing == CL_ADDRESS_MIRRORED_REPEAT;
    if (addressing < CL_ADDRESS_NONE || addressing > CL_ADDRESS_MIRRORED_REPEAT
        || (filter != CL_FILTER_NEAREST && filter != CL_FILTER_LINEAR) || normalized > CL_TRUE
        || (repeats && !normalized))
        FAIL(CL_INVALID_VALUE);
    if (!device_number(CL_DEVICE_IMAGE_SUPPORT, 0))
        FAIL(CL_INVALID_OPERATION);
    lock();
    cl_sampler sampler = object_new(SAMPLER, sizeof *sampler);
    cl_int wrong = CL_OUT_OF_HOST_MEMORY;
    if (sampler) {
        sampler->context = context;
        sampler->normalized = normalized;
        sampler->addressing = addressing;
        sampler->filter = filter;
        sampler->object.id = id_new();
        sampler->next = all;
        sampler->link = &all;
        if (all)
            all->link = &sampler->next;
        all = sampler;
        object_use(context);
        stream_begin(NULL, false);
        SEND(create_sampler, NULL, .id = sampler->object.id, .context = context->object.id,
             .normalized = normalized, .addressing = addressing, .filter = filter);
        wrong = stream_status();
        if (wrong)
            object_discard(sampler);
    }
    unlock();
    if (status)
        *status = wrong;
    return wrong ? NULL : sampler;
}

void sampler_destroy(cl_sampler sampler)
{
    *sampler->link = sampler->next;
    if (sampler->next)
        sampler->next->link = sampler->link;
    object_drop(sampler->context);
}

cl_int clRetainSampler(cl_sampler sampler)
{
    return object_retain(sampler, SAMPLER, CL_INVALID_SAMPLER);
}

cl_int clReleaseSampler(cl_sampler sampler)
{
    return object_release(sampler, SAMPLER, CL_INVALID_SAMPLER);
}

cl_int clGetSamplerInfo(cl_sampler sampler, cl_sampler_info name, size_t size, void *value,
                        size_t *size_ret)
{
    if (!is_object(sampler, SAMPLER))
        return CL_INVALID_SAMPLER;
    switch (name) {
    case CL_SAMPLER_REFERENCE_COUNT: GIVE(cl_uint, sampler->object.references);
    case CL_SAMPLER_CONTEXT: GIVE(cl_context, sampler->context);
    case CL_SAMPLER_NORMALIZED_COORDS: GIVE(cl_bool, sampler->normalized);
    case CL_SAMPLER_ADDRESSING_MODE: GIVE(cl_addressing_mode, sampler->addressing);
    case CL_SAMPLER_FILTER_MODE: GIVE(cl_filter_mode, sampler->filter);
    default: return CL_INVALID_VALUE;
    }
}
