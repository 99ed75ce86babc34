"""Exported networks compute what the weights do, without this project."""

import torch

from dsrl.checkpoints.network import load_network
from dsrl.checkpoints.weights import save_weights
from dsrl.cli.main import main


def test_an_exported_network_gives_the_same_logits(make_weights, tmp_path):
    weights, path = tmp_path / "a.weights", tmp_path / "network.pt2"
    save_weights(weights, make_weights(3, encoder="test_resnet"))
    main(["export", "--weights", str(weights), "--output", str(path)])
    info = {"info.json": ""}
    module = torch.export.load(path, extra_files=info).module()
    assert '"input_size": [32, 64]' in info["info.json"]
    network, transform, _ = load_network(weights, torch.device("cpu"))
    images = torch.randint(256, (3, 3, 32, 64)).float()  # a batch size it was not exported with
    with torch.no_grad():
        torch.testing.assert_close(module(images), network(transform(images)).logits)
