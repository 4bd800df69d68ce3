"""A real browser through the SOCKS proxy: headless Chromium loads a page with several parts from two
sites whose names only the server's end can resolve."""
import os
import shutil
import struct
import subprocess
import zlib

import pytest

from lab import http_request, wait
from socksmesh import start, start_network, wait_up
from topology import HTTP_ADDR

PORT, PARTS = 8080, 30
PAGE = """<!doctype html><title>waiting</title><link rel=stylesheet href=style.css>
<p id=styled>Mesh</p><img id=picture src=http://four.test:8080/picture.png>
<script src=http://no-such.test:8080/never.js onerror="document.title = 'refused'"></script>
<script src=script.js></script>
"""
STYLE = "#styled { color: rgb(1, 2, 3) }\n"
SCRIPT = """addEventListener('load', async () => {
  const parts = await Promise.all([...Array(%d).keys()].map(
    async i => (await (await fetch('part-' + i + '.json')).json()).number));
  const picture = document.getElementById('picture');
  const color = getComputedStyle(document.getElementById('styled')).color;
  document.body.dataset.found = [parts.reduce((a, b) => a + b), picture.naturalWidth,
                                 color].join(' / ');
});
""" % PARTS


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_site(folder):
    os.makedirs(folder)
    files = {"index.html": PAGE.encode(), "style.css": STYLE.encode(), "script.js": SCRIPT.encode(),
             "picture.png": png(321, 200)}
    files.update({f"part-{i}.json": b'{"number": %d}' % i for i in range(PARTS)})
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    if not path:
        pytest.skip("chromium is not installed (etc/deps.sh test installs it)")
    return path


@pytest.fixture(scope="module")
def browsing(chromium, network):
    mesh = network
    start_network(mesh)
    site = os.path.join(mesh.folder, "site")
    write_site(site)
    mesh.web = mesh.run("inet", "web", "/usr/bin/python3", "-m", "http.server", "--bind", HTTP_ADDR,
                        "--directory", site, str(PORT))
    wait(lambda: http_request(mesh["inet"], HTTP_ADDR, PORT)[0] == 200, 10, "the web server")
    mesh.client = wait_up(start(mesh, "sub", "socks-client", "sub-socks"))
    return mesh


def browse(mesh, chromium, url, *options):
    """The DOM after loading, as text."""
    argv = ["ip", "netns", "exec", mesh["sub"].full, chromium, "--headless=new", "--no-sandbox",
            "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={mesh.folder}/browser", "--proxy-server=socks5://127.0.0.1:1080",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            "--virtual-time-budget=20000", "--timeout=60000", *options, "--dump-dom", url]
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=100, check=False, env=mesh.environment)
    assert p.returncode == 0, p.stderr[-2000:]
    return p.stdout


def test_browser_starts(browsing, chromium):
    """Without it nothing can be said about the proxy: skipped with what it said."""
    argv = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={browsing.folder}/probe", "--dump-dom",
            "data:text/html,<p>it runs</p>"]
    try:
        p = subprocess.run(["ip", "netns", "exec", browsing["sub"].full, *argv], timeout=60, text=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False,
                           stderr=subprocess.PIPE, env=browsing.environment)
    except subprocess.TimeoutExpired:
        browsing.unusable = "chromium does not end within 60 s here"
        pytest.skip(browsing.unusable)
    if "it runs" not in p.stdout:
        browsing.unusable = "chromium cannot run here: " + (p.stderr.strip().splitlines() or ["?"])[-1]
        pytest.skip(browsing.unusable)


def test_a_page_with_many_parts(browsing, chromium):
    if getattr(browsing, "unusable", None):
        pytest.skip(browsing.unusable)
    dom = browse(browsing, chromium, f"http://web.test:{PORT}/")
    wanted = f"{sum(range(PARTS))} / 321 / rgb(1, 2, 3)"
    assert f'data-found="{wanted}"' in dom, dom[-2000:]
    assert "<title>refused</title>" in dom, "a name that is not there fails alone"
    log = browsing.web.log()
    # All of it came by the server's way out, and nothing was resolved at the browser's end.
    for name in ("/ ", "/style.css", "/script.js", "/picture.png", f"/part-{PARTS - 1}.json"):
        assert f"GET {name}" in log, name
    clients = {line.split()[0] for line in log.splitlines() if "GET " in line}
    uplinks = {browsing[gw].links["inet"][1] for gw in ("gw1", "gw2")}
    assert clients & uplinks and clients <= uplinks | {HTTP_ADDR}, clients
