"""Tests for jaxflow.weights."""

import dataclasses
import hashlib
import json
import shutil
import types

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx, serialization

import jaxflow
from jaxflow import checkpoint, convert, models, spec, weights
from jaxflow.models.flow import spynet
from tests.convert import states
from tests.io.server import serving
from tests.test_checkpoint import flip_bytes


def test_several_files_are_one_checkpoint_with_their_names_in_front(tmp_path):
    for name in ("modelL1_F", "modelL2_F"):
        part = {"modules": {"1": {"weight": np.ones(3), "kW": 7}}}
        data = serialization.msgpack_serialize(part)
        (tmp_path / f"{name}.msgpack").write_bytes(data)
    state = weights.read(sorted(tmp_path.iterdir()))
    assert list(state.arrays) == [
        "modelL1_F.modules.1.weight",
        "modelL2_F.modules.1.weight",
    ]


@pytest.fixture
def run(tmp_path):
    """A training run whose step 2 is the best and whose step 4 is the newest."""
    models = {step: states.blank(spynet, step) for step in (1, 2, 3, 4)}
    place = tmp_path / "run" / "checkpoints"
    record = weights.record_of(models[1])
    with checkpoint.Checkpoints(place, record=record, keep=3) as saved:
        for step, loss in ((1, 0.5), (2, 0.1), (3, 0.4), (4, 0.3)):
            state = {
                **checkpoint.weights_of(models[step]),
                "moments": {"x": np.ones(3)},
            }
            saved.save(step, state, metrics={"loss": loss})
    return tmp_path / "run", models


@pytest.fixture(params=["load_weights", "restore"])
def load(request):
    """Each way to fill a model; returns it."""

    def through(path):
        model = states.blank(spynet, 9)
        if request.param == "restore":
            checkpoint.restore(path, model)
        else:
            convert.load_weights(model, path)
        return model

    return through


def test_the_best_step_of_a_run_is_taken_and_said(run, load, capsys):
    folder, saved = run
    for path in (folder, folder / "checkpoints"):
        states.assert_same(load(path), saved[2])
        said = f"{path}: took step 2, the best by loss, 0.1\n"
        assert capsys.readouterr().err == said
    states.assert_same(load(folder / "checkpoints" / "3"), saved[3])


def test_the_newest_sound_step_is_taken_if_the_best_is_damaged(run, load, capsys):
    folder, saved = run
    flip_bytes(folder / "checkpoints" / "2")
    with pytest.warns(UserWarning, match=r"step 2 of .* is damaged"):
        states.assert_same(load(folder), saved[4])
    shutil.rmtree(folder / "checkpoints" / "4" / "meta")
    with pytest.warns(UserWarning, match=r"step [24] of .* is damaged") as told:
        states.assert_same(load(folder), saved[3])
    assert any("step 4 of" in str(warning.message) for warning in told)
    assert "took step 3, the newest sound one" in capsys.readouterr().err
    flip_bytes(folder / "checkpoints" / "3")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"every checkpoint in .*steps \[2, 3, 4\]"),
    ):
        load(folder)


def test_a_run_without_metrics_gives_its_newest_step(tmp_path, load, capsys):
    with checkpoint.Checkpoints(tmp_path) as saved:
        for step in (9, 10):
            saved.save(step, checkpoint.weights_of(states.blank(spynet, step)))
    states.assert_same(load(tmp_path), states.blank(spynet, 10))
    assert "took step 10, the newest\n" in capsys.readouterr().err


def test_a_flipped_bit_is_damage_wherever_it_is_read(tmp_path, load):
    checkpoint.save(tmp_path / "net", states.blank(spynet, 1))
    states.assert_same(load(tmp_path / "net"), states.blank(spynet, 1))
    flip_bytes(tmp_path / "net")
    with pytest.raises(ValueError, match=r"checkpoint .*net is damaged"):
        load(tmp_path / "net")


def test_a_checkpoint_that_lost_its_record_is_not_read_unverified(tmp_path, load):
    checkpoint.save(tmp_path / "net", states.blank(spynet, 1))
    (tmp_path / "net" / "_CHECKPOINT_METADATA").unlink()
    with pytest.raises(ValueError, match="is damaged: _CHECKPOINT_METADATA is missing"):
        load(tmp_path / "net")


def test_what_is_not_there_says_so(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint in"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"net\.pth: there is no such file"):
        load(tmp_path / "net.pth")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*'pwcnet/chairs'"):
        load("pwcnet/chair")
    with pytest.raises(FileNotFoundError, match="no file has a name of that pattern"):
        load(tmp_path / "*.t7")


def test_a_folder_of_one_run_says_which(tmp_path, load):
    with checkpoint.Checkpoints(tmp_path / "chairs" / "checkpoints") as saved:
        saved.save(1, checkpoint.weights_of(states.blank(spynet, 1)))
    with pytest.raises(ValueError, match=r"holds the run chairs; name .*chairs$"):
        load(tmp_path)


def test_a_run_in_stages_asks_for_one(tmp_path, load):
    for stage in ("chairs", "things"):
        with checkpoint.Checkpoints(tmp_path / stage / "checkpoints") as saved:
            saved.save(1, checkpoint.weights_of(states.blank(spynet, 1)))
    with pytest.raises(
        ValueError, match=r"several runs: chairs, things; name one, e\.g\."
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"w": np.ones(3)}, "a state dict, which `jaxflow.convert_state_dict` takes"),
        (None, "got NoneType"),
        (3, "got int"),
        ([None], "got list"),
        ("", "name of the weights is empty"),
    ],
)
def test_what_names_no_weights_is_refused(source, message, load):
    with pytest.raises(ValueError, match=message):
        load(source)


def test_a_folder_of_one_file_is_that_file(tmp_path, load):
    convert.save_weights(states.blank(spynet, 1), tmp_path / "a.safetensors")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._a.pth").write_bytes(b"x")
    states.assert_same(load(tmp_path), states.blank(spynet, 1))
    convert.save_weights(states.blank(spynet, 1), tmp_path / "b.safetensors")
    message = r"holds 2 checkpoints: a\.safetensors, b\.safetensors; name one of them"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_name_with_brackets_is_a_file_first(tmp_path, load):
    path = tmp_path / "net[1].safetensors"
    convert.save_weights(states.blank(spynet, 1), path)
    states.assert_same(load(path), states.blank(spynet, 1))


def test_a_run_records_the_config(run):
    folder, _ = run
    record = weights.read(folder).record
    assert record["model"] == "jaxflow.models.flow.spynet"
    assert record["config"]["networks"] == spynet.TINY.networks


def test_records_are_plain_json_and_name_the_variant():
    record = weights.record_of(models.describe("spynet_chairs"))
    assert record["variant"] == "spynet_chairs"
    assert json.loads(json.dumps(record)) == record
    assert weights.record_of(nnx.Linear(1, 1, rngs=nnx.Rngs(0))) == {}


@pytest.fixture
def registry(monkeypatch):
    digest = hashlib.sha256(b"weights").hexdigest()
    toy = spec.Weights(
        file="toy.pth",
        source="the toy makers' page",
        licence="CC-BY",
        dialect="toy",
        sha256=digest[:8],
        num_params=1,
    )
    module = types.SimpleNamespace(RECORD=spec.Record(weights={"toy/chairs": toy}))
    monkeypatch.setattr(models, "list_models", lambda: ["toy"])
    monkeypatch.setattr(models, "find", lambda name: _Hashable(module))
    return toy


class _Hashable:
    def __init__(self, module):
        self.RECORD = module.RECORD


def test_published_weights_are_verified_or_their_source_is_named(tmp_path, registry):
    with pytest.raises(FileNotFoundError, match=r"toy makers' page; licence: CC-BY"):
        weights.pretrained("toy/chairs", cache=tmp_path)
    (tmp_path / "toy.pth").write_bytes(b"weights")
    path, found = weights.pretrained("toy/chairs", cache=tmp_path)
    assert (path, found) == (tmp_path / "toy.pth", registry)
    (tmp_path / "toy.pth").write_bytes(b"weightz")
    with pytest.raises(ValueError, match="is not toy/chairs: its SHA-256"):
        weights.pretrained("toy/chairs", cache=tmp_path)
    with pytest.raises(ValueError, match="`name` must be a name in quotes; got None"):
        weights.describe(None)
    with pytest.raises(ValueError, match=r"no weights are named 'toy/things'"):
        weights.pretrained("toy/things", cache=tmp_path)


def test_the_cache_is_where_the_variable_says(tmp_path, registry, monkeypatch):
    monkeypatch.setenv("JAXFLOW_CACHE", str(tmp_path))
    (tmp_path / "toy.pth").write_bytes(b"weights")
    assert weights.pretrained("toy/chairs")[0].parent == tmp_path


def test_a_pretrained_network_is_built_from_its_file(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    source = models.create_model("spynet")
    path = tmp_path / "network-sintel-final.safetensors"
    state = {}
    for index in range(len(source.levels)):
        for layer, part in enumerate(source.levels[index].convs):
            name = f"moduleBasic.{index}.moduleBasic.{2 * layer}"
            kernel = rng.normal(size=part.kernel.shape).astype(np.float32)
            state[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1).copy()
            state[f"{name}.bias"] = rng.normal(size=part.bias.shape).astype(np.float32)
    safetensors.numpy.save_file(state, path)
    known = {
        name: dataclasses.replace(known, sha256="")
        for name, known in weights.published().items()
    }
    monkeypatch.setattr(weights, "published", lambda: known)
    name = "spynet/sintel-final"
    with pytest.warns(UserWarning, match="is not verified"):
        model = jaxflow.load_pretrained(name, path=path)
    np.testing.assert_array_equal(
        model.levels[0].convs[0].bias[...], state["moduleBasic.0.moduleBasic.0.bias"]
    )
    with pytest.raises(FileNotFoundError, match="its authors offer it"):
        jaxflow.load_pretrained(name, path=tmp_path / "elsewhere.pth")


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Published weights of a tiny network on a server of our own."""
    model = states.blank(spynet, 1)
    saved = tmp_path / "made.safetensors"
    convert.save_weights(model, saved)
    content = saved.read_bytes()
    with serving(content) as server:

        def offer(**fields):
            toy = spec.Weights(
                file="toy.safetensors",
                source="the toy makers' page",
                dialect="jaxflow",
                num_params=1,
                **{"licence": "MIT", "url": server.url, **fields},
            )
            monkeypatch.setattr(weights, "published", lambda: {"toy/chairs": toy})

        record = dataclasses.replace(spynet.RECORD, variants={"toy": spynet.TINY})
        monkeypatch.setattr(spynet, "RECORD", record)
        monkeypatch.setattr(spynet.Model, "record", record)
        monkeypatch.setattr(models, "find", lambda name: spynet)
        server.digest = hashlib.sha256(content).hexdigest()
        yield server, offer, model


def test_load_pretrained_fetches_what_its_licence_permits(tmp_path, offered, capsys):
    server, offer, expected = offered
    offer(sha256=server.digest[:8])
    cache = tmp_path / "cache"
    for _ in range(2):  # fresh, then cached
        states.assert_same(jaxflow.load_pretrained("toy/chairs", cache=cache), expected)
    assert server.asked == [None]
    assert f"toy/chairs: fetching {server.url} (MIT)" in capsys.readouterr().err
    assert [path.name for path in cache.iterdir()] == ["toy.safetensors"]


def test_load_pretrained_goes_on_after_an_interrupt(tmp_path, offered):
    server, offer, expected = offered
    offer(sha256=server.digest)
    whole, server.cut = server.cut, 10
    with pytest.raises(OSError, match=r"put toy\.safetensors into") as error:
        jaxflow.load_pretrained("toy/chairs", cache=tmp_path)
    assert "\n" not in str(error.value)
    part = tmp_path / "toy.safetensors.part"
    kept = part.stat().st_size if part.exists() else 0
    server.cut = whole
    states.assert_same(jaxflow.load_pretrained("toy/chairs", cache=tmp_path), expected)
    assert server.asked[1:] == [f"bytes={kept}-" if kept else None]


def test_load_pretrained_refuses_another_file(tmp_path, offered):
    _, offer, _ = offered
    offer(sha256="01234567")
    with pytest.raises(ValueError, match="published is 01234567"):
        jaxflow.load_pretrained("toy/chairs", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_load_pretrained_without_a_network_says_where_to_put_it(tmp_path, offered):
    server, offer, _ = offered
    offer(sha256=server.digest)
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"refused.*put toy\.safetensors into .*makers'"):
        jaxflow.load_pretrained("toy/chairs", cache=tmp_path)


@pytest.mark.parametrize("fields", [{"licence": "research only"}, {"url": ""}])
def test_load_pretrained_fetches_nothing_that_it_may_not(tmp_path, offered, fields):
    server, offer, _ = offered
    offer(sha256=server.digest, **fields)
    with pytest.raises(FileNotFoundError, match=r"put toy\.safetensors into") as error:
        jaxflow.load_pretrained("toy/chairs", cache=tmp_path)
    refused = "terms are for you to accept" in str(error.value)
    assert refused == ("licence" in fields)
    assert server.asked == []


def test_without_a_checksum_the_first_one_counts(tmp_path, offered):
    server, offer, expected = offered
    offer()
    with pytest.warns(UserWarning, match=f"publish no checksum.*{server.digest}"):
        jaxflow.load_pretrained("toy/chairs", cache=tmp_path)
    note = tmp_path / "toy.safetensors.sha256"
    assert note.read_text() == f"{server.digest}  toy.safetensors\n"
    states.assert_same(jaxflow.load_pretrained("toy/chairs", cache=tmp_path), expected)
    with (tmp_path / "toy.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(
        ValueError, match="is not what it was when toy/chairs was first"
    ):
        jaxflow.load_pretrained("toy/chairs", cache=tmp_path)


def test_everything_that_is_fetched_has_an_open_licence_and_a_plain_address():
    known = weights.published()
    fetched = [each for each in known.values() if each.url]
    assert len(fetched) > 40
    for each in fetched:
        assert each.licence in weights.OPEN_LICENCES
        assert each.member or each.url.endswith(f"/{each.file}")
        assert len(each.sha256) in (0, 8, 64)
        digest = each.file.rpartition("-")[2].removesuffix(".pth")
        if len(digest) == 8 and set(digest) <= set("0123456789abcdef"):
            assert each.sha256 == digest
    assert not known["pwcnet/chairs"].url


def test_the_defaults_of_a_config_are_those_of_its_fields():
    record = weights.record_of(states.blank(spynet, 1))
    found = weights.default_config(record)
    fields = {field.name: field for field in dataclasses.fields(spynet.Config)}
    assert found and found.keys() <= fields.keys() == record["config"].keys()
    for name, value in found.items():
        assert value == json.loads(json.dumps(fields[name].default)), name
    assert weights.default_config({}) == weights.default_config({"model": "a.b"}) == {}
