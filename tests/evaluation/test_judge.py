"""Judged benchmarks with a judge that the test plays: what it is asked, how its replies become figures."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from official_folders import FOLDERS, llava_bench, mm_vet, video_chatgpt

import zoo
from zoo.errors import ZooError
from zoo.evaluation.benchmarks.request import read_request
from zoo.evaluation.judge.judges import Endpoint, open_judge
from zoo.evaluation.runner import Evaluator
from zoo.factory import build_model, configure


class Fake:
    name, version = "a fake judge", "1"

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), []

    def ask(self, messages, *, max_tokens, temperature):
        self.asked.append((messages, max_tokens, temperature))
        return self.replies[(len(self.asked) - 1) % len(self.replies)]


@pytest.fixture(scope="module")
def model(tiny_setting):
    return build_model(configure("llava-1.5", tiny_setting)).eval()


@pytest.fixture(autouse=True)
def said(monkeypatch):
    def answer(evaluator, items):
        return [evaluator._row(item, SimpleNamespace(geometries=None), "a {wild} guess") for item in items]

    monkeypatch.setattr(Evaluator, "_greedy", answer)


def graded(model, spec, judge, **options):
    found = {}
    rows = zoo.evaluate(model, [spec], judge=judge, on_result=found.__setitem__, **options)
    ((task, result),) = found.items()
    return task, result, rows


def test_llava_bench(tmp_path, model):
    llava_bench(tmp_path)
    judge = Fake("8 6\nGood.", "8,7\nBetter.")
    task, result, rows = graded(model, f"llava_bench:{tmp_path}", judge)
    (system, user), max_tokens, temperature = judge.asked[0]
    assert (system["role"], max_tokens, temperature) == ("system", 1024, 0.2)
    assert user["content"].startswith(
        "[Context]\nA dog.\nIt runs.\n\n[Question]\nWhat conv?\n\n[Assistant 1]\nA {brown} dog.\n\n"
        "[End of Assistant 1]\n\n[Assistant 2]\na {wild} guess\n\n[End of Assistant 2]\n\n[System]\nWe would like"
    )
    assert (task, result.metric) == ("llava_bench judged", "llava_bench:judged")
    assert result.values == pytest.approx({"all": 81.25, "conv": 75, "complex": 87.5})
    assert result.notes[-1] == "judge: a fake judge, version 1 (published with gpt-4-0314)"
    assert [row["score"] for row in rows] == [None, None]
    # A review without two scores in its first line enters as -1 for both.
    _, result, _ = graded(model, f"llava_bench:{tmp_path}", Fake("8 6", "I like both"))
    assert result.value == pytest.approx(100 * (6 - 1) / (8 - 1))


def test_mm_vet(tmp_path, model):
    mm_vet(tmp_path)
    judge = Fake("0.5")
    _, result, rows = graded(model, f"mm_vet:{tmp_path}", judge)
    ((user,), max_tokens, _) = judge.asked[0]
    assert user["content"].endswith(" | 1.0\n\nWhat is x? | -1 <AND> -5 | a {wild} guess | ") and max_tokens == 3
    assert (result.value, result.breakdown["capability"], rows[0]["score"]) == (50, {"ocr": 50, "math": 50}, 0.5)
    assert graded(model, f"mm_vet:{tmp_path}", Fake("half"))[1].value == 0


def test_video_chatgpt(tmp_path, model):
    video_chatgpt(tmp_path)
    for aspect, words in (
        ("correctness", "factual accuracy score"),
        ("detail", "detail orientation score"),
        ("context", "contextual understanding score"),
        ("temporal", "temporal accuracy score"),
        ("consistency", "Predicted Answer to Question 2: a {wild} guess"),
    ):
        judge = Fake("{'score': 4}")
        _, result, _ = graded(model, f"video_chatgpt:{tmp_path}?split={aspect}", judge)
        assert (result.value, len(judge.asked)) == (4, 1)
        assert words in judge.asked[0][0][1]["content"]
        assert judge.asked[0][0][1]["content"].endswith("your response should look like this: {''score': 4.8}.")


def test_the_same_questions_judged_or_by_rule_are_two_tasks(tmp_path, model):
    FOLDERS["msvd_qa"](tmp_path)
    spec = f"msvd_qa:{tmp_path}"
    task, result, _ = graded(model, f"{spec}?metric=video_qa:judged", Fake("{'pred': 'yes', 'score': 4.8}"))
    assert (task, result.values) == ("msvd_qa judged", {"accuracy": 1, "score": 4})
    assert read_request(spec).task == "msvd_qa" and not read_request(spec).is_judged
    FOLDERS["gqa"](tmp_path / "gqa")
    with pytest.raises(ZooError, match="no variant 'judged'"):
        read_request(f"gqa:{tmp_path / 'gqa'}?metric=gqa:judged")


def test_replies_are_kept_and_can_stand_in_for_the_judge(tmp_path, model):
    mm_vet(tmp_path)
    spec, out = f"mm_vet:{tmp_path}", tmp_path / "out"
    assert zoo.evaluate(model, [spec], out=tmp_path / "unjudged")[0]["score"] is None
    first, second = Fake("0.4"), Fake("0.9")
    assert graded(model, spec, first, out=out)[1].value == graded(model, spec, second, out=out)[1].value == 40
    assert (len(first.asked), len(second.asked)) == (1, 0)
    file = out / "judge" / "mm_vet_judged.jsonl"
    _, result, _ = graded(model, spec, f"recorded:{file}")
    assert result.value == 40 and "a fake judge, version 1" in result.notes[-1]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prompt": "0"}) + "\n")
    with pytest.raises(ZooError, match=r"no reply to .* is recorded"):
        graded(model, spec, f"recorded:{file}")
    second.name = "another"
    with pytest.raises(ZooError, match="holds replies of 'a fake judge', now the judge is 'another'"):
        graded(model, spec, second, out=out)
    with pytest.raises(ZooError, match="judge 'gpt-4' is unknown"):
        open_judge("gpt-4")


def test_endpoint_speaks_the_chat_protocol(monkeypatch):
    seen = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers["Authorization"], body))
            text = json.dumps({"model": "judge-0613", "choices": [{"message": {"content": "0.5"}}]}).encode()
            self.send_response(200 if body["model"] == "judge" else 400)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", "made up")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_port}/v1"
    judge = open_judge(f"openai:judge@{url}")
    messages = [{"role": "user", "content": "?"}]
    assert judge.ask(messages, max_tokens=3, temperature=0.0) == "0.5"
    assert (judge.name, judge.version) == (f"judge at {url}", "judge-0613")
    body = {"model": "judge", "messages": messages, "temperature": 0.0, "max_tokens": 3}
    assert seen == [("/v1/chat/completions", "Bearer made up", body)]
    with pytest.raises(ZooError, match="400"):
        Endpoint("other", url).ask(messages, max_tokens=None, temperature=0.0)
    server.shutdown()
    server.server_close()
