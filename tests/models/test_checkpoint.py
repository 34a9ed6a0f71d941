from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rwkv_edge.errors import CheckpointError
from rwkv_edge.models import (
    CheckpointInfo,
    create_model,
    load_checkpoint,
    load_model,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def upstream(golden: Path, fill: ModuleType) -> dict[str, Tensor]:
    shapes = json.loads((golden / "rwkv_unet_t_c1_state_dict.json").read_text())
    return {name: torch.from_numpy(array) for name, array in fill.fill(shapes, 0).items()}


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = create_model("tiny", num_classes=2)
    info = CheckpointInfo("tiny", 2, ("background", "polyp"), (192, 256), "on discs")
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, model.state_dict(), info)
    loaded, read = load_model(path, "tiny")
    assert read == info
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_half_precision_is_half_the_size(tmp_path: Path) -> None:
    model = create_model("tiny")
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, model.state_dict(), CheckpointInfo("tiny"), half=True)
    assert path.stat().st_size < 7e6
    assert load_model(path)[0].final_conv.weight.dtype == torch.float32


def test_whole_upstream_model(upstream: dict[str, Tensor]) -> None:
    model = create_model("tiny")
    load_checkpoint(model, upstream)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, upstream[name]), name
    assert len(upstream) > len(model.state_dict())


def test_upstream_wrapped_and_parallel(upstream: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "upstream.pth"
    torch.save({"state_dict": {f"module.{n}": t for n, t in upstream.items()}}, path)
    model, info = load_model(path, "tiny")
    assert torch.equal(model.state_dict()["final_conv.bias"], upstream["final_conv.bias"])
    assert info.num_classes == 1


def test_upstream_of_several_classes(upstream: dict[str, Tensor], tmp_path: Path) -> None:
    state = {**upstream, "final_conv.weight": torch.ones(3, 24, 1, 1)}
    state["final_conv.bias"] = torch.zeros(3)
    path = tmp_path / "upstream.pth"
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    _, info = load_model(path, "tiny")
    assert (info.num_classes, info.names) == (3, ("background", "class 1", "class 2"))


def test_an_encoder_alone_is_no_model(upstream: dict[str, Tensor], tmp_path: Path) -> None:
    start, path = "encoder.", tmp_path / "encoder.pth"
    torch.save({n.removeprefix(start): t for n, t in upstream.items() if n.startswith(start)}, path)
    with pytest.raises(CheckpointError, match="holds an encoder alone; use it with train --init"):
        load_model(path, "tiny")


def test_upstream_encoder_alone(upstream: dict[str, Tensor]) -> None:
    encoder = {
        n.removeprefix("encoder."): t for n, t in upstream.items() if n.startswith("encoder.")
    }
    model = create_model("tiny")
    head = model.final_conv.weight.clone()
    load_checkpoint(model, encoder)
    name = "encoder.stage3.1.att.key.weight"
    assert torch.equal(model.state_dict()[name], upstream[name])
    assert torch.equal(model.final_conv.weight, head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("final_conv.bias"), "missing: final_conv.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected: extra"),
        (
            lambda s: s.update({"final_conv.weight": torch.zeros(2, 24, 1, 1)}),
            r"of another shape: final_conv.weight \(2, 24, 1, 1\) instead of \(1, 24, 1, 1\)",
        ),
        # a name that only looks like a leftover
        (lambda s: s.update({"decoder5.ln1.weight.x": torch.zeros(1)}), "unexpected: decoder5"),
        # attention that this model does use must not be dropped when it is missing
        (lambda s: s.pop("encoder.stage3.1.att.key.weight"), "missing: encoder.stage3.1.att.key"),
    ],
)
def test_strict(upstream: dict[str, Tensor], change, message: str) -> None:
    state = dict(upstream)
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(create_model("tiny"), state)


def test_another_variant(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, create_model("tiny").state_dict(), CheckpointInfo("tiny"))
    with pytest.raises(CheckpointError, match="holds a 'tiny', not a 'small'"):
        load_model(path, "small")
    with pytest.raises(CheckpointError, match="does not fit this model; missing"):
        load_checkpoint(create_model("small"), path)


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    path = tmp_path / "hostile.pth"
    path.write_bytes(pickle.dumps({"state_dict": Hostile()}))
    with pytest.raises(CheckpointError, match="refused"):
        load_model(path, "tiny")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.safetensors", b"", "not a readable safetensors file"),
        ("text.safetensors", b"hello", "not a readable safetensors file"),
        ("empty.pth", b"", "refused"),
        ("text.pth", b"hello", "refused"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_model(path, "tiny")


@pytest.mark.parametrize(
    "said",
    [
        {"variant": ["tiny"]},
        {"variant": "other"},
        {"num_classes": "x"},
        {"num_classes": None},
        {"num_classes": 10**9},
    ],
)
def test_a_header_that_makes_no_sense(said: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    header = {**asdict(CheckpointInfo("tiny")), **said}
    save_file({"x": torch.zeros(1)}, path, metadata={"rwkv_edge": json.dumps(header)})
    with pytest.raises(CheckpointError, match="its header cannot be understood"):
        load_model(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize(("variant", "classes"), [("tiny", 1), ("small", 3), ("unet", 2)])
def test_a_foreign_file_shows_its_variant(tmp_path: Path, variant: str, classes: int) -> None:
    path = tmp_path / "foreign.pth"
    torch.save({"state_dict": create_model(variant, classes).state_dict()}, path)
    _, info = load_model(path)
    assert (info.variant, info.num_classes, len(info.names)) == (variant, classes, classes)


def test_a_foreign_file_of_no_variant(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1), "final_conv.weight": torch.zeros(())}, path)
    with pytest.raises(CheckpointError, match=r"foreign.*: its tensors are not those of tiny, "):
        load_model(path)
    with pytest.raises(CheckpointError, match=r"foreign.*does not fit this model; missing"):
        load_model(path, "tiny")
