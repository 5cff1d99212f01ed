# `make browser`: the pages of `ojai bench`, `ojai status` and `ojai rollout` in a real browser. In `make unit` too, which skips them where there is none.

.PHONY: browser

browser: setup ## the pages of `ojai bench`, `ojai status` and `ojai rollout` in headless Chromium, which is installed (Debian's package, 80 MB)
	@command -v chromium chromium-headless-shell google-chrome chromium-browser >/dev/null || \
		$(BIN)/python -c 'from ojai.lab.packages import ensure; ensure({"chromium": "chromium"})'
	$(BIN)/python -m pytest tests/unit/test_bench_results.py tests/unit/test_status.py tests/unit/test_rollout.py -k browser -q
