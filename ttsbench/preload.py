"""What the fork server imports once, so that a cell starts in milliseconds instead of 10-20 s.

CUDA must stay untouched here: some import asks `torch.cuda.is_available()`, which would initialize it in the parent
and make every child fail, unless PYTORCH_NVML_BASED_CUDA_CHECK=1 answers through NVML (the runner sets it).
"""

from __future__ import annotations

import logging
import warnings

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # perth's, at every start

import chatterbox.mtl_tts  # noqa: E402
import chatterbox.tts  # noqa: E402
import chatterbox.tts_turbo  # noqa: E402, F401
import librosa  # noqa: E402, F401
import scipy.signal  # noqa: E402, F401

import ttsbench.audio  # noqa: E402
import ttsbench.checkpoint  # noqa: E402
import ttsbench.forward  # noqa: E402
import ttsbench.instruments.clock  # noqa: E402
import ttsbench.pipeline  # noqa: E402
import ttsbench.voice  # noqa: E402, F401


def quiet() -> None:
    """Upstream warns on every call about what we know; the log keeps errors."""
    warnings.filterwarnings("ignore")
    logging.getLogger("chatterbox").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
