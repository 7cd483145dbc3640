import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

from stepzero import filling, streams
from stepzero.errors import FileError, LawError, PlanError, SeedError
from stepzero.filling import _files, _save, _task
from stepzero.laws import Constant, Kept, Normal, Orthogonal, TruncatedNormal, Uniform
from stepzero.network import import_torchvision

from .plans import Entry

PLAN = {
    "embed.weight": Entry((50, 8), "float32", Normal(0.02)),
    "layer.weight": Entry((8, 4, 3, 3), "bfloat16", TruncatedNormal(0.1)),
    "layer.bias": Entry((8,), "bfloat16", Constant(0.0)),
    "norm.weight": Entry((3,), "float16", Uniform(0.5, 1.5)),
    "ä.empty": Entry((0, 3), "float32", Normal(1.0)),
    "scalar": Entry((), "float64", Constant(0.1)),
    "orth": Entry((6, 9), "float32", Orthogonal(1.0)),
    "spectral": Entry((4, 2), "complex64", Normal(1.0)),
}
LARGE = {f"layers.{i}.weight": Entry((300, 200), "float32", Normal(0.02)) for i in range(12)}


def same(stored, plan, seed, dtype=None):
    assert stored.keys() == plan.keys()
    for name, entry in plan.items():
        values = streams.draw(entry.law, entry.shape, seed, name, dtype or entry.dtype)
        found = (
            stored[name].view(torch.int16).numpy().view(np.uint16)
            if stored[name].dtype == torch.bfloat16
            else stored[name].numpy()
        )
        assert found.shape == values.shape
        assert found.tobytes() == values.tobytes(), name


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_file_holds_every_value_and_loads_with_the_safetensors_library(tmp_path):
    path = tmp_path / "net.safetensors"
    manifest = filling.save(PLAN, path, seed=7)
    same(load_torch(path), PLAN, 7)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert listing(tmp_path) == ["net.safetensors", "net.stepzero.json"]
    assert filling.Manifest.load(tmp_path / "net.stepzero.json") == manifest


def test_the_manifest_has_the_hash_of_each_tensors_bytes(tmp_path):
    manifest = filling.save(PLAN, tmp_path / "net.safetensors", seed=7)
    for entry in manifest.tensors:
        values = streams.draw(entry.law, entry.shape, 7, entry.name, entry.dtype)
        assert entry.sha256 == hashlib.sha256(values.tobytes()).hexdigest()
    for page in (str(manifest), manifest.to_markdown(), manifest.to_html()):
        assert "embed.weight" in page


def test_what_is_saved_is_what_is_applied(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 3))
    plan = {name: Entry(tuple(t.shape), "float32", Normal(0.3)) for name, t in model.named_parameters()}
    filling.apply(plan, model, 3)
    filling.save(plan, tmp_path / "net.safetensors", 3)
    for name, stored in load_torch(tmp_path / "net.safetensors").items():
        assert torch.equal(stored, model.state_dict()[name])


def test_padding_rows_are_zero_in_the_file_as_in_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr("stepzero.filling._sources.CHUNK", 8)
    model = torch.nn.Sequential(torch.nn.Embedding(7, 4, padding_idx=5))
    plan = {"0.weight": Entry((7, 4), "float32", Normal(1.0))}
    filling.apply(plan, model, 0)
    assert filling.padding_rows(model) == {"0.weight": 5}
    filling.save(plan, tmp_path / "net.safetensors", zero_rows=filling.padding_rows(model))
    assert torch.equal(load_torch(tmp_path / "net.safetensors")["0.weight"], model[0].weight)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float64"])
def test_a_number_format_for_all_leaves_complex_ones_alone(tmp_path, dtype):
    filling.save(PLAN, tmp_path / "net.safetensors", 1, dtype)
    name = str(dtype).removeprefix("torch.")
    stored = load_torch(tmp_path / "net.safetensors")
    assert stored["spectral"].dtype == torch.complex64
    del stored["spectral"]
    same(stored, {name: entry for name, entry in PLAN.items() if name != "spectral"}, 1, name)


def test_shards_and_index_hold_every_value_within_the_limit(tmp_path):
    manifest = filling.save(LARGE, tmp_path / "out", 0, max_shard_size="500KB")
    files = [f"model-{i:05d}-of-00006.safetensors" for i in range(1, 7)]
    assert listing(tmp_path / "out") == [*files, "model.safetensors.index.json", "stepzero.json"]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 12 * 300 * 200 * 4
    assert index["weight_map"] == {entry.name: entry.file for entry in manifest.tensors}
    same({name: load_torch(tmp_path / "out" / file)[name] for name, file in index["weight_map"].items()}, LARGE, 0)


def test_files_do_not_change_the_content(tmp_path):
    one = filling.save(LARGE, tmp_path / "one.safetensors", 0)
    many = filling.save(LARGE, tmp_path / "many", 0, max_shard_size="500KB")
    assert one.digest == many.digest != filling.save(LARGE, tmp_path / "two.safetensors", 1).digest


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(tmp_path):
    filling.save(LARGE, tmp_path, 0, max_shard_size="1KB")
    assert len(list(tmp_path.glob("*.safetensors"))) == 12


def test_a_folder_takes_one_file_where_one_is_enough(tmp_path):
    filling.save(PLAN, tmp_path, 0)
    assert listing(tmp_path) == ["model.safetensors", "stepzero.json"]


def test_buffers_are_copied_into_the_file(tmp_path):
    buffers = {"running_mean": torch.arange(3.0), "steps": torch.tensor(5), "mask": torch.tensor([True, False])}
    manifest = filling.save(PLAN, tmp_path / "net.safetensors", buffers=buffers)
    stored = load_torch(tmp_path / "net.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in buffers.items())
    assert [entry.law for entry in manifest.tensors if entry.name in buffers] == [None] * 3


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_rises_to_the_whole_and_threads_change_no_byte(tmp_path, threads, monkeypatch):
    monkeypatch.setattr("stepzero.filling._sources.CHUNK", 5000)
    seen = []
    filling.save(
        LARGE, tmp_path / "net.safetensors", progress=lambda done, total: seen.append((done, total)), threads=threads
    )
    assert seen == sorted(seen)
    assert seen[-1] == (12 * 240_000, 12 * 240_000)
    assert len(seen) > 100
    same(load_torch(tmp_path / "net.safetensors"), LARGE, 0)


def test_transformers_loads_the_shards(tmp_path):
    import_torchvision()  # transformers looks for it
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    plan = {name: Entry(tuple(t.shape), "float32", Normal(0.02)) for name, t in model.named_parameters()}
    config.save_pretrained(tmp_path)
    filling.save(plan, tmp_path, 4, max_shard_size="20KB")
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    for name, tensor in loaded.named_parameters():
        np.testing.assert_array_equal(tensor.detach().numpy(), streams.draw(Normal(0.02), plan[name].shape, 4, name))


@pytest.mark.parametrize(
    ("plan", "kwargs", "error", "message"),
    [
        (PLAN, {"seed": -1}, SeedError, "out of range"),
        (PLAN, {"dtype": "int8"}, Exception, "holds no random numbers"),
        (PLAN, {"max_shard_size": "5 parsecs"}, FileError, "no size of a file"),
        (PLAN, {"max_shard_size": 0}, FileError, "no size of a file"),
        ({"w": Entry((2, 2), "float16", Normal(1e-9))}, {}, PlanError, "w: float16 cannot hold"),
        ({"w": Entry((2, 2), "complex128", Normal(1.0))}, {}, PlanError, "safetensors has no complex128"),
        (PLAN | {"w": Entry((2, 2), "float32", Kept())}, {}, PlanError, "nothing is known of the values of w"),
        (PLAN, {"buffers": {"orth": torch.ones(1)}}, PlanError, "both a parameter of the plan and a buffer"),
        ({"w": Entry((2**21, 2**21), "float32", Normal(1.0))}, {}, FileError, "GB are needed"),
    ],
)
def test_bad_input_is_said_before_the_first_byte(tmp_path, plan, kwargs, error, message):
    with pytest.raises(error, match=message):
        filling.save(plan, tmp_path / "new" / "net.safetensors", **kwargs)
    assert listing(tmp_path) == []


WEIGHT = {"w": Entry((4, 2), "float32", Normal(1.0))}


@pytest.mark.parametrize(
    ("plan", "kwargs", "error", "message"),
    [
        ({"__metadata__": WEIGHT["w"]}, {}, PlanError, "keeps the name __metadata__"),
        ({"\ud800": WEIGHT["w"]}, {}, SeedError, "lone surrogate"),
        (WEIGHT, {"buffers": {"b": torch.zeros(2, device="meta")}}, PlanError, "b is on the meta device"),
        (WEIGHT, {"zero_rows": {"w": 4}}, PlanError, r"w of shape \(4, 2\) has no row 4"),
        (WEIGHT, {"zero_rows": {"w": -1}}, PlanError, "has no row -1"),
        ({"s": Entry((), "float32", Normal(1.0))}, {"zero_rows": {"s": 0}}, PlanError, "has no row 0"),
        (WEIGHT, {"threads": 0}, LawError, "is no number of threads"),
        (WEIGHT, {"threads": -2}, LawError, "is no number of threads"),
    ],
)
def test_what_no_file_can_hold_is_said_before_the_first_byte(tmp_path, plan, kwargs, error, message):
    with pytest.raises(error, match=message):
        filling.save(plan, tmp_path / "net.safetensors", **kwargs)
    assert listing(tmp_path) == []


def test_a_name_too_long_for_the_file_system_is_refused(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        filling.save(WEIGHT, tmp_path / ("n" * 300))
    assert listing(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="the system has no links")
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "net.safetensors").symlink_to(tmp_path / "disk" / "real.safetensors")
    filling.save(WEIGHT, tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").is_symlink()
    assert listing(tmp_path / "disk") == ["real.safetensors", "real.stepzero.json"]
    same(load_torch(tmp_path / "net.safetensors"), WEIGHT, 0)
    with pytest.raises(FileError, match="is there already"):
        filling.save(WEIGHT, tmp_path / "net.safetensors", 1)


LIMITED = """
import resource, sys
from stepzero import filling
from tests.filling.test_save import LARGE
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    filling.save(LARGE, sys.argv[1], 0)
except filling._files.FileError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system takes no room in advance")
def test_a_file_that_the_system_refuses_to_hold_leaves_nothing(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "new" / "net.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "net.safetensors cannot be written: File too large. Nothing of it was left." in run.stdout
    assert listing(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("stepzero.filling._sources.CHUNK", 5000)

    def interrupt(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filling.save(LARGE, tmp_path / "new" / "net.safetensors", progress=interrupt)
    assert listing(tmp_path) == []


def test_kept_parameters_are_left_out_on_request(tmp_path):
    filling.save(PLAN | {"w": Entry((2, 2), "float32", Kept())}, tmp_path / "net.safetensors", skip_kept=True)
    assert "w" not in load_torch(tmp_path / "net.safetensors")


@pytest.mark.parametrize("size", [None, "500KB"])
def test_what_stands_there_is_replaced_on_request_only(tmp_path, size):
    target = tmp_path / ("out" if size else "net.safetensors")
    first = filling.save(LARGE, target, 0, max_shard_size=size)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileError, match="is there already"):
        filling.save(LARGE, target, 1, max_shard_size=size)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert filling.save(LARGE, target, 1, max_shard_size=size, overwrite=True).digest != first.digest


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="not a folder that can be written"):
        filling.save(PLAN, tmp_path / "file" / "net.safetensors")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(28, "No space left on device")

    original = _files.whole_file

    def full(target, size=0):
        import contextlib

        @contextlib.contextmanager
        def wrapped():
            with original(target, size) as file:
                yield Full(file) if target.suffix == ".safetensors" else file

        return wrapped()

    monkeypatch.setattr(_save, "whole_file", full)
    with pytest.raises(FileError, match="No space left on device"):
        filling.save(PLAN, tmp_path / "new" / "net.safetensors")
    assert listing(tmp_path) == []


def test_finished_shards_are_verified_and_kept_and_damaged_ones_made_again(tmp_path, monkeypatch):
    whole = filling.save(LARGE, tmp_path / "whole", 0, max_shard_size="500KB")
    made, write = [], _save._write_volume

    def failing(task, volume, at, progress):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(volume.name)
        return write(task, volume, at, progress)

    monkeypatch.setattr(_save, "_write_volume", failing)
    with pytest.raises(KeyboardInterrupt):
        filling.save(LARGE, tmp_path / "out", 0, max_shard_size="500KB")
    kept, damaged = made[0], made[1]
    stamp = (tmp_path / "out" / kept).stat().st_mtime_ns
    with (tmp_path / "out" / damaged).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\xff\xff\xff\xff")
    monkeypatch.setattr(_save, "_write_volume", write)
    again = filling.save(LARGE, tmp_path / "out", 0, max_shard_size="500KB")
    assert again == whole
    assert (tmp_path / "out" / kept).stat().st_mtime_ns == stamp
    for entry in again.tensors:
        assert (tmp_path / "out" / entry.file).read_bytes() == (tmp_path / "whole" / entry.file).read_bytes()
    assert listing(tmp_path / "out") == listing(tmp_path / "whole")


def test_shards_of_another_seed_are_not_taken_for_ones_own(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        write, made = _save._write_volume, []

        def failing(*task):
            if made:
                raise KeyboardInterrupt
            made.append(write(*task))
            return made[0]

        patch.setattr(_save, "_write_volume", failing)
        with pytest.raises(KeyboardInterrupt):
            filling.save(LARGE, tmp_path, 0, max_shard_size="500KB")
    with pytest.raises(FileError, match="is there already"):
        filling.save(LARGE, tmp_path, 1, max_shard_size="500KB")


def test_two_processes_cannot_write_one_file(tmp_path):
    pytest.importorskip("fcntl")
    with (
        _files.whole_file(tmp_path / "a"),
        pytest.raises(FileError, match="written by another process"),
        _files.whole_file(tmp_path / "a"),
    ):
        pass
    assert listing(tmp_path) == ["a"]


def test_a_part_of_a_file_is_hashed_alone(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    assert _task.content_hash(tmp_path / "a", 10, 90) == hashlib.sha256(bytes(range(10, 90))).hexdigest()


WRITER = """
import sys
from stepzero import filling
from tests.filling.test_save import LARGE
print("ready", flush=True)
filling.save(LARGE, sys.argv[1], 0, max_shard_size="300KB", threads=1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_killed_at_random_moments_only_complete_files_stand_and_a_rerun_finishes(tmp_path):
    """Four kills here; benchmarks/kill_save.py does fifty."""
    whole = filling.save(LARGE, tmp_path / "whole", 0, max_shard_size="300KB")
    rng = np.random.default_rng(0)
    for i in range(4):
        out = tmp_path / f"out{i}"
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(out)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.4)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for path in out.glob("*.safetensors"):
            stored = load_file(path)
            assert all(
                hashlib.sha256(v.tobytes()).hexdigest() == {e.name: e.sha256 for e in whole.tensors}[k]
                for k, v in stored.items()
            )
        assert filling.save(LARGE, out, 0, max_shard_size="300KB", overwrite=True) == whole
