"""Against a real server on this machine, that says what a test tells it to."""

import base64
import io
import json
import logging
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import exp, log

import pytest
from PIL import Image

from locvlm.dialects import fractions, qwen2_vl
from locvlm.errors import ConfigError, DataError
from locvlm.predictors.ask import ask
from locvlm.predictors.endpoint import EndpointPredictor, data_url
from locvlm.predictors.http import LONGEST_WAIT, Endpoint
from locvlm.types import Box, Message, Question, Sample
from tests.tiny import make_sample

SAMPLE = make_sample("red")
KEY = "sk-very-secret-4711"


def question(text="Where?", candidates=(), key=None):
    return Question(key or text, SAMPLE, (Message("user", (text,)),), candidates)


def said(text):
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def asked(body):
    """The last text of a request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


@contextmanager
def server(answer):
    """A server; `answer` gets each request's body and gives a reply, or (status, text, headers).

    Yields its base URL and the list of what it got: (path, headers, body).
    """
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, dict(self.headers), body))
            reply = answer(body)
            status, text, headers = (
                reply if isinstance(reply, tuple) else (200, json.dumps(reply), {})
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}/v1", got
    finally:
        made.shutdown()
        made.server_close()


def predictor(url, dialect=None, **settings):
    settings = {"wait": 0.01, "request": {"temperature": 0.0, "max_tokens": 64}} | settings
    return EndpointPredictor(url, "tiny", dialect or fractions(), **settings)


def test_a_request_holds_the_image_the_words_and_the_settings():
    turns = (
        Message("user", ("At ", Box(12, 10, 24, 20), "?")),
        Message("assistant", ("A cat.",)),
        Message("user", ("Sure?",)),
    )
    with server(lambda body: said(" Yes. ")) as (url, got):
        assert list(predictor(url, qwen2_vl()).answer([Question("a", SAMPLE, turns)])) == ["Yes."]
    path, headers, body = got[0]
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    image, text = body.pop("messages")[0]["content"]
    assert body == {"model": "tiny", "temperature": 0.0, "max_tokens": 64}
    assert text["text"] == "At <|box_start|>(250,250),(500,500)<|box_end|>?"
    kind, _, data = image["image_url"]["url"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == SAMPLE.image


def test_later_turns_are_text():
    turns = (Message("user", ("A?",)), Message("assistant", ("B.",)), Message("user", ("C?",)))
    with server(lambda body: said("D.")) as (url, got):
        list(predictor(url).answer([Question("a", SAMPLE, turns)]))
    assert got[0][2]["messages"][1:] == [
        {"role": "assistant", "content": "B."},
        {"role": "user", "content": "C?"},
    ]


def test_answers_come_in_the_order_of_the_questions_whoever_is_first():
    slow = threading.Event()

    def answer(body):
        if asked(body) == "0":
            slow.wait(5)
        elif asked(body) == "5":
            slow.set()
        return said(f"answer {asked(body)}")

    with server(answer) as (url, _):
        questions = [question(str(n)) for n in range(6)]
        found = list(predictor(url, concurrency=6).answer(questions))
    assert found == [f"answer {n}" for n in range(6)]


def test_images_go_out_as_their_stored_pixels():
    turned, buffer = Image.new("RGB", (4, 3), "red"), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.save(buffer, "JPEG", exif=exif)
    plain = io.BytesIO()
    turned.save(plain, "JPEG")
    grey = io.BytesIO()
    Image.new("L", (4, 3)).save(grey, "BMP")
    urls = [data_url(Sample("a", "test", b.getvalue(), (4, 3))) for b in (buffer, plain, grey)]
    assert [url[:16] for url in urls] == [
        "data:image/png;b",
        "data:image/jpeg;",
        "data:image/png;b",
    ]
    sent = Image.open(io.BytesIO(base64.b64decode(urls[0].partition(",")[2])))
    assert sent.size == (4, 3)
    assert not sent.getexif()


def test_a_busy_server_is_asked_again():
    replies = iter([(503, "starting", {}), (429, "slow down", {"Retry-After": "0"}), said("here")])
    with server(lambda body: next(replies)) as (url, got):
        assert list(predictor(url).answer([question()])) == ["here"]
    assert len(got) == 3


def test_waits_grow_and_are_as_long_as_the_server_asks_for():
    class Waits(list):
        def wait(self, seconds):
            self.append(seconds)

    waits = Waits()
    asks = iter(["3", "x", "2000", "0"])
    with server(lambda body: (503, "busy", {"Retry-After": next(asks)})) as (url, _):
        patient = Endpoint(url, retries=3, wait=1.0)
        with pytest.raises(ConfigError, match="no reply after 4 attempts"):
            patient.post({}, "a", waits)
    assert waits == [3.0, 2.0, LONGEST_WAIT]


def test_tries_end_and_say_what_was_the_matter():
    with server(lambda body: (500, "out of memory\nstack", {})) as (url, got):
        with pytest.raises(ConfigError, match="no reply after 3 attempts: 500") as error:
            list(predictor(url, retries=2).answer([question("Where?")]))
        assert len(got) == 3
    assert "out of memory" in str(error.value)
    assert "stack" not in str(error.value)
    assert f"{url}/chat/completions, Where?" in str(error.value)


def test_a_refusal_is_told_at_once_with_address_status_and_first_line():
    with server(lambda body: (404, "no model called tiny\nbye", {})) as (url, got):
        with pytest.raises(ConfigError, match="404 Not Found: no model called tiny") as error:
            list(predictor(url, concurrency=1).answer([question(), question("Why?")]))
        assert len(got) == 1
    assert url in str(error.value)
    assert "bye" not in str(error.value)


def test_a_server_that_is_not_there_is_named():
    with server(said) as (url, _):
        pass
    with pytest.raises(ConfigError, match="no reply after 2 attempts") as error:
        list(predictor(url, retries=1).answer([question()]))
    assert url in str(error.value)


def test_a_server_that_hangs_is_given_up():
    hold = threading.Event()
    with server(lambda body: hold.wait(5) or said("late")) as (url, _):
        hasty = predictor(url, retries=0, timeout=0.2)
        with pytest.raises(ConfigError, match="timed out"):
            list(hasty.answer([question()]))
        hold.set()


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"choices": [{}]}', '{"choices": 3}'])
def test_a_reply_of_another_kind_is_refused(text):
    with (
        server(lambda body: (200, text, {})) as (url, _),
        pytest.raises(ConfigError, match="endpoint replies"),
    ):
        list(predictor(url).answer([question()]))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"content": [{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}]}, "A cat."),
    ],
)
def test_other_forms_of_a_reply_are_read(message, text):
    with server(lambda body: {"choices": [{"message": message}]}) as (url, _):
        assert list(predictor(url).answer([question()])) == [text]


def test_the_key_comes_from_the_environment_and_is_told_to_nobody(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("THEIR_KEY", KEY)
    file = tmp_path / "answers.jsonl"
    with (
        caplog.at_level(logging.DEBUG),
        server(
            lambda body: said("here") if asked(body) == "A?" else (401, f"bad key {KEY}", {})
        ) as (url, got),
    ):
        asker = predictor(url, key_variable="THEIR_KEY", concurrency=1)
        with pytest.raises(ConfigError, match=r"401 Unauthorized: bad key \*\*\*") as error:
            ask([question("A?"), question("B?")], asker, file)
    assert got[0][1]["Authorization"] == f"Bearer {KEY}"
    told = [str(error.value), file.read_text(), caplog.text, repr(vars(asker)), str(asker.identity)]
    assert not any(KEY in text for text in told)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("value", [None, "", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_is_none_is_refused_before_anything_is_asked(monkeypatch, value):
    monkeypatch.delenv("THEIR_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("THEIR_KEY", value)
    with pytest.raises(ConfigError, match="THEIR_KEY holds no key") as error:
        predictor("http://localhost/v1", key_variable="THEIR_KEY")
    assert not value or value not in str(error.value)


def test_no_other_server_gets_the_key(monkeypatch):
    monkeypatch.setenv("THEIR_KEY", KEY)
    with (
        server(said) as (other, got),
        server(lambda body: (302, "moved", {"Location": other})) as (url, _),
        pytest.raises(ConfigError, match="302"),
    ):
        list(predictor(url, key_variable="THEIR_KEY").answer([question()]))
    assert got == []


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "file:///etc/passwd", "http://"),
        *(f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}"),
    ],
)
def test_addresses_that_cannot_be_are_refused(url):
    with pytest.raises(ConfigError) as error:
        predictor(url)
    assert KEY not in str(error.value)


def test_answers_before_a_failure_are_kept_and_not_paid_for_twice(tmp_path):
    file = tmp_path / "answers.jsonl"
    questions = [question(str(n)) for n in range(5)]
    broken = True

    def answer(body):
        return (400, "no", {}) if broken and asked(body) == "3" else said(asked(body))

    with server(answer) as (url, got):
        with pytest.raises(ConfigError):
            ask(questions, predictor(url, concurrency=1), file)
        broken = False
        answers = ask(questions, predictor(url), file)
    assert [answer.text for answer in answers] == list("01234")
    assert sorted(asked(body) for _, _, body in got) == sorted("01233" + "4")


def tokens(**likelihoods):
    top = [{"token": token, "logprob": log(value)} for token, value in likelihoods.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


def test_candidates_are_compared_by_how_the_answer_begins():
    reply = tokens(Yes=0.5, yes=0.2, No=0.1, **{" ": 0.1, "N": 0.05, "Perhaps": 0.01})
    with server(lambda body: reply) as (url, got):
        [found] = predictor(url).score([question(candidates=("Yes.", "No.", "Maybe."))])
    assert [exp(value) for value in found] == pytest.approx([0.7, 0.15, 0.01])
    assert got[0][2]["max_tokens"] == 1
    assert got[0][2]["logprobs"] is True
    assert got[0][2]["top_logprobs"] == 20


def test_a_token_that_several_candidates_begin_with_counts_for_the_one_that_it_is():
    reply = tokens(No=0.5, **{"not": 0.2, "n": 0.1, ",": 0.1, "hm": 0.05})
    with server(lambda body: reply) as (url, _):
        [found] = predictor(url).score([question(candidates=("No.", "Nothing.", "Hmm."))])
    assert [exp(value) for value in found] == pytest.approx([0.5, 0.2, 0.05])


def test_candidates_that_begin_alike_cannot_be_compared():
    with pytest.raises(ConfigError, match="begin alike"):
        list(predictor("http://localhost/v1").score([question(candidates=("A cat.", "A dog."))]))


def test_an_endpoint_without_likelihoods_takes_no_closed_questions():
    with (
        server(lambda body: said("Yes.")) as (url, _),
        pytest.raises(ConfigError, match="tells no likelihoods"),
    ):
        list(predictor(url).score([question(candidates=("Yes.", "No."))]))


def test_locations_come_back_in_pixels():
    asker = predictor("http://localhost/v1")
    boxes = asker.decode("At [0.250, 0.500, 0.500, 1.000].", question()).boxes
    assert boxes == [Box(12, 20, 24, 40)]
    with pytest.raises(DataError, match="without an image"):
        asker.decode("", Question("a", Sample("words", "test"), question().messages))


def test_the_identity_names_model_address_and_settings():
    found = predictor("http://localhost/v1/").identity
    assert found["url"] == "http://localhost/v1/chat/completions"
    assert found["request"] == {"temperature": 0.0, "max_tokens": 64}
    assert predictor("http://localhost/v1/", qwen2_vl()).identity != found


def test_refuses_to_ask_nobody():
    with pytest.raises(ConfigError, match="concurrency must be at least 1, got 0"):
        predictor("http://localhost/v1", concurrency=0)
