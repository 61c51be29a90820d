"""How published chat templates write tool calls, in short; and tokenizers with their marks.

Each keeps what its original does to turns: whitespace, ids, empty content, what it refuses. The
words around the tools are left out, as no test may expect sense from a tiny model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tiny_model import CORPUS


@dataclass(frozen=True)
class Published:
    template: str
    special: tuple[str, ...]
    """Control tokens, the end of a turn first."""
    marks: tuple[str, ...] = ()
    """Tokens of their own that are not special."""
    text_with_calls: bool = True
    several_calls: bool = True


TOOLS = (
    "{%- if tools %}{% for tool in tools %}{{- '\\n' + (tool | tojson) }}{% endfor %}{% endif %}"
)

QWEN_CODER = Published(
    """
{%- if tools %}{{- '<|im_start|>system\\n' }}{TOOLS}{{- '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant' }}
{%- if message.content | trim %}{{- '\\n' + message.content | trim + '\\n' }}{% endif %}
{%- for tool_call in message.tool_calls %}
{{- '\\n<tool_call>\\n<function=' + tool_call.function.name + '>\\n' }}
{%- for key, value in tool_call.function.arguments | items %}
{{- '<parameter=' + key + '>\\n' }}
{%- if value is mapping or (value is sequence and value is not string) %}
{%- set value = value | tojson %}
{%- endif %}
{{- value | string }}{{- '\\n</parameter>\\n' }}
{%- endfor %}
{{- '</function>\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}""",
    special=("<|im_end|>", "<|im_start|>"),
    marks=("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
)

LLAMA = Published(
    """
{{- bos_token }}{TOOLS}
{%- for message in messages %}
{%- if message.tool_calls %}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('single tool-calls only') }}{% endif %}
{%- set call = message.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", ' }}
{{- '"parameters": ' + (call.arguments | tojson) + '}<|eot_id|>' }}
{%- elif message.role == 'tool' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + (message.content | tojson) }}
{{- '<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{{- message.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    special=(
        "<|eot_id|>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|python_tag|>",
    ),
    text_with_calls=False,
    several_calls=False,
)

MISTRAL = Published(
    """
{{- bos_token }}
{%- set last = (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}
{%- for message in messages %}
{%- if message.role == 'user' %}
{%- if tools and message == last %}
{{- '[AVAILABLE_TOOLS]' }}{TOOLS}{{- '[/AVAILABLE_TOOLS]' }}
{%- endif %}
{{- '[INST]' + message.content + '[/INST]' }}
{%- elif message.tool_calls %}
{{- '[TOOL_CALLS] [' }}
{%- for call in message.tool_calls %}
{%- if not call.id or call.id | length != 9 %}{{ raise_exception('9 characters') }}{% endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
{%- if not loop.last %}{{- ', ' }}{% endif %}
{%- endfor %}
{{- ']' + eos_token }}
{%- elif message.role == 'assistant' %}{{- ' ' + message.content + eos_token }}
{%- elif message.role == 'tool' %}
{%- if message.tool_call_id | length != 9 %}{{ raise_exception('9 characters') }}{% endif %}
{{- '[TOOL_RESULTS]' + message.content + ', "call_id": "' + message.tool_call_id }}
{{- '"[/TOOL_RESULTS]' }}
{%- endif %}
{%- endfor %}""",
    special=(
        "</s>",
        "<s>",
        "[INST]",
        "[/INST]",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
    ),
    text_with_calls=False,
)

MISTRAL_ARGS = Published(
    """
{{- bos_token }}{{- '[AVAILABLE_TOOLS]' }}{TOOLS}{{- '[/AVAILABLE_TOOLS]' }}
{%- for message in messages %}
{%- if message.role == 'user' %}{{- '[INST]' + message.content + '[/INST]' }}
{%- elif message.role == 'assistant' %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + (call.function.arguments | tojson) }}
{%- endfor %}
{{- eos_token }}
{%- elif message.role == 'tool' %}{{- '[TOOL_RESULTS]' + message.content + '[/TOOL_RESULTS]' }}
{%- endif %}
{%- endfor %}""",
    special=MISTRAL.special,
)

DEEPSEEK = Published(
    """
{{- bos_token }}{TOOLS}
{%- for message in messages %}
{%- if message.role == 'user' %}{{- '<｜User｜>' + message.content }}
{%- elif message.role == 'assistant' and message.content is none %}
{{- '<｜Assistant｜><｜tool▁calls▁begin｜>' }}
{%- for call in message.tool_calls %}
{%- if not loop.first %}{{- '\\n' }}{% endif %}
{{- '<｜tool▁call▁begin｜>' + call.type + '<｜tool▁sep｜>' + call.function.name + '\\n```json\\n' }}
{{- call.function.arguments + '\\n```<｜tool▁call▁end｜>' }}
{%- endfor %}
{{- '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
{%- elif message.role == 'assistant' %}
{{- '<｜Assistant｜>' + message.content + '<｜end▁of▁sentence｜>' }}
{%- elif message.role == 'tool' %}
{{- '<｜tool▁outputs▁begin｜>' + message.content + '<｜tool▁outputs▁end｜>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜>' }}{% endif %}""",
    special=("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
    marks=(
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
    ),
    text_with_calls=False,
)

DEEPSEEK_31 = Published(
    DEEPSEEK.template.replace("+ call.type + '<｜tool▁sep｜>' +", "+")
    .replace("'\\n```json\\n'", "'<｜tool▁sep｜>'")
    .replace("\\n```<", "<")
    .replace("{%- if not loop.first %}{{- '\\n' }}{% endif %}\n", "")
    .replace("and message.content is none", "and message.tool_calls")
    .replace(
        "'<｜Assistant｜><｜tool▁calls", "'<｜Assistant｜>' + message.content + '<｜tool▁calls"
    ),
    special=DEEPSEEK.special,
    marks=DEEPSEEK.marks,
)

PUBLISHED = {
    "qwen_coder": QWEN_CODER,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "mistral_args": MISTRAL_ARGS,
    "deepseek": DEEPSEEK,
    "deepseek_31": DEEPSEEK_31,
}


def write_tokenizer(path: Path, published: Published) -> Path:
    """A byte-level BPE tokenizer with these tokens and this template, in a folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in published.special])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in published.marks])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=published.special[0],
        bos_token=published.special[1],
        additional_special_tokens=list(published.special[2:]),
    )
    wrapped.chat_template = published.template.lstrip().replace("{TOOLS}", TOOLS)
    wrapped.save_pretrained(path)
    return path
