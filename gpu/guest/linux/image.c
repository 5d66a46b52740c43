#include <stdlib.h>
#include <string.h>

#include "memory.h"

static size_t channels(cl_channel_order order)
{
    switch (order) {
    case CL_R:
    case CL_A:
    case CL_INTENSITY:
    case CL_LUMINANCE:
    case CL_Rx: return 1;
    case CL_RG:
    case CL_RA:
    case CL_RGx: return 2;
    case CL_RGB:
    case CL_RGBx: return 3;
    case CL_RGBA:
    case CL_BGRA:
    case CL_ARGB: return 4;
    default: return 0;
    }
}

/* Bytes of an image element, or 0 where there is no such format. */
static size_t element_size(const cl_image_format *format)
{
    size_t count = channels(format->image_channel_order);
    switch (format->image_channel_data_type) {
    case CL_SNORM_INT8:
    case CL_UNORM_INT8:
    case CL_SIGNED_INT8:
    case CL_UNSIGNED_INT8: return count;
    case CL_SNORM_INT16:
    case CL_UNORM_INT16:
    case CL_SIGNED_INT16:
    case CL_UNSIGNED_INT16:
    case CL_HALF_FLOAT: return 2 * count;
    case CL_SIGNED_INT32:
    case CL_UNSIGNED_INT32:
    case CL_FLOAT: return 4 * count;
    case CL_UNORM_SHORT_565:
    case CL_UNORM_SHORT_555: return count == 3 ? 2 : 0;
    case CL_UNORM_INT_101010: return count == 3 ? 4 : 0;
    default: return 0;
    }
}

bool is_image(cl_mem memory)
{
    return is_object(memory, MEMORY) && memory->type != CL_MEM_OBJECT_BUFFER;
}

void image_shape(cl_mem image, size_t shape[3])
{
    const cl_image_desc *desc = &image->desc;
    shape[0] = desc->image_width;
    shape[1] = shape[2] = 1;
    switch (image->type) {
    case CL_MEM_OBJECT_IMAGE1D_ARRAY: shape[1] = desc->image_array_size; break;
    case CL_MEM_OBJECT_IMAGE3D: shape[2] = desc->image_depth; /* fall through */
    case CL_MEM_OBJECT_IMAGE2D: shape[1] = desc->image_height; break;
    case CL_MEM_OBJECT_IMAGE2D_ARRAY:
        shape[1] = desc->image_height;
        shape[2] = desc->image_array_size;
        break;
    default: break;
    }
}

cl_int image_check_region(cl_mem image, const size_t *origin, const size_t *region)
{
    size_t shape[3];
    if (!origin || !region)
        return CL_INVALID_VALUE;
    image_shape(image, shape);
    for (int i = 0; i < 3; i++)
        if (!region[i] || origin[i] > shape[i] || region[i] > shape[i] - origin[i])
            return CL_INVALID_VALUE;
    return CL_SUCCESS;
}

cl_int image_host_pitches(cl_mem image, const size_t *region, size_t *row_pitch,
                          size_t *slice_pitch)
{
    const size_t row = region[0] * image->element_size;
    /* The images of a 1D array lie a slice apart, and are the rows of its regions. */
    if (image->type == CL_MEM_OBJECT_IMAGE1D_ARRAY && *slice_pitch) {
        if (*slice_pitch < (*row_pitch ? *row_pitch : row))
            return CL_INVALID_VALUE;
        *row_pitch = *slice_pitch;
        *slice_pitch = 0;
    }
    if (*row_pitch && *row_pitch < row)
        return CL_INVALID_VALUE;
    if (!*row_pitch)
        *row_pitch = row;
    if (*slice_pitch && (*slice_pitch < *row_pitch * region[1]))
        return CL_INVALID_VALUE;
    if (!*slice_pitch)
        *slice_pitch = *row_pitch * region[1];
    return CL_SUCCESS;
}

static bool too_large(size_t size, cl_device_info limit)
{
    return !size || size > device_number(limit, SIZE_MAX);
}

static cl_int check_size(const cl_image_desc *desc)
{
    bool wrong = false;
    switch (desc->image_type) {
    case CL_MEM_OBJECT_IMAGE1D_BUFFER:
        wrong = too_large(desc->image_width, CL_DEVICE_IMAGE_MAX_BUFFER_SIZE);
        break;
    case CL_MEM_OBJECT_IMAGE3D:
        wrong = too_large(desc->image_width, CL_DEVICE_IMAGE3D_MAX_WIDTH)
                || too_large(desc->image_height, CL_DEVICE_IMAGE3D_MAX_HEIGHT)
                || too_large(desc->image_depth, CL_DEVICE_IMAGE3D_MAX_DEPTH);
        break;
    case CL_MEM_OBJECT_IMAGE1D_ARRAY:
        wrong = too_large(desc->image_array_size, CL_DEVICE_IMAGE_MAX_ARRAY_SIZE);
        /* fall through */
    case CL_MEM_OBJECT_IMAGE1D:
        wrong |= too_large(desc->image_width, CL_DEVICE_IMAGE2D_MAX_WIDTH);
        break;
    case CL_MEM_OBJECT_IMAGE2D_ARRAY:
        wrong = too_large(desc->image_array_size, CL_DEVICE_IMAGE_MAX_ARRAY_SIZE);
        /* fall through */
    case CL_MEM_OBJECT_IMAGE2D:
        wrong |= too_large(desc->image_width, CL_DEVICE_IMAGE2D_MAX_WIDTH)
                 || too_large(desc->image_height, CL_DEVICE_IMAGE2D_MAX_HEIGHT);
        break;
    default: return CL_INVALID_IMAGE_DESCRIPTOR;
    }
    return wrong ? CL_INVALID_IMAGE_SIZE : CL_SUCCESS;
}

static cl_int check_image(const cl_image_desc *desc, size_t element, const void *host_ptr)
{
    cl_int wrong = check_size(desc);
    if (wrong)
        return wrong;
    const size_t row = desc->image_width * element;
    const bool of_buffer = desc->image_type == CL_MEM_OBJECT_IMAGE1D_BUFFER;
    if (desc->num_mip_levels || desc->num_samples || (of_buffer != (desc->buffer != NULL)))
        return CL_INVALID_IMAGE_DESCRIPTOR;
    if (!host_ptr && !of_buffer && (desc->image_row_pitch || desc->image_slice_pitch))
        return CL_INVALID_IMAGE_DESCRIPTOR;
    if (desc->image_row_pitch && (desc->image_row_pitch < row || desc->image_row_pitch % element))
        return CL_INVALID_IMAGE_DESCRIPTOR;
    if (of_buffer) {
        if (!is_buffer(desc->buffer))
            return CL_INVALID_MEM_OBJECT;
        if (row > desc->buffer->size)
            return CL_INVALID_IMAGE_SIZE;
    }
    return CL_SUCCESS;
}

/* A tightly packed copy of what the program has. */
static struct piece *packed(cl_mem image, void *host_ptr)
{
    size_t size[3];
    image_shape(image, size);
    size[0] *= image->element_size;
    struct piece *piece = piece_take(size[0] * size[1] * size[2]);
    if (piece)
        copy_box((struct box){piece->bytes, size[0], size[0] * size[1]},
                 (struct box){host_ptr, image->row_pitch, image->slice_pitch}, size);
    return piece;
}

static cl_int make_image(cl_mem image, void *host_ptr)
{
    struct piece *answer = piece_take(sizeof(struct gpu_answer_header));
    struct piece *content = host_ptr ? packed(image, host_ptr) : NULL;
    const cl_image_desc *desc = &image->desc;
    cl_mem_flags flags = image->flags & FLAGS_OF_DEVICE;
    if (!answer || (host_ptr && !content)) {
        if (answer)
            piece_give(answer);
        return CL_MEM_OBJECT_ALLOCATION_FAILURE;
    }
    struct gpu_answer_place place = answer_place(answer);
    stream_begin_alone();
    SEND(create_image, &place, .flags = flags | (content ? CL_MEM_COPY_HOST_PTR : 0),
         .width = desc->image_width, .height = desc->image_height, .depth = desc->image_depth,
         .array_size = desc->image_array_size, .blob_offset = content ? content->offset : 0,
         .id = image->object.id, .context = image->context->object.id, .type = image->type,
         .channel_order = image->format.image_channel_order,
         .channel_type = image->format.image_channel_data_type,
         .buffer = image->parent ? image->parent->object.id : 0,
         .blob = content ? content->blob->resource : 0);
    if (content)
        piece_give_after(content);
    return memory_made(answer);
}

/* Sizes that the image's type does not have are 0, whatever the program left there. */
static cl_image_desc clean(const cl_image_desc *given)
{
    cl_image_desc desc = *given;
    const cl_mem_object_type type = desc.image_type;
    if (type != CL_MEM_OBJECT_IMAGE3D)
        desc.image_depth = 0;
    if (type != CL_MEM_OBJECT_IMAGE1D_ARRAY && type != CL_MEM_OBJECT_IMAGE2D_ARRAY)
        desc.image_array_size = 0;
    if (type != CL_MEM_OBJECT_IMAGE2D && type != CL_MEM_OBJECT_IMAGE3D
        && type != CL_MEM_OBJECT_IMAGE2D_ARRAY)
        desc.image_height = 0;
    return desc;
}

cl_mem clCreateImage(cl_context context, cl_mem_flags flags, const cl_image_format *format,
                     const cl_image_desc *given, void *host_ptr, cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    cl_int wrong = memory_check_flags(flags, host_ptr);
    if (wrong)
        FAIL(wrong);
    const size_t element = format ? element_size(format) : 0;
    if (!element)
        FAIL(CL_INVALID_IMAGE_FORMAT_DESCRIPTOR);
    if (!given)
        FAIL(CL_INVALID_IMAGE_DESCRIPTOR);
    if (!device_number(CL_DEVICE_IMAGE_SUPPORT, 0))
        FAIL(CL_INVALID_OPERATION);
    cl_image_desc desc = clean(given);
    wrong = check_image(&desc, element, host_ptr);
    if (wrong)
        FAIL(wrong);
    lock();
    cl_mem image = memory_new(context, desc.image_type, flags, 0);
    wrong = CL_OUT_OF_HOST_MEMORY;
    if (image) {
        size_t shape[3];
        image->format = *format;
        image->desc = desc;
        image->element_size = element;
        image_shape(image, shape);
        image->row_pitch = desc.image_row_pitch;
        image->slice_pitch = desc.image_slice_pitch;
        wrong = image_host_pitches(image, shape, &image->row_pitch, &image->slice_pitch);
        image->size = image->slice_pitch * shape[2];
        if (desc.buffer) {
            object_use(desc.buffer);
            image->parent = desc.buffer;
        }
        if (flags & CL_MEM_USE_HOST_PTR)
            image->host_ptr = host_ptr;
        wrong = wrong ? CL_INVALID_IMAGE_DESCRIPTOR : make_image(image, host_ptr);
    }
    image = memory_give(image, wrong, status);
    unlock();
    return image;
}

cl_mem clCreateImage2D(cl_context context, cl_mem_flags flags, const cl_image_format *format,
                       size_t width, size_t height, size_t row_pitch, void *host_ptr,
                       cl_int *status)
{
    const cl_image_desc desc = {
        .image_type = CL_MEM_OBJECT_IMAGE2D,
        .image_width = width,
        .image_height = height,
        .image_row_pitch = row_pitch,
    };
    return clCreateImage(context, flags, format, &desc, host_ptr, status);
}

cl_mem clCreateImage3D(cl_context context, cl_mem_flags flags, const cl_image_format *format,
                       size_t width, size_t height, size_t depth, size_t row_pitch,
                       size_t slice_pitch, void *host_ptr, cl_int *status)
{
    const cl_image_desc desc = {
        .image_type = CL_MEM_OBJECT_IMAGE3D,
        .image_width = width,
        .image_height = height,
        .image_depth = depth,
        .image_row_pitch = row_pitch,
        .image_slice_pitch = slice_pitch,
    };
    return clCreateImage(context, flags, format, &desc, host_ptr, status);
}

static cl_int ask_formats(struct piece *answer, cl_context context, cl_mem_flags flags,
                          cl_mem_object_type type, cl_uint num_entries, cl_image_format *formats,
                          cl_uint *num_formats)
{
    struct gpu_answer_place place = answer_place(answer);
    stream_begin_alone();
    SEND(get_image_formats, &place, .flags = flags & FLAGS_OF_DEVICE,
         .context = context->object.id, .type = type);
    stream_ask(answer);
    cl_int status = answer_status(answer);
    struct gpu_image_formats found;
    uint64_t size;
    const void *body = answer_body(answer, &size);
    if (status)
        return status;
    if (!gpu_decode_image_formats(body, size, &found))
        return CL_OUT_OF_RESOURCES;
    const cl_uint count = found.formats_count / 2;
    for (cl_uint i = 0; formats && i < count && i < num_entries; i++)
        formats[i] = (cl_image_format){found.formats[2 * i], found.formats[2 * i + 1]};
    if (num_formats)
        *num_formats = count;
    return CL_SUCCESS;
}

cl_int clGetSupportedImageFormats(cl_context context, cl_mem_flags flags, cl_mem_object_type type,
                                  cl_uint num_entries, cl_image_format *formats,
                                  cl_uint *num_formats)
{
    if (!is_object(context, CONTEXT))
        return CL_INVALID_CONTEXT;
    if (type < CL_MEM_OBJECT_IMAGE2D || type > CL_MEM_OBJECT_IMAGE1D_BUFFER
        || (formats && !num_entries))
        return CL_INVALID_VALUE;
    lock();
    struct piece *answer = piece_take(GPU_MAX_ANSWER / 16);
    cl_int status = CL_OUT_OF_HOST_MEMORY;
    if (answer) {
        status = ask_formats(answer, context, flags, type, num_entries, formats, num_formats);
        piece_give(answer);
    }
    unlock();
    return status;
}

cl_int clGetImageInfo(cl_mem image, cl_image_info name, size_t size, void *value, size_t *size_ret)
{
    if (!is_image(image))
        return CL_INVALID_MEM_OBJECT;
    const cl_mem_object_type type = image->type;
    const bool has_slices = type == CL_MEM_OBJECT_IMAGE3D || type == CL_MEM_OBJECT_IMAGE2D_ARRAY
                            || type == CL_MEM_OBJECT_IMAGE1D_ARRAY;
    const size_t slice =
        type == CL_MEM_OBJECT_IMAGE1D_ARRAY ? image->row_pitch : image->slice_pitch;
    switch (name) {
    case CL_IMAGE_FORMAT: GIVE(cl_image_format, image->format);
    case CL_IMAGE_ELEMENT_SIZE: GIVE(size_t, image->element_size);
    case CL_IMAGE_ROW_PITCH: GIVE(size_t, image->row_pitch);
    case CL_IMAGE_SLICE_PITCH: GIVE(size_t, has_slices ? slice : 0);
    case CL_IMAGE_WIDTH: GIVE(size_t, image->desc.image_width);
    case CL_IMAGE_HEIGHT: GIVE(size_t, image->desc.image_height);
    case CL_IMAGE_DEPTH: GIVE(size_t, image->desc.image_depth);
    case CL_IMAGE_ARRAY_SIZE: GIVE(size_t, image->desc.image_array_size);
    case CL_IMAGE_BUFFER: GIVE(cl_mem, image->parent);
    case CL_IMAGE_NUM_MIP_LEVELS: GIVE(cl_uint, 0);
    case CL_IMAGE_NUM_SAMPLES: GIVE(cl_uint, 0);
    default: return CL_INVALID_VALUE;
    }
}
