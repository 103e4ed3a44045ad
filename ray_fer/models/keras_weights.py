"""Keras' weights from local files, and under the names and in the shapes of torch modules. Never a pickle.

Read are HDF5 as keras.applications publishes it and `save_weights("x.h5")` writes it, Keras 3's `*.weights.h5` of one
flat network, and NumPy's `.npz`. Files are taken for untrusted: nothing that they point to elsewhere is followed, and
what their arrays claim to be is compared with what the file holds before any of them is read.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MAX_BYTES = 2**30
"""Of all arrays of one file; those of a ResNet152V2 have 0.24 GB."""
_CONVOLUTION = {"kernel": "weight", "bias": "bias"}
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_ARRAYS: dict[type[nn.Module], Mapping[str, str]] = {
    nn.Conv2d: _CONVOLUTION, nn.Linear: _CONVOLUTION, nn.BatchNorm2d: _NORM,
}  # fmt: skip
"""Keras' names of a layer's arrays, and torch's."""
_VARIABLES = {1: ("kernel",), 2: ("kernel", "bias"), 4: tuple(_NORM)}
"""What Keras 3 numbers, by how many arrays a layer has: convolutions, dense layers, batch normalisations."""
_TO_TORCH = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
_TO_KERAS = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
"""Kernels are [H,W,I,O] and [I,O] in Keras, [O,I,H,W] and [O,I] in torch."""


def read_keras(path: str | Path) -> dict[str, Tensor]:
    """Every array of a file as float32 by Keras' names, such as "conv1_conv/kernel", in Keras' shapes.

    Raises FileNotFoundError, and ValueError that names the file and the array for a file that is damaged, of another
    layout or larger than MAX_BYTES, and for arrays of anything but floating-point numbers.
    """
    path = Path(path)
    try:
        arrays = _read_npz(path) if path.suffix == ".npz" else _read_hdf5(path)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no Keras weights that can be read: {error}") from error
    if not arrays:
        raise ValueError(f"{path} holds no arrays")
    return arrays


def fitted(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keras' arrays under the names and in the shapes of `module`, whose submodule "a.b" is Keras' layer "a_b".

    `arrays` are what `read_keras` gave. Raises ValueError that names the array for one that `module` has no place for,
    one that is missing, and one of another shape, with both shapes as Keras has them.
    """
    places = {
        f"{path.replace('.', '_')}/{theirs}": (f"{path}.{ours}", getattr(one, ours))
        for path, one in module.named_modules()
        for theirs, ours in _ARRAYS.get(type(one), {}).items()
        if getattr(one, ours) is not None
    }
    for what, names in (("unknown", arrays.keys() - places.keys()), ("missing", places.keys() - arrays.keys())):
        if names:
            some = ", ".join(sorted(names)[:3])
            raise ValueError(f"{len(names)} arrays are {what}: {some}" + (", ..." if len(names) > 3 else ""))
    found = {}
    for name, (ours, tensor) in places.items():
        array, wanted = arrays[name], tuple(tensor.shape[axis] for axis in _TO_KERAS[tensor.ndim])
        if tuple(array.shape) != wanted:
            raise ValueError(f"{name} has shape {tuple(array.shape)}, and the model's has {wanted}")
        found[ours] = array.permute(_TO_TORCH[tensor.ndim]).contiguous()
    return found


def _read_hdf5(path: Path) -> dict[str, Tensor]:
    import h5py

    with h5py.File(path, "r") as file:
        root = _group(file, "model_weights") if "model_weights" in file else file  # a whole model, saved by Keras 2
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            datasets = list(_legacy(root))
        elif "layers" in root:
            datasets = list(_numbered(_group(root, "layers")))
        else:
            raise ValueError("it has neither layer_names nor layers")
        total = 0
        for name, dataset in datasets:
            total += _stored_bytes(name, dataset)
        if total > MAX_BYTES:
            raise ValueError(f"its arrays have {total} bytes; up to {MAX_BYTES} are read")
        arrays = {name: _tensor(dataset[()]) for name, dataset in datasets}
    if len(arrays) < len(datasets):
        raise ValueError("it has several arrays of one name")
    return arrays


def _legacy(root: Any) -> Iterator[tuple[str, Any]]:
    """Arrays of a file that lists its layers, and each layer's weights, as attributes."""
    for layer in _listed(root, "layer_names"):
        group = _group(root, layer)
        for name in _listed(group, "weight_names"):
            # "kernel:0" in files of Keras 2; a network within a network puts its own layers' names before that.
            yield "/".join([layer, *name.split("/")][-2:]).rsplit(":", 1)[0], _inside(group, name)


def _numbered(layers: Any) -> Iterator[tuple[str, Any]]:
    """Arrays of Keras 3's layout, where they are numbered and the layer's name is an attribute beside them."""
    for place in layers:
        layer = _group(layers, place)
        arrays = _group(layer, "vars") if "vars" in layer else None
        if arrays is None or not len(arrays):  # a layer without weights
            continue
        if "name" not in arrays.attrs or len(arrays) not in _VARIABLES:
            raise ValueError(f"layers/{place} has {len(arrays)} arrays, and {arrays.attrs.get('name', 'no name')}")
        for number, name in enumerate(_VARIABLES[len(arrays)]):
            yield f"{arrays.attrs['name']}/{name}", _inside(arrays, str(number))


def _listed(group: Any, name: str) -> list[str]:
    """Names in an attribute, which Keras cuts into numbered ones where they are many."""
    parts = (
        [name] if name in group.attrs else takewhile(lambda one: one in group.attrs, (f"{name}{i}" for i in count()))
    )
    names = [one for part in parts for one in np.ravel(group.attrs[part]).tolist()]
    if not all(isinstance(one, bytes | str) for one in names):
        raise ValueError(f"{name} of {group.name} are not names")
    return [one.decode() if isinstance(one, bytes) else one for one in names]


def _group(parent: Any, path: str) -> Any:
    """A group at `path`; to ask an array what is in it would read all of it."""
    import h5py

    group = _inside(parent, path)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{group.name} is an array")
    return group


def _inside(group: Any, path: str) -> Any:
    """What lies at `path` in the same file. A link may lead out of the file, to whatever the reader may read."""
    import h5py

    for part in path.split("/"):
        if not isinstance(group, h5py.Group) or part not in group:
            raise ValueError(f"it has no {group.name.rstrip('/')}/{part}")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name.rstrip('/')}/{part} is a link")
        group = group[part]
    return group


def _stored_bytes(name: str, dataset: Any) -> int:
    """Size of an array. ValueError where it is no plain array of numbers that lies in the file in full."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{name} is no array")
    _check_dtype(name, dataset.dtype)
    if dataset.external or dataset.is_virtual or dataset.chunks is not None:
        raise ValueError(f"{name} is compressed, in parts or in another file, as Keras stores none")
    announced, stored = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if announced != stored:
        raise ValueError(f"{name} has shape {dataset.shape}, {announced} bytes, and {stored} are stored")
    return announced


def _read_npz(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        total = sum(one.file_size for one in archive.infolist())
        if total > MAX_BYTES:
            raise ValueError(f"its arrays have {total} bytes; up to {MAX_BYTES} are read")
        for one in archive.infolist():
            with archive.open(one) as member:
                _check_header(one.filename, member, one.file_size)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: _tensor(arrays[name]) for name in arrays.files}


def _check_header(name: str, member: Any, size: int) -> None:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    else:
        raise ValueError(f"{name} is of version {version}")
    _check_dtype(name, dtype)
    announced, stored = math.prod(shape) * dtype.itemsize, size - member.tell()
    if announced != stored:
        raise ValueError(f"{name} has shape {shape}, {announced} bytes, and {stored} are stored")


def _check_dtype(name: str, dtype: np.dtype) -> None:
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"{name} has dtype {dtype}, and weights are floating-point numbers")


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))
