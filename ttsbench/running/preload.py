"""What the fork server imports once, so that a cell starts in milliseconds instead of 10-20 s.

CUDA must stay untouched here, or every child fails. Some imports ask `torch.cuda.is_available()`, which
PYTORCH_NVML_BASED_CUDA_CHECK=1 answers through NVML (the runner sets it). Those of torchao, which transformers makes
where it is installed, ask for the GPU's properties too, which are answered here.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch._dynamo.device_interface import CudaInterface

from ttsbench.instruments.swapping import swapped
from ttsbench.running import host

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # perth's, at every start


@contextmanager
def cuda_untouched() -> Iterator[None]:
    """Who asks for the GPU's properties hears what NVML knows."""

    def properties(device: Any = None) -> SimpleNamespace:
        major, minor = host.machine().compute_capability or (0, 0)
        return SimpleNamespace(major=major, minor=minor)

    # The compiler asks through an interface of its own, which would keep the answer.
    askers = ((torch.cuda, properties), (CudaInterface.Worker, staticmethod(properties)))
    with ExitStack() as stack:
        for owner, answer in askers:
            stack.enter_context(swapped(owner, "get_device_properties", answer))
        yield


for name in (
    "chatterbox.mtl_tts",
    "chatterbox.tts",
    "chatterbox.tts_turbo",
    "librosa",
    "scipy.signal",
    "ttsbench.model.audio",
    "ttsbench.model.checkpoint",
    "ttsbench.running.cells.backbone",
    "ttsbench.instruments.clock",
    "ttsbench.model.pipeline",
    "ttsbench.model.voice",
):
    with cuda_untouched():
        importlib.import_module(name)


def quiet() -> None:
    """Upstream warns on every call about what we know; the log keeps errors."""
    warnings.filterwarnings("ignore")
    logging.getLogger("chatterbox").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
