# SPDX-License-Identifier: Apache-2.0
"""What a hostile or broken client writes: values, JSON, forms, queries and headers, by a seed.

JSON is made as text, because much of what must be tried (NaN, a key twice, half a surrogate pair,
100,000 levels) is nothing that a JSON library would write.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

BOUNDARY = "hostile-boundary"
_MARK = "\x01replaced\x01"


@dataclass(frozen=True)
class Named:
    """A hostile text and what it is."""

    what: str
    text: str


def _nested(opening: str, closing: str, depth: int, inside: str = "") -> str:
    return opening * depth + inside + closing * depth


# Texts that go wherever a text may stand: in JSON, in a form, in a query, in a path.
TEXTS = (
    Named("empty text", ""),
    Named("blanks", " \t  "),
    Named("NUL", "a\0b"),
    Named("control characters", "\x07\x1b[2J\r\nX-Injected: yes"),
    Named("right-to-left override", "\u202egpj.exe\u202c"),
    Named("zero-width text", "\u200b\u200d\ufeff"),
    Named("500 combining marks", "e" + "\u0301" * 500),
    Named("outside the basic plane", "𝕏🩻" * 50),
    Named("100,000 letters", "A" * 100_000),
    Named("a path upwards", "../../../../etc/passwd"),
    Named("an absolute path", "/etc/os-release"),
    Named("a Windows path", "..\\..\\windows\\win.ini"),
    Named("a file address", "file:///etc/os-release"),
    Named("an inner address", "http://127.0.0.1:1/"),
    Named("SQL", "' OR 1=1; DROP TABLE inferences; --"),
    Named("a template", "{{7*7}}${7*7}%s%n%x"),
    Named("a text of 5,000 digits", "9" * 5_000),
    Named("a text that is infinite", "1e999"),
    Named("a text that is no number", "NaN"),
    Named("a negative text", "-1"),
    Named("a truth text", "true"),
    Named("JSON in a text", '{"query": ["a"]}'),
    Named("nested JSON in a text", _nested("[", "]", 2_000)),
    Named("numbers with commas", "1,2,inf"),
    Named("many numbers", ",".join(["1"] * 5_000)),
    Named("one long name", "n" * 300),
    Named("a dot", "."),
    Named("two dots", ".."),
)

# Values as JSON text.
VALUES = (
    *(Named(text.what, json.dumps(text.text)) for text in TEXTS),
    Named("null", "null"),
    Named("true", "true"),
    Named("false", "false"),
    Named("zero", "0"),
    Named("minus one", "-1"),
    Named("minus zero", "-0.0"),
    Named("a fraction", "0.5"),
    Named("2^63", str(2**63)),
    Named("2^64", str(2**64)),
    Named("-2^63 - 1", str(-(2**63) - 1)),
    Named("1e308", "1e308"),
    Named("1e999", "1e999"),
    Named("-1e999", "-1e999"),
    Named("NaN", "NaN"),
    Named("Infinity", "Infinity"),
    Named("-Infinity", "-Infinity"),
    Named("an integer of 5,000 digits", "7" * 5_000),
    Named("a negative integer of 5,000 digits", "-" + "7" * 5_000),
    Named("a fraction of 5,000 digits", "0." + "3" * 5_000),
    Named("half a surrogate pair", '"\\ud800"'),
    Named("surrogates in the wrong order", '"\\udfff\\ud800"'),
    Named("an escaped NUL", '"\\u0000"'),
    Named("an empty list", "[]"),
    Named("an empty object", "{}"),
    Named("a list of nulls", "[null, null, null]"),
    Named("a list of lists", "[[], [[]]]"),
    Named("a list of all kinds", '[1, "a", null, true, {}, [], 1.5]'),
    Named("a point of texts", '[["a", "b", "c"]]'),
    Named("a point that is not finite", "[[NaN, Infinity, 1e999]]"),
    Named("a point far away", "[[1e300, -1e300, 1e300]]"),
    Named("points of wrong lengths", "[[1], [1, 2], [1, 2, 3, 4]]"),
    Named("three numbers", "[1, 1, 1]"),
    Named("three infinite numbers", "[Infinity, -Infinity, NaN]"),
    Named("5,000 points", json.dumps([[1.0, 1.0, 1.0]] * 5_000)),
    Named("20,000 texts", json.dumps(["a"] * 20_000)),
    Named("100,000 zeros", json.dumps([0] * 100_000)),
    Named("20,000 keys", json.dumps({str(number): 0 for number in range(20_000)})),
    Named("an object where a text belongs", '{"query": "a"}'),
    Named("names of Python's", '{"__class__": "os", "__init__": {"__globals__": {}}}'),
    Named("a reference to itself", '{"$ref": "#"}'),
    Named("a list 50 deep", _nested("[", "]", 50)),
    Named("a list 200 deep", _nested("[", "]", 200)),
    Named("a list 950 deep", _nested("[", "]", 950)),
    Named("a list 100,000 deep", _nested("[", "]", 100_000)),
    Named("an object 50 deep", _nested('{"a":', "}", 50, "1")),
    Named("an object 200 deep", _nested('{"a":', "}", 200, "1")),
    Named("an object 935 deep", _nested('{"a":', "}", 935, "1")),
    Named("an object 20,000 deep", _nested('{"a":', "}", 20_000, "1")),
)

# Keys that some layer below might take for its own.
KEYS = (
    "image", "model", "session", "session_id", "bundle_path", "dicom_folder", "path", "device",
    "gpus", "logging", "label", "label_tag", "save_label", "result_extension", "result_dtype",
    "result_write_to_file", "result_compress", "inference_id", "reader", "user", "client_id",
    "status", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "run_sync", "max_workers",
    "multi_gpu", "pretrained", "train_ds", "PYTHONPATH", "env", "__class__", "", "a" * 5_000, "\0",
    "..", "\u202e", "segments", "label_info", "params", "samples", "slice", "position", "box",
    "inside", "outside", "foreground", "background", "window", "plane", "seed", "propagate",
)  # fmt: skip


def object_with(values: Mapping[str, Any], key: str, fragment: str) -> str:
    """``values`` as JSON, in which ``key`` has the JSON text ``fragment``."""
    text = json.dumps({**values, key: _MARK}, ensure_ascii=True)
    return text.replace(json.dumps(_MARK), fragment)


class Hostile:
    """Draws hostile things; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> Named:
        """A text that means nothing good."""
        return self.random.choice(TEXTS)

    def value(self) -> Named:
        """A value as JSON text."""
        return self.random.choice(VALUES)

    # JSON

    def json_body(self, valid: Mapping[str, Any]) -> tuple[str, bytes]:
        """What is wrong with it, and a body that differs from a valid one in one thing.

        One in eight is no mutant of the valid one, but any value at all.
        """
        draw = self.random.random()
        if draw < 0.125:
            value = self.value()
            return f"the body is {value.what}", value.text.encode()
        if draw < 0.75:
            what, text = self._other_object(valid)
            return what, text.encode()
        return self._other_bytes(json.dumps(dict(valid)))

    def _other_object(self, valid: Mapping[str, Any]) -> tuple[str, str]:
        value, own = self.value(), [*valid]
        kind = self.random.choice(("replaced", "replaced", "replaced", "added", "twice", "dropped"))
        if kind == "added" or not own:
            key = self.random.choice(KEYS)
            return f"{key[:20]!r} added: {value.what}", object_with(valid, key, value.text)
        key = self.random.choice(own)
        if kind == "replaced":
            return f"{key!r} is {value.what}", object_with(valid, key, value.text)
        if kind == "twice":
            text = json.dumps(dict(valid))
            return f"{key!r} twice: {value.what}", f'{text[:-1]}, "{key}": {value.text}}}'
        return f"{key!r} dropped", json.dumps({k: v for k, v in valid.items() if k != key})

    def _other_bytes(self, text: str) -> tuple[str, bytes]:
        place = self.random.randrange(len(text) + 1)
        before, after = text[:place].encode(), text[place:].encode()
        accented = text.replace(": ", ": \u00e9", 1)
        return self.random.choice(
            (
                ("nothing", b""),
                ("cut short", before),
                ("something behind the end", text.encode() + b"}]"),
                ("a byte order mark", b"\xef\xbb\xbf" + text.encode()),
                ("UTF-16", text.encode("utf-16")),
                ("UTF-32", text.encode("utf-32")),
                ("Latin-1", accented.encode("latin-1")),
                ("bytes that are no UTF-8", before + b"\xff\xfe\xc0\xaf" + after),
                ("an encoded surrogate", before + b"\xed\xa0\x80" + after),
                ("NUL bytes", before + b"\0\0" + after),
                ("single quotes", text.replace('"', "'").encode()),
                ("a comment", b"/* */" + text.encode()),
                ("two objects", text.encode() * 2),
                ("a form", b"params=" + quote(text).encode()),
                ("noise", self.random.randbytes(200)),
            )
        )

    def json_type(self) -> str:
        """A content type, most often the right one."""
        if self.random.random() < 0.85:
            return "application/json"
        return self.random.choice(
            (
                "text/plain", "application/xml", "application/x-www-form-urlencoded",
                "application/json; charset=utf-16", "application/json; charset=no-such",
                "multipart/form-data", "multipart/form-data; boundary=", "", "a/b/c;;;=",
                "application/vnd.api+json", "application/json\t;\tx=" + "y" * 2_000,
            )
        )  # fmt: skip

    # Forms

    def form(self, fields: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> Form:
        """A multipart form that differs from a valid one in one thing.

        Args:
            fields: texts, or mappings that are sent as JSON text, by field.
            files: file name and content by field.
        """
        parts = [*_field_parts(fields), *_file_parts(files)]
        if self.random.random() < 0.6 and fields:
            return self._form_with_field(fields, files)
        break_it: Callable[[list[Part]], Form] = self.random.choice(
            (self._odd_file_name, self._odd_parts, self._odd_framing, self._odd_content)
        )
        return break_it(parts)

    def _form_with_field(
        self, fields: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]
    ) -> Form:
        key = self.random.choice([*fields])
        if isinstance(fields[key], Mapping):
            what, content = self.json_body(fields[key])
        else:
            text = self.text()
            what, content = text.what, text.text.encode()
        others = {name: value for name, value in fields.items() if name != key}
        parts = [*_field_parts(others), Part(f'name="{key}"', content), *_file_parts(files)]
        return Form(f"field {key!r}: {what}", parts)

    def _odd_file_name(self, parts: list[Part]) -> Form:
        name = self.random.choice(
            (
                "../../x.nii.gz", "/etc/cron.d/x", "a\0.nii.gz", "n" * 5_000, "", ".", "..",
                "x.py", "sitecustomize.py", "x.nii.gz.py", "\u202e.nii", "x;y.nii", 'x".nii',
                "x.nii.gz\r\nX-Injected: yes", "\xff\xfe.nii", "con.nii", "x.tar.gz", ".htaccess",
                "-rf.nii.gz", "x%00.nii", "x%2f..%2fy.nii", "name with blanks.nii.gz",
            )
        )  # fmt: skip
        changed = [
            Part(f'name="{part.field}"; filename="{name}"', part.content) if part.is_file else part
            for part in parts
        ]
        return Form(f"file name {name[:30]!r}", changed)

    def _odd_parts(self, parts: list[Part]) -> Form:
        text = self.text().text.encode()
        first = parts[0].field if parts else "params"
        return self.random.choice(
            (
                Form("no parts", []),
                Form("every part twice", [*parts, *parts]),
                Form("parts in reverse", parts[::-1]),
                Form("a part without a name", [*parts, Part("", b"x")]),
                Form("a part with an unknown name", [*parts, Part('name="unknown"', text)]),
                Form("900 parts", [*parts, *(Part(f'name="p{n}"', b"x") for n in range(900))]),
                Form("5,000 parts", [Part(f'name="p{n}"', b"x") for n in range(5_000)]),
                Form("texts where files belong", [Part(f'name="{p.field}"', b"x") for p in parts]),
                Form("files where texts belong", [
                    Part(f'name="{p.field}"; filename="f"', p.content) for p in parts]),
                Form("a name of 100,000 letters", [*parts, Part(f'name="{"n" * 100_000}"', b"x")]),
                Form("another file beside", [*parts, Part(f'name="{first}"; filename="z"', text)]),
            )
        )  # fmt: skip

    def _odd_framing(self, parts: list[Part]) -> Form:
        whole = Form("", parts).body()
        return self.random.choice(
            (
                Form("no last boundary", parts, cut=len(whole) - 8),
                Form("cut short", parts, cut=self.random.randrange(len(whole) + 1)),
                Form("another boundary", parts, content_type="multipart/form-data; boundary=no"),
                Form("no boundary", parts, content_type="multipart/form-data"),
                Form("an empty boundary", parts, content_type='multipart/form-data; boundary=""'),
                Form("a long boundary", parts,
                     content_type="multipart/form-data; boundary=" + "b" * 5_000),
                Form("another type", parts, content_type="application/json"),
                Form("a form of another kind", parts,
                     content_type="application/x-www-form-urlencoded"),
                Form("mixed parts", parts,
                     content_type=f"multipart/mixed; boundary={BOUNDARY}"),
                Form("a strange character set", parts,
                     content_type=f"multipart/form-data; boundary={BOUNDARY}; charset=utf-7"),
            )
        )  # fmt: skip

    def _odd_content(self, parts: list[Part]) -> Form:
        content = self.random.choice(
            (
                b"", b"\0" * 1_000, self.random.randbytes(3_000), b"import os\n", b"PK\x03\x04",
                b"\x1f\x8b\x08" + self.random.randbytes(100), b"DICM", b"\0" * 128 + b"DICM",
                b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 9 9\nencoding: raw\n"
                b"data file: /etc/os-release\n\n",
            )
        )  # fmt: skip
        changed = [
            Part(part.disposition, content, part.headers) if part.is_file else part
            for part in parts
        ]
        return Form(f"a file of {content[:10]!r}", changed)

    # Addresses and headers

    def in_address(self) -> tuple[str, str]:
        """What it is, and a text as it stands in a query or a path, percent-encoded or not."""
        if self.random.random() < 0.6:
            text = self.text()
            return text.what, quote(text.text[:6_000], safe="")
        return self.random.choice(
            (
                ("an encoded NUL", "%00"), ("an encoded surrogate", "%ed%a0%80"),
                ("bytes that are no UTF-8", "%ff%fe"), ("too long UTF-8", "%c0%af"),
                ("a bare percent sign", "%"), ("no hexadecimal digits", "%zz"),
                ("UTF-16 escapes", "%u002e%u002e"), ("encoded dots", "%2e%2e"),
                ("an encoded slash", "%2f"), ("encoded twice", "%252e%252e%252f"),
                ("a backslash", "%5c..%5c"), ("a line break", "%0d%0aX-Injected:%20yes"),
                ("semicolons", "a;b=c;d"), ("plus signs", "+++"), ("many ampersands", "&" * 500),
                ("brackets", "[]{}|^`"), ("a raw byte", "\xff\xe9"), ("a question mark", "?a?b"),
                ("dots and slashes", "..%2f..%2f..%2fetc%2fpasswd"), ("a colon", "a:b@c"),
            )
        )  # fmt: skip

    def query(self, valid: Mapping[str, str]) -> tuple[str, str]:
        """What is wrong with it, and a query that differs from a valid one in one thing."""
        pairs = [(key, quote(value, safe="")) for key, value in valid.items()]
        what, text = self.in_address()
        kind = self.random.choice(("replaced", "replaced", "added", "twice", "dropped", "odd key"))
        if kind == "added" or not pairs:
            key = self.random.choice(KEYS[:30])
            return f"query {key!r} added: {what}", _joined([*pairs, (quote(key, safe=""), text)])
        chosen = self.random.randrange(len(pairs))
        key = pairs[chosen][0]
        others = [pair for number, pair in enumerate(pairs) if number != chosen]
        if kind == "dropped":
            return f"query without {key!r}", _joined(others)
        if kind == "twice":
            return f"query {key!r} twice: {what}", _joined([*pairs, (key, text)])
        if kind == "odd key":
            return f"query key: {what}", _joined([*others, (text, "1")])
        return f"query {key!r}: {what}", _joined([*others, (key, text)])

    def headers(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What is odd, and headers that a server must live with."""
        name, values = self.random.choice(_ODD_HEADERS)
        value = self.random.choice(values)
        return f"header {name}: {value[:30]!r}", ((name, value),)


@dataclass(frozen=True)
class Part:
    """A part of a multipart form."""

    disposition: str
    content: bytes
    headers: str = ""

    @property
    def field(self) -> str:
        """The name of its field."""
        return self.disposition.partition('name="')[2].partition('"')[0]

    @property
    def is_file(self) -> bool:
        """Whether it has the name of a file."""
        return "filename=" in self.disposition

    def encoded(self) -> bytes:
        """As it stands between two boundaries."""
        head = f"Content-Disposition: form-data; {self.disposition}\r\n{self.headers}\r\n"
        return head.encode("utf-8", "replace") + self.content + b"\r\n"


@dataclass(frozen=True)
class Form:
    """A multipart form, and what is wrong with it; ``cut`` keeps only so many bytes."""

    what: str
    parts: Sequence[Part]
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}"
    cut: int | None = None

    def body(self) -> bytes:
        """The form as bytes."""
        pieces = [f"--{BOUNDARY}\r\n".encode() + part.encoded() for part in self.parts]
        return (b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode())[: self.cut]


def valid_form(fields: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> Form:
    """A form with nothing wrong; mappings are sent as JSON text."""
    return Form("valid", [*_field_parts(fields), *_file_parts(files)])


def _field_parts(fields: Mapping[str, Any]) -> list[Part]:
    return [
        Part(f'name="{key}"', _text_of(value).encode("utf-8", "replace"))
        for key, value in fields.items()
    ]


def _file_parts(files: Mapping[str, tuple[str, bytes]]) -> list[Part]:
    return [
        Part(f'name="{key}"; filename="{name}"', content, "Content-Type: image/x\r\n")
        for key, (name, content) in files.items()
    ]


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _joined(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{key}={value}" for key, value in pairs)


_ODD_HEADERS = (
    ("Accept", ("*", "x" * 3_000, "application/dicom; transfer-syntax=*", "\xff", ",,;q=9")),
    ("Accept-Encoding", ("gzip;q=nan", "*;q=1e999", "identity;q=0")),
    ("Authorization", ("Bearer", "Bearer \xff\xfe", "Basic ====", "Basic " + "A" * 4_000,
                       "Basic OjpiOmM6", "Digest x", "Bearer " + "e" * 4_000, "\x80")),
    ("Cookie", ("medreasoner_session=\xff", "=;=;=", "a" * 6_000, "medreasoner_session=" + "." * 99,
                'x="unclosed', "$Version=1")),
    ("Content-Encoding", ("gzip", "br", "no-such")),
    ("Content-Language", ("\xe9",)),
    ("Expect", ("100-continue", "200-maybe")),
    ("If-Modified-Since", ("yesterday", "0", "\xff", "Thu, 99 Foo 99999 99:99:99 GMT")),
    ("If-None-Match", ("*", '"' * 500)),
    ("If-Range", ('"x"', "nonsense")),
    ("Range", ("bytes=0-", "bytes=-1", "bytes=5-2", "bytes=" + "0-0," * 900, "bytes=a-b",
               "lines=1-2", "bytes=99999999999999999999-")),
    ("Referer", ("javascript:alert(1)", "\xff")),
    ("X-Forwarded-For", ("1.2.3.4", "no address", "::1, 127.0.0.1", "9" * 900, "\xff")),
    ("X-Forwarded-Proto", ("https", "gopher", "\xff")),
    ("X-Forwarded-Host", ("evil.example", "\xff")),
    ("X-HTTP-Method-Override", ("DELETE",)),
    ("Upgrade", ("websocket", "h2c")),
    ("User-Agent", ("", "\xff" * 90, "() { :; }; echo")),
)  # fmt: skip
