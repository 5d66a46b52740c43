"""Guest images: a catalogue of Debian packages, a cache of what they hold, and recipes to build."""

from hypervisor.images.catalogue import Catalogue, Reference, parse_reference
from hypervisor.images.errors import (
    DescriptionError,
    ImageError,
    NoPackageSource,
    PackageNotFound,
)
from hypervisor.images.images import ImageFile, ImageInfo, Images

__all__ = [
    "Catalogue",
    "DescriptionError",
    "ImageError",
    "ImageFile",
    "ImageInfo",
    "Images",
    "NoPackageSource",
    "PackageNotFound",
    "Reference",
    "parse_reference",
]
