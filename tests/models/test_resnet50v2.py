"""ResNet50V2, and Keras' weights, against Keras itself on its torch backend."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.resnet50v2 import ResNet50V2
from ray_fer.models.batch import ClipBatch
from ray_fer.models.keras_weights import MAX_BYTES, fitted, read_keras
from ray_fer.models.pretrained import load_pretrained
from ray_fer.models.resnet50v2 import ResNet50V2Classifier

NARROW = {"width": 8, "blocks": (2, 3, 2, 2)}
SIDE = 64
LAST_10 = ["conv5_block3.1_bn", "conv5_block3.2_conv", "conv5_block3.2_bn", "conv5_block3.3_conv", "post_bn"]


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_TORCH_DEVICE", "cpu")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))  # it writes its configuration there
        import keras

        assert keras.backend.backend() == "torch"
        yield keras


def randomised(keras: Any, net: Any) -> Any:
    """Everything that starts at 0 or 1 moved away from there."""
    chance = np.random.default_rng(0)
    for variable in net.weights:
        name, shape = variable.path.rsplit("/", 1)[1], variable.shape
        if name in ("gamma", "moving_variance"):
            variable.assign(chance.uniform(0.5, 1.5, shape))
        elif name != "kernel":
            variable.assign(chance.normal(0, 0.1, shape))
    return net


def narrow_net(keras: Any, size: tuple[int, int] = (SIDE, SIDE)) -> Any:
    """Keras' stacks of blocks behind a narrow stem; keras.applications has none but the wide one."""
    from keras.src.applications.resnet import stack_residual_blocks_v2

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    layers, image = keras.layers, keras.Input((*size, 3))
    x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = layers.Conv2D(NARROW["width"], 7, strides=2, name="conv1_conv")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stack, blocks in enumerate(NARROW["blocks"]):
        stride = 1 if stack == 3 else 2
        planes = NARROW["width"] * 2**stack
        x = stack_residual_blocks_v2(x, planes, blocks, stride1=stride, name=f"conv{stack + 2}")
    x = layers.BatchNormalization(epsilon=1.001e-5, name="post_bn")(x)
    return randomised(keras, keras.Model(image, layers.Activation("relu", name="post_relu")(x)))


def wide_net(keras: Any, include_top: bool) -> Any:
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    shape = (96, 96, 3)
    return randomised(keras, keras.applications.ResNet50V2(include_top, weights=None, input_shape=shape))


def write(net: Any, path: Path) -> Path:
    """In the layout that the name stands for, by Keras where Keras has one."""
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    if path.suffix == ".npz":
        np.savez(path, **{variable.path: variable.numpy() for variable in net.weights})
    elif path.name.endswith(".weights.h5"):
        net.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, net)
            if path.name.startswith("keras2"):
                as_keras_2(file)
    return path


def as_keras_2(file: Any) -> None:
    """Its weights are called "kernel:0"."""
    for layer in file.attrs["layer_names"]:
        group = file[layer]
        names = [str(name) for name in group.attrs["weight_names"]]
        for name in names:
            group.move(name, f"{name}:0")
        if names:
            group.attrs["weight_names"] = np.array([f"{name}:0" for name in names], "S")


def images(count: int, *size: int) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def theirs(net: Any, frames: Tensor) -> Tensor:
    """Of a Keras network in inference, with channels second as ours."""
    with torch.no_grad():
        return net(frames.permute(0, 2, 3, 1), training=False).permute(0, 3, 1, 2)


def classifier(**config: Any) -> ResNet50V2Classifier:
    torch.manual_seed(0)
    return ResNet50V2Classifier(**{**NARROW, **config})


def taken_from(net: Any, **config: Any) -> ResNet50V2Classifier:
    model = classifier(**config)
    arrays = {variable.path: torch.tensor(variable.numpy()) for variable in net.weights}
    model.load_state_dict({**model.state_dict(), **model.adapted(arrays)})
    return model


def test_the_published_network_computes_what_keras_does(keras: Any, tmp_path: Path) -> None:
    net = wide_net(keras, include_top=True)
    assert net.count_params() == 25_613_800
    path = write(net, tmp_path / "resnet50v2_weights_tf_dim_ordering_tf_kernels.h5")
    model = ResNet50V2Classifier().eval()
    arrays = read_keras(path)
    assert {name.split("/")[0] for name in arrays} == {one.name for one in net.layers if one.weights}
    adapted = model.adapted(arrays)
    model.load_state_dict({**model.state_dict(), **adapted})
    left = model.state_dict().keys() - adapted.keys()
    assert {name for name in left if not name.endswith("num_batches_tracked")} == {"head.weight", "head.bias"}
    assert sum(one.numel() for one in adapted.values()) == 23_564_800
    frames = images(2, 96, 96)
    maps = theirs(keras.Model(net.input, net.get_layer("post_relu").output), frames)
    with torch.no_grad():
        ours = model.backbone(frames)
    assert ours.shape == (2, 2048, 3, 3)
    assert 0.1 < (ours > 0).float().mean() < 0.9
    torch.testing.assert_close(ours, maps, atol=1e-4, rtol=0)


def test_layers_are_counted_as_keras_counts_them(keras: Any) -> None:
    net = wide_net(keras, include_top=False)
    with torch.device("meta"):
        model = ResNet50V2()
    assert model.keras_layers() == [one.name for one in net.layers]
    assert len(net.layers) == 190
    assert [one.name for one in net.layers[-10:] if one.weights] == [name.replace(".", "_") for name in LAST_10]
    assert model.last_layers(10) == LAST_10
    for count in range(1, 191):
        weighted = [one.name for one in net.layers[-count:] if one.weights]
        assert [name.replace(".", "_") for name in model.last_layers(count)] == weighted
    assert model.last_layers(0) == []
    assert set(model.last_layers(190)) == set(model.weighted())
    for count in (-1, 191):
        with pytest.raises(ValueError, match=f"has 190 layers as Keras counts them, not {count}"):
            model.last_layers(count)


def test_published_size_but_for_moving_statistics() -> None:
    with torch.device("meta"):
        model = ResNet50V2Classifier(classes=1000)
    statistics = sum(one.numel() for name, one in model.named_buffers() if "running" in name)
    assert sum(one.numel() for one in model.parameters()) + statistics == 25_613_800
    (published,) = model.card.published
    assert published.parameters == pytest.approx(25.6138)


@pytest.mark.parametrize("name", ["new.h5", "keras2.h5", "net.weights.h5", "net.npz"])
@pytest.mark.parametrize("size", [(64, 64), (45, 58)], ids=["64x64", "45x58"])
def test_every_layout_gives_the_same_network(keras: Any, name: str, size: tuple[int, int], tmp_path: Path) -> None:
    net = narrow_net(keras, size)
    model = classifier().eval()
    adapted = model.adapted(read_keras(write(net, tmp_path / name)))
    model.load_state_dict({**model.state_dict(), **adapted})
    frames = images(2, *size)
    with torch.no_grad():
        ours = model.backbone(frames)
    assert ours.shape == (2, model.backbone.dim, 2, 2)
    torch.testing.assert_close(ours, theirs(net, frames), atol=1e-5, rtol=0)


def test_weights_are_loaded_and_only_the_classifier_is_left(keras: Any, tmp_path: Path) -> None:
    path = write(narrow_net(keras), tmp_path / "net.npz")
    loaded = load_pretrained(classifier(head="released"), path)
    assert {name.split(".")[0] for name in loaded.loaded} == {"backbone"}
    assert {name.split(".")[0] for name in loaded.left if "num_batches" not in name} == {"neck", "head"}
    with pytest.raises(ValueError, match=r"net\.npz: 84 arrays are unknown: conv3_block3_1_bn/beta, "):
        load_pretrained(ResNet50V2Classifier(width=8, blocks=(2, 2)), path)


def test_further_channels_count_for_nothing_yet(keras: Any) -> None:
    net = narrow_net(keras)
    plain, more = taken_from(net).eval(), taken_from(net, channels=6).eval()
    frames = torch.cat([images(2, SIDE, SIDE), torch.randn(2, 3, SIDE, SIDE)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(more.backbone(frames), plain.backbone(frames[:, :3]))


def test_the_second_phase_trains_as_in_keras(keras: Any) -> None:
    net = narrow_net(keras)
    for layer in net.layers[:-10]:
        layer.trainable = False
    dense = keras.layers.Dense(7)
    whole = keras.Sequential([net, keras.layers.GlobalAveragePooling2D(), dense])
    frames, label = images(4, SIDE, SIDE), torch.tensor([0, 6, 2, 3])
    logits = whole(frames.permute(0, 2, 3, 1), training=True)
    # A copy: what Keras trained has moved its statistics.
    model = taken_from(narrow_net(keras), trainable_layers=10, dropout=0.0).train()
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor(dense.kernel.numpy().T))
    before = {name: one.clone() for name, one in model.backbone.named_buffers()}

    their_loss = functional.cross_entropy(logits, label)
    their_loss.backward()
    our_loss = functional.cross_entropy(model(ClipBatch(frames[:, None])).logits, label)
    our_loss.backward()
    torch.testing.assert_close(our_loss, their_loss, atol=1e-5, rtol=1e-5)
    assert our_loss.item() > 0.5
    trained = model.backbone.last_layers(10)
    for name, parameter in model.backbone.named_parameters():
        assert (parameter.grad is not None) == (name.rsplit(".", 1)[0] in trained), name
    variables = {variable.path: variable for variable in net.weights}
    gamma = variables["post_bn/gamma"].value.grad
    assert gamma.abs().max() > 1e-3
    torch.testing.assert_close(model.backbone.post_bn.weight.grad, gamma, atol=1e-5, rtol=1e-3)
    kernel = variables[f"{trained[1].replace('.', '_')}/kernel"].value.grad.permute(3, 2, 0, 1)
    torch.testing.assert_close(model.backbone.get_submodule(trained[1]).weight.grad, kernel, atol=1e-5, rtol=1e-3)

    values = 4 * 2 * 2  # of a channel in the last stack
    for name, start in before.items():
        module, kind = name.rsplit(".", 1)
        if kind == "num_batches_tracked":
            continue
        kind = {"running_mean": "moving_mean", "running_var": "moving_variance"}[kind]
        wanted = torch.tensor(variables[f"{module.replace('.', '_')}/{kind}"].numpy())
        if kind == "moving_variance" and module in trained:
            wanted = 0.99 * start + (wanted - 0.99 * start) * values / (values - 1)
        now = model.backbone.get_buffer(name)
        torch.testing.assert_close(now, wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(now, start) == (module not in trained), name


@pytest.mark.parametrize("layers", [0, 10, None])
def test_what_is_frozen_stays_as_it_is(layers: int | None) -> None:
    model = classifier(trainable_layers=layers)
    before = {name: one.clone() for name, one in model.backbone.state_dict().items()}
    trained = model.backbone.weighted() if layers is None else model.backbone.last_layers(layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        model.eval().train()  # as before and after each epoch
        optimizer.zero_grad()
        functional.cross_entropy(model(ClipBatch(images(4, SIDE, SIDE)[:, None])).logits, torch.arange(4)).backward()
        optimizer.step()
    for name, now in model.backbone.state_dict().items():
        assert (now != before[name]).any() == (name.rsplit(".", 1)[0] in trained), name
    assert model.head.weight.grad.abs().sum() > 0


def test_phases_follow_each_other_in_one_model() -> None:
    model = classifier(trainable_layers=0).train()
    norm = model.backbone.post_bn
    assert not norm.training
    assert not any(one.requires_grad for one in model.backbone.parameters())
    model.freeze(10)
    assert norm.training
    assert norm.weight.requires_grad
    assert not model.backbone.get_submodule("conv2_block1.1_bn").training
    model.eval()
    model.freeze(None)
    assert not norm.training
    assert all(one.training for one in model.train().modules())
    assert all(one.requires_grad for one in model.parameters())


def test_the_released_head() -> None:
    model = classifier(head="released").eval()
    linear = [one for one in model.neck if isinstance(one, nn.Linear)] + [model.head]
    assert [one.out_features for one in linear] == [512, 256, 128, 64, 7]
    assert [one.p for one in model.neck if isinstance(one, nn.Dropout)] == [0.1] * 4
    norm = model.neck[0]
    nn.init.normal_(norm.running_mean)
    frames = images(3, SIDE, SIDE)
    with torch.no_grad():
        maps = model.backbone(frames)
        maps = (maps - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-3).sqrt()
        x = maps.mean(dim=(2, 3))
        for one in linear[:-1]:
            x = functional.linear(x, one.weight, one.bias).relu()
        output = model(ClipBatch(frames[:, None]))
        torch.testing.assert_close(output.features, x)
        torch.testing.assert_close(output.logits, model.head(x))
    with pytest.raises(ValueError, match="unknown head 'linear'; there are 'paper' and 'released'"):
        classifier(head="linear")


@pytest.mark.parametrize("head", ["paper", "released"])
def test_a_clip_is_the_mean_of_its_frames(head: str) -> None:
    model = classifier(head=head).eval()
    frames = images(6, 32, 32)
    with torch.no_grad():
        clips, stills = model(ClipBatch(frames.unflatten(0, (2, 3)))), model(ClipBatch(frames[:, None]))
    torch.testing.assert_close(clips.features, stills.features.unflatten(0, (2, 3)).mean(1))
    torch.testing.assert_close(clips.logits, stills.logits.unflatten(0, (2, 3)).mean(1))


def test_it_starts_as_in_keras(keras: Any) -> None:
    net = narrow_net(keras)
    torch.manual_seed(3)
    model = ResNet50V2(**NARROW)
    torch.manual_seed(3)
    assert all(
        torch.equal(one, two) for one, two in zip(model.parameters(), ResNet50V2(**NARROW).parameters(), strict=True)
    )
    kernels = {variable.path: variable.numpy() for variable in net.weights if variable.path.endswith("kernel")}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            (same,) = (one for path, one in kernels.items() if path == f"{name.replace('.', '_')}/kernel")
            # The largest of many uniform numbers is close to the bound of both.
            assert module.weight.abs().max().item() == pytest.approx(np.abs(same).max(), rel=0.02)
            assert module.bias is None or not module.bias.any()
    with pytest.raises(ValueError, match=r"2 blocks or more, not \(3, 1\)"):
        ResNet50V2(8, (3, 1))


def test_arrays_that_do_not_fit_are_named(keras: Any, tmp_path: Path) -> None:
    model, path = classifier(), write(narrow_net(keras), tmp_path / "net.npz")
    arrays = read_keras(path)
    with pytest.raises(ValueError, match=r"1 arrays are unknown: conv2_block1_0_bn/gamma$"):
        model.adapted({**arrays, "conv2_block1_0_bn/gamma": torch.ones(32)})
    with pytest.raises(ValueError, match=r"1 arrays are missing: post_bn/beta$"):
        model.adapted({name: one for name, one in arrays.items() if name != "post_bn/beta"})
    wrong = r"conv1_conv/kernel has shape \(3, 3, 3, 8\), and the model's has \(7, 7, 3, 8\)"
    np.savez(path, **{**arrays, "conv1_conv/kernel": np.zeros((3, 3, 3, 8), np.float32)})
    with pytest.raises(ValueError, match=rf"net\.npz: {wrong}"):
        load_pretrained(model, path)
    wide = r"conv1_conv/kernel has shape \(7, 7, 3, 8\), and the model's has \(7, 7, 3, 16\)"
    with pytest.raises(ValueError, match=wide):
        ResNet50V2Classifier(width=16, blocks=NARROW["blocks"]).adapted(arrays)


def test_dense_kernels_are_transposed() -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    kernel = torch.arange(6.0).reshape(3, 2)
    found = fitted(module, {"0/kernel": kernel, "0/bias": torch.ones(2)})
    torch.testing.assert_close(found["0.weight"], kernel.T)


def hdf5(path: Path, **weights: Any) -> Any:
    """An open legacy file of one layer "a" whose weights have these names."""
    file = h5py.File(path, "w")
    file.attrs["layer_names"] = np.array([b"a"])
    file.create_group("a").attrs["weight_names"] = np.array([name.encode() for name in weights])
    for name, value in weights.items():
        file["a"][name] = value
    return file


def test_names_that_are_cut_into_parts_and_whole_models_of_keras_2(tmp_path: Path) -> None:
    names = [f"layer_with_a_long_name_{index}" for index in range(5)]
    with h5py.File(tmp_path / "model.h5", "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names0"], root.attrs["layer_names1"] = np.array(names[:3], "S"), np.array(names[3:], "S")
        for index, name in enumerate(names):
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"outer/{name}/kernel:0"]
            group[f"outer/{name}/kernel:0"] = np.full((2, 2), index, ">f8")
    arrays = read_keras(tmp_path / "model.h5")
    assert list(arrays) == [f"{name}/kernel" for name in names]
    assert [one.mean().item() for one in arrays.values()] == [0, 1, 2, 3, 4]
    assert {one.dtype for one in arrays.values()} == {torch.float32}


def test_hdf5_files_cannot_point_elsewhere_nor_promise_more_than_they_hold(tmp_path: Path) -> None:
    with hdf5(tmp_path / "other.h5", kernel=np.ones(3, np.float32)):
        pass
    external = [(str(tmp_path / "other.h5"), 0, 12)]
    layout = h5py.VirtualLayout(3, "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a/kernel", 3)
    cases = {
        "a/kernel is a link": lambda group: group.__setitem__("kernel", h5py.ExternalLink("other.h5", "a/kernel")),
        "/a/kernel is a link": lambda group: group.__setitem__("kernel", h5py.SoftLink("/a/else")),
        "in another file": lambda group: group.create_dataset("kernel", 3, "f4", external=external),
        "in parts or in another": lambda group: group.create_virtual_dataset("kernel", layout),
        "is compressed": lambda group: group.create_dataset("kernel", 2**40, "f4", chunks=(4,), compression="gzip"),
        r"has shape \(1099511627776,\), \d+ bytes, and 0 are": lambda group: group.create_dataset(
            "kernel", 2**40, "f4"
        ),
        "a/kernel is no array": lambda group: group.create_group("kernel"),
        "it has no /a/kernel": lambda group: None,
        "dtype object": lambda group: group.create_dataset("kernel", data="text"),
        "dtype int64": lambda group: group.create_dataset("kernel", data=[1, 2]),
    }
    for index, (message, put) in enumerate(cases.items()):
        path = tmp_path / f"file{index}.h5"
        with hdf5(path, kernel=np.ones(1, np.float32)) as file:
            del file["a/kernel"]
            put(file["a"])
        with pytest.raises(ValueError, match=rf"file{index}\.h5 holds no Keras weights that can be read: .*{message}"):
            read_keras(path)


def test_files_that_are_damaged_or_something_else(keras: Any, tmp_path: Path) -> None:
    net = narrow_net(keras)
    for name in ("old.h5", "net.weights.h5", "net.npz"):
        path = write(net, tmp_path / name)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(ValueError, match=rf"{name} holds no Keras weights that can be read: "):
            read_keras(path)
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.h5 holds no Keras weights"):
        read_keras(tmp_path / "text.h5")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images"] = np.ones(3)
    with pytest.raises(ValueError, match="it has neither layer_names nor layers"):
        read_keras(tmp_path / "data.h5")
    with hdf5(tmp_path / "twice.h5", **{"kernel": np.ones(1), "kernel:0": np.ones(1)}):
        pass
    with pytest.raises(ValueError, match="several arrays of one name"):
        read_keras(tmp_path / "twice.h5")
    with hdf5(tmp_path / "none.h5"):
        pass
    with pytest.raises(ValueError, match=r"none\.h5 holds no arrays"):
        read_keras(tmp_path / "none.h5")
    for place in ("layers", "layers/dense", "layers/dense/vars", "model_weights"):
        with h5py.File(tmp_path / "flat.weights.h5", "w") as file:
            file.create_dataset(place, 2**40, "f4")
        with pytest.raises(ValueError, match=f"/{place} is an array"):
            read_keras(tmp_path / "flat.weights.h5")
    with h5py.File(tmp_path / "numbered.weights.h5", "w") as file:
        file.create_group("layers/activation/vars")
        file["layers/dense/vars/0"] = np.ones((2, 2))
    with pytest.raises(ValueError, match="layers/dense has 1 arrays, and no name"):
        read_keras(tmp_path / "numbered.weights.h5")
    with pytest.raises(FileNotFoundError):
        read_keras(tmp_path / "nothing.h5")


def test_npz_files_are_no_pickles_and_hold_what_they_promise(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match="dtype object, and weights are floating-point"):
        read_keras(tmp_path / "objects.npz")
    for shape, message in (((2**40,), r"4398046511104 bytes, and 0 are stored"), ((MAX_BYTES,), "and 0 are stored")):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
            archive.writestr("a/kernel.npy", header.getvalue())
        with pytest.raises(ValueError, match=rf"bomb\.npz .*a/kernel.npy has shape .*{message}"):
            read_keras(tmp_path / "bomb.npz")
