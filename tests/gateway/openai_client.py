"""The openai package through a gateway: a list, a chat, a stream, a picture, tools. Run by any Python that has it.

OPENAI_BASE_URL=… OPENAI_API_KEY=… SSL_CERT_FILE=… python tests/gateway/openai_client.py
"""

from __future__ import annotations

import base64
import struct
import zlib

import openai


def png() -> str:
    """A red square, as an address."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xff\0\0" * 64 for _ in range(64))
    data = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    data += part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def main() -> None:
    """All of it; an error ends it."""
    client = openai.OpenAI(max_retries=0)
    model = client.models.list().data[0].id
    hello = [{"role": "user", "content": "Say hello."}]
    answer = client.chat.completions.create(model=model, messages=hello, max_tokens=8)
    assert answer.usage.completion_tokens > 0, answer
    print("chat", answer.id)
    parts = list(client.chat.completions.create(model=model, messages=hello, max_tokens=16, stream=True))
    assert len(parts) > 2, parts
    print("stream", len(parts))
    picture = [{"type": "image_url", "image_url": {"url": png()}}, {"type": "text", "text": "What is it?"}]
    try:
        seen = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": picture}], max_tokens=8
        )
        print("picture", seen.usage.prompt_tokens)
    except openai.BadRequestError as error:  # the engine's own answer
        assert "is not a multimodal model" in str(error), error
        print("picture", error)
    tool = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
    answer = client.chat.completions.create(model=model, messages=hello, tools=[tool], max_tokens=8)
    assert answer.usage.completion_tokens > 0, answer  # whether it calls the tool is the model's business
    print("tools", answer.choices[0].finish_reason)
    try:
        openai.OpenAI(api_key="ojai-wrong-key-000000000", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        print("refused", error.status_code)
    else:
        raise AssertionError("a wrong key was taken")


if __name__ == "__main__":
    main()
