"""CUDA C++ compiled at run time by NVRTC, which comes with PyTorch: no compiler on the user's machine.

Machine code is kept on disk under the hash of all that it was made from. Compiling needs no GPU; loading does.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import torch
from cuda.bindings import driver, nvrtc

from ttsbench.errors import CellError

FOLDER = Path(__file__).parent / "cuda"


@functools.cache
def compiled(file: str, architecture: str, constants: tuple[tuple[str, int], ...]) -> bytes:
    """Machine code of a file in `kernels/cuda`, from the disk where it was compiled before."""
    sources = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in (".cu", ".cuh")}
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-D{name}={value}" for name, value in constants)]
    parts = [file, *options, str(nvrtc_version()), *(part for item in sources.items() for part in map(str, item))]
    kept = cache_folder() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.cubin"
    if kept.is_file():
        return kept.read_bytes()
    code = _compile(sources, file, options)
    _keep(code, kept)
    return code


def architecture() -> str:
    """That of the present GPU, by NVRTC's name."""
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def nvrtc_version() -> tuple[int, int]:
    _, major, minor = nvrtc.nvrtcVersion()
    return int(major), int(minor)


def cache_folder() -> Path:
    """Beside the checkpoints that are made."""
    folder = os.environ.get("TTSBENCH_CACHE", "")
    return (Path(folder).expanduser() if folder else Path(platformdirs.user_cache_dir("ttsbench"))) / "kernels"


def _compile(sources: Mapping[str, bytes], file: str, options: list[str]) -> bytes:
    headers = {name: text for name, text in sources.items() if name.endswith(".cuh")}
    error, program = nvrtc.nvrtcCreateProgram(
        sources[file], file.encode(), len(headers), list(headers.values()), [name.encode() for name in headers]
    )
    _check_nvrtc(error)
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        raise CellError(f"NVRTC could not compile {file}: {log.decode().strip()}")
    error, size = nvrtc.nvrtcGetCUBINSize(program)
    _check_nvrtc(error)
    code = bytes(size)
    _check_nvrtc(nvrtc.nvrtcGetCUBIN(program, code)[0])
    nvrtc.nvrtcDestroyProgram(program)
    return code


def _keep(code: bytes, kept: Path) -> None:
    """Whole or not at all: several processes may compile at once."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as partial:
        partial.write(code)
    Path(partial.name).replace(kept)


def _check_nvrtc(error: nvrtc.nvrtcResult) -> None:
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CellError(f"NVRTC: {error.name}")


def check(result: tuple[object, ...]) -> object:
    """What a call of CUDA's driver returned beside its error code, or its error."""
    error, *values = result
    assert isinstance(error, driver.CUresult)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise CellError(f"CUDA's driver: {error.name}")
    return values[0] if values else None


class CooperativeKernel:
    """One kernel whose blocks wait for each other, so that all of them have to be resident."""

    def __init__(self, code: bytes, name: str) -> None:
        torch.cuda.current_stream()  # the context has to be there
        self._module = check(driver.cuModuleLoadData(code))
        self._function = check(driver.cuModuleGetFunction(self._module, name.encode()))

    def constants(self, name: str, count: int) -> list[int]:
        """A table of integers that the source defines."""
        address, _ = driver.cuModuleGetGlobal(self._module, name.encode())[1:]
        values = (ctypes.c_int * count)()
        check(driver.cuMemcpyDtoH(ctypes.addressof(values), address, ctypes.sizeof(values)))
        return list(values)

    def reserve(self, blocks: int, threads: int, shared_bytes: int) -> None:
        """Refuses a device on which not all blocks of this very instance are resident at once."""
        self._threads, self._shared_bytes = threads, shared_bytes
        device, attribute = torch.cuda.get_device_properties(), driver.CUdevice_attribute
        allowed = attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        has = check(driver.cuDeviceGetAttribute(allowed, torch.cuda.current_device()))
        assert isinstance(has, int)
        if has < shared_bytes:
            raise CellError(f"the kernel needs {shared_bytes} bytes of shared memory a block; {device.name} has {has}")
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        check(driver.cuFuncSetAttribute(self._function, limit, shared_bytes))
        of_one = check(driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(self._function, threads, shared_bytes))
        assert isinstance(of_one, int)
        resident = of_one * device.multi_processor_count
        if resident < blocks:
            raise CellError(f"the kernel needs {blocks} blocks at once, and {device.name} holds {resident}")

    @property
    def registers(self) -> int:
        count = check(driver.cuFuncGetAttribute(driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NUM_REGS, self._function))
        assert isinstance(count, int)
        return count

    def launch(self, blocks: int, arguments: ctypes.Structure) -> None:
        """On the present stream; the driver copies the arguments before it returns."""
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        check(
            driver.cuLaunchCooperativeKernel(
                self._function, blocks, 1, 1, self._threads, 1, 1, self._shared_bytes,
                torch.cuda.current_stream().cuda_stream, ctypes.addressof(pointers),
            )
        )  # fmt: skip
