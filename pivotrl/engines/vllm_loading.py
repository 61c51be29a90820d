"""Loads vLLM into this process, quietly, with nothing that listens beyond this machine.

Whether it runs on GPUs or on a CPU is decided by the build that is installed. It must never know
candidates, verifiers or chat templates.
"""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from pivotrl.engines.decoding import CPU_BYTES_FOR_KEYS
from pivotrl.engines.isolation import reason
from pivotrl.types import ConfigError

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # new weights go in by reference, never through a socket
    "VLLM_HOST_IP": "127.0.0.1",  # the workers of tensor parallelism listen on loopback alone
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def load_llm(
    path: Path,
    *,
    dtype: str,
    context: int,
    tensor_parallel: int,
    memory_share: float,
    batch_invariant: bool,
    max_rows: int,
) -> Any:
    """A `vllm.LLM` without a tokenizer; the settings are those of `VLLMEngine`.

    Raises ConfigError where vLLM is missing or refuses.
    """
    os.environ.update(ENVIRONMENT, VLLM_BATCH_INVARIANT=str(int(batch_invariant)))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "CRITICAL")  # what it raises says enough
    try:
        platform = import_module("vllm.platforms").current_platform
    except ImportError as error:
        raise ConfigError(f"no vLLM ({error}); pip install 'pivotrl[vllm]'") from None
    own: dict[str, Any] = {"gpu_memory_utilization": memory_share, "enable_sleep_mode": True}
    if platform.is_cpu():
        own = {
            "kv_cache_memory_bytes": CPU_BYTES_FOR_KEYS,
            "enforce_eager": True,
            # A seeded prompt in parts would fail: random generators of a CPU have no offset.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(context, max_rows),
        }
        platform.simple_compile_backend = "eager"  # else the first batch waits for a compiler
        if batch_invariant:
            raise ConfigError("engine.batch_invariant: vLLM has it on GPUs alone; leave it out")
    set_num_threads = torch.set_num_threads
    try:
        warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
        # In a thread: an exception of this import is kept, and with it all frames, ours included.
        with ThreadPoolExecutor(1) as pool:
            module = pool.submit(import_module, "vllm.entrypoints.llm").result()
        return module.LLM(
            model=str(path),
            skip_tokenizer_init=True,
            trust_remote_code=False,
            load_format="safetensors",
            use_tqdm_on_load=False,
            generation_config="vllm",  # the folder's own would change the distribution
            dtype=dtype,
            max_model_len=context,
            max_num_seqs=max_rows,
            tensor_parallel_size=tensor_parallel,
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",
            **own,
        )
    except Exception as error:  # the library raises whatever folder and machine provoke
        raise ConfigError(f"{path}: vLLM does not load the model ({reason(error)})") from error
    finally:
        torch.set_num_threads = set_num_threads  # on a CPU vLLM disables it for the process
