"""The demo's server: whom it answers, what becomes of files, and what is left at the end."""

import copy
import csv
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from functools import partialmethod

import numpy as np
import pytest
from filelock import FileLock
from media import ROOT, TINY, write_run, write_video
from omegaconf import OmegaConf
from PIL import Image

import aunet.demo
from aunet import config
from aunet.cli import main
from aunet.demo.jobs import own_folder
from aunet.demo.server import DemoServer, Handler
from aunet.demo.serving import serving
from aunet.facs import AFFWILD2
from aunet.predict import Options, load

CROPS = np.random.default_rng(0).integers(0, 256, (6, 112, 112, 3), np.uint8)
AS_CROPS = Options(crops=True)
ABOUT = {"title": "ours <1>", "note": "It has seen rendered faces only."}
MOST = 300_000


@pytest.fixture(scope="module")
def loaded(affwild2, tmp_path_factory):
    """A run folder and its predictor, not to be changed."""
    cfg = config.compose(["data=affwild2", f"data.root={affwild2}", "weights=none", TINY])
    run = write_run(tmp_path_factory.mktemp("demo") / "run", cfg)
    return run, load(run, "cpu")


@pytest.fixture
def predictor(loaded, tmp_path):
    """Of one's own, with its run folder."""
    shutil.copytree(loaded[0], tmp_path / "run")
    return copy.copy(loaded[1])


@pytest.fixture(autouse=True)
def _ends_at_once(monkeypatch):
    """Servers look every half a second whether they are to end."""
    monkeypatch.setattr(DemoServer, "serve_forever", partialmethod(DemoServer.serve_forever, 0.02))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def server(predictor, folder):
    with serving(predictor, AS_CROPS, ABOUT, 0, MOST) as running:
        yield running
    assert list(folder.iterdir()) == []


@pytest.fixture
def picture():
    """A crop as PNG."""
    return as_png(CROPS[0])


@pytest.fixture
def film(tmp_path):
    return write_video(tmp_path / "film.mp4", CROPS, codec="libx264").read_bytes()


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def ask(server, method, path, body=None, **headers):
    """(status, headers, content) of an answer; of JSON its value."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, answer.headers, json.loads(content) if is_json else content


def upload(server, content, name="my%20face.png"):
    return ask(server, "POST", "/jobs", content, X_Aunet_Token=server.token, X_File_Name=name)


def ended(server, content, name="my%20face.png"):
    """The address of a job, and what is told of it at its end."""
    status, _, answer = upload(server, content, name)
    assert status == 202
    address = f"/jobs/{answer['job']}"
    for _ in range(600):
        status, _, told = ask(server, "GET", address)
        assert status == 200
        if told["state"] in ("done", "failed"):
            return address, told
        time.sleep(0.02)
    raise AssertionError(told)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


# Who is answered


@pytest.mark.parametrize(
    "begin",
    [
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET / HTT",
        "POST /jobs HTTP/1.1\r\nHost: {host}\r\nX-Aunet-Token: {token}\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
def test_a_browser_that_goes_is_not_spoken_of(server, folder, capfd, begin):
    for wait in (0, 0.1):
        with socket.create_connection(server.server_address) as browser:
            browser.sendall(begin.format(host=f"127.0.0.1:{server.server_port}", token=server.token).encode())
            time.sleep(wait)
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ask(server, "GET", "/")[0] == 200
    while any("process_request" in thread.name for thread in threading.enumerate()):
        time.sleep(0.01)
    assert "Traceback" not in capfd.readouterr().err
    assert files_in(folder) == []


def test_a_fault_of_our_own_is_told(server, capfd, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(server, "GET", "/")
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_usual_port_need_not_be_named(predictor, folder):
    try:
        with serving(predictor, AS_CROPS, ABOUT, 80, MOST) as running:
            for host in ("127.0.0.1", "localhost", "localhost:80"):
                assert ask(running, "GET", "/", Host=host, Origin=f"http://{host}")[0] == 200
            assert ask(running, "GET", "/", Host="evil.example")[0] == 403
    except ValueError as error:
        pytest.skip(f"for root alone, or taken: {error}")


def test_a_small_limit_is_said_as_it_is(server):
    page = ask(server, "GET", "/")[2].decode()
    assert "At most 0.3 MB." in page


def test_only_this_machine_is_listened_to(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_the_page_asks_nobody_else(server):
    status, headers, page = ask(server, "GET", "/")
    assert status == 200
    assert b"ours &lt;1&gt;" in page
    assert server.token.encode() in page
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/style.css", "/script.js"):
        status, _, content = ask(server, "GET", path)
        assert status == 200
        assert not re.search(rb"https?:|@import|url\(|innerHTML|eval\(", content)
    assert not re.search(rb"https?:|<script>|style=|onclick", page)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that was pointed at this machine
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},  # another port of this machine
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:{port}"},
    ],
)
def test_pages_of_others_are_refused(headers, server, folder, picture):
    told = {name: value.format(port=server.server_port) for name, value in headers.items()}
    token = {"X_Aunet_Token": server.token}
    for method, path, body in (
        ("GET", "/", None),
        ("POST", "/jobs", picture),
        ("DELETE", "/jobs/x", None),
    ):
        status, _, answer = ask(server, method, path, body, **token, **told)
        assert status == 403
        assert server.url in answer["error"]
    assert files_in(folder) == []


@pytest.mark.parametrize("token", [{}, {"X_Aunet_Token": "guess"}, {"X_Aunet_Token": "é"}])
def test_who_does_not_know_the_token_changes_nothing(token, server, folder, picture):
    address, _ = ended(server, picture)
    kept = files_in(folder)
    assert ask(server, "POST", "/jobs", picture, **token)[0] == 403
    assert ask(server, "DELETE", address, **token)[0] == 403
    assert files_in(folder) == kept != []


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/guess",
        "/jobs/{job}/upload",
        "/jobs/{job}/../.lock",
        "/jobs/{job}/%2e%2e/.lock",
        "/page.html",
    ],
)
def test_there_is_nothing_else(path, server, picture):
    address, _ = ended(server, picture)
    status, _, answer = ask(server, "GET", path.format(job=address.rpartition("/")[2]))
    assert (status, answer) == (404, {"error": "there is nothing here"})


# What becomes of files


def test_a_picture_is_predicted_and_deleted(server, folder, predictor, picture, tmp_path):
    address, told = ended(server, picture)
    assert told["state"] == "done"
    assert told["problems"] == []
    assert told["files"] == ["overlay.png", "table.csv"]
    assert files_in(folder) == ["overlay.png", "table.csv"]
    (tmp_path / "crop.png").write_bytes(picture)
    expected = predictor.predict(tmp_path / "crop.png", AS_CROPS)
    (face,) = told["result"]["faces"]
    assert told["result"]["kind"] == "picture"
    assert [au["au"] for au in face["aus"]] == [f"AU{au}" for au in AFFWILD2]
    for au, said in zip(AFFWILD2, face["aus"], strict=True):
        assert said["prob"] == pytest.approx(expected[f"AU{au:02d}_prob"][0], abs=1e-6)
        assert said["share"] == expected[f"AU{au:02d}"][0]
    _, headers, overlay = ask(server, "GET", f"{address}/overlay.png")
    assert headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(overlay)).size[0] > 448
    _, headers, table = ask(server, "GET", f"{address}/table.csv")
    (row,) = csv.DictReader(io.StringIO(table.decode()))
    assert row["input"] == "my face.png"
    assert "sandbox" in headers["Content-Security-Policy"]


def test_a_video_is_shown_over_time(server, folder, film):
    address, told = ended(server, film, "film.mp4")
    assert told["files"] == ["overlay.mp4", "timeline.svg", "table.csv"]
    assert (told["result"]["kind"], told["result"]["frames"], told["result"]["empty"]) == ("video", 6, 0)
    assert told["result"]["seconds"] == pytest.approx(0.2)
    assert b"film.mp4" in ask(server, "GET", f"{address}/timeline.svg")[2]
    status, headers, whole = ask(server, "GET", f"{address}/overlay.mp4")
    assert (status, headers["Accept-Ranges"]) == (200, "bytes")
    for asked, first, last in (
        ("10-19", 10, 19),
        ("10-", 10, len(whole) - 1),
        ("5-9999999", 5, len(whole) - 1),
    ):
        status, headers, part = ask(server, "GET", f"{address}/overlay.mp4", Range=f"bytes={asked}")
        assert status == 206
        assert part == whole[first : last + 1]
        assert headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"
    assert "upload" not in files_in(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no picture at all " * 99, "no picture, and no video that can be read"),
        (as_png(CROPS[0])[:2000], "a damaged PNG picture"),
        (as_png(CROPS[0, :50]), "112x50 pixels, while the network takes aligned crops"),
    ],
)
def test_a_bad_file_is_told_in_one_line_and_deleted(content, message, server, folder):
    _, told = ended(server, content, "%3Cb%3E%0Abad.png")
    assert told["state"] == "failed"
    (problem,) = told["problems"]
    assert problem.startswith("<b>\\nbad.png: ")
    assert message in problem
    assert str(folder) not in problem
    assert files_in(folder) == []


def test_a_video_that_is_cut_off_is_shown_as_far_as_it_goes(server, tmp_path):
    film = write_video(
        tmp_path / "long.mp4", np.repeat(CROPS, 4, 0), codec="libx264", movflags="faststart"
    ).read_bytes()
    _, told = ended(server, film[: len(film) // 2], "film.mp4")
    assert told["state"] == "done"
    assert 0 < told["result"]["frames"] < 24
    assert [problem.startswith("film.mp4: ") for problem in told["problems"]] == [True]


def test_what_is_too_large_is_not_received(server, folder):
    status, headers, answer = ask(
        server, "POST", "/jobs", b"", X_Aunet_Token=server.token, Content_Length=str(MOST + 1)
    )
    assert (status, headers["Connection"]) == (413, "close")
    assert answer == {"error": "the file is larger than 0.3 MB"}
    assert files_in(folder) == []


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 40])
def test_the_length_must_be_told(length, server):
    headers = {"X_Aunet_Token": server.token, "Content_Length": length}
    assert ask(server, "POST", "/jobs", b"", **headers)[0] == 411


def test_an_upload_that_breaks_off_is_deleted(server, folder):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest("POST", "/jobs")
    connection.putheader("X-Aunet-Token", server.token)
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"half")
    connection.sock.shutdown(1)
    assert connection.getresponse().status == 400
    connection.close()
    assert files_in(folder) == []


def test_results_are_deleted_when_asked(server, folder, picture):
    address, _ = ended(server, picture)
    assert ask(server, "DELETE", address, X_Aunet_Token=server.token)[0] == 200
    assert files_in(folder) == []
    assert ask(server, "GET", address)[0] == 404
    assert ask(server, "GET", f"{address}/overlay.png")[0] == 404


def test_old_results_make_room(server, folder, picture):
    addresses = [ended(server, picture)[0] for _ in range(10)]
    answers = [ask(server, "GET", address)[0] for address in addresses]
    assert answers == [404, 404] + [200] * 8
    assert len(files_in(folder)) == 16


def test_our_own_faults_end_neither_the_demo_nor_its_tidiness(server, folder, picture, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise KeyError("ours")

    with monkeypatch.context() as patch:
        patch.setattr(server.jobs.predictor, "write", fail)
        _, told = ended(server, picture)
    assert told["problems"] == ["my face.png: failed by a fault of aunet, told on the terminal"]
    assert "KeyError" in caplog.text
    assert files_in(folder) == []
    assert ended(server, picture)[1]["state"] == "done"


@pytest.fixture
def endless(predictor, monkeypatch):
    """A prediction that goes on until it is cancelled; set when it has begun."""
    from aunet.progress import progress

    begun = threading.Event()

    def write(out, inputs, options, draw):
        out.with_name("table.csv.partial").mkdir()
        with progress("predicting", 10**6, "kB") as advance:
            while True:
                begun.set()
                advance(1)
                time.sleep(0.005)

    monkeypatch.setattr(predictor, "write", write)
    return begun


def test_work_is_cancelled(endless, server, folder, picture):
    address = f"/jobs/{upload(server, picture)[2]['job']}"
    assert endless.wait(10)
    told = ask(server, "GET", address)[2]
    assert (told["state"], told["step"]) == ("working", "predicting")
    assert 0 <= told["part"] < 1
    assert ask(server, "DELETE", address, X_Aunet_Token=server.token)[0] == 200
    for _ in range(500):
        if not list(folder.glob("aunet-demo-*/*/")):
            break
        time.sleep(0.01)
    assert files_in(folder) == []


def test_too_many_files_have_to_wait(endless, server, picture):
    answers = [upload(server, picture)[0] for _ in range(10)]
    assert answers == [202] * 8 + [503] * 2


def test_nothing_is_left_while_work_goes_on(endless, predictor, folder, picture):
    with serving(predictor, AS_CROPS, ABOUT, 0, MOST) as running:
        for _ in range(3):
            upload(running, picture)
        assert endless.wait(10)
    assert list(folder.iterdir()) == []


def test_what_a_killed_demo_left_is_deleted(folder):
    dead, living, foreign = (folder / name for name in ("aunet-demo-a", "aunet-demo-b", "other"))
    for place in (dead, living, foreign):
        place.mkdir()
        (place / ".lock").touch()
        (place / "upload").touch()
    with FileLock(living / ".lock"), own_folder() as own:
        assert sorted(folder.iterdir()) == sorted([living, foreign, own])
        assert own.stat().st_mode & 0o77 == 0
    assert not own.exists()


# The command


def test_the_command_ends_tidily(predictor, tmp_path, picture):
    """Started as a user does, asked once, and ended by a signal."""
    place = tmp_path / "tmp"
    place.mkdir()
    command = [sys.executable, "-m", "aunet.cli", "demo", str(tmp_path / "run"), "--port", "0", "--crops"]
    environment = os.environ | {"TMPDIR": str(place), "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        url = next(found for line in process.stderr if (found := re.search(r"http://127.0.0.1:(\d+)/", line)))
        connection = http.client.HTTPConnection("127.0.0.1", int(url[1]), timeout=30)
        connection.request("GET", "/")
        token = re.search(r'data-token="([^"]+)', connection.getresponse().read().decode())[1]
        connection.request("POST", "/jobs", picture, {"X-Aunet-Token": token})
        assert connection.getresponse().status == 202
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(60) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            pytest.fail(f"does not end: {process.stderr.read()}")
        assert "Traceback" not in process.stderr.read()
    assert list(place.glob("aunet-demo-*")) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "port 70000: "),
        (["--max-mb", "0"], "--max-mb 0 must be above 0"),
    ],
)
def test_bad_options_are_told_in_one_line(options, message, predictor, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(["demo", str(tmp_path / "run"), "--device", "cpu", *options])
    assert message in str(caught.value.code)


def test_a_port_that_is_taken_is_told(server, predictor, folder):
    with (
        pytest.raises(ValueError, match=rf"port {server.server_port}: .*choose another by --port"),
        serving(predictor, AS_CROPS, ABOUT, server.server_port, MOST),
    ):
        pass


def test_the_command_says_what_the_network_has_seen(predictor, tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr(aunet.demo, "serve", lambda *arguments: served.append(arguments))
    run = tmp_path / "run"
    (run / "metrics.json").write_text(json.dumps({"title": "Ours", "seed": 3}))
    config = OmegaConf.load(run / "config.yaml")
    notes = {"rendered_medium": "It has seen rendered faces only.", "affwild2": "Trained on affwild2."}
    for data, note in notes.items():
        config.data.name = data
        OmegaConf.save(config, run / "config.yaml")
        main(["demo", str(run), "--device", "cpu", "--max-mb", "1.5"])
        assert served[-1][2:] == ({"title": "Ours, seed 3", "note": note}, 8321, 1_500_000)
