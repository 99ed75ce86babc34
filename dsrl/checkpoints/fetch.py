"""Fetching trained encoders: from an installed package, from EdgeNets, or from timm's hub."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from torch import Tensor

from dsrl.checkpoints.encoder import encoder_layers
from dsrl.checkpoints.format import load_any, write
from dsrl.config.encoder_weights import Source, check_known, sources
from dsrl.system.download import download_file, timeout
from dsrl.system.files import sha256

FILES = ("model.safetensors", "pytorch_model.bin")  # what timm reads, the first that there is
TIMEOUT = 10  # seconds until an address counts as out of reach


class Fetched(NamedTuple):
    """A trained encoder, in the names of this project or of timm."""

    layers: Mapping[str, Tensor]
    source: str  # package or address
    license: str
    mean: Sequence[float]
    std: Sequence[float]


def fetch_encoder(name: str, output: Path) -> str:
    """Write the trained weights of an encoder to the file `output`, with their source, license,
    mean and std.

    Args:
        name: of `sources()`, or a timm model.

    Returns:
        One line that says what was written.

    Raises:
        FileExistsError: `output` exists.
        OSError: the weights are out of reach; one line names the address and the cure.
        ValueError: there are none of this name.
    """
    if output.is_file():
        raise FileExistsError(f"{output} exists; remove it to fetch it again")
    check_known(name)
    source = sources().get(name)
    fetched = None
    if source is not None:
        fetched = _from_package(name, source) if source.package else _from_url(name, source, output)
    if fetched is None:
        hint = f", or run `pip install {source.package}`" if source else ""
        fetched = _from_timm(name, output, hint)
    about = {"source": fetched.source, "license": fetched.license}
    values = {"mean": list(fetched.mean), "std": list(fetched.std)}
    write(output, {"encoder": name, **about, **values, "state_dict": dict(fetched.layers)})
    return f"{output}: {name} from {fetched.source} (license: {fetched.license})"


def _from_package(name: str, source: Source) -> Fetched | None:
    """The weights in an installed package; None if it is not installed."""
    import timm

    try:
        path = Path(str(distribution(source.package).locate_file(source.file)))
    except PackageNotFoundError:
        return None
    if sha256(path) != source.sha256:
        raise ValueError(f"{path}: is damaged; reinstall the package {source.package}")
    # The names differ from timm's, but not the order.
    layers, model = load_any(path), timm.create_model(name).state_dict()
    if [layer.shape for layer in layers.values()] != [layer.shape for layer in model.values()]:
        raise ValueError(f"{path}: does not fit the encoder '{name}' of timm {timm.__version__}")
    named = dict(zip(model, layers.values(), strict=True))
    return Fetched(named, source.package, source.license, source.mean, source.std)


def _from_url(name: str, source: Source, output: Path) -> Fetched:
    """The encoder in a file of EdgeNets."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(source.url).name
        with _explained(name, source.url, output):
            download_file(source.url, source.sha256, path, _check_complete, TIMEOUT)
        layers = encoder_layers(load_any(path))
    named = {
        name.removeprefix("encoder."): layer
        for name, layer in layers.items()
        if name.startswith("encoder.")
    }
    return Fetched(named, source.url, source.license, source.mean, source.std)


def _check_complete(path: Path) -> None:
    try:
        load_any(path)
    except ValueError:
        raise OSError("not complete, or not a PyTorch file") from None


def _from_timm(name: str, output: Path, hint: str) -> Fetched:
    """The weights that timm has for one of its models."""
    import timm

    current = timm.models.get_deprecated_models().get(name) or name
    known = timm.get_pretrained_cfg(current)
    repository = known.hf_hub_id if known else re.sub(r"hf[-_]hub:|local-dir:.*", "", name)
    address = _address(repository) if repository else str(known.url if known else "")
    with _explained(name, address, output, hint), timeout(TIMEOUT):
        if repository:
            _find(repository, address)
        model = timm.create_model(name, pretrained=True)
    about: Any = model.pretrained_cfg
    license = about.get("license") or "unknown"
    return Fetched(model.state_dict(), address or name, license, about["mean"], about["std"])


def _address(repository: str) -> str:
    from huggingface_hub import hf_hub_url

    repository, _, revision = repository.partition("@")
    return hf_hub_url(repository, FILES[0], revision=revision or None)


def _find(repository: str, address: str) -> None:
    """Fail at once if the weights are neither in the hub's cache nor within reach.

    timm's own download would repeat each request for 24 seconds, and no setting of the hub's
    library changes that.

    Raises:
        OSError: they are not.
    """
    from huggingface_hub import get_hf_file_metadata, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = repository.partition("@")
    if any(
        isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str)
        for file in FILES
    ):
        return
    with suppress(HfHubHTTPError):  # an answer, which timm deals with
        get_hf_file_metadata(address, timeout=TIMEOUT)


@contextmanager
def _explained(name: str, address: str, output: Path, hint: str = "") -> Iterator[None]:
    """Say what to do if the weights `name` cannot be had from `address`; empty: from a folder."""
    try:
        yield
    except RuntimeError as error:  # timm's, of a model that has none
        raise ValueError(f"encoder '{name}': {' '.join(str(error).split())}") from None
    except Exception as error:  # also of the HTTP library, which differs between the hub's versions
        reason = " ".join(str(error.__cause__ or error).split())
        if not address:
            raise OSError(f"encoder '{name}': {reason}") from error
        raise OSError(
            f"encoder '{name}': could not download {address} ({reason}); run `dsrl fetch-encoder "
            f"{name}` where there is internet access and copy its file to {output}, or download "
            f"that address and put it at {output.with_suffix(Path(address).suffix)}{hint}"
        ) from error
