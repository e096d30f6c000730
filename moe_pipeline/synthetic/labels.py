"""Numbering of the labels in a synthetic label map: one byte says what a voxel is."""

AIR = 0
CELLS = range(1, 33)
"""Warped Voronoi cells: clutter, or the organs inside a body."""
SKIN, FAT, MUSCLE, BONE, LUNG, FILLING = 33, 34, 35, 36, 37, 38
SCALP, SKULL, FLUID, CORTEX, WHITE, VENTRICLE, NUCLEUS_LEFT, NUCLEUS_RIGHT = range(40, 48)
BANDS = range(64, 80)
"""Nested bands of two smooth fields; the second changes fastest."""
BLOBS = range(80, 90)
"""Regions where one of several smooth fields is the highest."""
N_OBJECTS = 8
FIELD, PARENT, CHILD, TWIN, MAIN = 0, 4, 5, 6, 7
"""Slots of the painted objects, in the order of painting; 1 to 3 have no special part."""
FIRST_OBJECT = 96
PER_OBJECT = 8
IN_CORE, IN_SECOND_PART, IN_CENTRE = 1, 2, 4
"""Bits of an object's label: deeper than its rim; behind its cut; deeper than its core."""
STRUCTURES = range(1, FIRST_OBJECT)
"""Structures of a real label map, in the order of their numbers there; instead of all labels up to here but AIR."""
OTHER_ORGANS = range(160, 192)
"""Cells in what a real label map leaves open."""
LESION = 192
"""A real lesion."""
OUTSIDE = 255
"""Beyond the field of view."""
N_LABELS = 256


def of_object(slot: int) -> range:
    """All labels of one object."""
    return range(FIRST_OBJECT + PER_OBJECT * slot, FIRST_OBJECT + PER_OBJECT * (slot + 1))
