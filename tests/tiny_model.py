"""A random tiny Qwen3 with a byte-level BPE tokenizer and a ChatML tools template, for tests.

Made in well under a second; nothing is downloaded. Tests must not expect sense from its words.
"""

from __future__ import annotations

from pathlib import Path

CHAT_TEMPLATE = r"""
{%- set ns = namespace(system='You are a helpful assistant.', in_tool=false) %}
{%- if messages[0].role == 'system' %}{% set ns.system = messages[0].content %}{% endif %}
{{- '<|im_start|>system\n' + ns.system }}
{%- if tools %}
{{- '\n\n# Tools\n<tools>' }}
{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{% endfor %}
{{- '\n</tools>\nCall a tool as\n<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- for message in messages %}
{%- if message.role == 'user' %}
{{- '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\n' }}
{%- if message.reasoning_content %}
{{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}
{%- endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{%- if not loop.first or message.content %}{{- '\n' }}{% endif %}
{{- '<tool_call>\n{"name": ' + (call.function.name | tojson) }}
{{- ', "arguments": ' + (call.function.arguments | tojson) + '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}
""".lstrip()

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
CORPUS = (
    "You are a helpful assistant. Call a tool as",
    '{"name": "get_order", "arguments": {"order_id": "W100", "amount": 12.5}}',
    '{"type": "function", "function": {"description": "", "parameters": {"properties": {}}}}',
    "Please cancel my reservation and book the next flight for the same user.",
    "system user assistant tool think tools required string number integer object",
)


def make_tiny_model(
    path: Path,
    *,
    seed: int = 0,
    vocab: int = 512,
    hidden: int = 64,
    layers: int = 2,
    context: int = 32_768,
    chat_template: str | None = CHAT_TEMPLATE,
    end_of_turn: str = "<|im_end|>",
) -> Path:
    """Writes a Hugging Face model folder (float32, tied embeddings) and returns its path.

    The vocabulary is at most `vocab` (at least 263: bytes and special tokens). `chat_template=None`
    leaves the template out.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(MARKUP),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in MARKUP])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end_of_turn, pad_token="<|endoftext|>"
    )
    if chat_template is not None:
        wrapped.chat_template = chat_template
    config = Qwen3Config(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=max(hidden // 4, 8),
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=wrapped.pad_token_id,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    torch.random.set_rng_state(state)
    model.save_pretrained(path)
    wrapped.save_pretrained(path)
    return path
