"""py-feat's AU models on aligned crops, with random weights of the true shapes through the true loading code."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
from pathlib import Path
from typing import Any

import feat
import numpy as np
import pytest
import skops.io
import torch
import xgboost
from feat.au_detectors.StatLearning import SL_test
from feat.landmark_detectors.mobilefacenet_test import MobileFaceNet
from feat.multitask import AU_COLUMNS_V2
from feat.multitask.inference import MultitaskModel
from feat.multitask.model_v2 import MEGraphAUv2, ModelV2Config
from feat.utils.image_operations import extract_face_square_pad_torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ray_fer.action_units import pyfeat
from ray_fer.action_units.extractor import create_extractor
from ray_fer.action_units.pyfeat import face_box
from ray_fer.action_units.pyfeat_weights import CLASSIFIERS, LANDMARKS, MULTITASK, find_weights, load_classifiers
from ray_fer.labels import AU_NAMES
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceFinder, align
from ray_fer.video.images import decode_image, encode_jpeg

MEDIA = Path(feat.__file__).parent / "tests" / "data"
HOG_FEATURES = 13 * 13 * 4 * 8


@pytest.fixture(scope="module")
def crops() -> list[bytes]:
    """Six aligned crops of a real face, as the clip store has them."""
    with FaceFinder(max_faces=1) as finder:
        images = [frame.image for frame in iter_frames(MEDIA / "single_face.mp4", wanted=range(0, 60, 10))]
        faces = [finder.find(image) for image in images]
    return [encode_jpeg(align(i, face.landmarks), 92) for i, face in zip(images, faces, strict=True) if face]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files that py-feat's hub has for AUs; the multitask network's configuration is the shipped."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    config = ModelV2Config(
        n_au=20, n_emotion=7, n_blendshape=52, mesh_normalized=True, use_head_v3=True, drop_mefl=True,
        emotion_use_au_prob=True, pretrained=False,
    )  # fmt: skip
    network = MEGraphAUv2(config)
    with torch.no_grad():
        network.sc.s.normal_()  # away from the start, where all prototypes look alike
    save_file(network.state_dict(), folder / MULTITASK.file, {"config": json.dumps(dataclasses.asdict(config))})
    points = MobileFaceNet([112, 112], 136)
    mean_face = torch.rand(136, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    points.output_layer.bn.weight.data.fill_(0.02)
    points.output_layer.bn.bias.data.copy_(mean_face)
    torch.save({"state_dict": points.state_dict()}, folder / LANDMARKS.file)
    rng = np.random.default_rng(0)
    hogs, labels = rng.random((40, HOG_FEATURES)), np.arange(40) % 2
    scaler = StandardScaler().fit(hogs)
    pca = PCA(8).fit(scaler.transform(hogs))
    seen = np.concatenate([pca.transform(scaler.transform(hogs)), rng.random((40, 136)) * 112], axis=1)
    for name, kind, make in (
        ("xgb", SL_test.XGBClassifier, lambda: xgboost.XGBClassifier(n_estimators=3, max_depth=2)),
        ("svm", SL_test.SVMClassifier, lambda: LinearSVC()),
    ):
        model = kind()
        fitted = {key: make().fit(seen, rng.permutation(labels)) for key in SL_test.XGBClassifier().au_keys}
        model.load_weights(scaler, pca, scaler, pca, scaler, pca, fitted)
        skops.io.dump(model, folder / CLASSIFIERS[name].file)
    return folder


def clip(crops: list[bytes], found: list[bool] | None = None) -> dict[str, Any]:
    return {"clip_id": "c", "frames": crops, "face_found": found or [True] * len(crops)}


def test_the_order_is_pyfeats() -> None:
    assert list(AU_NAMES) == AU_COLUMNS_V2
    assert [f"AU{int(key[2:]):02d}" for key in SL_test.XGBClassifier().au_keys] == list(AU_NAMES)


def test_v2_gives_what_the_whole_network_gives(weights: Path, crops: list[bytes]) -> None:
    extractor = create_extractor("pyfeat", weights=weights, device="cpu", batch_size=4)
    assert (extractor.name, extractor.columns) == ("pyfeat-v2", ("frames",))
    (found,) = extractor.extract([clip(crops)])
    assert found.shape == (6, 20)
    assert found.dtype == np.float32
    assert found.std() > 0.01
    images = torch.from_numpy(np.stack([decode_image(c, "c") for c in crops])).permute(0, 3, 1, 2).float() / 255
    chips, _ = extract_face_square_pad_torch(
        images, torch.tensor(face_box()).expand(6, 4), 256, 1.2, torch.arange(6)
    )  # fmt: skip
    whole = MultitaskModel(weights_path=weights / MULTITASK.file)(chips)
    assert whole.au_names == list(AU_NAMES)
    np.testing.assert_allclose(found, whole.au, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"detector": "v1"}, {"detector": "v1", "au_model": "svm"}])
def test_frames_and_clips_are_kept_apart_whatever_the_batch(
    weights: Path, crops: list[bytes], options: dict[str, Any]
) -> None:
    clips = [clip(crops, [True, False, True, True, True, True]), clip(crops[:2]), clip(crops[:1], [False])]
    clips[2]["frames"] = [b"no image, and nobody looks"]
    small, large = (
        create_extractor("pyfeat", weights=weights, device="cpu", batch_size=size, **options) for size in (2, 32)
    )
    for one, other in zip(small.extract(clips), large.extract(clips), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert one.shape[1] == 20
    first, second, third = small.extract(clips)
    assert np.isnan(first[1]).all()
    assert np.isnan(third).all()
    assert (first[[0, 2, 3, 4, 5]] >= 0).all()
    assert (first[[0, 2, 3, 4, 5]] <= 1).all()
    np.testing.assert_allclose(first[0], second[0], atol=1e-4)
    assert small.name == {"": "pyfeat-v2", "v1": "pyfeat-v1-xgb", "v1svm": "pyfeat-v1-svm"}["".join(options.values())]
    small.close()
    with pytest.raises(ValueError, match="is closed"):
        small.extract(clips)


def test_no_more_crops_than_a_batch_are_on_the_device(
    weights: Path, crops: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def head(images: torch.Tensor) -> np.ndarray:
        sizes.append(len(images))
        return np.zeros((len(images), 20), np.float32)

    monkeypatch.setattr(pyfeat, "_multitask_head", lambda path, device: head)
    extractor = create_extractor("pyfeat", weights=weights, device="cpu", batch_size=8)
    (found,) = extractor.extract([clip(crops * 10)])
    assert found.shape == (60, 20)
    assert sizes == [8] * 7 + [4]


def test_the_box_is_where_retinaface_puts_it() -> None:
    """py-feat's own example of a RetinaFace box, carried over to an aligned crop by its eyes."""
    import pandas as pd

    row = pd.read_csv(MEDIA / "Feat_Test.csv").iloc[0]
    eyes = [np.array([(row[f"x_{a}"] + row[f"x_{b}"]) / 2, (row[f"y_{a}"] + row[f"y_{b}"]) / 2])
            for a, b in ((36, 39), (42, 45))]  # fmt: skip
    scale = 0.34 * 224 / np.linalg.norm(eyes[1] - eyes[0])
    height, width = row["FaceRectHeight"] * scale, row["FaceRectWidth"] * scale
    left, top, right, bottom = face_box()
    assert bottom - top == pytest.approx(height, rel=0.01)
    assert right - left == pytest.approx(width, rel=0.01)
    assert 0.36 * 224 - top == pytest.approx((eyes[0][1] + eyes[1][1]) / 2 * scale - row["FaceRectY"] * scale, rel=0.01)


def test_missing_weights_say_what_to_fetch_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advice = r"face_multitask_v28\.safetensors from https://huggingface\.co/py-feat/face_multitask_v2 and pass weights="
    with pytest.raises(FileNotFoundError, match=advice):
        create_extractor("pyfeat", weights=tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=f"hub cannot be reached.*{advice}") as caught:
        create_extractor("pyfeat")
    assert "\n" not in str(caught.value)
    (tmp_path / LANDMARKS.file).write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"xgb_au_classifier_v2\.skops from https://huggingface\.co/py-feat/xgb_au"
    ):
        create_extractor("pyfeat", detector="v1", weights=tmp_path)
    assert find_weights(LANDMARKS, tmp_path / LANDMARKS.file) == tmp_path / LANDMARKS.file


def test_files_that_are_something_else_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / MULTITASK.file).write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="does not hold py-feat's multitask weights"):
        create_extractor("pyfeat", weights=tmp_path)
    (tmp_path / "network.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="a pickle can run any code"):
        create_extractor("pyfeat", weights=tmp_path / "network.pt")
    state = MobileFaceNet([112, 112], 100).state_dict()
    torch.save({"state_dict": state}, tmp_path / LANDMARKS.file)
    (tmp_path / CLASSIFIERS["xgb"].file).write_bytes((weights / CLASSIFIERS["svm"].file).read_bytes())
    with pytest.raises(ValueError, match="does not hold py-feat's MobileFaceNet"):
        create_extractor("pyfeat", detector="v1", weights=tmp_path)
    (tmp_path / LANDMARKS.file).write_bytes((weights / LANDMARKS.file).read_bytes())
    with pytest.raises(ValueError, match="holds a SVMClassifier, not the xgb classifiers"):
        create_extractor("pyfeat", detector="v1", weights=tmp_path)
    with pytest.raises(ValueError, match="needs two files of weights; give the folder"):
        create_extractor("pyfeat", detector="v1", weights=tmp_path / LANDMARKS.file)
    with pytest.raises(ValueError, match="unknown py-feat detector 'v3'"):
        create_extractor("pyfeat", detector="v3")


def test_files_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "went off").touch, ())

    buffer = io.BytesIO()
    pickle.dump({"state_dict": Bomb()}, buffer)
    (tmp_path / LANDMARKS.file).write_bytes(buffer.getvalue())
    skops.io.dump(SL_test.XGBClassifier(), tmp_path / CLASSIFIERS["xgb"].file)
    with pytest.raises(ValueError, match="does not hold py-feat's MobileFaceNet"):
        create_extractor("pyfeat", detector="v1", weights=tmp_path)
    assert not (tmp_path / "went off").exists()
    skops.io.dump({"model": pytest.approx}, tmp_path / "forged.skops")
    with pytest.raises(ValueError, match=r"holds types that py-feat's weights do not: .*approx"):
        load_classifiers(tmp_path / "forged.skops")
    (tmp_path / "model.skops").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"no \.skops file"):
        load_classifiers(tmp_path / "model.skops")
    with pytest.raises(ValueError, match="a pickle can run any code"):
        load_classifiers(tmp_path / "model.pkl")


def test_crops_of_another_size_are_refused(weights: Path) -> None:
    extractor = create_extractor("pyfeat", weights=weights, device="cpu")
    small = encode_jpeg(np.zeros((96, 96, 3), np.uint8), 90)
    with pytest.raises(ValueError, match="c: frame 0 is no aligned crop of 224 px"):
        extractor.extract([clip([small])])
