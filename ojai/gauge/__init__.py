"""How fast a server is, and whether it is as fast as it should be: the measuring that `ojai bench` does.

- `client`: one question, its answer and their times;
- `counters`: what the server counts of itself;
- `measuring`: warm-up, prompt lengths, users, rounds;
- `result`: a run as a file;
- `judging`: what is wrong with a run, and what to look at;
- `comparing`: two runs side by side;
- `engine`: what the engine says of itself: backend, memory;
- `sweep`: `vllm bench serve`;
- `report`: a run as a page.
"""
