"""What fits in a host's memory, said before anything is touched.

- `geometry`: the shape of a model's attention layers, all that the cache depends on;
- `kv`: the cache vLLM 0.20.1 would plan for it, to the byte;
- `budget`: weights, overhead and cache against the memory there is, with the nearest setting that fits;
- `gtt`: the other memory regime of an APU, `ttm.pages_limit`;
- `bandwidth`: tokens a second that the memory can feed.

Nothing here knows profiles, hosts or files: plain values in, frozen results out.
"""

from ojai.memory.geometry import Geometry, LayerKind

__all__ = ["Geometry", "LayerKind"]
