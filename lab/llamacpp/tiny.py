"""Write tiny random Gemma 4 models, and a projector of pictures, as GGUF files that llama.cpp loads.

`python tiny.py FOLDER [SHAPE…]`: a file `SHAPE.gguf` for each of `SHAPES`, and `mmproj.gguf`. Needs gguf and numpy, and
nothing of ojai: it runs in an environment of its own. Every row of a matrix is a multiple of 256 values, so that
llama-quantize makes real k-quants of it. The answers of such a model are random English words, which end by themselves.
"""

from __future__ import annotations

import collections
import itertools
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np


@dataclass(frozen=True)
class Shape:
    """What a memory budget depends on, and what makes the model small.

    + pattern: sliding layers before each full one; a shared layer reads the last own layer of its kind, so the last
      own one has to be full and the one before it sliding, or llama.cpp stops at an assertion
    + per_layer: width of the per-layer embeddings; 0: none
    + experts: of which two run; 0: none
    + tied: the output matrix is the embedding
    """

    vocab: int = 1024
    width: int = 256
    feed_forward: int = 512
    layers: int = 6
    heads: int = 4
    pattern: int = 2
    kv_sliding: int = 2
    kv_full: int = 1
    head_sliding: int = 64
    head_full: int = 128
    window: int = 512
    shared: int = 0
    per_layer: int = 0
    experts: int = 0
    tied: bool = False
    context: int = 32768


DENSE = Shape()
SHAPES: dict[str, Shape] = {
    "edge": replace(DENSE, kv_full=2, per_layer=256, shared=3),  # as E2B and E4B
    "dense": DENSE,  # as 31B
    "moe": replace(DENSE, experts=8),  # as 26B-A4B
    "tied": replace(DENSE, tied=True, vocab=4096, window=1024, layers=12, pattern=5, feed_forward=2048),
    "wide": replace(DENSE, width=512, kv_sliding=4, kv_full=2, head_sliding=128, head_full=256, layers=8, pattern=3),
    "vocab": replace(DENSE, vocab=16384),
}

TRAIN_TEXT = """
The server answers each request in order and writes one line for every token that it makes. A test asks for a short
answer, counts the tokens, and stops the stream early to see that the slot is free again. The weather in Paris is
sunny and the temperature is twenty degrees. What is the capital of France? Please write a function that returns the
sum of two numbers and explain how it works. The quick brown fox jumps over the lazy dog while the model thinks about
the next word. Hello, how are you today? I am fine, thank you. Yes, no, maybe, always, never. This is a small model
with random weights: it knows nothing at all, yet the engine around it is the real one. get_weather get_time location
city name value string number object array true false null {"name": "value", "count": 1, "items": [1, 2, 3]}
one two three four five six seven eight nine ten and the and the of the in the to the for the on the with the
""".strip()

CONTROL = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<|turn>",
    "<turn|>",
    "<|think|>",
    "<|tool>",
    "<tool|>",
    "<|image>",
    "<image|>",
    "<|image|>",
    "<|audio>",
    "<audio|>",
    "<|audio|>",
    "<|video|>",
]
# The chat parser has to see these as text, so they are not of the control kind.
VISIBLE = ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>']

# The engine knows a Gemma 4 template by the literal '<|tool_call>call:' in its source, and a current one by a comment
# with the words that open this one; without the comment it rewrites tool results for an older template.
TEMPLATE = r"""{#- OpenAI Chat Completions: messages and tools arrive as that API names them. -#}
{{ bos_token }}
{%- macro show(v) -%}
{%- if v is mapping -%}{ {%- for k, x in v | items -%}{{ k }}:{{ show(x) }}{%- if not loop.last -%},{%- endif -%}{%- endfor -%} }
{%- elif v is string -%}<|"|>{{ v }}<|"|>
{%- elif v is boolean -%}{{ 'true' if v else 'false' }}
{%- elif v is none -%}null
{%- elif v is iterable -%}[{%- for x in v -%}{{ show(x) }}{%- if not loop.last -%},{%- endif -%}{%- endfor -%}]
{%- else -%}{{ v }}{%- endif -%}
{%- endmacro -%}
{%- set first = messages[0] -%}
{%- if tools or enable_thinking or first.role in ['system', 'developer'] -%}
{{ '<|turn>system\n' }}
{%- if enable_thinking -%}{{ '<|think|>\n' }}{%- endif -%}
{%- if first.role in ['system', 'developer'] -%}{{ first.content }}{%- endif -%}
{%- for t in tools or [] -%}{{ '<|tool>declaration:' + t.function.name }}{{ show(t.function.parameters or {}) }}{{ '<tool|>' }}{%- endfor -%}
{{ '<turn|>\n' }}
{%- endif -%}
{%- for m in messages -%}
{%- if m.role in ['system', 'developer'] and loop.first -%}{%- continue -%}{%- endif -%}
{{ '<|turn>' + ('model' if m.role == 'assistant' else 'user' if m.role == 'tool' else m.role) + '\n' }}
{%- for c in m.tool_calls or [] -%}{{ '<|tool_call>call:' + c.function.name }}{{ show(c.function.arguments) }}{{ '<tool_call|>' }}{%- endfor -%}
{%- if m.role == 'tool' -%}{{ '<|tool_response>response:' + (m.name or 'tool') + '{value:' }}{{ show(m.content) }}{{ '}<tool_response|>' }}
{%- elif m.content is string -%}{{ m.content }}
{%- elif m.content is iterable -%}
{%- for p in m.content -%}{%- if p.type == 'text' -%}{{ p.text }}{%- elif p.type == 'image' -%}{{ '<|image|>' }}{%- elif p.type == 'audio' -%}{{ '<|audio|>' }}{%- endif -%}{%- endfor -%}
{%- endif -%}
{{ '<turn|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}{%- endif -%}
"""

# Tokens that end something, with the bias that makes them come soon where they are allowed at all; and the character
# that opens every marker: the engine lets an answer bound to a schema begin with a thought, spelled out or not.
BIAS = {"<turn|>": 3.2, '<|"|>': 2.2, '"': 3.2, "}": 3.5, "]": 2.5, ":": 3.0, ",": 1.0, "<": -14.0}


def train_bpe(text: str, count: int) -> list[tuple[str, str]]:
    """Plain byte-pair training: U+2581 stands for the space, as in the real tokenizer."""
    words = collections.Counter(re.findall("\u2581?[^\u2581\n]+", text.replace("\n", " ").replace(" ", "\u2581")))
    split = {w: list(w) for w in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for w, n in words.items():
            for pair in itertools.pairwise(split[w]):
                pairs[pair] += n
        if not pairs:
            break
        (a, b), _ = max(pairs.items(), key=lambda kv: (kv[1], kv[0]))
        merges.append((a, b))
        for w, parts in split.items():
            out, i = [], 0
            while i < len(parts):
                if parts[i : i + 2] == [a, b]:
                    out.append(a + b)
                    i += 2
                else:
                    out.append(parts[i])
                    i += 1
            split[w] = out
    return merges


def vocabulary(size: int) -> tuple[list[str], list[gguf.TokenType], list[str]]:
    """Tokens, their types, and the merges: words of the text, then unused ones."""
    chars = ["\n", "\u2581"] + [chr(c) for c in range(33, 127)]
    fixed = CONTROL + VISIBLE + [f"<0x{b:02X}>" for b in range(256)] + chars
    merges: list[str] = []
    known = set(fixed)
    words: list[str] = []
    for a, b in train_bpe(TRAIN_TEXT, size):
        if a not in known or b not in known:
            continue
        if a + b not in known and len(fixed) + len(words) == size:
            break
        merges.append(a + " " + b)
        if a + b not in known:
            known.add(a + b)
            words.append(a + b)
    tokens = fixed + words
    tokens += [f"<unused{i}>" for i in range(size - len(tokens))]
    kind = gguf.TokenType
    types = []
    for t in tokens:
        if t in CONTROL:
            types.append(kind.CONTROL)
        elif t in VISIBLE:
            types.append(kind.USER_DEFINED)
        elif re.fullmatch("<0x[0-9A-F]{2}>", t):
            types.append(kind.BYTE)
        elif t.startswith("<unused"):
            types.append(kind.UNUSED)
        else:
            types.append(kind.NORMAL)
    return tokens, types, merges


class Writer:
    """A GGUF file with random matrices."""

    def __init__(self, path: Path, architecture: str, seed: int = 0) -> None:
        self.file, self.random = gguf.GGUFWriter(str(path), architecture), np.random.default_rng(seed)
        self.file.add_file_type(gguf.LlamaFileType.MOSTLY_F16)

    def matrix(self, name: str, *shape: int, scale: float | None = None, hole: int | None = None) -> None:
        """Of 16 bits; the residual's dimension ``hole`` is not written to or read from."""
        found = self.random.standard_normal(shape, dtype=np.float32) * (scale or int(np.prod(shape[1:])) ** -0.5)
        if hole is not None:
            found[..., hole] = 0
        self.file.add_tensor(f"{name}.weight", found.astype(np.float16))

    def norm(self, name: str, size: int, value: float = 1.0, end: str = "weight", hole: int | None = None) -> None:
        """Constant."""
        found = np.full(size, value, dtype=np.float32)
        if hole is not None:
            found[hole] = 0
        self.file.add_tensor(f"{name}.{end}", found)

    def close(self) -> None:
        """Write it."""
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()


def text_model(path: Path, shape: Shape, name: str) -> None:
    """The model itself."""
    out = Writer(path, "gemma4")
    w, a, s = out.file, "gemma4.", shape
    sliding = [layer % (s.pattern + 1) != s.pattern for layer in range(s.layers)]
    keep = s.width - 1
    w.add_name(f"tiny-random-gemma-4-{name}")
    w.add_context_length(s.context)
    w.add_embedding_length(s.width)
    w.add_block_count(s.layers)
    w.add_feed_forward_length(s.feed_forward)
    w.add_head_count(s.heads)
    w.add_array(f"{a}attention.head_count_kv", [s.kv_sliding if one else s.kv_full for one in sliding])
    w.add_layer_norm_rms_eps(1e-6)
    w.add_key_length(s.head_full)
    w.add_value_length(s.head_full)
    w.add_uint32(f"{a}attention.key_length_swa", s.head_sliding)
    w.add_uint32(f"{a}attention.value_length_swa", s.head_sliding)
    w.add_sliding_window(s.window)
    w.add_array(f"{a}attention.sliding_window_pattern", sliding)
    w.add_uint32(f"{a}attention.shared_kv_layers", s.shared)
    w.add_uint32(f"{a}embedding_length_per_layer_input", s.per_layer)
    w.add_rope_freq_base(1e6)
    w.add_float32(f"{a}rope.freq_base_swa", 1e4)
    w.add_rope_dimension_count(s.head_full)
    w.add_uint32(f"{a}rope.dimension_count_swa", s.head_sliding)
    w.add_float32(f"{a}final_logit_softcapping", 30.0)
    if s.experts:
        w.add_expert_count(s.experts)
        w.add_expert_used_count(2)
        w.add_uint32(f"{a}expert_feed_forward_length", 256)
    tokens, types = _tokenizer(w, s.vocab)
    _embeddings(out, s, tokens, types, keep)
    for layer, slides in enumerate(sliding):
        _layer(out, s, f"blk.{layer}.", slides, keep)
    out.close()


def _tokenizer(w: gguf.GGUFWriter, size: int) -> tuple[list[str], list[gguf.TokenType]]:
    tokens, types, merges = vocabulary(size)
    w.add_tokenizer_model("gemma4")
    w.add_token_list(tokens)
    w.add_token_scores([-float(i) for i in range(size)])
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_pad_token_id(tokens.index("<pad>"))
    w.add_eos_token_id(tokens.index("<turn|>"))
    w.add_bos_token_id(tokens.index("<bos>"))
    w.add_unk_token_id(tokens.index("<unk>"))
    w.add_mask_token_id(tokens.index("<mask>"))
    w.add_add_bos_token(True)
    w.add_add_space_prefix(False)
    w.add_chat_template(TEMPLATE)
    return tokens, types


def _embeddings(out: Writer, s: Shape, tokens: list[str], types: list[gguf.TokenType], keep: int) -> None:
    """One dimension of the residual has the same value for every token, and no layer touches it. An output matrix of
    its own turns it into a bias: how often each token is drawn. So answers end, and quotes and brackets close."""
    w, random = out.file, out.random
    embedding = random.standard_normal((s.vocab, s.width), dtype=np.float32) * 0.06
    embedding[:, keep] = 1.5
    w.add_tensor("token_embd.weight", embedding.astype(np.float16))
    if not s.tied:
        output = random.standard_normal((s.vocab, s.width), dtype=np.float32) * 0.125
        for number, (word, kind) in enumerate(zip(tokens, types, strict=True)):
            if word in BIAS:
                output[number] *= 0.5
                bias = BIAS[word]
            elif kind != gguf.TokenType.NORMAL:
                output[number] *= 0.1
                bias = -14.0
            else:
                bias = 0.5 if word.startswith("\u2581") and len(word) > 2 else -1.5
            output[number, keep] = bias / 3.2
        w.add_tensor("output.weight", output.astype(np.float16))
    out.norm("output_norm", s.width)
    half = s.head_full // 2
    turn = half // 4  # in the full layers a quarter of a head turns, the rest stands still
    w.add_tensor("rope_freqs.weight", np.array([1.0] * turn + [1e30] * (half - turn), dtype=np.float32))
    if s.per_layer:
        out.matrix("per_layer_token_embd", s.vocab, s.per_layer * s.layers, scale=0.06)
        out.matrix("per_layer_model_proj", s.per_layer * s.layers, s.width, hole=keep)
        out.norm("per_layer_proj_norm", s.per_layer)


def _layer(out: Writer, s: Shape, b: str, slides: bool, keep: int) -> None:
    head, kv = (s.head_sliding, s.kv_sliding) if slides else (s.head_full, s.kv_full)
    out.norm(f"{b}attn_norm", s.width, hole=keep)
    out.matrix(f"{b}attn_q", head * s.heads, s.width)
    out.matrix(f"{b}attn_k", head * kv, s.width)
    if s.per_layer or slides:  # the large models have no V of their own in the full layers
        out.matrix(f"{b}attn_v", head * kv, s.width)
    out.matrix(f"{b}attn_output", s.width, head * s.heads)
    out.norm(f"{b}attn_q_norm", head)
    out.norm(f"{b}attn_k_norm", head)
    out.norm(f"{b}post_attention_norm", s.width, 2.0, hole=keep)
    out.norm(f"{b}ffn_norm", s.width, hole=keep)
    out.matrix(f"{b}ffn_gate", s.feed_forward, s.width)
    out.matrix(f"{b}ffn_up", s.feed_forward, s.width)
    out.matrix(f"{b}ffn_down", s.width, s.feed_forward)
    out.norm(f"{b}post_ffw_norm", s.width, 2.0, hole=keep)
    out.norm(f"{b}layer_output_scale", 1)
    if s.experts:
        router = out.random.standard_normal((s.experts, s.width), dtype=np.float32)
        out.file.add_tensor(f"{b}ffn_gate_inp.weight", router)
        out.norm(f"{b}ffn_gate_inp", s.width, end="scale")
        out.norm(f"{b}ffn_down_exps", s.experts, end="scale")
        for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
            out.norm(f"{b}{name}", s.width, hole=keep)
        out.matrix(f"{b}ffn_gate_up_exps", s.experts, 512, s.width)
        out.matrix(f"{b}ffn_down_exps", s.experts, s.width, 256)
    if s.per_layer:
        out.matrix(f"{b}inp_gate", s.per_layer, s.width, hole=keep)
        out.matrix(f"{b}proj", s.width, s.per_layer)
        out.norm(f"{b}post_norm", s.width, hole=keep)


def projector(path: Path, text_width: int = 256) -> None:
    """Two vision layers of width 128, patches of 16 pixels."""
    out = Writer(path, "clip")
    w, width, feed_forward, layers, heads, patch = out.file, 128, 256, 2, 2, 16
    w.add_type("mmproj")
    w.add_name("tiny-random-gemma-4-vision")
    w.add_bool("clip.has_vision_encoder", True)
    w.add_string("clip.vision.projector_type", "gemma4v")
    for key, value in (
        ("image_size", 224),
        ("patch_size", patch),
        ("embedding_length", width),
        ("feed_forward_length", feed_forward),
        ("projection_dim", text_width),
        ("block_count", layers),
        ("attention.head_count", heads),
    ):
        w.add_uint32(f"clip.vision.{key}", value)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", [0.0, 0.0, 0.0])
    w.add_array("clip.vision.image_std", [1.0, 1.0, 1.0])
    w.add_bool("clip.use_gelu", True)
    out.matrix("v.patch_embd", width, 3, patch, patch)
    table = out.random.standard_normal((2, 512, width), dtype=np.float32) * (512 * width) ** -0.5
    w.add_tensor("v.position_embd.weight", table)
    out.matrix("mm.input_projection", text_width, width)
    for layer in range(layers):
        b = f"v.blk.{layer}."
        for name in ("ln1", "attn_post_norm", "ln2", "ffn_post_norm"):
            out.norm(f"{b}{name}", width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            out.matrix(f"{b}{name}", width, width)
        for name in ("attn_q_norm", "attn_k_norm"):
            out.norm(f"{b}{name}", width // heads)
        out.matrix(f"{b}ffn_gate", feed_forward, width)
        out.matrix(f"{b}ffn_up", feed_forward, width)
        out.matrix(f"{b}ffn_down", width, feed_forward)
    out.close()


def main(folder: Path, names: list[str]) -> None:
    """Write those shapes, or all, and the projector."""
    for name in names or SHAPES:
        text_model(folder / f"{name}.gguf", SHAPES[name], name)
    projector(folder / "mmproj.gguf")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
