"""docs/operating.md, done line by line: what a new operator reads is what is run here."""
import configparser
import os
import re

import pytest
import lab as tools
from lab import Lab, wait
from topology import HTTP_ADDR, HTTP_PORT, PAGE

DOC = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "operating.md")
ADDRESS = {"hub": 1, "roof1": 11, "roof2": 12, "anna": 20, "camp": 30}
BLOCK = re.compile(r"^```(ini|sh) (\w+)\n(.*?)^```$", re.M | re.S)


def steps():
    with open(DOC, encoding="utf-8") as f:
        return BLOCK.findall(f.read())


class Community(Lab):
    """Five machines on one radio channel, and an Internet that only anna reaches."""

    def __init__(self):
        super().__init__()
        self.files, self.said, self.word = {}, {}, {}
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        self.add("air", "inet", *ADDRESS)
        air = self["air"]
        air.ip("link", "add", "channel", "type", "bridge")
        air.ip("link", "set", "channel", "up")
        for name, number in ADDRESS.items():
            tools.veth(self[name], "radio", air, f"to-{name}")
            air.ip("link", "set", f"to-{name}", "master", "channel", "up")
            self[name].ip("addr", "add", f"10.77.0.{number}/24", "dev", "radio")
            self[name].ip("link", "set", "radio", "up")
        self.link("inet", "anna", "192.0.2.0/30")
        self["anna"].ip("route", "add", "default", "via", "192.0.2.1")
        self["inet"].ip("addr", "add", f"{HTTP_ADDR}/32", "dev", "lo")
        site = os.path.join(self.folder, "site")
        os.makedirs(site)
        with open(os.path.join(site, "index.html"), "w", encoding="utf-8") as f:
            f.write(PAGE)
        self.run("inet", "http", "/usr/bin/python3", "-m", "http.server", "--bind", HTTP_ADDR,
                 "--directory", site, str(HTTP_PORT))

    # --- what the page can say ---

    def configure(self, machine, text):
        file = configparser.ConfigParser(inline_comment_prefixes=(" ;",), comment_prefixes=(";",),
                                         interpolation=None)
        file.optionxform = str
        file.read_string(text)
        self.files[machine] = {s: dict(file[s]) for s in file.sections()}

    def sections(self, machine):
        return {s: {k: self.word.get(v, v) for k, v in keys.items()}
                for s, keys in self.files[machine].items()}

    def do(self, machine, line):
        program, *args = line.removesuffix(" &").split()
        if program.startswith("meshnet-"):
            self.daemon(machine, program.removeprefix("meshnet-"), self.sections(machine))
        elif program == "meshctl":
            self.patient(machine, line, args)
        elif program == "curl":
            wait(lambda: self[machine].run("curl", "-s", "-m", "3", *args) == PAGE, 30, line)
        else:
            pytest.fail(f"what is {line!r}?")

    def patient(self, machine, line, args):
        """Who reads a page types slower than a daemon starts."""
        def typed():
            self.said[line] = self.meshctl(machine, *args)
            return True
        wait(typed, 20, line, 0.2)
        if args[0] == "invite":
            self.word["THE-TOKEN"] = tools.json.loads(
                self.meshctl(machine, "--json", *args))["token"]
        if args[0] == "status":
            self.word["THE-KEY"] = self.meshctl_json(machine, "status")["nodemanager"]["key"]


@pytest.fixture(scope="module")
def community(request):
    from conftest import finish
    lab = Community()
    try:
        yield lab
    finally:
        finish(lab, request)


def test_the_page_gets_a_new_operator_online(community):
    blocks = steps()
    assert {machine for _, machine, _ in blocks} == set(ADDRESS)
    for kind, machine, text in blocks:
        if kind == "ini":
            community.configure(machine, text)
            continue
        for line in text.splitlines():
            community.do(machine, line)
    assert "roof1" in community.said["meshctl find-route camp anna"]
    assert "roof2" in community.said["meshctl find-route camp anna"]
    assert "annas-fibre" in community.said["meshctl gateways"]


def test_who_is_thrown_out_is_out(community):
    community.meshctl("hub", "revoke", "camp")
    wait(lambda: "camp" not in [n["name"] for n in community.meshctl_json("hub", "list-nodes")["nodes"]
                                if n["connected"]], 5, "camp is cut off")
    with pytest.raises(tools.LabError):
        community["camp"].run("curl", "-s", "-f", "-m", "5", f"http://{HTTP_ADDR}/")
