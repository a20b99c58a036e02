"""Pictures that a training set and validation pairs have in common."""

from facesr.data.packed.reader import PackedDataset, Pairs


def in_both(faces: PackedDataset, pairs: Pairs) -> tuple[str, ...]:
    """Returns the names of the pairs whose picture comes from a file that a training picture comes from, too.

    Files are known by their sha256; a picture that was saved anew is another file.
    """
    known = set(faces.digests) - {""}
    return tuple(name for name, digest in zip(pairs.names, pairs.digests, strict=False) if digest in known)
