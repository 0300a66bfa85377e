#!/usr/bin/env python3
"""Makes the API's tables and its OpenAPI page from the compiled .proto files.

    protoc --descriptor_set_out=api.desc --include_source_info --include_imports ...
    gen_api.py --version 0.1.0 --routes R.c --header R.h --openapi openapi.json api.desc

One definition, three readers: the C structs come from protoc-c, which drops google.api.http and the
comments; this program reads both from the descriptor set. It decodes the set by hand (field
numbers of descriptor.proto never change), so the build needs no Python package.

An operation is an rpc with google.api.http and a comment line "Scope: search|write|admin.". Its
handler is the C function api_<snake_case name>. A path has at most one variable; a body is "*" or
the name of one field.
"""
import argparse
import json
import re
import sys

HTTP_RULE = 72295728
VERBS = {2: "GET", 3: "PUT", 4: "POST", 5: "DELETE", 6: "PATCH"}
SCOPES = ("search", "write", "admin")


# ---- protobuf wire format -----------------------------------------------------------------

def varint(b, i):
    shift = value = 0
    while True:
        value |= (b[i] & 127) << shift
        shift += 7
        i += 1
        if b[i - 1] < 128:
            return value, i


def fields(b):
    """{field number: [values]}; bytes of nested messages stay bytes."""
    out, i = {}, 0
    while i < len(b):
        tag, i = varint(b, i)
        kind = tag & 7
        if kind == 0:
            value, i = varint(b, i)
        elif kind == 2:
            n, i = varint(b, i)
            value, i = b[i:i + n], i + n
        else:
            n = 8 if kind == 1 else 4
            value, i = b[i:i + n], i + n
        out.setdefault(tag >> 3, []).append(value)
    return out


def text(f, number):
    return f[number][-1].decode() if number in f else ""


def numbers(b):
    out, i = [], 0
    while i < len(b):
        value, i = varint(b, i)
        out.append(value)
    return tuple(out)


# ---- the model ----------------------------------------------------------------------------

class Message:
    def __init__(self, name, comment):
        self.name, self.comment, self.fields = name, comment, []


class Field:
    def __init__(self, f, comment):
        self.name, self.kind, self.type_name = text(f, 1), f[5][0], text(f, 6).lstrip(".")
        self.repeated, self.comment = f[4][0] == 3, comment


class Operation:
    def __init__(self, service, name, request, response, comment):
        self.service, self.name, self.request, self.response = service, name, request, response
        scope = re.search(r"^ *Scope: (\w+)\.$", comment, re.M)
        if not scope or scope.group(1) not in SCOPES:
            sys.exit(f"{name}: its comment lacks 'Scope: {'|'.join(SCOPES)}.'")
        self.scope = scope.group(1)
        self.comment = re.sub(r"^ *Scope: .*\n?", "", comment, flags=re.M).strip()
        self.routes = []


class Route:
    def __init__(self, method, path, body):
        self.method, self.path, self.body = method, path, body
        variables = re.findall(r"\{([\w.]+)\}", path)
        if len(variables) > 1:
            sys.exit(f"{path}: more than one variable")
        self.variable = variables[0] if variables else ""


def clean(comment):
    return "\n".join(line.strip() for line in comment.strip().split("\n")).strip()


def read_rule(b, routes):
    rule = fields(b)
    for number, method in VERBS.items():
        if number in rule:
            routes.append(Route(method, text(rule, number), text(rule, 7)))
    for extra in rule.get(11, []):
        read_rule(extra, routes)


def read(data):
    messages, operations = {}, []
    for raw in fields(data).get(1, []):
        f = fields(raw)
        package = text(f, 2)
        if not package.startswith("kith."):
            continue
        comments = {}
        for location in fields(f[9][0]).get(1, []) if 9 in f else []:
            loc = fields(location)
            if 3 in loc:
                comments[numbers(loc[1][0]) if 1 in loc else ()] = clean(text(loc, 3))
        for i, m in enumerate(f.get(4, [])):
            m = fields(m)
            if 8 in m or 3 in m:
                sys.exit(f"{text(m, 1)}: oneof, map and nested messages are not mapped")
            message = Message(f"{package}.{text(m, 1)}", comments.get((4, i), ""))
            for j, x in enumerate(m.get(2, [])):
                message.fields.append(Field(fields(x), comments.get((4, i, 2, j), "")))
            messages[message.name] = message
        for i, s in enumerate(f.get(6, [])):
            s = fields(s)
            for j, m in enumerate(s.get(2, [])):
                m = fields(m)
                op = Operation(text(s, 1), text(m, 1), text(m, 2).lstrip("."),
                               text(m, 3).lstrip("."), comments.get((6, i, 2, j), ""))
                for option in m.get(4, []):
                    for rule in fields(option).get(HTTP_RULE, []):
                        read_rule(rule, op.routes)
                operations.append(op)
    return messages, operations


# ---- C ------------------------------------------------------------------------------------

def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def descriptor(name):
    """kith.v1.PutPostRequest -> kith__v1__put_post_request__descriptor, as protoc-c names it."""
    *package, message = name.split(".")
    return "__".join(package + [snake(message)]) + "__descriptor"


def quote(s):
    return f'"{s}"' if s else "NULL"


def write_c(operations, header, routes):
    ops = [f"API_OP_{snake(o.name).upper()}" for o in operations]
    header.write("/* Made by tools/gen_api.py from proto/kith/v1: do not edit. */\n"
                 "#ifndef KITH_API_ROUTES_GEN_H\n#define KITH_API_ROUTES_GEN_H\n\n"
                 "typedef enum api_op {\n")
    header.writelines(f"    {name},\n" for name in ops)
    header.write("    API_OP_COUNT\n} api_op;\n\n#endif\n")
    routes.write("/* Made by tools/gen_api.py from proto/kith/v1: do not edit. */\n"
                 '#include "api/api_int.h"\n\n'
                 "#include <kith/v1/admin.pb-c.h>\n#include <kith/v1/ops.pb-c.h>\n#include <kith/v1/interactions.pb-c.h>\n#include <kith/v1/posts.pb-c.h>\n"
                 "#include <kith/v1/search.pb-c.h>\n\n")
    routes.write("const api_operation api_operations[API_OP_COUNT] = {\n")
    for name, o in zip(ops, operations):
        routes.write(f'    [{name}] = {{"{o.service}.{o.name}", SCOPE_{o.scope.upper()},\n'
                     f"        &{descriptor(o.request)}, &{descriptor(o.response)}, "
                     f"api_{snake(o.name)}}},\n")
    routes.write("};\n\nconst api_route api_operation_routes[] = {\n")
    count = 0
    for name, o in zip(ops, operations):
        for r in o.routes:
            routes.write(f'    {{.method = "{r.method}", .path = "{r.path}", '
                         f".variable = {quote(r.variable)}, .body = {quote(r.body)},\n"
                         f"     .operation = {name}, .scope = SCOPE_{o.scope.upper()}}},\n")
            count += 1
    routes.write(f"}};\n\nconst size_t api_operation_route_count = {count};\n")


# ---- OpenAPI ------------------------------------------------------------------------------

SCALARS = {
    1: {"type": "number", "format": "double"}, 2: {"type": "number", "format": "float"},
    3: {"type": "integer", "format": "int64"}, 4: {"type": "integer", "format": "uint64", "minimum": 0},
    5: {"type": "integer", "format": "int32"}, 6: {"type": "integer", "format": "uint64", "minimum": 0},
    7: {"type": "integer", "format": "uint32", "minimum": 0}, 8: {"type": "boolean"},
    9: {"type": "string"}, 12: {"type": "string", "contentEncoding": "base64"},
    13: {"type": "integer", "format": "uint32", "minimum": 0}, 15: {"type": "integer", "format": "int32"},
    16: {"type": "integer", "format": "int64"}, 17: {"type": "integer", "format": "int32"},
    18: {"type": "integer", "format": "int64"}}
POST, WEIGHT, TIME = "kith.v1.Post", "kith.v1.Weight", "google.protobuf.Timestamp"
OUTPUT_ONLY = {(POST, "thread"), (POST, "lsn")}


def short(name):
    return name.rsplit(".", 1)[1]


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def value_schema(f):
    if f.kind != 11:
        return dict(SCALARS[f.kind])
    if f.type_name == TIME:
        return {"type": "string", "format": "date-time"}
    if f.type_name == WEIGHT:
        return {"type": "number"}
    return ref(short(f.type_name))


def field_schema(message, f):
    schema = value_schema(f)
    if f.repeated:
        schema = {"type": "array", "items": schema}
    if f.comment:
        schema["description"] = f.comment
    if (message.name, f.name) in OUTPUT_ONLY:
        schema["readOnly"] = True
    return schema


def message_schema(message, answers):
    schema = {"type": "object", "properties": {}}
    if message.comment:
        schema["description"] = message.comment
    required = []
    for f in message.fields:
        if message.name == POST and f.name == "extra":
            continue
        schema["properties"][f.name] = field_schema(message, f)
        if f.repeated or f.kind not in (9, 11, 12):
            required.append(f.name)
    schema["additionalProperties"] = message.name == POST
    if message.name == POST:
        schema["required"] = ["id", "text"]
    elif message.name in answers and required:
        schema["required"] = required
    return schema


def reach(messages, names):
    """Names of messages that these hold, themselves included."""
    seen, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name in seen or name not in messages or name == WEIGHT:
            continue
        seen.add(name)
        todo += [f.type_name for f in messages[name].fields if f.kind == 11]
    return seen


def parameters(messages, o, route):
    out = []
    if route.variable:
        out.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"},
                    "description": "Id of the post, percent-encoded."})
    if route.body == "*":
        return out
    skip = {route.variable.split(".")[0], route.body}

    def add(message):
        for f in message.fields:
            if f.name in skip and message.name == o.request:
                continue
            nested = messages.get(f.type_name) if f.kind == 11 and f.type_name != WEIGHT else None
            if nested and f.name == "filter":
                add(nested)
            elif not nested and not (f.repeated and f.kind == 2):
                schema = field_schema(message, f)
                p = {"name": f.name, "in": "query", "schema": schema}
                if "description" in schema:
                    p["description"] = schema.pop("description")
                out.append(p)

    add(messages[o.request])
    return out


def request_body(o, route):
    if not route.body:
        return None
    name = "PostInput" if route.body == "post" else short(o.request)
    return {"required": route.body != "*",
            "content": {"application/json": {"schema": ref(name)}}}


def operation(messages, o, route, first):
    ident = o.name[0].lower() + o.name[1:]
    out = {"operationId": ident if first else f"{ident}By{route.method.title()}",
           "tags": [o.service], "summary": o.comment.split("\n")[0].split(". ")[0].rstrip("."),
           "description": f"{o.comment}\n\nNeeds scope `{o.scope}`.",
           "parameters": parameters(messages, o, route) + [{"$ref": "#/components/parameters/MinLsn"},
                                                           {"$ref": "#/components/parameters/RequestId"}],
           "responses": {"200": answer("The answer.", "application/json", ref(short(o.response))),
                         "default": {"$ref": "#/components/responses/Problem"}},
           "security": [{}, {"bearer": []}]}
    body = request_body(o, route)
    if body:
        out["requestBody"] = body
    return out


def answer(description, media, schema):
    return {"description": description,
            "headers": {"Kith-LSN": {"$ref": "#/components/headers/Kith-LSN"},
                        "Kith-Request-Id": {"$ref": "#/components/headers/Kith-Request-Id"}},
            "content": {media: {"schema": schema}}}


def by_hand():
    """Operations that are not an rpc: streams, another's format, health."""
    problem = {"$ref": "#/components/responses/Problem"}
    key = [{}, {"bearer": []}]
    line = {"description": "One post a line (as in POST /v1/posts), at most 1 MiB each.", "required": True,
            "content": {"application/x-ndjson": {"schema": ref("PostInput")}}}
    openai_error = answer("An error in OpenAI's form.", "application/json", ref("OpenAiError"))
    ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}
    return {
        "/v1/posts:batch": {"post": {
            "operationId": "putPosts", "tags": ["Posts"], "summary": "Puts many posts, streamed",
            "description": "One result a line, in the order of the lines. A bad line is reported and does not stop "
                           "the rest. Putting again is harmless, so an upload that broke off is sent again whole. "
                           "Read results while sending.\n\nNeeds scope `write`.",
            "parameters": [{"name": "wait", "in": "query", "schema": {"type": "string", "enum": ["", "applied"]},
                            "description": "\"applied\": end the answer when all lines are readable and found by words."}],
            "requestBody": line,
            "responses": {"200": answer("Results.", "application/x-ndjson", ref("BatchResult")), "default": problem},
            "security": key}},
        "/v1/embeddings": {"post": {
            "operationId": "openaiEmbeddings", "tags": ["OpenAI"], "summary": "Embeddings in OpenAI's format",
            "description": "Compatible with OpenAI's embeddings API.\n\nNeeds scope `search`.",
            "requestBody": {"required": True, "content": {"application/json": {"schema": ref("OpenAiEmbeddingsRequest")}}},
            "responses": {"200": answer("Embeddings.", "application/json", ref("OpenAiEmbeddings")),
                          "default": openai_error}, "security": key}},
        "/v1/models": {"get": {
            "operationId": "openaiModels", "tags": ["OpenAI"], "summary": "The embedding model, in OpenAI's format",
            "responses": {"200": answer("Models.", "application/json", ref("OpenAiModels")), "default": openai_error},
            "security": key}},
        "/healthz": {"get": {
            "operationId": "healthz", "tags": ["Health"], "summary": "The process lives",
            "responses": {"200": {"description": "It does.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
            "security": [{}]}},
        "/readyz": {"get": {
            "operationId": "readyz", "tags": ["Health"], "summary": "Requests are answered, and the folds have caught up",
            "responses": {"200": {"description": "Ready.", "content": {"application/json": {"schema": ready}}},
                          "503": problem}, "security": [{}]}}}


def schemas_by_hand():
    string, integer, number = {"type": "string"}, {"type": "integer"}, {"type": "number"}

    def obj(required, **properties):
        return {"type": "object", "properties": properties, "required": required}

    vector = {"oneOf": [{"type": "array", "items": number}, {**string, "contentEncoding": "base64"}]}
    problem = obj(["type", "title", "status", "code"],
                  type=string, title=string, status=integer,
                  code={**string, "description": "Stable name of the error: invalid, not_found, busy, ..."},
                  detail=string, field={**string, "description": "The field at fault, as a path: tags[3]"},
                  expected={**string, "description": "What would have been right."})
    return {
        "Problem": {**problem, "description": "RFC 9457 problem details."},
        "PostInput": {"description": "A post, and its vector when the caller has it.", "allOf": [
            ref("Post"), {"type": "object", "properties": {"vector": {
                **vector, "description": "Numbers, or base64 of little-endian single-precision floats."}}}]},
        "BatchResult": obj(["line"], line={**integer, "description": "From 1. 0: the batch as a whole."}, id=string,
                           outcome={**string, "enum": ["created", "replaced", "unchanged"]}, lsn=integer,
                           error=obj(["status", "code"], **{k: v for k, v in problem["properties"].items()
                                                            if k not in ("type", "title")})),
        "OpenAiEmbeddingsRequest": obj(
            ["input"], model=string, dimensions=integer, user=string,
            input={"oneOf": [string, {"type": "array", "items": string, "maxItems": 2048}]},
            encoding_format={**string, "enum": ["float", "base64"]}),
        "OpenAiEmbeddings": obj(
            ["object", "data", "model", "usage"], object={"const": "list"}, model=string,
            data={"type": "array", "items": obj(["object", "index", "embedding"], object={"const": "embedding"},
                                                index=integer, embedding=vector)},
            usage=obj(["prompt_tokens", "total_tokens"], prompt_tokens=integer, total_tokens=integer)),
        "OpenAiModels": obj(["object", "data"], object={"const": "list"}, data={"type": "array", "items": obj(
            ["id", "object"], id=string, object={"const": "model"}, created=integer, owned_by=string)}),
        "OpenAiError": obj(["error"], error=obj(
            ["message", "type"], message=string, type=string, param={"type": ["string", "null"]},
            code={"type": ["string", "null"]}))}


def openapi(messages, operations, version):
    answers = reach(messages, [o.response for o in operations])
    used = answers | reach(messages, [o.request for o in operations])
    bodies = {o.request for o in operations for r in o.routes if r.body == "*"}
    used -= {o.request for o in operations} - bodies
    paths = {}
    for o in operations:
        for i, r in enumerate(o.routes):
            path = re.sub(r"\{[\w.]+\}", "{id}", r.path)
            paths.setdefault(path, {})[r.method.lower()] = operation(messages, o, r, i == 0)
    paths.update(by_hand())
    schemas = {short(n): message_schema(m, answers) for n, m in messages.items() if n in used}
    schemas.update(schemas_by_hand())
    header = {"description": "", "schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "kith", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "Search by meaning over the posts and replies of a social app. JSON is the proto3 "
                                "mapping with snake_case names; 64-bit integers over 2^53 are strings."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {
                "MinLsn": {"name": "Kith-Min-LSN", "in": "header", "schema": {"type": "integer", "minimum": 0},
                           "description": "The answer must have seen this journal position: read your own writes. "
                                          "Waits up to 2 s, then 504."},
                "RequestId": {"name": "Kith-Request-Id", "in": "header", "schema": {"type": "string", "maxLength": 64},
                              "description": "Echoed; made when absent."}},
            "headers": {"Kith-LSN": {**header, "description": "The journal position that the answer saw or made."},
                        "Kith-Request-Id": {**header, "description": "Names the request in logs."}},
            "responses": {"Problem": answer("What went wrong.", "application/problem+json", ref("Problem"))},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer",
                                           "description": "A key: kith_<id>_<secret>. Optional on loopback."}}}}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--version", required=True)
    p.add_argument("--routes", required=True)
    p.add_argument("--header", required=True)
    p.add_argument("--openapi", required=True)
    p.add_argument("descriptors")
    a = p.parse_args()
    with open(a.descriptors, "rb") as f:
        messages, operations = read(f.read())
    with open(a.header, "w") as header, open(a.routes, "w") as routes:
        write_c(operations, header, routes)
    with open(a.openapi, "w") as f:
        json.dump(openapi(messages, operations, a.version), f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
