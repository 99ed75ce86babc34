"""Pretrained weights of timm's encoders, from the Hugging Face hub or from its cache."""

from collections.abc import Iterator
from contextlib import contextmanager

FILES = ("model.safetensors", "pytorch_model.bin")  # what timm reads, the first that there is
TIMEOUT = 10  # seconds until the hub counts as out of reach


@contextmanager
def explained_download(name: str) -> Iterator[None]:
    """Say what to do if the weights of encoder `name` are not there.

    Raises:
        OSError: they are not in the cache and cannot be downloaded; one line.
    """
    import timm
    from huggingface_hub import constants

    current = timm.models.get_deprecated_models().get(name) or name
    settings = timm.get_pretrained_cfg(current)
    repository = settings.hf_hub_id if settings else None
    if not repository:
        yield
        return
    try:
        _find(repository)
        yield
    except OSError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise OSError(
            f"encoder '{name}': its pretrained weights are not in {constants.HF_HUB_CACHE} and "
            f"cannot be downloaded from {constants.ENDPOINT}/{repository} ({reason}); run `hf "
            f"download {repository}` where there is internet access and copy its cache here, or "
            "set pretrained: false"
        ) from error


def _find(repository: str) -> None:
    """Fail at once if the weights are neither in the cache nor within reach.

    timm's own download would repeat each request for 24 seconds, and no setting of the hub's
    library changes that.

    Raises:
        OSError: they are not.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in FILES):
        return
    try:
        get_hf_file_metadata(hf_hub_url(repository, FILES[0]), timeout=TIMEOUT)
    except HfHubHTTPError:
        pass  # an answer, which timm deals with
    except Exception as error:  # of the HTTP library, which differs between versions of the hub's
        raise ConnectionError(str(error)) from error
