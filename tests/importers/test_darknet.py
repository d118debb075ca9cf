"""Darknet networks: every kind of section against OpenCV 4, which runs them; wrong files; packing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelport
from modelport.cli.main import run
from modelport.errors import InputError, NotFound, Unsupported
from modelport.importers.darknet import DarknetImporter, is_description, is_weights
from modelport.importers.source import find_importer
from modelport.isolation.child import caffe_network, darknet_heads, darknet_layers
from modelport.isolation.child.converter import Refused
from modelport.isolation.child.darknet_file import WeightFile, parse, written
from modelport.isolation.worker import Worker
from modelport.runtimes.pipeline import Pipeline

from .darknet_files import pair, weight_file, weights_for
from .opencv4 import both, converter, opencv4


def net(*layers: str, width: int = 32, height: int = 48) -> str:
    return f"[net]\nwidth={width}\nheight={height}\nchannels=3\n" + "".join(layers)


def conv(
    filters: int = 8, size: int = 3, act: str = "leaky", norm: int = 1, more: str = "stride=1\npad=1"
) -> str:
    return (
        f"[convolutional]\nbatch_normalize={norm}\nfilters={filters}\nsize={size}\nactivation={act}\n{more}\n"
    )


def section(kind: str, **settings: object) -> str:
    return f"[{kind}]\n" + "".join(f"{name}={value}\n" for name, value in settings.items())


def yolo(mask: str = "0,1,2", **more: object) -> str:
    anchors = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
    return section("yolo", mask=mask, anchors=anchors, classes=4, num=6, **more)


POOL = section("maxpool", size=2, stride=2)
CONNECTED = section("connected", output=7, activation="linear")
FROM = {"from": -3}
HEAD = conv(27, 1, "linear", 0)
NETS: list[tuple[str, str]] = [
    ("convolutional", net(conv())),
    ("convolutional, bare", net(conv(norm=0, more="stride=2\npadding=2", act="linear"))),
    ("convolutional, groups", net(conv(), conv(more="groups=4\nstride=1\npad=1"))),
    *((f"activation {name}", net(conv(act=name))) for name in ("relu", "logistic", "tanh", "swish", "mish")),
    ("maxpool", net(conv(), POOL)),
    ("maxpool, odd", net(conv(), POOL, width=33, height=45)),
    ("maxpool without a stride", net(conv(), section("maxpool", size=2, stride=1))),
    ("maxpool of five", net(conv(), section("maxpool", size=5, stride=1))),
    ("maxpool, three by two", net(conv(), section("maxpool", size=3, stride=2))),
    ("avgpool", net(conv(), section("avgpool"))),
    ("route", net(conv(4), conv(6), section("route", layers="-1,-2"))),
    ("route, from the first", net(conv(4), conv(6), section("route", layers="0"))),
    ("route, a group", net(conv(), section("route", layers=-1, groups=2, group_id=1), conv())),
    ("shortcut", net(conv(), conv(), section("shortcut", **{"from": -2, "activation": "leaky"}))),
    ("scale_channels", net(conv(), section("avgpool"), conv(8, 1), section("scale_channels", **FROM))),
    ("sam", net(conv(), conv(act="logistic"), section("sam", **{"from": -2}))),
    ("upsample", net(conv(), POOL, section("upsample", stride=2))),
    ("reorg", net(conv(8), section("reorg", stride=2))),
    ("connected", net(conv(), POOL, section("connected", output=7, activation="relu"))),
    ("connected, linear", net(CONNECTED, width=8, height=8)),
    ("dropout and softmax", net(CONNECTED, section("dropout"), section("softmax"))),
    ("cost", net(conv(5), section("avgpool"), section("softmax", groups=1), section("cost"))),
    ("yolo", net(conv(), POOL, HEAD, yolo())),
    ("yolo, stretched", net(conv(), POOL, HEAD, yolo("1,2,4", scale_x_y=1.2, iou_loss="ciou", beta_nms=0.6))),
    ("yolo, new coordinates", net(conv(), conv(27, 1, "logistic", 0), yolo(new_coords=1, scale_x_y=2))),
    (
        "two heads",
        net(
            conv(), POOL, conv(12), POOL, conv(27, 1, "linear", 0), yolo("3,4,5"),
            section("route", layers="-3"), section("upsample", stride=2), section("route", layers="-1,2"),
            HEAD, yolo("0,1,2"),
        ),
    ),
    (
        "region",
        net(
            conv(), section("reorg", stride=2), conv(18, 1, "linear", 0),
            section("region", anchors="1.0,1.2, 2.5,3.1", classes=4, num=2, softmax=1, coords=4, thresh=0.6),
        ),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with converter("darknet") as found:
        yield found


def question(path: Path, **more: Any) -> dict[str, Any]:
    return {"cfg": str(path), "weights": str(path.with_suffix(".weights")), **more}


@pytest.mark.parametrize("cfg", [row[1] for row in NETS], ids=[row[0] for row in NETS])
def test_a_section_computes_what_opencv_does(worker: Worker, tmp_path: Path, cfg: str) -> None:
    got, want, _ = both(worker, question(pair(tmp_path, cfg)))
    assert list(got) == list(want) == ["output"]
    scale = float(np.abs(want["output"]).max())
    np.testing.assert_allclose(got["output"], want["output"], rtol=1e-4, atol=1e-6 * max(scale, 1))


def test_the_page_lists_what_is_converted() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "docs" / "reference" / "caffe-darknet.md").read_text()
    short = {"conv", "conn", "max", "avg", "soft"}
    known = {
        "layers": {*caffe_network.LAYERS, caffe_network.DETECTION},
        "sections": {*darknet_layers.LAYERS, *darknet_heads.HEADS} - short,
    }
    for name, wanted in known.items():
        listed = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
        assert set(re.findall(r"`(\w+)`", listed)) == wanted


def test_the_oldest_header_is_read(worker: Worker, tmp_path: Path) -> None:
    path = pair(tmp_path, net(conv()), version=(0, 1, 0))
    got, want, about = both(worker, question(path))
    np.testing.assert_allclose(got["output"], want["output"], rtol=1e-4, atol=1e-5)
    assert "0.1.0" in about["framework"]


def test_another_size_may_be_asked_for(worker: Worker, tmp_path: Path) -> None:
    path = pair(tmp_path, net(conv(), POOL, HEAD, yolo()))
    given = [{"name": "data", "dtype": "float32", "shape": ["batch", 3, 64, 96]}]
    got, want, _ = both(worker, question(path, inputs=given))
    assert got["output"].shape == (2, 8, 32 * 48 * 3)
    np.testing.assert_allclose(got["output"], want["output"], rtol=1e-4, atol=1e-2)


def test_what_is_not_converted_is_named_all_at_once(worker: Worker, tmp_path: Path) -> None:
    path = pair(tmp_path, net(conv()))
    path.write_text(net(conv(), section("lstm", output=3), section("local", size=3), section("crnn")))
    with pytest.raises(Unsupported, match=r"\[lstm\] in line 12, \[local\] in line 14, \[crnn\] in line 16"):
        worker.call({"do": "open", **question(path)})


@pytest.mark.parametrize(
    ("cfg", "reason"),
    [
        (net(conv(9)), "too few for the cfg: they are cut short"),
        (net(conv(7)), r"\d+ of \d+ weights are left over: the cfg and the weights are no pair"),
        (net(conv(act="gelu")), "the activation gelu"),
        (net(conv(more="dilation=2")), "dilation=2"),
        (net(conv(more="stride=two")), "stride=two where a number is expected"),
        (net(conv(), section("route", layers=5)), "takes layer 5, and 1 lie before it"),
        (
            net(conv(), yolo()),
            r"takes 8 channels; 3 anchors of 4 classes need 27 \(filters= of the layer above\)",
        ),
        (net(conv(), section("shortcut", **{"from": -2})), "takes layer -2"),
        (net(conv())[:-20] + "\n[max", "it may be cut short"),
        (net(conv()) + "nonsense\n", "'nonsense' where NAME=VALUE"),
    ],
)
def test_a_description_that_cannot_be_right_is_refused(
    worker: Worker, tmp_path: Path, cfg: str, reason: str
) -> None:
    path = pair(tmp_path, net(conv()))
    path.write_text(cfg)
    with pytest.raises((InputError, Unsupported), match=reason):
        worker.call({"do": "open", **question(path)})


def test_files_are_read_within_their_bounds() -> None:
    settings, layers = parse("# a comment\n[net]\nwidth = 32 ; more\n\n[convolutional]\nsize=3\n")
    assert settings.integer("width", 0) == 32 and layers[0].kind == "convolutional" and layers[0].index == 0
    assert parse(written([settings, *layers]))[1][0].settings == layers[0].settings
    for wrong in ("", "[net]", "[convolutional]\n[net]\n", "width=3", "[net]\nwidth\n[x]"):
        with pytest.raises(Refused):
            parse(wrong)
    for data in (b"", b"\0" * 15, b"\xff" * 64, weight_file(np.zeros(3))[:-1]):
        with pytest.raises(Refused):
            WeightFile.read(data)


def test_files_are_told_by_their_content(tmp_path: Path) -> None:
    path = pair(tmp_path, net(conv()))
    assert is_description(path) and is_weights(path.with_suffix(".weights"))
    assert not is_weights(path) and not is_description(path.with_suffix(".weights"))
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = x\n[options]\n")
    assert not is_description(tmp_path / "setup.cfg")
    for source in (path, path.with_suffix(".weights"), tmp_path):
        assert isinstance(find_importer(source), DarknetImporter)
        assert DarknetImporter().question(source)["cfg"] == str(path.resolve())
    trained = path.with_suffix(".weights").rename(tmp_path / "net_final.weights")
    for source in (path, trained):
        assert DarknetImporter().question(source)["weights"] == str(trained.resolve())
    path.unlink()
    with pytest.raises(NotFound, match="its network is not beside it"):
        DarknetImporter().question(trained)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1000], "too few for the cfg: they are cut short"),
        (lambda data: data[:-2], "are no whole number of weights: it is cut short"),
        (
            lambda data: data + b"\0" * 400,
            "100 of .* weights are left over: the cfg and the weights are no pair",
        ),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
    ids=["cut short", "cut within a number", "of another network", "pointer"],
)
def test_wrong_weights_have_a_reason_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, damage: Any, reason: str
) -> None:
    opencv4(monkeypatch)
    path = pair(tmp_path, net(conv(), conv()))
    weights = path.with_suffix(".weights")
    weights.write_bytes(damage(weights.read_bytes()))
    assert run(["pack", str(path), "--out", str(tmp_path / "out")]) == 3
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(said[0])


def test_a_detector_packs_with_darknets_own_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opencv4(monkeypatch)
    path = pair(tmp_path, net(conv(), POOL, HEAD, yolo(), width=32, height=32))
    (tmp_path / "net.names").write_text("one\ntwo\nthree\nfour\n")
    said: list[str] = []
    bundle = modelport.pack(path, out=tmp_path / "out", progress=said.append)
    assert any("Darknet's own preparation (letterbox)" in note for note in said)
    manifest = bundle.manifest
    assert manifest.task == "object-detection" and manifest.graphs.net.batch
    assert bundle.labels() == ("one", "two", "three", "four")
    assert [next(iter(step)) for step in manifest.steps.pre][:2] == ["letterbox", "scale"]
    assert manifest.lineage.source.format == "darknet"
    with Pipeline.open(bundle) as pipeline:
        picture = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
        answer = pipeline.answer({"image": picture}, {"score_threshold": 0.1})
    assert int(answer["count"]) > 0
    assert (answer["boxes"][..., 2] <= 80).all() and (answer["boxes"][..., 3] <= 40).all()


def test_the_fork_stretches_pictures_unless_it_says_letter_box(worker: Worker, tmp_path: Path) -> None:
    cfg = net(conv(), POOL, HEAD, yolo(iou_loss="ciou"))
    for text, letterbox in ((cfg, False), (cfg.replace("channels=3", "channels=3\nletter_box=1"), True)):
        about, _ = worker.call({"do": "open", **question(pair(tmp_path, text))})
        assert about["declared"]["letterbox"] is letterbox


def test_a_classifier_packs_with_darknets_own_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opencv4(monkeypatch)
    cfg = net(conv(5), section("avgpool"), section("softmax", groups=1), width=32, height=32)
    bundle = modelport.pack(pair(tmp_path, cfg), out=tmp_path / "out")
    assert bundle.manifest.task == "image-classification"
    assert not any("normalize" in step for step in bundle.manifest.steps.pre)
    assert len(weights_for(cfg)) == 5 * 27 + 4 * 5
