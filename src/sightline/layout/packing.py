"""First-fit decreasing bin packing: groups into rows of a grid, and rows into micro-batches.

Never more than 11/9 · optimum + 6/9 bins (Dósa 2007).
"""


def first_fit_decreasing(sizes: list[int], capacity: int) -> list[list[int]]:
    """Put items into bins of `capacity`: the largest first, each into the first bin that has room.

    sizes: size of each item, in tokens. capacity: room of a bin, in the same unit.
    Returns the bins as lists of item indices, each in ascending order; bins in the order of their first item.
    An item larger than the capacity gets a bin of its own.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        fitting = next((b for b, free in enumerate(room) if sizes[item] <= free), None)
        if fitting is None:
            bins.append([item])
            room.append(capacity - sizes[item])
        else:
            bins[fitting].append(item)
            room[fitting] -= sizes[item]
    return sorted((sorted(items) for items in bins), key=lambda items: items[0])
