"""Where pictures come from: one Lightning DataModule per kind of data, loaded when it is first asked for.

Every DataModule hands out dictionaries of uint8 `b c h w`, which become floats in [-1, 1] on the device.
"""

from importlib import import_module

_MODULES = {
    "UnpairedFolders": "unpaired",
    "Scenes": "scenes",
    "BigGANPairs": "biggan_pairs",
    "ClassFolders": "class_images",
    "Domains": "domains",
    "Digits": "digits",
    "Landscapes": "landscapes",
    "AlignedPictures": "aligned",
    "ClassDigits": "digit_classes",
    "SingleImage": "single_image",
}


def __getattr__(name: str) -> type:
    if name in _MODULES:
        return getattr(import_module(f"datamodules.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'datamodules' has no attribute {name!r}; it offers {', '.join(sorted(_MODULES))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
