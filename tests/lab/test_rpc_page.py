"""What the daemons say of their RPC (rpc.discover), what docs/rpc.md says of it, and what they do:
every method is called for real, as the page has it, and its answer is held against both.

RPC_PAGE_WRITE=1 writes the page anew instead, from the calls that stand in it."""
import glob
import json
import os
import re
import shlex
import subprocess

import jsonschema
import pytest

import lab as tools
import rpcpage
from gateway import GatewayLab
from lab import wait

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "docs/rpc.md")
WRITE = os.environ.get("RPC_PAGE_WRITE") == "1"
DAEMONS = {"nodemanager": ("gw", 1234), "gatewayd": ("gw", 65533), "subscriberd": ("host", 65532)}
TOKEN = "THE-TOKEN"

# Answers that are only shown, and compared, once they are worth it.
READY = {
    ("nodemanager", "listTransports"): lambda r: r["transports"],
    ("nodemanager", "listApps"): lambda r: r["apps"],
    ("nodemanager", "findRoute"): lambda r: r["paths"],
    ("gatewayd", "nodeInfo"): lambda r: r["uplink"]["online"] and r["gateways"],
    ("gatewayd", "listGateways"): lambda r: len(r["gateways"]) == 2,
    ("subscriberd", "pollCallStatus"): lambda r: r["done"],
    ("subscriberd", "listGateways"): lambda r: r["gateways"],
    ("subscriberd", "listSessions"): lambda r: r["sessions"][0].get("traffic"),
    ("subscriberd", "getGraphSince"): lambda r: r["links"],
}


class Shell:
    """One in a namespace, for all its lines: `ip netns exec` for each would take longer than curl."""

    def __init__(self, ns):
        self.popen = subprocess.Popen(["ip", "netns", "exec", ns.full, "sh"], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, line):
        self.popen.stdin.write(f"{line}\nprintf '\\n--end--\\n'\n")
        self.popen.stdin.flush()
        lines = iter(self.popen.stdout.readline, "--end--\n")
        return "".join(lines)

    def close(self):
        self.popen.stdin.close()
        self.popen.wait(5)


class PageLab(GatewayLab):
    """nodemanager, a node and gatewayd on `gw`; a node and subscriberd on `host`; another gateway,
    that the first knows, on `inet`."""

    def start_all(self):
        self.shells = {name: Shell(self[name]) for name in ("gw", "host")}
        self.daemon("gw", "apptracker")
        self.start_mesh()
        wait(lambda: self.ask("nodemanager", "status"), 10, "nodemanager answers")
        self.events = self.run("gw", "events", "curl", "-sN", "http://127.0.0.1:1234/events")
        self.daemon("host", "node", {"node": {"Name": "home", "ManagerAddr": "10.77.0.1:5999"}})
        self.daemon("inet", "node", {"node": {"Name": "roof", "ManagerAddr": "192.0.2.2:5999"}})
        self.daemon("inet", "gatewayd", {"gateway": {"Name": "roof", "Pool4": "10.118.0.0/16"}})
        wait(lambda: self.ask("nodemanager", "listApps")["apps"], 10, "the other gateway is listed")
        self.daemon("host", "subscriberd",
                    {"subscriber": {"AutoConnect": "no", "DirectNetworks": "10.77.0.0/16"}})
        self.start(AdminToken=TOKEN, KnownGateways="192.0.2.1:65533")
        wait(lambda: len(self.ask("nodemanager", "listNodes")["nodes"]) == 3, 10, "all nodes")
        self.ask("nodemanager", "connectNodes", {"a": "gw", "b": "home"})
        wait(lambda: self.ask("subscriberd", "status"), 10, "subscriberd answers")

    def ask(self, daemon, method, params=None):
        ns, port = DAEMONS[daemon]
        return tools.rpc(self[ns], port, method, params)

    def error(self, daemon, method, params, ns=None, host="127.0.0.1"):
        """Its code; None: there was no error."""
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        own, port = DAEMONS[daemon]
        _, body = tools.http_request(self[ns or own], host, port, "POST", "/", json.dumps(call))
        return json.loads(body).get("error", {}).get("code")

    def curl(self, line):
        """The answer to a line of the page, on the machine that it speaks of."""
        away = "10.77.0.1" in line or ":65532" in line
        return json.loads(self.shells["host" if away else "gw"].run(line))

    def close(self):
        for shell in self.__dict__.pop("shells", {}).values():
            shell.close()
        super().close()


@pytest.fixture(scope="module")
def page_lab(request):
    lab = PageLab()
    try:
        lab.start_all()
        yield lab
    finally:
        failed = request.session.testsfailed
        if failed:
            print(lab.tail_logs())
        lab.close()
        faults = lab.problems + lab.leaks()
        assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def documents(page_lab):
    return {daemon: page_lab.ask(daemon, "rpc.discover") for daemon in DAEMONS}


@pytest.fixture(scope="module")
def page():
    with open(PAGE, encoding="utf-8") as f:
        return rpcpage.read(f.read())


def method_of(document, name):
    return next((m for m in document["methods"] if m["name"] == name), None)


def schema_of(document, schema):
    return {**schema, "components": document["components"]}


def request_of(line):
    """(daemon, method) of a line of curl; None for a batch."""
    words = shlex.split(line)
    port = next(int(m.group(1)) for w in words if (m := re.match(r"http://[\d.]+:(\d+)", w)))
    call = json.loads(words[words.index("-d") + 1])
    daemon = next(d for d, (_, p) in DAEMONS.items() if p == port)
    return (daemon, call["method"]) if isinstance(call, dict) else None


# --- the documents -----------------------------------------------------------------------------------

def check_references(value, document):
    if isinstance(value, dict):
        if "$ref" in value:
            assert value["$ref"].startswith("#/components/schemas/")
            assert value["$ref"].rsplit("/", 1)[1] in document["components"]["schemas"], value
        for v in value.values():
            check_references(v, document)
    elif isinstance(value, list):
        for v in value:
            check_references(v, document)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_document_is_openrpc(documents, daemon):
    """The rules of the OpenRPC meta schema for what we use of it."""
    document = documents[daemon]
    assert set(document) == {"openrpc", "info", "methods", "components"}
    assert re.fullmatch(r"1\.[23]\.\d+", document["openrpc"])
    assert document["info"]["title"] == f"Meshnet {daemon}" and document["info"]["version"]
    names = [m["name"] for m in document["methods"]]
    assert len(set(names)) == len(names) and "rpc.discover" in names
    for m in document["methods"]:
        assert {"name", "params", "result", "errors", "summary"} <= set(m)
        assert m["summary"].endswith(".") and m["paramStructure"] == "either"
        assert [set(p) for p in m["params"]] == [{"name", "description", "required", "schema"}
                                                 ] * len(m["params"])
        required = [p["required"] for p in m["params"]]
        assert required == sorted(required, reverse=True), "required ones come first"
        assert m["result"]["name"] and all(isinstance(e["code"], int) and e["message"]
                                           for e in m["errors"])
        for schema in [m["result"]["schema"]] + [p["schema"] for p in m["params"]]:
            jsonschema.Draft7Validator.check_schema(schema)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)
        assert schema["description"]
    check_references(document, document)
    used = re.findall(r'schemas/(\w+)"', json.dumps(document))
    assert set(used) == set(document["components"]["schemas"]), "shapes that nothing names"


def wrong_values(schema):
    """Values that a parameter must not have."""
    for one in schema.get("anyOf", [schema]):
        if "maxLength" in one:
            yield "x" * (one["maxLength"] + 1)
        if "maximum" in one and one["maximum"] < 1 << 63:
            yield one["maximum"] + 1
        if one.get("minimum"):
            yield one["minimum"] - 1
        if "enum" in one:
            yield "no such word"
        if "maxItems" in one:
            yield [1] * (one["maxItems"] + 1)
    if schema:
        yield [{"a": 1}]
    if schema and "number" not in json.dumps(schema):
        yield -1


@pytest.mark.parametrize("daemon", DAEMONS)
def test_wrong_parameters_are_refused(page_lab, documents, daemon):
    """Every one alone: missing, of another type, beyond its limits, unknown.  None is carried out."""
    for m in documents[daemon]["methods"]:
        if m["x-unknown-params"] == "refused":
            assert page_lab.error(daemon, m["name"], {"no such": 1}) == -32602
        assert page_lab.error(daemon, m["name"], [None] * (len(m["params"]) + 1)) == -32602
        if any(p["required"] for p in m["params"]):
            assert page_lab.error(daemon, m["name"], {}) == -32602
        for p in m["params"]:
            for value in wrong_values(p["schema"]):
                with pytest.raises(jsonschema.ValidationError):
                    jsonschema.validate(value, schema_of(documents[daemon], p["schema"]))
                got = page_lab.error(daemon, m["name"], {p["name"]: value})
                assert got == -32602, f"{m['name']}: {p['name']} = {value!r:.60}"


def test_strangers(page_lab, documents):
    """From another machine without the token: what is public, and nothing else."""
    for m in documents["gatewayd"]["methods"]:
        code = page_lab.error("gatewayd", m["name"], [None] * 9, "host", "10.77.0.1")
        assert code == (-32602 if m["x-access"] == "public" else -32001), m["name"]
        assert code in [e["code"] for e in m["errors"]]
    public = {m["name"] for m in documents["gatewayd"]["methods"] if m["x-access"] == "public"}
    assert public == {"nodeInfo", "requestConnection", "renewConnection", "releaseConnection",
                      "rpc.discover"}
    for daemon in ("nodemanager", "subscriberd"):
        assert all(m["x-access"] == "authorised" for m in documents[daemon]["methods"])


def test_no_method_is_left_out(documents):
    """What meshctl calls, and what any table of methods has, is in a document."""
    described = {m["name"] for d in documents.values() for m in d["methods"]}
    found = set()
    for path in glob.glob(os.path.join(ROOT, "*/*.c")):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        if "meshctl/" in path:
            found |= set(re.findall(r'\.method = "(\w+)"', text))
            found |= set(re.findall(r'rpc_client_\w+\([^;]*?"([a-z]+[A-Z]\w*)"', text))
        found |= set(re.findall(r'\.name = "([\w.]+)",\s*\.handler', text))
    assert len(found) > 30 and found <= described, found - described


# --- the page ----------------------------------------------------------------------------------------

def run_call(lab, document, line, shown, is_method):
    """The answer, once it has the shape that is shown (or is good enough to be)."""
    request = request_of(line)
    found = []

    def right():
        answer = lab.curl(line)
        found[:] = [answer]
        if WRITE and "error" in answer and is_method:
            return False
        result = answer.get("result") if request else None
        if result and request in READY and not READY[request](result):
            return False
        return WRITE or rpcpage.difference(shown, answer) is None

    try:
        wait(right, 12, line, 0.1)
    except tools.LabError:
        difference = rpcpage.difference(shown, found[0])
        raise AssertionError(f"{line}\n{difference}\n{json.dumps(found[0])[:2000]}") from None
    if request and "result" in found[0]:
        schema = method_of(document, request[1])["result"]["schema"]
        jsonschema.validate(found[0]["result"], schema_of(document, schema))
    return found[0]


def shown_answer(answer, document, request):
    """As the page has it: cut, and without the paths of this machine."""
    answer = json.loads(re.sub(r"/tmp/[^\"]*/gatewayd\.state", "/var/lib/meshnet",
                               json.dumps(answer)))
    if not request or "result" not in answer:
        return answer
    if request[1] == "rpc.discover":
        result = answer["result"]
        return {**answer, "result": {**result, "methods": [result["methods"][0], rpcpage.MORE],
                                     "components": {rpcpage.MORE: rpcpage.MORE}}}
    schema = method_of(document, request[1])["result"]["schema"]
    return {**answer, "result": rpcpage.shorten(answer["result"], schema, document)}


def rewritten(block, document, answers):
    """The text of a block with its descriptions and answers as they are now."""
    if block.is_objects():
        return rpcpage.describe_objects(block.section, document)
    text, at = block.text, iter(answers)
    if block.is_method():
        head = text.index("```sh")
        text = rpcpage.describe(method_of(document, block.name)) + text[head:]
    return rpcpage.CALL.sub(lambda m: f"```sh\n{m.group(1)}\n```\n\n```json\n"
                                      f"{rpcpage.pretty(next(at))}\n```\n", text)


def test_page(page_lab, documents, page):
    """Every line of curl in the page, in its order; and that all methods are there."""
    texts, called = [], set()
    for block in page:
        document, answers = documents.get(block.section, documents["nodemanager"]), []
        for line, shown in block.calls:
            request = request_of(line)
            document = documents[request[0]] if request else document
            answer = run_call(page_lab, document, line, shown, block.is_method())
            answers.append(shown_answer(answer, document, request) if WRITE else shown)
            called.add(request)
        texts.append(rewritten(block, document, answers))
    if WRITE:
        with open(PAGE, "w", encoding="utf-8") as f:
            f.write("".join(texts))
    else:
        for block, text in zip(page, texts):
            assert block.text == text, f"{block.title}: RPC_PAGE_WRITE=1 writes it anew"
    headings = {(b.section, b.name) for b in page if b.is_method()}
    methods = {(d, m["name"]) for d, document in documents.items() for m in document["methods"]
               if m["name"] != "rpc.discover"}
    assert headings == methods
    assert methods <= called
    assert {b.section for b in page if b.is_objects()} == set(DAEMONS)


def test_meshctl_calls_any_method(page_lab, documents):
    for daemon, (ns, _) in DAEMONS.items():
        table = page_lab.meshctl(ns, "methods", daemon)
        assert all(re.search(rf"^{re.escape(m['name'])}\(", table, re.M)
                   for m in documents[daemon]["methods"])
        assert page_lab.meshctl_json(ns, "methods", daemon) == documents[daemon]
    got = page_lab.meshctl("gw", "rpc", "nodemanager", "findRoute", '["gw", "home"]')
    assert [n["name"] for n in json.loads(got)["nodes"]] == ["gw", "home"]
    assert json.loads(page_lab.meshctl("host", "rpc", "subscriberd", "status"))["success"]
    for words, what in ((("gw", "rpc", "nodemanager", "findRoute", "{}"), "a is missing"),
                        (("gw", "rpc", "gatewayd", "noSuch"), "Method not found"),
                        (("gw", "rpc", "gatewayd", "nodeInfo", "5"), "is no JSON object"),
                        (("gw", "rpc", "apptracker", "status"), "is none of nodemanager")):
        with pytest.raises(tools.LabError, match=what):
            page_lab.meshctl(*words)


def lines_after(page, line):
    text = "".join(b.text for b in page)
    return re.search(re.escape(line) + r"\n```\n\n```text\n(.*?)```", text, re.S).group(1).split("\n")


def test_events_and_metrics(page_lab, page):
    """What the page shows of /events and /metrics comes."""
    for line in lines_after(page, "curl -sN http://127.0.0.1:1234/events"):
        name, _, text = line.partition(": ")
        if name == "event":
            page_lab.events.wait_log(f"^event: {re.escape(text)}$", 5)
        elif name == "data":
            keys = list(json.loads(text))
            assert any(list(json.loads(d)) == keys
                       for d in re.findall(r"^data: (.*)$", page_lab.events.log(), re.M)), keys
    line = "curl -s http://127.0.0.1:1234/metrics"
    figures = page_lab.gw.run(*shlex.split(line))
    for shown in lines_after(page, line):
        assert not shown or re.search(f"^{re.escape(shown.rsplit(' ', 1)[0])} ", figures, re.M), shown
