"""docs/rpc.md: read, run against real daemons, compared, and written anew.

The page has a section `## DAEMON` for each daemon with an RPC, and in it `### METHOD(parameters)`
for each method.  What stands between that heading and the first code block comes from rpc.discover;
so does `### Objects of DAEMON`.  A block of sh that is followed by one of json is a call and its
answer: the calls stand in the page and are the author's, the answers were real ones."""
import json
import re

CALL = re.compile(r"```sh\n(.*?)\n```\n\n```json\n(.*?)\n```\n", re.S)
WIDTH = 100
MORE = "..."  # a member of an object, or entry of a list, where the page leaves some out


class Block:
    """A heading with what is below it, up to the next heading."""

    def __init__(self, text):
        self.text = text
        self.title = text.split("\n", 1)[0]
        self.name = re.match(r"#* *([\w.]*)", self.title).group(1)
        self.calls = [(c, json.loads(a)) for c, a in CALL.findall(text)]

    def is_method(self):
        return self.title.startswith("### ") and "(" in self.title

    def is_objects(self):
        return self.title.startswith("### Objects of ")


def read(text):
    """The blocks, in order; together they are the page.  Each knows the section that it is in."""
    blocks, section = [], ""
    for part in re.split(r"^(?=#{1,3} )", text, flags=re.M):
        if not part:
            continue
        block = Block(part)
        if re.match(r"##? ", block.title):
            section = block.name
        block.section = section
        blocks.append(block)
    return blocks


# --- what rpc.discover says, for people --------------------------------------------------------------

def schema_text(schema):
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " or ".join(schema_text(s) for s in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        most = f" (at most {schema['maxItems']})" if "maxItems" in schema else ""
        return f"list of {schema_text(schema['items'])}{most}"
    if "maxLength" in schema:
        return f"text of at most {schema['maxLength']} bytes"
    if "pattern" in schema:
        return "id"
    if "maximum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def without_null(schema):
    kinds = [s for s in schema.get("anyOf", []) if s != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else schema


def item(name, schema, optional, text):
    kind = schema_text(without_null(schema) if optional else schema)
    return (f"- `{name}` ({kind}{', may be missing' if optional else ''})"
            f"{': ' + text if text else ''}\n")


def members(schema):
    lines = [item(name, s, name not in schema["required"], s.get("description", ""))
             for name, s in schema["properties"].items()]
    others = schema["additionalProperties"]
    if others:
        lines.append(item("*", others, False, others.get("description", "")))
    return "".join(lines)


def describe(method):
    """What stands above the first call of a method."""
    out = f"### {method['name']}({', '.join(p['name'] for p in method['params'])})\n\n"
    out += method["summary"] + (" (Public.)" if method["x-access"] == "public" else "") + "\n\n"
    if method["params"]:
        out += "".join(item(p["name"], p["schema"], not p["required"], p["description"])
                       for p in method["params"]) + "\n"
    schema = method["result"]["schema"]
    if schema.get("properties"):
        out += "Answer:\n\n" + members(schema) + "\n"
    elif "properties" in schema:
        out += "Answer: an empty object.\n\n"
    else:
        out += f"Answer: {schema_text(schema)}.\n\n"
    for error in method["errors"]:
        if error["code"] in (-32000, -32002):
            out += f"Error {error['code']}: {error['message']}.\n\n"
    return out


def describe_objects(daemon, document):
    out = f"### Objects of {daemon}\n\n"
    for name, schema in document["components"]["schemas"].items():
        out += f"**{name}**: {schema['description']}\n\n{members(schema)}\n"
    return out


# --- answers ---------------------------------------------------------------------------------------

def chosen(value, schema, document):
    """The schema, or the alternative, that an object has."""
    for one in schema.get("anyOf", [schema]):
        if "$ref" in one:
            one = document["components"]["schemas"][one["$ref"].rsplit("/", 1)[1]]
        if isinstance(value, dict) == ("properties" in one):
            if not isinstance(value, dict) or set(one["required"]) <= set(value):
                return one
    return schema


def shorten(value, schema, document, depth=0):
    """A real answer as the page shows it: two entries of a list, two members of a map."""
    schema = chosen(value, schema, document)
    if isinstance(value, list):
        items = [shorten(v, schema.get("items", {}), document, depth + 1) for v in value[:2]]
        return items + [MORE] if len(value) > 2 else items
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    is_map = not known and isinstance(schema.get("additionalProperties"), dict)
    short = {k: shorten(v, known.get(k, {}), document, depth + 1) for k, v in value.items()}
    if is_map and len(short) > 2 and depth:
        return {**dict(list(short.items())[:2]), MORE: MORE}
    return short


def pretty(value, indent=0):
    """JSON for people: on one line what fits there."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= WIDTH or not isinstance(value, (dict, list)):
        return flat
    pad, end = " " * (indent + 2), "\n" + " " * indent
    if isinstance(value, list):
        return "[\n" + ",\n".join(pad + pretty(v, indent + 2) for v in value) + end + "]"
    return "{\n" + ",\n".join(f"{pad}{json.dumps(k)}: {pretty(v, indent + 2)}"
                              for k, v in value.items()) + end + "}"


def difference(page, real, where="answer"):
    """Where the answer has not the shape that the page shows; None: it has.  null fits all: whether
    there is something is the schema's business, and the moment's."""
    if page is None or real is None or page == MORE:
        return None
    if isinstance(page, dict):
        if not isinstance(real, dict):
            return f"{where}: {real!r} is no object"
        missing = [k for k in page if k not in real and k != MORE]
        new = [k for k in real if k not in page] if MORE not in page else []
        if missing or new:
            return f"{where}: no longer there {missing}, not in the page {new}"
        found = (difference(v, real[k], f"{where}.{k}") for k, v in page.items() if k != MORE)
        return next((d for d in found if d), None)
    if isinstance(page, list):
        if not isinstance(real, list):
            return f"{where}: {real!r} is no list"
        if bool(page) != bool(real):
            return f"{where}: {len(real)} entries, and {len(page)} in the page"
        for i, one in enumerate(page):
            differences = [difference(one, r, f"{where}[{i}]") for r in real]
            if real and all(differences):
                return differences[0]
        return None
    number = (int, float)
    same = isinstance(real, type(page)) or (isinstance(page, number) and isinstance(real, number)
                                            and isinstance(page, bool) == isinstance(real, bool))
    return None if same else f"{where}: {real!r} is not of the type of {page!r}"
