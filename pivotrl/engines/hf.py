"""In-process engine: samples completions from a transformers causal language model.

Prompts are sorted so that neighbours share prefixes, and each is prefilled only behind what it
shares with the one before; all samples of a prompt decode together on one copy of its keys. It
must never know candidates, verifiers or chat templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from pivotrl.engines.checks import check_call, check_state
from pivotrl.engines.decoding import Decoding
from pivotrl.engines.isolation import Finish, Job, reason, sampled
from pivotrl.types import ConfigError, PivotRLError, Sample, SamplingParams

PROBE_TOLERANCE = {torch.float32: 0.01, torch.float64: 0.01}
COARSE_PROBE_TOLERANCE = 0.25
"""Mean difference in log-probability between the engine's attention and the model's own: in bf16
two right orders of summation already differ by some hundredths."""


def load_model(path: Path | str, *, dtype: str = "float32", device: str = "cpu") -> Any:
    """The causal language model of a Hugging Face folder, in evaluation mode.

    `dtype` is a torch type's name (`float32`, `bfloat16`). Safetensors only, no remote code, no
    download. On the device `meta` it has shapes alone, and no weights are read. Raises ConfigError
    with the remedy.
    """
    path = Path(path)
    if not (path / "config.json").is_file():
        raise ConfigError(f"{path}: no config.json; give a model folder in Hugging Face layout")
    if device != "meta" and not any(path.glob("*.safetensors")):
        raise ConfigError(f"{path}: no *.safetensors; save the model with save_pretrained")
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ConfigError(f"dtype {dtype!r} is not a torch type; use float32 or bfloat16")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: this machine has no usable GPU; use cpu")
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    loader: Any = AutoModelForCausalLM
    try:
        if device == "meta":
            with torch.device("meta"):
                config = AutoConfig.from_pretrained(
                    str(path), local_files_only=True, trust_remote_code=False
                )
                return loader.from_config(config, dtype=kind, trust_remote_code=False).eval()
        model, report = loader.from_pretrained(
            str(path),
            dtype=kind,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        model = model.to(device)
    except Exception as error:  # the library raises whatever the broken folder provokes
        raise ConfigError(
            f"{path}: the model does not load ({reason(error)}); check its files"
        ) from None
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lacking:
        raise ConfigError(f"{path}: weights lack {lacking[0]} ({len(lacking)} in all); save again")
    return model.eval()


class HFEngine:
    """Implements `types.Engine` for a model with ordinary causal attention (Qwen, Llama, Mistral).

    `decode` turns token ids, end of turn excluded, into text. At most `max_batch_rows` samples
    decode at once. On a CPU the same call gives the same bytes; a sample's random numbers depend on
    its prompt's seed and its own index alone. Nothing is cached from one call to the next.
    `timeout` is in seconds for one sample, prefill included, looked at between steps.
    """

    def __init__(
        self,
        model: Any,
        *,
        stop_ids: frozenset[int],
        pad_id: int,
        decode: Callable[[Sequence[int]], str],
        max_batch_rows: int = 256,
        device: str = "cpu",
        timeout: float | None = None,
    ) -> None:
        """Raises ConfigError where the model computes attention in a way the engine cannot."""
        if max_batch_rows < 1:
            raise ConfigError(f"max_batch_rows is {max_batch_rows}; it must be at least 1")
        self.model = model
        self._stop_ids = stop_ids
        self._pad_id = pad_id
        self._decode = decode
        self._max_rows = max_batch_rows
        self._device = torch.device(device)
        self._timeout = inf if timeout is None else timeout
        self._context: int | None = getattr(model.config, "max_position_embeddings", None)
        self._vocabulary: int = model.get_input_embeddings().num_embeddings
        self._probe()

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

        At temperature 0 every log-probability is 0: the sampling distribution has one token. What
        an exception ends is tried again prompt by prompt, what was not done in time once more;
        samples that meet an exception again have the status `engine_error`, as have samples whose
        logits are not finite, and those that are late again `timeout`. `on_progress` is called once
        a sample. Raises PivotRLError for a prompt that does not fit the context, where the
        GPU's memory is full, and where no prompt could be sampled.
        """
        check_call(prompts, n, params, seeds, vocabulary=self._vocabulary, context=self._context)

        def run(jobs: Sequence[Job], finish: Finish) -> None:
            which = list(dict.fromkeys(index for index, _ in jobs))
            if not which:
                return
            try:
                with torch.inference_mode(), _evaluating(self.model):
                    Decoding(
                        self.model,
                        [prompts[index] for index in which],
                        n,
                        params,
                        [seeds[index] for index in which],
                        first=first,
                        stop_ids=self._stop_ids,
                        pad_id=self._pad_id,
                        decode=self._decode,
                        max_rows=self._max_rows,
                        device=self._device,
                        timeout=self._timeout,
                        on_sample=lambda place, j, one: finish((which[place], j), one),
                    ).run()
            except torch.OutOfMemoryError:
                raise PivotRLError(
                    f"the GPU's memory is full at {self._max_rows} rows; lower model.batch_rows"
                ) from None

        return sampled(run, prompts, n, seeds, first, on_progress, name="the in-process engine")

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Copies `state` (parameter name -> tensor) into the model in place; all or nothing.

        Names of tied tensors may occur or be left out; a tensor in shards is gathered when its turn
        comes, by all processes together. Raises PivotRLError for a parameter that is missing,
        unknown or of another shape.
        """
        check_state(self.model, state)
        targets = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in state.items():
                whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
                targets[name].copy_(whole)

    def _probe(self) -> None:
        """Compares the engine's log-probabilities with the model's own on three short prompts."""
        size = min(self._vocabulary, 97)
        prompts = [[(7 * j + 3 * i * (j > 3)) % size for j in range(6 + 2 * i)] for i in range(3)]
        params = SamplingParams(max_tokens=4)
        found: list[tuple[int, Sample]] = []
        try:
            with torch.inference_mode(), _evaluating(self.model):
                Decoding(
                    self.model,
                    prompts,
                    2,
                    params,
                    [0, 1, 2],
                    first=0,
                    stop_ids=frozenset(),
                    pad_id=self._pad_id,
                    decode=lambda ids: "",
                    max_rows=4,
                    device=self._device,
                    timeout=inf,
                    on_sample=lambda prompt, _, sample: found.append((prompt, sample)),
                ).run()
                differences = [self._difference(prompts[i], sample) for i, sample in found]
        except PivotRLError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{type(self.model).__name__} does not run in the in-process engine "
                f"({type(error).__name__}); use the vLLM engine or a Qwen, Llama or Mistral model"
            ) from error
        mean = sum(differences) / len(differences)
        if not mean <= PROBE_TOLERANCE.get(self.model.dtype, COARSE_PROBE_TOLERANCE):
            raise ConfigError(
                f"{type(self.model).__name__}: log-probabilities of the in-process engine are off "
                f"by {mean:.3g}; use the vLLM engine or a Qwen, Llama or Mistral model"
            )

    def _difference(self, prompt: Sequence[int], sample: Sample) -> float:
        """Mean difference of a sample's log-probabilities from those of a plain forward pass."""
        ids = torch.tensor([[*prompt, *sample.token_ids]], device=self._device)
        logits = self.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        logprobs = torch.log_softmax(logits.float(), -1).gather(1, ids[0, len(prompt) :, None])
        sampled = torch.tensor(sample.logprobs, device=self._device)
        return float((logprobs[:, 0] - sampled).abs().mean())


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode (no dropout); its mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
