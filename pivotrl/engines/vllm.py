"""In-process vLLM: the engine for profiling at scale.

A sample is a request of its own, since vLLM seeds the n samples of one request with seed, seed + 1,
…; the prefix cache makes the repeated prompt cheap. Several engines beside each other (data
parallelism) are processes of their own. It must never know candidates, verifiers or chat templates.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import import_module
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from pivotrl.engines.checks import check_call, check_state
from pivotrl.engines.decoding import CPU_BYTES_FOR_KEYS
from pivotrl.engines.hf import load_model
from pivotrl.engines.isolation import Finish, Job, reason, sampled
from pivotrl.types import (
    ConfigError,
    FinishReason,
    PivotRLError,
    RolloutStatus,
    Sample,
    SamplingParams,
    seed_of,
)

COLDEST = 0.01
"""vLLM raises lower temperatures but 0 to this."""
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # new weights go in by reference, never through a socket
    "VLLM_HOST_IP": "127.0.0.1",  # the workers of tensor parallelism listen on loopback alone
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


class VLLMEngine:
    """Implements `types.Engine` for a model folder that vLLM serves.

    `decode` turns token ids, end of turn excluded, into text; `stop_ids` alone end a turn. At most
    `max_rows` samples decode at once. `memory_share` is of each GPU's memory (on a CPU 2 GiB hold
    the keys), `tensor_parallel` how many GPUs hold the model together. With `batch_invariant` (GPUs
    only) numbers do not depend on the batch. `timeout` is in seconds for one sample, from the time
    that it is among these `max_rows`, looked at between steps.
    """

    def __init__(
        self,
        path: Path,
        *,
        stop_ids: frozenset[int],
        decode: Callable[[Sequence[int]], str],
        dtype: str,
        context: int,
        tensor_parallel: int = 1,
        memory_share: float = 0.9,
        batch_invariant: bool = False,
        max_rows: int = 256,
        timeout: float | None = None,
    ) -> None:
        """Loads the model. Raises ConfigError where vLLM is missing or refuses."""
        self._llm = _loaded(
            path,
            dtype=dtype,
            context=context,
            tensor_parallel=tensor_parallel,
            memory_share=memory_share,
            batch_invariant=batch_invariant,
            max_rows=max_rows,
        )
        self._vllm = import_module("vllm")
        self._path, self._context, self._tensor_parallel = path, context, tensor_parallel
        self._stop_ids, self._decode, self._max_rows = stop_ids, decode, max_rows
        self._timeout = inf if timeout is None else timeout
        self._vocabulary: int = self._llm.model_config.get_vocab_size()

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        params: SamplingParams,
        seeds: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
        first: int = 0,
    ) -> list[list[Sample]]:
        """`n` samples for each prompt, in the caller's order; see `types.Engine.sample`.

        At temperature 0 every log-probability is 0: the sampling distribution has one token. A
        sample that is late twice has the status `timeout`. An exception of vLLM ends all
        samples in flight; they are tried again prompt by prompt, and those that meet one again have
        the status `engine_error`, as have samples whose logits are not finite. `on_progress` is
        called once a sample. Raises PivotRLError for a prompt that does not fit the context, and
        where vLLM raised for every prompt.
        """
        check_call(prompts, n, params, seeds, vocabulary=self._vocabulary, context=self._context)
        if 0 < params.temperature < COLDEST:
            raise ConfigError(f"temperature {params.temperature}: vLLM has 0, or {COLDEST} and up")
        self.wake()

        def run(jobs: Sequence[Job], finish: Finish) -> None:
            self._run({(i, j): (prompts[i], seed_of(seeds[i], j)) for i, j in jobs}, params, finish)

        return sampled(run, prompts, n, seeds, first, on_progress, name="vLLM")

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Puts `state` (Hugging Face name -> tensor) in place of the weights; all or nothing.

        As for `HFEngine`, names of tied tensors may occur or be left out, and a tensor in shards is
        gathered when its turn comes. No prefix computed with the old weights is used again. Raises
        PivotRLError for a parameter that is missing, unknown or of another shape.
        """
        check_state(self._shapes, state)
        self.wake()
        own: dict[int, str] = {}  # every name of a tied tensor: vLLM on a CPU packs it under each
        names = self._shapes.named_parameters(remove_duplicate=False)
        state = {name: state[own.setdefault(id(p), name)] for name, p in names} | dict(state)
        whole = (
            (name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach())
            for name, tensor in state.items()
        )
        if self._tensor_parallel == 1:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": whole})
        else:  # the workers are processes, which read them from a file
            with tempfile.TemporaryDirectory() as folder:
                copies = {name: tensor.to("cpu", copy=True) for name, tensor in whole}
                save_file(copies, Path(folder, "model.safetensors"))
                self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        self._forget_prefixes()

    def sleep(self) -> None:
        """Gives a GPU's memory back, the weights kept in the machine's; a CPU has no such mode.

        A round of training does so between sampling and update.
        """
        if self._llm.model_config.enable_sleep_mode:
            self._llm.sleep(level=1)

    def wake(self) -> None:
        """Takes the memory again; `sample` and `load_weights` do so by themselves."""
        if self._llm.llm_engine.is_sleeping():
            torch.cuda.empty_cache()  # what a trainer on the same card has freed it still holds
            self._llm.wake_up()

    @cached_property
    def _shapes(self) -> Any:
        return load_model(self._path, device="meta")

    def _run(
        self,
        requests: Mapping[Job, tuple[Sequence[int], int]],
        params: SamplingParams,
        finish: Finish,
    ) -> None:
        """Hands over samples as they are done; `requests` are prompts with their sample's seed."""
        engine = self._llm.llm_engine
        waiting = deque(enumerate(requests.items()))
        running: dict[str, tuple[Job, int, float]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._max_rows:
                    number, (job, (prompt, seed)) = waiting.popleft()
                    running[str(number)] = job, seed, time.monotonic()
                    tokens = self._vllm.inputs.tokens_input(list(prompt))
                    engine.add_request(str(number), tokens, self._settings(params, seed))
                for output in engine.step():
                    job, seed, _ = running.pop(output.request_id)
                    finish(job, self._sample(output.outputs[0], params, seed))
                now = time.monotonic()
                late = [
                    name for name, (*_, since) in running.items() if now - since > self._timeout
                ]
                engine.abort_request(late)
                for job, seed, _ in [running.pop(name) for name in late]:
                    finish(job, Sample.lost(RolloutStatus.TIMEOUT, seed))
        finally:
            if running:
                engine.abort_request(list(running))
                self._forget_prefixes()  # a step that failed may have left some unwritten

    def _settings(self, params: SamplingParams, seed: int) -> Any:
        return self._vllm.SamplingParams(
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            seed=seed,
            stop_token_ids=sorted(self._stop_ids),
            ignore_eos=True,  # which tokens end a turn is ours to say
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
            detokenize=False,
            output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )

    def _sample(self, completion: Any, params: SamplingParams, seed: int) -> Sample:
        ids, logprobs = tuple(completion.token_ids), tuple(completion.logprobs.logprobs)
        if completion.finish_reason not in tuple(FinishReason) or not all(map(isfinite, logprobs)):
            return Sample.lost(RolloutStatus.ENGINE_ERROR, seed)  # the weights are broken
        finish_reason = FinishReason(completion.finish_reason)
        return Sample(
            token_ids=ids,
            logprobs=logprobs if params.temperature > 0 else (0.0,) * len(ids),
            text=self._decode(ids[:-1] if finish_reason == FinishReason.STOP else ids),
            finish_reason=finish_reason,
            seed=seed,
        )

    def _forget_prefixes(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise PivotRLError("vLLM does not let go of its prefix cache; start the run again")


def _loaded(
    path: Path,
    *,
    dtype: str,
    context: int,
    tensor_parallel: int,
    memory_share: float,
    batch_invariant: bool,
    max_rows: int,
) -> Any:
    """A `vllm.LLM` without a tokenizer, quiet, with nothing that listens beyond this machine.

    Whether it runs on GPUs or on a CPU is decided by the build that is installed.
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
