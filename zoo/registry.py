"""The rooms of the zoo by name.

Only this table (and the entry points of installed packages) maps a name to a class: a checkpoint or a downloaded file names
its room, never a class path.
"""

from importlib import import_module

from zoo.errors import ZooError

ROOMS: dict[str, str] = {
    "cyclegan": "zoo.cyclegan:CycleGAN",
    "aggan": "zoo.aggan:AGGAN",
    "sat": "zoo.sat:SAT",
    "unit": "zoo.unit:UNIT",
    "unit_digits": "zoo.unit.digits:UNITDigits",
    "alae": "zoo.alae:StyleALAE",
    "alae_mnist": "zoo.alae.mlp:MLPALAE",
    "consingan": "zoo.consingan:ConSinGAN",
    "singan": "zoo.singan:SinGAN",
    "biggan": "zoo.biggan:BigGAN",
    "gpunit": "zoo.gpunit:GPUNIT",
    "starganv2": "zoo.starganv2:StarGANv2",
    "gpunit_prior": "zoo.gpunit.prior:PriorDistillation",
    "hidt": "zoo.hidt:HiDT",
    "hidt_enhancer": "zoo.hidt.enhancement:HiDTEnhancer",
}
ENTRY_POINT_GROUP = "translation_zoo.rooms"


def rooms() -> dict[str, str]:
    """Names of all rooms, our own and those of installed packages, with their `module:Class`."""
    from importlib.metadata import entry_points  # costs more than all other imports of this package together

    return {**{point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}, **ROOMS}


def room_class(name: str) -> type:
    """Import the class of a room.

    Args:
        name: a room's name, such as `cyclegan`.

    Raises:
        ZooError: no room has this name.
    """
    known = rooms()
    if name not in known:
        raise ZooError(f"There is no room named {name!r}. Rooms: {', '.join(sorted(known))}.")
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)


def room_name(cls: type) -> str:
    """The registered name of a room's class.

    A class may be registered by the folder it is exported from: `zoo.gpunit:GPUNIT` is also `zoo.gpunit.model:GPUNIT`.

    Raises:
        ZooError: the class is not registered.
    """
    for name, value in rooms().items():
        module, _, attribute = value.partition(":")
        if attribute == cls.__qualname__ and f"{cls.__module__}.".startswith(f"{module}."):
            return name
    raise ZooError(
        f"{cls.__module__}:{cls.__qualname__} is not a registered room. Rooms of other packages are announced by the entry "
        f"point group {ENTRY_POINT_GROUP!r} in their pyproject.toml."
    )
